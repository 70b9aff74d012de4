//! What a refused call means: to a delivery, and to a listener.

use std::fmt;

use sluicegate_sdk::http::HttpError;
use sluicegate_sdk::recovery::Remedy;
use sluicegate_sdk::{DeliveryError, serde_json};

use crate::wire::{Envelope, Parameters};

/// The longest wait that is believed, seconds: a day. Telegram's own waits stay far below it.
const RETRY_AFTER_S_MAX: u64 = 24 * 3600;

/// What Telegram's descriptions contain when the conversation is closed to the bot for good. Telegram has no codes for
/// these (core.telegram.org/api/errors), so its words are all there is to tell by.
const NO_CONVERSATION: [&str; 12] = [
    "chat not found",
    "bot was blocked",
    "bot was kicked",
    "user is deactivated",
    "user not found",
    "group chat was deleted",
    "peer_id_invalid",
    "bot is not a member",
    "have no rights to send",
    "not enough rights to send",
    "message thread not found",
    "topic_closed",
];

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// Telegram refused it.
    Api {
        /// `error_code`, as HTTP's status.
        code: u16,
        /// Telegram's words.
        description: String,
        /// What to do about it.
        parameters: Parameters,
    },
    /// Something before Telegram answered, with this status and without Telegram's envelope.
    Gateway(u16),
    /// Telegram accepted it and answered with something else than the method's result.
    Unreadable(String),
    /// No answer.
    Http(HttpError),
}

impl Failure {
    /// Reads an answer: its result, or why it has none.
    ///
    /// # Errors
    /// [`Failure::Api`], [`Failure::Gateway`] or [`Failure::Unreadable`].
    pub fn or_result(status: u16, body: &[u8]) -> Result<serde_json::Value, Self> {
        let success = (200..300).contains(&status);
        let envelope: Envelope = match serde_json::from_slice(body) {
            Ok(envelope) => envelope,
            Err(error) if success => return Err(Self::Unreadable(error.to_string())),
            Err(_) => return Err(Self::Gateway(status)),
        };
        if success && envelope.ok {
            return Ok(envelope.result);
        }
        Err(Self::Api {
            code: envelope.error_code.unwrap_or(status),
            description: envelope.description.unwrap_or_else(|| format!("status {status}")),
            parameters: envelope.parameters.unwrap_or_default(),
        })
    }

    /// Returns whether Telegram refused it as wrong (400), with words that contain one of `words`, in any case.
    pub fn is_bad_request(&self, words: &[&str]) -> bool {
        matches!(self, Self::Api { code: 400, description, .. } if contains(description, words))
    }

    /// Returns the chat id that the group has now.
    pub fn migrated_to(&self) -> Option<i64> {
        match self {
            Self::Api { parameters, .. } => parameters.migrate_to_chat_id,
            _ => None,
        }
    }

    /// Returns whether the same call may succeed a moment later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Api { code, .. } | Self::Gateway(code) => *code >= 500 || *code == 429,
            Self::Http(error) => {
                matches!(
                    error,
                    HttpError::Unreachable(_) | HttpError::Interrupted(_) | HttpError::Busy
                )
            }
            Self::Unreadable(_) => false,
        }
    }

    /// Says what a listener does about it. `doing` names the call, for the operator.
    pub fn remedy(&self, doing: &str) -> Remedy {
        match self {
            Self::Api { code: 401 | 404, .. } => Remedy::Refused(format!("{doing}: credentials refused: {self}")),
            Self::Api {
                code: 409, description, ..
            } if contains(description, &["webhook"]) => Remedy::GiveUp(format!(
                "{doing}: a webhook is set for this bot, so it can't be polled: remove it with deleteWebhook, or set mode \
                 to \"webhook\" ({description})"
            )),
            Self::Api {
                code: 409, description, ..
            } => Remedy::GiveUp(format!(
                "{doing}: another program polls with the same bot token: stop it, or use another bot ({description})"
            )),
            Self::Api {
                code: 429, parameters, ..
            } => Remedy::Wait(wait_ms(*parameters)),
            Self::Api { code, .. } | Self::Gateway(code) if *code >= 500 || *code == 429 => Remedy::BackOff,
            Self::Http(HttpError::ShuttingDown) => Remedy::Shutdown,
            Self::Http(HttpError::TooLarge) => Remedy::Smaller,
            Self::Http(HttpError::Denied(_) | HttpError::Invalid(_)) => Remedy::GiveUp(format!("{doing}: {self}")),
            Self::Http(_) | Self::Unreadable(_) => Remedy::BackOff,
            Self::Api { .. } | Self::Gateway(_) => Remedy::GiveUp(format!("{doing}: {self}")),
        }
    }
}

fn contains(description: &str, words: &[&str]) -> bool {
    let description = description.to_lowercase();
    words.iter().any(|word| description.contains(word))
}

fn wait_ms(parameters: Parameters) -> u64 {
    parameters.retry_after.unwrap_or(1).clamp(1, RETRY_AFTER_S_MAX) * 1000
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api { code, description, .. } => write!(f, "Telegram answered {code}: {description}"),
            Self::Gateway(status) if *status >= 500 => write!(f, "the server or a proxy before it answered {status}"),
            Self::Gateway(status) => write!(f, "{status} without Telegram's envelope: is api-base right?"),
            Self::Unreadable(why) => write!(f, "the answer can't be read: {why}"),
            Self::Http(error) => f.write_str(&error.words()),
        }
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

/// What a failed call means for the delivery that made it.
impl From<Failure> for DeliveryError {
    fn from(failure: Failure) -> Self {
        let words = failure.to_string();
        match failure {
            Failure::Http(error) => error.into(),
            // It arrived, and what Telegram made of it is lost.
            Failure::Unreadable(_) => Self::Ambiguous(words),
            Failure::Api {
                code: 429, parameters, ..
            } => Self::slow_conversation(wait_ms(parameters)),
            Failure::Gateway(429) => Self::slow_conversation(wait_ms(Parameters::default())),
            Failure::Api { code: 401 | 404, .. } | Failure::Gateway(401) => Self::Unauthorized(words),
            Failure::Api { code: 403, .. } => Self::NoSuchConversation(words),
            Failure::Api {
                code: 400, description, ..
            } if contains(&description, &NO_CONVERSATION) => Self::NoSuchConversation(words),
            Failure::Api { code: 503, .. } | Failure::Gateway(503) => Self::Unavailable(words),
            // The server may have accepted the message before it, or the proxy before it, gave up.
            Failure::Api { code, .. } | Failure::Gateway(code) if code >= 500 => Self::Ambiguous(words),
            // A proxy that is set up wrong says nothing about the message.
            Failure::Gateway(_) => Self::Unavailable(words),
            Failure::Api { .. } => Self::Rejected(words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(code: u16, description: &str) -> Failure {
        Failure::Api {
            code,
            description: description.to_owned(),
            parameters: Parameters::default(),
        }
    }

    fn kind(failure: Failure) -> &'static str {
        match DeliveryError::from(failure) {
            DeliveryError::RateLimited(_) => "rate-limited",
            DeliveryError::Unavailable(_) => "unavailable",
            DeliveryError::Ambiguous(_) => "ambiguous",
            DeliveryError::Rejected(_) => "rejected",
            DeliveryError::NoSuchConversation(_) => "no-such-conversation",
            DeliveryError::Unauthorized(_) => "unauthorized",
        }
    }

    #[test]
    fn each_failure_has_its_typed_error() {
        let cases = [
            (api(401, "Unauthorized"), "unauthorized"),
            (api(404, "Not Found"), "unauthorized"),
            (
                api(403, "Forbidden: bot was blocked by the user"),
                "no-such-conversation",
            ),
            (api(400, "Bad Request: chat not found"), "no-such-conversation"),
            (api(400, "Bad Request: PEER_ID_INVALID"), "no-such-conversation"),
            (api(400, "Bad Request: message is too long"), "rejected"),
            (api(413, "Request Entity Too Large"), "rejected"),
            (api(500, "Internal Server Error"), "ambiguous"),
            (api(503, "Service Unavailable"), "unavailable"),
            (Failure::Gateway(502), "ambiguous"),
            (Failure::Gateway(504), "ambiguous"),
            (Failure::Gateway(503), "unavailable"),
            (Failure::Gateway(404), "unavailable"),
            (Failure::Gateway(429), "rate-limited"),
            (Failure::Unreadable(String::new()), "ambiguous"),
            (Failure::Http(HttpError::Interrupted(String::new())), "ambiguous"),
            (Failure::Http(HttpError::Unreachable(String::new())), "unavailable"),
            (Failure::Http(HttpError::Denied(String::new())), "unavailable"),
            (Failure::Http(HttpError::Busy), "unavailable"),
        ];
        for (failure, wanted) in cases {
            assert_eq!(kind(failure.clone()), wanted, "{failure:?}");
            assert!(!failure.to_string().contains("HttpError"), "{failure}");
        }
    }

    #[test]
    fn a_rate_limit_is_in_milliseconds_and_for_the_conversation() {
        let body = br#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 7",
            "parameters":{"retry_after":7}}"#;
        let failure = Failure::or_result(429, body).expect_err("it is an error");
        assert_eq!(failure.remedy("getUpdates"), Remedy::Wait(7000));
        assert_eq!(DeliveryError::from(failure), DeliveryError::slow_conversation(7000));
    }

    #[test]
    fn answers_are_read_with_and_without_the_envelope() {
        assert_eq!(
            Failure::or_result(200, br#"{"ok":true,"result":true}"#),
            Ok(serde_json::Value::Bool(true))
        );
        assert_eq!(Failure::or_result(502, b"<html>"), Err(Failure::Gateway(502)));
        assert!(matches!(
            Failure::or_result(200, b"<html>"),
            Err(Failure::Unreadable(_))
        ));
        let moved = br#"{"ok":false,"error_code":400,"description":"x","parameters":{"migrate_to_chat_id":-1007}}"#;
        assert_eq!(
            Failure::or_result(400, moved)
                .expect_err("it is an error")
                .migrated_to(),
            Some(-1007)
        );
    }

    #[test]
    fn a_listener_stops_only_where_asking_again_is_of_no_use() {
        for refused in [api(401, "Unauthorized"), api(404, "Not Found")] {
            let remedy = refused.remedy("getUpdates");
            assert!(matches!(&remedy, Remedy::Refused(said) if said.contains("credentials refused")));
        }
        let stops = [
            (
                api(409, "Conflict: can't use getUpdates method while webhook is active"),
                "deleteWebhook",
            ),
            (
                api(409, "Conflict: terminated by other getUpdates request"),
                "another program polls",
            ),
            (
                Failure::Http(HttpError::Denied("https://api.telegram.org".into())),
                "api.telegram.org",
            ),
        ];
        for (failure, words) in stops {
            let remedy = failure.remedy("getUpdates");
            assert!(
                matches!(&remedy, Remedy::GiveUp(said) if said.contains(words)),
                "{failure:?} became {remedy:?}"
            );
        }
        for failure in [
            api(500, ""),
            Failure::Gateway(502),
            Failure::Http(HttpError::Unreachable(String::new())),
        ] {
            assert_eq!(failure.remedy("getUpdates"), Remedy::BackOff);
        }
        assert_eq!(Failure::Http(HttpError::ShuttingDown).remedy(""), Remedy::Shutdown);
        assert_eq!(Failure::Http(HttpError::TooLarge).remedy(""), Remedy::Smaller);
    }
}
