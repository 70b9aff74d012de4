//! What all instances of one channel may use together, so that many small uses do not add up to the whole machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::allowance::Allowance;
use crate::limit;

/// A channel's share of the machine: CPU and memory of all its instances, and what they may hand to the host at once.
#[derive(Debug)]
pub struct Share {
    cpu: Allowance,
    /// The part of `cpu` that may be used on the threads that serve everyone, where the machine is crowded.
    brief_cpu: Allowance,
    /// The part of `cpu` that long calls may use, where the machine is crowded.
    long_cpu: Allowance,
    crowd: Crowd,
    memory_bytes: AtomicUsize,
    large_hostcalls: Arc<Semaphore>,
    /// A permit for each byte.
    kept_bytes: Arc<Semaphore>,
    /// A permit for each byte of a file that is in the host's hands.
    file_bytes: Arc<Semaphore>,
    written_bytes: Allowance,
    inbound_bytes: Allowance,
    folder: Arc<tokio::sync::Mutex<()>>,
}

/// What of files is in the host's hands, until it is dropped.
#[derive(Debug)]
pub(crate) struct FileRoom(Option<OwnedSemaphorePermit>);

impl FileRoom {
    /// Gives back what is more than these bytes: now it is known how many there are.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.0 {
            drop(permit.split(permit.num_permits().saturating_sub(bytes)));
        }
    }
}

/// The channels of one process together. Cheap to clone: the clones are the same crowd.
#[derive(Debug, Clone)]
pub struct Crowd(Arc<Allowance>);

/// CPU time that a call used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub cpu: Duration,
    /// Whether the call has used more than a brief one does: one that runs among the long ones for what the others of its
    /// channel used is none.
    pub is_long: bool,
}

/// Work that the host did for a guest on other threads than the guest's: its price is fixed, so that no guest pays for a
/// slow disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Errand(Duration);

impl Errand {
    /// A question to the store, or a small write.
    pub(crate) fn call() -> Self {
        Self(limit::STORE_CALL_CPU)
    }

    /// A file of so many bytes.
    pub(crate) fn file(bytes: usize) -> Self {
        let of_bytes = (bytes as u64).saturating_mul(limit::FILE_BYTE_NS);
        Self(limit::FILE_CPU + Duration::from_nanos(of_bytes))
    }
}

impl Crowd {
    /// Makes a crowd for a machine with so many cores.
    pub fn on_cores(cores: usize) -> Self {
        let cores_worth = f64::from(limit::CROWD_CPU_PERCENT) / 100.0 * cores as f64;
        Self(Arc::new(Allowance::new(
            cores_worth,
            limit::CROWD_CPU_BURST.as_secs_f64(),
        )))
    }

    /// Returns whether the channels together use so much that the busy ones among them make others wait.
    fn is_dense(&self) -> bool {
        self.0.spend_and_forget(0.0)
    }
}

impl Share {
    /// Makes the share of one channel of a crowd, which may use so many percent of one core for long.
    pub fn among(crowd: Crowd, cpu_percent: u32) -> Self {
        let part_of =
            |percent: u32| f64::from(percent) * f64::from(cpu_percent) / f64::from(limit::CHANNEL_CPU_PERCENT_DEFAULT);
        let seconds = |percent, burst: Duration| Allowance::new(part_of(percent) / 100.0, burst.as_secs_f64());
        Self {
            cpu: seconds(limit::CHANNEL_CPU_PERCENT_DEFAULT, limit::CHANNEL_CPU_BURST),
            brief_cpu: seconds(limit::CHANNEL_CPU_BRIEF_PERCENT, limit::CHANNEL_CPU_BRIEF_BURST),
            long_cpu: seconds(limit::CHANNEL_CPU_LONG_PERCENT, limit::CHANNEL_CPU_LONG_BURST),
            crowd,
            memory_bytes: AtomicUsize::new(0),
            large_hostcalls: Arc::new(Semaphore::new(limit::GUEST_LARGE_HOSTCALLS_MAX)),
            kept_bytes: Arc::new(Semaphore::new(limit::CHANNEL_KEPT_BYTES_MAX)),
            file_bytes: Arc::new(Semaphore::new(limit::CHANNEL_FILES_BYTES_MAX)),
            inbound_bytes: Allowance::new(
                limit::INBOUND_BYTES_PER_SECOND.into(),
                limit::INBOUND_BYTES_BURST.into(),
            ),
            written_bytes: Allowance::new(
                limit::STATE_WRITE_BYTES_PER_SECOND.into(),
                limit::STATE_WRITE_BYTES_BURST.into(),
            ),
            folder: Arc::default(),
        }
    }

    /// Books CPU time that a guest used. Returns how long that guest must rest, where the channel used up its share.
    pub(crate) fn use_cpu(&self, used: Used) -> Option<Duration> {
        let cpu_s = used.cpu.as_secs_f64();
        self.crowd.0.spend_and_forget(cpu_s);
        self.brief_cpu.spend_and_forget(cpu_s);
        let of_long = if used.is_long { cpu_s } else { 0.0 };
        self.cpu.spend_and_owe(cpu_s).max(self.rest_of_long(of_long))
    }

    /// Books what the host did for a guest. Returns how long that guest must rest, where the channel used up its share.
    pub(super) fn book(&self, errand: Errand) -> Option<Duration> {
        self.use_cpu(Used {
            cpu: errand.0,
            is_long: true,
        })
    }

    /// Books the death of an instance: on the channel's own accounts, because the machine is no busier for it.
    pub(crate) fn book_trap(&self) {
        let cpu_s = limit::TRAP_CPU.as_secs_f64();
        self.brief_cpu.spend_and_forget(cpu_s);
        self.cpu.spend_and_owe(cpu_s);
    }

    /// Returns how long the channel's next call must wait, where it used up its share.
    pub(crate) fn rest(&self) -> Option<Duration> {
        self.cpu.owed().max(self.rest_of_long(0.0))
    }

    /// Books what long calls used, seconds. Returns how long they must rest, where the machine is crowded.
    fn rest_of_long(&self, used_s: f64) -> Option<Duration> {
        let rest = self
            .long_cpu
            .spend(used_s, limit::CHANNEL_CPU_LONG_DEBT_MAX.as_secs_f64());
        rest.filter(|_| self.crowd.is_dense())
    }

    /// Returns whether the channel uses much where others want to work too, so that its next call is a long one from the
    /// start.
    pub(crate) fn is_in_the_way(&self) -> bool {
        let has_long_calls = self.rest_of_long(0.0).is_some();
        has_long_calls || self.brief_cpu.spend_and_forget(0.0) && self.crowd.is_dense()
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

    /// Takes bytes that the host keeps for an instance, until the permit is dropped; none where others have so much already.
    pub(super) fn keep(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        self.kept_bytes.clone().try_acquire_many_owned(bytes).ok()
    }

    /// Books what was written into the channel's state.
    pub(crate) fn book_write(&self, bytes: usize) {
        let bytes = bytes.saturating_add(limit::STATE_WRITE_BYTES_MIN);
        let _rest_of_the_next = self.written_bytes.spend_and_owe(bytes as f64);
    }

    /// Returns how long the next write must wait for those before it, where they were too much.
    pub(super) fn write_owed(&self) -> Option<Duration> {
        self.written_bytes.owed()
    }

    /// Books what messages that come in take. A batch is never parted: what is too much holds the next.
    pub(crate) fn book_inbound(&self, bytes: usize) {
        let _rest_of_the_next = self.inbound_bytes.spend_and_owe(bytes as f64);
    }

    /// Returns how long no message is taken in for what came before, where it was too much.
    pub(super) fn inbound_owed(&self) -> Option<Duration> {
        self.inbound_bytes.owed()
    }

    /// Waits until the host may have so much of files in its hands for the channel. Whoever waits must hold none.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in the queue.
    pub(crate) async fn room_for_file(&self, bytes_max: usize) -> FileRoom {
        let bytes = u32::try_from(bytes_max).unwrap_or(u32::MAX);
        FileRoom(self.file_bytes.clone().acquire_many_owned(bytes).await.ok())
    }

    /// Returns how much memory the instances hold now, bytes.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn among(crowd: &Crowd) -> Share {
        Share::among(crowd.clone(), limit::CHANNEL_CPU_PERCENT_DEFAULT)
    }

    fn alone() -> Share {
        among(&Crowd::on_cores(2))
    }

    fn brief(cpu: Duration) -> Used {
        Used { cpu, is_long: false }
    }

    fn long(cpu: Duration) -> Used {
        Used { cpu, is_long: true }
    }

    /// Uses a part of a core for some seconds, a millisecond at a time.
    async fn work(shares: &[&Share], core_percent: u32) {
        for _ in 0..3000 {
            tokio::time::advance(Duration::from_millis(1)).await;
            for share in shares {
                share.use_cpu(brief(Duration::from_micros(u64::from(core_percent) * 10)));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_channel_is_in_nobodys_way_as_long_as_the_others_rest() {
        let share = alone();
        work(&[&share], limit::CHANNEL_CPU_BRIEF_PERCENT + 5).await;
        assert!(!share.is_in_the_way());
    }

    #[tokio::test(start_paused = true)]
    async fn where_channels_crowd_the_busy_ones_are_in_the_way_and_the_others_are_not() {
        let crowd = Crowd::on_cores(2);
        let busy: Vec<Share> = (0..8).map(|_| among(&crowd)).collect();
        let peaceful = among(&crowd);
        let shares: Vec<&Share> = busy.iter().collect();
        work(&shares, limit::CHANNEL_CPU_BRIEF_PERCENT * 2).await;
        peaceful.use_cpu(brief(Duration::from_millis(1)));
        assert!(busy.iter().all(Share::is_in_the_way));
        assert!(!peaceful.is_in_the_way());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(!busy[0].is_in_the_way(), "it rested for long");
    }

    #[tokio::test(start_paused = true)]
    async fn a_channel_that_never_rests_is_slowed_down_to_its_part_of_a_core() {
        let share = alone();
        let (began, mut used) = (Instant::now(), Duration::ZERO);
        while began.elapsed() < Duration::from_secs(100) {
            tokio::time::advance(limit::EPOCH_TICK).await;
            used += limit::EPOCH_TICK;
            if let Some(rest) = share.use_cpu(brief(limit::EPOCH_TICK)) {
                tokio::time::advance(rest).await;
            }
        }
        let allowed = limit::CHANNEL_CPU_BURST + began.elapsed() * limit::CHANNEL_CPU_PERCENT_DEFAULT / 100;
        assert!(used <= allowed + limit::EPOCH_TICK, "{used:?} of {allowed:?}");
        assert!(used > allowed / 2, "{used:?} of {allowed:?}");
    }

    /// Lets each of these go on for so long, a tick at a time, resting as it is told. Returns what each used.
    async fn go_on(shares: &[Share], time: Duration, used: fn(Duration) -> Used) -> Vec<Duration> {
        let guests = shares.iter().map(async |share| {
            let (until, mut sum) = (Instant::now() + time, Duration::ZERO);
            while Instant::now() < until {
                tokio::time::sleep(limit::EPOCH_TICK).await;
                sum += limit::EPOCH_TICK;
                if let Some(rest) = share.use_cpu(used(limit::EPOCH_TICK)) {
                    tokio::time::sleep(rest).await;
                }
            }
            sum
        });
        futures_util::future::join_all(guests).await
    }

    #[tokio::test(start_paused = true)]
    async fn long_calls_leave_a_crowded_machine_to_the_others() {
        let crowd = Crowd::on_cores(2);
        let channels: Vec<Share> = (0..8).map(|_| among(&crowd)).collect();
        let time = Duration::from_secs(100);
        let used: Duration = go_on(&channels, time, long).await.iter().sum();
        let bursts = 8 * limit::CHANNEL_CPU_LONG_BURST + limit::CROWD_CPU_BURST;
        let allowed = bursts + time * 2 * limit::CROWD_CPU_PERCENT / 100;
        assert!(used < allowed + allowed / 10, "{used:?} of {allowed:?}");
        assert!(
            used > allowed / 2,
            "{used:?} of {allowed:?}: what nobody wants is theirs"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn brief_calls_are_not_held_for_the_long_ones_of_others() {
        let crowd = Crowd::on_cores(2);
        let busy: Vec<Share> = (0..8).map(|_| among(&crowd)).collect();
        go_on(&busy, Duration::from_secs(20), long).await;
        let peaceful = among(&crowd);
        let rests = busy
            .iter()
            .map(|share| share.use_cpu(long(2 * limit::CHANNEL_CPU_LONG_BURST)));
        assert_eq!(rests.flatten().count(), 8, "they are many and busy");
        assert_eq!(peaceful.use_cpu(brief(limit::EPOCH_TICK)), None);
        assert_eq!(peaceful.use_cpu(long(limit::CHANNEL_CPU_LONG_BURST / 2)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_dies_in_a_loop_rests() {
        let share = alone();
        let free = limit::CHANNEL_CPU_BURST.div_duration_f64(limit::TRAP_CPU);
        let deaths = (0..1000).take_while(|_| {
            share.book_trap();
            share.rest().is_none()
        });
        let deaths = deaths.count() as f64;
        assert!(
            (deaths - free).abs() <= 1.0,
            "{deaths} before it rests, {free} expected"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_channel_gets_what_its_operator_gives_it() {
        let time = Duration::from_secs(100);
        let crowd = Crowd::on_cores(64);
        let channels = [10, 20].map(|percent| Share::among(crowd.clone(), percent));
        let used = go_on(&channels, time, brief).await;
        for (used, percent) in used.into_iter().zip([10, 20]) {
            let allowed = limit::CHANNEL_CPU_BURST + time * percent / 100;
            assert!(
                used <= allowed + limit::EPOCH_TICK && used > allowed * 9 / 10,
                "{used:?} of {allowed:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_guests_wait_for_each_other() {
        let share = alone();
        while share.use_cpu(brief(limit::EPOCH_TICK)).is_none() {}
        let rests: Vec<_> = (0..50)
            .filter_map(|_| share.use_cpu(brief(limit::EPOCH_TICK)))
            .collect();
        assert!(rests.len() == 50 && rests.is_sorted());
        assert!(rests[49] >= 50 * limit::EPOCH_TICK, "{:?}", rests[49]);
    }

    #[tokio::test(start_paused = true)]
    async fn short_naps_earn_no_more_than_their_time() {
        let share = alone();
        let mut rests = 0;
        for _ in 0..1000 {
            tokio::time::advance(Duration::from_millis(40)).await;
            rests += u32::from(share.use_cpu(brief(Duration::from_millis(90))).is_some());
        }
        assert!(rests > 900, "{rests}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_files_of_a_channel_wait_for_each_other_and_small_ones_take_little() {
        let share = alone();
        let mut rooms = Vec::new();
        for _ in 0..limit::CHANNEL_FILES_BYTES_MAX / limit::BLOB_BYTES_MAX {
            rooms.push(share.room_for_file(limit::BLOB_BYTES_MAX).await);
        }
        let next = || tokio::time::timeout(Duration::from_secs(1), share.room_for_file(limit::BLOB_BYTES_MAX));
        assert!(next().await.is_err(), "there is no room for another one");
        rooms[0].shrink(0);
        let small = next().await;
        assert!(small.is_ok(), "the first was small");
        assert!(next().await.is_err());
        drop(rooms);
        assert!(next().await.is_ok());
    }

    #[test]
    fn memory_is_bounded_over_all_instances_and_comes_back() {
        let share = alone();
        assert!(share.take_memory(60, 100) && share.take_memory(40, 100));
        assert!(!share.take_memory(1, 100));
        share.give_memory(40);
        assert!(share.take_memory(1, 100) && !share.take_memory(usize::MAX, 100));
        assert_eq!(share.memory_bytes(), 61);
    }
}
