//! Claims a part of a delivery by its key, whoever it belongs to.

use sluicegate_sdk::progress;

pub(crate) fn run(key: &str) -> String {
    progress::sent(key, 0, &"x".repeat(1_000_000));
    progress::sent(&"x".repeat(1_000_000), 1, "part");
    "sent".to_owned()
}
