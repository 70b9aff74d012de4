//! The one instance that lives long: a channel's `listener.run`, supervised.
//!
//! It has a store of its own, so a 25-second poll never delays a reply. When it fails it is started again after a wait
//! that doubles; the cursor is in the store, so nothing is read twice or missed.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::call::{Channel, trap_reason};
use super::loaded::LoadedComponent;
use super::status::Status;
use crate::guest::bindings::exports::sluicegate::channel::listener::ListenerError;
use crate::guest::{Bounds, CallContext, Services};
use crate::limit;
use crate::retry;

/// How a listener came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The channel was told to stop.
    Stopped,
    /// It has nothing more to read: the end of a terminal's input.
    EndOfInput,
    /// It crashed again and again; the channel is paused.
    GivenUp,
    /// The platform refuses it until someone acts; the channel is paused.
    Refused,
}

/// Why one run of the listener came to its end, for the operator.
enum Fall {
    /// It said so itself: a platform that can't be reached comes back.
    Failed(String),
    /// It said so itself: the platform would refuse it again.
    Refused(String),
    /// It trapped, or returned without a word: it would do so again.
    Crashed(String),
}

impl From<ListenerError> for Fall {
    fn from(error: ListenerError) -> Self {
        match error {
            ListenerError::Unavailable(words) => Self::Failed(words),
            ListenerError::Refused(words) => Self::Refused(words),
        }
    }
}

/// Counts the runs of one listener, and how long to wait before the next.
struct Restarts {
    wait: Duration,
    attempt: u32,
    /// Crashes in a row, none of them after a steady run.
    crashes: u32,
}

impl Restarts {
    fn new() -> Self {
        Self {
            wait: limit::LISTENER_RESTART_WAIT_MIN,
            attempt: 0,
            crashes: 0,
        }
    }

    /// Notes the end of a run. Returns whether there should be no other.
    fn note(&mut self, ran: Duration, fall: &Fall) -> bool {
        if ran > limit::LISTENER_STEADY {
            *self = Self {
                attempt: self.attempt,
                ..Self::new()
            };
        }
        self.crashes = match fall {
            Fall::Crashed(_) => self.crashes + 1,
            Fall::Failed(_) | Fall::Refused(_) => 0,
        };
        self.crashes >= limit::LISTENER_CRASHES_MAX
    }

    /// Returns how long to wait before the next run.
    fn wait(&mut self, channel: &str) -> Duration {
        self.attempt = self.attempt.wrapping_add(1);
        let wait = retry::jittered(self.wait, retry::jitter(channel, self.attempt));
        self.wait = (self.wait * 2).min(limit::LISTENER_RESTART_WAIT_MAX);
        wait
    }
}

impl Channel {
    /// Returns whether the component has a listener.
    pub fn listens(&self) -> bool {
        self.component.exports.listener.is_some()
    }

    /// Tells the listener to stop that runs now.
    pub fn stop_listening(&self) {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner).cancel();
    }

    /// Runs the listener until the channel stops, or its input ends; starts it again whenever it fails. A crash loop pauses
    /// the channel, and so does a platform that refuses it. From this call on [`Channel::stop_listening`] ends it.
    ///
    /// # Cancel safety
    /// Dropping the future drops the instance.
    pub fn listen(self: Arc<Self>) -> impl Future<Output = Ended> + Send {
        let stop = self.services.listening.child_token();
        self.listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&stop);
        self.listen_until(stop)
    }

    async fn listen_until(self: Arc<Self>, stop: CancellationToken) -> Ended {
        let mut restarts = Restarts::new();
        loop {
            let started = Instant::now();
            if !self.services.terminal {
                self.report_gap().await;
            }
            let outcome = self.run_once(&stop).await;
            self.services.relay.abandon();
            if !self.services.terminal {
                self.note_seen().await;
            }
            if stop.is_cancelled() {
                return Ended::Stopped;
            }
            let fall = match outcome {
                Ok(()) if self.services.terminal => return Ended::EndOfInput,
                Ok(()) => Fall::Crashed("it returned although it was not told to".to_owned()),
                Err(fall) => fall,
            };
            let gives_up = restarts.note(started.elapsed(), &fall);
            if let Some(ended) = self.follow(fall, gives_up) {
                return ended;
            }
            tokio::select! {
                () = tokio::time::sleep(restarts.wait(self.services.name.as_str())) => {}
                () = stop.cancelled() => return Ended::Stopped,
            }
        }
    }

    /// Shows how a run ended; returns how the listener did, where there is to be no other run.
    fn follow(&self, fall: Fall, gives_up: bool) -> Option<Ended> {
        let presentable = |reason: String| self.services.presentable(&reason);
        let (words, ended) = match fall {
            Fall::Refused(reason) => {
                let words = format!(
                    "the listener is refused: {} (resume the channel when that is mended)",
                    presentable(reason)
                );
                (words, Ended::Refused)
            }
            Fall::Failed(reason) | Fall::Crashed(reason) => {
                self.services.usage.restarts.add(1);
                let reason = presentable(reason);
                if !gives_up {
                    self.set_listener_status(Status::Degraded(format!("the listener stopped: {reason}")));
                    return None;
                }
                let crashes = limit::LISTENER_CRASHES_MAX;
                let words = format!("crash loop: the listener crashed {crashes} times in a row, at last: {reason}");
                (words, Ended::GivenUp)
            }
        };
        self.set_status(Status::Paused(words));
        Some(ended)
    }

    async fn run_once(&self, stop: &CancellationToken) -> Result<(), Fall> {
        let context = CallContext {
            shutdown: stop.clone(),
            listens: true,
            ..CallContext::default()
        };
        let meter = context.meter.clone();
        let (component, services) = (self.component.clone(), self.services.clone());
        let instance = run_instance(component, services, context, self.listener_bounds());
        let guarded = AssertUnwindSafe(instance).catch_unwind();
        // The blocking imports end at the stop; a guest that does not return then is dropped.
        let until = async {
            stop.cancelled().await;
            tokio::time::sleep(limit::LISTENER_STOP_GRACE).await;
        };
        let running = self.component.lane().run(meter, guarded, until);
        let steady = async {
            tokio::time::sleep(limit::LISTENER_STEADY).await;
            self.set_listener_status(Status::Up);
            std::future::pending().await
        };
        let outcome = tokio::select! {
            outcome = running => outcome,
            never = steady => never,
            never = self.keep_noting(), if !self.services.terminal => never,
        };
        match outcome {
            None => Ok(()),
            Some(Ok(Ok(returned))) => returned.map_err(Fall::from),
            Some(Ok(Err(trap))) => {
                self.services.note_trap();
                Err(Fall::Crashed(trap_reason(&trap)))
            }
            Some(Err(_)) => Err(Fall::Crashed("the host failed while serving it".into())),
        }
    }
}

async fn run_instance(
    component: Arc<LoadedComponent>,
    services: Arc<Services>,
    context: CallContext,
    bounds: Bounds,
) -> wasmtime::Result<Result<(), ListenerError>> {
    let Some(indices) = &component.exports.listener else {
        return Ok(Ok(()));
    };
    let mut store = component.store(services, context, bounds);
    let instance = component.pre().instantiate_async(&mut store).await?;
    let guest = indices.load(&mut store, &instance)?;
    guest.call_run(&mut store).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crashes_in_a_row_give_up_and_failures_that_say_why_never_do() {
        let mut restarts = Restarts::new();
        let failed = Fall::Failed("the server is down".to_owned());
        let crashed = Fall::Crashed("it panicked".to_owned());
        for _ in 0..1000 {
            assert!(!restarts.note(Duration::ZERO, &failed));
        }
        for _ in 1..limit::LISTENER_CRASHES_MAX {
            assert!(!restarts.note(Duration::ZERO, &crashed));
        }
        assert!(
            !restarts.note(Duration::ZERO, &failed),
            "a failure that says why begins anew"
        );
        for _ in 1..limit::LISTENER_CRASHES_MAX {
            assert!(!restarts.note(Duration::ZERO, &crashed));
        }
        assert!(restarts.note(Duration::ZERO, &crashed));
    }
}
