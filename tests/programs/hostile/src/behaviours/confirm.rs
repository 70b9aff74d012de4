//! Asks whose a delivery is, confirms or refuses it by its key, whoever it belongs to, and keys as long as a book.

use sluicegate_sdk::{DeliveryError, progress};

pub(crate) fn run(key: &str) -> String {
    progress::confirm(key, Err(&DeliveryError::Rejected("x".repeat(1_000_000))));
    progress::confirm(key, Ok(()));
    progress::confirm(&"x".repeat(1_000_000), Ok(()));
    let told = [key, &"x".repeat(1_000_000)].map(progress::conversation_of);
    if told.iter().any(Option::is_some) {
        return format!("told {told:?}");
    }
    "confirmed".to_owned()
}
