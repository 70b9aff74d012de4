//! Slack's row, against our own strict fake, which `slack_sdk` runs against; and the channel in events mode, and against
//! a third party's emulator of the Web API.

mod ambiguous;
mod emulator;
mod events;
mod fake;

use std::time::Instant;

use async_trait::async_trait;
use fake::{APP_BOT, APP_TOKEN, APP_USER, BOT_TOKEN, CHANNEL, Call, Fault, Post, SIGNING_SECRET, SlackFake};
use harness::{PATIENCE, Program, Setup};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::cases::Case;
use crate::platform::{File, MessageId, Platform, RATE_LIMIT_WAIT, Refusal, Room, Shown, Skipped, installed};
use crate::table::root;

struct Slack {
    fake: SlackFake,
}

/// Starts the fake.
pub(crate) async fn start() -> Result<Box<dyn Platform>, Skipped> {
    let fake = SlackFake::start().await.expect("a free port");
    Ok(Box::new(Slack { fake }))
}

/// Adds the channel of this name in Socket Mode.
fn configured(fake: &SlackFake, setup: Setup, channel: &str) -> Setup {
    configured_at(&fake.origin(), fake, setup, channel)
}

/// As [`configured`], with the Web API at another address.
fn configured_at(web: &str, fake: &SlackFake, setup: Setup, channel: &str) -> Setup {
    let socket = fake.socket_url();
    setup
        .env("SLACK_BOT_TOKEN", BOT_TOKEN)
        .env("SLACK_APP_TOKEN", APP_TOKEN)
        .section(&format!(
            "[channels.{channel}]\ncomponent = \"slack\"\naccess = \"open\"\ngrant = [\"{web}\", \"{socket}\"]\n\
             settings = {{ api-base = \"{web}/api\", socket-base = \"{socket}\" }}\nlimits = {{ call_timeout_s = 5 }}\n\
             secrets = {{ bot-token = {{ env = \"SLACK_BOT_TOKEN\" }}, app-token = {{ env = \"SLACK_APP_TOKEN\" }} }}"
        ))
}

impl Slack {
    /// Lets a person write; in a channel the app is named.
    fn push(&self, room: &Room, mut fields: Value) -> MessageId {
        if let Some(thread) = &room.thread {
            let said = fields["text"].as_str().unwrap_or_default().to_owned();
            fields["text"] = json!(format!("<@{APP_USER}> {said}"));
            fields["thread_ts"] = json!(thread);
        }
        if let Some(text) = fields["text"].as_str() {
            // Slack escapes what people write.
            let escaped = text.replace('&', "&amp;").replace("<fine>", "&lt;fine&gt;");
            fields["text"] = json!(escaped);
        }
        let ts = self.fake.message(&room.conversation, &fields);
        MessageId(format!("{}/{ts}", room.conversation))
    }

    /// Returns the calls of a method about a room.
    fn calls(&self, room: &Room, method: &str) -> Vec<Call> {
        let calls = self.fake.calls().into_iter();
        calls
            .filter(|call| call.method == method && call.params["channel"] == room.conversation.as_str())
            .collect()
    }
}

/// Takes the marks off, as people see a text.
fn plain(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// Returns whether a message stands in a room: a direct conversation shows its threads as well.
fn is_in(post: &Post, room: &Room) -> bool {
    room.conversation.starts_with('D') || post.thread == room.thread
}

#[async_trait]
impl Platform for Slack {
    fn peer(&self) -> String {
        "own fake, which slack_sdk runs against; emulate 0.12.2".to_owned()
    }

    fn configure(&self, setup: Setup, channel: &str) -> Setup {
        configured(&self.fake, setup, channel)
    }

    fn lacks(&self, _case: Case) -> Option<&'static str> {
        None
    }

    async fn room(&self) -> Room {
        Room {
            conversation: self.fake.add_direct(),
            thread: None,
        }
    }

    async fn thread(&self) -> Room {
        Room {
            conversation: CHANNEL.to_owned(),
            thread: Some(self.fake.add_thread()),
        }
    }

    /// Apps have a status in the threads of their assistant, and no other sign of typing.
    async fn room_with_typing(&self) -> Room {
        Room {
            conversation: self.fake.add_direct(),
            thread: Some(self.fake.add_thread()),
        }
    }

    async fn say(&self, room: &Room, text: &str) -> MessageId {
        self.push(room, json!({ "text": text }))
    }

    async fn edit(&self, room: &Room, message: &MessageId, text: &str) {
        let ts = message.0.rsplit('/').next().unwrap_or_default();
        self.fake.edit(&room.conversation, ts, text);
    }

    async fn reply(&self, room: &Room, to: &Shown, text: &str) -> MessageId {
        // On Slack an answer to a message is a thread below it.
        self.push(
            room,
            json!({"text": text, "thread_ts": to.id.0, "parent_user_id": APP_USER}),
        );
        to.id.clone()
    }

    async fn send_file(&self, room: &Room, file: &File, text: &str) {
        let shown = self.fake.file(&file.name, &file.media_type, &file.bytes);
        self.push(room, json!({"text": text, "subtype": "file_share", "files": [shown]}));
    }

    async fn echo_own(&self, room: &Room, text: &str) {
        self.push(room, json!({"text": text, "user": APP_USER, "bot_id": APP_BOT}));
    }

    async fn repeat(&self, room: &Room) {
        self.fake.repeat(&room.conversation);
    }

    async fn bot_says(&self, room: &Room, text: &str) {
        self.push(room, json!({"text": text, "user": "U999", "bot_id": "B999"}));
    }

    async fn shown(&self, room: &Room) -> Vec<Shown> {
        let posts = self.fake.posts(&room.conversation).into_iter();
        let file = |shared: fake::SharedFile| File {
            name: shared.name,
            media_type: String::new(),
            bytes: shared.bytes,
        };
        posts
            .filter(|post| is_in(post, room))
            .map(|post| Shown {
                id: MessageId(post.ts),
                text: plain(&post.text),
                source: post.text,
                reply_to: None,
                files: post.files.into_iter().map(file).collect(),
            })
            .collect()
    }

    async fn typing_shown(&self, room: &Room) -> bool {
        self.fake.calls().iter().any(|call| {
            call.method == "assistant.threads.setStatus"
                && call.params["channel_id"] == room.conversation.as_str()
                && call.params["thread_ts"].as_str() == room.thread.as_deref()
                && call.params["status"].as_str().is_some_and(|status| !status.is_empty())
        })
    }

    async fn drafts(&self, room: &Room) -> Vec<String> {
        let mut calls = self.calls(room, "chat.postMessage");
        calls.extend(self.calls(room, "chat.update"));
        calls.sort_by_key(|call| call.at);
        let text = |call: &Call| call.params["text"].as_str().unwrap_or_default().to_owned();
        calls.iter().map(text).collect()
    }

    async fn attempts(&self, room: &Room) -> Vec<Instant> {
        self.calls(room, "chat.postMessage")
            .iter()
            .map(|call| call.at)
            .collect()
    }

    fn markdown_source(&self) -> String {
        "*bold* and _soft_, `a &lt; b`, <https://example.org/x|here>\n\n• one\n• two\n\n```\nlet a = 1 &amp; 2;\n```"
            .to_owned()
    }

    async fn refuse_next(&self, room: &Room, refusal: Refusal) {
        let fault = match refusal {
            Refusal::RateLimited => Fault::TooMany(RATE_LIMIT_WAIT.as_secs()),
            Refusal::Unavailable => Fault::Page(503),
            Refusal::Unauthorized => return self.fake.refuse_tokens(true),
            Refusal::Gone => return self.fake.close_channel(&room.conversation),
        };
        self.fake.fail_next("chat.postMessage", &room.conversation, fault);
    }

    async fn refuse_receiver(&self) {
        self.fake.refuse_tokens(true);
        self.fake.drop_connections();
    }

    async fn forgive(&self) {
        self.fake.refuse_tokens(false);
    }

    async fn malformed(&self, room: &Room) {
        for event in [
            json!(null),
            json!({"type": "something_new", "user": 7}),
            json!({"type": "message", "channel": room.conversation, "ts": 1.2, "text": "a number"}),
            json!({"type": "message", "channel": room.conversation, "user": "U55", "ts": "1.2", "text": ["a list"]}),
            json!({"type": "message", "subtype": "message_changed", "channel": room.conversation}),
            json!({"type": "reaction_added"}),
        ] {
            self.fake.event(&event);
        }
        for frame in [
            json!([1]),
            json!({"type": "events_api"}),
            json!({"type": "slash_commands", "envelope_id": "e-1"}),
        ] {
            self.fake.frame(&frame);
        }
    }

    async fn drop_connections(&self) {
        self.fake.drop_connections();
    }

    async fn receivers_max(&self) -> usize {
        self.fake.receivers_max()
    }

    async fn oracle(&self) -> Result<(), Skipped> {
        let python = installed("SLUICEGATE_SLACK_PYTHON", "slack-venv/bin/python")?;
        // What the channel did before is no concern of the client's.
        assert_eq!(self.fake.violations(), Vec::<String>::new());
        let fake = SlackFake::start().await.expect("a free port");
        let mut command = Command::new(python);
        let script = root().join("components/slack/conformance/oracle.py");
        command
            .arg(script)
            .args([&fake.origin(), BOT_TOKEN, APP_TOKEN, SIGNING_SECRET]);
        let mut program = Program::spawn(command);
        program.close_input();
        let ended = tokio::time::timeout(PATIENCE * 3, program.outcome()).await;
        let (code, output, errors) = ended.expect("it ends");
        assert_eq!(code, Some(0), "the client disagrees with the fake:\n{output}\n{errors}");
        Ok(())
    }
}
