//! A strict fake of Discord: the gateway and the part of the REST API that a bot needs.
//!
//! It refuses what Discord refuses, with Discord's codes, and writes down as violations what Discord lets pass but no
//! bot should do. `oracle.py` drives it with discord.py first.

mod control;
mod gateway;
mod rest;
mod state;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::watch;

use state::State;
pub(crate) use state::{Call, Fault, Posted};

/// The bot's token.
pub(crate) const TOKEN: &str = "NzAw.fake-token.for_tests_0123456789";
/// The bot's id and name.
pub(crate) const BOT: (&str, &str) = ("700", "sluice");
/// The one server.
pub(crate) const GUILD: &str = "800";
/// Its channel.
pub(crate) const CHANNEL: &str = "900";
/// A thread of that channel.
pub(crate) const THREAD: &str = "950";
/// A direct conversation, and the person in it.
pub(crate) const DIRECT: &str = "901";
/// The person.
pub(crate) const ADA: &str = "55";

/// A running fake. Dropping it ends its server.
#[derive(Debug)]
pub(crate) struct DiscordFake {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: tokio::task::JoinHandle<()>,
}

/// What the server's tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Rings whenever a connection has got a session.
    greeted: watch::Sender<()>,
    address: SocketAddr,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DiscordFake {
    /// Starts a fake on a free loopback port.
    pub(crate) async fn start() -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new()),
            greeted: watch::Sender::new(()),
            address,
        });
        let app = rest::routes().merge(control::routes()).merge(gateway::routes());
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

    /// Returns what stands in the place of `https://discord.com`.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns where the gateway is.
    pub(crate) fn gateway_url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Lets a person write a message with these fields; the fake adds what is missing. Returns the message's id.
    pub(crate) fn message(&self, channel: &str, fields: Value) -> String {
        self.shared.lock().message_by_person(channel, &fields)
    }

    /// Lets a person change a message.
    pub(crate) fn edit(&self, id: &str, text: &str) {
        self.shared.lock().edit_by_person(id, text);
    }

    /// Sends an event of any form.
    pub(crate) fn event(&self, name: &str, data: Value) {
        self.shared.lock().dispatch(name, &data);
    }

    /// Sends the last message of a person in a channel once more, in an event of its own.
    pub(crate) fn repeat(&self, channel: &str) {
        self.shared.lock().repeat(channel);
    }

    /// Stores a file that a person can send, and returns the attachment.
    pub(crate) fn file(&self, name: &str, media_type: &str, bytes: &[u8]) -> Value {
        let origin = self.origin();
        self.shared.lock().add_file(&origin, name, media_type, bytes)
    }

    /// Returns the bot's messages in a channel as they stand now, oldest first.
    pub(crate) fn posted(&self, channel: &str) -> Vec<Posted> {
        self.shared.lock().posted(channel)
    }

    /// Returns every call so far, oldest first.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.shared.lock().calls.clone()
    }

    /// Answers the next `count` calls whose method and path begin like this as the fault says.
    pub(crate) fn fail_next(&self, method: &str, path: &str, count: usize, fault: Fault) {
        self.shared.lock().order_fault(method, path, count, fault);
    }

    /// Takes a channel away.
    pub(crate) fn close_channel(&self, channel: &str) {
        self.shared.lock().closed.insert(channel.to_owned());
    }

    /// Makes a direct conversation and returns its id.
    pub(crate) fn add_direct(&self) -> String {
        self.shared.lock().add_direct()
    }

    /// Makes a thread of the server's channel and returns its id.
    pub(crate) fn add_thread(&self) -> String {
        self.shared.lock().add_thread()
    }

    /// Refuses the token, or takes it again.
    pub(crate) fn refuse_token(&self, refuse: bool) {
        self.shared.lock().refuses_token = refuse;
    }

    /// Says how the gateway treats all its connections now.
    pub(crate) fn order(&self, order: gateway::Order) {
        self.shared.lock().order(&order);
    }

    /// Waits until a connection has a session.
    pub(crate) async fn connected(&self) {
        let mut greeted = self.shared.greeted.subscribe();
        let connected = greeted.wait_for(|()| self.shared.lock().receivers() > 0);
        let connected = tokio::time::timeout(harness::PATIENCE, connected).await;
        assert!(connected.is_ok(), "the bot does not connect");
    }

    /// Returns how often a session was resumed.
    pub(crate) fn resumed(&self) -> usize {
        self.shared.lock().resumed
    }

    /// Returns the most that were ever connected at once.
    pub(crate) fn receivers_max(&self) -> usize {
        self.shared.lock().receivers_max
    }

    /// Returns what no bot should do.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.shared.lock().violations.clone()
    }
}

pub(crate) use gateway::Order;

impl Drop for DiscordFake {
    fn drop(&mut self) {
        self.server.abort();
        self.shared.lock().order(&Order::Drop);
    }
}
