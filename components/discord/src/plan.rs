//! What an outbound message becomes on Discord: parts, their nonces, the bodies of the calls. Pure, so that a resumed
//! delivery plans the same parts again.

use sluicegate_sdk::parts::Part;
use sluicegate_sdk::serde_json::{Value, json};
use sluicegate_sdk::text::{self, Unit};
use sluicegate_sdk::{Conversation, OutboundMessage};

use crate::markup::to_discord;

/// The longest text of one message (Discord: Create Message). Discord says characters; UTF-16 code units are never fewer.
pub const TEXT_UNITS_MAX: usize = 2000;
/// The longest nonce, characters (Discord: Create Message).
const NONCE_CHARACTERS_MAX: usize = 25;
/// The characters of a nonce that say which part it is.
const PART_CHARACTERS: usize = 3;

/// Returns the parts in the order of sending, texts first; empty where there is nothing to send.
pub fn parts(message: &OutboundMessage) -> Vec<Part<'_>> {
    let texts = text_parts(&text::with_numbered(&message.text, &message.choices));
    sluicegate_sdk::parts::of(texts, message)
}

/// Converts a text and splits it; parts that Discord would find empty are left out.
pub fn text_parts(markdown: &str) -> Vec<String> {
    let mut parts = text::split(&to_discord(markdown), TEXT_UNITS_MAX, Unit::Utf16);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// Returns the nonce of a part: the same in every attempt of a delivery, and another for each part and the draft
/// (`part` is none). The end of the key is kept: what tells keys apart is a hash.
pub fn nonce(delivery_key: &str, part: Option<u32>) -> String {
    let key: String = delivery_key.chars().filter(char::is_ascii_alphanumeric).collect();
    let start = key.len().saturating_sub(NONCE_CHARACTERS_MAX - PART_CHARACTERS);
    let part = part.map_or_else(|| "d".to_owned(), |part| format!("{part:03}"));
    format!("{}{part}", &key[start..])
}

/// Returns the channel that a call goes to: on Discord a thread is one.
pub fn channel(conversation: &Conversation) -> &str {
    conversation.thread.as_deref().unwrap_or(&conversation.id)
}

/// Returns the Discord message that an id means: events about a message carry its id before a slash.
pub fn message_id(id: &str) -> Option<&str> {
    let id = id.split('/').next().unwrap_or_default();
    let is_snowflake = (1..=20).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_digit());
    is_snowflake.then_some(id)
}

/// Returns the body of a new message. Nobody is pinged by what an agent writes.
pub fn new_message(text: &str, nonce: &str, answers: Option<&str>) -> Value {
    let mut body = json!({
        "nonce": nonce, "enforce_nonce": true, "allowed_mentions": {"parse": [], "replied_user": false},
    });
    if !text.is_empty() {
        body["content"] = json!(text);
    }
    if let Some(answered) = answers {
        // The person may have deleted the question: the answer is still worth sending.
        body["message_reference"] = json!({"message_id": answered, "fail_if_not_exists": false});
    }
    body
}

/// Returns the body of an edit.
pub fn edit(text: &str) -> Value {
    json!({"content": text, "allowed_mentions": {"parse": []}})
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sluicegate_sdk::{Action, Attachment, AttachmentSource, Choice};

    use super::*;

    const KEY: &str = "dlv_0123456789abcdef012345";

    fn outbound(text: &str) -> OutboundMessage {
        OutboundMessage {
            action: Action::Send,
            delivery_key: KEY.to_owned(),
            attempt: 1,
            conversation: Conversation::group("55"),
            in_reply_to: None,
            text: text.to_owned(),
            attachments: Vec::new(),
            choices: Vec::new(),
            draft_id: None,
            already_sent: Vec::new(),
            extra: Vec::new(),
        }
    }

    #[test]
    fn a_nonce_fits_and_tells_parts_and_keys_apart() {
        let (first, second, draft) = (nonce(KEY, Some(0)), nonce(KEY, Some(255)), nonce(KEY, None));
        assert_eq!(first, "0123456789abcdef012345000");
        assert_eq!(second.len(), NONCE_CHARACTERS_MAX);
        assert_ne!(first, second);
        assert_ne!(first, draft);
        assert_ne!(first, nonce("dlv_0123456789abcdef012346", Some(0)));
        assert!(nonce(&"ü/".repeat(80), Some(1)).len() <= NONCE_CHARACTERS_MAX);
    }

    #[test]
    fn a_long_text_is_split_within_the_limit_with_its_code_in_blocks() {
        let text = format!(
            "{}\n\n```rust\n{}```\n",
            "point **one** 😀 a_b\n".repeat(200),
            "let a = 1;\n".repeat(500)
        );
        let parts = text_parts(&text);
        assert!(parts.len() > 4, "{} parts", parts.len());
        for part in &parts {
            assert!(part.encode_utf16().count() <= TEXT_UNITS_MAX);
            assert_eq!(part.matches("```").count() % 2, 0, "a part leaves a block open: {part}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_text_fits(text in "[a-z*_`~>#\\- \\n😀]{0,5000}") {
            for part in text_parts(&text) {
                prop_assert!(part.encode_utf16().count() <= TEXT_UNITS_MAX);
            }
        }
    }

    #[test]
    fn a_new_message_pings_nobody_and_answers_where_it_can() {
        let body = new_message("hi @everyone", "n", Some("17"));
        assert_eq!(body["allowed_mentions"], json!({"parse": [], "replied_user": false}));
        assert_eq!(
            body["message_reference"],
            json!({"message_id": "17", "fail_if_not_exists": false})
        );
        assert_eq!((&body["nonce"], &body["enforce_nonce"]), (&json!("n"), &json!(true)));
        assert_eq!(new_message("", "n", None).get("content"), None);
    }

    #[test]
    fn choices_are_numbered_lines_and_files_come_last() {
        let file = Attachment {
            name: None,
            media_type: "image/png".to_owned(),
            source: AttachmentSource::Blob("b1".to_owned()),
        };
        let choices = ["Yes", "No"].map(|label| Choice {
            id: label.to_owned(),
            label: label.to_owned(),
        });
        let message = OutboundMessage {
            attachments: vec![file.clone()],
            choices: choices.to_vec(),
            ..outbound("Sure?")
        };
        assert_eq!(
            parts(&message),
            [Part::Text("Sure?\n\n1. Yes\n2. No".to_owned()), Part::File(&file)]
        );
        assert_eq!(file.file_name(), "file.png");
        assert_eq!(parts(&outbound(" \n")), []);
    }

    #[test]
    fn ids_of_events_lead_to_their_message() {
        assert_eq!(message_id("1234"), Some("1234"));
        assert_eq!(message_id("1234/edit/2026-01-01T00:00:00Z"), Some("1234"));
        assert_eq!(message_id("../../users"), None);
        assert_eq!(message_id(""), None);
    }
}
