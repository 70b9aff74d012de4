//! Between the webhook's JSON and messages, and between statuses and what the gateway does next.

use sluicegate_sdk::http;
use sluicegate_sdk::inbox::{Outcome, PublishError};
use sluicegate_sdk::webhook::Response;
use sluicegate_sdk::{Conversation, DeliveryError, InboundMessage, OutboundMessage, Receipt, Sender};

use crate::wire::{Answer, Delivered, Incoming, Outgoing};

/// How long to wait where the URL asks for patience without a number, milliseconds. Chosen as the delivery worker's
/// own third step.
const RETRY_AFTER_MS: u64 = 10_000;

/// Makes the message of a posted body.
pub(crate) fn message(incoming: Incoming) -> InboundMessage {
    let conversation = if incoming.group {
        Conversation::group(incoming.conversation)
    } else {
        Conversation::direct(incoming.conversation)
    };
    let conversation = Conversation {
        thread: incoming.thread,
        ..conversation
    };
    let sender = Sender {
        name: incoming.sender_name,
        ..Sender::person(incoming.sender)
    };
    InboundMessage::text(incoming.id, conversation, sender, incoming.text)
}

/// Returns the answer to a caller whose message was published: success only where it is durable.
pub(crate) fn published(outcome: Result<Option<&Outcome>, PublishError>) -> Response {
    match outcome {
        Ok(Some(Outcome::Accepted)) => status(200, Answer::Status("accepted")),
        Ok(Some(Outcome::Duplicate)) => status(200, Answer::Status("duplicate")),
        Ok(Some(Outcome::Refused)) => status(
            403,
            Answer::Error("refused: its sender may not talk to the agent, or too much waits in its conversation"),
        ),
        Ok(None) => status(503, Answer::Error("the gateway did not say what became of the message")),
        Err(PublishError::Invalid(why)) => malformed(&why),
        Err(PublishError::ShuttingDown) => status(503, Answer::Error("the gateway is shutting down")),
        Err(PublishError::Busy(wait_ms)) => status(429, Answer::Error("too many messages"))
            // Whole seconds, rounded up: coming back too early would be in vain.
            .header("retry-after", &wait_ms.div_ceil(1000).max(1).to_string()),
    }
}

/// Returns the answer to a body that is not as it should be.
pub(crate) fn malformed(why: &str) -> Response {
    status(400, Answer::Error(why))
}

/// Returns the answer to a call that is none for this channel; none where it is one.
pub(crate) fn refused_call(method: &str, path: &str) -> Option<Response> {
    if !matches!(path, "" | "/") {
        return Some(status(
            404,
            Answer::Error("there is nothing here: post to the channel's own address"),
        ));
    }
    let other_method = || status(405, Answer::Error("only POST is understood")).header("allow", "POST");
    (!method.eq_ignore_ascii_case("POST")).then(other_method)
}

fn status(status: u16, answer: Answer<'_>) -> Response {
    Response::json(status, &answer)
}

/// Returns what is posted for a message.
pub(crate) fn outgoing(message: &OutboundMessage) -> Outgoing<'_> {
    Outgoing {
        delivery_key: &message.delivery_key,
        conversation: &message.conversation.id,
        thread: message.conversation.thread.as_deref(),
        in_reply_to: message.in_reply_to.as_deref(),
        text: &message.text,
        attempt: message.attempt,
    }
}

/// Says what the URL's answer means for the delivery. `now_ms` is the present time, Unix milliseconds.
pub(crate) fn receipt(response: &http::Response, delivery_key: &str, now_ms: u64) -> Result<Receipt, DeliveryError> {
    let said = format!("the URL answered {}", response.status);
    match response.status {
        200..=299 => {
            let id = response.json::<Delivered>().ok().and_then(|delivered| delivered.id);
            Ok(Receipt::complete([id.unwrap_or_else(|| delivery_key.to_owned())]))
        }
        401 | 403 => Err(DeliveryError::Unauthorized(said)),
        410 => Err(DeliveryError::NoSuchConversation(said)),
        429 => Err(DeliveryError::slow_channel(
            response.retry_after_ms(now_ms).unwrap_or(RETRY_AFTER_MS),
        )),
        408 | 503 => Err(DeliveryError::Unavailable(said)),
        // Something behind a gateway, or the program itself, failed after it may have taken the message.
        500..=599 => Err(DeliveryError::Ambiguous(said)),
        _ => Err(DeliveryError::Rejected(said)),
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_sdk::{Action, ConversationKind, WaitScope};

    use super::*;
    use crate::wire;

    fn answered(status: u16, headers: &[(&str, &str)], body: &str) -> Result<Receipt, DeliveryError> {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        receipt(
            &http::Response {
                status,
                headers,
                body: body.as_bytes().to_vec(),
            },
            "dlv_1",
            0,
        )
    }

    #[test]
    fn a_body_becomes_a_message() {
        let body = br#"{"id":"7","conversation":"c1","sender":"u1","text":"hi","thread":"t","sender_name":"Ada","group":true}"#;
        let message = message(wire::parse(body).expect("the body is right"));
        assert_eq!(
            (message.id.as_str(), message.text.as_str(), message.addressed),
            ("7", "hi", true)
        );
        assert_eq!(
            (message.sender.id.as_str(), message.sender.name.as_deref()),
            ("u1", Some("Ada"))
        );
        assert_eq!(
            (message.conversation.id.as_str(), message.conversation.thread.as_deref()),
            ("c1", Some("t"))
        );
        assert_eq!(message.conversation.kind, ConversationKind::Group);
    }

    #[test]
    fn a_caller_hears_success_only_for_what_is_durable() {
        let cases = [
            (Ok(Some(&Outcome::Accepted)), 200, r#"{"status":"accepted"}"#),
            (Ok(Some(&Outcome::Duplicate)), 200, r#"{"status":"duplicate"}"#),
            (Ok(Some(&Outcome::Refused)), 403, r#"{"error":"#),
            (Ok(None), 503, r#"{"error":"#),
            (Err(PublishError::Busy(1)), 429, r#"{"error":"#),
            (
                Err(PublishError::Invalid("too long".to_owned())),
                400,
                r#"{"error":"too long"}"#,
            ),
            (Err(PublishError::ShuttingDown), 503, r#"{"error":"#),
        ];
        for (outcome, status, body) in cases {
            let response = published(outcome);
            assert_eq!(response.status, status);
            assert!(
                String::from_utf8_lossy(&response.body).starts_with(body),
                "{response:?}"
            );
        }
    }

    #[test]
    fn a_busy_inbox_says_when_to_come_back() {
        for (wait_ms, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2")] {
            let response = published(Err(PublishError::Busy(wait_ms)));
            assert!(
                response
                    .headers
                    .contains(&("retry-after".to_owned(), seconds.as_bytes().to_vec())),
                "{wait_ms} ms"
            );
        }
    }

    #[test]
    fn only_a_post_to_the_mount_point_is_a_call() {
        let status = |method, path| refused_call(method, path).map(|response| response.status);
        assert_eq!(status("POST", ""), None);
        assert_eq!(status("POST", "/"), None);
        assert_eq!(status("GET", "/"), Some(405));
        assert_eq!(status("POST", "/deeper"), Some(404));
        let refused = refused_call("PUT", "").expect("only POST is a call");
        assert!(refused.headers.contains(&("allow".to_owned(), b"POST".to_vec())));
    }

    #[test]
    fn the_posted_json_has_the_fixed_form() {
        let message = OutboundMessage {
            action: Action::Send,
            delivery_key: "dlv_1".to_owned(),
            attempt: 2,
            conversation: Conversation::direct("c1"),
            in_reply_to: Some("7".to_owned()),
            text: "ho".to_owned(),
            attachments: Vec::new(),
            choices: Vec::new(),
            draft_id: None,
            already_sent: Vec::new(),
            extra: Vec::new(),
        };
        assert_eq!(
            serde_json::to_string(&outgoing(&message)).expect("strings can be written"),
            r#"{"delivery_key":"dlv_1","conversation":"c1","in_reply_to":"7","text":"ho","attempt":2}"#
        );
    }

    #[test]
    fn the_receipt_has_the_id_that_was_answered_or_else_the_key() {
        assert_eq!(answered(200, &[], r#"{"id":"x9"}"#), Ok(Receipt::complete(["x9"])));
        for body in ["", "ok", r#"{"id":9}"#, "{}"] {
            assert_eq!(answered(204, &[], body), Ok(Receipt::complete(["dlv_1"])), "{body:?}");
        }
    }

    #[test]
    fn each_status_says_what_to_do_next() {
        let is = |status, matches: fn(&DeliveryError) -> bool| {
            let error = answered(status, &[], "").expect_err("it was not delivered");
            assert!(matches(&error), "{status} became {error:?}");
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
        for status in [301, 400, 404, 422] {
            is(status, |error| matches!(error, DeliveryError::Rejected(_)));
        }
        is(410, |error| matches!(error, DeliveryError::NoSuchConversation(_)));
    }

    #[test]
    fn a_rate_limit_is_the_channels_and_as_long_as_asked() {
        let wait = |headers: &[(&str, &str)]| match answered(429, headers, "") {
            Err(DeliveryError::RateLimited(limit)) => (limit.retry_after_ms, limit.scope),
            other => panic!("{other:?}"),
        };
        assert_eq!(wait(&[("Retry-After", "3")]), (3000, WaitScope::Channel));
        assert_eq!(wait(&[]), (RETRY_AFTER_MS, WaitScope::Channel));
    }
}
