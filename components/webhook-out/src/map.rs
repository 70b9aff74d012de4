//! Between messages and what is posted. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sluicegate_sdk::document::Document;
use sluicegate_sdk::http::Response;
use sluicegate_sdk::{Attachment, AttachmentSource, DeliveryError, OutboundMessage, Receipt};

use crate::wire::{File, Taken};

/// How long to wait where the receiver does not say, milliseconds.
const RETRY_AFTER_MS: u64 = 5_000;

/// Returns what is posted for a message.
pub(crate) fn posted(message: &OutboundMessage, files: Vec<File>) -> Document<'_, File> {
    Document::of(message, files).attempt(message.attempt)
}

/// Returns a file as it is posted; `bytes` are those of one without a link.
pub(crate) fn file(attachment: &Attachment, bytes: &[u8]) -> File {
    let (url, base64) = match &attachment.source {
        AttachmentSource::Url(url) => (Some(url.clone()), None),
        AttachmentSource::Blob(_) => (None, Some(STANDARD.encode(bytes))),
    };
    File {
        name: attachment.name.clone().unwrap_or_else(|| "file".to_owned()),
        media_type: attachment.media_type.clone(),
        url,
        base64,
    }
}

/// Returns the bytes that are signed (Standard Webhooks, "Signature scheme").
pub(crate) fn signed_payload(id: &str, seconds: u64, body: &[u8]) -> Vec<u8> {
    let mut signed = format!("{id}.{seconds}.").into_bytes();
    signed.extend_from_slice(body);
    signed
}

/// Writes a signature as it stands in its header.
pub(crate) fn signature(bytes: &[u8]) -> String {
    format!("v1,{}", STANDARD.encode(bytes))
}

/// Reads the receiver's answer.
///
/// # Errors
/// What a refusal means for the delivery.
pub(crate) fn receipt(response: &Response, key: &str, now_ms: u64) -> Result<Receipt, DeliveryError> {
    if response.is_success() {
        let id = response
            .json::<Taken>()
            .map_or_else(|_| key.to_owned(), |taken| taken.id);
        return Ok(Receipt::complete([id]));
    }
    let status = response.status;
    let why = format!("the receiver answered {status}");
    Err(match status {
        401 | 403 => DeliveryError::Unauthorized(why),
        408 | 503 => DeliveryError::Unavailable(why),
        410 => DeliveryError::NoSuchConversation(why),
        429 => DeliveryError::slow_channel(response.retry_after_ms(now_ms).unwrap_or(RETRY_AFTER_MS)),
        500..=599 => DeliveryError::Ambiguous(why),
        _ => DeliveryError::Rejected(why),
    })
}

#[cfg(test)]
mod tests {
    use sluicegate_sdk::{Action, Conversation, Reaction, WaitScope, serde_json};

    use super::*;

    fn message(action: Action) -> OutboundMessage {
        OutboundMessage {
            action,
            delivery_key: "dlv_1".to_owned(),
            attempt: 2,
            conversation: Conversation::direct("c1"),
            in_reply_to: None,
            text: "hi".to_owned(),
            attachments: Vec::new(),
            choices: Vec::new(),
            draft_id: None,
            already_sent: Vec::new(),
            extra: Vec::new(),
        }
    }

    fn answered(status: u16, body: &str) -> Result<Receipt, DeliveryError> {
        let response = Response {
            status,
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
        };
        receipt(&response, "dlv_1", 0)
    }

    #[test]
    fn the_posted_json_has_the_fixed_form() {
        let json = |action| serde_json::to_string(&posted(&message(action), Vec::new())).expect("it can be written");
        assert_eq!(
            json(Action::Send),
            r#"{"type":"message.sent","delivery_key":"dlv_1","conversation":"c1","text":"hi","attempt":2}"#
        );
        let reaction = Reaction {
            message_id: "m1".to_owned(),
            emoji: "+".to_owned(),
        };
        let reacted = json(Action::React(reaction));
        assert!(reacted.contains(r#""type":"message.reacted""#) && reacted.contains(r#""message":"m1","emoji":"+""#));
        assert!(json(Action::Edit("m2".to_owned())).contains(r#""type":"message.edited""#));
        assert!(json(Action::Delete("m2".to_owned())).contains(r#""message":"m2""#));
    }

    #[test]
    fn a_file_is_its_link_or_its_bytes() {
        let attachment = |source| Attachment {
            name: Some("a.txt".to_owned()),
            media_type: "text/plain".to_owned(),
            source,
        };
        let blob = file(&attachment(AttachmentSource::Blob("b".to_owned())), b"hi");
        assert_eq!((blob.url, blob.base64.as_deref()), (None, Some("aGk=")));
        let link = file(
            &attachment(AttachmentSource::Url("https://x.example/a".to_owned())),
            b"",
        );
        assert_eq!((link.url.as_deref(), link.base64), (Some("https://x.example/a"), None));
    }

    #[test]
    fn id_time_and_body_are_signed() {
        assert_eq!(signed_payload("dlv_1", 7, b"{}"), b"dlv_1.7.{}");
        assert_eq!(signature(&[0xff, 0x00]), "v1,/wA=");
    }

    #[test]
    fn each_answer_says_what_to_do_next() {
        assert_eq!(answered(202, r#"{"id":"x9"}"#), Ok(Receipt::complete(["x9"])));
        assert_eq!(answered(204, ""), Ok(Receipt::complete(["dlv_1"])));
        let is = |status, meaning: fn(&DeliveryError) -> bool| {
            let error = answered(status, "").expect_err("it was refused");
            assert!(meaning(&error), "{status} became {error:?}");
        };
        for status in [401, 403] {
            is(status, |error| matches!(error, DeliveryError::Unauthorized(_)));
        }
        for status in [408, 503] {
            is(status, |error| matches!(error, DeliveryError::Unavailable(_)));
        }
        for status in [500, 502, 504] {
            is(status, |error| matches!(error, DeliveryError::Ambiguous(_)));
        }
        for status in [301, 400, 404, 413] {
            is(status, |error| matches!(error, DeliveryError::Rejected(_)));
        }
        is(410, |error| matches!(error, DeliveryError::NoSuchConversation(_)));
        is(
            429,
            |error| matches!(error, DeliveryError::RateLimited(limit) if limit.scope == WaitScope::Channel),
        );
    }
}
