//! Watches for a clock that is set, and moves what waits along with it.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, Event};
use crate::clock::{Clock as _, SteadyClock, UnixMillis};
use crate::limit;
use crate::store::{self, EventStore};

/// Notes the time, and moves what waits along with a clock that was set back while no gateway ran: a machine without a clock
/// of its own starts with an old time. One that was set forwards meanwhile is taken for time that passed. While a gateway
/// runs, [`follow`] comes before this.
pub(super) async fn note(store: &dyn EventStore, now: UnixMillis) {
    match store.lazy_note_time(now).await {
        Ok(None) => {}
        Ok(Some(jump_ms)) => {
            tracing::warn!(
                jump_ms,
                "the machine's clock was set back while no gateway ran; what waits moves along with it"
            );
        }
        Err(error) => tracing::warn!(%error, "the time could not be noted"),
    }
}

/// Compares the clocks, and notes the time, now and then, until `stop`.
pub(super) async fn watch(store: Arc<dyn EventStore>, bus: Bus, clock: Arc<SteadyClock>, stop: CancellationToken) {
    let mut looks = tokio::time::interval(limit::CLOCK_PERIOD);
    let mut notes = tokio::time::interval(limit::SEEN_PERIOD);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = notes.tick() => {
                note(store.as_ref(), clock.now_ms()).await;
                continue;
            }
            _ = looks.tick() => {}
        }
        let Some(jump_ms) = clock.jump() else { continue };
        tracing::warn!(jump_ms, "the machine's clock was set; what waits moves along with it");
        if let Err(error) = follow(store.as_ref(), &clock, jump_ms).await {
            tracing::warn!(%error, "what waits could not be moved along now");
            continue;
        }
        bus.turns_due().wake();
        bus.deliveries_due().wake();
        bus.publish(|| Event::ClockSet {
            jump_ms,
            at_ms: clock.now_ms(),
        });
    }
}

/// Moves the stored times and the clock, in the order in which what lies between can only make something late: a message
/// that is a moment late is sent, one that has expired for a moment is not.
async fn follow(store: &dyn EventStore, clock: &SteadyClock, jump_ms: i64) -> Result<(), store::Error> {
    if jump_ms > 0 {
        store.shift(jump_ms).await?;
        clock.adopt(jump_ms);
        return Ok(());
    }
    clock.adopt(jump_ms);
    let moved = store.shift(jump_ms).await;
    if moved.is_err() {
        clock.adopt(-jump_ms);
    }
    moved
}
