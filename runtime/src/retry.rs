//! How long to wait before something that failed is tried again.
//!
//! The jitter is derived from what is retried, not drawn, so that thousands of messages that failed together come
//! back apart, while the same failure waits the same time in every run of a test.

use std::time::Duration;

use crate::clock::{UnixMillis, millis};
use crate::limit;
use crate::store;

/// How far the jitter moves a wait to either side, as a share of it.
const JITTER_SHARE: f64 = 0.2;

/// Returns a number from -1 (inclusive) to 1 (exclusive), evenly spread over seeds and attempts.
pub fn jitter(seed: &str, attempt: u32) -> f64 {
    // FNV-1a, with the finalisation of MurmurHash3 because the last bytes of FNV-1a hardly reach its upper bits.
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = seed
        .bytes()
        .chain(attempt.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, step);
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    // 32 bits: exact in an f64.
    f64::from((mixed >> 32) as u32) / f64::from(1_u32 << 31) - 1.0
}

/// Returns the wait after the `failures`-th failure (from 1): that entry of the schedule, its last one from there on.
///
/// An empty schedule means no wait.
pub fn planned_wait(schedule: &[Duration], failures: u32) -> Duration {
    let index = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    schedule.get(index).or(schedule.last()).copied().unwrap_or_default()
}

/// Moves a wait by up to 20 % to either side. `jitter` is from -1 to 1.
pub fn jittered(wait: Duration, jitter: f64) -> Duration {
    wait.mul_f64(1.0 + JITTER_SHARE * jitter.clamp(-1.0, 1.0))
}

/// Returns how long a worker that found nothing to do waits before it reads the store again: until `due`, at most
/// [`limit::RECHECK_PERIOD`], and a little when something is due that was not handed out.
pub fn recheck_wait(due: Option<UnixMillis>, now: UnixMillis) -> Duration {
    match due {
        Some(due) if due <= now => limit::RECHECK_PAUSE_MIN,
        Some(due) => Duration::from_millis(due.abs_diff(now)).min(limit::RECHECK_PERIOD),
        None => limit::RECHECK_PERIOD,
    }
}

/// Repeats a write for as long as the store is busy: what has happened must be written, however long it takes.
///
/// # Errors
/// What the store answers, but for [`store::Error::Busy`].
///
/// # Cancel safety
/// As the write's.
pub async fn while_busy<T, F>(mut write: impl FnMut() -> F) -> Result<T, store::Error>
where
    F: Future<Output = Result<T, store::Error>>,
{
    let mut pause = limit::RECHECK_PAUSE_MIN;
    loop {
        match write().await {
            Err(store::Error::Busy) => tokio::time::sleep(pause).await,
            settled => return settled,
        }
        pause = (pause * 2).min(limit::RECHECK_PERIOD);
    }
}

/// Returns how long after `now` something `wait` later is, as a time.
pub fn after(now: UnixMillis, wait: Duration) -> UnixMillis {
    now.saturating_add(millis(wait))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_waits_for_what_is_due_but_never_long_and_never_hot() {
        assert_eq!(recheck_wait(None, 1000), limit::RECHECK_PERIOD);
        assert_eq!(recheck_wait(Some(1300), 1000), Duration::from_millis(300));
        assert_eq!(recheck_wait(Some(i64::MAX), i64::MIN), limit::RECHECK_PERIOD);
        assert_eq!(recheck_wait(Some(1000), 1000), limit::RECHECK_PAUSE_MIN);
        assert_eq!(recheck_wait(Some(i64::MIN), 1000), limit::RECHECK_PAUSE_MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_store_is_asked_until_it_answers() {
        let mut calls = 0;
        let answer = while_busy(|| {
            calls += 1;
            std::future::ready(if calls < 5 { Err(store::Error::Busy) } else { Ok(7) })
        });
        assert!(matches!(answer.await, Ok(7)));
        let refused = while_busy(|| std::future::ready(Err::<(), _>(store::Error::Stale))).await;
        assert!(matches!(refused, Err(store::Error::Stale)));
        assert_eq!(calls, 5);
    }

    #[test]
    fn the_last_wait_of_a_schedule_repeats() {
        let schedule = [Duration::from_secs(2), Duration::from_secs(10)];
        let waits: Vec<u64> = (0..5).map(|n| planned_wait(&schedule, n).as_secs()).collect();
        assert_eq!(waits, [2, 2, 10, 10, 10]);
        assert_eq!(planned_wait(&[], 3), Duration::ZERO);
    }

    #[test]
    fn jitter_stays_within_a_fifth_and_is_spread() {
        let waits: Vec<f64> = (0..1000)
            .map(|n| jittered(Duration::from_secs(100), jitter(&format!("dlv_{n}"), n % 7)).as_secs_f64())
            .collect();
        assert!(waits.iter().all(|wait| (80.0..=120.0).contains(wait)));
        let mean = waits.iter().sum::<f64>() / 1000.0;
        assert!((98.0..102.0).contains(&mean), "mean {mean}");
        for edge in [84.0, 92.0, 108.0, 116.0] {
            let below = waits.iter().filter(|wait| **wait < edge).count();
            let expected = (edge - 80.0) / 40.0 * 1000.0;
            assert!(
                (below as f64 - expected).abs() < 60.0,
                "{below} below {edge}, expected about {expected}"
            );
        }
    }

    #[test]
    fn jitter_differs_between_attempts_of_one_message() {
        assert_ne!(jitter("dlv_1", 1), jitter("dlv_1", 2));
        assert_eq!(jitter("dlv_1", 1), jitter("dlv_1", 1));
    }
}
