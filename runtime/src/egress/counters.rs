//! What one channel's egress did, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{HttpError, NetError};

/// Counters that only grow.
#[derive(Debug, Default)]
pub struct Counters {
    requests: AtomicU64,
    sockets: AtomicU64,
    denied: AtomicU64,
    invalid: AtomicU64,
    unreachable: AtomicU64,
    interrupted: AtomicU64,
    too_large: AtomicU64,
    busy: AtomicU64,
    bytes_out: AtomicU64,
    bytes_in: AtomicU64,
    not_granted: AtomicU64,
    not_requested: AtomicU64,
    address: AtomicU64,
    secret: AtomicU64,
}

/// Why something was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denial {
    /// The operator did not grant it.
    NotGranted,
    /// The operator granted it, and the component's description does not ask for it.
    NotRequested,
    /// The name leads to an address that the grant does not reach.
    Address,
    /// A secret for another host or place, or one that may not be shown.
    Secret,
}

/// How often something was denied, by reason. A socket that goes on after its grant was revoked counts at each use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Denials {
    /// The operator did not grant it.
    pub not_granted: u64,
    /// The operator granted it, and the component's description does not ask for it.
    pub not_requested: u64,
    /// The name leads to an address that the grant does not reach.
    pub address: u64,
    /// A secret for another host or place, or one that may not be shown.
    pub secret: u64,
}

impl Denials {
    /// Returns them with their names, for the metrics and the operator.
    pub fn named(&self) -> [(&'static str, u64); 4] {
        [
            ("not-granted", self.not_granted),
            ("not-requested", self.not_requested),
            ("address", self.address),
            ("secret", self.secret),
        ]
    }
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct CounterValues {
    /// HTTP requests that guests made, refused ones too.
    pub requests: u64,
    /// Sockets that guests asked for, refused ones too.
    pub sockets: u64,
    /// Refused: not granted, an address that may not be reached, or a secret in the wrong place.
    pub denied: u64,
    /// Refused: no valid request.
    pub invalid: u64,
    /// Failed before anything was sent.
    pub unreachable: u64,
    /// Failed after something may have been sent.
    pub interrupted: u64,
    /// Refused or cut off for their size.
    pub too_large: u64,
    /// Refused for their number or their bytes in a minute.
    pub busy: u64,
    /// Bytes of requests and frames, headers included, TLS and framing not.
    pub bytes_out: u64,
    /// Bytes of responses and frames, headers included, TLS and framing not.
    pub bytes_in: u64,
    /// Why things were denied.
    pub denials: Denials,
}

impl Counters {
    /// Returns the values of this moment.
    pub fn values(&self) -> CounterValues {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CounterValues {
            requests: read(&self.requests),
            sockets: read(&self.sockets),
            denied: read(&self.denied),
            invalid: read(&self.invalid),
            unreachable: read(&self.unreachable),
            interrupted: read(&self.interrupted),
            too_large: read(&self.too_large),
            busy: read(&self.busy),
            bytes_out: read(&self.bytes_out),
            bytes_in: read(&self.bytes_in),
            denials: Denials {
                not_granted: read(&self.not_granted),
                not_requested: read(&self.not_requested),
                address: read(&self.address),
                secret: read(&self.secret),
            },
        }
    }

    pub(super) fn http_result(&self, error: Option<&HttpError>) {
        add(&self.requests, 1);
        match error {
            None | Some(HttpError::ShuttingDown) => {}
            Some(HttpError::Denied(_)) => add(&self.denied, 1),
            Some(HttpError::Invalid(_)) => add(&self.invalid, 1),
            Some(HttpError::Unreachable(_)) => add(&self.unreachable, 1),
            Some(HttpError::Interrupted(_)) => add(&self.interrupted, 1),
            Some(HttpError::TooLarge) => add(&self.too_large, 1),
            Some(HttpError::Busy) => add(&self.busy, 1),
        }
    }

    pub(super) fn net_result(&self, error: Option<&NetError>) {
        add(&self.sockets, 1);
        match error {
            None | Some(NetError::ShuttingDown) => {}
            Some(NetError::Denied(_)) => add(&self.denied, 1),
            Some(NetError::Timeout | NetError::Closed | NetError::Failed(_)) => add(&self.unreachable, 1),
        }
    }

    pub(super) fn denied(&self, denial: Denial) {
        let counter = match denial {
            Denial::NotGranted => &self.not_granted,
            Denial::NotRequested => &self.not_requested,
            Denial::Address => &self.address,
            Denial::Secret => &self.secret,
        };
        add(counter, 1);
    }

    pub(super) fn sent(&self, bytes: usize) {
        add(&self.bytes_out, bytes as u64);
    }

    pub(super) fn received(&self, bytes: usize) {
        add(&self.bytes_in, bytes as u64);
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
