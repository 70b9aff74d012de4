//! Connects WebSockets to the URL in the argument and closes none.

use sluicegate_sdk::net::Websocket;

pub(crate) fn run(url: &str) -> String {
    let mut open = Vec::new();
    let mut refused = String::new();
    for _ in 0..40 {
        match Websocket::connect(url, &[]) {
            Ok(socket) => open.push(socket),
            Err(error) => refused = format!("{error:?}"),
        }
    }
    format!("{} open, then {refused}", open.len())
}
