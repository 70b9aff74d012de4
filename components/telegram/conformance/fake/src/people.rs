//! What people do: they write, edit, press buttons, react.

use std::fmt;

use serde_json::{Value, json};

use crate::state::{Message, State, unix_seconds};

/// Why a person could not do that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl State {
    /// Queues an update, whatever its form.
    pub(crate) fn push_update(&mut self, mut update: Value) -> i64 {
        let id = self.next_update_id;
        self.next_update_id += 1;
        update["update_id"] = json!(id);
        self.pending.push_back(update);
        id
    }

    /// Queues a text with the entities that Telegram would find in it.
    pub(crate) fn say(&mut self, chat: i64, user: i64, text: &str) -> i64 {
        let entities = entities_of(text);
        let mut fields = json!({"text": text});
        if !entities.is_empty() {
            fields["entities"] = json!(entities);
        }
        self.push_message(chat, user, fields)
    }

    /// Queues a message.
    pub(crate) fn push_message(&mut self, chat: i64, user: i64, fields: Value) -> i64 {
        let message_id = self.message_id();
        let mut message = json!({
            "message_id": message_id, "date": unix_seconds(), "chat": self.chat_mut(chat).value, "from": person(user),
        });
        if let (Value::Object(message), Value::Object(fields)) = (&mut message, fields) {
            message.extend(fields);
        }
        let stored_id = message["message_id"].as_i64().unwrap_or(message_id);
        self.messages.insert(
            (chat, stored_id),
            Message {
                value: message.clone(),
                by_bot: false,
            },
        );
        self.push_update(json!({"message": message}))
    }

    /// Changes a person's message.
    pub(crate) fn edit_by_person(&mut self, chat: i64, message_id: i64, text: &str) -> Result<i64, Failure> {
        let found = self
            .messages
            .get_mut(&(chat, message_id))
            .filter(|message| !message.by_bot);
        let message = found.ok_or_else(|| Failure(format!("no person wrote message {message_id} in chat {chat}")))?;
        message.value["text"] = json!(text);
        message.value["edit_date"] = json!(unix_seconds());
        let edited = message.value.clone();
        Ok(self.push_update(json!({"edited_message": edited})))
    }

    /// Presses a button that the bot offered.
    pub(crate) fn press(&mut self, chat: i64, user: i64, message_id: i64, data: &str) -> Result<i64, Failure> {
        let message = self
            .messages
            .get(&(chat, message_id))
            .map(|message| message.value.clone());
        let message = message.ok_or_else(|| Failure(format!("no message {message_id} in chat {chat}")))?;
        let rows = message["reply_markup"]["inline_keyboard"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let mut buttons = rows.iter().filter_map(Value::as_array).flatten();
        if !buttons.any(|button| button["callback_data"] == data) {
            return Err(Failure(format!(
                "message {message_id} has no button with the data {data:?}"
            )));
        }
        let query = format!("{}", 43_000_000_000 + self.next_update_id);
        self.open_queries.insert(query.clone());
        Ok(self.push_update(json!({"callback_query": {
            "id": query, "from": person(user), "message": message, "chat_instance": "-3719283746", "data": data,
        }})))
    }

    /// Reacts to a message.
    pub(crate) fn react(&mut self, chat: i64, user: i64, message_id: i64, emoji: Option<&str>) -> i64 {
        let new: Vec<Value> = emoji
            .iter()
            .map(|emoji| json!({"type": "emoji", "emoji": emoji}))
            .collect();
        let chat = self.chat_mut(chat).value.clone();
        self.push_update(json!({"message_reaction": {
            "chat": chat, "message_id": message_id, "user": person(user), "date": unix_seconds(),
            "old_reaction": [], "new_reaction": new,
        }}))
    }
}

/// Returns a person as a User object.
fn person(id: i64) -> Value {
    json!({
        "id": id, "is_bot": false, "first_name": format!("Person {id}"), "username": format!("person{id}"),
        "language_code": "en",
    })
}

/// Finds commands at the start of words and mentions; offsets are UTF-16 code units.
fn entities_of(text: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut offset = 0;
    for word in text.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end_matches(|c: char| c.is_whitespace() || matches!(c, ',' | '.' | '!' | '?' | ':'));
        let kind = match bare.as_bytes() {
            [b'/', second, ..] if second.is_ascii_alphabetic() => Some("bot_command"),
            [b'@', second, ..] if second.is_ascii_alphabetic() => Some("mention"),
            _ => None,
        };
        if let Some(kind) = kind {
            found.push(json!({"type": kind, "offset": offset, "length": bare.encode_utf16().count()}));
        }
        offset += word.encode_utf16().count();
    }
    found
}
