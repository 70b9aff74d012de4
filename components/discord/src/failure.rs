//! What a refused call means: to a delivery, and to the listener (Discord: Opcodes and Status Codes, JSON Error Codes).

use std::fmt;

use sluicegate_sdk::http::{HttpError, Response};
use sluicegate_sdk::recovery::Remedy;
use sluicegate_sdk::{DeliveryError, serde_json};

use crate::wire::ErrorBody;

/// The longest wait that is believed, milliseconds: a day. Discord's own waits stay far below it.
const WAIT_MS_MAX: u64 = 24 * 3600 * 1000;
/// The wait after a 429 that does not say how long, milliseconds.
const WAIT_MS_DEFAULT: u64 = 5_000;

/// Codes that say that the conversation is gone or closed to the bot: unknown channel, server or person; no access, no
/// permission, a person who takes no messages, a thread that is archived or locked, a channel of another kind.
const NO_CONVERSATION: [u32; 14] = [
    10003, 10004, 10013, 20001, 40002, 50001, 50003, 50007, 50008, 50013, 50024, 50083, 50278, 160005,
];
/// The code of a message that is not there (any more).
const UNKNOWN_MESSAGE: u32 = 10008;
/// Codes that say to wait although the status is not 429: slow mode, and what may be written in a channel or a server.
const TOO_FAST: [u32; 3] = [20016, 20028, 20029];

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// Discord refused it.
    Api {
        /// HTTP's status.
        status: u16,
        /// Discord's code, or 0.
        code: u32,
        /// Discord's words.
        message: String,
    },
    /// A limit has been reached.
    RateLimited {
        /// Milliseconds to wait.
        wait_ms: u64,
        /// Whether the whole bot is to wait, and not only this conversation.
        global: bool,
    },
    /// Something before Discord answered, with this status and without Discord's words.
    Gateway(u16),
    /// Discord accepted it and answered with something else than the result.
    Unreadable(String),
    /// No answer.
    Http(HttpError),
}

impl Failure {
    /// Reads an answer that is no success. `now_ms` is the present time, Unix milliseconds.
    pub fn of(response: &Response, now_ms: u64) -> Self {
        let status = response.status;
        let body: Option<ErrorBody> = serde_json::from_slice(&response.body).ok();
        let asked_ms = body
            .as_ref()
            .and_then(|body| body.retry_after)
            .map(milliseconds)
            .or_else(|| response.retry_after_ms(now_ms));
        let wait_ms = asked_ms.unwrap_or(WAIT_MS_DEFAULT).clamp(1, WAIT_MS_MAX);
        let is_global_header = response.header("x-ratelimit-global").is_some();
        match body {
            Some(body) if status == 429 => Self::RateLimited {
                wait_ms,
                global: body.global || is_global_header,
            },
            // Without Discord's words it is the network before Discord that refuses all that this address sends.
            None if status == 429 => Self::RateLimited { wait_ms, global: true },
            Some(body) if TOO_FAST.contains(&body.code) => Self::RateLimited { wait_ms, global: false },
            Some(body) => Self::Api {
                status,
                code: body.code,
                message: body.message,
            },
            None => Self::Gateway(status),
        }
    }

    /// Returns whether there is no such message (any more).
    pub fn is_unknown_message(&self) -> bool {
        matches!(
            self,
            Self::Api {
                code: UNKNOWN_MESSAGE,
                ..
            }
        )
    }

    /// Says what the listener does about it. `doing` names the call, for the operator.
    pub fn remedy(&self, doing: &str) -> Remedy {
        match self {
            Self::Api { status: 401, .. } => Remedy::Refused(format!(
                "{doing}: Discord refuses the bot token: take a new one from the Developer Portal ({self})"
            )),
            Self::RateLimited { wait_ms, .. } => Remedy::Wait(*wait_ms),
            Self::Http(HttpError::ShuttingDown) => Remedy::Shutdown,
            Self::Http(HttpError::Denied(_) | HttpError::Invalid(_)) => Remedy::GiveUp(format!("{doing}: {self}")),
            Self::Api { status, .. } if *status < 500 => Remedy::GiveUp(format!("{doing}: {self}")),
            _ => Remedy::BackOff,
        }
    }
}

/// Discord's seconds with fractions, rounded up: a little late is better than too early.
fn milliseconds(seconds: f64) -> u64 {
    // A float that is no number, negative or too large becomes the nearest whole number that there is.
    (seconds * 1000.0).ceil() as u64
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api {
                status,
                code: 0,
                message,
            } => write!(f, "Discord answered {status}: {message}"),
            Self::Api { status, code, message } => write!(f, "Discord answered {status} (code {code}): {message}"),
            Self::RateLimited { wait_ms, .. } => write!(f, "Discord asks to wait {wait_ms} ms"),
            Self::Gateway(status) if *status >= 500 => write!(f, "the server or a proxy before it answered {status}"),
            Self::Gateway(status) => write!(f, "{status} without Discord's words: is api-base right?"),
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
            // It arrived, and what Discord made of it is lost.
            Failure::Unreadable(_) => Self::Ambiguous(words),
            Failure::RateLimited { wait_ms, global: true } => Self::slow_channel(wait_ms),
            Failure::RateLimited { wait_ms, global: false } => Self::slow_conversation(wait_ms),
            Failure::Api { status: 401, .. } | Failure::Gateway(401) => Self::Unauthorized(words),
            Failure::Api { code, .. } if NO_CONVERSATION.contains(&code) => Self::NoSuchConversation(words),
            Failure::Api { status: 403, .. } => Self::NoSuchConversation(words),
            Failure::Api { status: 503, .. } | Failure::Gateway(503) => Self::Unavailable(words),
            // Discord may have accepted the message before it, or the proxy before it, gave up.
            Failure::Api { status, .. } | Failure::Gateway(status) if status >= 500 => Self::Ambiguous(words),
            // A proxy that is set up wrong says nothing about the message.
            Failure::Gateway(_) => Self::Unavailable(words),
            Failure::Api { .. } => Self::Rejected(words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Failure {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let response = Response {
            status,
            headers: headers.collect(),
            body: body.as_bytes().to_vec(),
        };
        Failure::of(&response, 0)
    }

    fn api(status: u16, code: u32) -> Failure {
        answer(status, &[], &format!(r#"{{"code":{code},"message":"words"}}"#))
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
            (api(401, 0), "unauthorized"),
            (api(403, 50001), "no-such-conversation"),
            (api(403, 50007), "no-such-conversation"),
            (api(403, 99), "no-such-conversation"),
            (api(404, 10003), "no-such-conversation"),
            (api(400, 50083), "no-such-conversation"),
            (api(404, 10008), "rejected"),
            (api(400, 50035), "rejected"),
            (api(400, 50006), "rejected"),
            (api(413, 40005), "rejected"),
            (api(400, 20016), "rate-limited"),
            (api(500, 0), "ambiguous"),
            (api(503, 0), "unavailable"),
            (answer(502, &[], "<html>"), "ambiguous"),
            (answer(404, &[], "<html>"), "unavailable"),
            (Failure::Unreadable(String::new()), "ambiguous"),
            (Failure::Http(HttpError::Interrupted(String::new())), "ambiguous"),
            (Failure::Http(HttpError::Denied(String::new())), "unavailable"),
        ];
        for (failure, wanted) in cases {
            assert_eq!(kind(failure.clone()), wanted, "{failure:?}");
            assert!(!failure.to_string().contains("HttpError"), "{failure}");
        }
    }

    #[test]
    fn a_wait_is_read_from_seconds_with_fractions_and_rounded_up() {
        let local = answer(429, &[], r#"{"message":"slow","retry_after":0.3005,"global":false}"#);
        assert_eq!(DeliveryError::from(local), DeliveryError::slow_conversation(301));
        let global = answer(429, &[], r#"{"message":"slow","retry_after":64.57,"global":true}"#);
        assert_eq!(DeliveryError::from(global), DeliveryError::slow_channel(64_570));
        let by_header = answer(
            429,
            &[("X-RateLimit-Global", "true")],
            r#"{"message":"slow","retry_after":1.0}"#,
        );
        assert_eq!(DeliveryError::from(by_header), DeliveryError::slow_channel(1_000));
        let by_network = answer(429, &[("Retry-After", "7")], "error code: 1015");
        assert_eq!(DeliveryError::from(by_network), DeliveryError::slow_channel(7_000));
        for odd in ["-5", "1e300", "0"] {
            let failure = answer(429, &[], &format!(r#"{{"message":"x","retry_after":{odd}}}"#));
            assert!(
                matches!(
                    failure,
                    Failure::RateLimited {
                        wait_ms: 1..=WAIT_MS_MAX,
                        ..
                    }
                ),
                "{failure:?}"
            );
        }
    }

    #[test]
    fn the_listener_stops_only_where_asking_again_is_of_no_use() {
        assert!(matches!(api(401, 0).remedy("x"), Remedy::Refused(words) if words.contains("bot token")));
        assert!(matches!(
            Failure::Http(HttpError::Denied("https://discord.com".into())).remedy("x"),
            Remedy::GiveUp(_)
        ));
        assert_eq!(api(500, 0).remedy("x"), Remedy::BackOff);
        assert_eq!(answer(502, &[], "").remedy("x"), Remedy::BackOff);
        assert_eq!(Failure::Http(HttpError::ShuttingDown).remedy("x"), Remedy::Shutdown);
        assert_eq!(
            answer(429, &[], r#"{"message":"x","retry_after":2}"#).remedy("x"),
            Remedy::Wait(2_000)
        );
    }
}
