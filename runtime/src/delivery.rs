//! The delivery worker: brings committed outbound events to their platforms, each until it is confirmed, expires or is
//! dead.
//!
//! What follows from an attempt is decided in one pure place, [`decide`], from typed outcomes and from what the host
//! itself saw on the wire, never from the text of an error. There is no recovery at start: what an earlier process left
//! marked as being sent comes out of the same claim as everything else.
//!
//! * Takes: the due heads of lanes from the store, at most one for each lane.
//! * Gives: receipts and dead letters to the store, attempts to the [`Dispatcher`].
//! * Durable when: the outcome of an attempt, with the store's next commit. One that is lost to a power cut is an
//!   attempt without a known outcome: it can cause a copy, never a loss.
//! * On failure: the lane waits by the schedule, in its order; other lanes go on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::UnixMillis;
use crate::egress::Evidence;
use crate::event::{DeliveryError, OutboundEvent, Receipt, SentPart};
use crate::id::ChannelName;

mod attempt;
pub mod decide;
mod drafts;
mod room;
mod worker;

pub use drafts::Drafts;
pub use worker::DeliveryWorker;

/// What a channel promises about repeated and unfinished deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guarantees {
    /// For how long after the first send the platform drops a second one with the same key; none where it does not.
    pub deduplicates_for: Option<Duration>,
    /// Whether the component can find out what became of an attempt without a known outcome.
    pub reconciles: bool,
    /// How often such an attempt is repeated where nothing removes the copies; 0 leaves it to the operator.
    pub ambiguous_resends: u32,
    /// Whether a copy is worse than a loss: then an attempt is known to the disk before anything of it leaves the host, so
    /// that not even a power cut makes that happen twice.
    pub at_most_once: bool,
}

/// One attempt, as the channel gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRequest {
    /// The message.
    pub event: OutboundEvent,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// Parts that the platform accepted earlier: not to be sent again.
    pub already_sent: Vec<SentPart>,
    /// What the channel's presence returned last for a draft of this answer.
    pub draft_id: Option<String>,
}

/// Why an attempt gave no receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The component says so.
    Reported(DeliveryError),
    /// The component died, for the reason given.
    Trapped(String),
    /// The component took longer than it may.
    DeadlineExceeded,
    /// The channel was not up, so nothing was tried.
    NotUp,
    /// The gateway itself had no place for a request of it: too many others of the channel were in flight.
    NoPlace,
}

/// What came of an attempt, and what the host saw of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The component's receipt, or why there is none.
    pub result: Result<Receipt, Failure>,
    /// Whether bytes of a request of this attempt left the host without a complete answer to the last of them.
    pub bytes_left: bool,
}

/// What a component found out about an attempt without a known outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The platform has the message.
    Delivered(Receipt),
    /// The platform does not have the whole of it, only these parts besides those known before.
    NotDelivered(Vec<SentPart>),
    /// It can't tell.
    Unknown,
}

/// What the delivery worker needs from the channels.
#[async_trait]
pub trait Dispatcher: Send + Sync + 'static {
    /// Returns the channels that are up and not paused. Asked before each claim, so it must be cheap.
    fn ready(&self) -> Vec<ChannelName>;

    /// Returns what a channel promises; the most careful answer for one that is gone.
    fn guarantees(&self, channel: &ChannelName) -> Guarantees;

    /// Makes one attempt, within the channel's deadline. Before anything of it leaves the host, `evidence` marks it.
    ///
    /// # Cancel safety
    /// A dropped future leaves an attempt whose outcome is not known if it was marked; the store takes it as that.
    async fn deliver(&self, request: DeliveryRequest, evidence: Evidence) -> Attempt;

    /// Asks the component what became of the earlier attempts; none without a known outcome began before `since`.
    /// Anything that goes wrong is [`Finding::Unknown`].
    async fn reconcile(&self, request: DeliveryRequest, since: UnixMillis) -> Finding;

    /// Takes a channel out of [`Dispatcher::ready`] until the operator resumes it: its credentials are refused.
    fn pause(&self, channel: &ChannelName, reason: &str);
}

/// What the delivery worker did since the start, for the metrics.
#[derive(Debug, Default)]
pub struct DeliveryCounters {
    attempts: AtomicU64,
    delivered: AtomicU64,
    handed_over: AtomicU64,
    failed: AtomicU64,
    ambiguous: AtomicU64,
    not_tried: AtomicU64,
    reconciled: AtomicU64,
    dead: AtomicU64,
    panicked: AtomicU64,
    in_flight: AtomicU64,
}

macro_rules! counter {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        $($(#[$doc])* pub fn $name(&self) -> u64 {
            self.$name.load(Ordering::Relaxed)
        })*
    };
}

impl DeliveryCounters {
    counter! {
        /// Returns how many attempts began.
        attempts,
        /// Returns how many messages the platforms confirmed.
        delivered,
        /// Returns how many messages were handed over and awaited their confirmation.
        handed_over,
        /// Returns how many attempts failed for certain.
        failed,
        /// Returns how many attempts ended without a known outcome.
        ambiguous,
        /// Returns how many attempts did not count (rate limit, refused credentials, channel not up).
        not_tried,
        /// Returns how many messages a component was asked about before they were sent again.
        reconciled,
        /// Returns how many messages were given up, expired ones included.
        dead,
        /// Returns how many attempts ended in a panic of the host.
        panicked,
        /// Returns how many attempts run now.
        in_flight,
    }
}
