//! The signed requests that were admitted, remembered for as long as their timestamps would be accepted.

use std::collections::{HashMap, VecDeque};

use ring::digest;

use super::Refusal;
use crate::clock::UnixMillis;
use crate::limit;

/// Tells one signed request from another, however its signature is spelled.
pub(super) type Fingerprint = [u8; 32];

/// The requests that were admitted, until their timestamps expire. Bounded by [`limit::WEBHOOK_SEEN_MAX`].
#[derive(Default)]
pub(super) struct Seen {
    kept: HashMap<Fingerprint, Kept>,
    /// In order of admission: what is dropped first when room is needed.
    order: VecDeque<Fingerprint>,
}

struct Kept {
    until: UnixMillis,
    /// Whether its effect is durable: before that, who sends it again must not hear that it was taken.
    is_taken: bool,
}

impl Seen {
    /// Remembers a request until its timestamp expires.
    ///
    /// # Errors
    /// `Replayed` when it was taken already, `InFlight` while that is not known, `Busy` when there is no room.
    pub(super) fn admit(
        &mut self,
        fingerprint: Fingerprint,
        until: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), Refusal> {
        if let Some(kept) = self.kept.get(&fingerprint) {
            return Err(if kept.is_taken {
                Refusal::Replayed
            } else {
                Refusal::InFlight
            });
        }
        while let Some(oldest) = self.order.front() {
            // An entry without an expiry was forgotten already.
            if self.kept.get(oldest).is_some_and(|kept| kept.until >= now) {
                break;
            }
            self.kept.remove(oldest);
            self.order.pop_front();
        }
        // To forget an entry that is still valid would let its replay in.
        if self.order.len() >= limit::WEBHOOK_SEEN_MAX {
            return Err(Refusal::Busy);
        }
        let kept = Kept { until, is_taken: false };
        self.kept.insert(fingerprint, kept);
        self.order.push_back(fingerprint);
        Ok(())
    }

    /// Notes that the effect of a request is durable.
    pub(super) fn take(&mut self, fingerprint: &Fingerprint) {
        if let Some(kept) = self.kept.get_mut(fingerprint) {
            kept.is_taken = true;
        }
    }

    /// Forgets a request whose effect did not become durable.
    pub(super) fn forget(&mut self, fingerprint: &Fingerprint) {
        self.kept.remove(fingerprint);
        self.order.retain(|kept| kept != fingerprint);
    }
}

/// Makes the fingerprint of a request that was signed with this timestamp.
pub(super) fn fingerprint(timestamp: &[u8], body: &[u8]) -> Fingerprint {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(timestamp);
    context.update(b".");
    context.update(body);
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = 1_700_000_000_000;

    #[test]
    fn the_replay_cache_is_bounded_and_forgets_what_expired() {
        let mut seen = Seen::default();
        for n in 0..limit::WEBHOOK_SEEN_MAX {
            seen.admit(fingerprint(&n.to_le_bytes(), b""), NOW, NOW).unwrap();
        }
        assert_eq!(seen.admit([1; 32], NOW, NOW), Err(Refusal::Busy));
        assert_eq!(seen.admit([1; 32], NOW + 1, NOW + 1), Ok(()));
        assert_eq!((seen.kept.len(), seen.order.len()), (1, 1));
    }
}
