//! The composition root: makes every stage from a configuration, connects them, runs them and stops them in order.
//!
//! Architecture invariant: this is the only module that knows all stages. Starting is in two steps, so that nothing is
//! half-started: [`Gateway::prepare`] takes the data directory, the port and the components, and reports whatever is
//! wrong; [`Gateway::run`] starts what moves.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::roster::Roster;
use crate::agent::{Agent, AgentTable, AgentWorker, TurnCounters};
use crate::bus::Bus;
use crate::clock::{Clock, SteadyClock};
use crate::config::Config;
use crate::delivery::{DeliveryCounters, DeliveryWorker, Drafts};
use crate::http::{self, Surface};
use crate::limit;
use crate::store::EventStore;

mod account;
mod agents;
mod beacon;
mod components;
mod desk;
mod drain;
mod error;
mod fit;
mod maker;
mod metrics;
mod new_data;
mod prepare;
mod pressure;
mod roster;
mod sending;
mod setup;
mod signals;
mod summary;
mod switchboard;
mod timekeeper;
mod trial;
mod watch;

pub use crate::agent::command::guard;
pub use crate::egress::{Entry, REVEAL};
pub use crate::store::sqlite::{Archive, ArchiveError, CopyPlace};
pub use account::{Configured, clash};
pub use beacon::{Beacon, Presence};
pub use error::{Error, ErrorKind};
pub use fit::{Examined, examine};
pub use maker::bundled_names;
pub use signals::{INTERRUPTED, first as told_to_stop};
pub use summary::Summary;
pub use switchboard::{Line, Switchboard};
pub use trial::{Findings, TrialError, try_out};

/// Whether a person sits before the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `sluicegate`: chats right here.
    Interactive,
    /// `sluicegate run`: works for others.
    Service,
}

/// A gateway that is ready to run: the data directory is locked, the port bound, the components loaded and the
/// configuration found good. Dropping it gives everything back.
pub struct Gateway {
    listener: TcpListener,
    address: SocketAddr,
    store: Arc<dyn EventStore>,
    bus: Bus,
    clock: Arc<dyn Clock>,
    /// The same clock, to be moved along when the machine's is set.
    steady: Arc<SteadyClock>,
    switchboard: Arc<Switchboard>,
    agents: AgentTable,
    made: BTreeMap<String, Arc<dyn Agent>>,
    maker: maker::Maker,
    /// The configuration file, whole; it need not exist.
    file: PathBuf,
    drafts: Drafts,
    token: http::AdminToken,
    public_url: Option<String>,
    grace: Duration,
    summary: Summary,
}

/// Prepares and runs a gateway until it is told to stop or, interactive, its terminal's input ends. Says on standard error what runs.
/// `is_current` tells whether a configuration is still what is written.
///
/// # Errors
/// What kept it from starting, or made it stop; see [`Error::remedy`].
pub async fn run(config: Config, mode: Mode, is_current: impl Fn(&Config) -> bool) -> Result<(), Error> {
    let mut told = pin!(told_to_stop());
    let gateway = tokio::select! {
        prepared = Gateway::prepare(config, is_current) => prepared?,
        () = &mut told => {
            // What was half prepared is dropped, and takes with it what it had made.
            Reason::Told.note();
            return Ok(());
        }
    };
    gateway.summary.print(mode);
    gateway.run(mode, told).await
}

impl Gateway {
    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what it is made of, for a person.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Runs until `stop` ends, something fails for good or, where a person sits before the process, a terminal's input
    /// ends; then finishes what was accepted.
    ///
    /// # Errors
    /// [`Error::File`] where the data directory takes no file; [`Error::StoreFailed`] when the store was poisoned: what is
    /// on the disk is not known, so the process must end.
    pub async fn run(self, mode: Mode, stop: impl Future<Output = ()>) -> Result<(), Error> {
        // Put out when this function ends, in whatever way.
        let _beacon = self.light_beacon()?;
        let shutdown = Shutdown::default();
        let tasks = TaskTracker::new();
        let agent = AgentWorker::new(
            self.store.clone(),
            self.bus.clone(),
            self.clock.clone(),
            self.agents.clone(),
            self.switchboard.clone(),
        );
        let delivery = DeliveryWorker::new(
            self.store.clone(),
            self.bus.clone(),
            self.clock.clone(),
            self.switchboard.clone(),
            self.drafts.clone(),
        );
        let work = Work {
            turns: agent.counters(),
            deliveries: delivery.counters(),
            clients: TaskTracker::new(),
        };
        self.spawn_watches(&tasks, &shutdown);
        let (ended_tx, mut ended_rx) = tokio::sync::mpsc::channel(1);
        let roster = Arc::new(Roster {
            maker: self.maker,
            switchboard: self.switchboard.clone(),
            agents: self.made,
            table: self.agents,
            file: self.file,
            public_url: self.public_url,
            tasks: tasks.clone(),
            ended: ended_tx,
            stopping: shutdown.intake.clone(),
            changing: tokio::sync::Mutex::default(),
        });
        let surface = surface(&roster, self.token, &work, &shutdown);
        let surface = http::serve(self.listener, surface, shutdown.intake.clone(), self.grace);
        let stages = Stages {
            surface: Stage::spawn(&tasks, "http", surface.map(Ok::<(), Infallible>)),
            agent: Stage::spawn(&tasks, "agent", agent.run(shutdown.turns.clone())),
            delivery: Stage::spawn(&tasks, "delivery", delivery.run(shutdown.deliveries.clone())),
        };
        roster.start_all();
        let reason = tokio::select! {
            () = stop => Reason::Told,
            Some(()) = ended_rx.recv(), if mode == Mode::Interactive => Reason::EndOfInput,
            () = fallen(self.store.as_ref()) => Reason::StoreFailed,
        };
        let drain = drain::Drain {
            store: self.store,
            clock: self.clock,
            switchboard: self.switchboard,
            work,
            grace: self.grace,
        };
        drain.run(reason, shutdown, stages).await
    }

    /// Starts what looks after the store and the clock, for as long as something is delivered.
    fn spawn_watches(&self, tasks: &TaskTracker, shutdown: &Shutdown) {
        tasks.spawn(sweep(
            self.store.clone(),
            self.clock.clone(),
            shutdown.deliveries.clone(),
        ));
        tasks.spawn(timekeeper::watch(
            self.store.clone(),
            self.bus.clone(),
            self.steady.clone(),
            shutdown.deliveries.clone(),
        ));
        tasks.spawn(pressure::watch(
            self.store.clone(),
            self.switchboard.clone(),
            self.bus.clone(),
            self.clock.clone(),
            shutdown.deliveries.clone(),
        ));
    }

    fn light_beacon(&self) -> Result<beacon::Lit, Error> {
        let data = &self.summary.data;
        beacon::Lit::light(data, self.address).map_err(|source| Error::File {
            path: data.clone(),
            source,
        })
    }
}

fn surface(roster: &Arc<Roster>, token: http::AdminToken, work: &Work, shutdown: &Shutdown) -> Surface {
    let (store, bus) = (roster.maker.store.clone(), roster.maker.bus.clone());
    let (intake, switchboard) = (shutdown.intake.clone(), roster.switchboard.clone());
    let public = roster.public_url.as_deref().and_then(|url| url::Url::parse(url).ok());
    Surface {
        ingress: roster.switchboard.clone(),
        admin: Arc::new(desk::Desk {
            store: store.clone(),
            roster: roster.clone(),
            bus: bus.clone(),
            clock: roster.maker.clock.clone(),
        }),
        bus: bus.clone(),
        metrics: metrics::printer(metrics::Sources {
            switchboard: roster.switchboard.clone(),
            store: store.clone(),
            turns: work.turns.clone(),
            deliveries: work.deliveries.clone(),
            bus,
        }),
        readiness: Arc::new(move || {
            if intake.is_cancelled() {
                return Err("going down".into());
            }
            if !store.is_sound() {
                return Err("the store failed; the gateway will exit".into());
            }
            if let Some(full) = store.pressure().intake {
                return Err(format!("nothing is taken in: {full}"));
            }
            if switchboard.is_started() {
                Ok(())
            } else {
                Err("channels are being started".into())
            }
        }),
        token,
        public_host: public.and_then(|url| url.host_str().map(Arc::from)),
        shutdown: shutdown.connections.clone(),
        clients: work.clients.clone(),
        tasks: roster.tasks.clone(),
    }
}

/// What the workers do, for the metrics and the drain.
struct Work {
    turns: Arc<TurnCounters>,
    deliveries: Arc<DeliveryCounters>,
    clients: TaskTracker,
}

/// The steps of stopping, in their order.
#[derive(Default)]
struct Shutdown {
    /// No more requests, connections or readiness.
    intake: CancellationToken,
    /// No more turns.
    turns: CancellationToken,
    /// No more deliveries.
    deliveries: CancellationToken,
    /// Clients are sent away: after the deliveries, which may be for them.
    connections: CancellationToken,
}

/// Why the gateway stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// By a signal.
    Told,
    /// A terminal's input ended: everything that was typed is answered first.
    EndOfInput,
    /// The store failed.
    StoreFailed,
}

impl Reason {
    fn note(self) {
        tracing::info!(reason = ?self, "stopping");
    }
}

/// A stage that runs until it is told to stop.
struct Stage {
    name: &'static str,
    task: tokio::task::JoinHandle<Result<(), String>>,
}

impl Stage {
    fn spawn<E: std::fmt::Display>(
        tasks: &TaskTracker,
        name: &'static str,
        work: impl Future<Output = Result<(), E>> + Send + 'static,
    ) -> Self {
        Self {
            name,
            task: tasks.spawn(async move { work.await.map_err(|error| error.to_string()) }),
        }
    }

    /// Waits until the stage has ended, at most so long; then ends it, with everything that it holds.
    async fn finish(mut self, patience: Duration) {
        let outcome = match tokio::time::timeout(patience, &mut self.task).await {
            Ok(outcome) => outcome,
            Err(_) => {
                tracing::warn!(stage = self.name, "not finished in time; the store keeps what is left");
                self.task.abort();
                self.task.await
            }
        };
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(stage = self.name, error, "a stage failed"),
            Err(error) if error.is_cancelled() => {}
            Err(error) => tracing::error!(stage = self.name, %error, "a stage died"),
        }
    }
}

/// The stages that move.
struct Stages {
    surface: Stage,
    agent: Stage,
    delivery: Stage,
}

/// Drops what is past its retention, now and then.
async fn sweep(store: Arc<dyn EventStore>, clock: Arc<dyn Clock>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(limit::SWEEP_PERIOD) => {}
        }
        if let Err(error) = store.sweep(clock.now_ms()).await {
            tracing::warn!(%error, "the store was not swept");
        }
    }
}

/// Waits until the store takes no more writes.
async fn fallen(store: &dyn EventStore) {
    let mut checks = tokio::time::interval(limit::STORE_CHECK_PERIOD);
    while store.is_sound() {
        checks.tick().await;
    }
}
