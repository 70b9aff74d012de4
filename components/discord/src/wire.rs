//! Discord's types, as far as this channel reads them (docs.discord.com/developers, API version 10).
//!
//! Unknown fields are ignored and everything that may be missing is optional. Ids are snowflakes: numbers in text.

use serde::{Deserialize, Serialize};
use sluicegate_sdk::serde_json::Value;

/// One frame of the gateway, either way.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Frame {
    /// What it is: see [`op`].
    pub op: u8,
    /// What it carries.
    #[serde(default)]
    pub d: Value,
    /// The sequence number of an event.
    #[serde(default)]
    pub s: Option<u64>,
    /// The name of an event.
    #[serde(default)]
    pub t: Option<String>,
}

/// What a frame is (Discord: Gateway Opcodes).
pub mod op {
    /// An event.
    pub const DISPATCH: u8 = 0;
    /// A sign of life, either way.
    pub const HEARTBEAT: u8 = 1;
    /// Who we are, for a new session.
    pub const IDENTIFY: u8 = 2;
    /// Who we are, for a session that goes on.
    pub const RESUME: u8 = 6;
    /// We are to connect again and go on.
    pub const RECONNECT: u8 = 7;
    /// The session can't be used; `d` says whether it can be resumed.
    pub const INVALID_SESSION: u8 = 9;
    /// The first frame of a connection.
    pub const HELLO: u8 = 10;
    /// The answer to our heartbeat.
    pub const HEARTBEAT_ACK: u8 = 11;
}

/// `READY`: a new session.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Ready {
    /// The session's id.
    pub session_id: String,
    /// Where it is resumed.
    #[serde(default)]
    pub resume_gateway_url: Option<String>,
}

/// Where to connect, and how often a new session may still be started.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GatewayBot {
    /// `wss://…`
    pub url: String,
    /// How often a new session may still be started.
    #[serde(default)]
    pub session_start_limit: Option<SessionStartLimit>,
}

/// How often a new session may still be started.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SessionStartLimit {
    /// How often.
    pub remaining: u64,
    /// Until it starts anew, milliseconds.
    #[serde(default)]
    pub reset_after: u64,
}

/// A person or a bot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its id.
    pub id: String,
    /// Its name, unique among accounts.
    #[serde(default)]
    pub username: String,
    /// The name that it shows.
    #[serde(default)]
    pub global_name: Option<String>,
    /// Whether it is a bot.
    #[serde(default)]
    pub bot: bool,
}

/// A person in a server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Member {
    /// The name that it shows in this server.
    #[serde(default)]
    pub nick: Option<String>,
    /// The account, where it is not given otherwise.
    #[serde(default)]
    pub user: Option<User>,
}

/// A file of a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Attachment {
    /// Its name.
    #[serde(default)]
    pub filename: String,
    /// Its media type.
    #[serde(default)]
    pub content_type: Option<String>,
    /// Bytes.
    #[serde(default)]
    pub size: Option<u64>,
    /// Where it can be downloaded by anyone, for some hours.
    pub url: String,
}

/// What a message answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MessageReference {
    /// The message.
    #[serde(default)]
    pub message_id: Option<String>,
}

/// A message, in whole or (in an update) in part.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// The channel or thread that it stands in.
    pub channel_id: String,
    /// The server; none in a direct message.
    #[serde(default)]
    pub guild_id: Option<String>,
    /// Who wrote it; missing in some updates.
    #[serde(default)]
    pub author: Option<User>,
    /// How the author is known in the server.
    #[serde(default)]
    pub member: Option<Member>,
    /// Text; missing in some updates.
    #[serde(default)]
    pub content: Option<String>,
    /// When it was changed last, ISO 8601.
    #[serde(default)]
    pub edited_timestamp: Option<String>,
    /// The persons that it names.
    #[serde(default)]
    pub mentions: Vec<User>,
    /// Files.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    /// What it answers.
    #[serde(default)]
    pub message_reference: Option<MessageReference>,
    /// The message that it answers, where Discord still has it.
    #[serde(default)]
    pub referenced_message: Option<Box<Self>>,
    /// 0 for a message, 19 for an answer; all others are notices of Discord's own.
    #[serde(rename = "type", default)]
    pub kind: u32,
    /// Present where a webhook wrote it.
    #[serde(default)]
    pub webhook_id: Option<String>,
}

/// A message that was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MessageDelete {
    /// Its id.
    pub id: String,
    /// Where it stood.
    pub channel_id: String,
    /// The server.
    #[serde(default)]
    pub guild_id: Option<String>,
}

/// A reaction that came or went.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReactionChange {
    /// Who reacted.
    pub user_id: String,
    /// Where the message stands.
    pub channel_id: String,
    /// To which message.
    pub message_id: String,
    /// The server.
    #[serde(default)]
    pub guild_id: Option<String>,
    /// Who reacted, in a server.
    #[serde(default)]
    pub member: Option<Member>,
    /// With what.
    pub emoji: Emoji,
}

/// An emoji: a character, or one of a server's own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Emoji {
    /// The id of a server's own.
    #[serde(default)]
    pub id: Option<String>,
    /// The character, or the name.
    #[serde(default)]
    pub name: Option<String>,
}

/// A channel or a thread.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Channel {
    /// What it is: 1 a direct conversation, 10 to 12 threads.
    #[serde(rename = "type", default)]
    pub kind: u32,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// The channel of a thread.
    #[serde(default)]
    pub parent_id: Option<String>,
}

/// What Discord says of a refused call.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct ErrorBody {
    /// Discord's own code; 0 where it has none.
    #[serde(default)]
    pub code: u32,
    /// Words.
    #[serde(default)]
    pub message: String,
    /// How long to wait, seconds with fractions.
    #[serde(default)]
    pub retry_after: Option<f64>,
    /// Whether the whole bot is to wait.
    #[serde(default)]
    pub global: bool,
}
