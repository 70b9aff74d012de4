//! What an operator sees of stored messages: plain data, never a claim on them.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::event::{InboundEvent, OutboundEvent};
use crate::id::{ChannelName, DeliveryKey, EventId, SessionKey};

/// How far an outbound event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryState {
    /// Nothing of it has left the host.
    Pending,
    /// An attempt failed; it waits for the next, of which nothing has left the host yet.
    Retrying,
    /// The operator holds it back, and with it what comes after it in its lane.
    Held,
    /// Something of an attempt may have left the host: it is under way, or was cut short by the end of the process and
    /// comes again.
    Sending,
    /// It was handed over; its confirmation is awaited.
    Awaiting,
    /// The platform has it.
    Delivered,
    /// It was given up: a dead letter.
    Dead,
    /// An operator dropped it.
    Dropped,
}

impl DeliveryState {
    /// Returns whether it is neither delivered nor given up.
    pub fn is_live(self) -> bool {
        !matches!(self, Self::Delivered | Self::Dead | Self::Dropped)
    }
}

/// What is stored of an outbound event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeliveryRecord {
    /// Its key, the same in every attempt.
    pub key: DeliveryKey,
    /// Its row: what is stored or redriven later has a higher one.
    pub row: i64,
    /// How far it is.
    pub state: DeliveryState,
    /// The message itself; none once it is delivered or dropped, when only the receipt is kept.
    pub event: Option<OutboundEvent>,
    /// Attempts that counted.
    pub attempts: u32,
    /// Attempts without a known outcome: each may have made a copy.
    pub ambiguous: u32,
    /// When it was stored, or last redriven.
    pub created_at_ms: UnixMillis,
    /// Whether it was redriven then. Only where one message is asked for, and as long as that change is kept.
    pub was_redriven: bool,
    /// When it is due next, rate limits included; none where nothing more is to be done.
    pub due_at_ms: Option<UnixMillis>,
    /// The head of its lane, where that is another one: it goes first.
    pub behind: Option<DeliveryKey>,
    /// When it is given up, if it is not delivered before.
    pub expires_at_ms: UnixMillis,
    /// When its last attempt began.
    pub attempt_at_ms: Option<UnixMillis>,
    /// When it was delivered or given up.
    pub finished_at_ms: Option<UnixMillis>,
    /// Parts that the platform accepted so far, of one that is not finished.
    pub parts_sent: usize,
    /// The platform's ids of it, in the order sent.
    pub message_ids: Vec<String>,
    /// Why the last attempt failed, or why it was given up.
    pub reason: Option<String>,
}

/// How far an inbound event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TurnState {
    /// Its turn waits, or runs.
    Waiting,
    /// Its turn is committed; or it started none.
    Done,
    /// Its turn was given up.
    Dead,
}

/// What is stored of an inbound event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TurnRecord {
    /// The host's id of it.
    pub id: EventId,
    /// The channel it came through.
    pub channel: ChannelName,
    /// The platform's id of it.
    pub message_id: String,
    /// The agent's memory it belongs to.
    pub session: SessionKey,
    /// How far it is.
    pub state: TurnState,
    /// The event itself; none once it is done, when only its ids are kept.
    pub event: Option<InboundEvent>,
    /// When it was accepted.
    pub received_at_ms: UnixMillis,
    /// When its turn is due, by itself: earlier turns of its session go first. None where it is done or dead.
    pub due_at_ms: Option<UnixMillis>,
    /// When it was done or given up.
    pub finished_at_ms: Option<UnixMillis>,
    /// Runs that failed and counted.
    pub failures: u32,
    /// Why the last run failed.
    pub reason: Option<String>,
}

/// The whole way of one message, as far as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// What came in; none where it is past its retention, or no turn made the deliveries.
    pub turn: Option<TurnRecord>,
    /// What went out for it, in the order made.
    pub deliveries: Vec<DeliveryRecord>,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What it lists.
    pub items: Vec<T>,
    /// Whether there is more behind the last of them.
    pub has_more: bool,
}

/// A change that an operator made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangeRecord {
    /// When.
    pub at_ms: UnixMillis,
    /// What was done, such as `redrive`.
    pub verb: String,
    /// What it was done to, in words: a delivery key, an event, a channel, or a choice of dead letters.
    pub subject: String,
    /// How many messages it changed.
    pub count: u64,
}
