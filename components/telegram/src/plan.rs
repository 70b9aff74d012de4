//! What an outbound message becomes on Telegram: parts, buttons, the ids that its fields mean. Pure, so that a resumed
//! delivery plans the same parts again.

use sluicegate_sdk::parts::Part;
use sluicegate_sdk::serde_json::{Value, json};
use sluicegate_sdk::text::{self, Unit};
use sluicegate_sdk::{Attachment, Choice, Conversation, OutboundMessage};

use crate::map::MESSAGE_KEY;

/// The longest text of one message, UTF-16 code units after entity parsing (core.telegram.org/bots/api#sendmessage).
pub const TEXT_UNITS_MAX: usize = 4096;
/// Where texts are split: below the limit, since bullets and line breaks may lengthen a text when it is converted.
pub const PART_UNITS_MAX: usize = 3900;
/// The longest data of a button, bytes (core.telegram.org/bots/api#inlinekeyboardbutton).
const CALLBACK_BYTES_MAX: usize = 64;
/// What stands above the buttons of a message that is otherwise empty: Telegram takes no message without a text.
const NO_TEXT: &str = "…";

/// Returns the parts in the order of sending, texts first; empty where there is nothing to send.
pub fn parts(message: &OutboundMessage) -> Vec<Part<'_>> {
    let mut texts = text_parts(&with_numbered_choices(message));
    if texts.is_empty() && message.attachments.is_empty() && !message.choices.is_empty() {
        texts.push(NO_TEXT.to_owned());
    }
    sluicegate_sdk::parts::of(texts, message)
}

/// Splits a text; parts that Telegram would find empty are left out.
pub fn text_parts(markdown: &str) -> Vec<String> {
    let mut parts = text::split(markdown, PART_UNITS_MAX, Unit::Utf16);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// Returns the inline keyboard of a message, one button a row; none without choices, or where they don't fit buttons.
pub fn keyboard(message: &OutboundMessage) -> Option<Value> {
    if message.choices.is_empty() || !fit_buttons(&message.choices) {
        return None;
    }
    let rows: Vec<Value> = message
        .choices
        .iter()
        .map(|choice| json!([{"text": choice.label, "callback_data": choice.id}]))
        .collect();
    Some(json!({"inline_keyboard": rows}))
}

fn fit_buttons(choices: &[Choice]) -> bool {
    choices
        .iter()
        .all(|choice| !choice.label.trim().is_empty() && !choice.id.is_empty() && choice.id.len() <= CALLBACK_BYTES_MAX)
}

fn with_numbered_choices(message: &OutboundMessage) -> String {
    if message.choices.is_empty() || fit_buttons(&message.choices) {
        return message.text.clone();
    }
    text::with_numbered(&message.text, &message.choices)
}

/// Returns the topic of a conversation as Telegram takes it.
pub fn thread(conversation: &Conversation) -> Option<i64> {
    conversation.thread.as_deref()?.parse().ok()
}

/// Returns the Telegram message that `id` means: a message id, or the id of the inbound event that `extra` belongs to.
///
/// None where `id` means an event whose message is not known: better to answer nobody than the wrong message.
pub fn message_id(id: &str, extra: &[(String, String)]) -> Option<i64> {
    let known = extra
        .iter()
        .find(|(key, _)| key == MESSAGE_KEY)
        .and_then(|(_, pair)| pair.split_once(':'));
    match known {
        Some((event, message)) if event == id => message.parse().ok(),
        Some(_) => None,
        None => id.parse().ok(),
    }
}

/// Returns `reply_parameters` for the first part of an answer.
pub fn reply_parameters(message: &OutboundMessage) -> Option<Value> {
    let answered = message_id(message.in_reply_to.as_deref()?, &message.extra)?;
    // The person may have deleted the question: the answer is still worth sending.
    Some(json!({"message_id": answered, "allow_sending_without_reply": true}))
}

/// Returns the method and the field name for a file.
pub fn file_method(attachment: &Attachment) -> (&'static str, &'static str) {
    match attachment.media_type.as_str() {
        "image/jpeg" | "image/png" | "image/webp" => ("sendPhoto", "photo"),
        _ => ("sendDocument", "document"),
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_sdk::{Action, AttachmentSource};

    use super::*;
    use crate::markup::to_html;

    fn outbound(text: &str) -> OutboundMessage {
        OutboundMessage {
            action: Action::Send,
            delivery_key: "dlv_1".to_owned(),
            attempt: 1,
            conversation: Conversation::direct("55"),
            in_reply_to: None,
            text: text.to_owned(),
            attachments: Vec::new(),
            choices: Vec::new(),
            draft_id: None,
            already_sent: Vec::new(),
            extra: Vec::new(),
        }
    }

    fn choice(id: &str, label: &str) -> Choice {
        Choice {
            id: id.to_owned(),
            label: label.to_owned(),
        }
    }

    #[test]
    fn a_long_text_is_split_within_the_limit_after_conversion() {
        let text = format!(
            "{}\n\n```rust\n{}```\n",
            "- point **one** 😀\n".repeat(400),
            "let a = 1;\n".repeat(900)
        );
        let parts = text_parts(&text);
        assert!(parts.len() > 4, "{} parts", parts.len());
        for part in &parts {
            assert!(
                to_html(part).units <= TEXT_UNITS_MAX,
                "a part has {} units",
                to_html(part).units
            );
        }
        assert_eq!(parts, text_parts(&text), "the same text splits the same way");
    }

    #[test]
    fn texts_come_before_files() {
        let file = Attachment {
            name: None,
            media_type: "image/png".to_owned(),
            source: AttachmentSource::Blob("b1".to_owned()),
        };
        let message = OutboundMessage {
            attachments: vec![file.clone()],
            ..outbound("hi")
        };
        assert_eq!(parts(&message), [Part::Text("hi".to_owned()), Part::File(&file)]);
        assert_eq!(
            (file_method(&file), file.file_name()),
            (("sendPhoto", "photo"), "file.png".to_owned())
        );
        assert_eq!(parts(&outbound(" \n")), []);
    }

    #[test]
    fn choices_are_buttons_or_else_numbered_lines() {
        let buttons = OutboundMessage {
            choices: vec![choice("y", "Yes"), choice("n", "No")],
            ..outbound("")
        };
        let rows = json!({"inline_keyboard": [
            [{"text": "Yes", "callback_data": "y"}], [{"text": "No", "callback_data": "n"}],
        ]});
        assert_eq!(keyboard(&buttons), Some(rows));
        assert_eq!(parts(&buttons), [Part::Text("…".to_owned())]);
        let long = OutboundMessage {
            choices: vec![choice(&"x".repeat(65), "Yes"), choice("n", "No")],
            ..outbound("Sure?")
        };
        assert_eq!(keyboard(&long), None);
        assert_eq!(parts(&long), [Part::Text("Sure?\n\n1. Yes\n2. No".to_owned())]);
    }

    #[test]
    fn an_answer_is_addressed_to_the_message_of_its_event() {
        let extra = vec![(MESSAGE_KEY.to_owned(), "610000001:17".to_owned())];
        assert_eq!(message_id("610000001", &extra), Some(17));
        assert_eq!(message_id("610000000", &extra), None);
        assert_eq!(message_id("17", &[]), Some(17));
        assert_eq!(message_id("evt_x", &[]), None);
        let message = OutboundMessage {
            in_reply_to: Some("610000001".to_owned()),
            extra,
            ..outbound("hi")
        };
        let reply = json!({"message_id": 17, "allow_sending_without_reply": true});
        assert_eq!(reply_parameters(&message), Some(reply));
    }
}
