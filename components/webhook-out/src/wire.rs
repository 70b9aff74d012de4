//! What is posted beside the message itself: files, under the headers of Standard Webhooks
//! (github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md).

use serde::{Deserialize, Serialize};

/// The same in every attempt of one message.
pub(crate) const ID_HEADER: &str = "webhook-id";
/// Unix seconds of this attempt.
pub(crate) const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The signature of id, time and body.
pub(crate) const SIGNATURE_HEADER: &str = "webhook-signature";

/// A file, by its link or with its bytes.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) media_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) base64: Option<String>,
}

/// What a receiver may answer.
#[derive(Debug, Deserialize)]
pub(crate) struct Taken {
    /// Its own id of the message.
    pub(crate) id: String,
}
