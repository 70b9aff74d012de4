//! ntfy's types (docs.ntfy.sh/publish, "Publish as JSON").

use serde::{Deserialize, Serialize};

/// What is posted to the server's root.
#[derive(Debug, Default, Serialize, PartialEq, Eq)]
pub(crate) struct Publish<'a> {
    pub(crate) topic: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) message: &'a str,
    /// Whether apps show the message's Markdown as such.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) markdown: bool,
    /// The link of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) attach: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) filename: Option<&'a str>,
}

/// A file that lies somewhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link<'a> {
    pub(crate) url: &'a str,
    pub(crate) name: Option<&'a str>,
}

impl<'a> Publish<'a> {
    pub(crate) fn text(topic: &'a str, message: &'a str) -> Self {
        Self {
            topic,
            message,
            markdown: true,
            ..Self::default()
        }
    }

    pub(crate) fn link(topic: &'a str, link: &Link<'a>) -> Self {
        Self {
            topic,
            attach: Some(link.url),
            filename: link.name,
            ..Self::default()
        }
    }
}

/// What the server says of a message that it took.
#[derive(Debug, Deserialize)]
pub(crate) struct Published {
    pub(crate) id: String,
}

/// What it says of one that it did not take.
#[derive(Debug, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) error: String,
}
