//! The words of the path: what comes in from a platform and what goes out to one.
//!
//! Plain data without I/O. The shapes follow `wit/since_v0.1.0/types.wit`; the host adds what only it may say (channel,
//! session, ids, times). They are stored as JSON, so fields are only ever added, each with a default.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::id::{ChannelName, DeliveryKey, EventId, SessionKey};
use crate::limit;

/// Who wrote a message, as the platform names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// Stable platform id, never a display name.
    pub id: String,
    /// Display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether the platform says that a program wrote it.
    #[serde(default)]
    pub bot: bool,
}

/// Whether a conversation is between two or among many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConversationKind {
    /// One person and the gateway.
    Direct,
    /// Several people.
    Group,
}

/// A place on the platform; with its thread, what a reply is addressed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// The platform's id.
    pub id: String,
    /// The thread in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// Direct or group.
    pub kind: ConversationKind,
    /// Display title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

/// Where an attachment's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachmentSource {
    /// A blob of this gateway.
    Blob(String),
    /// A public link.
    Url(String),
}

/// A file that goes with a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// File name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// RFC 6838 media type.
    pub media_type: String,
    /// Where the bytes are.
    pub source: AttachmentSource,
}

/// What happened on the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A new message.
    Message,
    /// A changed message.
    Edit,
    /// A picked choice.
    Choice,
    /// A deleted message.
    Deletion,
    /// A reaction.
    Reaction,
    /// Anything else.
    Other,
}

impl EventKind {
    /// Returns whether an event of this kind can start a turn (messages, edits and choices can).
    fn can_start_turn(self) -> bool {
        matches!(self, Self::Message | Self::Edit | Self::Choice)
    }
}

/// Platform details without a field of their own.
pub type Extra = Vec<(String, String)>;

/// A message as a component reported it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundMessage {
    /// What happened.
    pub kind: EventKind,
    /// The platform's id, unique within the channel: the key of deduplication.
    pub id: String,
    /// Where.
    pub conversation: Conversation,
    /// Who.
    pub sender: Sender,
    /// The text.
    pub text: String,
    /// Files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// The message that this one is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<String>,
    /// The chosen option or the reaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The platform's clock, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at_ms: Option<u64>,
    /// Whether the agent was addressed.
    pub addressed: bool,
    /// Platform details.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra: Extra,
}

impl InboundMessage {
    /// Returns whether the agent is to answer: a message, edit or choice that a person addressed to it. Programs are
    /// not answered, or two of them would talk for ever.
    pub fn starts_turn(&self) -> bool {
        self.kind.can_start_turn() && self.addressed && !self.sender.bot
    }
}

/// A message normalised, into the agent: a component's report, stamped by the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundEvent {
    /// The host's id of it.
    pub id: EventId,
    /// The channel it came through.
    pub channel: ChannelName,
    /// The agent's memory it belongs to.
    pub session: SessionKey,
    /// When the host accepted it.
    pub received_at_ms: UnixMillis,
    /// What the component reported.
    pub message: InboundMessage,
}

/// What to do on the platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Send a new message.
    Send,
    /// Change our earlier message of this platform id.
    Edit(String),
    /// Delete our earlier message of this platform id.
    Delete(String),
    /// React to a message.
    React {
        /// The message's platform id.
        message_id: String,
        /// The reaction.
        emoji: String,
    },
}

/// An answer that the person may pick.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// What comes back when it is picked.
    pub id: String,
    /// What the person sees.
    pub label: String,
}

/// What an outbound event is for: it says how long it is worth sending.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// What the agent answered, or the word that there will be no answer.
    #[default]
    Answer,
    /// A word about what happens just now, such as that an answer will be late: worth nothing later.
    Notice,
}

impl Purpose {
    /// Returns how long an event of this purpose is tried.
    pub fn expiry(self) -> Duration {
        match self {
            Self::Answer => limit::DELIVERY_EXPIRY,
            Self::Notice => limit::NOTICE_EXPIRY,
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
    fn is_answer(&self) -> bool {
        *self == Self::Answer
    }
}

/// A message normalised, out of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboundEvent {
    /// The same in every attempt.
    pub key: DeliveryKey,
    /// The channel that delivers it.
    pub channel: ChannelName,
    /// Where to.
    pub conversation: Conversation,
    /// What to do.
    pub action: Action,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Purpose::is_answer")]
    pub purpose: Purpose,
    /// The platform id of the message that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<String>,
    /// CommonMark.
    pub text: String,
    /// Files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// Answers to pick from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Choice>,
    /// The inbound event whose turn made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<EventId>,
    /// Platform details of the conversation, given back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra: Extra,
}

impl OutboundEvent {
    /// Makes the plain answer to an inbound event: the `position`-th (from 0) outbound event of its turn.
    pub fn reply(to: &InboundEvent, position: usize, text: String) -> Self {
        Self {
            key: DeliveryKey::of_turn(&to.id, position),
            channel: to.channel.clone(),
            conversation: to.message.conversation.clone(),
            action: Action::Send,
            purpose: Purpose::Answer,
            in_reply_to: Some(to.message.id.clone()),
            text,
            attachments: Vec::new(),
            choices: Vec::new(),
            cause: Some(to.id.clone()),
            extra: to.message.extra.clone(),
        }
    }

    /// Makes the gateway's own word about an inbound event whose turn failed. Each kind of notice has one key for each
    /// event, so that it is sent once, however often the turn fails.
    pub fn notice(to: &InboundEvent, notice: Notice, text: String) -> Self {
        Self {
            key: notice.key(&to.id),
            purpose: notice.purpose(),
            ..Self::reply(to, 0, text)
        }
    }
}

impl Conversation {
    /// Names a place that nothing more is known of than where it is.
    pub fn at(id: String, thread: Option<String>) -> Self {
        Self {
            id,
            thread,
            kind: ConversationKind::Direct,
            title: None,
        }
    }
}

/// What the gateway tells a person of its own accord.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The answer will be late.
    Delayed,
    /// There will be no answer.
    GivenUp,
}

impl Notice {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Delayed, Self::GivenUp];

    /// Returns what it is for: that there will be no answer stands in place of the answer.
    fn purpose(self) -> Purpose {
        match self {
            Self::Delayed => Purpose::Notice,
            Self::GivenUp => Purpose::Answer,
        }
    }

    /// Returns the key of this notice about an event.
    pub fn key(self, event: &EventId) -> DeliveryKey {
        DeliveryKey::of_notice(event, self.name())
    }

    /// Returns the name that the delivery key is derived from: it must never change.
    fn name(self) -> &'static str {
        match self {
            Self::Delayed => "delayed",
            Self::GivenUp => "given-up",
        }
    }
}

/// A part that reached the platform in an earlier attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentPart {
    /// Its position, from 0.
    pub index: u32,
    /// The platform's id of it.
    pub message_id: String,
}

/// Whether the platform has the message for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confirmation {
    /// It has: done.
    Complete,
    /// Handed over; a later `progress.confirm` says what became of it.
    Awaited,
}

/// What the platform gave for a delivered message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Platform ids in the order sent, one for each part.
    pub message_ids: Vec<String>,
    /// Whether that is final.
    pub confirmation: Confirmation,
}

/// How far a rate limit reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitScope {
    /// This conversation.
    Conversation,
    /// The whole channel.
    Channel,
}

/// Why a delivery did not happen. What follows is chosen by the case, never by the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryError {
    /// The platform asked to wait.
    #[error("the platform asked to wait {retry_after_ms} ms")]
    RateLimited {
        /// For how long.
        retry_after_ms: u64,
        /// How far it reaches.
        scope: WaitScope,
    },
    /// Nothing was accepted; trying again may work.
    #[error("not accepted: {0}")]
    Unavailable(String),
    /// The platform may or may not have accepted it.
    #[error("it may have arrived: {0}")]
    Ambiguous(String),
    /// It can never be delivered.
    #[error("rejected: {0}")]
    Rejected(String),
    /// The conversation is gone or closed to us.
    #[error("no such conversation: {0}")]
    NoSuchConversation(String),
    /// The credentials are refused.
    #[error("credentials refused: {0}")]
    Unauthorized(String),
}
