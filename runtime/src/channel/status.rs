//! How a channel is, and who hears of it.

use std::sync::PoisonError;

use super::call::Channel;
use crate::bus::Event;

/// How a channel is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It is being started.
    Starting,
    /// It works.
    Up,
    /// Its listener failed and is started again after a while; deliveries go on.
    Degraded(String),
    /// It is stopped until someone acts.
    Paused(String),
    /// It has ended, such as a terminal at the end of its input.
    Ended,
}

impl Status {
    /// Returns it in a word, as the live view, the metrics and the operator name it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Degraded(_) => "degraded",
            Self::Paused(_) => "paused",
            Self::Ended => "ended",
        }
    }

    /// Returns why, where there is a reason.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Degraded(reason) | Self::Paused(reason) => Some(reason),
            Self::Starting | Self::Up | Self::Ended => None,
        }
    }
}

impl Channel {
    /// Returns how it is.
    pub fn status(&self) -> Status {
        self.status.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns whether deliveries may be tried.
    pub fn delivers(&self) -> bool {
        matches!(
            &*self.status.read().unwrap_or_else(PoisonError::into_inner),
            Status::Up | Status::Degraded(_) | Status::Ended
        )
    }

    /// Changes how it is for its listener's sake: one that someone paused stays so.
    pub(super) fn set_listener_status(&self, status: Status) {
        if self.delivers() {
            self.set_status(status);
        }
    }

    /// Pauses it because that was called for: nobody need act.
    pub fn pause(&self, why: &str) {
        self.change_status(Status::Paused(why.to_owned()), true);
    }

    /// Changes how it is, and says so: in the log, and on the bus.
    pub fn set_status(&self, status: Status) {
        self.change_status(status, false);
    }

    fn change_status(&self, status: Status, is_called_for: bool) {
        let mut current = self.status.write().unwrap_or_else(PoisonError::into_inner);
        // A listener that fails meanwhile does not undo what the operator, or refused credentials, called for.
        let is_overruled = matches!((&*current, &status), (Status::Paused(_), Status::Degraded(_)));
        if *current == status || is_overruled {
            return;
        }
        let services = &self.services;
        let channel = services.name.as_str();
        match &status {
            Status::Degraded(reason) => tracing::warn!(channel, reason, "channel degraded"),
            Status::Paused(reason) if is_called_for => tracing::info!(channel, reason, "channel paused"),
            Status::Paused(reason) => tracing::error!(channel, reason, "channel paused"),
            other => tracing::info!(channel, status = other.word(), "channel"),
        }
        services.bus.publish(|| Event::Channel {
            channel: services.name.clone(),
            state: status.word().to_owned(),
            reason: status.reason().map(str::to_owned),
            at_ms: services.clock.now_ms(),
        });
        *current = status;
        drop(current);
        services.bus.deliveries_due().wake();
    }
}
