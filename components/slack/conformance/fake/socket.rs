//! The fake's Socket Mode.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State as Held};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Shared;

/// Frames that may wait for one connection.
const FRAMES_MAX: usize = 1024;

/// What a connection is told to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Order {
    /// Send this frame.
    Frame(Value),
    /// Ask for another connection, and end this one.
    Refresh,
    /// End without a farewell.
    Drop,
}

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/link/", get(connect))
}

async fn connect(
    Held(shared): Held<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    // Each address can be used once.
    let is_new = query
        .get("ticket")
        .is_some_and(|ticket| shared.lock().tickets.remove(ticket));
    if !is_new {
        shared
            .lock()
            .violations
            .push("a connection without a ticket of its own".to_owned());
        return StatusCode::FORBIDDEN.into_response();
    }
    upgrade.on_upgrade(async move |socket| serve(shared, socket).await)
}

async fn serve(shared: Arc<Shared>, mut socket: WebSocket) {
    let (line, mut orders) = mpsc::channel(FRAMES_MAX);
    let hello = json!({"type": "hello", "num_connections": 1, "connection_info": {"app_id": "A700"},
        "debug_info": {"host": "fake", "approximate_connection_time": 18060}});
    let mut frames = vec![hello];
    frames.extend(shared.lock().connected(line));
    for frame in frames {
        if socket.send(Message::text(frame.to_string())).await.is_err() {
            return;
        }
    }
    loop {
        tokio::select! {
            frame = socket.recv() => match frame {
                Some(Ok(Message::Text(text))) => take(&shared, &text),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return,
            },
            order = orders.recv() => {
                let frame = match order {
                    Some(Order::Frame(frame)) => frame,
                    Some(Order::Refresh) => json!({"type": "disconnect", "reason": "refresh_requested", "debug_info": {}}),
                    Some(Order::Drop) | None => return,
                };
                let is_last = frame["type"] == "disconnect";
                if socket.send(Message::text(frame.to_string())).await.is_err() || is_last {
                    // The app has heard it; what it still says is its acknowledgements.
                    while let Some(Ok(Message::Text(text))) = socket.recv().await {
                        take(&shared, &text);
                    }
                    return;
                }
            }
        }
    }
}

fn take(shared: &Shared, text: &str) {
    let said: Value = serde_json::from_str(text).unwrap_or_default();
    let mut state = shared.lock();
    match said["envelope_id"].as_str() {
        Some(id) => state.acknowledge(id),
        // The client's own keep-alive.
        None if text.contains("ping") => {}
        None => state.violations.push(format!("{text:?} is no acknowledgement")),
    }
}
