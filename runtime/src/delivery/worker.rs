//! The loop that claims lane heads and keeps a bounded number of attempts in flight.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::attempt::{Carried, Context};
use super::room::Room;
use super::{DeliveryCounters, Dispatcher, Drafts};
use crate::bus::Bus;
use crate::clock::Clock;
use crate::id::ChannelName;
use crate::limit;
use crate::retry;
use crate::store::{self, Dispatch, EventStore, Standing};

/// How an attempt came back.
struct Finished {
    channel: ChannelName,
    /// As it was when the attempt began.
    standing: Standing,
    carried: Carried,
}

/// Brings committed outbound events to their platforms: see the module.
pub struct DeliveryWorker {
    context: Arc<Context>,
    room: Room,
    /// The attempts in flight; dropping the worker drops them.
    attempts: JoinSet<Finished>,
}

impl DeliveryWorker {
    /// Makes a worker; nothing happens before [`DeliveryWorker::run`].
    pub fn new(
        store: Arc<dyn EventStore>,
        bus: Bus,
        clock: Arc<dyn Clock>,
        dispatcher: Arc<dyn Dispatcher>,
        drafts: Drafts,
    ) -> Self {
        let counters = Arc::default();
        Self {
            context: Arc::new(Context {
                store,
                bus,
                clock,
                dispatcher,
                drafts,
                counters,
            }),
            room: Room::default(),
            attempts: JoinSet::new(),
        }
    }

    /// Returns the worker's counters, which outlive it.
    pub fn counters(&self) -> Arc<DeliveryCounters> {
        Arc::clone(&self.context.counters)
    }

    /// Delivers until the shutdown, then waits for the attempts in flight: bound that by the grace.
    ///
    /// # Errors
    /// [`store::Error::Poisoned`]: the process has to stop. Nothing else ends the worker early.
    ///
    /// # Cancel safety
    /// Dropping the future drops the attempts in flight; the store takes them as attempts without a known outcome.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), store::Error> {
        while !shutdown.is_cancelled() {
            let wait = match self.claim().await {
                Ok(wait) => wait,
                Err(poisoned @ store::Error::Poisoned(_)) => return Err(poisoned),
                Err(failed) => {
                    warn!(error = %failed, "no deliveries could be claimed");
                    limit::RECHECK_PERIOD
                }
            };
            let context = Arc::clone(&self.context);
            tokio::select! {
                () = shutdown.cancelled() => {}
                Some(finished) = self.attempts.join_next() => self.finish(finished),
                () = context.bus.deliveries_due().woken() => {}
                () = tokio::time::sleep(wait) => {}
            }
            while let Some(finished) = self.attempts.try_join_next() {
                self.finish(finished);
            }
        }
        while let Some(finished) = self.attempts.join_next().await {
            self.finish(finished);
        }
        Ok(())
    }

    /// Claims what is due as far as there is room. Returns how long to wait for more.
    async fn claim(&mut self) -> Result<Duration, store::Error> {
        loop {
            let now = self.context.clock.now_ms();
            let (open, held_until) = self.room.open(self.context.dispatcher.ready(), now);
            let retries_from = self.room.retries_from(now);
            let asks = self.room.asks(open, now);
            if asks.is_empty() {
                // Only an attempt that ends makes room: its end is waited for in any case.
                return Ok(retry::recheck_wait(held_until, now));
            }
            let heads = self
                .context
                .store
                .lazy_claim_heads(&asks, limit::DELIVERY_CLAIM_MAX, now)
                .await?;
            let claimed = heads.dispatches.len();
            heads
                .expired
                .into_iter()
                .for_each(|letter| self.context.tell_of_expired(letter));
            heads.dispatches.into_iter().for_each(|head| self.begin(head));
            let next_due = [held_until, retries_from, heads.next_due].into_iter().flatten().min();
            if claimed == 0 || next_due.is_none_or(|due| due > now) {
                return Ok(retry::recheck_wait(next_due, now));
            }
        }
    }

    fn begin(&mut self, head: Dispatch) {
        let context = Arc::clone(&self.context);
        let (channel, standing) = (head.event.channel.clone(), head.standing);
        self.room.enter(&channel, standing);
        context.counters.in_flight.fetch_add(1, Ordering::Relaxed);
        let attempt = async move {
            let carried = context.carry(head).await;
            Finished {
                channel,
                standing,
                carried,
            }
        };
        self.attempts.spawn(attempt);
    }

    fn finish(&mut self, finished: Result<Finished, JoinError>) {
        self.context.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
        match finished {
            Ok(ended) => {
                self.room.leave(&ended.channel, ended.standing);
                if ended.standing == Standing::Tried && ended.carried.comes_again {
                    self.room.charge_retry(&ended.channel, self.context.clock.now_ms());
                }
                if let Some(until) = ended.carried.held_until {
                    self.room.hold(ended.channel, until);
                }
            }
            // The calls into channels catch their panics, so this is a broken invariant of ours. Its lane and its place
            // stay taken until the process starts again.
            Err(failed) => error!(error = %failed, "an attempt ended without an outcome"),
        }
    }
}
