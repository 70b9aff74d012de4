//! Telegram's updates as inbound messages. Pure: files are only named here, and fetched elsewhere.

use sluicegate_sdk::{Conversation, ConversationKind, EventKind, InboundMessage, Sender};

use crate::wire::{CallbackQuery, Chat, Entity, File, Message, MessageReaction, ReactionType, Update, User};

/// The key in `extra` under which an inbound message carries `<update id>:<message id>`.
///
/// Events are deduplicated by update, and answers are addressed to messages: this pair leads from one to the other.
pub const MESSAGE_KEY: &str = "telegram.message";

/// An update, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapped {
    /// What happened.
    pub message: InboundMessage,
    /// Files that belong to it, to be fetched before it is published.
    pub files: Vec<WantedFile>,
    /// The callback query to answer once it is published.
    pub query: Option<String>,
}

/// A file that a person sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedFile {
    /// What `getFile` takes.
    pub file_id: String,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Its media type.
    pub media_type: String,
    /// Bytes, as far as Telegram says.
    pub size: Option<u64>,
}

/// A group that has become a supergroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// The group's id.
    pub from: i64,
    /// The supergroup's id.
    pub to: i64,
}

/// Reads an update; none where nothing happened that concerns an agent (people joining, pinned messages …).
pub fn mapped(update: &Update, me: &User) -> Option<Mapped> {
    let id = update.update_id;
    if let Some(message) = &update.message {
        return from_message(id, message, me, EventKind::Message);
    }
    if let Some(message) = &update.edited_message {
        return from_message(id, message, me, EventKind::Edit);
    }
    if let Some(query) = &update.callback_query {
        return from_query(id, query);
    }
    update
        .message_reaction
        .as_ref()
        .map(|reaction| from_reaction(id, reaction))
}

/// Returns the migration that an update reports.
pub fn migration(update: &Update) -> Option<Migration> {
    let message = update.message.as_ref()?;
    Some(Migration {
        from: message.chat.id,
        to: message.migrate_to_chat_id?,
    })
}

/// Reads the bot's own account into the sender's words where it wrote a message itself, else the person's or chat's.
fn sender(from: Option<&User>, chat: Option<&Chat>) -> Sender {
    // A message that is written as a chat names a stand-in account in `from`.
    if let Some(chat) = chat {
        return Sender {
            id: chat.id.to_string(),
            name: title(chat),
            bot: false,
        };
    }
    match from {
        Some(user) => Sender {
            id: user.id.to_string(),
            name: Some(full_name(user)),
            bot: user.is_bot,
        },
        None => Sender {
            id: "0".to_owned(),
            name: None,
            bot: false,
        },
    }
}

fn full_name(user: &User) -> String {
    match &user.last_name {
        Some(last) => format!("{} {last}", user.first_name),
        None => user.first_name.clone(),
    }
}

fn title(chat: &Chat) -> Option<String> {
    chat.title
        .clone()
        .or_else(|| match (&chat.first_name, &chat.last_name) {
            (Some(first), Some(last)) => Some(format!("{first} {last}")),
            (first, last) => first.clone().or_else(|| last.clone()),
        })
}

fn conversation(chat: &Chat, thread: Option<i64>) -> Conversation {
    let kind = if chat.kind == "private" {
        ConversationKind::Direct
    } else {
        ConversationKind::Group
    };
    Conversation {
        id: chat.id.to_string(),
        thread: thread.map(|id| id.to_string()),
        kind,
        title: title(chat),
    }
}

/// The topic of a message; outside forums the field only groups replies.
fn topic(message: &Message) -> Option<i64> {
    message.message_thread_id.filter(|_| message.is_topic_message)
}

fn from_message(update_id: i64, message: &Message, me: &User, kind: EventKind) -> Option<Mapped> {
    let files = files(message);
    let text = text(message);
    if text.is_empty() && files.is_empty() {
        return None;
    }
    let answered = answered(message);
    let in_reply_to = match kind {
        EventKind::Edit => Some(message.message_id),
        _ => answered.map(|answered| answered.message_id),
    };
    let inbound = InboundMessage {
        kind,
        id: update_id.to_string(),
        conversation: conversation(&message.chat, topic(message)),
        sender: sender(message.from.as_ref(), message.sender_chat.as_ref()),
        text,
        attachments: Vec::new(),
        in_reply_to: in_reply_to.map(|id| id.to_string()),
        value: None,
        sent_at_ms: milliseconds(message.edit_date.unwrap_or(message.date)),
        addressed: is_addressed(message, me),
        extra: extra(update_id, message.message_id),
    };
    Some(Mapped {
        message: inbound,
        files,
        query: None,
    })
}

fn from_query(update_id: i64, query: &CallbackQuery) -> Option<Mapped> {
    // Buttons of inline messages belong to no chat that the bot is in, and games have no data.
    let (Some(message), Some(data)) = (&query.message, &query.data) else {
        return None;
    };
    let buttons = message
        .reply_markup
        .iter()
        .flat_map(|keyboard| keyboard.inline_keyboard.iter().flatten());
    let mut pressed = buttons.filter(|button| button.callback_data.as_ref() == Some(data));
    let label = pressed
        .next()
        .map_or_else(|| data.clone(), |button| button.text.clone());
    let inbound = InboundMessage {
        kind: EventKind::Choice,
        id: update_id.to_string(),
        conversation: conversation(&message.chat, topic(message)),
        sender: sender(Some(&query.from), None),
        text: label,
        attachments: Vec::new(),
        in_reply_to: Some(message.message_id.to_string()),
        value: Some(data.clone()),
        sent_at_ms: None,
        addressed: true,
        extra: extra(update_id, message.message_id),
    };
    Some(Mapped {
        message: inbound,
        files: Vec::new(),
        query: Some(query.id.clone()),
    })
}

fn from_reaction(update_id: i64, reaction: &MessageReaction) -> Mapped {
    let added = reaction
        .new_reaction
        .iter()
        .find(|new| !reaction.old_reaction.contains(new));
    let conversation = conversation(&reaction.chat, None);
    let inbound = InboundMessage {
        kind: EventKind::Reaction,
        id: update_id.to_string(),
        sender: sender(reaction.user.as_ref(), reaction.actor_chat.as_ref()),
        text: String::new(),
        attachments: Vec::new(),
        in_reply_to: Some(reaction.message_id.to_string()),
        // None says that a reaction was taken back.
        value: added.and_then(reaction_text),
        sent_at_ms: milliseconds(reaction.date),
        addressed: conversation.kind == ConversationKind::Direct,
        extra: extra(update_id, reaction.message_id),
        conversation,
    };
    Mapped {
        message: inbound,
        files: Vec::new(),
        query: None,
    }
}

fn reaction_text(reaction: &ReactionType) -> Option<String> {
    let custom = reaction.custom_emoji_id.as_ref().map(|id| format!("custom:{id}"));
    reaction.emoji.clone().or(custom)
}

fn extra(update_id: i64, message_id: i64) -> Vec<(String, String)> {
    vec![(MESSAGE_KEY.to_owned(), format!("{update_id}:{message_id}"))]
}

/// Telegram's dates are Unix seconds; 0 stands for an unknown one.
fn milliseconds(date: u64) -> Option<u64> {
    (date > 0).then(|| date.saturating_mul(1000))
}

/// Returns the text, the caption, or words for what has neither.
fn text(message: &Message) -> String {
    if let Some(text) = message.text.as_ref().or(message.caption.as_ref()) {
        return text.clone();
    }
    if let Some(emoji) = message.sticker.as_ref().and_then(|sticker| sticker.emoji.as_ref()) {
        return emoji.clone();
    }
    if let Some(location) = &message.location {
        return format!("geo:{},{}", location.latitude, location.longitude);
    }
    match &message.contact {
        Some(contact) => format!("{} {}", contact.first_name, contact.phone_number)
            .trim()
            .to_owned(),
        None => String::new(),
    }
}

/// Returns the message that this one answers. In a topic every message "replies" to the one that opened the topic.
fn answered(message: &Message) -> Option<&Message> {
    message
        .reply_to_message
        .as_deref()
        .filter(|answered| answered.forum_topic_created.is_none())
}

fn files(message: &Message) -> Vec<WantedFile> {
    let mut files = Vec::new();
    // The sizes of one photo: the last is the largest.
    files.extend(message.photo.last().map(|file| wanted(file, "image/jpeg")));
    if let Some(animation) = &message.animation {
        files.push(wanted(animation, "video/mp4"));
    } else if let Some(document) = &message.document {
        files.push(wanted(document, "application/octet-stream"));
    }
    files.extend(message.voice.as_ref().map(|file| wanted(file, "audio/ogg")));
    files.extend(message.audio.as_ref().map(|file| wanted(file, "audio/mpeg")));
    files.extend(message.video.as_ref().map(|file| wanted(file, "video/mp4")));
    files.extend(message.video_note.as_ref().map(|file| wanted(file, "video/mp4")));
    files
}

fn wanted(file: &File, media_type: &str) -> WantedFile {
    WantedFile {
        file_id: file.file_id.clone(),
        name: file.file_name.clone(),
        media_type: file.mime_type.clone().unwrap_or_else(|| media_type.to_owned()),
        size: file.file_size,
    }
}

/// Says whether a message is for the bot: in private, as an answer to it, by its name, or as a command.
fn is_addressed(message: &Message, me: &User) -> bool {
    if message.chat.kind == "private" {
        return true;
    }
    let by_me = |answered: &Message| answered.from.as_ref().is_some_and(|from| from.id == me.id);
    if answered(message).is_some_and(by_me) {
        return true;
    }
    let text = message
        .text
        .as_deref()
        .or(message.caption.as_deref())
        .unwrap_or_default();
    let entities = if message.text.is_some() {
        &message.entities
    } else {
        &message.caption_entities
    };
    entities.iter().any(|entity| addresses(entity, text, me))
}

fn addresses(entity: &Entity, text: &str, me: &User) -> bool {
    let username = me.username.as_deref().unwrap_or_default();
    let is_me = |name: &str| !username.is_empty() && name.eq_ignore_ascii_case(username);
    match entity.kind.as_str() {
        "mention" => entity_text(entity, text).strip_prefix('@').is_some_and(is_me),
        "text_mention" => entity.user.as_ref().is_some_and(|user| user.id == me.id),
        // `/help` is for every bot, `/help@other_bot` for one.
        "bot_command" if entity.offset == 0 => entity_text(entity, text)
            .split_once('@')
            .is_none_or(|(_, name)| is_me(name)),
        _ => false,
    }
}

/// Returns what an entity covers; empty where it lies outside the text.
fn entity_text(entity: &Entity, text: &str) -> String {
    let units: Vec<u16> = text.encode_utf16().skip(entity.offset).take(entity.length).collect();
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests;
