//! Writes lines of ten megabytes, as many as the argument says.

use sluicegate_sdk::log;

pub(crate) fn run(argument: &str) -> String {
    let line = "long ".repeat(2_000_000);
    let count = crate::results::number(argument);
    for _ in 0..count {
        log::write(log::Level::Warn, &line);
    }
    format!("{count} lines")
}
