//! What all instances of one channel may use together, so that many small uses do not add up to the whole machine.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::limit;

/// A channel's share of the machine: CPU and memory of all its instances, and what they may hand to the host at once.
#[derive(Debug)]
pub struct Share {
    cpu: Mutex<Earnings>,
    memory_bytes: AtomicUsize,
    large_hostcalls: Arc<Semaphore>,
    folder: Arc<tokio::sync::Mutex<()>>,
}

/// CPU time that may still be used; below zero while the channel is slowed down.
#[derive(Debug)]
struct Earnings {
    left_s: f64,
    counted_at: Instant,
}

impl Default for Share {
    fn default() -> Self {
        let earnings = Earnings {
            left_s: limit::CHANNEL_CPU_BURST.as_secs_f64(),
            counted_at: Instant::now(),
        };
        Self {
            cpu: Mutex::new(earnings),
            memory_bytes: AtomicUsize::new(0),
            large_hostcalls: Arc::new(Semaphore::new(limit::GUEST_LARGE_HOSTCALLS_MAX)),
            folder: Arc::default(),
        }
    }
}

impl Share {
    /// Books CPU time that a guest used. Returns how long that guest must rest, where the channel used up its share.
    pub(crate) fn use_cpu(&self, used: Duration) -> Option<Duration> {
        let mut earnings = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let percent = f64::from(limit::CHANNEL_CPU_PERCENT) / 100.0;
        let earned = now.duration_since(earnings.counted_at).as_secs_f64() * percent;
        // What was not used is kept up to the burst. Debts are kept whole: the guests of a channel tick one after the other,
        // and each must wait for what all before it owe.
        let burst = limit::CHANNEL_CPU_BURST.as_secs_f64();
        earnings.left_s = (earnings.left_s + earned).min(burst) - used.as_secs_f64();
        earnings.counted_at = now;
        (earnings.left_s < 0.0).then(|| Duration::from_secs_f64(-earnings.left_s / percent))
    }

    /// Returns whether the channel has used up its share, so that its next call is a long one from the start.
    pub(crate) fn is_overdrawn(&self) -> bool {
        self.cpu.lock().unwrap_or_else(PoisonError::into_inner).left_s < 0.0
    }

    /// Waits for the turn to write into the granted folder, which ends when the guard is dropped.
    pub(crate) async fn folder_turn(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.folder).lock_owned().await
    }

    /// Takes memory for an instance, within `bytes_max` for all together. Returns whether there was so much.
    pub(crate) fn take_memory(&self, bytes: usize, bytes_max: usize) -> bool {
        let grown = |held: usize| held.checked_add(bytes).filter(|held| *held <= bytes_max);
        self.memory_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown)
            .is_ok()
    }

    /// Gives memory back.
    pub(crate) fn give_memory(&self, bytes: usize) {
        self.memory_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Returns how much an instance may hand to the host in one call, bytes, and what it keeps as long as it lives for that.
    pub(super) fn take_hostcalls(&self) -> (usize, Option<OwnedSemaphorePermit>) {
        match self.large_hostcalls.clone().try_acquire_owned() {
            Ok(permit) => (limit::GUEST_HOSTCALL_BYTES_MAX, Some(permit)),
            Err(_) => (limit::GUEST_HOSTCALL_BYTES_CROWDED_MAX, None),
        }
    }

    /// Returns how much memory the instances hold now, bytes.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_channel_that_never_rests_is_slowed_down_to_its_part_of_a_core() {
        let share = Share::default();
        let (began, mut used) = (Instant::now(), Duration::ZERO);
        while began.elapsed() < Duration::from_secs(100) {
            tokio::time::advance(limit::EPOCH_TICK).await;
            used += limit::EPOCH_TICK;
            if let Some(rest) = share.use_cpu(limit::EPOCH_TICK) {
                tokio::time::advance(rest).await;
            }
        }
        let allowed = limit::CHANNEL_CPU_BURST + began.elapsed() * limit::CHANNEL_CPU_PERCENT / 100;
        assert!(used <= allowed + limit::EPOCH_TICK, "{used:?} of {allowed:?}");
        assert!(used > allowed / 2, "{used:?} of {allowed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn many_guests_wait_for_each_other() {
        let share = Share::default();
        while share.use_cpu(limit::EPOCH_TICK).is_none() {}
        let rests: Vec<_> = (0..50).filter_map(|_| share.use_cpu(limit::EPOCH_TICK)).collect();
        assert!(rests.len() == 50 && rests.is_sorted());
        assert!(rests[49] >= 50 * limit::EPOCH_TICK, "{:?}", rests[49]);
    }

    #[tokio::test(start_paused = true)]
    async fn short_naps_earn_no_more_than_their_time() {
        let share = Share::default();
        let mut rests = 0;
        for _ in 0..1000 {
            tokio::time::advance(4 * limit::EPOCH_TICK).await;
            rests += u32::from(share.use_cpu(9 * limit::EPOCH_TICK).is_some());
        }
        assert!(rests > 900, "{rests}");
    }

    #[test]
    fn memory_is_bounded_over_all_instances_and_comes_back() {
        let share = Share::default();
        assert!(share.take_memory(60, 100) && share.take_memory(40, 100));
        assert!(!share.take_memory(1, 100));
        share.give_memory(40);
        assert!(share.take_memory(1, 100) && !share.take_memory(usize::MAX, 100));
        assert_eq!(share.memory_bytes(), 61);
    }
}
