//! Telegram's row, against our own strict fake of the Bot API, which python-telegram-bot and aiogram run against; and the
//! channel against a third party's emulator.

mod emulator;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use harness::{PATIENCE, Program, Setup};
use serde_json::{Value, json};
use telegram_fake::{ChatState, Fault, TelegramFake};
use tokio::process::Command;

use crate::cases::Case;
use crate::platform::{File, MessageId, Platform, RATE_LIMIT_WAIT, Refusal, Room, Shown, Skipped, installed};
use crate::table::root;

/// A supergroup with topics.
const FORUM: i64 = -1_001_234_567_890;
/// How many topics it has.
const TOPICS: i64 = 50;

/// The fake, and who has written what.
struct Telegram {
    fake: TelegramFake,
    started: Instant,
    /// The next private chat (and person), topic and message.
    next_chat: AtomicI64,
    next_topic: AtomicI64,
    next_message: AtomicI64,
    /// The last update of each chat.
    last: Mutex<HashMap<i64, (i64, Value)>>,
}

/// Starts the fake.
pub(crate) async fn start() -> Result<Box<dyn Platform>, Skipped> {
    let started = Instant::now();
    let fake = TelegramFake::start().await.expect("a free port");
    let topics: Vec<i64> = (1..=TOPICS).collect();
    fake.add_forum(FORUM, &topics);
    Ok(Box::new(Telegram {
        fake,
        started,
        next_chat: AtomicI64::new(5001),
        next_topic: AtomicI64::new(1),
        // Far from the fake's own, which the bot's messages get.
        next_message: AtomicI64::new(1_000_000),
        last: Mutex::default(),
    }))
}

fn chat_of(room: &Room) -> i64 {
    room.conversation.parse().expect("a chat's id is a number")
}

impl Telegram {
    /// Lets a person send a message with these fields.
    fn push(&self, room: &Room, mut fields: Value) -> MessageId {
        let id = self.next_message.fetch_add(1, Ordering::Relaxed);
        let chat = chat_of(room);
        fields["message_id"] = json!(id);
        if let Some(thread) = &room.thread {
            fields["message_thread_id"] = json!(thread.parse::<i64>().expect("a topic's id is a number"));
            fields["is_topic_message"] = json!(true);
            // In groups the bot hears what is said to it.
            let said = fields["text"].as_str().unwrap_or_default().to_owned();
            fields["text"] = json!(format!("@sluicegate_test_bot {said}"));
            fields["entities"] = json!([{"type": "mention", "offset": 0, "length": 20}]);
        }
        let update = self.fake.push_message(chat, chat.abs(), fields.clone());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.insert(chat, (update, fields));
        MessageId(id.to_string())
    }

    /// Hands the bot a message that a program wrote.
    fn push_of_bot(&self, room: &Room, id: i64, text: &str) {
        let from = json!({"id": id, "is_bot": true, "first_name": "A bot", "username": "a_bot"});
        self.push(room, json!({"text": text, "from": from}));
    }

    /// Returns the document that a message of the bot carries, as it was uploaded.
    fn files(&self, message: &Value) -> Vec<File> {
        let Some(name) = message["document"]["file_name"].as_str() else {
            return Vec::new();
        };
        let uploads = self
            .fake
            .calls_of("sendDocument")
            .into_iter()
            .flat_map(|call| call.files);
        let found = uploads.filter(|upload| upload.file_name == name);
        found
            .map(|upload| File {
                name: upload.file_name,
                media_type: upload.media_type,
                bytes: upload.bytes,
            })
            .take(1)
            .collect()
    }

    /// Returns the parameters of the calls of these methods for a chat.
    fn calls(&self, methods: &[&str], room: &Room) -> Vec<telegram_fake::Call> {
        let calls = self.fake.calls().into_iter();
        let of_chat = calls.filter(|call| call.params["chat_id"] == json!(chat_of(room)));
        of_chat.filter(|call| methods.contains(&call.method.as_str())).collect()
    }
}

/// Returns a message's text, and below it each part of it that has a format: what people see of the formatting.
fn source(message: &Value) -> String {
    let text = message["text"].as_str().unwrap_or_default();
    let units: Vec<u16> = text.encode_utf16().collect();
    let mut source = text.to_owned();
    for entity in message["entities"].as_array().into_iter().flatten() {
        let at = |key: &str| usize::try_from(entity[key].as_u64().unwrap_or_default()).unwrap_or_default();
        let (from, length) = (at("offset"), at("length"));
        let part = String::from_utf16_lossy(units.get(from..from + length).unwrap_or_default());
        let detail = entity["url"]
            .as_str()
            .or(entity["language"].as_str())
            .unwrap_or_default();
        source.push_str(&format!(
            "\n{} {detail}[{part}]",
            entity["type"].as_str().unwrap_or_default()
        ));
    }
    source
}

#[async_trait]
impl Platform for Telegram {
    fn peer(&self) -> String {
        "own fake, which python-telegram-bot and aiogram run against; telegram-test-api".to_owned()
    }

    fn configure(&self, setup: Setup, channel: &str) -> Setup {
        let base = self.fake.base_url();
        setup.env("TELEGRAM_TOKEN", &self.fake.token()).section(&format!(
            "[channels.{channel}]\ncomponent = \"telegram\"\naccess = \"open\"\ngrant = [\"{base}\"]\n\
             settings = {{ mode = \"poll\", api-base = \"{base}\", poll-seconds = 5 }}\n\
             secrets = {{ bot-token = {{ env = \"TELEGRAM_TOKEN\" }} }}\nlimits = {{ call_timeout_s = 5 }}"
        ))
    }

    fn lacks(&self, _case: Case) -> Option<&'static str> {
        None
    }

    async fn room(&self) -> Room {
        let chat = self.next_chat.fetch_add(1, Ordering::Relaxed);
        Room {
            conversation: chat.to_string(),
            thread: None,
        }
    }

    async fn thread(&self) -> Room {
        let topic = self.next_topic.fetch_add(1, Ordering::Relaxed);
        assert!(topic <= TOPICS, "the forum has too few topics");
        Room {
            conversation: FORUM.to_string(),
            thread: Some(topic.to_string()),
        }
    }

    async fn say(&self, room: &Room, text: &str) -> MessageId {
        self.push(room, json!({"text": text}))
    }

    async fn edit(&self, room: &Room, message: &MessageId, text: &str) {
        let id = message.0.parse().expect("a message's id is a number");
        let edited = self.fake.edit(chat_of(room), id, text);
        edited.unwrap_or_else(|failure| panic!("{failure}"));
    }

    async fn reply(&self, room: &Room, to: &Shown, text: &str) -> MessageId {
        let all = self.fake.messages(chat_of(room)).into_iter();
        let answered = all
            .map(|message| message.message)
            .find(|message| message["message_id"].as_i64() == to.id.0.parse().ok());
        let answered = answered.expect("the bot's message is there");
        self.push(room, json!({"text": text, "reply_to_message": answered}));
        to.id.clone()
    }

    async fn send_file(&self, room: &Room, file: &File, text: &str) {
        let file_id = self.fake.add_file(&file.name, file.bytes.clone());
        let document = json!({
            "file_id": file_id, "file_unique_id": "u1", "file_name": file.name, "mime_type": file.media_type,
            "file_size": file.bytes.len(),
        });
        self.push(room, json!({"document": document, "caption": text}));
    }

    async fn echo_own(&self, room: &Room, text: &str) {
        let digits = self.fake.token();
        let id = digits.split(':').next().and_then(|digits| digits.parse().ok());
        self.push_of_bot(room, id.expect("a token begins with the bot's id"), text);
    }

    async fn repeat(&self, room: &Room) {
        let chat = chat_of(room);
        let last = self
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&chat)
            .cloned();
        let (update, mut message) = last.expect("something was said");
        let person = json!({"id": chat, "is_bot": false, "first_name": "Ada"});
        message["from"] = person.clone();
        message["chat"] = json!({"id": chat, "type": "private", "first_name": "Ada"});
        message["date"] = json!(1_700_000_000);
        self.fake.repeat(update, json!({"message": message}));
    }

    async fn bot_says(&self, room: &Room, text: &str) {
        self.push_of_bot(room, 999_001, text);
    }

    async fn shown(&self, room: &Room) -> Vec<Shown> {
        let all = self
            .fake
            .messages(chat_of(room))
            .into_iter()
            .map(|message| message.message);
        let thread = |message: &Value| message["message_thread_id"].as_i64().map(|id| id.to_string());
        let here = all.filter(|message| thread(message) == room.thread);
        here.map(|message| Shown {
            id: MessageId(message["message_id"].to_string()),
            text: message["text"].as_str().unwrap_or_default().to_owned(),
            source: source(&message),
            reply_to: message["reply_to_message"]["message_id"]
                .as_i64()
                .map(|id| MessageId(id.to_string())),
            files: self.files(&message),
        })
        .collect()
    }

    async fn typing_shown(&self, room: &Room) -> bool {
        !self.calls(&["sendChatAction"], room).is_empty()
    }

    async fn drafts(&self, room: &Room) -> Vec<String> {
        let calls = self.calls(&["sendMessage", "editMessageText"], room).into_iter();
        calls
            .map(|call| call.params["text"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    async fn attempts(&self, room: &Room) -> Vec<Instant> {
        let calls = self.calls(&["sendMessage"], room).into_iter();
        calls
            .map(|call| self.started + Duration::from_millis(call.at_ms))
            .collect()
    }

    fn code_marks(&self) -> (&'static str, &'static str) {
        ("\npre [", "]")
    }

    fn markdown_source(&self) -> String {
        "bold and soft, a < b, here\n\n• one\n• two\n\nlet a = 1 & 2;\nbold [bold]\nitalic [soft]\ncode [a < b]\n\
         text_link https://example.org/x[here]\ncode rust[let a = 1 & 2;]\n\
         pre [let a = 1 & 2;]"
            .to_owned()
    }

    async fn refuse_next(&self, room: &Room, refusal: Refusal) {
        let chat = chat_of(room);
        let fault = match refusal {
            Refusal::RateLimited => Fault::rate_limited(RATE_LIMIT_WAIT.as_secs()),
            Refusal::Unavailable => Fault::gateway(503),
            Refusal::Unauthorized => Fault::api(401, "Unauthorized"),
            // A person who blocks the bot.
            Refusal::Gone => return self.fake.set_chat(chat, ChatState::Blocked),
        };
        self.fake.fail_next_in(chat, "sendMessage", fault);
    }

    async fn refuse_receiver(&self) {
        self.fake.fail_next("getUpdates", 1, Fault::api(401, "Unauthorized"));
        self.fake.cut_polls();
    }

    async fn malformed(&self, room: &Room) {
        for update in [
            json!({"something_new": {"from": 7}}),
            json!({"message": {"message_id": "not a number"}}),
            json!({"message": null}),
            json!({"message": {"message_id": 1, "chat": {"id": chat_of(room)}, "text": ["a list"]}}),
            json!({"callback_query": {}}),
        ] {
            self.fake.push_update(update);
        }
    }

    async fn drop_connections(&self) {
        self.fake.cut_polls();
    }

    async fn receivers_max(&self) -> usize {
        self.fake.polls_max()
    }

    async fn oracle(&self) -> Result<(), Skipped> {
        let python = installed("SLUICEGATE_TELEGRAM_PYTHON", "telegram-venv/bin/python")?;
        let fake = TelegramFake::start().await.expect("a free port");
        let mut command = Command::new(python);
        let script = root().join("components/telegram/conformance/oracle.py");
        command.arg(script).arg(fake.base_url()).arg(fake.token());
        let mut program = Program::spawn(command);
        program.close_input();
        let ended = tokio::time::timeout(PATIENCE * 3, program.outcome()).await;
        let (code, output, errors) = ended.expect("it ends");
        assert_eq!(code, Some(0), "the client disagrees with the fake:\n{output}\n{errors}");
        Ok(())
    }
}
