//! Signs of life beside a running turn: "typing", and the answer while it grows.
//!
//! None of it can hold a turn up: the signs run in a task of their own, the newest draft wins, and under pressure drafts
//! are the first to go. Only the draft that is on its way when the answer is finished is waited for, shortly, so that
//! the answer can replace it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{Presence, TurnCounters};
use crate::bus::{Bus, Event};
use crate::clock::Clock;
use crate::event::{InboundEvent, OutboundEvent};
use crate::id::ChannelName;
use crate::limit;

/// What all turns share for their signs of life.
pub(super) struct Signs {
    pub(super) presence: Arc<dyn Presence>,
    pub(super) bus: Bus,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) counters: Arc<TurnCounters>,
    pub(super) calls: Calls,
}

/// The calls into channels that run, counted for each: one whose presence hangs takes no place of another's.
#[derive(Default)]
pub(super) struct Calls(Mutex<HashMap<ChannelName, usize>>);

/// A call that runs, until it is dropped.
struct Call<'a> {
    calls: &'a Calls,
    channel: &'a ChannelName,
}

impl Calls {
    /// Begins a call, where fewer run than may.
    fn begin<'a>(&'a self, channel: &'a ChannelName) -> Option<Call<'a>> {
        let mut running = self.lock();
        let count = running.entry(channel.clone()).or_default();
        (*count < limit::DRAFTS_IN_FLIGHT_MAX).then(|| {
            *count += 1;
            Call { calls: self, channel }
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelName, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut running = self.calls.lock();
        if let Some(count) = running.get_mut(self.channel) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.channel);
            }
        }
    }
}

/// The signs of one running turn. They end when this is dropped.
pub(super) struct Showing {
    growing_tx: watch::Sender<String>,
    /// When the growing answer was copied last; none before its beginning, which is shown also where nothing follows it
    /// for a while.
    sampled_at: Mutex<Option<Instant>>,
    /// Shared with the task, which asks it before each draft.
    stage: Arc<Stage>,
    /// Ends with the turn, also with one that is dropped in the middle.
    task: AbortOnDropHandle<()>,
}

/// How far the drafts of a turn are. Under a lock, so that no draft begins once the answer is finished.
#[derive(Default)]
struct Stage(Mutex<StageKind>);

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum StageKind {
    /// Nothing is on its way.
    #[default]
    Quiet,
    /// A draft is.
    Drafting,
    /// The answer is finished: no draft may follow.
    Finished,
}

impl Stage {
    fn lock(&self) -> MutexGuard<'_, StageKind> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves from `from` to `to`. Returns whether it was there.
    fn step(&self, from: StageKind, to: StageKind) -> bool {
        let mut kind = self.lock();
        let is_there = *kind == from;
        if is_there {
            *kind = to;
        }
        is_there
    }
}

/// A draft that was on its way to the channel when the answer was finished.
pub(super) struct LastDraft {
    task: AbortOnDropHandle<()>,
}

impl LastDraft {
    /// Gives it a little time to arrive.
    pub(super) async fn arrived(self) {
        // Its panic, or that it took too long, changes nothing for the turn.
        let _shown = timeout(limit::DRAFT_SETTLE_MAX, self.task).await;
    }
}

impl Showing {
    /// Begins to show that a turn for `event` runs.
    pub(super) fn begin(signs: Arc<Signs>, event: &InboundEvent) -> Self {
        let (growing_tx, growing_rx) = watch::channel(String::new());
        let answer = OutboundEvent::reply(event, 0, String::new());
        let stage = Arc::<Stage>::default();
        let task = AbortOnDropHandle::new(tokio::spawn(signs.show(answer, growing_rx, Arc::clone(&stage))));
        Self {
            growing_tx,
            sampled_at: Mutex::new(None),
            stage,
            task,
        }
    }

    /// Takes all of the answer so far. Cheap: most calls copy nothing.
    pub(super) fn grow(&self, text: &str) {
        let mut sampled_at = self.sampled_at.lock().unwrap_or_else(PoisonError::into_inner);
        if sampled_at.is_none_or(|at| at.elapsed() >= limit::DRAFT_SAMPLE_PERIOD) {
            *sampled_at = Some(Instant::now());
            self.growing_tx.send_replace(text.to_owned());
        }
    }

    /// Ends the signs, without a wait: the answer is finished. Returns the draft that is on its way just then.
    pub(super) fn finish(self) -> Option<LastDraft> {
        let Self { stage, task, .. } = self;
        let before = std::mem::replace(&mut *stage.lock(), StageKind::Finished);
        (before == StageKind::Drafting).then_some(LastDraft { task })
    }
}

impl Signs {
    /// Shows a turn until its end of `growing_rx` closes.
    async fn show(self: Arc<Self>, answer: OutboundEvent, mut growing_rx: watch::Receiver<String>, stage: Arc<Stage>) {
        let mut typing = std::pin::pin!(self.keep_typing(&answer));
        let mut drafts = std::pin::pin!(self.show_drafts(&answer, &mut growing_rx, &stage));
        tokio::select! {
            () = &mut typing => {}
            () = &mut drafts => {}
        }
    }

    /// Never ends by itself.
    async fn keep_typing(&self, answer: &OutboundEvent) {
        sleep(limit::TYPING_DELAY).await;
        loop {
            if let Some(_call) = self.calls.begin(&answer.channel) {
                let typing = self.presence.typing(&answer.channel, &answer.conversation);
                // A channel that is too slow to show it shows nothing.
                let _shown = timeout(limit::PRESENCE_TIMEOUT, typing).await;
            }
            sleep(limit::TYPING_PERIOD).await;
        }
    }

    /// Ends when the answer is finished, after the draft that is on its way then.
    async fn show_drafts(&self, answer: &OutboundEvent, growing_rx: &mut watch::Receiver<String>, stage: &Stage) {
        let mut shown_at = Instant::now();
        loop {
            if growing_rx.changed().await.is_err() {
                return;
            }
            // The newest text at the end of the period is shown, and none when the answer is finished before.
            let finished = async { while growing_rx.changed().await.is_ok() {} };
            tokio::select! {
                biased;
                () = finished => return,
                () = tokio::time::sleep_until(shown_at + limit::DRAFT_PERIOD) => {}
            }
            let text = growing_rx.borrow_and_update().clone();
            if !stage.step(StageKind::Quiet, StageKind::Drafting) {
                return;
            }
            self.show_draft(OutboundEvent { text, ..answer.clone() }).await;
            if !stage.step(StageKind::Drafting, StageKind::Quiet) {
                return;
            }
            shown_at = Instant::now();
        }
    }

    async fn show_draft(&self, growing: OutboundEvent) {
        if growing.text.trim().is_empty() {
            return;
        }
        let at_ms = self.clock.now_ms();
        self.bus.publish(|| Event::Draft {
            letter: (&growing).into(),
            text: growing.text.clone(),
            at_ms,
        });
        let channel = growing.channel.clone();
        let Some(_call) = self.calls.begin(&channel) else {
            count(&self.counters.drafts_dropped);
            return;
        };
        count(&self.counters.drafts_shown);
        let _shown = timeout(limit::PRESENCE_TIMEOUT, self.presence.draft(growing)).await;
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
