//! Writes to the log without end.

use sluicegate_sdk::log;

pub(crate) fn run() -> String {
    for number in 0_u64.. {
        log::write(log::Level::Error, &format!("flood {number}"));
    }
    String::new()
}
