//! How much one channel may send and receive in a minute.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::limit;

/// Counts bytes over fixed spans of [`limit::EGRESS_QUOTA_PERIOD`].
#[derive(Debug)]
pub(super) struct Quota {
    bytes_max: u64,
    span: Mutex<Option<(Instant, u64)>>,
}

impl Quota {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            span: Mutex::new(None),
        }
    }

    /// Counts bytes, and says whether the span still had room before them. What is under way may finish.
    pub(super) fn charge(&self, bytes: usize) -> bool {
        let now = Instant::now();
        let mut span = self.span.lock().unwrap_or_else(PoisonError::into_inner);
        let used = match *span {
            Some((start, used)) if now.duration_since(start) < limit::EGRESS_QUOTA_PERIOD => used,
            _ => {
                *span = Some((now, 0));
                0
            }
        };
        if let Some((_, total)) = span.as_mut() {
            *total = used.saturating_add(bytes as u64);
        }
        used < self.bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_span_refuses_until_it_is_over() {
        let quota = Quota::new(10);
        assert!(quota.charge(9) && quota.charge(9));
        assert!(!quota.charge(0));
        tokio::time::advance(limit::EGRESS_QUOTA_PERIOD).await;
        assert!(quota.charge(10));
        assert!(!quota.charge(1));
    }
}
