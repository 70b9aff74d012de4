//! Failures that a test orders.

use serde::{Deserialize, Serialize};

/// What goes wrong with one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Whether the call takes effect before the failure: a message is sent, but the bot never learns it.
    #[serde(default)]
    pub accepted: bool,
    /// What the bot sees in place of the result.
    pub answer: Answer,
}

/// What the bot sees in place of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// An error in Telegram's envelope.
    Api {
        /// HTTP status and `error_code`.
        code: u16,
        /// Such as `Bad Request: chat not found`.
        description: String,
        /// `parameters.retry_after`, seconds.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// An answer of a proxy before Telegram: this status with an HTML page.
    Gateway(u16),
    /// No answer for as long as the bot waits.
    Hang,
    /// The connection is closed without an answer.
    Close,
}

impl Fault {
    /// Refuses with 429 and this wait, whole seconds.
    pub fn rate_limited(retry_after: u64) -> Self {
        let description = format!("Too Many Requests: retry after {retry_after}");
        Self {
            accepted: false,
            answer: Answer::Api {
                code: 429,
                description,
                retry_after: Some(retry_after),
            },
        }
    }

    /// Refuses with an error of Telegram's.
    pub fn api(code: u16, description: &str) -> Self {
        let description = description.to_owned();
        Self {
            accepted: false,
            answer: Answer::Api {
                code,
                description,
                retry_after: None,
            },
        }
    }

    /// Answers as a broken proxy would: an HTML page with this status, and nothing took effect.
    pub fn gateway(status: u16) -> Self {
        Self {
            accepted: false,
            answer: Answer::Gateway(status),
        }
    }

    /// Never answers.
    pub fn hang() -> Self {
        Self {
            accepted: false,
            answer: Answer::Hang,
        }
    }

    /// Closes the connection without an answer.
    pub fn close() -> Self {
        Self {
            accepted: false,
            answer: Answer::Close,
        }
    }

    /// Lets the call take effect before it fails: the ambiguous case.
    #[must_use]
    pub fn after_accepting(self) -> Self {
        Self { accepted: true, ..self }
    }
}
