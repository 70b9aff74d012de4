//! What a refused call means: to a delivery, and to a listener.

use std::fmt;

use sluicegate_sdk::DeliveryError;
use sluicegate_sdk::http::{HttpError, Response};
use sluicegate_sdk::recovery::Remedy;
use sluicegate_sdk::serde_json::{self, Value};

use crate::wire::Refusal;

/// The wait after a rate limit that names none, milliseconds.
const RATE_LIMIT_WAIT_MS: u64 = 5_000;
/// The longest wait that is believed, milliseconds: a day.
const RATE_LIMIT_WAIT_MS_MAX: u64 = 24 * 3600 * 1000;

/// What the server says when the account can do nothing until a person has acted (client-server API, section
/// "Standard error response").
const ACCOUNT_REFUSED: [&str; 7] = [
    "M_UNKNOWN_TOKEN",
    "M_MISSING_TOKEN",
    "M_USER_DEACTIVATED",
    "M_USER_LOCKED",
    "M_USER_SUSPENDED",
    "M_CONSENT_NOT_GIVEN",
    SERVER_FULL,
];
/// What it says to everyone when it has reached a limit of its own, such as the number of its users.
const SERVER_FULL: &str = "M_RESOURCE_LIMIT_EXCEEDED";
/// What it says when a room is closed to the account.
const ROOM_REFUSED: [&str; 3] = ["M_FORBIDDEN", "M_GUEST_ACCESS_FORBIDDEN", "M_NOT_FOUND"];

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The server refused it.
    Api {
        /// HTTP's status.
        status: u16,
        /// `M_FORBIDDEN` and so on.
        code: String,
        /// The server's words.
        words: String,
        /// How long it asks to wait, milliseconds.
        wait_ms: Option<u64>,
    },
    /// Something before the server answered, with this status and without a Matrix error.
    Gateway(u16),
    /// The server accepted it and answered with something else than the result.
    Unreadable(String),
    /// No answer.
    Http(HttpError),
}

impl Failure {
    /// Reads an answer: its result, or why it has none. `now_ms` is the present time, Unix milliseconds.
    ///
    /// # Errors
    /// [`Failure::Api`], [`Failure::Gateway`] or [`Failure::Unreadable`].
    pub fn or_result(response: &Response, now_ms: u64) -> Result<Value, Self> {
        let body = serde_json::from_slice::<Value>(&response.body);
        if response.is_success() {
            return body.map_err(|error| Self::Unreadable(error.to_string()));
        }
        let status = response.status;
        let refusal = body.and_then(serde_json::from_value::<Refusal>);
        let Ok(refusal) = refusal else {
            return Err(Self::Gateway(status));
        };
        Err(Self::Api {
            status,
            code: refusal.errcode,
            words: refusal.error.unwrap_or_default(),
            wait_ms: response.retry_after_ms(now_ms).or(refusal.retry_after_ms),
        })
    }

    /// Returns whether the server refused it with this code.
    pub fn is_code(&self, wanted: &str) -> bool {
        matches!(self, Self::Api { code, .. } if code == wanted)
    }

    /// Returns whether the server does not know the endpoint: an older one, or no homeserver at all.
    pub fn is_unrecognized(&self) -> bool {
        self.is_code("M_UNRECOGNIZED") || *self == Self::Gateway(404)
    }

    /// Returns whether it concerns what was asked for, and neither the account nor the moment: asking again for the
    /// same is of no use, and asking for something else is.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Api { status, code, .. } => {
                *status < 500 && *status != 429 && !ACCOUNT_REFUSED.contains(&code.as_str())
            }
            Self::Gateway(status) => matches!(status, 400..=499) && *status != 429,
            Self::Unreadable(_) => true,
            Self::Http(error) => matches!(error, HttpError::TooLarge),
        }
    }

    /// Returns whether it may be the fault of what was asked for alone, such as a room on another server that is gone, and
    /// asking for something else may succeed.
    pub fn is_of_one_call(&self) -> bool {
        match self {
            Self::Api { status, .. } | Self::Gateway(status) => *status >= 500,
            Self::Http(error) => matches!(error, HttpError::Interrupted(_)),
            Self::Unreadable(_) => true,
        }
    }

    /// Says what a listener does about it. `doing` names the call, for the operator.
    pub fn remedy(&self, doing: &str) -> Remedy {
        match self {
            Self::Api { status: 429, .. } | Self::Gateway(429) => Remedy::Wait(self.wait_ms()),
            // A server that is full may have room again.
            Self::Api { code, .. } if code != SERVER_FULL && ACCOUNT_REFUSED.contains(&code.as_str()) => {
                Remedy::Refused(format!("{doing}: the account is refused: {self}"))
            }
            Self::Api { status, .. } | Self::Gateway(status) if *status >= 500 => Remedy::BackOff,
            Self::Http(HttpError::ShuttingDown) => Remedy::Shutdown,
            Self::Http(HttpError::TooLarge) => Remedy::Smaller,
            Self::Http(HttpError::Denied(_) | HttpError::Invalid(_)) => Remedy::GiveUp(format!("{doing}: {self}")),
            Self::Http(_) | Self::Unreadable(_) => Remedy::BackOff,
            Self::Api { .. } | Self::Gateway(_) => Remedy::GiveUp(format!("{doing}: {self}")),
        }
    }

    fn wait_ms(&self) -> u64 {
        let asked = match self {
            Self::Api { wait_ms, .. } => *wait_ms,
            _ => None,
        };
        asked.unwrap_or(RATE_LIMIT_WAIT_MS).clamp(1, RATE_LIMIT_WAIT_MS_MAX)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api {
                status, code, words, ..
            } => write!(f, "the homeserver answered {status} {code}: {words}"),
            Self::Gateway(status) if *status >= 500 => write!(f, "the server or a proxy before it answered {status}"),
            Self::Gateway(status) => write!(f, "{status} without a Matrix error: is the setting homeserver right?"),
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
        // Homeservers count the requests of an account, not those into a room.
        let wait_ms = failure.wait_ms();
        match failure {
            Failure::Http(error) => error.into(),
            // It arrived, and what the server made of it is lost.
            Failure::Unreadable(_) => Self::Ambiguous(words),
            Failure::Api { status: 429, .. } | Failure::Gateway(429) => Self::slow_channel(wait_ms),
            Failure::Api { code, .. } if ACCOUNT_REFUSED.contains(&code.as_str()) => Self::Unauthorized(words),
            Failure::Api { code, .. } if ROOM_REFUSED.contains(&code.as_str()) => Self::NoSuchConversation(words),
            Failure::Gateway(401) | Failure::Api { status: 401, .. } => Self::Unauthorized(words),
            // An endpoint that is not there says nothing about the message.
            Failure::Api { ref code, .. } if code == "M_UNRECOGNIZED" => Self::Unavailable(words),
            Failure::Api { status: 503, .. } | Failure::Gateway(503) => Self::Unavailable(words),
            // The server may have accepted the message before it, or the proxy before it, gave up.
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

    fn answered(status: u16, headers: &[(&str, &str)], body: &str) -> Failure {
        let response = Response {
            status,
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: body.as_bytes().to_vec(),
        };
        Failure::or_result(&response, 0).expect_err("it is a refusal")
    }

    fn api(status: u16, code: &str) -> Failure {
        answered(status, &[], &format!(r#"{{"errcode":"{code}","error":"words"}}"#))
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
            (api(429, "M_LIMIT_EXCEEDED"), "rate-limited"),
            (Failure::Gateway(429), "rate-limited"),
            (api(401, "M_UNKNOWN_TOKEN"), "unauthorized"),
            (api(401, "M_MISSING_TOKEN"), "unauthorized"),
            (api(401, "M_USER_LOCKED"), "unauthorized"),
            (api(403, "M_USER_DEACTIVATED"), "unauthorized"),
            (api(403, "M_CONSENT_NOT_GIVEN"), "unauthorized"),
            (Failure::Gateway(401), "unauthorized"),
            (api(403, "M_FORBIDDEN"), "no-such-conversation"),
            (api(403, "M_GUEST_ACCESS_FORBIDDEN"), "no-such-conversation"),
            (api(404, "M_NOT_FOUND"), "no-such-conversation"),
            (api(404, "M_UNRECOGNIZED"), "unavailable"),
            (api(413, "M_TOO_LARGE"), "rejected"),
            (api(400, "M_BAD_JSON"), "rejected"),
            (api(400, "M_INVALID_PARAM"), "rejected"),
            (api(500, "M_UNKNOWN"), "ambiguous"),
            (api(503, "M_UNKNOWN"), "unavailable"),
            (Failure::Gateway(502), "ambiguous"),
            (Failure::Gateway(503), "unavailable"),
            (Failure::Gateway(404), "unavailable"),
            (Failure::Unreadable(String::new()), "ambiguous"),
            (Failure::Http(HttpError::Interrupted(String::new())), "ambiguous"),
            (Failure::Http(HttpError::Unreachable(String::new())), "unavailable"),
        ];
        for (failure, wanted) in cases {
            assert_eq!(kind(failure.clone()), wanted, "{failure:?}");
            assert!(!failure.to_string().contains("HttpError"), "{failure}");
        }
    }

    #[test]
    fn a_rate_limit_waits_as_long_as_the_server_asks_and_holds_for_the_account() {
        // As Synapse 1.163.2 answers.
        let body = r#"{"errcode":"M_LIMIT_EXCEEDED","error":"Too Many Requests","retry_after_ms":2953}"#;
        for (headers, wanted) in [(&[][..], 2953), (&[("retry-after", "3")][..], 3000)] {
            let failure = answered(429, headers, body);
            assert_eq!(failure.remedy("/sync"), Remedy::Wait(wanted));
            assert_eq!(DeliveryError::from(failure), DeliveryError::slow_channel(wanted));
        }
        assert_eq!(Failure::Gateway(429).remedy(""), Remedy::Wait(RATE_LIMIT_WAIT_MS));
    }

    #[test]
    fn a_listener_stops_only_where_asking_again_is_of_no_use() {
        let refused = api(401, "M_UNKNOWN_TOKEN").remedy("/sync");
        assert!(matches!(refused, Remedy::Refused(said) if said.contains("the account is refused")));
        for (failure, words) in [
            (api(403, "M_RESOURCE_LIMIT_EXCEEDED"), "M_RESOURCE_LIMIT_EXCEEDED"),
            (
                Failure::Http(HttpError::Denied("https://m.example".into())),
                "m.example",
            ),
            (Failure::Gateway(404), "homeserver"),
        ] {
            let remedy = failure.remedy("/sync");
            assert!(
                matches!(&remedy, Remedy::GiveUp(said) if said.contains(words)),
                "{failure:?} became {remedy:?}"
            );
        }
        for failure in [
            api(500, "M_UNKNOWN"),
            Failure::Gateway(502),
            Failure::Http(HttpError::Unreachable(String::new())),
        ] {
            assert_eq!(failure.remedy(""), Remedy::BackOff);
            assert!(!failure.is_lasting());
        }
        assert_eq!(Failure::Http(HttpError::ShuttingDown).remedy(""), Remedy::Shutdown);
        assert_eq!(Failure::Http(HttpError::TooLarge).remedy(""), Remedy::Smaller);
        assert!(api(403, "M_FORBIDDEN").is_lasting());
        assert!(api(502, "M_UNKNOWN").is_of_one_call() && !api(401, "M_UNKNOWN_TOKEN").is_of_one_call());
        assert!(!api(401, "M_UNKNOWN_TOKEN").is_lasting());
    }
}
