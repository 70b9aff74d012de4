//! A model server that speaks OpenAI's chat completions, streamed and not.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::Record;
use crate::http::{Handler, Reply, Request, Response, Server};

/// What the model says to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saying {
    /// This.
    Answer(String),
    /// An error with this status.
    Status(u16),
    /// An error with this status and these words.
    Failing(u16, String),
    /// An error 429 that asks to wait for whole seconds.
    Busy(u64),
    /// Nothing, and why it stopped.
    Stopped(String),
    /// The beginning of an answer, and then the connection ends.
    Cut(String),
    /// The beginning of an answer, and the rest of it after [`MockModel::go_on`]. Streamed only.
    Pausing(String, String),
}

/// A model server on a loopback port. Unless a test orders otherwise it answers `re: ` and the last thing the user said.
#[derive(Debug)]
pub struct MockModel {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: Server,
}

#[derive(Debug)]
struct Shared {
    asked: Record<Value>,
    authorizations: Record<Option<String>>,
    finished: Record<String>,
    next: Mutex<VecDeque<Saying>>,
    /// By a word that the user's text contains.
    when: Mutex<HashMap<String, Saying>>,
    held: watch::Sender<bool>,
    /// The words whose pausing answers go on.
    going_on: watch::Sender<HashSet<String>>,
}

impl MockModel {
    /// Starts a model server.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port can be bound");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            asked: Record::default(),
            authorizations: Record::default(),
            finished: Record::default(),
            next: Mutex::default(),
            when: Mutex::default(),
            held: watch::Sender::new(false),
            going_on: watch::Sender::default(),
        });
        let answering = Arc::clone(&shared);
        let handler: Handler = Arc::new(move |request| Box::pin(Arc::clone(&answering).answer(request)));
        Self {
            address,
            shared,
            _server: Server::start(listener, handler),
        }
    }

    /// Returns what stands in the configuration as `base_url`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Orders what it says next, in order.
    pub fn next(&self, sayings: impl IntoIterator<Item = Saying>) {
        self.shared
            .next
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(sayings);
    }

    /// Orders what it says whenever the last thing that the user said contains this word, whatever else was ordered.
    pub fn when(&self, word: &str, saying: Saying) {
        self.shared
            .when
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(word.to_owned(), saying);
    }

    /// Lets the [`Saying::Pausing`] that was ordered for this word go on.
    pub fn go_on(&self, word: &str) {
        self.shared.going_on.send_modify(|words| {
            words.insert(word.to_owned());
        });
    }

    /// Lets every request wait until [`MockModel::release`].
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Answers what waits.
    pub fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// Returns the bodies of the requests, those that wait included.
    pub fn asked(&self) -> &Record<Value> {
        &self.shared.asked
    }

    /// Returns the `Authorization` headers of the requests.
    pub fn authorizations(&self) -> &Record<Option<String>> {
        &self.shared.authorizations
    }

    /// Returns the answers whose last byte was written.
    pub fn finished(&self) -> &Record<String> {
        &self.shared.finished
    }

    /// Returns the texts that contain this word, of those that the user said last in a request.
    pub fn heard(&self, word: &str) -> Vec<String> {
        let asked = self.asked().all();
        let heard = asked.iter().map(last_user_text);
        heard.filter(|text| text.contains(word)).map(str::to_owned).collect()
    }

    /// Returns how often it was asked about a text that the user said last.
    pub fn times_asked(&self, text: &str) -> usize {
        self.asked()
            .all()
            .iter()
            .filter(|body| last_user_text(body) == text)
            .count()
    }
}

/// Returns what the user said last in a request.
fn last_user_text(body: &Value) -> &str {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let last = messages.iter().rev().find(|message| message["role"] == "user");
    last.and_then(|message| message["content"].as_str()).unwrap_or_default()
}

impl Shared {
    async fn answer(self: Arc<Self>, request: Request) -> Reply {
        if !(request.method == "POST" && request.path == "/v1/chat/completions") {
            return Reply::Whole(Response::new(404, "{}"));
        }
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
            return Reply::Whole(Response::new(400, "{}"));
        };
        let (word, saying) = self.ordered(last_user_text(&body));
        let is_streamed = body["stream"] == true;
        self.authorizations
            .push(request.header("authorization").map(str::to_owned));
        self.asked.push(body);
        // The sender lives in `self`, so the wait ends with a release.
        let _ = self.held.subscribe().wait_for(|held| !held).await;
        self.say(saying, &word, is_streamed)
    }

    /// Returns what it says to a text, and the word that this was ordered for.
    fn ordered(&self, text: &str) -> (String, Saying) {
        let when = self.when.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((word, saying)) = when.iter().find(|(word, _)| text.contains(word.as_str())) {
            return (word.clone(), saying.clone());
        }
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let saying = next.unwrap_or_else(|| Saying::Answer(format!("re: {text}")));
        (String::new(), saying)
    }

    fn say(self: Arc<Self>, saying: Saying, word: &str, is_streamed: bool) -> Reply {
        let failing = |status, words: &str| Response::new(status, json!({"error": {"message": words}}).to_string());
        let error = |status| failing(status, "as ordered");
        match saying {
            Saying::Status(status) => Reply::Whole(error(status)),
            Saying::Failing(status, words) => Reply::Whole(failing(status, &words)),
            Saying::Busy(seconds) => Reply::Whole(error(429).with("retry-after", &seconds.to_string())),
            Saying::Answer(text) if is_streamed => {
                let chunks = stream_of(&text, true);
                let written = Box::new(move || self.finished.push(text));
                Reply::Chunks {
                    media_type: "text/event-stream",
                    chunks,
                    finished: true,
                    written,
                }
            }
            Saying::Answer(text) => {
                let message = json!({"role": "assistant", "content": text});
                let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
                self.finished.push(text);
                let body = json!({"object": "chat.completion", "choices": [choice]}).to_string();
                Reply::Whole(Response::new(200, body).with("content-type", "application/json"))
            }
            Saying::Pausing(first, rest) => {
                let (mut begun, whole) = (stream_of(&first, false), stream_of(&rest, true));
                if first.is_empty() {
                    // Not a sign of life before it goes on.
                    begun.clear();
                }
                let (word, mut going_on) = (word.to_owned(), self.going_on.subscribe());
                Reply::Paused {
                    media_type: "text/event-stream",
                    before: begun,
                    pause: Box::pin(async move {
                        // Dropped with the server, at the latest.
                        let _ = going_on.wait_for(|words| words.contains(&word)).await;
                    }),
                    after: whole,
                }
            }
            Saying::Stopped(reason) => {
                let choice =
                    json!({"index": 0, "message": {"role": "assistant", "content": null}, "finish_reason": reason});
                let body = json!({"object": "chat.completion", "choices": [choice]}).to_string();
                Reply::Whole(Response::new(200, body).with("content-type", "application/json"))
            }
            Saying::Cut(text) => Reply::Chunks {
                media_type: "text/event-stream",
                chunks: stream_of(&text, false),
                finished: false,
                written: Box::new(|| ()),
            },
        }
    }
}

/// Returns the events of a streamed answer, a word each.
fn stream_of(text: &str, finished: bool) -> Vec<Vec<u8>> {
    let event = |delta: Value, reason: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": reason});
        let data = json!({"object": "chat.completion.chunk", "choices": [choice]});
        format!("data: {data}\n\n").into_bytes()
    };
    let mut events = vec![event(json!({"role": "assistant", "content": ""}), Value::Null)];
    events.extend(
        text.split_inclusive(' ')
            .map(|word| event(json!({"content": word}), Value::Null)),
    );
    if finished {
        events.push(event(json!({}), json!("stop")));
        events.push(b"data: [DONE]\n\n".to_vec());
    }
    events
}
