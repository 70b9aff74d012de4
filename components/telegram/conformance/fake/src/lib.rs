//! A strict fake of the Telegram Bot API, for tests.
//!
//! It speaks HTTP on a loopback port, keeps chats, messages and updates in memory, and refuses what Telegram refuses
//! with Telegram's own words: wrong tokens, two pollers, messages that are too long once their entities are parsed,
//! broken HTML, unknown chats. Tests play the people ([`TelegramFake::say`], [`TelegramFake::press`]), order failures
//! ([`TelegramFake::fail_next`]) and look at what the bot did ([`TelegramFake::calls`], [`TelegramFake::messages`]).
//! Telegram ignores parameters that it does not know; the fake ignores them as well but writes them down as
//! [`TelegramFake::violations`], which every test should find empty.
//!
//! A fake that only our own channel talks to proves nothing: `oracle.py` beside this crate drives it with
//! python-telegram-bot and aiogram first.

mod control;
mod fault;
mod files;
mod keyboard;
mod markup;
mod methods;
mod params;
mod people;
mod server;
mod state;
mod updates;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

pub use crate::fault::{Answer, Fault};
pub use crate::params::Upload;
pub use crate::people::Failure;
pub use crate::state::{BotMessage, Call, ChatState, WebhookAttempt};

use crate::state::Shared;

/// The token of the fake's one bot, unless [`Options::token`] says another.
pub const TOKEN: &str = "700100200:AAFakeTokenForTests_0123456789abcdefg";

/// How the fake is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// The bot's token: digits, a colon, and the secret part.
    pub token: String,
    /// The bot's username, without `@`.
    pub username: String,
    /// How long the fake waits before it tries a refused webhook again.
    pub webhook_retry: Duration,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            token: TOKEN.to_owned(),
            username: "sluicegate_test_bot".to_owned(),
            webhook_retry: Duration::from_millis(200),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }
}

/// A running fake. Dropping it ends its server and its open long polls.
#[derive(Debug)]
pub struct TelegramFake {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl TelegramFake {
    /// Starts a fake with the default options on a free loopback port.
    ///
    /// # Errors
    /// Returns the error of binding the port.
    pub async fn start() -> std::io::Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// Starts a fake.
    ///
    /// # Errors
    /// Returns the error of binding the port.
    pub async fn start_with(options: Options) -> std::io::Result<Self> {
        let listen = options.listen;
        let shared = Arc::new(Shared::new(options));
        let address = server::start(Arc::clone(&shared), listen).await?;
        tokio::spawn(updates::push_webhooks(Arc::clone(&shared)));
        Ok(Self { shared, address })
    }

    /// Returns where the fake listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what stands in the place of `https://api.telegram.org`, without a slash at the end.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the token that the fake accepts.
    pub fn token(&self) -> String {
        self.shared.lock().options.token.clone()
    }

    /// Answers the next `count` calls of `method` as the fault says, before those ordered earlier have run out: in order.
    pub fn fail_next(&self, method: &str, count: usize, fault: Fault) {
        self.shared
            .change(|state| state.order_fault(method, None, count, fault));
    }

    /// Answers the next call of `method` for a chat as the fault says, before what [`Self::fail_next`] ordered for all.
    pub fn fail_next_in(&self, chat: i64, method: &str, fault: Fault) {
        self.shared
            .change(|state| state.order_fault(method, Some(chat), 1, fault));
    }

    /// Hands an update of any form and id out with the next long poll, whatever the bot has confirmed.
    pub fn repeat(&self, update_id: i64, update: Value) {
        self.shared.change(|state| {
            let mut update = update;
            update["update_id"] = update_id.into();
            state.again.push(update);
        });
    }

    /// Cuts the connections of every long poll that waits.
    pub fn cut_polls(&self) {
        self.shared.change(|state| state.polls_cut += 1);
    }

    /// Returns the most long polls that ever waited at once.
    pub fn polls_max(&self) -> usize {
        self.shared.lock().polls_max
    }

    /// Returns every call so far, oldest first, those that were refused included.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.lock().calls.clone()
    }

    /// Returns the calls of one method so far, oldest first.
    pub fn calls_of(&self, method: &str) -> Vec<Call> {
        self.shared.lock().calls_of(method)
    }

    /// Waits until `count` calls of `method` have been answered (or left unanswered by a fault), and returns them.
    ///
    /// # Errors
    /// Returns those that came, when it takes longer than `patience`.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn await_calls(&self, method: &str, count: usize, patience: Duration) -> Result<Vec<Call>, Vec<Call>> {
        self.shared.await_calls(method, count, patience).await
    }

    /// Waits until the fake holds no update that the bot has not confirmed.
    ///
    /// # Errors
    /// Returns how many are left, when it takes longer than `patience`.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn await_confirmed(&self, patience: Duration) -> Result<(), usize> {
        let confirmed = self
            .shared
            .wait_for(patience, |state| state.pending.is_empty().then_some(()))
            .await;
        confirmed.ok_or_else(|| self.shared.lock().pending.len())
    }

    /// Returns the bot's messages in a chat as they stand now (edited, without the deleted ones), oldest first.
    pub fn messages(&self, chat: i64) -> Vec<BotMessage> {
        self.shared.lock().bot_messages(chat)
    }

    /// Returns what the bot did that Telegram would have let pass but that no bot should do.
    pub fn violations(&self) -> Vec<String> {
        self.shared.lock().violations.clone()
    }

    /// Returns the attempts to deliver updates to the bot's webhook, oldest first.
    pub fn webhook_attempts(&self) -> Vec<WebhookAttempt> {
        self.shared.lock().webhook_attempts.clone()
    }

    /// Stores a file that people can send, and returns its `file_id`.
    pub fn add_file(&self, name: &str, bytes: Vec<u8>) -> String {
        self.shared.change(|state| state.add_file(name, bytes))
    }

    /// Pretends that a stored file has this size, without having the bytes.
    pub fn set_file_size(&self, file_id: &str, bytes: u64) {
        self.shared.change(|state| state.set_file_size(file_id, bytes));
    }

    /// Changes what the bot may do in a chat: blocked, deactivated, migrated.
    pub fn set_chat(&self, chat: i64, chat_state: ChatState) {
        self.shared.change(|state| state.chat_mut(chat).state = chat_state);
    }

    /// Makes a supergroup with topics; messages to a thread that is not one of `topics` are refused.
    pub fn add_forum(&self, chat: i64, topics: &[i64]) {
        self.shared.change(|state| state.add_forum(chat, topics));
    }

    /// Lets a person write a text: positive chat ids are private chats, negative ones supergroups. Commands and mentions
    /// get their entities. Returns the update id.
    pub fn say(&self, chat: i64, user: i64, text: &str) -> i64 {
        self.shared.change(|state| state.say(chat, user, text))
    }

    /// Lets a person send a message with these fields (`text`, `photo`, `caption`, `reply_to_message` …); the fake adds
    /// ids, date, chat and sender where they are missing. Returns the update id.
    pub fn push_message(&self, chat: i64, user: i64, fields: Value) -> i64 {
        self.shared.change(|state| state.push_message(chat, user, fields))
    }

    /// Hands the bot an update of any form; the fake sets its `update_id`, and returns it.
    pub fn push_update(&self, update: Value) -> i64 {
        self.shared.change(|state| state.push_update(update))
    }

    /// Lets a person change a message. Returns the update id.
    ///
    /// # Errors
    /// When no person wrote such a message.
    pub fn edit(&self, chat: i64, message_id: i64, text: &str) -> Result<i64, Failure> {
        self.shared.change(|state| state.edit_by_person(chat, message_id, text))
    }

    /// Lets a person press the button with this callback data under one of the bot's messages. Returns the update id.
    ///
    /// # Errors
    /// When there is no such message or button.
    pub fn press(&self, chat: i64, user: i64, message_id: i64, data: &str) -> Result<i64, Failure> {
        self.shared.change(|state| state.press(chat, user, message_id, data))
    }

    /// Lets a person react to a message; none takes the reaction back. Returns the update id.
    pub fn react(&self, chat: i64, user: i64, message_id: i64, emoji: Option<&str>) -> i64 {
        self.shared.change(|state| state.react(chat, user, message_id, emoji))
    }
}

impl Drop for TelegramFake {
    fn drop(&mut self) {
        self.shared.change(|state| state.stopped = true);
    }
}
