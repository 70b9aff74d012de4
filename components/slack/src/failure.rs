//! What a refused call means: to a delivery, and to the listener. Slack answers 200 with a word for what is wrong, and
//! 429 with `Retry-After`.

use std::fmt;

use sluicegate_sdk::DeliveryError;
use sluicegate_sdk::http::{HttpError, Response};
use sluicegate_sdk::recovery::Remedy;
use sluicegate_sdk::serde_json::{self, Value};

/// The longest wait that is believed, milliseconds: a day. Slack's own waits stay far below it.
const WAIT_MS_MAX: u64 = 24 * 3600 * 1000;
/// The wait after a limit that does not say how long, milliseconds.
const WAIT_MS_DEFAULT: u64 = 5_000;

/// Words for credentials that don't work (any more).
const UNAUTHORIZED: [&str; 8] = [
    "invalid_auth",
    "not_authed",
    "account_inactive",
    "token_revoked",
    "token_expired",
    "not_allowed_token_type",
    "ekm_access_denied",
    "team_access_not_granted",
];
/// Words for a conversation that is gone or closed to the app.
const NO_CONVERSATION: [&str; 14] = [
    "channel_not_found",
    "not_in_channel",
    "is_archived",
    "user_not_found",
    "user_disabled",
    "cannot_dm_bot",
    "messages_tab_disabled",
    "thread_not_found",
    "restricted_action",
    "restricted_action_read_only_channel",
    "restricted_action_thread_only_channel",
    "restricted_action_non_threadable_channel",
    "restricted_action_thread_locked",
    "team_not_found",
];
/// Words for a limit that is reached, where it does not come as 429.
const TOO_FAST: [&str; 3] = ["ratelimited", "rate_limited", "message_limit_exceeded"];
/// Words for what the app may not do until a person has changed that at Slack. To a delivery they say no more than that this
/// one message is refused.
const NOT_ALLOWED: [&str; 6] = [
    "missing_scope",
    "no_permission",
    "access_denied",
    "forbidden_team",
    "enterprise_is_restricted",
    "two_factor_setup_required",
];
/// Words for trouble of Slack's in which nothing was done; a workspace that is being moved comes back.
const UNAVAILABLE: [&str; 5] = [
    "org_login_required",
    "service_unavailable",
    "request_timeout",
    "team_added_to_org",
    "access_limited",
];
/// Words for trouble of Slack's in which something may have been done.
const AMBIGUOUS: [&str; 2] = ["fatal_error", "internal_error"];
/// Words for a message that is not there, or can't be changed (any more).
const NOT_EDITABLE: [&str; 3] = ["message_not_found", "cant_update_message", "edit_window_closed"];

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// Slack refused it, with this word and what it says besides.
    Api {
        /// Slack's word.
        error: String,
        /// What is missing, where Slack says that.
        needed: Option<String>,
    },
    /// A limit has been reached: milliseconds to wait.
    RateLimited(u64),
    /// A status without Slack's words.
    Status(u16),
    /// An answer that is no result.
    Unreadable(String),
    /// The gateway did not keep what has to be kept before the call, in its words.
    NotKept(String),
    /// No answer.
    Http(HttpError),
}

impl Failure {
    /// Reads an answer: its result, or why it has none. `now_ms` is the present time, Unix milliseconds.
    ///
    /// # Errors
    /// All but [`Failure::Http`].
    pub fn or_result(response: &Response, now_ms: u64) -> Result<Value, Self> {
        let wait_ms = response
            .retry_after_ms(now_ms)
            .unwrap_or(WAIT_MS_DEFAULT)
            .clamp(1, WAIT_MS_MAX);
        if response.status == 429 {
            return Err(Self::RateLimited(wait_ms));
        }
        let body: Value = match serde_json::from_slice(&response.body) {
            Ok(body) => body,
            Err(error) if response.is_success() => return Err(Self::Unreadable(error.to_string())),
            Err(_) => return Err(Self::Status(response.status)),
        };
        match (body["ok"].as_bool(), body["error"].as_str()) {
            (Some(true), _) if response.is_success() => Ok(body),
            (_, Some(error)) if TOO_FAST.contains(&error) => Err(Self::RateLimited(wait_ms)),
            (_, Some(error)) => Err(Self::Api {
                error: error.to_owned(),
                needed: body["needed"].as_str().map(str::to_owned),
            }),
            _ if response.is_success() => Err(Self::Unreadable("it has neither `ok` nor `error`".to_owned())),
            _ => Err(Self::Status(response.status)),
        }
    }

    /// Returns whether Slack refused it with one of these words.
    pub fn is_one_of(&self, words: &[&str]) -> bool {
        matches!(self, Self::Api { error, .. } if words.contains(&error.as_str()))
    }

    /// Returns whether there is no such message (any more), or none that can be changed.
    pub fn is_not_editable(&self) -> bool {
        self.is_one_of(&NOT_EDITABLE)
    }

    /// Says what the listener does about it. `doing` names the call, for the operator.
    pub fn remedy(&self, doing: &str) -> Remedy {
        match self {
            Self::RateLimited(wait_ms) => Remedy::Wait(*wait_ms),
            Self::Http(HttpError::ShuttingDown) => Remedy::Shutdown,
            Self::Http(HttpError::Denied(_) | HttpError::Invalid(_)) => Remedy::GiveUp(format!("{doing}: {self}")),
            _ if self.is_one_of(&UNAVAILABLE) || self.is_one_of(&AMBIGUOUS) => Remedy::BackOff,
            _ if self.is_one_of(&UNAUTHORIZED) || self.is_one_of(&NOT_ALLOWED) => {
                Remedy::Refused(format!("{doing}: {self}"))
            }
            Self::Api { .. } => Remedy::GiveUp(format!("{doing}: {self}")),
            _ => Remedy::BackOff,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api {
                error,
                needed: Some(needed),
            } => write!(
                f,
                "Slack answered {error}: give the app the scope {needed} and install it again"
            ),
            Self::Api { error, needed: None } => write!(f, "Slack answered {error}"),
            Self::RateLimited(wait_ms) => write!(f, "Slack asks to wait {wait_ms} ms"),
            Self::Status(status) => write!(f, "status {status} without Slack's words: is api-base right?"),
            Self::Unreadable(why) => write!(f, "the answer can't be read: {why}"),
            Self::NotKept(why) => write!(f, "the upload was not kept: {why}"),
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
        match &failure {
            Failure::Http(error) => error.clone().into(),
            // It arrived, and what Slack made of it is lost.
            Failure::Unreadable(_) => Self::Ambiguous(words),
            // Slack counts posts for each conversation.
            Failure::RateLimited(wait_ms) => Self::slow_conversation(*wait_ms),
            _ if failure.is_one_of(&UNAUTHORIZED) => Self::Unauthorized(words),
            _ if failure.is_one_of(&NO_CONVERSATION) => Self::NoSuchConversation(words),
            _ if failure.is_one_of(&UNAVAILABLE) => Self::Unavailable(words),
            _ if failure.is_one_of(&AMBIGUOUS) => Self::Ambiguous(words),
            Failure::Api { .. } => Self::Rejected(words),
            Failure::Status(401) => Self::Unauthorized(words),
            // Slack may have accepted the message before it, or a proxy before it, gave up.
            Failure::Status(status) if *status >= 500 && *status != 503 => Self::Ambiguous(words),
            Failure::Status(_) | Failure::NotKept(_) => Self::Unavailable(words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Result<Value, Failure> {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let response = Response {
            status,
            headers: headers.collect(),
            body: body.as_bytes().to_vec(),
        };
        Failure::or_result(&response, 0)
    }

    fn api(error: &str) -> Failure {
        answer(200, &[], &format!(r#"{{"ok":false,"error":"{error}"}}"#)).expect_err("it is refused")
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
    fn each_word_of_slacks_has_its_typed_error() {
        for (word, wanted) in [
            ("invalid_auth", "unauthorized"),
            ("token_revoked", "unauthorized"),
            ("account_inactive", "unauthorized"),
            ("channel_not_found", "no-such-conversation"),
            ("not_in_channel", "no-such-conversation"),
            ("is_archived", "no-such-conversation"),
            ("msg_too_long", "rejected"),
            ("no_text", "rejected"),
            ("missing_scope", "rejected"),
            ("something_new", "rejected"),
            ("ratelimited", "rate-limited"),
            ("service_unavailable", "unavailable"),
            ("fatal_error", "ambiguous"),
            ("internal_error", "ambiguous"),
        ] {
            assert_eq!(kind(api(word)), wanted, "{word}");
        }
        let page = |status| answer(status, &[], "<html>").expect_err("it is no result");
        assert_eq!(kind(page(200)), "ambiguous");
        assert_eq!(kind(page(500)), "ambiguous");
        assert_eq!(kind(page(503)), "unavailable");
        assert_eq!(kind(page(401)), "unauthorized");
        let lost = Failure::Http(HttpError::Interrupted("no answer came".to_owned()));
        assert_eq!(lost.to_string(), "the request was interrupted: no answer came");
        assert_eq!(kind(lost), "ambiguous");
    }

    #[test]
    fn a_wait_is_read_from_the_header_in_seconds() {
        let limited = answer(429, &[("Retry-After", "30")], r#"{"ok":false,"error":"ratelimited"}"#);
        let limited = limited.expect_err("it is refused");
        assert_eq!(limited, Failure::RateLimited(30_000));
        assert_eq!(limited.remedy("x"), Remedy::Wait(30_000));
        assert_eq!(DeliveryError::from(limited), DeliveryError::slow_conversation(30_000));
        assert_eq!(answer(429, &[], ""), Err(Failure::RateLimited(WAIT_MS_DEFAULT)));
    }

    #[test]
    fn the_listener_stops_only_where_asking_again_is_of_no_use() {
        assert!(matches!(api("invalid_auth").remedy("x"), Remedy::Refused(_)));
        assert!(matches!(api("something_new").remedy("x"), Remedy::GiveUp(_)));
        assert_eq!(api("org_login_required").remedy("x"), Remedy::BackOff);
        let scope = answer(
            200,
            &[],
            r#"{"ok":false,"error":"missing_scope","needed":"connections:write"}"#,
        );
        let scope = scope.expect_err("it is refused").remedy("x");
        assert!(matches!(scope, Remedy::Refused(words) if words.contains("connections:write")));
        assert_eq!(api("internal_error").remedy("x"), Remedy::BackOff);
        assert_eq!(Failure::Status(502).remedy("x"), Remedy::BackOff);
        assert_eq!(Failure::Http(HttpError::ShuttingDown).remedy("x"), Remedy::Shutdown);
    }
}
