//! The loop that claims due turns and keeps a bounded number of them running.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::presence::{Calls, Signs};
use super::turn::Context;
use super::{AgentTable, Presence, TurnCounters};
use crate::bus::Bus;
use crate::clock::Clock;
use crate::limit;
use crate::retry;
use crate::store::{self, ClaimedTurn, EventStore};

/// Runs the turns of all sessions: see the module.
pub struct AgentWorker {
    context: Arc<Context>,
    /// The running turns; dropping the worker drops them.
    turns: JoinSet<()>,
}

/// Counts a running turn for as long as it exists.
struct Running(Arc<TurnCounters>);

impl Running {
    fn begin(counters: &Arc<TurnCounters>) -> Self {
        counters.running.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counters))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AgentWorker {
    /// Makes a worker; nothing happens before [`AgentWorker::run`].
    pub fn new(
        store: Arc<dyn EventStore>,
        bus: Bus,
        clock: Arc<dyn Clock>,
        agents: AgentTable,
        presence: Arc<dyn Presence>,
    ) -> Self {
        let counters: Arc<TurnCounters> = Arc::default();
        let signs = Arc::new(Signs {
            presence,
            bus: bus.clone(),
            clock: Arc::clone(&clock),
            counters: Arc::clone(&counters),
            calls: Calls::default(),
        });
        let context = Context {
            store,
            bus,
            clock,
            agents,
            signs,
            counters,
        };
        Self {
            context: Arc::new(context),
            turns: JoinSet::new(),
        }
    }

    /// Returns the worker's counters, which outlive it.
    pub fn counters(&self) -> Arc<TurnCounters> {
        Arc::clone(&self.context.counters)
    }

    /// Runs turns until the shutdown, then waits for those that run: bound that by the grace.
    ///
    /// # Errors
    /// [`store::Error::Poisoned`]: the process has to stop. Nothing else ends the worker early.
    ///
    /// # Cancel safety
    /// Dropping the future drops the running turns. Their claims end with the process: they run again after its start.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), store::Error> {
        while !shutdown.is_cancelled() {
            let wait = match self.claim().await {
                Ok(wait) => wait,
                Err(poisoned @ store::Error::Poisoned(_)) => return Err(poisoned),
                Err(failed) => {
                    warn!(error = %failed, "no turns could be claimed");
                    limit::RECHECK_PERIOD
                }
            };
            let context = Arc::clone(&self.context);
            tokio::select! {
                () = shutdown.cancelled() => {}
                Some(finished) = self.turns.join_next() => self.finish(finished),
                () = context.bus.turns_due().woken() => {}
                () = tokio::time::sleep(wait) => {}
            }
            while let Some(finished) = self.turns.try_join_next() {
                self.finish(finished);
            }
        }
        while let Some(finished) = self.turns.join_next().await {
            self.finish(finished);
        }
        Ok(())
    }

    /// Claims what is due as far as there is room. Returns how long to wait for more.
    async fn claim(&mut self) -> Result<Duration, store::Error> {
        loop {
            if self.context.store.pressure().turns.is_some() {
                // Whoever watches the marks wakes this worker when there is room.
                return Ok(limit::RECHECK_PERIOD);
            }
            let now = self.context.clock.now_ms();
            let (max, of_channel) = places(self.turns.len());
            let claimed = self.context.store.claim_turns(max, of_channel, now).await?;
            let has_more = !claimed.turns.is_empty() && claimed.next_due.is_some_and(|due| due <= now);
            claimed.turns.into_iter().for_each(|turn| self.begin(turn));
            if !has_more {
                return Ok(retry::recheck_wait(claimed.next_due, now));
            }
        }
    }

    fn begin(&mut self, claimed: ClaimedTurn) {
        let context = Arc::clone(&self.context);
        let running = Running::begin(&context.counters);
        self.turns.spawn(async move {
            // Dropped last, so that a turn that was cut short counts until all that it held is gone.
            let _running = running;
            context.carry(claimed).await;
        });
    }

    fn finish(&mut self, finished: Result<(), JoinError>) {
        if let Err(failed) = finished {
            // A panic of an agent is caught in its turn, so this is a broken invariant of ours. Its session stays
            // claimed until the process starts again.
            error!(error = %failed, "a turn ended without an outcome");
        }
    }
}

/// Returns how many turns to claim where so many run, and how many of one channel may run then: the fewer are left, the
/// fewer, but always some.
fn places(running: usize) -> (usize, usize) {
    let left = limit::TURNS_RUNNING_MAX.saturating_sub(running);
    let of_channel = left.saturating_mul(2);
    (
        left.max(limit::TURNS_PER_CHANNEL_MIN),
        of_channel.clamp(limit::TURNS_PER_CHANNEL_MIN, limit::TURNS_PER_CHANNEL_MAX),
    )
}
