//! The event store: everything that must not be lost, behind one trait of intents.
//!
//! The trait speaks of messages, turns and lanes, not of SQL, and each method is one transaction, so that another
//! database can take SQLite's place without a change above it. [`sqlite::SqliteStore`] is the implementation for one
//! node: one writer thread that commits in groups, several read-only connections.
//!
//! * Takes: inbound events, turn results, delivery outcomes.
//! * Gives: claimed turns (one at a time per session) and claimed lane heads (one at a time per lane).
//! * Durable when: the future resolves, except for methods whose name starts with `lazy_`. Those are written before the
//!   future resolves and survive the death of the process, but reach the disk with a later commit: a power cut can
//!   undo them, which can cause a copy, never a loss.
//! * On failure: [`Error::Poisoned`] after a failed commit or flush; every later write is refused, the gateway is no longer ready and
//!   exits, because what reached the disk is no longer known.

use async_trait::async_trait;

use crate::clock::UnixMillis;
use crate::event::{DeliveryError, InboundEvent, OutboundEvent, Receipt, SentPart};
use crate::id::{ChannelName, DeliveryKey, EventId, SessionKey};

mod change;
mod pressure;
mod record;
pub mod sqlite;

pub use change::{Change, Dead, DeadFilter};
pub use pressure::{Full, Marks, Pressure, Quota, Usage};
pub use record::{ChangeRecord, DeliveryRecord, DeliveryState, Page, Trace, TurnRecord, TurnState};

/// Why the store did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A commit or flush failed earlier, or just now: what is on the disk is unknown. Stop the process.
    #[error("the store stopped: {0}")]
    Poisoned(String),
    /// Too much is waiting to be written. Wait and try again.
    #[error("the store is busy, or its disk is full: try again")]
    Busy,
    /// A quota of the channel is used up (state, blobs).
    #[error("quota used up: {0}")]
    Quota(String),
    /// The claim is no longer held: the work was taken over, finished or dropped. Give up what depends on it.
    #[error("the claim is stale")]
    Stale,
    /// What is to be changed is being sent just now: its outcome comes first.
    #[error("it is being sent just now")]
    InFlight,
    /// This one command failed (a constraint, a damaged row); others go on.
    #[error("the store refused: {0}")]
    Refused(String),
}

/// What became of an offered inbound event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is new, and stored.
    New,
    /// An event with the same channel and platform id was stored before; this one changed nothing.
    Duplicate,
    /// It was not stored: as much as may wait in one conversation waits in it ([`Marks::conversation_rows`]).
    OverCap,
}

/// An inbound event whose turn this process may run. No other turn of its session is handed out until this one is
/// committed, postponed or buried.
#[derive(Debug, Clone)]
pub struct ClaimedTurn {
    /// The event.
    pub event: InboundEvent,
    /// How often its turn failed before; a failure whose wait a new message of the session cut short is not counted.
    pub failures: u32,
    /// The agent's answer, when an earlier run of this turn got as far as [`EventStore::lazy_record_answer`].
    pub answer: Option<String>,
    /// What the writes for this turn must carry.
    pub fence: TurnFence,
}

/// What a claim of turns came to.
#[derive(Debug, Clone, Default)]
pub struct ClaimedTurns {
    /// The turns to run now.
    pub turns: Vec<ClaimedTurn>,
    /// When the next turn falls due that was not handed out, by this claim or an earlier one; none when none waits. The
    /// time of the claim where that handed out as many as it might: then nobody looked for more.
    pub next_due: Option<UnixMillis>,
}

/// Proof of a turn's claim: the boot count of the store that handed it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnFence(pub i64);

/// Who said a line of a session's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The person.
    User,
    /// The agent.
    Assistant,
}

/// A line of a session's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub text: String,
}

/// The outcome of a turn: one transaction.
#[derive(Debug, Clone)]
pub struct TurnCommit {
    /// The inbound event that is done with this.
    pub event: EventId,
    /// The session whose history grows.
    pub session: SessionKey,
    /// What is added to the history, in order.
    pub history: Vec<HistoryEntry>,
    /// What is to be delivered, in order. An event whose key is known already is left as it is.
    pub outbound: Vec<OutboundEvent>,
}

/// One attempt to deliver the head of a lane. Only the process knows of it, until something of it is about to leave the
/// host: see [`EventStore::lazy_mark_sending`].
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// What the writes for this attempt must carry.
    pub claim: DeliveryClaim,
    /// The message.
    pub event: OutboundEvent,
    /// Parts that the platform accepted earlier.
    pub already_sent: Vec<SentPart>,
    /// How many earlier attempts ended without a known outcome, counting one that the end of a process cut short after
    /// its mark and each that was handed over and not confirmed in time.
    pub ambiguous: u32,
    /// When the last of those attempts began.
    pub ambiguous_at_ms: Option<UnixMillis>,
    /// When the event was stored.
    pub created_at_ms: UnixMillis,
    /// What is known of its lane.
    pub standing: Standing,
}

/// Proof of a delivery's claim: the row and the number of the attempt. A write with an older attempt is [`Error::Stale`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryClaim {
    /// The outbox row.
    pub row: i64,
    /// The attempt, from 1.
    pub attempt: u32,
}

/// What is known of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The last attempt of this process in it was delivered or handed over.
    Proven,
    /// Nothing: what it sends next was not tried before.
    New,
    /// What it sends next was tried before, and waited for this attempt.
    Tried,
}

/// How many attempts a channel has, or may begin. Each number counts in those above it, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Places {
    /// Whatever the standing of the lane.
    pub all: usize,
    /// In lanes that are not [`Standing::Proven`].
    pub unproven: usize,
    /// In lanes that are [`Standing::Tried`].
    pub tried: usize,
}

impl Places {
    /// As many as there are.
    pub const UNBOUNDED: Self = Self {
        all: usize::MAX,
        unproven: usize::MAX,
        tried: usize::MAX,
    };

    /// Returns whether there is one for a lane of this standing.
    pub fn has(self, standing: Standing) -> bool {
        let one = Self::one(standing);
        self.all >= one.all && self.unproven >= one.unproven && self.tried >= one.tried
    }

    /// Adds one for a lane of this standing.
    pub fn add(&mut self, standing: Standing) {
        let one = Self::one(standing);
        self.all += one.all;
        self.unproven += one.unproven;
        self.tried += one.tried;
    }

    /// Takes one away for a lane of this standing.
    pub fn take(&mut self, standing: Standing) {
        *self = self.less(Self::one(standing));
    }

    /// Returns what is left of these without `taken`.
    #[must_use]
    pub fn less(self, taken: Self) -> Self {
        Self {
            all: self.all.saturating_sub(taken.all),
            unproven: self.unproven.saturating_sub(taken.unproven),
            tried: self.tried.saturating_sub(taken.tried),
        }
    }

    fn one(standing: Standing) -> Self {
        Self {
            all: 1,
            unproven: usize::from(standing != Standing::Proven),
            tried: usize::from(standing == Standing::Tried),
        }
    }
}

/// What a claim asks for: lane heads of one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The channel.
    pub channel: ChannelName,
    /// How many there may be.
    pub places: Places,
}

impl Ask {
    /// Asks for whatever is due in a channel.
    pub fn unbounded(channel: ChannelName) -> Self {
        Self {
            channel,
            places: Places::UNBOUNDED,
        }
    }
}

/// What a claim of lane heads came to.
#[derive(Debug, Clone, Default)]
pub struct ClaimedHeads {
    /// The attempts to make now.
    pub dispatches: Vec<Dispatch>,
    /// What was found expired and is a dead letter now.
    pub expired: Vec<DeadLetter>,
    /// When the next head of these channels falls due that was not handed out, by this claim or an earlier one, and for
    /// which there is still a place; none when none waits. The time of the claim where that handed out as many as it might:
    /// then nobody looked for more.
    pub next_due: Option<UnixMillis>,
}

/// How an attempt that delivered nothing counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempted {
    /// It left the host, and no answer came.
    Ambiguous,
    /// It failed for certain.
    Failed,
    /// It did not really happen (the channel was not up, or a limit was in force): it costs no attempt.
    NotAtAll,
}

/// A delivery that was given up.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The message.
    pub event: OutboundEvent,
    /// Why, in words for the operator.
    pub reason: String,
    /// How many attempts were made.
    pub attempts: u32,
    /// When it was given up.
    pub died_at_ms: UnixMillis,
}

/// How much is waiting. Kept in memory, so it costs nothing to ask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Inbound events whose turn is not done.
    pub inbox: u64,
    /// Outbound events that are neither delivered nor dead, those that await a confirmation included.
    pub outbox: u64,
    /// Dead letters.
    pub dead: u64,
    /// Inbound events whose turn was given up.
    pub dead_inbound: u64,
}

/// The durable side of the gateway. All times are given by the caller, so that tests choose them.
///
/// # Cancel safety
/// A dropped future leaves its command in the writer's queue: the command is carried out as a whole or not at all.
#[async_trait]
pub trait EventStore: Send + Sync + 'static {
    // ---- the way in

    /// Stores inbound events and the channel's cursor in one transaction, and answers for each event, in order.
    ///
    /// Deduplicates on (channel, platform id). Events that start no turn
    /// ([`crate::event::InboundMessage::starts_turn`]) are kept for deduplication only.
    /// A new event from a conversation makes the retries that wait for that conversation due now, and the postponed turn
    /// at the head of its session, except where a rate limit is the reason. A run that comes early in this way takes the
    /// place of the failed one: it adds nothing to [`ClaimedTurn::failures`].
    async fn accept(
        &self,
        channel: &ChannelName,
        events: Vec<InboundEvent>,
        cursor: Option<String>,
        now: UnixMillis,
    ) -> Result<Vec<Accepted>, Error>;

    /// Returns the cursor of the last committed [`EventStore::accept`].
    async fn cursor(&self, channel: &ChannelName) -> Result<Option<String>, Error>;

    // ---- turns

    /// Claims up to `max` due turns, at most one for each session that has none running, and of no channel more than run to
    /// `of_channel` with it: the longest due first, the channels taking turns.
    ///
    /// What is handed out is durable. The turns of a session run in the order of their events: one that is postponed
    /// holds up those after it.
    async fn claim_turns(&self, max: usize, of_channel: usize, now: UnixMillis) -> Result<ClaimedTurns, Error>;

    /// Stores the finished answer of a running turn, so that a crash before its commit does not ask the agent again.
    async fn lazy_record_answer(&self, fence: TurnFence, event: &EventId, answer: &str) -> Result<(), Error>;

    /// Ends a turn: inbound done, history, outbound events, in one transaction.
    async fn commit_turn(&self, fence: TurnFence, commit: TurnCommit, now: UnixMillis) -> Result<(), Error>;

    /// Puts a failed turn back until `due`, with an optional notice to the person (sent once, whatever the number of failures).
    /// `floor` says that nothing may make it due earlier (a rate limit).
    #[expect(clippy::too_many_arguments, reason = "one intent, all of whose parts are needed")]
    async fn postpone_turn(
        &self,
        fence: TurnFence,
        event: &EventId,
        due: UnixMillis,
        floor: bool,
        reason: &str,
        notice: Option<OutboundEvent>,
        now: UnixMillis,
    ) -> Result<(), Error>;

    /// Gives up a turn for good, with an optional notice to the person. The event stays listed as dead.
    async fn bury_turn(
        &self,
        fence: TurnFence,
        event: &EventId,
        reason: &str,
        notice: Option<OutboundEvent>,
        now: UnixMillis,
    ) -> Result<(), Error>;

    /// Returns the turns that were given up, newest first, at most `max` and [`crate::limit::OPERATOR_BYTES_MAX`] of text.
    async fn dead_inbound(&self, max: usize) -> Result<Vec<TurnRecord>, Error>;

    /// Gives a claimed turn back untouched, such as at shutdown.
    async fn release_turn(&self, fence: TurnFence, event: &EventId) -> Result<(), Error>;

    /// Returns the newest lines of a session's history, oldest first: at most `entries_max` and `bytes_max` of text.
    async fn history(
        &self,
        session: &SessionKey,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<HistoryEntry>, Error>;

    /// Returns when the next turn that waits falls due; none when none waits. Running turns do not count.
    async fn next_turn_due(&self) -> Result<Option<UnixMillis>, Error>;

    // ---- the way out

    /// Stores outbound events that no turn made. An event whose key is known already is left as it is.
    async fn enqueue(&self, events: Vec<OutboundEvent>, now: UnixMillis) -> Result<(), Error>;

    /// Claims up to `max` due lane heads, of each channel as far as there are places for lanes of their standing: the
    /// longest due first, the channels taking turns. A head for which there is none waits, and holds up nobody.
    ///
    /// A claim is known to this process only: one that ends before it marks the attempt leaves the row as it was. Expired
    /// heads are buried here instead, and named, so that someone hears of it. A row that an earlier process left marked
    /// as being sent is handed out like any other, with its ambiguous count raised: this is the whole recovery. So is one
    /// whose confirmation did not come in time.
    async fn lazy_claim_heads(&self, asks: &[Ask], max: usize, now: UnixMillis) -> Result<ClaimedHeads, Error>;

    /// Marks an attempt as being sent: something of it is about to leave the host. From here on the end of the process
    /// leaves an attempt without a known outcome. A mark that is there already, or that a settled delivery no longer
    /// needs, changes nothing.
    async fn lazy_mark_sending(&self, claim: DeliveryClaim, now: UnixMillis) -> Result<(), Error>;

    /// Stores that a part of a channel's delivery reached the platform. A key that the channel does not have in flight changes nothing.
    async fn part_sent(&self, channel: &ChannelName, key: &DeliveryKey, part: SentPart) -> Result<(), Error>;

    /// Ends a delivery: the receipt takes the place of the outbox row.
    async fn lazy_ack(&self, claim: DeliveryClaim, receipt: Receipt, now: UnixMillis) -> Result<(), Error>;

    /// Stores that a delivery was handed over and awaits a confirmation until `deadline`; its lane goes on meanwhile.
    /// After the deadline it is due again, and this attempt counts in [`Dispatch::ambiguous`].
    async fn lazy_await_confirmation(
        &self,
        claim: DeliveryClaim,
        receipt: Receipt,
        deadline: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), Error>;

    /// Settles a delivery that awaits its confirmation. Returns whether there was one: an unknown or settled key changes nothing.
    /// `Err` makes it a dead letter, whatever the error.
    async fn confirm(
        &self,
        channel: &ChannelName,
        key: &DeliveryKey,
        outcome: Result<(), DeliveryError>,
        now: UnixMillis,
    ) -> Result<bool, Error>;

    /// Ends an attempt without a delivery: the lane's head is due again at `due` (or at its expiry, if that is earlier).
    /// `floor` says that nothing may make it due earlier (a rate limit).
    async fn lazy_reschedule(
        &self,
        claim: DeliveryClaim,
        due: UnixMillis,
        floor: bool,
        attempted: Attempted,
        reason: &str,
        now: UnixMillis,
    ) -> Result<(), Error>;

    /// Gives up a delivery: it becomes a dead letter, and its lane goes on.
    async fn bury(&self, claim: DeliveryClaim, reason: &str, now: UnixMillis) -> Result<(), Error>;

    /// Makes the deliveries that wait for a conversation (in any thread where `thread` is none) due now, those that await a confirmation included.
    async fn reachable(
        &self,
        channel: &ChannelName,
        conversation: &str,
        thread: Option<&str>,
        now: UnixMillis,
    ) -> Result<(), Error>;

    /// Returns when the next lane of these channels falls due; none when nothing waits. Lanes in flight do not count.
    async fn next_head_due(&self, channels: &[ChannelName]) -> Result<Option<UnixMillis>, Error>;

    /// Returns what is neither delivered nor dead, oldest first, of one channel or of all, from behind the row `after` on:
    /// at most `max` and [`crate::limit::OPERATOR_BYTES_MAX`] of text.
    async fn outbox(
        &self,
        channel: Option<&ChannelName>,
        after: Option<i64>,
        max: usize,
    ) -> Result<Page<DeliveryRecord>, Error>;

    /// Returns what is stored of one delivery.
    async fn delivery(&self, key: &DeliveryKey) -> Result<Option<DeliveryRecord>, Error>;

    /// Returns dead letters, newest first, from behind the one that died at `after.0` in row `after.1` on: at most `max`
    /// and [`crate::limit::OPERATOR_BYTES_MAX`] of text.
    async fn dead_letters(
        &self,
        filter: &DeadFilter,
        after: Option<(UnixMillis, i64)>,
        max: usize,
    ) -> Result<Page<DeliveryRecord>, Error>;

    // ---- the operator's changes

    /// Makes a change, and adds it to the list of changes, in one transaction. Returns how many messages it changed; none
    /// where there is no such message, and then it is not in the list.
    ///
    /// # Errors
    /// [`Error::InFlight`] where it concerns a message that is being sent just now.
    async fn change(&self, change: Change, now: UnixMillis) -> Result<u64, Error>;

    /// Returns the newest changes, newest first, at most `max`.
    async fn changes(&self, max: usize) -> Result<Vec<ChangeRecord>, Error>;

    /// Returns the whole way of what an id names: an event, a delivery, or a platform's message that came in or was sent.
    /// Several may have the same platform id: the newest of them come. Empty where nothing is known.
    async fn trace(&self, id: &str) -> Result<Vec<Trace>, Error>;

    // ---- what a channel keeps

    /// Returns a value of the channel's state.
    async fn state_get(&self, channel: &ChannelName, key: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Sets a value, or deletes it where `value` is none.
    ///
    /// # Errors
    /// [`Error::Quota`] past the quota, and past the bounds in [`crate::limit`] (keys, bytes a value).
    async fn state_set(
        &self,
        channel: &ChannelName,
        key: &str,
        value: Option<Vec<u8>>,
        quota: Quota,
    ) -> Result<(), Error>;

    /// Sets (or deletes) a value only where the present one is `expected`. Returns whether it did.
    async fn state_swap(
        &self,
        channel: &ChannelName,
        key: &str,
        expected: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
        quota: Quota,
    ) -> Result<bool, Error>;

    /// Returns the keys that start with `prefix`, sorted.
    ///
    /// # Errors
    /// [`Error::Quota`] where they are more than [`crate::limit::STATE_LIST_BYTES_MAX`].
    async fn state_keys(&self, channel: &ChannelName, prefix: &str) -> Result<Vec<String>, Error>;

    /// Stores bytes and returns their handle, which is readable by this channel only.
    ///
    /// # Errors
    /// [`Error::Quota`] past the quota, and past [`crate::limit::BLOB_BYTES_MAX`]; [`Error::Busy`] where the disk has no room
    /// for it now, which is [`Full::Files`] until it has.
    async fn blob_put(
        &self,
        channel: &ChannelName,
        media_type: &str,
        bytes: Vec<u8>,
        quota: Quota,
        now: UnixMillis,
    ) -> Result<String, Error>;

    /// Returns a blob's media type and bytes.
    async fn blob_get(&self, channel: &ChannelName, blob: &str) -> Result<Option<(String, Vec<u8>)>, Error>;

    // ---- upkeep

    /// Returns how much is waiting.
    fn depth(&self) -> Depth;

    /// Returns what must wait because a mark is reached. Costs nothing to ask; what [`EventStore::accept`] and
    /// [`EventStore::claim_turns`] are given is taken all the same.
    fn pressure(&self) -> Pressure;

    /// Returns why nothing of this channel is to be taken in now: a mark of all is reached, or as much of it waits for the
    /// agent as may of one channel. Costs nothing to ask; what [`EventStore::accept`] is given is taken all the same.
    fn intake(&self, channel: &ChannelName) -> Option<Full>;

    /// Returns what the store was last measured to use.
    fn usage(&self) -> Usage;

    /// Measures what the store uses, for [`EventStore::pressure`].
    async fn measure(&self) -> Result<Usage, Error>;

    /// Returns once everything that was answered before is durable, what `lazy_` methods wrote included.
    async fn flush(&self) -> Result<(), Error>;

    /// Moves every time that something waits for by `jump` ms: the clock was set. What has happened keeps its times.
    async fn shift(&self, jump: i64) -> Result<(), Error>;

    /// Notes the time. Where it is before the time noted last by [`crate::limit::CLOCK_JUMP_MIN`] or more, the clock was set
    /// back while nobody looked: what waits is moved as [`EventStore::shift`] moves it, and the jump, in ms, is returned.
    async fn lazy_note_time(&self, now: UnixMillis) -> Result<Option<i64>, Error>;

    /// Notes that a channel listens, or listened until now.
    async fn lazy_seen(&self, channel: &ChannelName, now: UnixMillis) -> Result<(), Error>;

    /// Returns until when a channel is known to have listened.
    async fn last_seen(&self, channel: &ChannelName) -> Result<Option<UnixMillis>, Error>;

    /// Returns whether the store still takes writes.
    fn is_sound(&self) -> bool;

    /// Drops what is past its retention (done inbound events, receipts, blobs), a bounded number of rows a call.
    /// Returns how many rows went.
    async fn sweep(&self, now: UnixMillis) -> Result<u64, Error>;

    /// Writes everything out and closes the writer; later writes fail with [`Error::Poisoned`].
    async fn close(&self) -> Result<(), Error>;
}
