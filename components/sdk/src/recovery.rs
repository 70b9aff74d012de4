//! What a listener does about a call that failed: it waits, asks for less, or stops.

use std::fmt::Display;
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::{ListenerError, clock, warn};

/// What a listener does about a failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Wait this long, milliseconds, and ask again.
    Wait(u64),
    /// Wait a little longer each time, and ask again.
    BackOff,
    /// Ask for less at a time: the answer was too large.
    Smaller,
    /// Stop with these words for the operator; the host starts the listener again, with a longer wait each time.
    GiveUp(String),
    /// Stop with these words until the operator has acted: the platform would refuse again.
    Refused(String),
    /// The channel is being shut down.
    Shutdown,
}

impl Remedy {
    /// Waits as it says, and tells the operator. Returns whether to go on; false at shutdown. Who can't ask for less backs
    /// off.
    ///
    /// # Errors
    /// The words of [`Remedy::GiveUp`] and [`Remedy::Refused`].
    pub fn follow(self, backoff: &mut Backoff, failure: &impl Display) -> Result<bool, ListenerError> {
        let wait_ms = match self {
            Self::GiveUp(words) => return Err(ListenerError::Unavailable(words)),
            Self::Refused(words) => return Err(ListenerError::Refused(words)),
            Self::Shutdown => return Ok(false),
            Self::Wait(wait_ms) => wait_ms,
            Self::BackOff | Self::Smaller => backoff.next(),
        };
        warn!("{failure}; the next try comes in {wait_ms} ms");
        Ok(clock::sleep_ms(wait_ms))
    }
}

/// Waits that double from the first to the longest, each half at random, so that many gateways do not come back as one.
#[derive(Debug, Clone)]
pub struct Backoff {
    first_ms: u64,
    longest_ms: u64,
    next_ms: u64,
}

impl Backoff {
    /// Starts with the first wait; both in milliseconds.
    pub const fn new(first_ms: u64, longest_ms: u64) -> Self {
        Self {
            first_ms,
            longest_ms,
            next_ms: first_ms,
        }
    }

    /// Starts anew: something has worked.
    pub fn reset(&mut self) {
        self.next_ms = self.first_ms;
    }

    /// Returns the next wait, milliseconds.
    #[expect(
        clippy::should_implement_trait,
        reason = "it has no end, and nobody iterates over it"
    )]
    pub fn next(&mut self) -> u64 {
        let wait_ms = self.next_ms;
        self.next_ms = wait_ms.saturating_mul(2).min(self.longest_ms);
        // Each hasher of the standard library starts from the host's randomness.
        wait_ms / 2 + RandomState::new().build_hasher().finish() % (wait_ms / 2 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_start_anew() {
        let mut backoff = Backoff::new(1_000, 5_000);
        for most in [1_000, 2_000, 4_000, 5_000, 5_000] {
            let wait_ms = backoff.next();
            assert!((most / 2..=most).contains(&wait_ms), "{wait_ms} of {most}");
        }
        backoff.reset();
        assert!(backoff.next() <= 1_000);
    }
}
