//! What is posted: the gateway's own JSON, under the headers of Standard Webhooks
//! (github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md).

use serde::{Deserialize, Serialize};

/// The same in every attempt of one message.
pub(crate) const ID_HEADER: &str = "webhook-id";
/// Unix seconds of this attempt.
pub(crate) const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The signature of id, time and body.
pub(crate) const SIGNATURE_HEADER: &str = "webhook-signature";

/// A posted message.
#[derive(Debug, Serialize)]
pub(crate) struct Posted<'a> {
    /// `message.sent`, `message.edited`, `message.deleted` or `message.reacted`.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) delivery_key: &'a str,
    pub(crate) conversation: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thread: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) in_reply_to: Option<&'a str>,
    /// The message that is edited, deleted or reacted to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) emoji: Option<&'a str>,
    pub(crate) text: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) files: Vec<File>,
    pub(crate) attempt: u32,
}

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
