//! The channels of a gateway that runs: started, paused, added, changed and removed without a hiccup for the others.
//!
//! Architecture invariants: one change at a time, each in a task of its own, so that a caller who goes away leaves no half of
//! one; what has to be compiled for a change is compiled before it has its turn, so that no stranger's component holds up
//! the changes of others; everything that can be refused is refused before anything is touched; and the configuration file
//! changes at the same moment as the channel. What can't start leaves the one before it in its place.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::account::clash_of_line;
use super::components::{Purpose, unusable};
use super::fit::second_terminal;
use super::maker::{Maker, bundled_names};
use super::switchboard::{Line, Switchboard};
use crate::admin::{Done, Refusal};
use crate::agent::{Agent, AgentTable};
use crate::channel::{Ended, LoadedComponent, Status};
use crate::config::{ChannelConfig, Config, EditError, Editor, Fault, FaultKind, Reading, Staged};
use crate::id::ChannelName;
use crate::limit;

/// Why a channel is paused that the operator paused.
const BY_OPERATOR: &str = "by the operator";
/// Why a channel is paused that is about to go.
const BEING_STOPPED: &str = "it is being stopped";

/// A change that was made, and what the operator should know about it.
#[derive(Debug)]
pub(super) struct Altered {
    pub(super) done: Done,
    pub(super) notes: Vec<String>,
}

/// Starts, changes and stops channels.
pub(super) struct Roster {
    pub(super) maker: Maker,
    pub(super) switchboard: Arc<Switchboard>,
    /// The agents that run, by name.
    pub(super) agents: BTreeMap<String, Arc<dyn Agent>>,
    pub(super) table: AgentTable,
    /// The configuration file, whole and with links followed; it need not exist.
    pub(super) file: PathBuf,
    pub(super) public_url: Option<String>,
    pub(super) tasks: TaskTracker,
    /// Hears when a terminal's input ends.
    pub(super) ended: mpsc::Sender<()>,
    /// Set when the gateway goes down: no more changes.
    pub(super) stopping: CancellationToken,
    /// Held while one change is made.
    pub(super) changing: tokio::sync::Mutex<()>,
}

impl Roster {
    /// Starts every channel that is not paused, and looks for changed components from then on.
    pub(super) fn start_all(self: &Arc<Self>) {
        for line in self.switchboard.all() {
            if line.config().paused {
                line.channel.pause(BY_OPERATOR);
                continue;
            }
            let roster = self.clone();
            self.tasks.spawn(async move {
                match roster.begin(&line).await {
                    Ok(()) => roster.go(&line),
                    Err(reason) => line
                        .channel
                        .set_status(Status::Paused(format!("it did not start: {reason}"))),
                }
            });
        }
        self.tasks.spawn(super::watch::watch(self.clone()));
    }

    /// Makes the configuration of one channel what a staged file says, and the channel with it.
    ///
    /// # Errors
    /// Why not; file and channel are then as they were.
    ///
    /// # Cancel safety
    /// A change that began is finished all the same.
    pub(super) async fn apply(self: &Arc<Self>, name: &str, staged: Staged) -> Result<Altered, Refusal> {
        let (roster, name) = (
            self.clone(),
            ChannelName::parse(name).map_err(|why| Refusal::Wrong(why.to_string()))?,
        );
        self.finished(async move {
            let reading = roster.reading(&name, &staged)?;
            // It may take long, and nobody's change is to wait for it. What it made is found again under the same digest.
            let _compiled = roster.compiled(&name, &reading).await?;
            let _turn = roster.turn().await?;
            roster.converge(&name, &reading, staged).await
        })
        .await
    }

    /// Takes a channel out of work, its listener too, at once and also after a restart.
    ///
    /// # Errors
    /// Where there is none of that name, or it can't be paused now.
    pub(super) async fn pause(self: &Arc<Self>, name: &str) -> Result<Altered, Refusal> {
        let (roster, name) = (self.clone(), name.to_owned());
        self.finished(async move {
            let _turn = roster.turn().await?;
            let line = roster.known(&name)?;
            match line.channel.status() {
                Status::Starting => return Err(not_now(&name, "is being started")),
                Status::Ended => return Err(not_now(&name, "has ended")),
                Status::Paused(_) => {}
                Status::Up | Status::Degraded(_) => {
                    line.channel.pause(BY_OPERATOR);
                }
            }
            roster.stop_listening(&line).await;
            Ok(roster.keep_paused(&line, true))
        })
        .await
    }

    /// Puts a paused channel back to work.
    ///
    /// # Errors
    /// Where there is none of that name, or it does not start.
    pub(super) async fn resume(self: &Arc<Self>, name: &str) -> Result<Altered, Refusal> {
        let (roster, name) = (self.clone(), name.to_owned());
        self.finished(async move {
            let _turn = roster.turn().await?;
            let line = roster.known(&name)?;
            if matches!(line.channel.status(), Status::Paused(_)) {
                if !line.has_started() {
                    let begun = roster.begin(&line).await;
                    begun.map_err(|reason| not_now(&name, &format!("did not start: {reason}")))?;
                }
                // One that is about to end, because it was refused or crashed, would be taken for one that runs.
                roster.stop_listening(&line).await;
                roster.go(&line);
            }
            let mut altered = roster.keep_paused(&line, false);
            altered.notes.extend(clash_of_line(&line, &roster.switchboard.all()));
            Ok(altered)
        })
        .await
    }

    /// Makes a change to its end, whoever waits for it.
    async fn finished(
        self: &Arc<Self>,
        change: impl Future<Output = Result<Altered, Refusal>> + Send + 'static,
    ) -> Result<Altered, Refusal> {
        let changed = self.tasks.spawn(change);
        changed
            .await
            .unwrap_or_else(|_| Err(Refusal::NotNow("the change was cut short; look at the log".to_owned())))
    }

    /// Waits until no other change is made; none begins until what is returned is dropped.
    ///
    /// # Errors
    /// When the gateway goes down.
    async fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Refusal> {
        let turn = self.changing.lock().await;
        match self.stopping.is_cancelled() {
            true => Err(Refusal::NotNow("the gateway is going down".to_owned())),
            false => Ok(turn),
        }
    }

    /// Reads a staged configuration, as far as one channel is concerned.
    fn reading(&self, name: &ChannelName, staged: &Staged) -> Result<Reading, Refusal> {
        staged.check().map_err(unwritable)?;
        let text = staged.text().map_err(unwritable)?;
        let reading = Config::parse(&text, Some(&self.file), &bundled_names());
        let faults = reading.faults.iter().filter(|fault| fault.is_of_channel(name.as_str()));
        // Where the file is missing, the component may be kept: that is looked at when it is needed.
        let faults = faults.filter(|fault| fault.kind != FaultKind::MissingComponent);
        let faults: Vec<Fault> = faults.cloned().collect();
        match faults.is_empty() {
            true => Ok(reading),
            false => Err(wrong(&faults)),
        }
    }

    /// Compiles the component that a channel is to have; none where the channel goes, or goes on with the one that it has.
    async fn compiled(&self, name: &ChannelName, reading: &Reading) -> Result<Option<Arc<LoadedComponent>>, Refusal> {
        let Some(wanted) = wanted(name, reading) else {
            return Ok(None);
        };
        let present = self.switchboard.find(name.as_str()).map(|line| line.config());
        if present.is_some_and(|present| present == *wanted || present.differs_in_grants_alone(wanted)) {
            return Ok(None);
        }
        let found = self.maker.components.find(name, wanted, Purpose::Look).await;
        match found {
            Ok(found) => Ok(found.component),
            Err(refused) => Err(wrong(&[unusable(name, refused)])),
        }
    }

    /// Makes a channel what `reading` says, which was read from `staged`.
    async fn converge(
        self: &Arc<Self>,
        name: &ChannelName,
        reading: &Reading,
        staged: Staged,
    ) -> Result<Altered, Refusal> {
        // Another change may have come before this one had its turn.
        staged.check().map_err(unwritable)?;
        let wanted = wanted(name, reading).cloned();
        let change = match (self.switchboard.find(name.as_str()), wanted) {
            (None, None) => self.forget(name, staged),
            (None, Some(wanted)) => self.add(name, wanted, staged).await,
            (Some(line), None) => self.remove(name, &line, staged).await,
            (Some(line), Some(wanted)) => self.change(name, &line, wanted, staged).await,
        };
        if change.is_ok() {
            self.maker.components.tidy(&reading.config);
        }
        change
    }

    /// Drops a channel that only waited for its review.
    fn forget(&self, name: &ChannelName, staged: Staged) -> Result<Altered, Refusal> {
        if !self.switchboard.reviews().contains_key(name) {
            return Err(Refusal::NotFound(format!("channel {:?}", name.as_str())));
        }
        staged.commit().map_err(unwritable)?;
        self.switchboard.set_review(name, None);
        Ok(done(Done::Removed))
    }

    async fn add(
        self: &Arc<Self>,
        name: &ChannelName,
        wanted: ChannelConfig,
        staged: Staged,
    ) -> Result<Altered, Refusal> {
        let (line, notes) = self.make(name, &wanted, None).await?;
        if !wanted.paused {
            let begun = self.begin(&line).await;
            begun.map_err(|reason| Refusal::Wrong(format!("the channel {name} did not start: {reason}")))?;
        }
        if let Err(error) = staged.commit() {
            self.end(&line).await;
            return Err(unwritable(error));
        }
        self.take_up(name, &line)?;
        Ok(Altered {
            done: Done::Added,
            notes,
        })
    }

    async fn remove(&self, name: &ChannelName, line: &Arc<Line>, staged: Staged) -> Result<Altered, Refusal> {
        // From here on nothing fails: the file first, since what is removed from the file alone comes back no more.
        staged.commit().map_err(unwritable)?;
        self.drain(line).await;
        self.end(line).await;
        self.switchboard.remove(name);
        self.switchboard.set_review(name, None);
        self.table.remove(name);
        Ok(done(Done::Removed))
    }

    async fn change(
        self: &Arc<Self>,
        name: &ChannelName,
        line: &Arc<Line>,
        wanted: ChannelConfig,
        staged: Staged,
    ) -> Result<Altered, Refusal> {
        let present = line.config();
        let has_review = self.switchboard.reviews().contains_key(name);
        if wanted == present && !has_review {
            staged.commit().map_err(unwritable)?;
            return Ok(done(Done::Unchanged));
        }
        if present.differs_in_grants_alone(&wanted) && !line.channel.inspection().terminal {
            return self.regrant(name, line, wanted, staged);
        }
        self.replace(name, line, wanted, staged).await
    }

    /// Changes what a channel may do while it runs: the next use of anything hears of it.
    fn regrant(
        &self,
        name: &ChannelName,
        line: &Line,
        wanted: ChannelConfig,
        staged: Staged,
    ) -> Result<Altered, Refusal> {
        let checked = self.maker.check(name, &wanted, line.channel.inspection());
        let ready = checked.map_err(|faults| wrong(&faults))?;
        staged.commit().map_err(unwritable)?;
        line.channel.services().egress.set_grants(ready.egress.grants);
        line.set_config(wanted);
        let done = Done::Granted;
        Ok(Altered {
            done,
            notes: ready.warnings,
        })
    }

    /// Drains and stops a channel and starts another in its place; the old one goes on where the new one does not start.
    async fn replace(
        self: &Arc<Self>,
        name: &ChannelName,
        old: &Arc<Line>,
        wanted: ChannelConfig,
        staged: Staged,
    ) -> Result<Altered, Refusal> {
        let (new, notes) = self.make(name, &wanted, Some(old)).await?;
        let was_working = old.has_started() && !matches!(old.channel.status(), Status::Paused(_));
        let before = old.channel.status();
        self.drain(old).await;
        self.stop_component(old).await;
        let begun = match wanted.paused {
            true => Ok(()),
            false => self.begin(&new).await,
        };
        let outcome = match begun {
            Ok(()) => staged.commit().map_err(unwritable),
            Err(reason) => Err(Refusal::Wrong(format!("the new {name} did not start: {reason}"))),
        };
        if let Err(refusal) = outcome {
            self.end(&new).await;
            self.go_back(old, was_working, before).await;
            return Err(refusal);
        }
        old.channel.services().shutdown.cancel();
        old.channel.services().clients.disconnect_all();
        self.take_up(name, &new)?;
        Ok(Altered {
            done: Done::Replaced,
            notes,
        })
    }

    /// Lets a channel go on that was stopped for another.
    async fn go_back(self: &Arc<Self>, old: &Arc<Line>, was_working: bool, before: Status) {
        if !was_working {
            old.channel.set_status(before);
            return;
        }
        match self.begin(old).await {
            Ok(()) => self.go(old),
            Err(reason) => {
                let words =
                    format!("it was stopped for another that did not start, and does not start again: {reason}");
                old.channel.set_status(Status::Paused(words));
            }
        }
    }

    /// Makes a channel as it is wanted, without touching the one in its place.
    async fn make(
        &self,
        name: &ChannelName,
        wanted: &ChannelConfig,
        old: Option<&Arc<Line>>,
    ) -> Result<(Arc<Line>, Vec<String>), Refusal> {
        if !self.agents.contains_key(&wanted.agent) {
            let agent = &wanted.agent;
            let words = format!("the agent {agent} does not run yet; start the gateway again, or name another");
            return Err(Refusal::NotNow(words));
        }
        let found = self
            .maker
            .components
            .find(name, wanted, Purpose::Run)
            .await
            .map_err(|refused| wrong(&[unusable(name, refused)]))?;
        let Some(component) = found.component else {
            let review = found.review.map(|review| review.words(name)).unwrap_or_default();
            return Err(Refusal::NotNow(format!(
                "the channel {name} waits for a review: {review}"
            )));
        };
        let (line, mut notes) = self
            .maker
            .line(name, wanted, component)
            .map_err(|faults| wrong(&faults))?;
        if line.channel.services().terminal
            && let Some(other) = self.switchboard.of_terminal()
            && old.is_none_or(|old| old.channel.services().name != other)
        {
            return Err(wrong(&[second_terminal(name, &other)]));
        }
        self.switchboard.set_review(name, found.review);
        notes.extend(found.note);
        notes.extend(clash_of_line(&line, &self.switchboard.all()));
        Ok((Arc::new(line), notes))
    }

    /// Puts a channel in its place that was made, and told to start where it is not paused.
    fn take_up(self: &Arc<Self>, name: &ChannelName, line: &Arc<Line>) -> Result<(), Refusal> {
        let config = line.config();
        let agent = self.agents.get(&config.agent);
        let agent = agent.ok_or_else(|| Refusal::NotNow(format!("the agent {} does not run", config.agent)))?;
        self.table.set(name.clone(), agent.clone());
        self.switchboard.add(line.clone());
        if config.paused {
            line.channel.pause(BY_OPERATOR);
        } else {
            self.go(line);
        }
        Ok(())
    }

    /// Tells a component to start.
    async fn begin(&self, line: &Line) -> Result<(), String> {
        let channel = &line.channel;
        if channel.inspection().offers("lifecycle") {
            let public_url = self.public_url.as_ref().zip(line.webhook_path());
            let webhook_url = public_url.map(|(url, path)| format!("{url}{path}"));
            channel.start(webhook_url).await?;
        }
        line.set_started(true);
        Ok(())
    }

    /// Lets a channel work that was told to start.
    fn go(self: &Arc<Self>, line: &Arc<Line>) {
        line.channel.set_status(Status::Up);
        if !line.channel.listens() || line.is_listening() {
            return;
        }
        let (ended, channel) = (self.ended.clone(), line.channel.clone());
        let listening = channel.clone().listen();
        line.set_listener(self.tasks.spawn(async move {
            if listening.await == Ended::EndOfInput {
                channel.set_status(Status::Ended);
                // Full means that another terminal said it first.
                let _ = ended.try_send(());
            }
        }));
    }

    /// Ends the listener of a channel and waits until it is gone: the platform may allow only one.
    async fn stop_listening(&self, line: &Line) {
        line.channel.stop_listening();
        if let Some(task) = line.take_listener() {
            // It ends by itself within the grace of a stopped listener; its death is its supervisor's matter.
            let _ = task.await;
        }
    }

    /// Takes a channel out of work and waits for the calls that run.
    async fn drain(&self, line: &Line) {
        line.channel.pause(BEING_STOPPED);
        self.stop_listening(line).await;
        if !line.channel.rest(limit::CHANNEL_DRAIN_TIMEOUT).await {
            let channel = line.channel.services().name.as_str();
            tracing::warn!(channel, "calls did not end in time; they end with the channel");
        }
    }

    async fn stop_component(&self, line: &Line) {
        if line.channel.inspection().offers("lifecycle") && line.has_started() {
            line.channel.stop().await;
        }
        line.set_started(false);
    }

    /// Stops a channel for good.
    async fn end(&self, line: &Line) {
        self.stop_component(line).await;
        line.channel.services().shutdown.cancel();
        line.channel.services().clients.disconnect_all();
    }

    /// Writes into the configuration that a channel is paused, or no longer. The pause itself does not depend on it.
    fn keep_paused(&self, line: &Line, paused: bool) -> Altered {
        let mut config = line.config();
        config.paused = paused;
        line.set_config(config);
        let name = line.channel.services().name.as_str();
        let written = Editor::edit(&self.file, |editor| editor.set_paused(name, paused));
        let notes = match written {
            Ok(()) => Vec::new(),
            Err(EditError::Unknown(_)) if !paused => Vec::new(),
            Err(EditError::Unknown(_)) => vec!["it is not in the configuration, so a restart lets it go on".to_owned()],
            Err(error) => vec![format!("a restart does not know of it, because {error}")],
        };
        let done = if paused { Done::Paused } else { Done::Resumed };
        Altered { done, notes }
    }

    fn known(&self, name: &str) -> Result<Arc<Line>, Refusal> {
        let unknown = || match self.switchboard.reviews().get(name) {
            Some(_) => not_now(name, "waits for its review"),
            None => Refusal::NotFound(format!("channel {name:?}")),
        };
        self.switchboard.find(name).ok_or_else(unknown)
    }
}

/// Returns the configuration that a reading has for a channel; none where it is to have none.
fn wanted<'a>(name: &ChannelName, reading: &'a Reading) -> Option<&'a ChannelConfig> {
    match reading.config.channels_are_default {
        true => None,
        false => reading.config.channels.get(name),
    }
}

fn done(done: Done) -> Altered {
    let notes = Vec::new();
    Altered { done, notes }
}

fn not_now(channel: &str, why: &str) -> Refusal {
    Refusal::NotNow(format!("the channel {channel} {why}"))
}

fn wrong(faults: &[Fault]) -> Refusal {
    let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
    Refusal::Wrong(texts.join("\n"))
}

fn unwritable(error: EditError) -> Refusal {
    match error {
        EditError::Outdated(_) => Refusal::Outdated(error.to_string()),
        _ => Refusal::NotNow(format!("the gateway can't change its configuration: {error}")),
    }
}
