//! Gaps: times in which nobody listened for longer than the platform keeps what it could not hand over.
//!
//! The host knows until when a channel listened, since that is noted in the store; the component says what its platform
//! keeps (`description.replays-for-s`). Together they tell what may have been missed.

use std::time::Duration;

use super::call::Channel;
use crate::bus::Event;
use crate::clock::{UnixMillis, millis};
use crate::guest::Level;
use crate::limit;

/// Returns from when until when messages may have been missed, where the channel listened until `seen` and again from
/// `now` on.
fn gap(keeps: Duration, seen: UnixMillis, now: UnixMillis) -> Option<(UnixMillis, UnixMillis)> {
    let until = now.saturating_sub(millis(keeps));
    (until.saturating_sub(seen) >= millis(limit::GAP_MIN)).then_some((seen, until))
}

impl Channel {
    /// Tells of the gap, if there is one, between the last time the channel listened and now; notes that it does now.
    pub(super) async fn report_gap(&self) {
        let (services, now) = (&self.services, self.services.clock.now_ms());
        match services.store.last_seen(&services.name).await {
            Ok(Some(seen)) => {
                let keeps = Duration::from_secs(self.inspection().replays_for_s.unwrap_or(0).into());
                if let Some((from_ms, until_ms)) = gap(keeps, seen, now) {
                    self.tell_of_gap(from_ms, until_ms, now);
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(channel = %services.name, %error, "it is not known when it last listened"),
        }
        self.note_seen().await;
    }

    fn tell_of_gap(&self, from_ms: UnixMillis, until_ms: UnixMillis, at_ms: UnixMillis) {
        let services = &self.services;
        services.usage.gaps.add(1);
        let missed_s = (until_ms - from_ms) / 1000;
        services.log(
            Level::Warn,
            &format!("nobody listened for {missed_s} s of which the platform keeps nothing: messages may be missing"),
        );
        services.bus.publish(|| Event::Gap {
            channel: services.name.clone(),
            from_ms,
            until_ms,
            at_ms,
        });
    }

    /// Notes that the channel listens, or listened until now.
    pub(super) async fn note_seen(&self) {
        let services = &self.services;
        let noted = services.store.lazy_seen(&services.name, services.clock.now_ms()).await;
        if let Err(error) = noted {
            tracing::debug!(channel = %services.name, %error, "that it listens could not be noted");
        }
    }

    /// Notes now and then that the channel listens. Never ends.
    pub(super) async fn keep_noting(&self) -> ! {
        let mut notes = tokio::time::interval(limit::SEEN_PERIOD);
        loop {
            notes.tick().await;
            self.note_seen().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_what_the_platform_did_not_keep() {
        let nothing = Duration::ZERO;
        assert_eq!(gap(nothing, 1000, 1999), None, "too short to tell");
        assert_eq!(gap(nothing, 1000, 2000), Some((1000, 2000)));
        let day = Duration::from_secs(86_400);
        assert_eq!(gap(day, 0, 86_400_999), None);
        assert_eq!(gap(day, 0, 90_000_000), Some((0, 3_600_000)));
        assert_eq!(gap(nothing, 5000, 1000), None, "the clock went back");
        assert_eq!(gap(day, UnixMillis::MIN, UnixMillis::MIN), None);
    }
}
