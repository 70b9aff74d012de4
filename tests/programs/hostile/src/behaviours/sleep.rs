//! Sleeps as long as there are numbers for.

use sluicegate_sdk::clock;

pub(crate) fn run() -> String {
    while clock::sleep_ms(u64::MAX) {}
    "woken".to_owned()
}
