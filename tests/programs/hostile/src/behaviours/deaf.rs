//! Connects a WebSocket to the URL in the argument, and sleeps without reading from it.

use sluicegate_sdk::clock;
use sluicegate_sdk::net::Websocket;

pub(crate) fn run(url: &str) -> String {
    let socket = Websocket::connect(url, &[]);
    clock::sleep_ms(u64::MAX);
    format!("{}", socket.is_ok())
}
