//! Small durable state of the channel, shared by its instances.
//!
//! Every write waits for the disk and every read is cheap, so write only what changed.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::bindings::imports::sluicegate::channel::state::{delete, get, keys, set, swap};

/// Why typed state was not read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateError {
    /// The value does not fit the type; what the JSON reader or writer said.
    Malformed(String),
    /// The host did not take the write; its words.
    Refused(String),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "the stored value does not fit: {why}"),
            Self::Refused(why) => write!(f, "the state was not written: {why}"),
        }
    }
}

impl std::error::Error for StateError {}

/// Reads a value that [`set_json`] wrote; none where nothing is stored.
///
/// # Errors
/// [`StateError::Malformed`] where what is stored does not fit `T`.
pub fn get_json<T: DeserializeOwned>(key: &str) -> Result<Option<T>, StateError> {
    get(key)
        .map(|bytes| serde_json::from_slice(&bytes))
        .transpose()
        .map_err(|error| StateError::Malformed(error.to_string()))
}

/// Stores a value as JSON. It is durable when this returns.
///
/// # Errors
/// [`StateError::Refused`] where the host refuses it (too large, too many), [`StateError::Malformed`] where `value` can't
/// be written as JSON.
pub fn set_json<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<(), StateError> {
    let bytes = serde_json::to_vec(value).map_err(|error| StateError::Malformed(error.to_string()))?;
    set(key, &bytes).map_err(StateError::Refused)
}
