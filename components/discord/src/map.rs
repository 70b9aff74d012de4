//! Discord's events as inbound messages. Pure: files and channels are only named here, and looked up elsewhere.

use sluicegate_sdk::{Conversation, ConversationKind, EventKind, InboundMessage, Sender};

use crate::wire::{Attachment, Channel, Member, Message, MessageDelete, ReactionChange, User};

/// The kinds of messages that a person writes: a message, an answer.
const WRITTEN: [u32; 2] = [0, 19];
/// Discord's epoch, Unix milliseconds: snowflakes count from here.
const EPOCH_MS: u64 = 1_420_070_400_000;
/// The bits of a snowflake below its time.
const SNOWFLAKE_TIME_SHIFT: u32 = 22;
/// The kinds of channels that are threads.
const THREADS: [u32; 3] = [10, 11, 12];

/// A message, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapped {
    /// What happened.
    pub message: InboundMessage,
    /// Files that belong to it, to be fetched before it is published.
    pub files: Vec<Attachment>,
}

/// What has no files.
impl From<InboundMessage> for Mapped {
    fn from(message: InboundMessage) -> Self {
        Self {
            message,
            files: Vec::new(),
        }
    }
}

/// A place as an event names it: the channel (or thread) and whether it is in a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The channel or thread.
    pub channel: &'a str,
    /// Whether it is in a server: else it is a direct conversation.
    pub in_guild: bool,
}

impl Place<'_> {
    /// Returns the conversation. `known` is what Discord says of the channel, where it was asked.
    pub fn conversation(self, known: Option<&Channel>) -> Conversation {
        if !self.in_guild {
            return Conversation::direct(self.channel);
        }
        let parent = known
            .filter(|channel| THREADS.contains(&channel.kind))
            .and_then(|channel| channel.parent_id.clone());
        let title = known.and_then(|channel| channel.name.clone());
        match parent {
            Some(parent) => Conversation {
                id: parent,
                thread: Some(self.channel.to_owned()),
                kind: ConversationKind::Group,
                title,
            },
            None => Conversation {
                title,
                ..Conversation::group(self.channel)
            },
        }
    }
}

/// Returns where a message stands.
pub fn place_of(message: &Message) -> Place<'_> {
    Place {
        channel: &message.channel_id,
        in_guild: message.guild_id.is_some(),
    }
}

/// Reads a new message; none where it is the bot's own, a notice of Discord's, or empty.
pub fn created(message: &Message, conversation: Conversation, me: &User) -> Option<Mapped> {
    mapped(message, conversation, me, EventKind::Message, message.id.clone())
}

/// Reads a changed message. Discord also sends one when it has found out more about a link: nobody changed anything then.
pub fn updated(message: &Message, conversation: Conversation, me: &User) -> Option<Mapped> {
    let edited = message.edited_timestamp.as_ref()?;
    mapped(
        message,
        conversation,
        me,
        EventKind::Edit,
        format!("{}/edit/{edited}", message.id),
    )
}

fn mapped(message: &Message, conversation: Conversation, me: &User, kind: EventKind, id: String) -> Option<Mapped> {
    let author = message.author.as_ref().filter(|author| author.id != me.id)?;
    let text = message.content.as_deref().unwrap_or_default();
    if !WRITTEN.contains(&message.kind) || (text.is_empty() && message.attachments.is_empty()) {
        return None;
    }
    let answered = message
        .message_reference
        .as_ref()
        .and_then(|reference| reference.message_id.clone());
    let nick = message.member.as_ref().and_then(|member| member.nick.clone());
    let inbound = InboundMessage {
        kind,
        id,
        sender: Sender {
            id: author.id.clone(),
            name: nick.or_else(|| shown_name(author)),
            bot: author.bot || message.webhook_id.is_some(),
        },
        text: with_names(text, &message.mentions),
        attachments: Vec::new(),
        in_reply_to: if kind == EventKind::Edit {
            Some(message.id.clone())
        } else {
            answered
        },
        value: None,
        sent_at_ms: sent_at_ms(&message.id),
        addressed: conversation.kind == ConversationKind::Direct || is_addressed(message, me),
        extra: Vec::new(),
        conversation,
    };
    Some(Mapped {
        message: inbound,
        files: message.attachments.clone(),
    })
}

/// Says whether a message in a server is for the bot: it names the bot, or answers it.
fn is_addressed(message: &Message, me: &User) -> bool {
    let answered = message
        .referenced_message
        .as_ref()
        .and_then(|answered| answered.author.as_ref());
    message.mentions.iter().any(|user| user.id == me.id) || answered.is_some_and(|author| author.id == me.id)
}

/// Reads a deletion.
pub fn deleted(deletion: &MessageDelete, conversation: Conversation) -> InboundMessage {
    InboundMessage {
        kind: EventKind::Deletion,
        in_reply_to: Some(deletion.id.clone()),
        addressed: conversation.kind == ConversationKind::Direct,
        // Discord does not say who deleted it.
        ..InboundMessage::text(
            format!("{}/deleted", deletion.id),
            conversation,
            Sender::person("0"),
            "",
        )
    }
}

/// Reads a reaction that came or went; none where it is the bot's own. `event` names the event within the bot's life:
/// the same when it is sent again.
pub fn reacted(
    change: &ReactionChange,
    is_added: bool,
    event: &str,
    conversation: Conversation,
    me: &User,
) -> Option<InboundMessage> {
    if change.user_id == me.id {
        return None;
    }
    let user = change.member.as_ref().and_then(|member| member.user.as_ref());
    let sender = Sender {
        id: change.user_id.clone(),
        name: change.member.as_ref().and_then(member_name),
        bot: user.is_some_and(|user| user.bot),
    };
    let emoji = match (&change.emoji.id, &change.emoji.name) {
        (Some(id), Some(name)) => Some(format!("{name}:{id}")),
        (Some(id), None) => Some(format!("emoji:{id}")),
        (None, name) => name.clone(),
    };
    Some(InboundMessage {
        kind: EventKind::Reaction,
        in_reply_to: Some(change.message_id.clone()),
        // None says that a reaction was taken back.
        value: emoji.filter(|_| is_added),
        addressed: conversation.kind == ConversationKind::Direct,
        ..InboundMessage::text(
            format!("{}/reaction/{event}", change.message_id),
            conversation,
            sender,
            "",
        )
    })
}

fn member_name(member: &Member) -> Option<String> {
    member
        .nick
        .clone()
        .or_else(|| member.user.as_ref().and_then(shown_name))
}

fn shown_name(user: &User) -> Option<String> {
    let name = user.global_name.clone().unwrap_or_else(|| user.username.clone());
    Some(name).filter(|name| !name.is_empty())
}

/// Writes the names of persons in place of their numbers: `<@12>` says nothing to an agent.
fn with_names(text: &str, mentions: &[User]) -> String {
    let mut text = text.to_owned();
    for user in mentions.iter().filter(|user| !user.username.is_empty()) {
        for form in [format!("<@{}>", user.id), format!("<@!{}>", user.id)] {
            if text.contains(&form) {
                text = text.replace(&form, &format!("@{}", user.username));
            }
        }
    }
    text
}

/// Returns when a snowflake was made.
fn sent_at_ms(id: &str) -> Option<u64> {
    let number: u64 = id.parse().ok()?;
    Some((number >> SNOWFLAKE_TIME_SHIFT) + EPOCH_MS)
}

#[cfg(test)]
mod tests;
