//! The one instance that lives long: a channel's `listener.run`, supervised.
//!
//! It has a store of its own, so a 25-second poll never delays a reply. When it fails it is started again after a wait
//! that doubles; the cursor is in the store, so nothing is read twice or missed.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::call::{Channel, Status, trap_reason};
use super::guest::CallContext;
use crate::limit;
use crate::retry;

/// How a listener came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The channel was told to stop.
    Stopped,
    /// It has nothing more to read: the end of a terminal's input.
    EndOfInput,
}

impl Channel {
    /// Returns whether the component has a listener.
    pub fn listens(&self) -> bool {
        self.component.exports.listener.is_some()
    }

    /// Runs the listener until the channel stops, or its input ends; starts it again whenever it fails.
    ///
    /// # Cancel safety
    /// Dropping the future drops the instance.
    pub async fn listen(self: Arc<Self>) -> Ended {
        let stop = self.services.listening.clone();
        let mut wait = limit::LISTENER_RESTART_WAIT_MIN;
        let mut attempt = 0_u32;
        loop {
            let started = Instant::now();
            let outcome = self.run_once().await;
            if stop.is_cancelled() {
                return Ended::Stopped;
            }
            let reason = match outcome {
                Ok(()) if self.services.terminal => return Ended::EndOfInput,
                Ok(()) => "it returned although it was not told to".to_owned(),
                Err(reason) => self.services.presentable(&reason),
            };
            self.services.usage.restarts.add(1);
            if started.elapsed() > limit::LISTENER_STEADY {
                wait = limit::LISTENER_RESTART_WAIT_MIN;
            }
            self.set_listener_status(Status::Degraded(format!("the listener stopped: {reason}")));
            attempt = attempt.wrapping_add(1);
            let spread = retry::jitter(self.services.name.as_str(), attempt);
            tokio::select! {
                () = tokio::time::sleep(retry::jittered(wait, spread)) => {}
                () = stop.cancelled() => return Ended::Stopped,
            }
            wait = (wait * 2).min(limit::LISTENER_RESTART_WAIT_MAX);
        }
    }

    async fn run_once(&self) -> Result<(), String> {
        let stop = self.services.listening.clone();
        let context = CallContext {
            shutdown: stop.clone(),
            ..CallContext::default()
        };
        let meter = context.meter.clone();
        let running = AssertUnwindSafe(meter.run(self.run_instance(context))).catch_unwind();
        let steady = async {
            tokio::time::sleep(limit::LISTENER_STEADY).await;
            self.set_listener_status(Status::Up);
            std::future::pending().await
        };
        let outcome = tokio::select! {
            outcome = running => outcome,
            never = steady => never,
            // The blocking imports end at the stop; a guest that does not return then is dropped.
            () = async { stop.cancelled().await; tokio::time::sleep(limit::LISTENER_STOP_GRACE).await } => return Ok(()),
        };
        match outcome {
            Ok(Ok(returned)) => returned,
            Ok(Err(trap)) => {
                self.services.usage.traps.add(1);
                Err(trap_reason(&trap))
            }
            Err(_) => Err("the host failed while serving it".into()),
        }
    }

    async fn run_instance(&self, context: CallContext) -> wasmtime::Result<Result<(), String>> {
        let Some(indices) = &self.component.exports.listener else {
            return Ok(Ok(()));
        };
        let mut store = self
            .component
            .store(self.services.clone(), context, self.listener_bounds());
        let instance = self.component.pre().instantiate_async(&mut store).await?;
        let guest = indices.load(&mut store, &instance)?;
        guest.call_run(&mut store).await
    }
}
