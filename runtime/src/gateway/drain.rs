//! Stopping in order: no more intake, then no more turns, then no more deliveries, then the clients and the store.
//!
//! What was accepted is finished as far as the grace allows; the rest is in the store and goes on at the next start.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::switchboard::Switchboard;
use super::{Error, Reason, Shutdown, Stage, Stages, Work};
use crate::clock::Clock;
use crate::delivery::Dispatcher as _;
use crate::limit;
use crate::store::{self, EventStore};

/// What stopping needs.
pub(super) struct Drain {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) switchboard: Arc<Switchboard>,
    pub(super) work: Work,
    pub(super) grace: Duration,
}

impl Drain {
    /// Stops everything.
    ///
    /// # Errors
    /// [`Error::Store`] where the store had failed.
    pub(super) async fn run(self, reason: Reason, shutdown: Shutdown, stages: Stages) -> Result<(), Error> {
        reason.note();
        shutdown.intake.cancel();
        for channel in self.switchboard.channels() {
            channel.services().listening.cancel();
        }
        if reason == Reason::StoreFailed {
            return Err(Error::StoreFailed);
        }
        if reason == Reason::EndOfInput {
            // The person has asked and waits for the answer: that may take as long as a turn.
            within(limit::TURN_TIMEOUT, "turns", self.turns_rest()).await;
        }
        let grace = Grace::begins(self.grace);
        shutdown.turns.cancel();
        stages.agent.finish(grace.left()).await;
        self.turns_end().await;
        within(grace.left(), "deliveries", self.deliveries_rest()).await;
        shutdown.deliveries.cancel();
        stages
            .delivery
            .finish(grace.left_at_least(limit::DRAIN_LAST_PATIENCE))
            .await;
        self.stop_channels(&shutdown, stages.surface, &grace).await;
        self.report_what_is_left();
        self.store.close().await.map_err(|_| Error::StoreFailed)
    }

    async fn stop_channels(&self, shutdown: &Shutdown, surface: Stage, grace: &Grace) {
        shutdown.connections.cancel();
        let patience = grace.left_at_least(limit::DRAIN_LAST_PATIENCE);
        // Their components are told that they are gone, and may keep something of it.
        self.work.clients.close();
        within(patience, "clients", self.work.clients.wait()).await;
        let channels = self.switchboard.channels();
        // All at once: a channel that hangs takes nothing from the others' time.
        join_all(channels.iter().map(|channel| async move {
            if channel.inspection().offers("lifecycle") && channel.delivers() {
                within(patience, "a channel", channel.stop()).await;
            }
            channel.services().shutdown.cancel();
        }))
        .await;
        surface.finish(grace.left_at_least(limit::DRAIN_LAST_PATIENCE)).await;
    }

    /// Waits until the turns that were cut short are gone, and with them the programs that they had started.
    async fn turns_end(&self) {
        let gone = self.rest(|| async { Ok(self.work.turns.running() == 0) });
        within(limit::DRAIN_ABORT_PATIENCE, "cut turns", gone).await;
    }

    /// Waits until no turn runs and none is due.
    async fn turns_rest(&self) {
        self.rest(|| async {
            let due = self.store.next_turn_due().await?;
            Ok(self.work.turns.running() == 0 && due.is_none_or(|due| due > self.clock.now_ms()))
        })
        .await;
    }

    /// Waits until no delivery is in flight and none is due.
    async fn deliveries_rest(&self) {
        self.rest(|| async {
            let due = self.store.next_head_due(&self.switchboard.ready()).await?;
            Ok(self.work.deliveries.in_flight() == 0 && due.is_none_or(|due| due > self.clock.now_ms()))
        })
        .await;
    }

    async fn rest<F: Future<Output = Result<bool, store::Error>>>(&self, is_at_rest: impl Fn() -> F) {
        let mut looks = tokio::time::interval(limit::DRAIN_LOOK_PERIOD);
        loop {
            looks.tick().await;
            match is_at_rest().await {
                Ok(false) => {}
                Ok(true) | Err(_) => return,
            }
        }
    }

    fn report_what_is_left(&self) {
        let depth = self.store.depth();
        if depth.inbox + depth.outbox > 0 {
            tracing::warn!(
                unanswered = depth.inbox,
                undelivered = depth.outbox,
                "stopped with work left; it goes on at the next start"
            );
        }
    }
}

/// The time that accepted work has to finish: one for all of it, however many steps stopping has.
struct Grace {
    whole: Duration,
    until: Instant,
}

impl Grace {
    fn begins(whole: Duration) -> Self {
        Self {
            whole,
            until: Instant::now() + whole,
        }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// What is left, but for at least so long, where the operator gave as much.
    fn left_at_least(&self, least: Duration) -> Duration {
        self.left().max(least.min(self.whole))
    }
}

async fn within(patience: Duration, what: &str, work: impl Future<Output = ()>) {
    if tokio::time::timeout(patience, work).await.is_err() {
        tracing::warn!(what, "not finished in time; the store keeps what is left");
    }
}
