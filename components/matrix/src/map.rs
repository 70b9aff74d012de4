//! Matrix's events as inbound messages. Pure: files are only named here, and other events come through [`Lookup`].

use std::collections::BTreeMap;

use sluicegate_sdk::serde_json::Value;
use sluicegate_sdk::{Conversation, ConversationKind, EventKind, InboundMessage, Sender};

use crate::wire::{Event, Me, Members};

/// The key in `extra` under which an inbound message carries `<event> <message> <sender>`, which are the event's id, the
/// id of the message that an answer refers to (another one where the event is an edit), and who wrote it.
pub const MESSAGE_KEY: &str = "matrix.message";
/// The key in the content of what this channel sends by which it is known as written by a program, also by other
/// gateways: two of them in one room would answer each other for ever.
pub const AUTOMATED_KEY: &str = "sluicegate.automated";
/// Members up to which names are kept; a larger room's would take memory for little.
const NAMED_MEMBERS_MAX: usize = 500;

/// A room, as far as its messages depend on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Room {
    /// Whether it is a conversation of one person with the account.
    pub is_direct: bool,
    /// Its name.
    pub title: Option<String>,
    /// Display names by user id.
    pub names: BTreeMap<String, String>,
}

/// An event, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapped {
    /// What happened.
    pub message: InboundMessage,
    /// The file that belongs to it, to be fetched before it is published.
    pub file: Option<WantedFile>,
}

/// A file that a person sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedFile {
    /// The server that has it.
    pub server: String,
    /// Its id there.
    pub id: String,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Its media type.
    pub media_type: String,
}

/// Finds an earlier event of the same room; none where it can't be seen.
pub trait Lookup {
    /// Why looking failed, where it may succeed a moment later.
    type Error;

    /// Returns the event.
    ///
    /// # Errors
    /// Where it is worth looking again.
    fn event(&mut self, id: &str) -> Result<Option<Event>, Self::Error>;
}

impl Room {
    /// Describes a room with these members.
    pub fn of(members: Members, title: Option<String>) -> Self {
        let is_direct = members.joined.len() <= 2;
        let names = if members.joined.len() > NAMED_MEMBERS_MAX {
            BTreeMap::new()
        } else {
            let members = members.joined.into_iter();
            members
                .filter_map(|(id, member)| Some((id, member.display_name?)))
                .collect()
        };
        Self {
            is_direct,
            title,
            names,
        }
    }

    fn conversation(&self, id: &str, thread: Option<String>) -> Conversation {
        Conversation {
            id: id.to_owned(),
            thread,
            kind: if self.is_direct {
                ConversationKind::Direct
            } else {
                ConversationKind::Group
            },
            title: self.title.clone(),
        }
    }
}

/// Reads an event of the room `id`; none where it does not concern an agent (our own, other programs', people joining …).
///
/// # Errors
/// Those of the lookup.
pub fn mapped<L: Lookup>(
    event: &Event,
    id: &str,
    room: &Room,
    me: &Me,
    lookup: &mut L,
) -> Result<Option<Mapped>, L::Error> {
    if event.sender == me.user_id || is_automated(&event.content) {
        return Ok(None);
    }
    let reader = Reader { event, id, room, me };
    match event.kind.as_str() {
        "m.room.message" if event.content["m.relates_to"]["rel_type"] == "m.replace" => reader.edit(lookup),
        "m.room.message" | "m.sticker" => reader.message(lookup),
        "m.reaction" => Ok(reader.reaction()),
        "m.room.redaction" => Ok(reader.redaction()),
        _ => Ok(None),
    }
}

/// Returns what a content says of itself: written by a program, and never to be answered by one.
fn is_automated(content: &Value) -> bool {
    content["msgtype"] == "m.notice"
        || content[AUTOMATED_KEY] == true
        || content["m.new_content"]["msgtype"] == "m.notice"
}

/// What one event is read with.
struct Reader<'a> {
    event: &'a Event,
    id: &'a str,
    room: &'a Room,
    me: &'a Me,
}

impl Reader<'_> {
    fn message<L: Lookup>(&self, lookup: &mut L) -> Result<Option<Mapped>, L::Error> {
        let content = &self.event.content;
        let Some(words) = Words::of(content) else {
            return Ok(None);
        };
        let (thread, reply) = (thread(content), reply(content));
        let addressed = self.room.is_direct
            || is_mentioned(content, self.me)
            || self.is_mine(reply.as_deref(), lookup)?
            || self.is_mine(thread.as_deref(), lookup)?;
        let inbound = InboundMessage {
            text: words.text,
            in_reply_to: reply,
            addressed,
            ..self.inbound(EventKind::Message, thread, &self.event.event_id)
        };
        Ok(Some(Mapped {
            message: inbound,
            file: words.file,
        }))
    }

    /// An edit names the message that it replaces; where that stood, only that message knows.
    fn edit<L: Lookup>(&self, lookup: &mut L) -> Result<Option<Mapped>, L::Error> {
        let content = &self.event.content["m.new_content"];
        let edited = self.event.content["m.relates_to"]["event_id"].as_str();
        let (Some(edited), Some(words)) = (edited, Words::of(content)) else {
            return Ok(None);
        };
        let original = lookup.event(edited)?;
        // Servers pass on edits of other people's messages, and clients ignore them.
        if original
            .as_ref()
            .is_some_and(|original| original.sender != self.event.sender)
        {
            return Ok(None);
        }
        let original = original.map(|original| original.content).unwrap_or_default();
        let (thread, reply) = (thread(&original), reply(&original));
        let addressed = self.room.is_direct
            || is_mentioned(content, self.me)
            || self.is_mine(reply.as_deref(), lookup)?
            || self.is_mine(thread.as_deref(), lookup)?;
        let inbound = InboundMessage {
            text: words.text,
            in_reply_to: Some(edited.to_owned()),
            addressed,
            ..self.inbound(EventKind::Edit, thread, edited)
        };
        Ok(Some(Mapped {
            message: inbound,
            file: None,
        }))
    }

    fn reaction(&self) -> Option<Mapped> {
        let relation = &self.event.content["m.relates_to"];
        let (reacted, key) = (relation["event_id"].as_str()?, relation["key"].as_str()?);
        let inbound = InboundMessage {
            in_reply_to: Some(reacted.to_owned()),
            value: Some(key.to_owned()),
            addressed: self.room.is_direct,
            ..self.inbound(EventKind::Reaction, None, reacted)
        };
        Some(Mapped {
            message: inbound,
            file: None,
        })
    }

    fn redaction(&self) -> Option<Mapped> {
        // Room versions from 11 on say it in the content.
        let redacted = self.event.content["redacts"]
            .as_str()
            .or(self.event.redacts.as_deref())?;
        let inbound = InboundMessage {
            in_reply_to: Some(redacted.to_owned()),
            addressed: self.room.is_direct,
            ..self.inbound(EventKind::Deletion, None, redacted)
        };
        Some(Mapped {
            message: inbound,
            file: None,
        })
    }

    fn inbound(&self, kind: EventKind, thread: Option<String>, message: &str) -> InboundMessage {
        let event = self.event;
        let sender = Sender {
            name: self.room.names.get(&event.sender).cloned(),
            ..Sender::person(&event.sender)
        };
        InboundMessage {
            kind,
            sent_at_ms: event.origin_server_ts.as_u64(),
            extra: vec![(
                MESSAGE_KEY.to_owned(),
                format!("{} {message} {}", event.event_id, event.sender),
            )],
            ..InboundMessage::text(&event.event_id, self.room.conversation(self.id, thread), sender, "")
        }
    }

    fn is_mine<L: Lookup>(&self, event: Option<&str>, lookup: &mut L) -> Result<bool, L::Error> {
        let Some(event) = event else { return Ok(false) };
        Ok(lookup
            .event(event)?
            .is_some_and(|event| event.sender == self.me.user_id))
    }
}

/// What a person said.
struct Words {
    text: String,
    file: Option<WantedFile>,
}

impl Words {
    /// None where a content says nothing.
    fn of(content: &Value) -> Option<Self> {
        let body = content["body"].as_str().unwrap_or_default();
        let file = wanted_file(content);
        let text = match content["msgtype"].as_str() {
            // What servers and clients say by themselves.
            Some("m.server_notice") => return None,
            Some(other) if other.starts_with("m.key.verification") => return None,
            Some("m.emote") => format!("* {body}"),
            Some("m.location") => with_place(body, content["geo_uri"].as_str()),
            // Beside a file, the body is its caption only where the name stands elsewhere.
            Some(_) if file.is_some() => match content["filename"].as_str() {
                Some(name) if name != body => body.to_owned(),
                _ => String::new(),
            },
            _ => without_fallback(body, content).to_owned(),
        };
        (!text.is_empty() || file.is_some()).then_some(Self { text, file })
    }
}

fn with_place(body: &str, place: Option<&str>) -> String {
    match place {
        Some(place) if body.is_empty() => place.to_owned(),
        Some(place) => format!("{body} ({place})"),
        None => body.to_owned(),
    }
}

/// Returns the body without the quotation that older clients put before a reply (removed from Matrix in 1.13).
fn without_fallback<'a>(body: &'a str, content: &Value) -> &'a str {
    if !content["m.relates_to"]["m.in_reply_to"].is_object() || !body.starts_with("> <") {
        return body;
    }
    let mut rest = body;
    while rest.starts_with("> ") {
        let Some((_, next)) = rest.split_once('\n') else {
            return body;
        };
        rest = next;
    }
    rest.strip_prefix('\n').unwrap_or(rest)
}

fn wanted_file(content: &Value) -> Option<WantedFile> {
    let fallback = match content["msgtype"].as_str() {
        Some("m.image") => "image/jpeg",
        Some("m.audio") => "audio/ogg",
        Some("m.video") => "video/mp4",
        Some("m.file") => "application/octet-stream",
        // A sticker has no such type: its words say more than its picture.
        _ => return None,
    };
    let (server, id) = content["url"].as_str()?.strip_prefix("mxc://")?.split_once('/')?;
    let name = content["filename"].as_str().or(content["body"].as_str());
    Some(WantedFile {
        server: server.to_owned(),
        id: id.to_owned(),
        name: name.map(str::to_owned).filter(|name| !name.is_empty()),
        media_type: content["info"]["mimetype"].as_str().unwrap_or(fallback).to_owned(),
    })
}

/// Returns the root of the thread that a content belongs to.
fn thread(content: &Value) -> Option<String> {
    let relation = &content["m.relates_to"];
    let is_thread = relation["rel_type"] == "m.thread";
    relation["event_id"].as_str().filter(|_| is_thread).map(str::to_owned)
}

/// Returns the message that a content answers. In a thread every message "answers" the one before it, for clients that
/// don't know threads.
fn reply(content: &Value) -> Option<String> {
    let relation = &content["m.relates_to"];
    let is_fallback = relation["rel_type"] == "m.thread" && relation["is_falling_back"] == true;
    relation["m.in_reply_to"]["event_id"]
        .as_str()
        .filter(|_| !is_fallback)
        .map(str::to_owned)
}

/// Says whether a content mentions the account: as `m.mentions` says, or, from clients older than that (Matrix 1.7), by
/// its id in the text or a link to it.
fn is_mentioned(content: &Value, me: &Me) -> bool {
    if let Some(users) = content["m.mentions"]["user_ids"].as_array() {
        return users.iter().any(|user| user == &me.user_id);
    }
    if content["m.mentions"].is_object() {
        return false;
    }
    let links_me = |text: &str| text.contains(&format!("matrix.to/#/{}", me.user_id));
    content["body"].as_str().is_some_and(|body| body.contains(&me.user_id))
        || content["formatted_body"].as_str().is_some_and(links_me)
}

#[cfg(test)]
mod tests;
