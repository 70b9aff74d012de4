//! Between messages and notifications. Pure.

use sluicegate_sdk::http::Response;
use sluicegate_sdk::text::{self, Unit};
use sluicegate_sdk::{AttachmentSource, Conversation, DeliveryError, OutboundMessage};

use crate::wire::{Link, Published, Refusal};

/// The longest message, bytes: a longer one becomes a text file (docs.ntfy.sh/publish, "Limitations").
const TEXT_BYTES_MAX: usize = 4096;
/// The longest topic, characters (docs.ntfy.sh/publish: `^[-_A-Za-z0-9]{1,64}$`).
const TOPIC_CHARS_MAX: usize = 64;
/// How long to wait where the server does not say, milliseconds: its limits refill one message each five seconds.
const RETRY_AFTER_MS: u64 = 5_000;

/// One notification.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// CommonMark that fits.
    Text(String),
    /// A file with its bytes.
    Blob {
        /// Its name.
        name: &'a str,
        /// The handle of its bytes.
        blob: &'a str,
    },
    /// A file that lies somewhere else.
    Link(Link<'a>),
}

/// Returns the topic that a conversation names.
///
/// # Errors
/// Where it can't be one.
pub(crate) fn topic(conversation: &Conversation) -> Result<&str, DeliveryError> {
    let topic = conversation.id.as_str();
    let is_plain = topic
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_plain && (1..=TOPIC_CHARS_MAX).contains(&topic.len()) {
        return Ok(topic);
    }
    Err(DeliveryError::Rejected(format!(
        "{topic:?} is no topic: it has 1 to {TOPIC_CHARS_MAX} of A-Z, a-z, 0-9, - and _"
    )))
}

/// Returns the notifications of a message, the text first.
pub(crate) fn parts(message: &OutboundMessage) -> Vec<Part<'_>> {
    let words = text::with_numbered(&message.text, &message.choices);
    let mut texts = text::split(&words, TEXT_BYTES_MAX, Unit::Bytes);
    texts.retain(|part| !part.trim().is_empty());
    let files = message.attachments.iter().map(|file| match &file.source {
        AttachmentSource::Blob(blob) => Part::Blob {
            name: file.name.as_deref().filter(|name| !name.is_empty()).unwrap_or("file"),
            blob,
        },
        AttachmentSource::Url(url) => Part::Link(Link {
            url,
            name: file.name.as_deref(),
        }),
    });
    texts.into_iter().map(Part::Text).chain(files).collect()
}

/// Reads the answer to a published part: the id of its notification.
///
/// # Errors
/// What a refusal means for the delivery.
pub(crate) fn published(response: &Response, now_ms: u64) -> Result<String, DeliveryError> {
    if response.is_success() {
        let published: Result<Published, _> = response.json();
        // It was taken whatever it says.
        return Ok(published.map(|published| published.id).unwrap_or_default());
    }
    let status = response.status;
    let why = match response.json::<Refusal>() {
        Ok(refusal) => format!("ntfy answered {status}: {}", refusal.error),
        Err(_) => format!("ntfy answered {status}"),
    };
    Err(match status {
        401 => DeliveryError::Unauthorized(why),
        // The token is known, and the topic is not open to it.
        403 => DeliveryError::NoSuchConversation(why),
        408 | 503 => DeliveryError::Unavailable(why),
        429 => DeliveryError::slow_channel(response.retry_after_ms(now_ms).unwrap_or(RETRY_AFTER_MS)),
        500..=599 => DeliveryError::Ambiguous(why),
        _ => DeliveryError::Rejected(why),
    })
}

#[cfg(test)]
mod tests {
    use sluicegate_sdk::{Action, Attachment, Choice};

    use super::*;

    fn message(text: &str) -> OutboundMessage {
        OutboundMessage {
            action: Action::Send,
            delivery_key: "dlv_1".to_owned(),
            attempt: 1,
            conversation: Conversation::direct("alerts"),
            in_reply_to: None,
            text: text.to_owned(),
            attachments: Vec::new(),
            choices: Vec::new(),
            draft_id: None,
            already_sent: Vec::new(),
            extra: Vec::new(),
        }
    }

    fn answered(status: u16, body: &str) -> Result<String, DeliveryError> {
        let response = Response {
            status,
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
        };
        published(&response, 0)
    }

    #[test]
    fn a_topic_can_not_leave_its_place_in_the_url() {
        let fine = Conversation::direct("My-alerts_7");
        assert_eq!(topic(&fine), Ok("My-alerts_7"));
        for wrong in ["", "a/b", "..", "a?b", "{{token}}", "é", &"x".repeat(65)] {
            let conversation = Conversation::direct(wrong);
            let refused = topic(&conversation);
            assert!(matches!(refused, Err(DeliveryError::Rejected(_))), "{wrong:?}");
        }
    }

    #[test]
    fn a_long_text_becomes_several_that_fit_in_bytes() {
        let message = message(&"wäre es ".repeat(1500));
        let parts = parts(&message);
        assert_eq!(parts.len(), 4);
        for part in parts {
            assert!(
                matches!(&part, Part::Text(text) if text.len() <= TEXT_BYTES_MAX),
                "{part:?}"
            );
        }
    }

    #[test]
    fn choices_are_lines_and_files_follow_the_text() {
        let file = |name: Option<&str>, source| Attachment {
            name: name.map(str::to_owned),
            media_type: "text/plain".to_owned(),
            source,
        };
        let url = "https://example.org/a".to_owned();
        let message = OutboundMessage {
            choices: vec![Choice {
                id: "y".to_owned(),
                label: "Yes".to_owned(),
            }],
            attachments: vec![
                file(None, AttachmentSource::Blob("b1".to_owned())),
                file(Some("a"), AttachmentSource::Url(url.clone())),
            ],
            ..message("Sure?")
        };
        let parts = parts(&message);
        assert!(
            matches!(&parts[0], Part::Text(text) if text.contains("1. Yes")),
            "{parts:?}"
        );
        let link = Link {
            url: &url,
            name: Some("a"),
        };
        assert_eq!(
            parts[1..],
            [
                Part::Blob {
                    name: "file",
                    blob: "b1"
                },
                Part::Link(link)
            ]
        );
    }

    #[test]
    fn each_answer_says_what_to_do_next() {
        assert_eq!(answered(200, r#"{"id":"x9","time":1}"#), Ok("x9".to_owned()));
        assert_eq!(answered(200, "?"), Ok(String::new()));
        let is = |status, meaning: fn(&DeliveryError) -> bool| {
            let error = answered(status, r#"{"code":1,"http":400,"error":"because"}"#).expect_err("it was refused");
            assert!(meaning(&error), "{status} became {error:?}");
        };
        is(
            401,
            |error| matches!(error, DeliveryError::Unauthorized(why) if why.ends_with("because")),
        );
        is(403, |error| matches!(error, DeliveryError::NoSuchConversation(_)));
        is(
            429,
            |error| matches!(error, DeliveryError::RateLimited(limit) if limit.retry_after_ms == RETRY_AFTER_MS),
        );
        is(503, |error| matches!(error, DeliveryError::Unavailable(_)));
        is(500, |error| matches!(error, DeliveryError::Ambiguous(_)));
        for status in [400, 404, 413] {
            is(status, |error| matches!(error, DeliveryError::Rejected(_)));
        }
    }
}
