//! Sends frames to clients that are not there, and frames that are too large.

use sluicegate_sdk::clients;

pub(crate) fn run() -> String {
    let huge = "x".repeat(4 * 1024 * 1024);
    let sent = (0..200)
        .filter(|n| clients::send(&format!("cli_{n}"), &huge).is_ok())
        .count();
    let small = (0..10_000)
        .filter(|n| clients::send(&format!("cli_{n}"), "{}").is_ok())
        .count();
    format!("sent {}", sent + small)
}
