//! What an outbound message becomes on Slack: parts, and the parameters of the calls. Pure, so that a resumed delivery
//! plans the same parts again.

use sluicegate_sdk::parts::Part;
use sluicegate_sdk::serde_json::{Value, json};
use sluicegate_sdk::text::{self, Unit};
use sluicegate_sdk::{Conversation, OutboundMessage};

use crate::markup::to_mrkdwn;

/// The longest text of one message, code points: `chat.update` refuses more, and `chat.postMessage` advises it
/// (docs.slack.dev). A draft has to fit both.
pub const TEXT_CHARACTERS_MAX: usize = 4_000;
/// The shares of the limit that texts are split at, until the converted parts fit: escapes make them longer.
const SPLIT_DIVISORS: [usize; 4] = [1, 2, 4, 8];
/// Emoji that people send often, under Slack's names for them.
const EMOJI: [(&str, &str); 12] = [
    ("👍", "+1"),
    ("👎", "-1"),
    ("❤", "heart"),
    ("🎉", "tada"),
    ("👀", "eyes"),
    ("✅", "white_check_mark"),
    ("❌", "x"),
    ("🚀", "rocket"),
    ("🔥", "fire"),
    ("🙏", "pray"),
    ("👏", "clap"),
    ("🤔", "thinking_face"),
];

/// Returns the parts in the order of sending, texts first; empty where there is nothing to send.
pub fn parts(message: &OutboundMessage) -> Vec<Part<'_>> {
    let texts = text_parts(&text::with_numbered(&message.text, &message.choices));
    sluicegate_sdk::parts::of(texts, message)
}

/// Splits a text and converts the parts; what Slack would find empty is left out.
pub fn text_parts(markdown: &str) -> Vec<String> {
    let fits = |parts: &Vec<String>| {
        parts
            .iter()
            .all(|part| Unit::CodePoints.measure(part) <= TEXT_CHARACTERS_MAX)
    };
    let tries = SPLIT_DIVISORS.into_iter().map(|divisor| {
        let source = text::split(markdown, TEXT_CHARACTERS_MAX / divisor, Unit::CodePoints);
        source.iter().map(|part| to_mrkdwn(part)).collect::<Vec<_>>()
    });
    let mut parts = tries.into_iter().find(fits).unwrap_or_else(|| {
        // Marks and escapes that are more than the text itself: it is cut as it is shown.
        text::split(&to_mrkdwn(markdown), TEXT_CHARACTERS_MAX, Unit::CodePoints)
    });
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// Returns the parameters of a new message.
pub fn new_message(conversation: &Conversation, text: &str) -> Value {
    let mut params = json!({"channel": conversation.id, "text": text, "unfurl_links": false, "unfurl_media": false});
    if let Some(thread) = &conversation.thread {
        params["thread_ts"] = json!(thread);
    }
    params
}

/// Returns the Slack message that an id means: events carry the conversation before a slash.
pub fn message_ts(id: &str) -> Option<&str> {
    id.split('/').find(|piece| is_ts(piece))
}

fn is_ts(text: &str) -> bool {
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('.')
        .is_some_and(|(seconds, order)| is_number(seconds) && is_number(order))
}

/// Returns Slack's name of an emoji: names stay as they are, and the most usual characters are known.
pub fn emoji_name(emoji: &str) -> Option<&str> {
    let name = emoji.trim_matches(':');
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-'".contains(&b)) {
        return Some(name);
    }
    // The selector asks for the coloured form.
    let bare = name.trim_end_matches('\u{fe0f}');
    EMOJI.iter().find(|(known, _)| *known == bare).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sluicegate_sdk::{Action, Attachment, AttachmentSource};

    use super::*;

    #[test]
    fn a_long_text_is_split_within_the_limit_with_its_code_in_blocks() {
        let text = format!(
            "{}\n\n```rust\n{}```\n",
            "point **one** & two\n".repeat(400),
            "a < b;\n".repeat(2000)
        );
        let parts = text_parts(&text);
        assert!(parts.len() > 4, "{} parts", parts.len());
        for part in &parts {
            assert!(part.chars().count() <= TEXT_CHARACTERS_MAX);
            assert_eq!(part.matches("```").count() % 2, 0, "a part leaves a block open: {part}");
        }
        assert_eq!(parts, text_parts(&text), "the same text splits the same way");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_text_fits(text in "[a-z*_`~>#&<\\- \\n😀]{0,9000}") {
            for part in text_parts(&text) {
                prop_assert!(part.chars().count() <= TEXT_CHARACTERS_MAX);
            }
        }
    }

    #[test]
    fn a_text_of_escapes_alone_fits_too() {
        for part in text_parts(&"&".repeat(9_000)) {
            assert!(part.chars().count() <= TEXT_CHARACTERS_MAX);
        }
    }

    #[test]
    fn a_message_goes_into_its_thread_and_files_come_last() {
        let file = Attachment {
            name: None,
            media_type: "image/png".to_owned(),
            source: AttachmentSource::Blob("b1".to_owned()),
        };
        let message = OutboundMessage {
            action: Action::Send,
            delivery_key: "dlv_1".to_owned(),
            attempt: 1,
            conversation: Conversation {
                thread: Some("1.2".to_owned()),
                ..Conversation::group("C1")
            },
            in_reply_to: None,
            text: "hi".to_owned(),
            attachments: vec![file.clone()],
            choices: Vec::new(),
            draft_id: None,
            already_sent: Vec::new(),
            extra: Vec::new(),
        };
        assert_eq!(parts(&message), [Part::Text("hi".to_owned()), Part::File(&file)]);
        assert_eq!(new_message(&message.conversation, "hi")["thread_ts"], "1.2");
        assert_eq!(new_message(&Conversation::direct("D1"), "hi").get("thread_ts"), None);
    }

    #[test]
    fn ids_of_events_lead_to_their_message() {
        assert_eq!(message_ts("1700000000.000100"), Some("1700000000.000100"));
        assert_eq!(
            message_ts("C1/1700000000.000100/edit/1700000001.000000"),
            Some("1700000000.000100")
        );
        for odd in ["", "C1", "C1/x", "1.", ".1", "1.2.3"] {
            assert_eq!(message_ts(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn an_emoji_has_slacks_name() {
        assert_eq!(emoji_name(":thumbsup:"), Some("thumbsup"));
        assert_eq!(emoji_name("👍"), Some("+1"));
        assert_eq!(emoji_name("❤️"), Some("heart"));
        assert_eq!(emoji_name("🦑"), None);
        assert_eq!(emoji_name(""), None);
    }
}
