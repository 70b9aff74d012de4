//! What a channel uses, counted: plain numbers that `/metrics` and the operator read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Raises it to `value` where it is lower: for high-water marks.
    pub fn raise(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }

    /// Returns it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one channel since the process started.
#[derive(Debug, Default)]
pub struct Usage {
    /// Calls of exports.
    pub calls: Counter,
    /// Calls that ended in a trap.
    pub traps: Counter,
    /// Calls that were stopped at their deadline.
    pub deadlines: Counter,
    /// CPU time of the threads while they ran its guests, ns.
    pub(super) cpu_ns: Counter,
    /// The most linear memory that one instance had, bytes.
    pub memory_bytes_high: Counter,
    /// Restarts of the listener.
    pub restarts: Counter,
    /// Inbound events accepted.
    pub inbound_accepted: Counter,
    /// Inbound events that were known already.
    pub inbound_duplicates: Counter,
    /// Inbound events from senders who may not talk to the agent.
    pub inbound_refused: Counter,
    /// Inbound events that were refused because as much waited in their conversation as may.
    pub inbound_over_cap: Counter,
    /// Publications and webhooks that were told to come again because the channel had its share of the inbox, or
    /// its messages of the minute.
    pub inbound_held: Counter,
    /// Webhooks that were refused because their signature was missing, wrong or too old.
    pub webhooks_refused: Counter,
    /// Times without a listener in which messages may have been missed.
    pub gaps: Counter,
    /// Log lines dropped.
    pub log_lines_dropped: Counter,
}

impl Usage {
    /// Returns the CPU time of the threads while they ran the channel's guests.
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_ns.get())
    }
}
