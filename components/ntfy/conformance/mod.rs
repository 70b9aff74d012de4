//! ntfy's row, against a receiver of our own that keeps to ntfy's documented limits.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use harness::Setup;
use harness::http::{Handler, Reply, Request, Response, Server};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::cases::{Case, MARKDOWN};
use crate::platform::{File, MessageId, Platform, RATE_LIMIT_WAIT, Refusal, Room, Shown, Skipped, sends_only};

/// The longest message, bytes (docs.ntfy.sh/publish, "Limitations").
const MESSAGE_BYTES_MAX: usize = 4096;
/// What opens the topics.
const TOKEN: &str = "tk_conformance_0123456789";

struct Ntfy {
    address: SocketAddr,
    next: AtomicUsize,
    state: Arc<Mutex<State>>,
    _server: Server,
}

#[derive(Default)]
struct State {
    notifications: HashMap<String, Vec<Shown>>,
    attempts: HashMap<String, Vec<Instant>>,
    refusals: HashMap<String, Refusal>,
    count: usize,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the receiver.
pub(crate) async fn start() -> Result<Box<dyn Platform>, Skipped> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let state: Arc<Mutex<State>> = Arc::default();
    let taking = Arc::clone(&state);
    let handler: Handler = Arc::new(move |request| {
        let reply = lock(&taking).take(&request);
        Box::pin(async move { Reply::Whole(reply) })
    });
    Ok(Box::new(Ntfy {
        address,
        next: AtomicUsize::new(1),
        state,
        _server: Server::start(listener, handler),
    }))
}

fn refusal(status: u16, why: &str) -> Response {
    Response::new(
        status,
        json!({"code": status * 100 + 1, "http": status, "error": why}).to_string(),
    )
}

impl State {
    fn take(&mut self, request: &Request) -> Response {
        if request.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
            return refusal(401, "unauthorized");
        }
        let read = match request.method.as_str() {
            "POST" if request.path == "/" => published(&request.body),
            "PUT" => uploaded(request),
            _ => None,
        };
        let Some((topic, mut shown)) = read else {
            return refusal(400, "invalid request");
        };
        self.attempts.entry(topic.clone()).or_default().push(Instant::now());
        match self.refusals.get(&topic) {
            Some(Refusal::Gone) => return refusal(403, "forbidden"),
            Some(Refusal::Unauthorized) => return refusal(401, "unauthorized"),
            Some(Refusal::Unavailable) => {
                self.refusals.remove(&topic);
                return refusal(503, "unavailable");
            }
            Some(Refusal::RateLimited) => {
                self.refusals.remove(&topic);
                let seconds = RATE_LIMIT_WAIT.as_secs().to_string();
                return refusal(429, "limit reached").with("retry-after", &seconds);
            }
            None => {}
        }
        self.count += 1;
        shown.id = MessageId(format!("n{}", self.count));
        let body = json!({"id": shown.id.0, "time": 1, "event": "message", "topic": topic});
        self.notifications.entry(topic).or_default().push(shown);
        Response::new(200, body.to_string())
    }
}

/// Reads a message that was published as JSON; none where ntfy would refuse it or make a file of it.
fn published(body: &[u8]) -> Option<(String, Shown)> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let message = body["message"].as_str().unwrap_or_default();
    let is_markdown = body["markdown"] == true;
    (message.len() <= MESSAGE_BYTES_MAX && is_markdown)
        .then(|| (body["topic"].as_str().unwrap_or_default(), message))
        .map(|(topic, message)| (topic.to_owned(), notification(message, Vec::new())))
}

/// Reads a file.
fn uploaded(request: &Request) -> Option<(String, Shown)> {
    let url = url::Url::parse(&format!("http://ntfy.invalid{}", request.path)).ok()?;
    let name = url
        .query_pairs()
        .find(|(key, _)| key == "filename")
        .map(|(_, name)| name.into_owned())?;
    let file = File {
        name,
        media_type: String::new(),
        bytes: request.body.clone(),
    };
    Some((url.path().trim_matches('/').to_owned(), notification("", vec![file])))
}

fn notification(text: &str, files: Vec<File>) -> Shown {
    Shown {
        id: MessageId(String::new()),
        text: text.to_owned(),
        source: text.to_owned(),
        reply_to: None,
        files,
    }
}

#[async_trait]
impl Platform for Ntfy {
    fn peer(&self) -> String {
        "own receiver".to_owned()
    }

    fn configure(&self, setup: Setup, channel: &str) -> Setup {
        let base = format!("http://{}", self.address);
        setup.env("NTFY_TOKEN", TOKEN).section(&format!(
            "[channels.{channel}]\ncomponent = \"ntfy\"\naccess = \"open\"\ngrant = [\"{base}\"]\n\
             settings = {{ base-url = \"{base}\" }}\nsecrets = {{ token = {{ env = \"NTFY_TOKEN\" }} }}"
        ))
    }

    fn lacks(&self, case: Case) -> Option<&'static str> {
        match case {
            Case::ThreadOut => Some("topics have no threads"),
            case => sends_only(case),
        }
    }

    fn receives(&self) -> bool {
        false
    }

    async fn room(&self) -> Room {
        Room {
            conversation: format!("topic-{}", self.next.fetch_add(1, Ordering::Relaxed)),
            thread: None,
        }
    }

    async fn shown(&self, room: &Room) -> Vec<Shown> {
        lock(&self.state)
            .notifications
            .get(&room.conversation)
            .cloned()
            .unwrap_or_default()
    }

    async fn attempts(&self, room: &Room) -> Vec<Instant> {
        lock(&self.state)
            .attempts
            .get(&room.conversation)
            .cloned()
            .unwrap_or_default()
    }

    fn markdown_source(&self) -> String {
        MARKDOWN.to_owned()
    }

    async fn refuse_next(&self, room: &Room, refusal: Refusal) {
        lock(&self.state).refusals.insert(room.conversation.clone(), refusal);
    }

    async fn forgive(&self) {
        lock(&self.state).refusals.clear();
    }
}
