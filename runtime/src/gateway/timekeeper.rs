//! Watches for a clock that is set, and moves what waits along with it.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, Event};
use crate::clock::{Clock as _, SteadyClock};
use crate::limit;
use crate::store::{self, EventStore};

/// Compares the clocks, now and then, until `stop`.
pub(super) async fn watch(store: Arc<dyn EventStore>, bus: Bus, clock: Arc<SteadyClock>, stop: CancellationToken) {
    let mut looks = tokio::time::interval(limit::CLOCK_PERIOD);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
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
