//! Confirms or refuses a delivery by its key, whoever it belongs to, and keys as long as a book.

use sluicegate_sdk::{DeliveryError, progress};

pub(crate) fn run(key: &str) -> String {
    progress::confirm(key, Err(&DeliveryError::Rejected("x".repeat(1_000_000))));
    progress::confirm(key, Ok(()));
    progress::confirm(&"x".repeat(1_000_000), Ok(()));
    "confirmed".to_owned()
}
