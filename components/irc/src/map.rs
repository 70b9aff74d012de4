//! Between lines of IRC and messages of ours. Pure.

use serde::{Deserialize, Serialize};
use sluicegate_sdk::{
    Attachment, AttachmentSource, Conversation, DeliveryError, InboundMessage, OutboundMessage, Sender, text,
};

use crate::markup;
use crate::wire::{CaseMapping, LINE_BYTES_MAX, Line, parse_time};

/// The longest nick of ours, bytes. Chosen because no network is known to allow more than 30 or so.
pub const NICK_BYTES_MAX: usize = 30;
/// What others see before a line of ours at most: `:nick!user@host `, with a user name of 10 and its `~`, and a host of 63
/// (modern.ircdocs.horse: "servers MUST NOT have longer hostnames"). A constant, not what the server shows now: the lines
/// of a delivery must be the same ones in its next attempt.
const PREFIX_BYTES_MAX: usize = 1 + NICK_BYTES_MAX + 1 + 11 + 1 + 63 + 1;
/// The shortest text that a line has room for, bytes, whatever its target.
const TEXT_BYTES_MIN: usize = 64;
/// What a CTCP message is wrapped in (modern.ircdocs.horse/ctcp).
const CTCP: char = '\u{1}';

/// One line to send, as a delivery hands it to the listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// A channel or a nick.
    pub target: String,
    /// Without a line's end.
    pub text: String,
}

/// What became of an [`Order`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The server has taken it; its id for it, or ours.
    Sent(String),
    /// The server asked to wait, milliseconds.
    Slow(u64),
    /// Nobody of that name, or nobody may write there.
    Gone(String),
    /// The server will never take it.
    Rejected(String),
    /// Nothing was written: there is no session with the server at present.
    NotWritten(String),
}

impl Answer {
    /// Returns the message's id.
    ///
    /// # Errors
    /// What the host is told.
    pub fn into_result(self) -> Result<String, DeliveryError> {
        match self {
            Self::Sent(id) => Ok(id),
            Self::Slow(wait_ms) => Err(DeliveryError::slow_channel(wait_ms)),
            Self::Gone(why) => Err(DeliveryError::NoSuchConversation(why)),
            Self::Rejected(why) => Err(DeliveryError::Rejected(why)),
            Self::NotWritten(why) => Err(DeliveryError::Unavailable(why)),
        }
    }

    /// Reads a numeric reply that refuses what was sent (modern.ircdocs.horse, "Numerics"); none for any other reply.
    pub fn from_numeric(line: &Line) -> Option<Self> {
        let words = || format!("the server says {} {}", line.command, line.last());
        match line.command.as_str() {
            // No such nick, channel or server; can't send to the channel; not on it; only for the registered.
            "401" | "402" | "403" | "404" | "442" | "477" | "482" | "489" | "531" | "716" => Some(Self::Gone(words())),
            // Too many targets; no text; no or wrong top-level domain; too long; unknown; filtered.
            "407" | "411" | "412" | "413" | "414" | "415" | "417" | "421" | "461" | "481" | "708" => {
                Some(Self::Rejected(words()))
            }
            // Try again; the target changes too fast.
            "263" | "439" => Some(Self::Slow(SLOW_MS)),
            _ => None,
        }
    }
}

/// How long a server that says "too fast" is left alone, milliseconds: none says how long it wants.
const SLOW_MS: u64 = 30_000;

/// Returns the lines of a message to `target`, of which none is cut on its way.
pub fn lines(message: &OutboundMessage) -> Vec<String> {
    let target = message.conversation.id.as_str();
    let around = PREFIX_BYTES_MAX + "PRIVMSG ".len() + target.len() + " :".len() + "\r\n".len();
    let bytes_max = LINE_BYTES_MAX.saturating_sub(around).max(TEXT_BYTES_MIN);
    let mut markdown = text::with_numbered(&message.text, &message.choices);
    for attachment in &message.attachments {
        markdown.push_str("\n\n");
        markdown.push_str(&attachment_words(attachment));
    }
    markup::to_lines(&markdown, bytes_max)
}

fn attachment_words(attachment: &Attachment) -> String {
    let name = attachment.name.as_deref().unwrap_or("file");
    match &attachment.source {
        AttachmentSource::Url(url) => format!("{name}: {url}"),
        AttachmentSource::Blob(_) => format!("({name} can't be sent here: IRC takes no files)"),
    }
}

/// What is known of the server and of us, as far as messages need it.
#[derive(Debug, Clone)]
pub struct Place {
    /// Our present nick.
    pub nick: String,
    /// How names are compared.
    pub casemapping: CaseMapping,
    /// What channel names begin with (`CHANTYPES`).
    pub channel_types: String,
    /// What may stand before a channel's name, for those with a rank there (`STATUSMSG`).
    pub status_prefixes: String,
    /// Whether messages carry the account of their sender (`account-tag`).
    pub has_accounts: bool,
}

impl Place {
    /// Whether a name is ours.
    pub fn is_me(&self, nick: &str) -> bool {
        self.casemapping.lower(nick) == self.casemapping.lower(&self.nick)
    }

    /// Returns the channel in a target; none for a nick.
    fn channel<'t>(&self, target: &'t str) -> Option<&'t str> {
        let bare = target.trim_start_matches(|c| self.status_prefixes.contains(c));
        bare.starts_with(|c| self.channel_types.contains(c)).then_some(bare)
    }

    /// Returns the id of the conversation that a name means.
    pub fn conversation_id(&self, name: &str) -> String {
        self.casemapping.lower(name)
    }
}

/// Maps what somebody wrote. None for what is no message of a person to us: notices (which must never be answered), our
/// own echo, CTCP questions, servers' words. `fallback_id` is the id where the server gives none.
pub fn inbound(line: &Line, place: &Place, fallback_id: &str) -> Option<InboundMessage> {
    if line.command != "PRIVMSG" || line.params.len() < 2 || line.nick().is_empty() || place.is_me(line.nick()) {
        return None;
    }
    let nick = line.nick();
    let (words, is_action) = plain_text(line.last())?;
    let conversation = match place.channel(line.param(0)) {
        Some(channel) => Conversation {
            title: Some(channel.to_owned()),
            ..Conversation::group(place.conversation_id(channel))
        },
        None if place.is_me(line.param(0)) => Conversation {
            title: Some(nick.to_owned()),
            ..Conversation::direct(place.conversation_id(nick))
        },
        None => return None,
    };
    let is_direct = place.channel(line.param(0)).is_none();
    let (is_named, said) = addressed(&words, place);
    let text = if is_action { format!("* {nick} {words}") } else { said };
    let id = line.tags.get("msgid").filter(|id| !id.is_empty());
    Some(InboundMessage {
        sent_at_ms: line.tags.get("time").and_then(|time| parse_time(time)),
        addressed: is_direct || is_named,
        in_reply_to: line.tags.get("+draft/reply").or(line.tags.get("+reply")).cloned(),
        extra: vec![("irc.nick".to_owned(), nick.to_owned())],
        ..InboundMessage::text(
            id.map_or(fallback_id, String::as_str),
            conversation,
            sender(line, place),
            text,
        )
    })
}

/// Names the sender by account where the server vouches for one, else by `~` and the nick, which anyone can take: no
/// nick begins with `~`, so neither can pass for the other.
fn sender(line: &Line, place: &Place) -> Sender {
    let nick = line.nick();
    let account = line
        .tags
        .get("account")
        .filter(|account| place.has_accounts && !account.is_empty());
    Sender {
        id: account.map_or_else(|| format!("~{}", place.casemapping.lower(nick)), Clone::clone),
        name: Some(nick.to_owned()),
        bot: line.tags.contains_key("bot") || line.tags.contains_key("draft/bot"),
    }
}

/// Returns the text without formatting, and whether it is an action (`/me`); none for another CTCP message.
fn plain_text(text: &str) -> Option<(String, bool)> {
    let (inner, is_action) = match text.strip_prefix(CTCP) {
        Some(ctcp) => (ctcp.strip_suffix(CTCP).unwrap_or(ctcp).strip_prefix("ACTION ")?, true),
        None => (text, false),
    };
    let words = without_colors(inner);
    let words = words.trim();
    (!words.is_empty()).then(|| (words.to_owned(), is_action))
}

/// Takes formatting out: control characters, and the digits that belong to a colour.
fn without_colors(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{3}' => {
                let digits = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>| {
                    (0..2)
                        .take_while(|_| rest.next_if(char::is_ascii_digit).is_some())
                        .count()
                };
                if digits(&mut rest) > 0 {
                    let mut ahead = rest.clone();
                    if ahead.next() == Some(',') && ahead.next().is_some_and(|c| c.is_ascii_digit()) {
                        rest.next();
                        digits(&mut rest);
                    }
                }
            }
            '\u{4}' => (0..6)
                .take_while(|_| rest.next_if(char::is_ascii_hexdigit).is_some())
                .for_each(drop),
            '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Whether a text names us, and the text without an address at its beginning (`bot: hello`).
fn addressed(text: &str, place: &Place) -> (bool, String) {
    let lower = place.casemapping.lower(text);
    let me = place.casemapping.lower(&place.nick);
    // Lower case changes no length: only ASCII is mapped.
    let in_nick = |c: char| c.is_alphanumeric() || "-_[]\\`^{}|".contains(c);
    let found = lower.match_indices(&me).find(|(at, _)| {
        let before = lower[..*at].chars().next_back();
        let after = lower[at + me.len()..].chars().next();
        !before.is_some_and(in_nick) && !after.is_some_and(in_nick)
    });
    let Some((at, _)) = found else {
        return (false, text.to_owned());
    };
    let rest = text[at + me.len()..].strip_prefix([':', ',']);
    match rest.filter(|_| at == 0 || text[..at] == *"@") {
        Some(rest) if !rest.trim().is_empty() => (true, rest.trim_start().to_owned()),
        _ => (true, text.to_owned()),
    }
}

#[cfg(test)]
mod tests;
