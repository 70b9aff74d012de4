//! What one delivery attempt may have left behind on the network, as the host saw it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts the requests of one attempt that may have arrived without a complete answer. Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct Evidence(Arc<AtomicU32>);

impl Evidence {
    /// Whether bytes of a request that changes something left the host without a complete answer to it.
    pub fn bytes_left(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }

    /// Notes that a request is about to leave. Stays noted until the answer is complete.
    pub(super) fn begin(&self) -> Unanswered {
        self.0.fetch_add(1, Ordering::AcqRel);
        Unanswered(self.clone())
    }
}

/// A request that may have arrived. Dropping it, by a deadline or a trap, keeps it noted: only an answer settles it.
#[derive(Debug)]
#[must_use = "only `settle` says that the request was answered, or was never sent"]
pub(super) struct Unanswered(Evidence);

impl Unanswered {
    /// Notes that the request was answered completely, or that certainly nothing of it was sent.
    pub(super) fn settle(self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
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
    }
}
