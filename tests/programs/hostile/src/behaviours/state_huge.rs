//! Stores keys and values that are too large.

use sluicegate_sdk::state;

pub(crate) fn run() -> String {
    let long = "x".repeat(5 * 1024 * 1024);
    let key = state::set(&long, b"x").is_ok() || state::swap(&long, None, Some(b"x")).is_ok_and(|set| set);
    let value = state::set("huge", long.as_bytes()).is_ok();
    format!("key {key}, value {value}, kept {}", state::keys("").len())
}
