//! What the fake remembers: chats, messages, updates, files, calls.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Options;
use crate::fault::Fault;
use crate::files::StoredFile;
use crate::params::{Upload, method_named};

/// One call of a Bot API method.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method's proper name.
    pub method: String,
    /// Its parameters; those that arrived as text stay text. An uploaded file is `{file_name, media_type, size}`.
    pub params: Value,
    /// The uploaded files.
    pub files: Vec<Upload>,
    /// When it was answered, milliseconds after the fake's start.
    pub at_ms: u64,
    /// The HTTP status of the answer; 0 where a fault left it without one.
    pub status: u16,
    /// Whether it took effect.
    pub accepted: bool,
}

/// One of the bot's messages as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BotMessage {
    /// Its id.
    pub message_id: i64,
    /// Its text (or caption) after entity parsing.
    pub text: String,
    /// The whole Message object.
    pub message: Value,
}

/// One attempt to hand an update to the bot's webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WebhookAttempt {
    /// The update.
    pub update_id: i64,
    /// The HTTP status of the answer; 0 where none came.
    pub status: u16,
}

/// What the bot may do in a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChatState {
    /// Everything.
    #[default]
    Open,
    /// Nothing: the person blocked it.
    Blocked,
    /// Nothing: it was removed from the group.
    Kicked,
    /// Nothing: the account is gone.
    Deactivated,
    /// Nothing here: the group became this supergroup.
    MigratedTo(i64),
}

/// A chat.
#[derive(Debug, Clone)]
pub(crate) struct Chat {
    pub(crate) value: Value,
    pub(crate) state: ChatState,
    /// The topics of a forum.
    pub(crate) topics: BTreeSet<i64>,
}

/// A message by the bot or a person.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) value: Value,
    pub(crate) by_bot: bool,
}

/// The bot's registered webhook.
#[derive(Debug, Clone)]
pub(crate) struct Webhook {
    pub(crate) url: String,
    pub(crate) secret: Option<String>,
    pub(crate) last_error: Option<String>,
}

/// Everything that the fake remembers.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) options: Options,
    pub(crate) started: Instant,
    pub(crate) stopped: bool,
    pub(crate) chats: BTreeMap<i64, Chat>,
    /// By chat and message id.
    pub(crate) messages: BTreeMap<(i64, i64), Message>,
    pub(crate) next_message_id: i64,
    pub(crate) files: HashMap<String, StoredFile>,
    /// Updates that the bot has not confirmed, oldest first.
    pub(crate) pending: VecDeque<Value>,
    pub(crate) next_update_id: i64,
    /// What the bot asked for last; none means Telegram's default.
    pub(crate) allowed_updates: Option<Vec<String>>,
    /// Counts `getUpdates` calls: only the newest may wait.
    pub(crate) poll_generation: u64,
    pub(crate) webhook: Option<Webhook>,
    pub(crate) webhook_attempts: Vec<WebhookAttempt>,
    /// Callback queries that the bot may still answer.
    pub(crate) open_queries: BTreeSet<String>,
    /// By method, and by chat where they are ordered for one only.
    pub(crate) faults: HashMap<(String, Option<i64>), VecDeque<Fault>>,
    /// Updates that the next long poll gets whatever it has confirmed.
    pub(crate) again: Vec<Value>,
    /// How often every waiting long poll was cut.
    pub(crate) polls_cut: u64,
    /// Long polls that wait now, and the most that ever waited at once.
    pub(crate) polls: usize,
    pub(crate) polls_max: usize,
    pub(crate) calls: Vec<Call>,
    pub(crate) violations: Vec<String>,
}

impl State {
    fn new(options: Options) -> Self {
        Self {
            options,
            started: Instant::now(),
            stopped: false,
            chats: BTreeMap::new(),
            messages: BTreeMap::new(),
            next_message_id: 1,
            files: HashMap::new(),
            pending: VecDeque::new(),
            // Far from message ids, so that a bot that mixes them up is found out.
            next_update_id: 610_000_001,
            allowed_updates: None,
            poll_generation: 0,
            webhook: None,
            webhook_attempts: Vec::new(),
            open_queries: BTreeSet::new(),
            faults: HashMap::new(),
            again: Vec::new(),
            polls_cut: 0,
            polls: 0,
            polls_max: 0,
            calls: Vec::new(),
            violations: Vec::new(),
        }
    }

    /// Returns the bot as a User object, with what only `getMe` tells.
    pub(crate) fn me(&self) -> Value {
        let mut me = self.bot_user();
        me["can_join_groups"] = json!(true);
        me["can_read_all_group_messages"] = json!(false);
        me["supports_inline_queries"] = json!(false);
        me["can_connect_to_business"] = json!(false);
        me["has_main_web_app"] = json!(false);
        me
    }

    /// Returns the bot as a User object.
    pub(crate) fn bot_user(&self) -> Value {
        json!({
            "id": self.bot_id(), "is_bot": true, "first_name": "Sluicegate test",
            "username": self.options.username,
        })
    }

    /// Returns the bot's user id: the digits of its token.
    pub(crate) fn bot_id(&self) -> i64 {
        let digits = self.options.token.split(':').next().unwrap_or_default();
        digits.parse().unwrap_or_default()
    }

    pub(crate) fn order_fault(&mut self, method: &str, chat: Option<i64>, count: usize, fault: Fault) {
        let name = method_named(method).unwrap_or(method).to_owned();
        let queue = self.faults.entry((name, chat)).or_default();
        queue.extend(std::iter::repeat_n(fault, count));
    }

    pub(crate) fn take_fault(&mut self, method: &str, chat: Option<i64>) -> Option<Fault> {
        let mut of = |chat| self.faults.get_mut(&(method.to_owned(), chat))?.pop_front();
        chat.and_then(|chat| of(Some(chat))).or_else(|| of(None))
    }

    pub(crate) fn calls_of(&self, method: &str) -> Vec<Call> {
        self.calls
            .iter()
            .filter(|call| call.method.eq_ignore_ascii_case(method))
            .cloned()
            .collect()
    }

    pub(crate) fn bot_messages(&self, chat: i64) -> Vec<BotMessage> {
        let of_chat = self.messages.range((chat, i64::MIN)..=(chat, i64::MAX));
        let by_bot = of_chat.filter(|(_, message)| message.by_bot);
        by_bot
            .map(|((_, message_id), message)| BotMessage {
                message_id: *message_id,
                text: text_of(&message.value).to_owned(),
                message: message.value.clone(),
            })
            .collect()
    }

    pub(crate) fn violation(&mut self, words: String) {
        self.violations.push(words);
    }

    /// Takes the next message id.
    pub(crate) fn message_id(&mut self) -> i64 {
        let id = self.next_message_id;
        self.next_message_id += 1;
        id
    }

    /// Returns a chat, making it where nobody has been yet: private for positive ids, else a supergroup.
    pub(crate) fn chat_mut(&mut self, id: i64) -> &mut Chat {
        self.chats.entry(id).or_insert_with(|| {
            let value = if id > 0 {
                json!({"id": id, "type": "private", "first_name": format!("Person {id}"), "username": format!("person{id}")})
            } else {
                json!({"id": id, "type": "supergroup", "title": format!("Group {}", id.unsigned_abs())})
            };
            Chat { value, state: ChatState::Open, topics: BTreeSet::new() }
        })
    }

    pub(crate) fn add_forum(&mut self, id: i64, topics: &[i64]) {
        let chat = self.chat_mut(id);
        chat.value["is_forum"] = json!(true);
        chat.topics.extend(topics);
    }
}

/// Returns a message's text or caption.
pub(crate) fn text_of(message: &Value) -> &str {
    message["text"]
        .as_str()
        .or_else(|| message["caption"].as_str())
        .unwrap_or_default()
}

/// Returns the time now, Unix seconds.
#[expect(
    clippy::disallowed_methods,
    reason = "Telegram stamps messages with its own clock, not with the tests'"
)]
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The state with a bell that rings at every change.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            state: Mutex::new(State::new(options)),
            changed: watch::Sender::new(0),
        }
    }

    /// Looks at the state. A test that panicked elsewhere is no reason to hide what happened here.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes everyone who waits for a change.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.send_modify(|count| *count += 1);
        result
    }

    /// Returns a bell that rings at each later change.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Waits until `look` finds something, for at most `patience`.
    pub(crate) async fn wait_for<T>(&self, patience: Duration, look: impl Fn(&State) -> Option<T>) -> Option<T> {
        let mut changed = self.watch();
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = look(&self.lock()) {
                return Some(found);
            }
            // The sender lives in `self`, so only the deadline can end the wait.
            let _ = tokio::time::timeout_at(deadline, changed.changed()).await.ok()?;
        }
    }

    /// Waits for calls; see [`crate::TelegramFake::await_calls`].
    pub(crate) async fn await_calls(
        &self,
        method: &str,
        count: usize,
        patience: Duration,
    ) -> Result<Vec<Call>, Vec<Call>> {
        let enough = |state: &State| {
            let calls = state.calls_of(method);
            (calls.len() >= count).then_some(calls)
        };
        let found = self.wait_for(patience, enough).await;
        found.ok_or_else(|| self.lock().calls_of(method))
    }

    /// Resolves when the fake is being stopped.
    pub(crate) async fn stopped(&self) {
        let mut changed = self.watch();
        while !self.lock().stopped {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}
