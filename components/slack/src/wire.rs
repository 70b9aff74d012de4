//! Slack's types, as far as this channel reads them (docs.slack.dev).
//!
//! Unknown fields are ignored and everything that may be missing is optional. A `ts` is text, never a number: it is a
//! message's name, and only looks like a time.

use serde::{Deserialize, Serialize};
use sluicegate_sdk::serde_json::Value;

/// A frame of Socket Mode.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Envelope {
    /// `hello`, `disconnect`, `events_api`, and kinds that are not asked for.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// What is sent back to say that the envelope was taken.
    #[serde(default)]
    pub envelope_id: Option<String>,
    /// What happened.
    #[serde(default)]
    pub payload: Value,
    /// Why Slack ends the connection.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What the Events API sends, in a webhook's body or an envelope.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Callback {
    /// `event_callback`, or `url_verification`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// What to answer a `url_verification` with.
    #[serde(default)]
    pub challenge: Option<String>,
    /// The event's own id.
    #[serde(default)]
    pub event_id: Option<String>,
    /// What happened.
    #[serde(default)]
    pub event: Value,
}

/// Who the app is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Me {
    /// Its user.
    pub user_id: String,
    /// The name of that user.
    #[serde(default)]
    pub user: String,
    /// Its bot.
    #[serde(default)]
    pub bot_id: Option<String>,
    /// The workspace's name.
    #[serde(default)]
    pub team: String,
}

impl Me {
    /// Returns whether a message with this user and bot is the app's own.
    pub fn wrote(&self, user: Option<&str>, bot_id: Option<&str>) -> bool {
        user == Some(&self.user_id) || (bot_id.is_some() && bot_id == self.bot_id.as_deref())
    }
}

/// When a message was changed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Edited {
    /// The name of the change.
    pub ts: String,
}

/// A file of a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct File {
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// Its media type.
    #[serde(default)]
    pub mimetype: Option<String>,
    /// Bytes.
    #[serde(default)]
    pub size: Option<u64>,
    /// Where it can be downloaded with the app's token.
    #[serde(default)]
    pub url_private_download: Option<String>,
    /// The same, for kinds of files without a download of their own.
    #[serde(default)]
    pub url_private: Option<String>,
}

/// `message` and `app_mention`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Message {
    /// The event's type.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// What kind of message it is; none for one that a person wrote.
    #[serde(default)]
    pub subtype: Option<String>,
    /// Where; missing in a message inside another event.
    #[serde(default)]
    pub channel: Option<String>,
    /// `im` for a direct conversation.
    #[serde(default)]
    pub channel_type: Option<String>,
    /// Who wrote it.
    #[serde(default)]
    pub user: Option<String>,
    /// There where a bot wrote it.
    #[serde(default)]
    pub bot_id: Option<String>,
    /// Text in Slack's form.
    #[serde(default)]
    pub text: Option<String>,
    /// The message's name.
    #[serde(default)]
    pub ts: String,
    /// The message that began the thread.
    #[serde(default)]
    pub thread_ts: Option<String>,
    /// Who began the thread.
    #[serde(default)]
    pub parent_user_id: Option<String>,
    /// Files.
    #[serde(default)]
    pub files: Vec<File>,
    /// There where a person changed it.
    #[serde(default)]
    pub edited: Option<Edited>,
    /// The changed message, in `message_changed`.
    #[serde(default)]
    pub message: Option<Box<Self>>,
    /// The message before, in `message_changed` and `message_deleted`.
    #[serde(default)]
    pub previous_message: Option<Box<Self>>,
    /// The deleted message, in `message_deleted`.
    #[serde(default)]
    pub deleted_ts: Option<String>,
}

/// A message in a list, as far as it matters who sent it and with which mark.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Marked {
    /// The message's name.
    pub ts: String,
    /// Who wrote it.
    #[serde(default)]
    pub user: Option<String>,
    /// There where a bot wrote it.
    #[serde(default)]
    pub bot_id: Option<String>,
    /// What the app put beside the text.
    #[serde(default)]
    pub metadata: Option<Metadata>,
    /// The files that it shares.
    #[serde(default)]
    pub files: Vec<SharedFile>,
}

impl Marked {
    /// Returns whether the app itself wrote it.
    pub fn is_by(&self, me: &Me) -> bool {
        me.wrote(self.user.as_deref(), self.bot_id.as_deref())
    }
}

/// A file that a message shares, as far as it matters which.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct SharedFile {
    /// Slack's id of it.
    pub id: String,
}

/// What an app puts beside a message's text, for apps only.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Metadata {
    /// What kind of thing it is.
    pub event_type: String,
    /// The thing.
    #[serde(default)]
    pub event_payload: Value,
}

/// `reaction_added` and `reaction_removed`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Reaction {
    /// Who reacted.
    pub user: String,
    /// The emoji's name.
    pub reaction: String,
    /// To what.
    pub item: ReactionItem,
    /// The event's own time.
    #[serde(default)]
    pub event_ts: String,
}

/// What somebody reacted to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReactionItem {
    /// Where; missing for a file.
    #[serde(default)]
    pub channel: Option<String>,
    /// The message.
    #[serde(default)]
    pub ts: Option<String>,
}
