//! What an outbound message becomes on Matrix: parts, contents, relations, transaction ids. Pure, so that a resumed
//! delivery plans the same parts again.

use sluicegate_sdk::parts::Part;
use sluicegate_sdk::serde_json::{Map, Value, json};
use sluicegate_sdk::text::{self, Unit};
use sluicegate_sdk::{Attachment, Extra, OutboundMessage};

use crate::map::{AUTOMATED_KEY, MESSAGE_KEY};
use crate::markup::to_html;

/// Where texts are split, bytes. An event has at most 65,536 (client-server API, section "Size limits"), with the text
/// in it twice: as it is and as HTML.
pub const PART_BYTES_MAX: usize = 20 * 1024;
/// A content from which on its HTML is left out, bytes of JSON: what is left for an event's own fields covers the largest
/// that homeservers add.
const CONTENT_BYTES_MAX: usize = 56 * 1024;
/// What clients see of an edit that don't know edits, bytes: enough to notice it.
const EDIT_FALLBACK_BYTES_MAX: usize = 512;
/// A file's name, bytes: what common file systems take.
const FILE_NAME_BYTES_MAX: usize = 255;

/// Returns the parts in the order of sending, texts first; empty where there is nothing to send.
pub fn parts(message: &OutboundMessage) -> Vec<Part<'_>> {
    let texts = text_parts(&text::with_numbered(&message.text, &message.choices));
    sluicegate_sdk::parts::of(texts, message)
}

/// Splits a text; parts that nobody could see are left out.
pub fn text_parts(markdown: &str) -> Vec<String> {
    // Control characters show nothing, and take six bytes each in JSON.
    let shown: String = markdown
        .chars()
        .filter(|character| !character.is_control() || matches!(character, '\n' | '\t'))
        .collect();
    let mut parts = text::split(&shown, PART_BYTES_MAX, Unit::Bytes);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// Returns the content for a text.
pub fn text_content(markdown: &str, message_type: &str) -> Map<String, Value> {
    let mut content = automated(message_type, markdown);
    let Some(html) = to_html(markdown) else {
        return content;
    };
    content.insert("format".to_owned(), json!("org.matrix.custom.html"));
    content.insert("formatted_body".to_owned(), json!(html));
    if json_bytes(&content) > CONTENT_BYTES_MAX {
        content.remove("format");
        content.remove("formatted_body");
    }
    content
}

/// Returns the content for a file that is at `address`, an `mxc://` URL.
pub fn file_content(attachment: &Attachment, address: &str) -> Map<String, Value> {
    let message_type = match attachment.media_type.split('/').next() {
        Some("image") => "m.image",
        Some("audio") => "m.audio",
        Some("video") => "m.video",
        _ => "m.file",
    };
    let name = file_name(attachment);
    let mut content = automated(message_type, &name);
    content.insert("filename".to_owned(), json!(name));
    content.insert("url".to_owned(), json!(address));
    content.insert("info".to_owned(), json!({"mimetype": attachment.media_type}));
    content
}

/// Marks every content as written by a program, and as mentioning nobody: a model's words must not call people.
fn automated(message_type: &str, body: &str) -> Map<String, Value> {
    let mut content = Map::new();
    content.insert("msgtype".to_owned(), json!(message_type));
    content.insert("body".to_owned(), json!(body));
    content.insert("m.mentions".to_owned(), json!({}));
    content.insert(AUTOMATED_KEY.to_owned(), json!(true));
    content
}

/// Makes the content of an edit of our message `edited`.
pub fn edit_content(edited: &str, content: Map<String, Value>) -> Value {
    let body = content.get("body").and_then(Value::as_str).unwrap_or_default();
    let fallback = format!("* {}", cut(body, EDIT_FALLBACK_BYTES_MAX));
    json!({
        "msgtype": content.get("msgtype"),
        "body": fallback,
        AUTOMATED_KEY: true,
        "m.mentions": {},
        "m.relates_to": {"rel_type": "m.replace", "event_id": edited},
        "m.new_content": content,
    })
}

/// Returns what a part relates to: its thread, and for the first part the message that it answers.
///
/// `previous` is the part before it.
pub fn relation(message: &OutboundMessage, previous: Option<&str>) -> Option<Value> {
    let answered = answered(message).filter(|_| previous.is_none());
    let Some(thread) = &message.conversation.thread else {
        return answered.map(|answered| json!({"m.in_reply_to": {"event_id": answered.message}}));
    };
    let before = previous.unwrap_or(thread.as_str());
    let shown = answered.as_ref().map_or(before, |answered| answered.message);
    Some(json!({
        "rel_type": "m.thread",
        "event_id": thread,
        // What only tells clients without threads where the message belongs is no answer.
        "is_falling_back": answered.is_none(),
        "m.in_reply_to": {"event_id": shown},
    }))
}

/// Returns whom an answer mentions, as `m.mentions`: whoever wrote what it answers, so that they hear of it.
pub fn mentions(message: &OutboundMessage) -> Value {
    match answered(message).and_then(|answered| answered.sender) {
        Some(sender) => json!({"user_ids": [sender]}),
        None => json!({}),
    }
}

/// The message that an outbound one answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered<'a> {
    /// Its id.
    pub message: &'a str,
    /// Who wrote it, where that is known.
    pub sender: Option<&'a str>,
}

/// Returns the message that `message` answers.
pub fn answered(message: &OutboundMessage) -> Option<Answered<'_>> {
    named(message.in_reply_to.as_deref()?, &message.extra)
}

/// Returns the message that `id` means: a message's own id, or the event's that `extra` belongs to.
pub fn named<'a>(id: &'a str, extra: &'a Extra) -> Option<Answered<'a>> {
    let known = extra.iter().find(|(key, _)| key == MESSAGE_KEY);
    let mut words = known.map(|(_, words)| words.split(' ')).into_iter().flatten();
    match (words.next(), words.next(), words.next()) {
        (Some(event), Some(message), sender) if event == id => Some(Answered { message, sender }),
        // Only events begin so; what else an id may be (an id of the gateway's) leads nowhere.
        _ => id.starts_with('$').then_some(Answered {
            message: id,
            sender: None,
        }),
    }
}

/// Returns the transaction id of a part: the server drops a second request with the same one.
pub fn transaction(message: &OutboundMessage, index: u32) -> String {
    format!("{}-{index}", message.delivery_key)
}

/// Returns the name under which a file is sent.
pub fn file_name(attachment: &Attachment) -> String {
    let name = attachment.name.as_deref().filter(|name| !name.trim().is_empty());
    cut(name.unwrap_or("file"), FILE_NAME_BYTES_MAX).to_owned()
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

fn json_bytes(content: &Map<String, Value>) -> usize {
    sluicegate_sdk::serde_json::to_string(content).map_or(usize::MAX, |json| json.len())
}

#[cfg(test)]
mod tests {
    use sluicegate_sdk::{Action, AttachmentSource, Choice, Conversation, SentPart};

    use super::*;

    fn outbound(text: &str) -> OutboundMessage {
        OutboundMessage {
            action: Action::Send,
            delivery_key: "dlv_1".to_owned(),
            attempt: 1,
            conversation: Conversation::direct("!room:a"),
            in_reply_to: None,
            text: text.to_owned(),
            attachments: Vec::new(),
            choices: Vec::new(),
            draft_id: None,
            already_sent: Vec::<SentPart>::new(),
            extra: Vec::new(),
        }
    }

    #[test]
    fn no_content_outgrows_an_event_not_even_as_an_edit() {
        let hostile = [
            "\"\\<&>\n".repeat(20_000),
            "- point **one** 😀\n".repeat(8_000),
            "\u{1}\u{7f}x".repeat(60_000),
            format!("```rust\n{}```\n", "let a = \"1\";\n".repeat(6_000)),
        ];
        for text in hostile {
            let parts = text_parts(&text);
            assert!(parts.len() > 1, "{} parts", parts.len());
            assert_eq!(parts, text_parts(&text), "the same text splits the same way");
            for part in parts {
                let edit = edit_content("$e", text_content(&part, "m.text")).to_string();
                assert!(edit.len() < 60 * 1024, "an edit has {} bytes", edit.len());
            }
        }
    }

    #[test]
    fn a_content_says_that_a_program_wrote_it_and_mentions_nobody() {
        let wanted = json!({
            "msgtype": "m.text", "body": "*hi* @room", "m.mentions": {}, "sluicegate.automated": true,
            "format": "org.matrix.custom.html", "formatted_body": "<p><em>hi</em> @room</p>",
        });
        assert_eq!(Value::from(text_content("*hi* @room", "m.text")), wanted);
        let edit = edit_content("$draft", text_content("*hi* @room", "m.text"));
        assert_eq!(edit["m.new_content"], wanted);
        assert_eq!(
            (&edit["body"], &edit["m.mentions"]),
            (&json!("* *hi* @room"), &json!({}))
        );
    }

    #[test]
    fn the_first_part_answers_and_every_part_stays_in_its_thread() {
        let extra = vec![(MESSAGE_KEY.to_owned(), "$edit $said @ada:a".to_owned())];
        let mut message = OutboundMessage {
            in_reply_to: Some("$edit".to_owned()),
            extra,
            ..outbound("hi")
        };
        assert_eq!(
            relation(&message, None),
            Some(json!({"m.in_reply_to": {"event_id": "$said"}}))
        );
        assert_eq!(mentions(&message), json!({"user_ids": ["@ada:a"]}));
        assert_eq!(relation(&message, Some("$part0")), None);
        message.conversation.thread = Some("$root".to_owned());
        let first = json!({
            "rel_type": "m.thread", "event_id": "$root", "is_falling_back": false, "m.in_reply_to": {"event_id": "$said"},
        });
        assert_eq!(relation(&message, None), Some(first));
        let second = json!({
            "rel_type": "m.thread", "event_id": "$root", "is_falling_back": true, "m.in_reply_to": {"event_id": "$part0"},
        });
        assert_eq!(relation(&message, Some("$part0")), Some(second));
        assert_eq!(relation(&outbound("hi"), None), None);
        let unknown = OutboundMessage {
            in_reply_to: Some("evt_x".to_owned()),
            ..outbound("hi")
        };
        assert_eq!(relation(&unknown, None), None);
    }

    #[test]
    fn texts_come_before_files_and_choices_are_numbered() {
        let file = Attachment {
            name: Some("a.png".to_owned()),
            media_type: "image/png".to_owned(),
            source: AttachmentSource::Blob("b1".to_owned()),
        };
        let choice = Choice {
            id: "y".to_owned(),
            label: "Yes".to_owned(),
        };
        let message = OutboundMessage {
            attachments: vec![file.clone()],
            choices: vec![choice],
            ..outbound("Sure?")
        };
        assert_eq!(
            parts(&message),
            [Part::Text("Sure?\n\n1. Yes".to_owned()), Part::File(&file)]
        );
        assert_eq!(parts(&outbound(" \n\u{7}")), []);
        let content = file_content(&file, "mxc://a/1");
        assert_eq!(
            (&content["msgtype"], &content["body"]),
            (&json!("m.image"), &json!("a.png"))
        );
        assert_eq!(transaction(&message, 3), "dlv_1-3");
    }
}
