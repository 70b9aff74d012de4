//! What one delivery attempt may have left behind on the network, as the host saw it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

/// Notes, where it outlives the process, that something of an attempt is about to leave.
type Mark = Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Why nothing may leave: it could not be noted. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it could not be stored that something is about to be sent: {0}")]
pub struct Unmarked(String);

/// Counts the requests of one attempt that may have changed something at a peer. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct Evidence(Arc<Seen>);

#[derive(Default)]
struct Seen {
    /// May have arrived, without a complete answer.
    unanswered: AtomicU32,
    /// Answered completely, and the guest did not say yet what came of it.
    answered: AtomicU32,
    /// Wanted a place in the gate, and did not get one.
    unplaced: AtomicU32,
    /// None where the end of the process leaves nothing to find out, such as for what a listener sends.
    mark: Option<Mark>,
    /// Set once the mark is made.
    marked: OnceCell<()>,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen")
            .field("unanswered", &self.unanswered)
            .field("answered", &self.answered)
            .field("unplaced", &self.unplaced)
            .field("is_marked", &self.marked.initialized())
            .finish_non_exhaustive()
    }
}

impl Evidence {
    /// Makes the evidence of an attempt that must be marked before anything of it leaves: `mark` is called then, until it
    /// has succeeded once, and what is to leave waits for it.
    pub fn marked_by<F>(mark: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self(Arc::new(Seen {
            mark: Some(Box::new(move || Box::pin(mark()))),
            ..Seen::default()
        }))
    }

    /// Whether bytes of a request that changes something left the host without a complete answer to it.
    pub fn bytes_left(&self) -> bool {
        self.0.unanswered.load(Ordering::Acquire) > 0
    }

    /// Whether a request that changes something left the host at all, answered or not: for a guest that died before it
    /// could say what the answer meant.
    pub fn anything_left(&self) -> bool {
        self.bytes_left() || self.0.answered.load(Ordering::Acquire) > 0
    }

    /// Whether a request was not sent since too many others of its channel were in flight, or still waits for its place
    /// among them: no fault of the platform's.
    pub fn is_unplaced(&self) -> bool {
        self.0.unplaced.load(Ordering::Acquire) > 0
    }

    /// Notes that a request needs a place.
    pub(super) fn note_unplaced(&self) {
        self.0.unplaced.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that it has one.
    pub(super) fn note_placed(&self) {
        self.0.unplaced.fetch_sub(1, Ordering::AcqRel);
    }

    /// Notes that something reached a peer by another way than a request, such as the terminal.
    pub(crate) fn note_handed_over(&self) {
        self.0.answered.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that the guest has said what the answers so far meant, such as that a part was sent.
    pub fn account_for_answers(&self) {
        self.0.answered.store(0, Ordering::Release);
    }

    /// Has the attempt marked, unless it is: from here on something of it may leave.
    ///
    /// # Errors
    /// When that could not be stored: nothing may leave then.
    ///
    /// # Cancel safety
    /// When dropped, the mark may be made all the same, though nothing leaves.
    pub async fn mark(&self) -> Result<(), Unmarked> {
        let Some(mark) = &self.0.mark else { return Ok(()) };
        let marked = self.0.marked.get_or_try_init(mark).await;
        marked.copied().map_err(Unmarked)
    }

    /// Marks the attempt, and notes that a request is about to leave. Stays noted until the answer is complete.
    ///
    /// # Errors
    /// As [`mark`](Self::mark).
    ///
    /// # Cancel safety
    /// As `mark`.
    pub(crate) async fn begin(&self) -> Result<Unanswered, Unmarked> {
        self.mark().await?;
        self.0.unanswered.fetch_add(1, Ordering::AcqRel);
        Ok(Unanswered(self.clone()))
    }
}

/// A request that may have arrived. Dropping it, by a deadline or a trap, keeps it noted: only an answer settles it.
#[derive(Debug)]
#[must_use = "only `settle` says that the request was answered, and `withdraw` that it was never sent"]
pub(crate) struct Unanswered(Evidence);

impl Unanswered {
    /// Whether what becomes of the request decides what becomes of a message: it is marked where it outlives the process.
    pub(crate) fn is_of_attempt(&self) -> bool {
        self.0.0.mark.is_some()
    }

    /// Notes that the request was answered completely.
    pub(crate) fn settle(self) {
        self.0.0.answered.fetch_add(1, Ordering::AcqRel);
        self.0.0.unanswered.fetch_sub(1, Ordering::AcqRel);
    }

    /// Notes that certainly nothing of the request was sent.
    pub(crate) fn withdraw(self) {
        self.0.0.unanswered.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Settles a request, where there is one to settle.
pub(super) fn settle(unanswered: Option<Unanswered>) {
    if let Some(unanswered) = unanswered {
        unanswered.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_an_answer_settles_a_request() {
        let evidence = Evidence::default();
        let shared = evidence.clone();
        let (one, two) = (evidence.begin().await.unwrap(), evidence.begin().await.unwrap());
        one.settle();
        assert!(shared.bytes_left());
        drop(two);
        assert!(shared.bytes_left(), "a dropped request was not answered");
        let settled = Evidence::default();
        settled.begin().await.unwrap().settle();
        assert!(!settled.bytes_left());
        assert!(settled.anything_left(), "an answered request has left all the same");
        settled.account_for_answers();
        settled.begin().await.unwrap().withdraw();
        assert!(!settled.anything_left(), "nothing is unaccounted for");
    }

    #[tokio::test]
    async fn an_attempt_is_marked_once_and_nothing_leaves_before() {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let evidence = Evidence::marked_by(move || {
            let before = counted.fetch_add(1, Ordering::AcqRel);
            std::future::ready(if before == 0 { Err("no".to_owned()) } else { Ok(()) })
        });
        assert_eq!(evidence.begin().await.map(drop), Err(Unmarked("no".to_owned())));
        assert!(!evidence.anything_left());
        for _ in 0..3 {
            evidence.clone().begin().await.unwrap().settle();
        }
        assert_eq!(
            calls.load(Ordering::Acquire),
            2,
            "a failed mark is made again, one that is made is not"
        );
    }
}
