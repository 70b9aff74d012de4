//! What an operator can ask of a running gateway and do to it: plain data, and the door that [`crate::http`] and the
//! command line speak through. The composition root stands behind it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::id::{ChannelName, DeliveryKey, EventId, SessionKey};

pub use crate::store::{Change, Dead, DeadFilter, DeliveryState, TurnState};

/// What a channel used since the process started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UsageView {
    /// Calls of the component's exports.
    pub calls: u64,
    /// Calls that ended in a trap.
    pub traps: u64,
    /// Calls that were stopped at their deadline.
    pub deadlines: u64,
    /// Guest CPU time, ms.
    pub cpu_ms: u64,
    /// The most memory that one instance had, bytes.
    pub memory_bytes_high: u64,
    /// Restarts of the listener.
    pub restarts: u64,
    /// Inbound events stored.
    pub inbound_accepted: u64,
    /// Inbound events that were known already.
    pub inbound_duplicates: u64,
    /// Inbound events of senders without access.
    pub inbound_refused: u64,
    /// Log lines over the channel's rate.
    pub log_lines_dropped: u64,
    /// Outgoing requests, refused ones too.
    pub egress_requests: u64,
    /// Sockets that were asked for, refused ones too.
    pub egress_sockets: u64,
    /// Bytes that went out, headers included.
    pub bytes_out: u64,
    /// Bytes that came in, headers included.
    pub bytes_in: u64,
    /// How often something was denied, by reason.
    pub denials: BTreeMap<String, u64>,
    /// Clients that are connected now.
    pub clients: u64,
}

/// A change of a component's file that waits for the operator's review, by digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewView {
    /// The reviewed component, which the grants are for.
    pub reviewed: String,
    /// The one that is there now.
    pub found: String,
    /// The same, in words.
    pub words: String,
}

/// A channel as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelView {
    /// The operator's name of it.
    pub name: ChannelName,
    /// What its component calls itself.
    pub component: String,
    /// `starting`, `up`, `degraded`, `paused`, `ended`, or `waiting` where it does not run before its review.
    pub status: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A changed component that waits for its review; the reviewed one may run meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<ReviewView>,
    /// The path that its platform posts to; with a token that is to be kept secret, where nothing is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// What it used.
    pub usage: UsageView,
}

/// A request of a channel, or a socket when it was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressView {
    /// When it ended.
    pub at_ms: UnixMillis,
    /// The method; `WEBSOCKET`, `TCP` or `TLS` for a socket, `REVEAL` for the plain value of a secret.
    pub method: String,
    /// Scheme, host and port; `secret` for a plain value.
    pub place: String,
    /// The form of the path, with a `*` for what may be an id or a secret.
    pub path: String,
    /// `answered`, `open`, or why not, such as `denied`.
    pub outcome: String,
    /// The status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Bytes of the request's body.
    pub bytes_out: u64,
    /// Bytes of the answer's body.
    pub bytes_in: u64,
    /// The secrets that were asked for in it, by name.
    #[serde(default)]
    pub secrets: Vec<String>,
}

/// What a change of a channel came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Done {
    /// It was made and started.
    Added,
    /// Another was started in its place.
    Replaced,
    /// Its grants are others.
    Granted,
    /// It was taken out of work.
    Paused,
    /// It was put back to work.
    Resumed,
    /// It was stopped for good.
    Removed,
    /// It was so already.
    Unchanged,
}

/// A channel after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelChanged {
    /// What was done.
    pub done: Done,
    /// What is allowed and probably not meant, or does not last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The channel as it is now; none where it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelView>,
}

/// A changed configuration file that the gateway is to take over for one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelEdit {
    /// The configuration file, whole.
    pub file: String,
    /// SHA-256 of the text that the change was made from, hexadecimal.
    pub base: String,
    /// Names the changed file, which lies beside it.
    pub ticket: String,
}

/// An outbound message, however far it is. Times are in Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryView {
    /// Its key, the same in every attempt.
    pub delivery_key: DeliveryKey,
    /// How far it is.
    pub state: DeliveryState,
    /// Where it goes; this and what the message says are known until it is delivered or dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelName>,
    /// The platform's id of the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// The thread in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// The inbound event that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventId>,
    /// The platform id of the message that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<String>,
    /// What it says; in lists only its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Attempts that counted.
    pub attempts: u32,
    /// Attempts without a known outcome.
    #[serde(default)]
    pub ambiguous: u32,
    /// When it was stored, or last redriven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at_ms: Option<UnixMillis>,
    /// Whether it was redriven then. Only where one message is asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_redriven: bool,
    /// When it is due next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at_ms: Option<UnixMillis>,
    /// The one that goes before it in its conversation and is not done yet; it waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<DeliveryKey>,
    /// Why its whole channel sends nothing at the moment, such as `paused: by the operator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_waits: Option<String>,
    /// When it is given up, if it is not delivered before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<UnixMillis>,
    /// When its last attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_at_ms: Option<UnixMillis>,
    /// When it was delivered or given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at_ms: Option<UnixMillis>,
    /// Parts that the platform accepted so far, of one that is not finished.
    #[serde(default)]
    pub parts_sent: usize,
    /// The platform's ids of it, in the order sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub message_ids: Vec<String>,
    /// Why the last attempt failed, or why it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An inbound message, however far its turn is. Times are in Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnView {
    /// The host's id of it.
    pub event: EventId,
    /// The channel it came through.
    pub channel: ChannelName,
    /// The platform's id of it.
    pub message_id: String,
    /// The agent's memory it belongs to.
    pub session: SessionKey,
    /// How far it is.
    pub state: TurnState,
    /// Who wrote it, by the platform's id; this and what it says are known until its turn is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// What it says; only its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// When it was accepted.
    pub received_at_ms: UnixMillis,
    /// When its turn is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at_ms: Option<UnixMillis>,
    /// When it was done or given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at_ms: Option<UnixMillis>,
    /// Runs that failed and counted.
    pub failures: u32,
    /// Why the last run failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The whole way of one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceView {
    /// What came in; none where it is past its retention, or nothing came in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbound: Option<TurnView>,
    /// What went out for it, in the order made.
    pub outbound: Vec<DeliveryView>,
}

/// A list, as it stands in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct List<T> {
    /// What it lists.
    pub items: Vec<T>,
    /// What to ask with as `after` for what comes behind; none where this is the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which part of a list is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// From behind this on: the `next` of an earlier part.
    pub after: Option<String>,
    /// How many at most.
    pub max: usize,
}

/// A change that an operator made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeView {
    /// When.
    pub at_ms: UnixMillis,
    /// What was done: `hold`, `release`, `drop`, `redrive`, `drop-dead`, `resubmit`, `drop-inbound`, `pause`, `resume`.
    pub verb: String,
    /// What it was done to: a delivery key, an event, a channel, or a choice of dead letters in words.
    pub subject: String,
    /// How many messages it changed; 1 for a channel.
    pub count: u64,
}

/// What a change came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// How many messages it changed.
    pub count: u64,
}

/// A message that the operator, or a program of theirs, sends through a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outgoing {
    /// The channel that delivers it.
    pub channel: String,
    /// The platform's id of the conversation.
    pub conversation: String,
    /// The thread in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// CommonMark; may be empty where there are files.
    #[serde(default)]
    pub text: String,
    /// Files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<OutgoingFile>,
    /// The sender's own id of it: a second message of the channel with the same one changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A file of an [`Outgoing`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutgoingFile {
    /// Its name.
    pub name: String,
    /// RFC 6838 media type.
    pub media_type: String,
    /// Its bytes, in base64 (RFC 4648, section 4).
    pub base64: String,
}

/// A stored message of the operator's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// What it is found by: see [`Admin::trace`].
    pub delivery_key: DeliveryKey,
    /// Whether a message of this key was stored before: then that one goes its way, and this one is dropped.
    pub known: bool,
}

/// Why the gateway did not do what the operator asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is nothing of that name; the text says what was looked for.
    #[error("there is no {0}")]
    NotFound(String),
    /// What was asked is not understood.
    #[error("{0}")]
    Misunderstood(String),
    /// It can't be done as things are.
    #[error("{0}")]
    NotNow(String),
    /// What it was made from is not there any more: it can be made again, from what is there now.
    #[error("{0}")]
    Outdated(String),
    /// What is asked for is wrong.
    #[error("{0}")]
    Wrong(String),
    /// The store did not do it.
    #[error("{0}")]
    StoreFailed(String),
}

/// What an operator can ask and do. Each change is logged, kept in the list of changes and told on the bus.
///
/// # Cancel safety
/// A dropped future leaves a change done as a whole or not at all; one of many dead letters may be done in part.
#[async_trait]
pub trait Admin: Send + Sync + 'static {
    /// Returns the channels, sorted by name.
    fn channels(&self) -> Vec<ChannelView>;

    /// Takes a channel out of work: nothing is delivered through it, its listener is stopped, its webhooks are told to come
    /// again, new clients are refused. It lasts until [`Admin::resume`], also over a restart.
    async fn pause(&self, channel: &str) -> Result<ChannelChanged, Refusal>;

    /// Puts a paused channel back to work.
    async fn resume(&self, channel: &str) -> Result<ChannelChanged, Refusal>;

    /// Returns what a channel reached, or tried to, newest first.
    fn egress(&self, channel: &str, max: usize) -> Result<Vec<EgressView>, Refusal>;

    /// Makes a channel what a changed configuration file says: adds, replaces or removes it, or changes its grants. File
    /// and channel change together, or neither does. Only who can write beside the file can stage one, so that the admin
    /// token alone changes nothing.
    async fn apply(&self, channel: &str, edit: ChannelEdit) -> Result<ChannelChanged, Refusal>;

    /// Stores a message that no agent made, to be delivered as any other.
    async fn send(&self, message: Outgoing) -> Result<Sent, Refusal>;

    /// Returns what is neither delivered nor dead, oldest first, of one channel or of all.
    async fn outbox(&self, channel: Option<&str>, part: Part) -> Result<List<DeliveryView>, Refusal>;

    /// Returns one delivery that is neither delivered nor dead, with its whole text.
    async fn waiting(&self, key: &str) -> Result<DeliveryView, Refusal>;

    /// Returns dead letters, newest first.
    async fn dead(&self, filter: &DeadFilter, part: Part) -> Result<List<DeliveryView>, Refusal>;

    /// Returns one dead letter with its whole text.
    async fn dead_letter(&self, key: &str) -> Result<DeliveryView, Refusal>;

    /// Returns the inbound messages whose turn was given up, newest first.
    async fn dead_inbound(&self, max: usize) -> Result<Vec<TurnView>, Refusal>;

    /// Changes stored messages. One that names a single message fails where there is none; one that chooses among the dead
    /// letters goes through all that are there when it begins, whatever `max` says.
    async fn change(&self, change: Change) -> Result<Changed, Refusal>;

    /// Returns the newest changes, newest first.
    async fn changes(&self, max: usize) -> Result<Vec<ChangeView>, Refusal>;

    /// Returns the way of what an id names: an event, a delivery, the operator's own key of one, or a platform's message
    /// that came in or was sent. One for each message that has the id, at most [`crate::limit::TRACES_MAX`] of those sent,
    /// and one for each channel through which the operator sent something under that key.
    async fn trace(&self, id: &str) -> Result<Vec<TraceView>, Refusal>;
}
