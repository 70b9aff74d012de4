//! What stands between the gateway and Synapse: it counts, refuses what Synapse can't be made to refuse, and hands the
//! bot what Synapse never sends.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use harness::http::{self, Handler, Reply, Request, Response, Server};
use harness::{PATIENCE, Record};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::synapse::call;

/// What is done to the next message that the bot sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// Synapse limits the bot's rate, as configured.
    Limit,
    /// It is not passed on: 503.
    Unavailable,
    /// Synapse locks the account first.
    Lock,
}

/// Accounts that the gate acts with.
#[derive(Debug, Clone)]
pub(super) struct Accounts {
    pub(super) bot: String,
    pub(super) bot_token: String,
    pub(super) admin_token: String,
    /// A room of the bot's own.
    pub(super) bots_room: String,
}

/// A proxy before Synapse. Dropping it ends every connection.
pub(super) struct Gate {
    address: SocketAddr,
    server: Mutex<Option<Server>>,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: SocketAddr,
    accounts: Accounts,
    /// By the escaped room id.
    orders: Mutex<HashMap<String, Order>>,
    attempts: Mutex<HashMap<String, Vec<Instant>>>,
    /// Escaped ids of rooms that can't be joined, as where their own server is gone.
    gone: Mutex<HashSet<String>>,
    /// Events that the next sync brings besides its own, by room.
    injected: Mutex<HashMap<String, Vec<Value>>>,
    receivers: Mutex<Receivers>,
    /// The syncs that went on from an earlier one.
    syncs: Record<()>,
}

#[derive(Debug, Default)]
struct Receivers {
    now: usize,
    most: usize,
}

impl Gate {
    pub(super) async fn start(upstream: SocketAddr, accounts: Accounts) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port can be bound");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            upstream,
            accounts,
            orders: Mutex::default(),
            attempts: Mutex::default(),
            gone: Mutex::default(),
            injected: Mutex::default(),
            receivers: Mutex::default(),
            syncs: Record::default(),
        });
        let server = Mutex::new(Some(serve(listener, &shared)));
        Self {
            address,
            server,
            shared,
        }
    }

    pub(super) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Drops every connection without a goodbye, and listens again.
    pub(super) async fn drop_connections(&self) {
        lock(&self.server).take();
        // The old listener is closed when its task has been dropped.
        let rebound = async {
            loop {
                if let Ok(listener) = TcpListener::bind(self.address).await {
                    break listener;
                }
                tokio::task::yield_now().await;
            }
        };
        let listener = tokio::time::timeout(PATIENCE, rebound).await;
        let listener = listener.expect("the port is free again");
        let server = serve(listener, &self.shared);
        lock(&self.server).replace(server);
    }

    pub(super) fn order(&self, room: &str, order: Order) {
        lock(&self.shared.orders).insert(escaped(room), order);
    }

    /// Lets nobody join a room.
    pub(super) fn refuse_joins(&self, room: &str) {
        lock(&self.shared.gone).insert(escaped(room));
    }

    pub(super) fn attempts(&self, room: &str) -> Vec<Instant> {
        lock(&self.shared.attempts)
            .get(&escaped(room))
            .cloned()
            .unwrap_or_default()
    }

    pub(super) fn inject(&self, room: &str, events: Vec<Value>) {
        lock(&self.shared.injected)
            .entry(room.to_owned())
            .or_default()
            .extend(events);
    }

    pub(super) fn receivers_max(&self) -> usize {
        lock(&self.shared.receivers).most
    }

    /// Waits until the bot has stored where its first sync ended: what is said from then on is for it.
    pub(super) async fn wait_for_listening(&self) {
        self.shared.syncs.wait_for_len("the bot's second sync", 1).await;
    }
}

fn serve(listener: TcpListener, shared: &Arc<Shared>) -> Server {
    let passing = Arc::clone(shared);
    let handler: Handler = Arc::new(move |request| Box::pin(pass(Arc::clone(&passing), request)));
    Server::start(listener, handler)
}

async fn pass(shared: Arc<Shared>, request: Request) -> Reply {
    if request.path.contains("/sync?") {
        return shared.pass_sync(&request).await;
    }
    let joined = request
        .path
        .split_once("/rooms/")
        .and_then(|(_, rest)| rest.strip_suffix("/join"));
    if joined.is_some_and(|room| lock(&shared.gone).contains(room)) {
        let body = json!({"errcode": "M_UNKNOWN", "error": "Failed to make_join via any server"});
        return Reply::Whole(Response::new(502, body.to_string()));
    }
    if let Some(room) = sent_to(&request) {
        lock(&shared.attempts)
            .entry(room.clone())
            .or_default()
            .push(Instant::now());
        let order = lock(&shared.orders).remove(&room);
        if let Some(order) = order {
            return shared.pass_ordered(&request, &order).await;
        }
    }
    shared.forward(&request).await.map_or(Reply::Close, Reply::Whole)
}

/// Returns the escaped id of the room that a message, and no draft, is sent to.
fn sent_to(request: &Request) -> Option<String> {
    let (_, rest) = request.path.split_once("/rooms/")?;
    let (room, rest) = rest.split_once("/send/m.room.message/")?;
    (!rest.contains("-draft")).then(|| room.to_owned())
}

impl Shared {
    async fn pass_sync(self: Arc<Self>, request: &Request) -> Reply {
        let _receiving = Receiving::begin(&self);
        if request.path.contains("since=") {
            self.syncs.push(());
        }
        let Some(mut answer) = self.forward(request).await else {
            return Reply::Close;
        };
        let injected = std::mem::take(&mut *lock(&self.injected));
        if !injected.is_empty()
            && let Ok(mut sync) = serde_json::from_slice::<Value>(&answer.body)
        {
            for (room, mut events) in injected {
                let timeline = &mut sync["rooms"]["join"][room.as_str()]["timeline"]["events"];
                events.extend(timeline.as_array().cloned().unwrap_or_default());
                *timeline = Value::Array(events);
            }
            answer.body = sync.to_string().into_bytes();
        }
        Reply::Whole(answer)
    }

    async fn pass_ordered(&self, request: &Request, order: &Order) -> Reply {
        let Accounts {
            bot,
            bot_token,
            admin_token,
            bots_room,
        } = &self.accounts;
        let override_path = format!("/_synapse/admin/v1/users/{}/override_ratelimit", escaped(bot));
        match order {
            Order::Unavailable => {
                let body = json!({"errcode": "M_UNKNOWN", "error": "try again later"});
                return Reply::Whole(Response::new(503, body.to_string()));
            }
            Order::Lock => {
                let path = format!("/_synapse/admin/v2/users/{}", escaped(bot));
                call(self.upstream, "PUT", &path, admin_token, &json!({"locked": true})).await;
            }
            Order::Limit => {
                call(self.upstream, "DELETE", &override_path, admin_token, &json!({})).await;
                let used_up = json!({"msgtype": "m.notice", "body": "this one is still taken"});
                let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message", escaped(bots_room));
                call(self.upstream, "POST", &path, bot_token, &used_up).await;
            }
        }
        let answer = self.forward(request).await;
        if *order == Order::Limit {
            let unlimited = json!({"messages_per_second": 0, "burst_count": 0});
            call(self.upstream, "POST", &override_path, admin_token, &unlimited).await;
        }
        answer.map_or(Reply::Close, Reply::Whole)
    }

    async fn forward(&self, request: &Request) -> Option<Response> {
        http::forward(self.upstream, request).await.ok()
    }
}

/// A sync that is waited for.
struct Receiving<'a>(&'a Shared);

impl<'a> Receiving<'a> {
    fn begin(shared: &'a Shared) -> Self {
        let mut receivers = lock(&shared.receivers);
        receivers.now += 1;
        receivers.most = receivers.most.max(receivers.now);
        drop(receivers);
        Self(shared)
    }
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        lock(&self.0.receivers).now -= 1;
    }
}

/// Escapes an id as the component does.
pub(super) fn escaped(id: &str) -> String {
    let escape = |byte: u8| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    id.bytes().map(escape).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
