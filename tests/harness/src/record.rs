//! What happened, in order, with a bell that rings at each addition.

use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::PATIENCE;

/// Entries that a failure shows, counted from the end.
const SHOWN: usize = 30;

/// An append-only list that can be waited on.
#[derive(Debug)]
pub struct Record<T> {
    entries: Mutex<Vec<T>>,
    added: watch::Sender<usize>,
}

impl<T> Default for Record<T> {
    fn default() -> Self {
        Self {
            entries: Mutex::new(Vec::new()),
            added: watch::Sender::new(0),
        }
    }
}

impl<T: Clone + Debug> Record<T> {
    /// Adds an entry and wakes everyone who waits.
    pub fn push(&self, entry: T) {
        self.lock().push(entry);
        self.added.send_modify(|count| *count += 1);
    }

    /// Returns all entries, oldest first.
    pub fn all(&self) -> Vec<T> {
        self.lock().clone()
    }

    /// Returns what `look` finds in the entries, without a copy of them: they may be many.
    pub fn read<R>(&self, look: impl FnOnce(&[T]) -> R) -> R {
        look(&self.lock())
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Returns whether nothing happened yet.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Waits until `look` finds something in the entries, and returns it.
    ///
    /// # Panics
    /// When [`PATIENCE`] ends first; the failure shows `what` was expected and the newest entries.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn wait_for<R>(&self, what: &str, look: impl Fn(&[T]) -> Option<R>) -> R {
        let found = self.wait_within(PATIENCE, look).await;
        found.unwrap_or_else(|| panic!("expected within {PATIENCE:?}: {what}\nseen:\n{}", self.shown()))
    }

    /// Waits until there are `count` entries, and returns all.
    ///
    /// # Panics
    /// As [`Record::wait_for`].
    pub async fn wait_for_len(&self, what: &str, count: usize) -> Vec<T> {
        self.wait_for(what, |entries| (entries.len() >= count).then(|| entries.to_vec()))
            .await
    }

    /// Waits until `look` finds something, for at most `patience`.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn wait_within<R>(&self, patience: Duration, look: impl Fn(&[T]) -> Option<R>) -> Option<R> {
        let mut added = self.added.subscribe();
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            if let Some(found) = look(&self.lock()) {
                return Some(found);
            }
            // The sender lives in `self`, so only the deadline ends the wait without a change.
            if tokio::time::timeout_at(deadline, added.changed()).await.is_err() {
                return look(&self.lock());
            }
        }
    }

    /// Returns the newest entries, one a line, for a failure.
    pub fn shown(&self) -> String {
        let entries = self.lock();
        let first = entries.len().saturating_sub(SHOWN);
        let lines = entries[first..].iter().map(|entry| format!("  {entry:?}\n"));
        format!("  ({first} older entries)\n{}", lines.collect::<String>())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        // A test that panicked elsewhere is no reason to hide what happened here.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
