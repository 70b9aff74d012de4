//! Between mails and messages of ours. Pure, but for the files: they are handed to the caller.

use std::borrow::Cow;
use std::fmt;

use mail_builder::MessageBuilder;
use mail_builder::headers::date::Date;
use mail_builder::headers::message_id::MessageId;
use mail_builder::headers::raw::Raw;
use mail_parser::decoders::html::html_to_text;
use mail_parser::{HeaderName, HeaderValue, Message, MessageParser, MimeHeaders as _, PartType};
use sluicegate_sdk::{Conversation, InboundMessage, OutboundMessage, Sender, text};

use crate::{bounds, texts};

/// The key under which a thread's subject is kept.
const SUBJECT_KEY: &str = "email.subject";
/// The key under which the ids of the mails that an answer refers to are kept, oldest first.
const REFERENCES_KEY: &str = "email.references";
/// How many ids an answer refers to: the first and the last ones (RFC 5322 section 3.6.4 sets no bound, a header has one).
const REFERENCES_MAX: usize = 12;
/// The longest id that is taken for one, bytes: longer ones would not fit the gateway's ids.
const MESSAGE_ID_BYTES_MAX: usize = 250;
/// The longest subject that is kept, bytes.
const SUBJECT_BYTES_MAX: usize = 250;
/// The longest text that is taken, bytes: the gateway's 256 KiB, without what the notes about files take.
const TEXT_BYTES_MAX: usize = 224 * 1024;
/// How much of a text in HTML is read, bytes: the tags are most of it.
const HTML_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The longest name of a file that is kept, bytes: that of file systems.
const FILE_NAME_BYTES_MAX: usize = 255;
/// How many files of a mail are taken: as many as a message may have.
const FILES_MAX: usize = 32;

/// How much of a mail is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// All of it.
    Whole,
    /// Its header: it would cost too much to take apart. A note stands for the rest.
    Head,
}

/// A mail that is to be answered, and its files.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// What goes in, without its files.
    pub message: InboundMessage,
    /// The files.
    pub files: Vec<File>,
}

/// A file in a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: Option<String>,
    /// RFC 6838 media type.
    pub media_type: String,
    /// Its contents.
    pub bytes: Vec<u8>,
}

/// Why a mail is not taken: an answer to it could be answered by a program in its turn, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// It is no mail.
    Unreadable,
    /// It says of nobody that he wrote it, or the bounce of a mail is what it is (a null return path).
    NoSender,
    /// It is our own.
    Own,
    /// A program sent it (`Auto-Submitted`, RFC 3834; `Precedence`), or a mailing list did.
    Automatic,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "it can't be read as a mail",
            Self::NoSender => "nobody wrote it who could read an answer",
            Self::Own => "it is our own",
            Self::Automatic => "a program or a mailing list sent it",
        })
    }
}

/// What is known of the mailbox.
#[derive(Debug, Clone, Default)]
pub struct Mailbox {
    /// Our own address.
    pub address: String,
    /// The server whose `Authentication-Results` count; none where nobody checks the senders.
    pub authenticated_by: Option<String>,
}

/// Maps a mail. `fallback_id` is its id where it has none of its own. A text that is too long for a message is cut, and
/// the files above [`FILES_MAX`] are left out, each with a note in the text.
///
/// # Errors
/// Why it must not be answered.
pub fn inbound(mut raw: Vec<u8>, reading: Reading, mailbox: &Mailbox, fallback_id: &str) -> Result<Received, Ignored> {
    bounds::hide_nested(&mut raw);
    let mail = match reading {
        Reading::Whole => {
            texts::hide_long(&mut raw, &parser());
            parser().parse(&raw)
        }
        Reading::Head => parser().parse_headers(bounds::head(&raw)),
    };
    let mail = mail.ok_or(Ignored::Unreadable)?;
    refuse_automatic(&mail)?;
    let from = mail.from().and_then(|from| from.first()).ok_or(Ignored::NoSender)?;
    let address = from.address().unwrap_or_default().trim().to_lowercase();
    if !is_address(&address) || is_machine(&address) {
        return Err(Ignored::NoSender);
    }
    if address == mailbox.address.to_lowercase() {
        return Err(Ignored::Own);
    }
    let id = mail.message_id().filter(|id| is_message_id(id));
    let mut references = ids(mail.references());
    let answered = ids(mail.in_reply_to());
    if references.is_empty() {
        references.extend(answered.first().cloned());
    }
    let thread = references.first().cloned().or_else(|| id.map(str::to_owned));
    references.extend(id.map(str::to_owned));
    let subject = cut(one_line(mail.subject().unwrap_or_default()), SUBJECT_BYTES_MAX);
    let sender_id = if is_vouched_for(&mail, mailbox) {
        address.clone()
    } else {
        format!("unverified:{address}")
    };
    let mut words = words(&mail, &subject, !answered.is_empty());
    if reading == Reading::Head {
        words.push_str("\n[the rest of this mail could not be read]");
    }
    let surplus = mail.attachments.len().saturating_sub(FILES_MAX);
    if surplus > 0 {
        words.push_str(&format!("\n[{surplus} more files were left out]"));
    }
    let message = InboundMessage {
        in_reply_to: answered.last().cloned(),
        sent_at_ms: mail
            .date()
            .and_then(|date| u64::try_from(date.to_timestamp()).ok())
            .map(|seconds| seconds.saturating_mul(1000)),
        extra: vec![
            (SUBJECT_KEY.to_owned(), subject.clone()),
            (REFERENCES_KEY.to_owned(), bounded(references).join(" ")),
        ],
        ..InboundMessage::text(
            id.unwrap_or(fallback_id),
            Conversation {
                thread: thread.or_else(|| Some(fallback_id.to_owned())),
                title: Some(subject.clone()).filter(|subject| !subject.is_empty()),
                ..Conversation::direct(address)
            },
            Sender {
                name: from.name().map(one_line),
                ..Sender::person(sender_id)
            },
            words,
        )
    };
    Ok(Received {
        message,
        files: files(mail),
    })
}

/// Reads the fields that a message is made of; all others are known by name, and take no more memory than that.
fn parser() -> MessageParser {
    MessageParser::new()
        .with_mime_headers()
        .with_message_ids()
        .header_address(HeaderName::From)
        .header_date(HeaderName::Date)
        .header_text(HeaderName::Subject)
        .default_header_ignore()
}

fn refuse_automatic(mail: &Message<'_>) -> Result<(), Ignored> {
    for (name, value) in mail.headers_raw() {
        let name = name.to_ascii_lowercase();
        let value = value.trim().to_ascii_lowercase();
        let is_automatic = match name.as_str() {
            "auto-submitted" => value.split(';').next().unwrap_or_default().trim() != "no",
            "precedence" => matches!(value.as_str(), "bulk" | "junk" | "list" | "auto_reply"),
            "x-autoreply" | "x-autorespond" | "feedback-id" => true,
            "return-path" if value == "<>" => return Err(Ignored::NoSender),
            name => name.starts_with("list-"),
        };
        if is_automatic {
            return Err(Ignored::Automatic);
        }
    }
    let is_report = mail.content_type().is_some_and(|kind| {
        kind.ctype().eq_ignore_ascii_case("multipart")
            && kind.subtype().is_some_and(|sub| sub.eq_ignore_ascii_case("report"))
    });
    if is_report { Err(Ignored::Automatic) } else { Ok(()) }
}

/// Whether nobody reads what is sent to an address: the usual ones of mail servers and programs.
fn is_machine(address: &str) -> bool {
    let local = address.split('@').next().unwrap_or_default();
    matches!(
        local,
        "mailer-daemon" | "postmaster" | "noreply" | "no-reply" | "donotreply" | "do-not-reply"
    )
}

/// Whether the trusted server says that the sender's domain stands behind the mail. Only the topmost header of that
/// server counts: those below it came with the mail (RFC 8601 section 5).
fn is_vouched_for(mail: &Message<'_>, mailbox: &Mailbox) -> bool {
    let Some(trusted) = &mailbox.authenticated_by else {
        return true;
    };
    let topmost = mail
        .headers_raw()
        .find(|(name, _)| name.eq_ignore_ascii_case("authentication-results"));
    let Some((_, value)) = topmost else { return false };
    let mut parts = value.split(';').map(str::trim);
    let server = parts.next().and_then(|id| id.split_whitespace().next());
    server.is_some_and(|id| id.eq_ignore_ascii_case(trusted))
        && parts.any(|result| {
            result
                .split_whitespace()
                .next()
                .is_some_and(|word| word.eq_ignore_ascii_case("dmarc=pass"))
        })
}

/// Returns the text; the subject stands above it where the mail begins a thread, since it is part of what was said.
fn words(mail: &Message<'_>, subject: &str, is_answer: bool) -> String {
    let (body, is_cut) = body(mail);
    let body = body.replace("\r\n", "\n");
    let own = without_quote(&body);
    let own = match is_cut {
        true => format!("{own}\n[the rest of this mail is too long]"),
        false => own.to_owned(),
    };
    match (subject.is_empty() || is_answer, own.is_empty()) {
        (true, _) => own,
        (false, true) => subject.to_owned(),
        (false, false) => format!("{subject}\n\n{own}"),
    }
}

/// Returns the text, and whether it was cut.
fn body(mail: &Message<'_>) -> (String, bool) {
    let part = mail.text_body.first().and_then(|at| mail.parts.get(*at as usize));
    let (text, is_cut) = match part.map(|part| &part.body) {
        Some(PartType::Text(text)) => (Cow::from(text.as_ref()), false),
        Some(PartType::Html(html)) => {
            let read = &html[..html.floor_char_boundary(HTML_BYTES_MAX)];
            (html_to_text(read).into(), read.len() < html.len())
        }
        _ => return (String::new(), false),
    };
    let kept = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
    (kept.to_owned(), is_cut || kept.len() < text.len())
}

/// Takes the quoted mail at the end away: the agent remembers what was said.
fn without_quote(body: &str) -> &str {
    let mut end = body.trim_end().len();
    loop {
        let rest = body[..end].trim_end();
        let start = rest.rfind('\n').map_or(0, |at| at + 1);
        if !rest[start..].starts_with('>') {
            break;
        }
        end = start;
    }
    let rest = body[..end].trim_end();
    if rest.len() == body.trim_end().len() {
        return rest.trim();
    }
    // The line that names who is quoted.
    let start = rest.rfind('\n').map_or(0, |at| at + 1);
    let is_attribution = rest[start..].trim_end().ends_with(':');
    let own = if is_attribution { &rest[..start] } else { rest };
    if own.trim().is_empty() { body.trim() } else { own.trim() }
}

fn files(mail: Message<'_>) -> Vec<File> {
    let mut parts: Vec<_> = mail.parts.into_iter().map(Some).collect();
    let kept = mail.attachments.iter().take(FILES_MAX);
    let kept = kept.filter_map(|at| parts.get_mut(*at as usize).and_then(Option::take));
    kept.map(|part| {
        let kind = part.content_type();
        let media_type = kind.map_or_else(
            || "application/octet-stream".to_owned(),
            |kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or("octet-stream")).to_ascii_lowercase(),
        );
        File {
            name: part
                .attachment_name()
                .map(|name| cut(one_line(name), FILE_NAME_BYTES_MAX)),
            media_type: bounds::shown_type(&media_type),
            bytes: match part.body {
                PartType::Text(text) | PartType::Html(text) => text.into_owned().into_bytes(),
                PartType::Binary(bytes) | PartType::InlineBinary(bytes) => bytes.into_owned(),
                PartType::Message(_) | PartType::Multipart(_) => Vec::new(),
            },
        }
    })
    .collect()
}

fn ids(value: &HeaderValue<'_>) -> Vec<String> {
    let list: Vec<&str> = match value {
        HeaderValue::Text(id) => vec![id.as_ref()],
        HeaderValue::TextList(ids) => ids.iter().map(AsRef::as_ref).collect(),
        _ => Vec::new(),
    };
    list.into_iter()
        .filter(|id| is_message_id(id))
        .map(str::to_owned)
        .collect()
}

/// Whether a text can stand between the angle brackets of an id: anything else could end its header.
fn is_message_id(text: &str) -> bool {
    (1..=MESSAGE_ID_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"<>".contains(&byte))
}

/// Whether a text is an address that can stand in an SMTP command.
pub fn is_address(text: &str) -> bool {
    text.len() <= 254
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"<>,;:\\\"()[]".contains(&byte))
        && text
            .split_once('@')
            .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'))
}

fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_control() || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn cut(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

/// Keeps the first id and the last ones: the thread, and where it stands.
fn bounded(mut references: Vec<String>) -> Vec<String> {
    if references.len() > REFERENCES_MAX {
        let surplus = references.len() - REFERENCES_MAX;
        references.drain(1..=surplus);
    }
    references
}

/// Returns our id for a delivery: the same one in each attempt, so that who gets two copies can tell.
pub fn message_id(delivery_key: &str, address: &str) -> String {
    let plain: String = delivery_key
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
        .collect();
    let domain = address.rsplit_once('@').map_or("localhost", |(_, domain)| domain);
    format!("{plain}@{domain}")
}

/// Puts an answer together.
///
/// # Errors
/// Words, where there is nothing to send or it can't be written.
pub fn outbound(
    message: &OutboundMessage,
    mailbox: &Mailbox,
    name: &str,
    files: &[File],
    now_ms: u64,
) -> Result<Vec<u8>, String> {
    let kept = |key: &str| {
        message
            .extra
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    };
    let markdown = text::with_numbered(&message.text, &message.choices);
    if markdown.trim().is_empty() && files.is_empty() {
        return Err("the message has neither text nor files".to_owned());
    }
    let subject = one_line(kept(SUBJECT_KEY).unwrap_or_default());
    let subject = match subject.as_str() {
        "" => "Your message".to_owned(),
        _ if subject.to_ascii_lowercase().starts_with("re:") => subject,
        _ => format!("Re: {subject}"),
    };
    // What nobody wrote first, such as an operator's message, has no references of its own: the thread's first mail does.
    let is_first = message.in_reply_to.is_none();
    let thread = message.conversation.thread.as_deref().filter(|_| is_first);
    let references: Vec<String> = kept(REFERENCES_KEY)
        .or(thread)
        .unwrap_or_default()
        .split(' ')
        .filter(|id| is_message_id(id))
        .map(str::to_owned)
        .collect();
    let answered = message
        .in_reply_to
        .clone()
        .filter(|id| is_message_id(id))
        .or_else(|| references.last().cloned());
    let seconds = i64::try_from(now_ms / 1000).unwrap_or_default();
    let mut builder = MessageBuilder::new()
        .from((name.to_owned(), mailbox.address.clone()))
        .to(message.conversation.id.clone())
        .subject(subject)
        .message_id(message_id(&message.delivery_key, &mailbox.address))
        .date(Date::new(seconds))
        // RFC 3834: what answers by itself says so, and is not answered by others of its kind.
        .header("Auto-Submitted", Raw::new("auto-replied"))
        .text_body(markdown.clone())
        .html_body(html(&markdown));
    if let Some(answered) = answered {
        builder = builder.in_reply_to(answered);
    }
    if !references.is_empty() {
        builder = builder.references(MessageId::new_list(references.into_iter()));
    }
    for file in files {
        let name = file.name.clone().unwrap_or_else(|| "file".to_owned());
        builder = builder.attachment(one_line(&file.media_type), one_line(&name), file.bytes.clone());
    }
    builder.write_to_vec().map_err(|error| error.to_string())
}

/// Converts CommonMark; raw HTML is shown as it is written.
fn html(markdown: &str) -> String {
    let parser = pulldown_cmark::Parser::new_ext(markdown, pulldown_cmark::Options::ENABLE_STRIKETHROUGH);
    let visible = parser.map(|event| match event {
        pulldown_cmark::Event::Html(text) | pulldown_cmark::Event::InlineHtml(text) => {
            pulldown_cmark::Event::Text(text)
        }
        event => event,
    });
    let mut html = String::new();
    pulldown_cmark::html::push_html(&mut html, visible);
    html
}

#[cfg(test)]
mod tests;
