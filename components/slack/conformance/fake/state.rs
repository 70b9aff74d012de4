//! What the fake knows: conversations, messages, events that wait for their acknowledgement, what the app called.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::socket::Order;
use super::{ADA, APP_BOT, APP_USER, CHANNEL, DIRECT};

/// A call of the app.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) params: Value,
    pub(crate) status: u16,
    pub(crate) at: Instant,
}

/// What a call is answered with in place of its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// 429 with this wait, seconds.
    TooMany(u64),
    /// A status with a page of something before Slack.
    Page(u16),
}

/// A message of the app.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Post {
    pub(crate) ts: String,
    pub(crate) channel: String,
    pub(crate) thread: Option<String>,
    pub(crate) text: String,
    pub(crate) files: Vec<SharedFile>,
    /// What the app put beside the text.
    pub(crate) metadata: Value,
}

/// A file that the app has shared.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SharedFile {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// A file, of a person or on its way from the app.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) media_type: String,
    pub(crate) length: usize,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) channels: HashSet<String>,
    pub(crate) calls: Vec<Call>,
    pub(crate) violations: Vec<String>,
    pub(crate) refuses_tokens: bool,
    /// Where the app is told to send files to.
    pub(crate) origin: String,
    pub(crate) receivers_max: usize,
    /// Tickets of connections that were not opened yet.
    pub(crate) tickets: HashSet<String>,
    pub(crate) files: Vec<Stored>,
    posts: Vec<Post>,
    persons: HashMap<(String, String), Value>,
    /// The last message event of each conversation.
    last: HashMap<String, Value>,
    /// Envelopes that were not acknowledged.
    envelopes: VecDeque<Value>,
    lines: Vec<mpsc::Sender<Order>>,
    faults: Vec<(String, String, Fault)>,
    next: u64,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            channels: HashSet::from([CHANNEL.to_owned(), DIRECT.to_owned()]),
            calls: Vec::new(),
            violations: Vec::new(),
            refuses_tokens: false,
            origin: String::new(),
            receivers_max: 0,
            tickets: HashSet::new(),
            files: Vec::new(),
            posts: Vec::new(),
            persons: HashMap::new(),
            last: HashMap::new(),
            envelopes: VecDeque::new(),
            lines: Vec::new(),
            faults: Vec::new(),
            next: 100,
        }
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(crate) fn new_ts(&mut self) -> String {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        format!("{}.{:06}", since.as_secs(), self.number())
    }

    pub(crate) fn add_direct(&mut self) -> String {
        let id = format!("D{}", self.number());
        self.channels.insert(id.clone());
        id
    }

    pub(crate) fn message_by_person(&mut self, channel: &str, fields: &Value) -> String {
        let ts = self.new_ts();
        let kind = if channel.starts_with('D') { "im" } else { "channel" };
        let mut event = json!({"type": "message", "channel": channel, "user": ADA, "text": "", "ts": ts, "event_ts": ts,
            "channel_type": kind, "team": "T1", "client_msg_id": format!("m-{ts}")});
        merge(&mut event, fields);
        let names_app = event["text"]
            .as_str()
            .is_some_and(|text| text.contains(&format!("<@{APP_USER}>")));
        self.persons.insert((channel.to_owned(), ts.clone()), event.clone());
        self.last.insert(channel.to_owned(), event.clone());
        self.emit(&event);
        // A post that names the app comes twice in a channel.
        if names_app && kind == "channel" {
            let mut mention = event;
            mention["type"] = json!("app_mention");
            mention.as_object_mut().map(|mention| mention.remove("channel_type"));
            self.emit(&mention);
        }
        ts
    }

    pub(crate) fn edit_by_person(&mut self, channel: &str, ts: &str, text: &str) {
        let edited = self.new_ts();
        let Some(message) = self.persons.get_mut(&(channel.to_owned(), ts.to_owned())) else {
            return;
        };
        let before = message.clone();
        message["text"] = json!(text);
        message["edited"] = json!({"user": ADA, "ts": edited});
        let event = json!({"type": "message", "subtype": "message_changed", "hidden": true, "channel": channel, "ts": edited,
            "event_ts": edited, "channel_type": before["channel_type"], "message": message, "previous_message": before});
        self.emit(&event);
    }

    pub(crate) fn repeat(&mut self, channel: &str) {
        if let Some(event) = self.last.get(channel).cloned() {
            self.emit(&event);
        }
    }

    pub(crate) fn add_file(&mut self, origin: &str, name: &str, media_type: &str, bytes: &[u8]) -> Value {
        let number = self.files.len();
        self.files.push(Stored {
            name: name.to_owned(),
            media_type: media_type.to_owned(),
            length: bytes.len(),
            bytes: bytes.to_vec(),
        });
        let url = format!("{origin}/files-pri/{number}/{name}");
        json!({"id": format!("F{number}"), "name": name, "title": name, "mimetype": media_type, "size": bytes.len(),
            "mode": "hosted", "is_external": false, "url_private": url, "url_private_download": url})
    }

    /// Puts an event into an envelope, which is sent until it is acknowledged.
    pub(crate) fn emit(&mut self, event: &Value) {
        let number = self.number();
        let envelope = json!({"envelope_id": format!("env-{number}"), "type": "events_api", "accepts_response_payload": false,
            "retry_attempt": 0, "retry_reason": "", "payload": callback(event, number)});
        self.envelopes.push_back(envelope.clone());
        self.order(&Order::Frame(envelope));
    }

    pub(crate) fn acknowledge(&mut self, id: &str) {
        self.envelopes.retain(|envelope| envelope["envelope_id"] != id);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.envelopes.len()
    }

    /// Takes a connection in; returns what waits for one.
    pub(crate) fn connected(&mut self, line: mpsc::Sender<Order>) -> Vec<Value> {
        self.lines.retain(|line| !line.is_closed());
        self.lines.push(line);
        self.receivers_max = self.receivers_max.max(self.lines.len());
        self.envelopes.iter().cloned().collect()
    }

    /// Gives an order to all connections; a frame goes to the newest, as Slack picks one.
    pub(crate) fn order(&mut self, order: &Order) {
        self.lines.retain(|line| !line.is_closed());
        let is_frame = matches!(order, Order::Frame(_));
        for line in self.lines.iter().rev().take(if is_frame { 1 } else { usize::MAX }) {
            // A line that is full belongs to an app that does not read.
            drop(line.try_send(order.clone()));
        }
    }

    pub(crate) fn posts_in(&self, channel: &str) -> Vec<Post> {
        self.posts
            .iter()
            .filter(|post| post.channel == channel)
            .cloned()
            .collect()
    }

    /// Returns what a conversation or a thread of it shows since `oldest`, oldest first.
    pub(crate) fn listed(&self, channel: &str, thread: Option<&str>, oldest: &str, with_metadata: bool) -> Vec<Value> {
        let by_app = self.posts_in(channel).into_iter().map(|post| {
            let mut message = json!({"type": "message", "user": APP_USER, "bot_id": APP_BOT, "app_id": "A700",
                "text": post.text, "ts": post.ts, "team": "T1"});
            if let Some(thread) = post.thread {
                message["thread_ts"] = json!(thread);
            }
            let files = post.files.iter().map(|file| json!({"id": file.id, "name": file.name}));
            let files: Vec<Value> = files.collect();
            if !files.is_empty() {
                message["files"] = Value::Array(files);
            }
            if with_metadata && !post.metadata.is_null() {
                message["metadata"] = post.metadata;
            }
            message
        });
        let persons = self.persons.iter().filter(|((place, _), _)| place == channel);
        let mut all: Vec<Value> = by_app.chain(persons.map(|(_, message)| message.clone())).collect();
        all.retain(|message| {
            let root = message["thread_ts"].as_str().unwrap_or_default();
            let is_here = match thread {
                Some(thread) => root == thread || message["ts"] == thread,
                // What is said in threads stands in them only.
                None => root.is_empty() || message["ts"] == root,
            };
            is_here && message["ts"].as_str().unwrap_or_default() > oldest
        });
        all.sort_by_key(|message| message["ts"].as_str().unwrap_or_default().to_owned());
        all
    }

    pub(crate) fn post_mut(&mut self, channel: &str, ts: &str) -> Option<&mut Post> {
        self.posts
            .iter_mut()
            .find(|post| post.channel == channel && post.ts == ts)
    }

    pub(crate) fn knows(&self, channel: &str, ts: &str) -> bool {
        let by_app = self.posts.iter().any(|post| post.channel == channel && post.ts == ts);
        by_app || self.persons.contains_key(&(channel.to_owned(), ts.to_owned()))
    }

    pub(crate) fn remove(&mut self, channel: &str, ts: &str) -> bool {
        let before = self.posts.len();
        self.posts.retain(|post| post.channel != channel || post.ts != ts);
        before != self.posts.len()
    }

    /// Stores a message of the app, which hears it itself, as on Slack.
    pub(crate) fn post(
        &mut self,
        channel: &str,
        thread: Option<&str>,
        text: &str,
        files: Vec<SharedFile>,
        metadata: &Value,
    ) -> Value {
        let ts = self.new_ts();
        let mut message = json!({"type": "message", "user": APP_USER, "bot_id": APP_BOT, "app_id": "A700", "text": text,
            "ts": ts, "team": "T1", "bot_profile": {"id": APP_BOT, "name": "sluice"}});
        if let Some(thread) = thread {
            message["thread_ts"] = json!(thread);
        }
        self.posts.push(Post {
            ts,
            channel: channel.to_owned(),
            thread: thread.map(str::to_owned),
            text: text.to_owned(),
            files,
            metadata: metadata.clone(),
        });
        let mut event = message.clone();
        event["channel"] = json!(channel);
        event["channel_type"] = json!(if channel.starts_with('D') { "im" } else { "channel" });
        self.emit(&event);
        message
    }

    pub(crate) fn order_fault(&mut self, method: &str, channel: &str, fault: Fault) {
        self.faults.push((method.to_owned(), channel.to_owned(), fault));
    }

    pub(crate) fn take_fault(&mut self, method: &str, channel: &str) -> Option<Fault> {
        let matches = |fault: &(String, String, Fault)| fault.0 == method && fault.1 == channel;
        let index = self.faults.iter().position(matches)?;
        Some(self.faults.remove(index).2)
    }
}

/// Writes an event as the Events API sends it.
pub(crate) fn callback(event: &Value, number: u64) -> Value {
    json!({"token": "verification", "team_id": "T1", "api_app_id": "A700", "event": event, "type": "event_callback",
        "event_id": format!("Ev{number}"), "event_time": 1_767_225_600,
        "authorizations": [{"team_id": "T1", "user_id": APP_USER, "is_bot": true}], "is_ext_shared_channel": false})
}

fn merge(value: &mut Value, fields: &Value) {
    if let (Value::Object(value), Value::Object(fields)) = (value, fields) {
        value.extend(fields.clone());
    }
}
