//! Connects WebSockets to the URL in the argument and drops each at once, three hundred times.

use sluicegate_sdk::net::Websocket;

pub(crate) fn run(url: &str) -> String {
    let connected = (0..300).filter(|_| Websocket::connect(url, &[]).is_ok()).count();
    format!("{connected} connected")
}
