//! What stands in a file beside the message itself.

use serde::Serialize;

/// An attachment.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub(crate) struct File {
    /// The name of the file beside the message; of one that lies elsewhere, its own.
    pub(crate) name: String,
    pub(crate) media_type: String,
    /// Where it lies, if not beside the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
}
