//! The Bot API's methods, as far as the fake has them, with Telegram's rules and words.

use serde_json::{Map, Value, json};

use crate::files::unique_id;
use crate::keyboard::reply_markup;
use crate::markup::{Parsed, parse_html};
use crate::params::{Params, Upload};
use crate::state::{Chat, ChatState, Message, State, text_of, unix_seconds};

/// The longest text, UTF-16 code units after entity parsing (core.telegram.org/bots/api#sendmessage).
const TEXT_UNITS_MAX: usize = 4096;
/// The longest caption, UTF-16 code units after entity parsing.
const CAPTION_UNITS_MAX: usize = 1024;
/// The reactions that any bot may use (core.telegram.org/bots/api#reactiontypeemoji).
const REACTIONS: &str = "❤ 👍 👎 🔥 🥰 👏 😁 🤔 🤯 😱 🤬 😢 🎉 🤩 🤮 💩 🙏 👌 🕊 🤡 🥱 🥴 😍 🐳 ❤‍🔥 🌚 🌭 💯 🤣 ⚡ 🍌 🏆 💔 🤨 😐 🍓 🍾 💋 🖕 😈 😴 \
    😭 🤓 👻 👨‍💻 👀 🎃 🙈 😇 😨 🤝 ✍ 🤗 🫡 🎅 🎄 ☃ 💅 🤪 🗿 🆒 💘 🙉 🦄 😘 💊 🙊 😎 👾 🤷‍♂ 🤷 🤷‍♀ 😡";

/// What the bot can be seen doing.
const ACTIONS: [&str; 11] = [
    "typing",
    "upload_photo",
    "record_video",
    "upload_video",
    "record_voice",
    "upload_voice",
    "upload_document",
    "choose_sticker",
    "find_location",
    "record_video_note",
    "upload_video_note",
];

/// An error in Telegram's envelope.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) code: u16,
    pub(crate) description: String,
    pub(crate) parameters: Option<Value>,
}

impl ApiError {
    pub(crate) fn new(code: u16, description: impl Into<String>) -> Self {
        Self {
            code,
            description: description.into(),
            parameters: None,
        }
    }
}

impl From<String> for ApiError {
    fn from(description: String) -> Self {
        Self::new(400, description)
    }
}

impl From<&str> for ApiError {
    fn from(description: &str) -> Self {
        Self::new(400, description)
    }
}

pub(crate) type Reply = Result<Value, ApiError>;

impl State {
    /// Carries out any method but `getUpdates`.
    pub(crate) fn perform(&mut self, method: &str, params: &Params) -> Reply {
        match method {
            "getMe" => Ok(self.me()),
            "setWebhook" => self.set_webhook(params),
            "deleteWebhook" => Ok(self.delete_webhook(params)),
            "getWebhookInfo" => Ok(self.webhook_info()),
            "sendMessage" => self.send_message(params),
            "sendPhoto" => self.send_file(params, "photo"),
            "sendDocument" => self.send_file(params, "document"),
            "editMessageText" => self.edit_message_text(params),
            "deleteMessage" => self.delete_message(params),
            "setMessageReaction" => self.set_message_reaction(params),
            "sendChatAction" => self.send_chat_action(params),
            "getFile" => Ok(self.get_file(&params.text("file_id").unwrap_or_default())?),
            "answerCallbackQuery" => self.answer_callback_query(params),
            _ => Err(ApiError::new(404, "Not Found")),
        }
    }

    fn send_message(&mut self, params: &Params) -> Reply {
        let chat = self.target_chat(params)?;
        let parsed = parsed_text(params, "text")?;
        if parsed.text.is_empty() {
            return Err("Bad Request: message text is empty".into());
        }
        if parsed.text.encode_utf16().count() > TEXT_UNITS_MAX {
            return Err("Bad Request: message is too long".into());
        }
        let mut message = self.outgoing(chat, params)?;
        message.insert("text".to_owned(), json!(parsed.text));
        if !parsed.entities.is_empty() {
            message.insert("entities".to_owned(), json!(parsed.entities));
        }
        Ok(self.store_outgoing(chat, message))
    }

    fn send_file(&mut self, params: &Params, kind: &str) -> Reply {
        let chat = self.target_chat(params)?;
        let caption = parsed_text(params, "caption")?;
        if caption.text.encode_utf16().count() > CAPTION_UNITS_MAX {
            return Err("Bad Request: message caption is too long".into());
        }
        let file = self.input_file(params, kind)?;
        let mut message = self.outgoing(chat, params)?;
        message.insert(kind.to_owned(), file);
        if !caption.text.is_empty() {
            message.insert("caption".to_owned(), json!(caption.text));
            message.insert("caption_entities".to_owned(), json!(caption.entities));
        }
        Ok(self.store_outgoing(chat, message))
    }

    /// Returns the sent file as the object of its kind, from an upload, a known `file_id` or a link.
    fn input_file(&mut self, params: &Params, kind: &str) -> Reply {
        let named = params.text(kind);
        let field = named
            .as_deref()
            .and_then(|named| named.strip_prefix("attach://"))
            .unwrap_or(kind);
        if let Some(upload) = params.files.iter().find(|file| file.field == field) {
            return self.uploaded(upload, kind);
        }
        let named = named.ok_or_else(|| format!("Bad Request: there is no {kind} in the request"))?;
        let is_link = named.starts_with("http://") || named.starts_with("https://");
        if !is_link && !self.files.contains_key(&named) {
            return Err("Bad Request: wrong remote file identifier specified: Wrong padding in the string".into());
        }
        let name = named.rsplit('/').next().unwrap_or("file").to_owned();
        let file_id = if is_link {
            self.add_file(&name, Vec::new())
        } else {
            named
        };
        Ok(file_object(kind, &file_id, &name, "application/octet-stream", 0))
    }

    fn uploaded(&mut self, upload: &Upload, kind: &str) -> Reply {
        if upload.bytes.is_empty() {
            return Err("Bad Request: file must be non-empty".into());
        }
        if kind == "photo" && !is_image(&upload.bytes) {
            return Err("Bad Request: IMAGE_PROCESS_FAILED".into());
        }
        let file_id = self.add_file(&upload.file_name, upload.bytes.clone());
        Ok(file_object(
            kind,
            &file_id,
            &upload.file_name,
            &upload.media_type,
            upload.bytes.len(),
        ))
    }

    fn edit_message_text(&mut self, params: &Params) -> Reply {
        let chat = self.target_chat(params)?;
        let parsed = parsed_text(params, "text")?;
        let markup = reply_markup(params)?;
        if parsed.text.is_empty() {
            return Err("Bad Request: message text is empty".into());
        }
        if parsed.text.encode_utf16().count() > TEXT_UNITS_MAX {
            return Err("Bad Request: MESSAGE_TOO_LONG".into());
        }
        let message_id = params
            .integer("message_id")
            .ok_or("Bad Request: message identifier is not specified")?;
        let found = self.messages.get_mut(&(chat, message_id));
        let message = found.ok_or("Bad Request: message to edit not found")?;
        if !message.by_bot {
            return Err("Bad Request: message can't be edited".into());
        }
        if message.value.get("text").is_none() {
            return Err("Bad Request: there is no text in the message to edit".into());
        }
        let entities = if parsed.entities.is_empty() {
            Value::Null
        } else {
            json!(parsed.entities)
        };
        let markup = markup.unwrap_or(Value::Null);
        let value = &mut message.value;
        if text_of(value) == parsed.text && value["entities"] == entities && value["reply_markup"] == markup {
            return Err(
                "Bad Request: message is not modified: specified new message content and reply markup are exactly \
                 the same as a current content and reply markup of the message"
                    .into(),
            );
        }
        value["text"] = json!(parsed.text);
        value["entities"] = entities;
        value["reply_markup"] = markup;
        value["edit_date"] = json!(unix_seconds());
        Ok(without_nulls(value))
    }

    fn delete_message(&mut self, params: &Params) -> Reply {
        let chat = self.target_chat(params)?;
        let message_id = params
            .integer("message_id")
            .ok_or("Bad Request: message identifier is not specified")?;
        let removed = self.messages.remove(&(chat, message_id));
        removed
            .map(|_| json!(true))
            .ok_or_else(|| "Bad Request: message to delete not found".into())
    }

    fn set_message_reaction(&mut self, params: &Params) -> Reply {
        let chat = self.target_chat(params)?;
        let message_id = params
            .integer("message_id")
            .ok_or("Bad Request: message identifier is not specified")?;
        let reactions = params.structure("reaction")?.unwrap_or_else(|| json!([]));
        let reactions = reactions
            .as_array()
            .ok_or("Bad Request: can't parse reaction types JSON object")?;
        if reactions.len() > 1 {
            return Err("Bad Request: REACTIONS_TOO_MANY".into());
        }
        for reaction in reactions {
            let emoji = reaction["emoji"].as_str().unwrap_or_default();
            if reaction["type"] != "emoji" || !REACTIONS.split(' ').any(|known| known == emoji && !emoji.is_empty()) {
                return Err("Bad Request: REACTION_INVALID".into());
            }
        }
        if !self.messages.contains_key(&(chat, message_id)) {
            return Err("Bad Request: message to react not found".into());
        }
        Ok(json!(true))
    }

    fn send_chat_action(&mut self, params: &Params) -> Reply {
        self.target_chat(params)?;
        let action = params.text("action").unwrap_or_default();
        if !ACTIONS.contains(&action.as_str()) {
            return Err("Bad Request: wrong parameter action in request".into());
        }
        Ok(json!(true))
    }

    fn answer_callback_query(&mut self, params: &Params) -> Reply {
        let query = params.text("callback_query_id").unwrap_or_default();
        if !self.open_queries.remove(&query) {
            return Err("Bad Request: query is too old and response timeout expired or query ID is invalid".into());
        }
        Ok(json!(true))
    }

    /// Returns the chat that a call is for, where the bot may act in it.
    fn target_chat(&self, params: &Params) -> Result<i64, ApiError> {
        let named = params
            .text("chat_id")
            .filter(|named| !named.is_empty())
            .ok_or("Bad Request: chat_id is empty")?;
        let id: i64 = named.parse().map_err(|_| "Bad Request: chat not found")?;
        let chat = self.chats.get(&id).ok_or("Bad Request: chat not found")?;
        match chat.state {
            ChatState::Open => Ok(id),
            ChatState::Blocked => Err(ApiError::new(403, "Forbidden: bot was blocked by the user")),
            ChatState::Kicked => Err(ApiError::new(403, "Forbidden: bot was kicked from the supergroup chat")),
            ChatState::Deactivated => Err(ApiError::new(403, "Forbidden: user is deactivated")),
            ChatState::MigratedTo(new) => Err(ApiError {
                code: 400,
                description: "Bad Request: group chat was upgraded to a supergroup chat".to_owned(),
                parameters: Some(json!({"migrate_to_chat_id": new})),
            }),
        }
    }

    /// Makes the fields that every message of the bot has.
    fn outgoing(&self, chat: i64, params: &Params) -> Result<Map<String, Value>, ApiError> {
        let known = self.chats.get(&chat).ok_or("Bad Request: chat not found")?;
        let mut message = Map::new();
        message.insert("date".to_owned(), json!(unix_seconds()));
        message.insert("chat".to_owned(), known.value.clone());
        message.insert("from".to_owned(), self.bot_user());
        if let Some(thread) = params.integer("message_thread_id") {
            check_topic(known, thread)?;
            message.insert("message_thread_id".to_owned(), json!(thread));
            message.insert("is_topic_message".to_owned(), json!(true));
        }
        if let Some(answered) = self.answered(chat, params)? {
            message.insert("reply_to_message".to_owned(), answered);
        }
        if let Some(markup) = reply_markup(params)? {
            message.insert("reply_markup".to_owned(), markup);
        }
        Ok(message)
    }

    /// Returns the message that a call replies to.
    fn answered(&self, chat: i64, params: &Params) -> Result<Option<Value>, ApiError> {
        let Some(reply) = params.structure("reply_parameters")? else {
            return Ok(None);
        };
        let message_id = reply["message_id"]
            .as_i64()
            .ok_or("Bad Request: can't parse reply parameters JSON object")?;
        match self.messages.get(&(chat, message_id)) {
            Some(message) => {
                let mut answered = message.value.clone();
                if let Some(fields) = answered.as_object_mut() {
                    // Telegram does not nest replies.
                    fields.remove("reply_to_message");
                }
                Ok(Some(without_nulls(&answered)))
            }
            None if reply["allow_sending_without_reply"] == true => Ok(None),
            None => Err("Bad Request: message to be replied not found".into()),
        }
    }

    fn store_outgoing(&mut self, chat: i64, mut message: Map<String, Value>) -> Value {
        let id = self.message_id();
        message.insert("message_id".to_owned(), json!(id));
        let value = Value::Object(message);
        self.messages.insert(
            (chat, id),
            Message {
                value: value.clone(),
                by_bot: true,
            },
        );
        value
    }
}

fn check_topic(chat: &Chat, thread: i64) -> Result<(), ApiError> {
    if chat.topics.contains(&thread) {
        Ok(())
    } else {
        Err("Bad Request: message thread not found".into())
    }
}

/// Returns a text parameter after entity parsing, trimmed as Telegram trims it.
fn parsed_text(params: &Params, name: &str) -> Result<Parsed, ApiError> {
    let source = params.text(name).unwrap_or_default();
    let mode = params.text("parse_mode").unwrap_or_default();
    let mut parsed = match mode.to_ascii_lowercase().as_str() {
        "" => Parsed {
            text: source,
            entities: explicit_entities(params, name)?,
        },
        "html" => parse_html(&source)?,
        // Telegram has Markdown too; the fake does not pretend to.
        _ => {
            return Err(ApiError::new(
                501,
                format!("Not Implemented: the fake has no parse_mode {mode}"),
            ));
        }
    };
    parsed.text = parsed.text.trim_end().to_owned();
    if parsed.entities.is_empty() {
        parsed.text = parsed.text.trim_start().to_owned();
    }
    Ok(parsed)
}

fn explicit_entities(params: &Params, name: &str) -> Result<Vec<Value>, ApiError> {
    let key = if name == "caption" {
        "caption_entities"
    } else {
        "entities"
    };
    let entities = params.structure(key)?.unwrap_or_else(|| json!([]));
    Ok(entities
        .as_array()
        .cloned()
        .ok_or("Bad Request: can't parse entities: expected an Array of MessageEntity")?)
}

/// Tells images by their first bytes, as the real server decodes photos.
fn is_image(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89PNG\r\n\x1a\n")
        || bytes.starts_with(b"\xff\xd8\xff")
        || (bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP"))
}

fn file_object(kind: &str, file_id: &str, name: &str, media_type: &str, size: usize) -> Value {
    let unique = unique_id(file_id);
    if kind == "photo" {
        return json!([{
            "file_id": file_id, "file_unique_id": unique, "file_size": size, "width": 640, "height": 480,
        }]);
    }
    json!({
        "file_id": file_id, "file_unique_id": unique, "file_size": size, "file_name": name, "mime_type": media_type,
    })
}

fn without_nulls(value: &Value) -> Value {
    let mut copy = value.clone();
    if let Some(fields) = copy.as_object_mut() {
        fields.retain(|_, field| !field.is_null());
    }
    copy
}
