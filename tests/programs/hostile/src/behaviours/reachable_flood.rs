//! Says without end that conversations can be reached, also with names as long as a book.

use sluicegate_sdk::progress;

pub(crate) fn run() -> String {
    progress::reachable(&"x".repeat(1_000_000), Some(&"y".repeat(1_000_000)));
    for number in 0..2_000 {
        progress::reachable(&format!("c{}", number % 10), None);
    }
    "reachable".to_owned()
}
