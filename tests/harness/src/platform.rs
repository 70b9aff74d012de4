//! A messaging platform as the generic webhook knows it: a URL that takes JSON. Asked (GET) with an `Idempotency-Key`, it
//! says whether it has taken a delivery with that key.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value;
use tokio::net::TcpSocket;

use crate::Record;
use crate::http::{Handler, Reply, Request, Response, Server};

/// What the platform does with one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Takes it and says so.
    Accept,
    /// Takes it and never answers.
    AcceptThenHang,
    /// Takes it and closes the connection without an answer.
    AcceptThenClose,
    /// Takes it and answers with this status all the same.
    AcceptThenFail(u16),
    /// Takes it and says so, with a body of so many bytes.
    AcceptThenFlood(usize),
    /// Does not take it, and never answers.
    Hang,
    /// Does not take it, and answers with this status.
    Refuse(u16),
    /// Does not take it, and asks to wait for whole seconds.
    RefuseFor(u64),
}

/// A delivery that arrived, taken or not.
#[derive(Clone)]
pub struct Delivery {
    /// When.
    pub at: Instant,
    /// Whether the platform took it.
    pub accepted: bool,
    /// The `delivery_key`.
    pub key: String,
    /// The `conversation`.
    pub conversation: String,
    /// The `text`.
    pub text: String,
    /// The whole body.
    pub body: Value,
    /// The request, as it came.
    pub request: Request,
}

impl std::fmt::Debug for Delivery {
    /// In a line that can be read among many.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (taken, body) = (if self.accepted { "taken" } else { "refused" }, &self.body);
        write!(
            f,
            "{taken} in {:?}: {:?}, key {}, attempt {}",
            self.conversation, self.text, self.key, body["attempt"]
        )
    }
}

/// A platform on a loopback port.
#[derive(Debug)]
pub struct FakePlatform {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Mutex<Option<Server>>,
    /// Holds the port while the platform is down: connections are refused.
    reserved: Mutex<Option<TcpSocket>>,
}

#[derive(Debug, Default)]
struct Shared {
    arrived: Record<Delivery>,
    plans: Mutex<Plans>,
    deduplicates: AtomicBool,
}

#[derive(Debug, Default)]
struct Plans {
    next: HashMap<String, VecDeque<Act>>,
    always: HashMap<String, Act>,
}

impl FakePlatform {
    /// Starts a platform that takes everything.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start() -> Self {
        let platform = Self::start_down();
        platform.come_up();
        platform
    }

    /// Makes a platform that is down: its port refuses connections until [`FakePlatform::come_up`].
    ///
    /// # Panics
    /// When no port can be had.
    pub fn start_down() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket can be made");
        socket
            .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .expect("a free port can be bound");
        Self {
            address: socket.local_addr().expect("a bound socket has an address"),
            shared: Arc::default(),
            server: Mutex::new(None),
            reserved: Mutex::new(Some(socket)),
        }
    }

    /// Lets a platform that is down take deliveries. One that is up stays up.
    ///
    /// # Panics
    /// When its port can't be listened on.
    pub fn come_up(&self) {
        let Some(socket) = lock(&self.reserved).take() else {
            return;
        };
        let listener = socket.listen(1024).expect("a bound port can be listened on");
        let shared = Arc::clone(&self.shared);
        let handler: Handler = Arc::new(move |request| {
            let shared = Arc::clone(&shared);
            Box::pin(async move { shared.take(request) })
        });
        *lock(&self.server) = Some(Server::start(listener, handler));
    }

    /// Returns the URL that deliveries go to.
    pub fn url(&self) -> String {
        format!("http://{}/deliver", self.address)
    }

    /// Returns what a grant for it says.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets it say yes to a second delivery with a key that it has taken, and not take it.
    pub fn deduplicate(&self) {
        self.shared.deduplicates.store(true, Ordering::Relaxed);
    }

    /// Orders what happens to the next deliveries of a conversation, in order; those after them are taken.
    pub fn next(&self, conversation: &str, acts: impl IntoIterator<Item = Act>) {
        lock(&self.shared.plans)
            .next
            .entry(conversation.to_owned())
            .or_default()
            .extend(acts);
    }

    /// Orders what happens to every delivery of a conversation for which nothing else was ordered.
    pub fn always(&self, conversation: &str, act: Act) {
        lock(&self.shared.plans).always.insert(conversation.to_owned(), act);
    }

    /// Returns everything that arrived.
    pub fn arrived(&self) -> &Record<Delivery> {
        &self.shared.arrived
    }

    /// Returns what the platform took of a conversation, oldest first.
    pub fn accepted(&self, conversation: &str) -> Vec<Delivery> {
        taken_of(&self.shared.arrived.all(), conversation)
    }

    /// Waits until the platform has taken `count` deliveries of a conversation, and returns them.
    ///
    /// # Panics
    /// As [`Record::wait_for`].
    pub async fn wait_for_accepted(&self, conversation: &str, count: usize) -> Vec<Delivery> {
        let what = format!("{count} deliveries taken by the platform in {conversation:?}");
        let enough = |all: &[Delivery]| {
            let taken = all.iter().filter(|one| was_taken(one, conversation)).count();
            (taken >= count).then(|| taken_of(all, conversation))
        };
        self.shared.arrived.wait_for(&what, enough).await
    }

    /// Waits until `count` deliveries of a conversation arrived, taken or not, and returns them.
    ///
    /// # Panics
    /// As [`Record::wait_for`].
    pub async fn wait_for_arrived(&self, conversation: &str, count: usize) -> Vec<Delivery> {
        let what = format!("{count} deliveries that arrive in {conversation:?}");
        let of = |all: &[Delivery]| {
            all.iter()
                .filter(|one| one.conversation == conversation)
                .cloned()
                .collect::<Vec<_>>()
        };
        self.shared
            .arrived
            .wait_for(&what, |all| Some(of(all)).filter(|found| found.len() >= count))
            .await
    }
}

fn taken_of(all: &[Delivery], conversation: &str) -> Vec<Delivery> {
    all.iter().filter(|one| was_taken(one, conversation)).cloned().collect()
}

fn was_taken(one: &Delivery, conversation: &str) -> bool {
    one.accepted && one.conversation == conversation
}

impl Shared {
    fn has_taken(&self, key: &str) -> bool {
        let taken = |all: &[Delivery]| all.iter().any(|one| one.accepted && one.key == key);
        self.arrived.read(taken)
    }

    fn take(&self, request: Request) -> Reply {
        if request.method == "GET" {
            let is_taken = self.has_taken(request.header("idempotency-key").unwrap_or_default());
            return Reply::Whole(Response::new(if is_taken { 200 } else { 404 }, ""));
        }
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
            return Reply::Whole(Response::new(400, "not JSON"));
        };
        let field = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let conversation = field("conversation");
        let act = lock(&self.plans).act(&conversation);
        let is_copy = self.deduplicates.load(Ordering::Relaxed) && self.has_taken(&field("delivery_key"));
        self.arrived.push(Delivery {
            at: Instant::now(),
            accepted: !is_copy && !matches!(act, Act::Hang | Act::Refuse(_) | Act::RefuseFor(_)),
            key: field("delivery_key"),
            text: field("text"),
            conversation,
            body,
            request,
        });
        match act {
            Act::Accept => Reply::Whole(Response::new(200, "{}")),
            Act::AcceptThenFlood(bytes) => Reply::Whole(Response::new(200, vec![b' '; bytes])),
            Act::AcceptThenHang | Act::Hang => Reply::Hang,
            Act::AcceptThenClose => Reply::Close,
            Act::AcceptThenFail(status) | Act::Refuse(status) => Reply::Whole(Response::new(status, "")),
            Act::RefuseFor(seconds) => Reply::Whole(Response::new(429, "").with("retry-after", &seconds.to_string())),
        }
    }
}

impl Plans {
    fn act(&mut self, conversation: &str) -> Act {
        let next = self.next.get_mut(conversation).and_then(VecDeque::pop_front);
        next.or_else(|| self.always.get(conversation).copied())
            .unwrap_or(Act::Accept)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
