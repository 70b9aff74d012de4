//! `clock`: the time, and waiting.

use std::time::Duration;

use crate::guest::Guest;
use crate::guest::bindings::sluicegate::channel::clock::Host;
use crate::limit;

impl Host for Guest {
    async fn now_ms(&mut self) -> wasmtime::Result<u64> {
        let now = self.services.as_ref().map_or(0, |services| services.clock.now_ms());
        Ok(u64::try_from(now).unwrap_or(0))
    }

    async fn sleep_ms(&mut self, duration: u64) -> wasmtime::Result<bool> {
        let duration = Duration::from_millis(duration).min(limit::GUEST_SLEEP_MAX);
        tokio::select! {
            () = self.shutdown.cancelled() => Ok(false),
            () = tokio::time::sleep(duration) => Ok(true),
        }
    }
}
