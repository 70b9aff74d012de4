//! Time as the gateway sees it. One trait, so that retry and expiry are tested without waiting.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::limit;

/// Milliseconds since the Unix epoch, UTC.
pub type UnixMillis = i64;

/// A source of wall-clock time.
pub trait Clock: Send + Sync + 'static {
    /// Returns the present time.
    fn now_ms(&self) -> UnixMillis;
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now_ms(&self) -> UnixMillis {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        millis(since_epoch)
    }
}

/// Returns a duration in whole milliseconds, saturating.
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Time since the machine started, suspended time included, which nobody can set.
fn since_start_ms() -> i64 {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let now = rustix::time::clock_gettime(clock);
    now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000)
}

/// Two clocks: the wall's, which can be set, and one that only goes on.
struct Faces {
    wall: fn() -> UnixMillis,
    steady: fn() -> i64,
}

/// The gateway's clock: it goes on like the machine, and follows the wall clock. A clock that somebody set is followed
/// when whoever keeps times has moved them along ([`SteadyClock::adopt`]), so that a jump neither makes everything expire
/// nor stops all retries.
pub struct SteadyClock {
    faces: Faces,
    /// What the steady clock lacks to the wall's.
    ahead: AtomicI64,
}

impl Default for SteadyClock {
    fn default() -> Self {
        Self::of(Faces {
            wall: || SystemClock.now_ms(),
            steady: since_start_ms,
        })
    }
}

impl SteadyClock {
    fn of(faces: Faces) -> Self {
        let ahead = (faces.wall)().saturating_sub((faces.steady)());
        Self {
            faces,
            ahead: AtomicI64::new(ahead),
        }
    }

    /// Compares with the wall clock. Follows a small difference at once; returns a jump, in ms, forward if it is positive.
    pub fn jump(&self) -> Option<i64> {
        let off = (self.faces.wall)().saturating_sub(self.now_ms());
        if off.saturating_abs() < millis(limit::CLOCK_JUMP_MIN) {
            self.ahead.fetch_add(off, Ordering::Relaxed);
            return None;
        }
        Some(off)
    }

    /// Follows a jump.
    pub fn adopt(&self, jump: i64) {
        self.ahead.fetch_add(jump, Ordering::Relaxed);
    }
}

impl Clock for SteadyClock {
    fn now_ms(&self) -> UnixMillis {
        (self.faces.steady)().saturating_add(self.ahead.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static WALL: AtomicI64 = AtomicI64::new(1_000_000);
    static STEADY: AtomicI64 = AtomicI64::new(50);

    #[test]
    fn a_clock_that_is_set_is_followed_when_times_were_moved_along() {
        let clock = SteadyClock::of(Faces {
            wall: || WALL.load(Ordering::Relaxed),
            steady: || STEADY.load(Ordering::Relaxed),
        });
        let pass = |steady, wall| {
            STEADY.fetch_add(steady, Ordering::Relaxed);
            WALL.fetch_add(wall, Ordering::Relaxed);
        };
        assert_eq!(clock.now_ms(), 1_000_000);
        pass(10, 12);
        assert_eq!((clock.now_ms(), clock.jump()), (1_000_010, None));
        assert_eq!(clock.now_ms(), 1_000_012, "a little off is followed at once");
        for day in [86_400_000, -86_400_000] {
            let before = clock.now_ms();
            pass(5, 5 + day);
            assert_eq!(
                (clock.now_ms(), clock.jump()),
                (before + 5, Some(day)),
                "it goes on as before"
            );
            clock.adopt(day);
            assert_eq!((clock.now_ms(), clock.jump()), (before + 5 + day, None));
        }
    }

    #[test]
    fn the_machine_s_own_clocks_agree() {
        let clock = SteadyClock::default();
        assert_eq!(clock.jump(), None);
        assert!(clock.now_ms().abs_diff(SystemClock.now_ms()) < 1000);
    }
}
