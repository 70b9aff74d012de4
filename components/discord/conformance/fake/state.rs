//! What the fake knows: channels, messages, sessions, what the bot called.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::gateway::Order;
use super::{ADA, BOT, CHANNEL, DIRECT, GUILD, THREAD};

/// Messages that a bot may send to a channel in [`BUCKET_PERIOD`].
const BUCKET_CALLS: u32 = 5;
/// The span of the bucket.
const BUCKET_PERIOD: Duration = Duration::from_millis(1_000);
/// For how long a nonce is remembered.
const NONCE_PERIOD: Duration = Duration::from_secs(120);

/// A call of the bot.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) method: String,
    /// Below `/api/v10`.
    pub(crate) path: String,
    pub(crate) body: Value,
    pub(crate) status: u16,
    pub(crate) at: Instant,
}

/// What a call is answered with in place of its result.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    /// A status with Discord's words.
    Api { status: u16, code: u32 },
    /// A status with a page of something before Discord.
    Page(u16),
    /// 429 with this wait, for all or for this call.
    TooMany { seconds: f64, global: bool },
    /// The connection ends without an answer, before or after the call had its effect.
    NoAnswer { accepted: bool },
}

#[derive(Debug)]
struct FaultOrder {
    method: String,
    path: String,
    left: usize,
    fault: Fault,
}

/// A message of the bot.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Posted {
    pub(crate) id: String,
    pub(crate) channel: String,
    pub(crate) content: String,
    pub(crate) answers: Option<String>,
    /// Name and bytes.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// What it said before each edit.
    pub(crate) earlier: Vec<String>,
    pub(crate) reactions: Vec<String>,
    nonce: Option<(String, Instant)>,
}

/// A file that a person sent.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

/// A session of the gateway.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    /// Every event from number 1 on, as it was sent.
    pub(crate) events: Vec<Value>,
    /// The connection that has it.
    pub(crate) line: Option<mpsc::Sender<Order>>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) channels: HashMap<String, Value>,
    /// Those that the bot can't reach any more.
    pub(crate) closed: HashSet<String>,
    pub(crate) calls: Vec<Call>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) violations: Vec<String>,
    pub(crate) refuses_token: bool,
    pub(crate) identified: usize,
    pub(crate) resumed: usize,
    pub(crate) receivers_max: usize,
    pub(crate) last_identify: Option<Instant>,
    /// Whether heartbeats are answered.
    pub(crate) is_silent: bool,
    /// Milliseconds between heartbeats for connections to come.
    pub(crate) heartbeat_ms: u64,
    /// A close code for the next greeting.
    pub(crate) refuse_next: Option<u16>,
    posted: Vec<Posted>,
    persons: HashMap<String, Value>,
    files: Vec<Stored>,
    faults: VecDeque<FaultOrder>,
    buckets: HashMap<String, (Instant, u32)>,
    next_id: u64,
}

impl State {
    pub(crate) fn new() -> Self {
        let mut state = Self {
            channels: HashMap::new(),
            closed: HashSet::new(),
            calls: Vec::new(),
            sessions: Vec::new(),
            violations: Vec::new(),
            refuses_token: false,
            identified: 0,
            resumed: 0,
            receivers_max: 0,
            last_identify: None,
            is_silent: false,
            heartbeat_ms: 41_250,
            refuse_next: None,
            posted: Vec::new(),
            persons: HashMap::new(),
            files: Vec::new(),
            faults: VecDeque::new(),
            buckets: HashMap::new(),
            // Snowflakes of 2026.
            next_id: 1_456_789_012_345_678_000,
        };
        let general = json!({"id": CHANNEL, "type": 0, "name": "general", "guild_id": GUILD, "parent_id": null,
            "position": 0, "permission_overwrites": [], "nsfw": false});
        for channel in [general, thread(THREAD), direct(DIRECT)] {
            state.add_channel(channel);
        }
        state
    }

    fn add_channel(&mut self, channel: Value) {
        self.channels.insert(text(&channel["id"]), channel);
    }

    pub(crate) fn add_direct(&mut self) -> String {
        let id = self.new_id();
        self.add_channel(direct(&id));
        id
    }

    pub(crate) fn add_thread(&mut self) -> String {
        let id = self.new_id();
        self.dispatch("THREAD_CREATE", &thread(&id));
        self.add_channel(thread(&id));
        id
    }

    fn is_direct(&self, channel: &str) -> bool {
        self.channels.get(channel).is_some_and(|channel| channel["type"] == 1)
    }

    pub(crate) fn new_id(&mut self) -> String {
        self.next_id += 1 << 22;
        self.next_id.to_string()
    }

    pub(crate) fn message_by_person(&mut self, channel: &str, fields: &Value) -> String {
        let id = self.new_id();
        let mut message = json!({
            "id": id, "type": 0, "channel_id": channel, "author": person(ADA), "content": "", "tts": false,
            "timestamp": "2026-03-01T10:00:00.000000+00:00", "edited_timestamp": null, "mention_everyone": false,
            "mentions": [], "mention_roles": [], "attachments": [], "embeds": [], "pinned": false, "flags": 0,
            "components": [],
        });
        if !self.is_direct(channel) {
            message["guild_id"] = json!(GUILD);
            message["member"] = member();
        }
        merge(&mut message, fields);
        if let Some(answered) = message["message_reference"]["message_id"].as_str().map(str::to_owned) {
            message["type"] = json!(19);
            message["referenced_message"] = self.found(&answered);
        }
        self.persons.insert(id.clone(), message.clone());
        self.dispatch("MESSAGE_CREATE", &message);
        id
    }

    pub(crate) fn edit_by_person(&mut self, id: &str, content: &str) {
        let Some(message) = self.persons.get_mut(id) else {
            return;
        };
        message["content"] = json!(content);
        message["edited_timestamp"] = json!("2026-03-01T10:05:00.000000+00:00");
        let message = message.clone();
        self.dispatch("MESSAGE_UPDATE", &message);
    }

    fn found(&self, id: &str) -> Value {
        let by_bot = self
            .posted
            .iter()
            .find(|posted| posted.id == id)
            .map(|posted| self.shown(posted));
        by_bot.or_else(|| self.persons.get(id).cloned()).unwrap_or(Value::Null)
    }

    pub(crate) fn add_file(&mut self, origin: &str, name: &str, media_type: &str, bytes: &[u8]) -> Value {
        self.files.push(Stored {
            media_type: media_type.to_owned(),
            bytes: bytes.to_vec(),
        });
        let id = self.new_id();
        let number = self.files.len() - 1;
        json!({"id": id, "filename": name, "size": bytes.len(), "content_type": media_type,
            "url": format!("{origin}/attachments/{number}/{name}"), "proxy_url": format!("{origin}/attachments/{number}/{name}")})
    }

    pub(crate) fn file(&self, number: usize) -> Option<Stored> {
        self.files.get(number).cloned()
    }

    /// Gives an event to each session under its next number, and to the connection that has it.
    pub(crate) fn dispatch(&mut self, name: &str, data: &Value) {
        for session in &mut self.sessions {
            session.dispatch(name, data);
        }
    }

    pub(crate) fn repeat(&mut self, channel: &str) {
        let here = self.persons.values().filter(|message| message["channel_id"] == channel);
        // Ids grow with time.
        if let Some(last) = here.max_by_key(|message| text(&message["id"])).cloned() {
            self.dispatch("MESSAGE_CREATE", &last);
        }
    }

    pub(crate) fn order(&mut self, order: &Order) {
        match order {
            Order::Silence(is_silent) => self.is_silent = *is_silent,
            Order::RefuseNext(code) => self.refuse_next = Some(*code),
            Order::HeartbeatMs(ms) => self.heartbeat_ms = *ms,
            Order::Invalidate(false) => {
                let lines: Vec<_> = self.sessions.drain(..).filter_map(|session| session.line).collect();
                lines.iter().for_each(|line| send(line, order));
            }
            _ => {
                let lines = self.sessions.iter().filter_map(|session| session.line.as_ref());
                lines.for_each(|line| send(line, order));
            }
        }
    }

    pub(crate) fn receivers(&self) -> usize {
        let open = |session: &&Session| session.line.as_ref().is_some_and(|line| !line.is_closed());
        self.sessions.iter().filter(open).count()
    }

    pub(crate) fn posted(&self, channel: &str) -> Vec<Posted> {
        self.posted
            .iter()
            .filter(|posted| posted.channel == channel)
            .cloned()
            .collect()
    }

    pub(crate) fn posted_mut(&mut self, channel: &str, id: &str) -> Option<&mut Posted> {
        self.posted
            .iter_mut()
            .find(|posted| posted.id == id && posted.channel == channel)
    }

    pub(crate) fn knows(&self, id: &str) -> bool {
        self.persons.contains_key(id) || self.posted.iter().any(|posted| posted.id == id)
    }

    pub(crate) fn remove(&mut self, channel: &str, id: &str) -> bool {
        let before = self.posted.len();
        self.posted
            .retain(|posted| posted.id != id || posted.channel != channel);
        before != self.posted.len()
    }

    /// Stores a message of the bot, or returns the one that had its nonce before.
    pub(crate) fn post(&mut self, channel: &str, body: &Value, files: Vec<(String, Vec<u8>)>) -> Value {
        let nonce = body["nonce"]
            .as_str()
            .map(str::to_owned)
            .filter(|_| body["enforce_nonce"] == true);
        let same = |posted: &&Posted| {
            posted
                .nonce
                .as_ref()
                .is_some_and(|(known, at)| Some(known) == nonce.as_ref() && at.elapsed() < NONCE_PERIOD)
        };
        if let Some(first) = self.posted.iter().find(same) {
            return self.shown(first);
        }
        let posted = Posted {
            id: self.new_id(),
            channel: channel.to_owned(),
            content: body["content"].as_str().unwrap_or_default().to_owned(),
            answers: id_of(&body["message_reference"]["message_id"]),
            files,
            earlier: Vec::new(),
            reactions: Vec::new(),
            nonce: nonce.map(|nonce| (nonce, Instant::now())),
        };
        let shown = self.shown(&posted);
        self.posted.push(posted);
        // The bot hears its own messages, as on Discord.
        self.dispatch("MESSAGE_CREATE", &shown);
        shown
    }

    pub(crate) fn shown(&self, posted: &Posted) -> Value {
        let files = posted.files.iter().enumerate().map(|(index, (name, bytes))| {
            json!({"id": (index + 1).to_string(), "filename": name, "size": bytes.len(), "url": "http://x/y", "proxy_url": "http://x/y"})
        });
        let mut shown = json!({
            "id": posted.id, "type": if posted.answers.is_some() { 19 } else { 0 }, "channel_id": posted.channel,
            "author": bot(), "content": posted.content, "timestamp": "2026-03-01T10:00:00.000000+00:00", "tts": false,
            "edited_timestamp": null, "mention_everyone": false, "mentions": [], "mention_roles": [], "embeds": [],
            "attachments": files.collect::<Vec<_>>(), "pinned": false, "flags": 0, "components": [],
            "nonce": posted.nonce.as_ref().map(|(nonce, _)| nonce),
        });
        if let Some(answered) = &posted.answers {
            shown["message_reference"] = json!({"type": 0, "message_id": answered, "channel_id": posted.channel});
        }
        if !self.is_direct(&posted.channel) {
            shown["guild_id"] = json!(GUILD);
        }
        shown
    }

    pub(crate) fn order_fault(&mut self, method: &str, path: &str, count: usize, fault: Fault) {
        self.faults.push_back(FaultOrder {
            method: method.to_owned(),
            path: path.to_owned(),
            left: count,
            fault,
        });
    }

    pub(crate) fn take_fault(&mut self, method: &str, path: &str) -> Option<Fault> {
        let matches = |order: &FaultOrder| order.method == method && path.starts_with(&order.path);
        let index = self.faults.iter().position(matches)?;
        let order = &mut self.faults[index];
        order.left = order.left.saturating_sub(1);
        let fault = order.fault.clone();
        if order.left == 0 {
            self.faults.remove(index);
        }
        Some(fault)
    }

    /// Takes one call out of a channel's bucket: how many are left and for how long, or none where it was empty.
    pub(crate) fn spend(&mut self, channel: &str) -> (Option<u32>, Duration) {
        let bucket = self
            .buckets
            .entry(channel.to_owned())
            .or_insert((Instant::now(), BUCKET_CALLS));
        if bucket.0.elapsed() >= BUCKET_PERIOD {
            *bucket = (Instant::now(), BUCKET_CALLS);
        }
        let left = bucket.1.checked_sub(1);
        bucket.1 = left.unwrap_or_default();
        (left, BUCKET_PERIOD.saturating_sub(bucket.0.elapsed()))
    }
}

impl Session {
    pub(crate) fn dispatch(&mut self, name: &str, data: &Value) {
        let frame = json!({"op": 0, "s": self.events.len() + 1, "t": name, "d": data});
        self.events.push(frame.clone());
        if let Some(line) = &self.line {
            send(line, &Order::Frame(frame));
        }
    }
}

/// A line that is full belongs to a bot that does not read, which its silence ends.
fn send(line: &mpsc::Sender<Order>, order: &Order) {
    drop(line.try_send(order.clone()));
}

pub(crate) fn bot() -> Value {
    json!({"id": BOT.0, "username": BOT.1, "discriminator": "0", "global_name": null, "avatar": null, "bot": true})
}

pub(crate) fn person(id: &str) -> Value {
    json!({"id": id, "username": "ada", "discriminator": "0", "global_name": "Ada", "avatar": null})
}

pub(crate) fn member() -> Value {
    json!({"roles": [], "nick": null, "mute": false, "deaf": false, "joined_at": "2026-01-01T00:00:00+00:00", "flags": 0})
}

fn direct(id: &str) -> Value {
    json!({"id": id, "type": 1, "recipients": [person(ADA)], "last_message_id": null})
}

fn thread(id: &str) -> Value {
    json!({"id": id, "type": 11, "name": "plans", "guild_id": GUILD, "parent_id": CHANNEL, "owner_id": ADA,
        "message_count": 1, "member_count": 2, "thread_metadata": {"archived": false, "locked": false,
        "auto_archive_duration": 1440, "archive_timestamp": "2026-01-01T00:00:00+00:00"}})
}

fn merge(value: &mut Value, fields: &Value) {
    if let (Value::Object(value), Value::Object(fields)) = (value, fields) {
        value.extend(fields.clone());
    }
}

/// Reads an id: Discord takes a number for one as well.
pub(crate) fn id_of(value: &Value) -> Option<String> {
    let number = value.as_u64().map(|number| number.to_string());
    value.as_str().map(str::to_owned).or(number)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
