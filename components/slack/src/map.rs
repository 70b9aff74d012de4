//! Slack's events as inbound messages. Pure: files are only named here, and fetched elsewhere.

use sluicegate_sdk::serde_json::{self, Value};
use sluicegate_sdk::{Conversation, ConversationKind, EventKind, InboundMessage, Sender};

use crate::markup::to_plain;
use crate::wire::{File, Me, Message, Reaction};

/// The kinds of messages that a person (or a bot) writes; a message without a kind is one too. All others are notices.
const WRITTEN: [&str; 4] = ["file_share", "thread_broadcast", "me_message", "bot_message"];

/// An event, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapped {
    /// What happened.
    pub message: InboundMessage,
    /// Files that belong to it, to be fetched before it is published.
    pub files: Vec<File>,
}

/// How places become conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threading {
    /// Whether a message in a channel begins a thread of its own, which the answer goes into.
    pub answers_in_thread: bool,
}

/// Reads an event; none where nothing happened that concerns an agent.
///
/// # Errors
/// Where an event of a known type has not the form that Slack documents.
pub fn mapped(event: Value, me: &Me, threading: Threading) -> Result<Option<Mapped>, serde_json::Error> {
    match event["type"].as_str() {
        Some("message" | "app_mention") => Ok(from_message(&serde_json::from_value(event)?, me, threading)),
        Some(kind @ ("reaction_added" | "reaction_removed")) => {
            let is_added = kind == "reaction_added";
            Ok(from_reaction(&serde_json::from_value(event)?, is_added, me))
        }
        _ => Ok(None),
    }
}

fn from_message(event: &Message, me: &Me, threading: Threading) -> Option<Mapped> {
    let channel = event.channel.as_deref()?;
    match event.subtype.as_deref() {
        Some("message_changed") => {
            let changed = event.message.as_deref()?;
            // Slack also sends one when it has found out more about a link: nobody changed anything then.
            let edited = changed.edited.as_ref()?;
            let before = event.previous_message.as_ref().and_then(|before| before.text.as_ref());
            if before.is_some() && before == changed.text.as_ref() {
                return None;
            }
            let place = Place::of(channel, event, changed);
            let id = format!("{channel}/{}/edit/{}", changed.ts, edited.ts);
            written(changed, &place, EventKind::Edit, id, me, threading)
        }
        Some("message_deleted") => deleted(channel, event, me),
        Some(kind) if !WRITTEN.contains(&kind) => None,
        // One post can come as a `message` and as an `app_mention`: both have this id, so the second changes nothing.
        _ => {
            let id = format!("{channel}/{}", event.ts);
            written(
                event,
                &Place::of(channel, event, event),
                EventKind::Message,
                id,
                me,
                threading,
            )
        }
    }
}

/// Where a message stands.
struct Place<'a> {
    channel: &'a str,
    is_direct: bool,
    thread: Option<&'a str>,
    ts: &'a str,
}

impl<'a> Place<'a> {
    /// `event` names the channel, `message` the thread.
    fn of(channel: &'a str, event: &Message, message: &'a Message) -> Self {
        let by_kind = event.channel_type.as_deref().map(|kind| kind == "im");
        Self {
            channel,
            is_direct: by_kind.unwrap_or_else(|| channel.starts_with('D')),
            thread: message.thread_ts.as_deref(),
            ts: &message.ts,
        }
    }

    fn conversation(&self, threading: Threading) -> Conversation {
        let own = (threading.answers_in_thread && !self.is_direct).then_some(self.ts);
        Conversation {
            id: self.channel.to_owned(),
            thread: self.thread.or(own).map(str::to_owned),
            kind: if self.is_direct {
                ConversationKind::Direct
            } else {
                ConversationKind::Group
            },
            title: None,
        }
    }
}

fn written(
    message: &Message,
    place: &Place<'_>,
    kind: EventKind,
    id: String,
    me: &Me,
    threading: Threading,
) -> Option<Mapped> {
    let text = message.text.as_deref().unwrap_or_default();
    if message.ts.is_empty() || is_own(message, me) || (text.is_empty() && message.files.is_empty()) {
        return None;
    }
    // A message by a bot without a user is known by its bot.
    let author = message.user.as_ref().or(message.bot_id.as_ref())?;
    let answered = message.thread_ts.as_ref().filter(|thread| **thread != message.ts);
    let inbound = InboundMessage {
        kind,
        id,
        conversation: place.conversation(threading),
        sender: Sender {
            id: author.clone(),
            name: None,
            bot: message.bot_id.is_some() || message.subtype.as_deref() == Some("bot_message"),
        },
        text: to_plain(text, |user| (user == me.user_id).then(|| me.user.clone())),
        attachments: Vec::new(),
        in_reply_to: if kind == EventKind::Edit {
            Some(message.ts.clone())
        } else {
            answered.cloned()
        },
        value: None,
        sent_at_ms: sent_at_ms(&message.ts),
        addressed: place.is_direct || is_addressed(message, text, me),
        extra: Vec::new(),
    };
    Some(Mapped {
        message: inbound,
        files: message.files.clone(),
    })
}

fn is_own(message: &Message, me: &Me) -> bool {
    me.wrote(message.user.as_deref(), message.bot_id.as_deref())
}

/// Says whether a message in a channel is for the app: it names the app, or stands in a thread that the app began.
fn is_addressed(message: &Message, text: &str, me: &Me) -> bool {
    let names_us = text.contains(&format!("<@{}>", me.user_id)) || text.contains(&format!("<@{}|", me.user_id));
    message.kind == "app_mention" || names_us || message.parent_user_id.as_ref() == Some(&me.user_id)
}

fn deleted(channel: &str, event: &Message, me: &Me) -> Option<Mapped> {
    let ts = event.deleted_ts.as_deref()?;
    let before = event.previous_message.as_deref();
    if before.is_some_and(|before| is_own(before, me)) {
        return None;
    }
    let author = before
        .and_then(|before| before.user.clone())
        .unwrap_or_else(|| "unknown".to_owned());
    let place = Place::of(channel, event, before.unwrap_or(event));
    let conversation = place.conversation(Threading {
        answers_in_thread: false,
    });
    let inbound = InboundMessage {
        kind: EventKind::Deletion,
        in_reply_to: Some(ts.to_owned()),
        addressed: place.is_direct,
        ..InboundMessage::text(
            format!("{channel}/{ts}/deleted"),
            conversation,
            Sender::person(author),
            "",
        )
    };
    Some(Mapped {
        message: inbound,
        files: Vec::new(),
    })
}

fn from_reaction(event: &Reaction, is_added: bool, me: &Me) -> Option<Mapped> {
    let (channel, ts) = (event.item.channel.as_deref()?, event.item.ts.as_deref()?);
    if event.user == me.user_id {
        return None;
    }
    let is_direct = channel.starts_with('D');
    let conversation = if is_direct {
        Conversation::direct(channel)
    } else {
        Conversation::group(channel)
    };
    let id = format!("{channel}/{ts}/reaction/{}/{}", event.event_ts, event.user);
    let inbound = InboundMessage {
        kind: EventKind::Reaction,
        in_reply_to: Some(ts.to_owned()),
        // None says that a reaction was taken back.
        value: is_added.then(|| event.reaction.clone()),
        sent_at_ms: sent_at_ms(&event.event_ts),
        addressed: is_direct,
        ..InboundMessage::text(id, conversation, Sender::person(event.user.as_str()), "")
    };
    Some(Mapped {
        message: inbound,
        files: Vec::new(),
    })
}

/// A `ts` is a message's name, but it begins with its time in seconds.
fn sent_at_ms(ts: &str) -> Option<u64> {
    let (seconds, rest) = ts.split_once('.')?;
    let seconds: u64 = seconds.parse().ok()?;
    let millis: u64 = rest.get(..3).and_then(|digits| digits.parse().ok()).unwrap_or_default();
    Some(seconds.saturating_mul(1000).saturating_add(millis))
}

#[cfg(test)]
mod tests;
