//! The flush: one thread that makes committed transactions durable, and answers who waits for that.
//!
//! The writer commits without a flush of its own, and goes on with the next transaction while this thread syncs the
//! WAL. A sync covers the whole file, so one flush makes every earlier transaction durable, in order: a power cut can
//! take away a suffix of them, never one from the middle. That is SQLite's own reasoning for `synchronous=NORMAL`; what
//! `FULL` adds is the sync after the commit, and that is done here.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::writer::Job;
use crate::store::Error;

/// The number of a committed transaction, from 1 at each opening.
pub(super) type Lsn = u64;

/// What makes the WAL durable. Replaced in tests by one that fails.
pub(super) type Sync = Box<dyn FnMut() -> io::Result<()> + Send>;

/// The longest that a flush waits for company, whatever a flush costs.
const LINGER_MAX: Duration = Duration::from_millis(2);
/// After how many waits in vain one as long as the first is tried again.
const LINGER_TRIED_EVERY: u32 = 16;

/// An answer that must not be given before transaction `need` is durable.
pub(super) struct Withheld {
    pub(super) need: Lsn,
    pub(super) job: Box<dyn Job>,
}

/// What the writer, the flusher and the readers share.
pub(super) struct Durability {
    queue: Mutex<Queue>,
    changed: Condvar,
    flushed: watch::Sender<Lsn>,
    flushed_seq: AtomicI64,
    /// Whether the newest transaction found no room on the disk.
    is_full: AtomicBool,
    /// How large the largest file is that found no room on the disk, bytes; 0 where files find it.
    unroomed: AtomicU64,
    poison: OnceLock<String>,
}

#[derive(Default)]
struct Queue {
    withheld: Vec<Withheld>,
    /// The newest committed transaction, and the first sequence number that it left unused.
    committed: (Lsn, i64),
    /// The newest transaction that somebody waits for.
    wanted: Lsn,
    flushed: Lsn,
    is_closing: bool,
}

impl Durability {
    /// Everything before `next_seq` is durable: it was read from the disk.
    pub(super) fn new(next_seq: i64) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::default(),
            changed: Condvar::new(),
            flushed: watch::Sender::new(0),
            flushed_seq: AtomicI64::new(next_seq),
            is_full: AtomicBool::default(),
            unroomed: AtomicU64::default(),
            poison: OnceLock::new(),
        })
    }

    /// Returns the first sequence number that may not be durable yet.
    pub(super) fn flushed_seq(&self) -> i64 {
        self.flushed_seq.load(Ordering::Acquire)
    }

    /// Returns the newest durable transaction.
    pub(super) fn flushed(&self) -> Lsn {
        *self.flushed.borrow()
    }

    /// Waits until a transaction is durable.
    pub(super) async fn wait_for(&self, lsn: Lsn) -> Result<(), Error> {
        if self.flushed() < lsn {
            let mut flushed = self.flushed.subscribe();
            self.want(lsn);
            let reached = flushed.wait_for(|at| *at >= lsn || self.is_poisoned()).await;
            reached.map_err(|_| self.error())?;
        }
        self.check()
    }

    /// Waits until everything that is committed by now is durable.
    pub(super) async fn flush(&self) -> Result<(), Error> {
        let (committed, _) = self.lock().committed;
        self.wait_for(committed).await
    }

    fn want(&self, lsn: Lsn) {
        let mut queue = self.lock();
        queue.wanted = queue.wanted.max(lsn);
        drop(queue);
        self.changed.notify_all();
    }

    /// Notes that a transaction found no room on the disk. It is said once: what is refused meanwhile would fill a log.
    pub(super) fn note_full(&self) {
        if !self.is_full.swap(true, Ordering::Relaxed) {
            tracing::error!("the disk is full: nothing is stored until there is room");
        }
    }

    /// Notes that a transaction found room.
    pub(super) fn note_room(&self) {
        self.is_full.store(false, Ordering::Relaxed);
    }

    /// Whether the newest transaction found no room on the disk.
    pub(super) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Notes that a file of so many bytes found no room on the disk, and says it once. It is noted apart from
    /// [`Durability::note_full`]: a disk can run out of files, or of room for large ones, while transactions still find room.
    pub(super) fn note_unroomed(&self, bytes: u64) {
        if self.unroomed.fetch_max(bytes.max(1), Ordering::Relaxed) == 0 {
            tracing::error!("the disk has no room for another file: nothing is taken in until it has");
        }
    }

    /// Notes that there is room for a file of so many bytes.
    pub(super) fn note_roomed(&self, bytes: u64) {
        let unroomed = self.unroomed.load(Ordering::Relaxed);
        if bytes.max(1) >= unroomed {
            // Where it is another one by now, a larger file has found no room since.
            let _ = self
                .unroomed
                .compare_exchange(unroomed, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Returns the size of a file that found no room on the disk, bytes, unless it or a larger one would find it by now.
    pub(super) fn unroomed(&self) -> Option<u64> {
        Some(self.unroomed.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Stops the store: every write from now on is refused, with the first reason given.
    pub(super) fn poison(&self, reason: String) {
        tracing::error!(reason, "the store stopped");
        // The first reason is the cause; later ones follow from it.
        let _ = self.poison.set(reason);
        self.flushed.send_modify(|_| {});
        // Taken and given back, so that the flusher is either before its check or in its wait.
        drop(self.lock());
        self.changed.notify_all();
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.poison.get().is_some()
    }

    /// Returns why nothing more is written.
    pub(super) fn error(&self) -> Error {
        Error::Poisoned(
            self.poison
                .get()
                .cloned()
                .unwrap_or_else(|| "the store is closed".to_owned()),
        )
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        if self.is_poisoned() { Err(self.error()) } else { Ok(()) }
    }

    /// Says that a transaction was committed, and which answers wait for its flush (or for an earlier one's).
    /// Returns those that need not wait, or all of them as an error where there will be no more flushes.
    pub(super) fn committed(
        &self,
        lsn: Lsn,
        next_seq: i64,
        withheld: Vec<Withheld>,
    ) -> Result<Vec<Withheld>, Vec<Withheld>> {
        let mut queue = self.lock();
        // Looked at under the lock: the flusher poisons before it takes out what is withheld for the last time.
        if self.is_poisoned() {
            return Err(withheld);
        }
        queue.committed = (lsn, next_seq);
        let (waiting, ready): (Vec<_>, Vec<_>) = withheld.into_iter().partition(|one| one.need > queue.flushed);
        let wanted = waiting.iter().map(|one| one.need).max().unwrap_or(0);
        queue.wanted = queue.wanted.max(wanted);
        queue.withheld.extend(waiting);
        let is_wanted = queue.wanted > queue.flushed;
        drop(queue);
        if is_wanted {
            self.changed.notify_all();
        }
        Ok(ready)
    }

    /// Lets the flusher make everything durable, and end.
    pub(super) fn close(&self) {
        self.lock().is_closing = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is consistent at every point where a panic could leave it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The flusher's loop: returns when the store is closed and everything is durable, or after the first failure.
pub(super) fn run(durability: &Durability, sync: Sync) {
    if catch_unwind(AssertUnwindSafe(|| flush_all(durability, sync))).is_err() {
        durability.poison("the flusher panicked".to_owned());
    }
    let left = std::mem::take(&mut durability.lock().withheld);
    for withheld in left {
        withheld.job.answer(Err(durability.error()));
    }
}

fn flush_all(durability: &Durability, mut sync: Sync) {
    let mut rhythm = Rhythm::default();
    while let Some((target, next_seq)) = next_flush(durability, &mut rhythm) {
        let began = Instant::now();
        if let Err(error) = sync() {
            // The kernel reports a failed write-back once and may drop the pages: trying again would lie.
            durability.poison(format!("the write-ahead log could not be flushed: {error}"));
            return;
        }
        let answered = settle(durability, target, next_seq);
        rhythm.flushed(began.elapsed(), answered.len(), durability.lock().withheld.len());
        for withheld in answered {
            withheld.job.answer(Ok(()));
        }
    }
}

/// Waits until a flush is wanted, and a moment longer for those who are about to join it. None at the end.
fn next_flush(durability: &Durability, rhythm: &mut Rhythm) -> Option<(Lsn, i64)> {
    let mut queue = durability.lock();
    loop {
        if durability.is_poisoned() || (queue.is_closing && queue.committed.0 == queue.flushed) {
            return None;
        }
        let is_wanted = queue.wanted > queue.flushed || queue.is_closing;
        if is_wanted && queue.committed.0 > queue.flushed {
            break;
        }
        queue = durability.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
    if queue.withheld.len() >= rhythm.company || queue.is_closing {
        return Some(queue.committed);
    }
    let lonely = |queue: &mut Queue| queue.withheld.len() < rhythm.company && !queue.is_closing;
    let waited = durability.changed.wait_timeout_while(queue, rhythm.linger(), lonely);
    let (queue, end) = waited.unwrap_or_else(PoisonError::into_inner);
    rhythm.waited(!end.timed_out());
    Some(queue.committed)
}

/// Marks transactions as durable, and takes out who waited for them.
fn settle(durability: &Durability, target: Lsn, next_seq: i64) -> Vec<Withheld> {
    let mut queue = durability.lock();
    queue.flushed = target;
    durability.flushed_seq.store(next_seq, Ordering::Release);
    durability.flushed.send_replace(target);
    let (ready, waiting) = std::mem::take(&mut queue.withheld)
        .into_iter()
        .partition(|one| one.need <= target);
    queue.withheld = waiting;
    ready
}

/// How long a flush waits for company. Clients that were answered by one flush usually come back at once; were the next
/// flush to start with the first of them, the others would wait for two. Where they do not come back, waiting for them
/// only costs, and is soon given up but for a try now and then.
#[derive(Default)]
struct Rhythm {
    /// A running mean of what a flush takes.
    flush: Duration,
    /// How many are expected: those just answered, and those already waiting. One that comes alone waits for nobody.
    company: usize,
    /// How many waits in a row were in vain.
    in_vain: u32,
}

impl Rhythm {
    /// Returns how long the next flush waits: half of what a flush takes, which is what one that comes in the middle of
    /// a flush waits for the next; a sixteenth as long as that was in vain.
    fn linger(&self) -> Duration {
        let whole = (self.flush / 2).min(LINGER_MAX);
        match self.in_vain % LINGER_TRIED_EVERY {
            0 => whole,
            _ => whole / 8,
        }
    }

    fn waited(&mut self, has_come: bool) {
        self.in_vain = if has_come { 0 } else { self.in_vain.wrapping_add(1) };
    }

    fn flushed(&mut self, took: Duration, answered: usize, waiting: usize) {
        self.flush = (self.flush * 7 + took) / 8;
        self.company = answered + waiting;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_flushes_of(took: Duration) -> Rhythm {
        let mut rhythm = Rhythm::default();
        (0..100).for_each(|_| rhythm.flushed(took, 4, 4));
        rhythm
    }

    #[test]
    fn a_flush_waits_for_half_its_time_as_long_as_company_comes() {
        let mut rhythm = after_flushes_of(Duration::from_millis(2));
        rhythm.waited(true);
        let expected = Duration::from_micros(990)..=Duration::from_millis(1);
        assert!(expected.contains(&rhythm.linger()), "it waits {:?}", rhythm.linger());
    }

    #[test]
    fn a_slow_disk_makes_no_flush_wait_longer_than_the_bound() {
        assert_eq!(after_flushes_of(Duration::from_secs(1)).linger(), LINGER_MAX);
    }

    #[test]
    fn a_wait_in_vain_shortens_those_that_follow_until_the_next_try() {
        let mut rhythm = after_flushes_of(Duration::from_secs(1));
        let waits: Vec<_> = (0..=LINGER_TRIED_EVERY)
            .map(|_| {
                rhythm.waited(false);
                rhythm.linger()
            })
            .collect();
        let short = LINGER_MAX / 8;
        let whole = waits.iter().filter(|wait| **wait == LINGER_MAX).count();
        assert_eq!((waits[0], whole), (short, 1), "{waits:?}");
        rhythm.waited(true);
        assert_eq!(rhythm.linger(), LINGER_MAX, "company came again");
    }
}
