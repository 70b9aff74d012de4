//! What one delivery attempt may have left behind on the network, as the host saw it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts the requests of one attempt that may have changed something at a peer. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct Evidence(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// May have arrived, without a complete answer.
    unanswered: AtomicU32,
    /// Answered completely, and the guest did not say yet what came of it.
    answered: AtomicU32,
}

impl Evidence {
    /// Whether bytes of a request that changes something left the host without a complete answer to it.
    pub fn bytes_left(&self) -> bool {
        self.0.unanswered.load(Ordering::Acquire) > 0
    }

    /// Whether a request that changes something left the host at all, answered or not: for a guest that died before it
    /// could say what the answer meant.
    pub fn anything_left(&self) -> bool {
        self.bytes_left() || self.0.answered.load(Ordering::Acquire) > 0
    }

    /// Notes that something reached a peer by another way than a request, such as a client's connection.
    pub fn note_handed_over(&self) {
        self.0.answered.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that the guest has said what the answers so far meant, such as that a part was sent.
    pub fn account_for_answers(&self) {
        self.0.answered.store(0, Ordering::Release);
    }

    /// Notes that a request is about to leave. Stays noted until the answer is complete.
    pub(crate) fn begin(&self) -> Unanswered {
        self.0.unanswered.fetch_add(1, Ordering::AcqRel);
        Unanswered(self.clone())
    }
}

/// A request that may have arrived. Dropping it, by a deadline or a trap, keeps it noted: only an answer settles it.
#[derive(Debug)]
#[must_use = "only `settle` says that the request was answered, and `withdraw` that it was never sent"]
pub(crate) struct Unanswered(Evidence);

impl Unanswered {
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

    #[test]
    fn only_an_answer_settles_a_request() {
        let evidence = Evidence::default();
        let shared = evidence.clone();
        let (one, two) = (evidence.begin(), evidence.begin());
        one.settle();
        assert!(shared.bytes_left());
        drop(two);
        assert!(shared.bytes_left(), "a dropped request was not answered");
        let settled = Evidence::default();
        settled.begin().settle();
        assert!(!settled.bytes_left());
        assert!(settled.anything_left(), "an answered request has left all the same");
        settled.account_for_answers();
        settled.begin().withdraw();
        assert!(!settled.anything_left(), "nothing is unaccounted for");
    }
}
