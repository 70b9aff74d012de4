//! Putting files into the one folder that the operator granted.

use crate::DeliveryError;

pub use crate::bindings::imports::sluicegate::channel::folder::{Content, FolderError, put};

/// What a file that was not put means for the delivery that it belongs to.
impl From<FolderError> for DeliveryError {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::Denied(why) => Self::Unavailable(format!("the folder was denied: {why}")),
            FolderError::Full(why) => Self::Unavailable(format!("the folder is full: {why}")),
            FolderError::Failed(why) => Self::Unavailable(format!("the file can't be written: {why}")),
            FolderError::ShuttingDown => Self::Unavailable("the channel is shutting down".to_owned()),
            FolderError::Interrupted(why) => Self::Ambiguous(format!("the file may have been written: {why}")),
            FolderError::Invalid(why) => Self::Rejected(format!("the file can't be put there: {why}")),
            FolderError::Taken => Self::Rejected("another file has this name".to_owned()),
            FolderError::TooLarge => Self::Rejected("the file is too large".to_owned()),
        }
    }
}
