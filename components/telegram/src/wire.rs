//! Telegram's types, as far as this channel reads them (core.telegram.org/bots/api).
//!
//! Unknown fields are ignored and everything that a server may leave out is optional: self-hosted servers differ.

use serde::Deserialize;
use sluicegate_sdk::serde_json::{Number, Value};

/// The envelope of every answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Envelope {
    /// Whether `result` holds.
    pub ok: bool,
    /// The method's result.
    #[serde(default)]
    pub result: Value,
    /// HTTP's status, mostly.
    #[serde(default)]
    pub error_code: Option<u16>,
    /// Words such as `Bad Request: chat not found`.
    #[serde(default)]
    pub description: Option<String>,
    /// What to do about the error.
    #[serde(default)]
    pub parameters: Option<Parameters>,
}

/// What to do about an error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Parameters {
    /// Seconds to wait.
    #[serde(default)]
    pub retry_after: Option<u64>,
    /// The supergroup that the group became.
    #[serde(default)]
    pub migrate_to_chat_id: Option<i64>,
}

/// What happened, in exactly one of the fields after the id.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Update {
    /// Grows by one with each update of the bot.
    pub update_id: i64,
    /// A new message.
    #[serde(default)]
    pub message: Option<Box<Message>>,
    /// A message that was changed.
    #[serde(default)]
    pub edited_message: Option<Box<Message>>,
    /// A pressed button.
    #[serde(default)]
    pub callback_query: Option<Box<CallbackQuery>>,
    /// A changed reaction.
    #[serde(default)]
    pub message_reaction: Option<Box<MessageReaction>>,
}

/// A person or a bot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct User {
    /// Its stable id.
    pub id: i64,
    /// Whether it is a bot.
    #[serde(default)]
    pub is_bot: bool,
    /// Display name.
    #[serde(default)]
    pub first_name: String,
    /// The rest of the display name.
    #[serde(default)]
    pub last_name: Option<String>,
    /// What stands after `@`.
    #[serde(default)]
    pub username: Option<String>,
}

/// A chat, or an account that writes as a chat.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Chat {
    /// Its stable id, negative for groups.
    pub id: i64,
    /// `private`, `group`, `supergroup` or `channel`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The title of a group.
    #[serde(default)]
    pub title: Option<String>,
    /// The name of the person in a private chat.
    #[serde(default)]
    pub first_name: Option<String>,
    /// The rest of that name.
    #[serde(default)]
    pub last_name: Option<String>,
}

/// A piece of a text with a meaning; offsets count UTF-16 code units.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entity {
    /// `mention`, `bot_command`, `text_mention` …
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it starts.
    pub offset: usize,
    /// How long it is.
    pub length: usize,
    /// The mentioned person who has no username.
    #[serde(default)]
    pub user: Option<User>,
}

/// What Telegram says of the bot's webhook.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct WebhookInfo {
    /// The address that it calls; empty where there is none.
    #[serde(default)]
    pub url: String,
}

/// A file of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct File {
    /// What `getFile` takes.
    pub file_id: String,
    /// Its name, for documents, audio and video.
    #[serde(default)]
    pub file_name: Option<String>,
    /// Its media type.
    #[serde(default)]
    pub mime_type: Option<String>,
    /// Bytes.
    #[serde(default)]
    pub file_size: Option<u64>,
    /// Where it can be downloaded, in the answer of `getFile`.
    #[serde(default)]
    pub file_path: Option<String>,
}

/// A sticker.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Sticker {
    /// What it stands for.
    #[serde(default)]
    pub emoji: Option<String>,
}

/// A point on the map.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Location {
    /// Degrees north.
    pub latitude: Number,
    /// Degrees east.
    pub longitude: Number,
}

/// A shared contact.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Contact {
    /// Telephone number.
    pub phone_number: String,
    /// Name.
    #[serde(default)]
    pub first_name: String,
}

/// A message. Which of the optional fields is there says what kind of message it is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Message {
    /// Unique within the chat.
    pub message_id: i64,
    /// The topic, in forums.
    #[serde(default)]
    pub message_thread_id: Option<i64>,
    /// Whether `message_thread_id` is a topic; else it only groups replies.
    #[serde(default)]
    pub is_topic_message: bool,
    /// Who wrote it.
    #[serde(default)]
    pub from: Option<User>,
    /// The chat that it was written as: anonymous administrators, channels.
    #[serde(default)]
    pub sender_chat: Option<Chat>,
    /// Unix seconds; 0 in a message that the bot can no longer see.
    #[serde(default)]
    pub date: u64,
    /// When it was changed last, Unix seconds.
    #[serde(default)]
    pub edit_date: Option<u64>,
    /// Where.
    pub chat: Chat,
    /// The message that it answers.
    #[serde(default)]
    pub reply_to_message: Option<Box<Self>>,
    /// There in the first message of a topic, to which every message of the topic "replies".
    #[serde(default)]
    pub forum_topic_created: Option<Value>,
    /// Text.
    #[serde(default)]
    pub text: Option<String>,
    /// What the text contains.
    #[serde(default)]
    pub entities: Vec<Entity>,
    /// Text under a file.
    #[serde(default)]
    pub caption: Option<String>,
    /// What the caption contains.
    #[serde(default)]
    pub caption_entities: Vec<Entity>,
    /// A photo in several sizes.
    #[serde(default)]
    pub photo: Vec<File>,
    /// Any file.
    #[serde(default)]
    pub document: Option<File>,
    /// A silent video; `document` repeats it.
    #[serde(default)]
    pub animation: Option<File>,
    /// A voice note.
    #[serde(default)]
    pub voice: Option<File>,
    /// Music.
    #[serde(default)]
    pub audio: Option<File>,
    /// A video.
    #[serde(default)]
    pub video: Option<File>,
    /// A round video.
    #[serde(default)]
    pub video_note: Option<File>,
    /// A sticker.
    #[serde(default)]
    pub sticker: Option<Sticker>,
    /// A place.
    #[serde(default)]
    pub location: Option<Location>,
    /// A contact.
    #[serde(default)]
    pub contact: Option<Contact>,
    /// The supergroup that this group has become.
    #[serde(default)]
    pub migrate_to_chat_id: Option<i64>,
    /// The buttons under it.
    #[serde(default)]
    pub reply_markup: Option<Keyboard>,
}

/// Buttons under a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Keyboard {
    /// Rows of buttons.
    #[serde(default)]
    pub inline_keyboard: Vec<Vec<Button>>,
}

/// A button.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Button {
    /// What the person sees.
    pub text: String,
    /// What comes back when it is pressed.
    #[serde(default)]
    pub callback_data: Option<String>,
}

/// A pressed button.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct CallbackQuery {
    /// What `answerCallbackQuery` takes.
    pub id: String,
    /// Who pressed it.
    pub from: User,
    /// The message with the button.
    #[serde(default)]
    pub message: Option<Message>,
    /// The button's data.
    #[serde(default)]
    pub data: Option<String>,
}

/// A changed reaction.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MessageReaction {
    /// Where.
    pub chat: Chat,
    /// To which message.
    pub message_id: i64,
    /// Who reacted.
    #[serde(default)]
    pub user: Option<User>,
    /// The chat that reacted, in place of a person.
    #[serde(default)]
    pub actor_chat: Option<Chat>,
    /// Unix seconds.
    #[serde(default)]
    pub date: u64,
    /// The reactions before.
    #[serde(default)]
    pub old_reaction: Vec<ReactionType>,
    /// The reactions now.
    #[serde(default)]
    pub new_reaction: Vec<ReactionType>,
}

/// A reaction: an emoji, or one of Telegram's own by its id.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReactionType {
    /// The emoji.
    #[serde(default)]
    pub emoji: Option<String>,
    /// The id of a custom one.
    #[serde(default)]
    pub custom_emoji_id: Option<String>,
}
