//! A strict fake of Slack: the part of the Web API that an app needs, Socket Mode, and signed calls of the Events API.
//!
//! It refuses what Slack refuses, with Slack's words, and writes down as violations what Slack lets pass but no app
//! should do. `oracle.py` drives it with Slack's own `slack_sdk` first.

mod api;
mod socket;
mod state;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State as Held;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use state::State;
pub(crate) use state::{Call, Fault, Post, SharedFile};

/// The app's tokens, and the secret that calls are signed with.
pub(crate) const BOT_TOKEN: &str = "xoxb-700-fake-bot-token-0123456789";
pub(crate) const APP_TOKEN: &str = "xapp-1-A700-fake-app-token-0123456789";
pub(crate) const SIGNING_SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
/// The app's user and bot.
pub(crate) const APP_USER: &str = "U700";
pub(crate) const APP_BOT: &str = "B700";
/// A person.
pub(crate) const ADA: &str = "U55";
/// A channel that the app is in.
pub(crate) const CHANNEL: &str = "C900";
/// A direct conversation.
pub(crate) const DIRECT: &str = "D901";

/// A running fake. Dropping it ends its server.
#[derive(Debug)]
pub(crate) struct SlackFake {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: tokio::task::JoinHandle<()>,
}

/// What the server's tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    address: SocketAddr,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlackFake {
    /// Starts a fake on a free loopback port.
    pub(crate) async fn start() -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new()),
            address,
        });
        shared.lock().origin = format!("http://{address}");
        let app = api::routes().merge(socket::routes()).merge(control());
        let app = app.with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            // Ends only with the test.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self {
            shared,
            address,
            server,
        })
    }

    /// Returns where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what stands in the place of `https://slack.com`.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets the app reach the Web API, and send files, by way of another address.
    pub(crate) fn stand_behind(&self, origin: &str) {
        origin.clone_into(&mut self.shared.lock().origin);
    }

    /// Returns where Socket Mode is.
    pub(crate) fn socket_url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Makes a direct conversation and returns its id.
    pub(crate) fn add_direct(&self) -> String {
        self.shared.lock().add_direct()
    }

    /// Begins a thread in the channel with a message of a person's, and returns its name.
    pub(crate) fn add_thread(&self) -> String {
        self.shared.lock().new_ts()
    }

    /// Lets a person write a message with these fields; the fake adds what is missing. Returns the message's name.
    pub(crate) fn message(&self, channel: &str, fields: &Value) -> String {
        self.shared.lock().message_by_person(channel, fields)
    }

    /// Lets a person change a message.
    pub(crate) fn edit(&self, channel: &str, ts: &str, text: &str) {
        self.shared.lock().edit_by_person(channel, ts, text);
    }

    /// Sends an event of any form.
    pub(crate) fn event(&self, event: &Value) {
        self.shared.lock().emit(event);
    }

    /// Sends a frame of any form over the socket.
    pub(crate) fn frame(&self, frame: &Value) {
        self.shared.lock().order(&socket::Order::Frame(frame.clone()));
    }

    /// Sends the last message of a channel once more, in an envelope of its own.
    pub(crate) fn repeat(&self, channel: &str) {
        self.shared.lock().repeat(channel);
    }

    /// Stores a file that a person can send, and returns it as events show it.
    pub(crate) fn file(&self, name: &str, media_type: &str, bytes: &[u8]) -> Value {
        let origin = self.origin();
        self.shared.lock().add_file(&origin, name, media_type, bytes)
    }

    /// Returns the app's messages in a conversation as they stand now, oldest first.
    pub(crate) fn posts(&self, channel: &str) -> Vec<Post> {
        self.shared.lock().posts_in(channel)
    }

    /// Returns every call so far, oldest first.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.shared.lock().calls.clone()
    }

    /// Answers the next call of a method about a conversation as the fault says.
    pub(crate) fn fail_next(&self, method: &str, channel: &str, fault: Fault) {
        self.shared.lock().order_fault(method, channel, fault);
    }

    /// Takes a conversation away.
    pub(crate) fn close_channel(&self, channel: &str) {
        self.shared.lock().channels.remove(channel);
    }

    /// Refuses the tokens, or takes them again.
    pub(crate) fn refuse_tokens(&self, refuse: bool) {
        self.shared.lock().refuses_tokens = refuse;
    }

    /// Ends all connections without a farewell.
    pub(crate) fn drop_connections(&self) {
        self.shared.lock().order(&socket::Order::Drop);
    }

    /// Returns the most that were ever open at once.
    pub(crate) fn receivers_max(&self) -> usize {
        self.shared.lock().receivers_max
    }

    /// Returns what no app should do.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.shared.lock().violations.clone()
    }
}

impl Drop for SlackFake {
    fn drop(&mut self) {
        self.server.abort();
        self.shared.lock().order(&socket::Order::Drop);
    }
}

/// Returns the headers with which Slack would send this body to a webhook at this time, Unix seconds.
pub(crate) fn signed(body: &str, timestamp: u64) -> [(&'static str, String); 2] {
    let signature = harness::signature(SIGNING_SECRET, format!("v0:{timestamp}:{body}").as_bytes());
    // The harness writes what the generic webhook does.
    let hex = signature.trim_start_matches("sha256=");
    [
        ("x-slack-signature", format!("v0={hex}")),
        ("x-slack-request-timestamp", timestamp.to_string()),
    ]
}

/// The tests' side over HTTP, for the oracle script.
fn control() -> Router<Arc<Shared>> {
    Router::new()
        .route("/control/do", post(obey))
        .route("/control/state", get(overview))
}

async fn obey(Held(shared): Held<Arc<Shared>>, Json(command): Json<Value>) -> Json<Value> {
    let text = |key: &str| command[key].as_str().unwrap_or_default().to_owned();
    let origin = format!("http://{}", shared.address);
    let mut state = shared.lock();
    Json(match text("do").as_str() {
        "say" => json!(state.message_by_person(&text("channel"), &command["fields"])),
        "file" => state.add_file(&origin, &text("name"), "text/plain", text("text").as_bytes()),
        "limit" => {
            state.order_fault(&text("method"), &text("channel"), Fault::TooMany(1));
            Value::Null
        }
        "refresh" => {
            state.order(&socket::Order::Refresh);
            Value::Null
        }
        "drop" => {
            state.order(&socket::Order::Drop);
            Value::Null
        }
        "sign" => {
            let timestamp = command["timestamp"].as_u64().unwrap_or_default();
            json!(
                signed(&text("body"), timestamp)
                    .into_iter()
                    .collect::<std::collections::HashMap<_, _>>()
            )
        }
        other => json!({"unknown": other}),
    })
}

async fn overview(Held(shared): Held<Arc<Shared>>) -> Json<Value> {
    let state = shared.lock();
    Json(
        json!({"violations": state.violations, "unacknowledged": state.waiting(), "receivers_max": state.receivers_max}),
    )
}
