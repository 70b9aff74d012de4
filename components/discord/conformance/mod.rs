//! Discord's row, against our own strict fake, which discord.py runs against.

mod fake;
mod gateway;

use std::time::Instant;

use async_trait::async_trait;
use fake::{BOT, CHANNEL, Call, DiscordFake, Fault, Order, TOKEN};
use harness::{PATIENCE, Program, Setup, TestGateway};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::cases::Case;
use crate::platform::{File, MessageId, Platform, RATE_LIMIT_WAIT, Refusal, Room, Shown, Skipped, installed};
use crate::table::root;

struct Discord {
    fake: DiscordFake,
}

/// Starts the fake.
pub(crate) async fn start() -> Result<Box<dyn Platform>, Skipped> {
    let fake = DiscordFake::start().await.expect("a free port");
    Ok(Box::new(Discord { fake }))
}

/// Returns the channel of Discord's that a room is.
fn channel(room: &Room) -> &str {
    room.thread.as_deref().unwrap_or(&room.conversation)
}

/// Adds the channel of this name.
fn configured(fake: &DiscordFake, setup: Setup, channel: &str) -> Setup {
    let (rest, gateway) = (fake.origin(), fake.gateway_url());
    setup.env("DISCORD_TOKEN", TOKEN).section(&format!(
        "[channels.{channel}]\ncomponent = \"discord\"\naccess = \"open\"\ngrant = [\"{rest}\", \"{gateway}\"]\n\
         settings = {{ api-base = \"{rest}/api/v10\", gateway-base = \"{gateway}/gw\" }}\n\
         secrets = {{ bot-token = {{ env = \"DISCORD_TOKEN\" }} }}\nlimits = {{ call_timeout_s = 5 }}"
    ))
}

impl Discord {
    /// Lets a person write; in the server the bot is named.
    fn push(&self, room: &Room, mut fields: Value) -> MessageId {
        if room.thread.is_some() {
            let said = fields["content"].as_str().unwrap_or_default().to_owned();
            fields["content"] = json!(format!("<@{}> {said}", BOT.0));
            fields["mentions"] = json!([{"id": BOT.0, "username": BOT.1, "bot": true}]);
        }
        MessageId(self.fake.message(channel(room), fields))
    }

    fn push_of_bot(&self, room: &Room, id: &str, text: &str) {
        let author = json!({"id": id, "username": "a_bot", "bot": true, "discriminator": "0", "avatar": null});
        self.push(room, json!({"content": text, "author": author}));
    }

    /// Returns the calls about a room's messages.
    fn calls(&self, room: &Room, method: &str) -> Vec<Call> {
        let path = format!("/channels/{}/messages", channel(room));
        let calls = self.fake.calls().into_iter();
        calls
            .filter(|call| call.method == method && call.path.starts_with(&path))
            .collect()
    }
}

fn content(call: &Call) -> String {
    call.body["content"].as_str().unwrap_or_default().to_owned()
}

/// Drafts carry a nonce of their own.
fn is_draft(call: &Call) -> bool {
    call.body["nonce"]
        .as_str()
        .is_some_and(|nonce| nonce.ends_with('d') && nonce.len() < 25)
}

#[async_trait]
impl Platform for Discord {
    fn peer(&self) -> String {
        "own fake, which discord.py runs against".to_owned()
    }

    fn configure(&self, setup: Setup, channel: &str) -> Setup {
        configured(&self.fake, setup, channel)
    }

    fn lacks(&self, _case: Case) -> Option<&'static str> {
        None
    }

    async fn gateway_is_up(&self, _gateway: &mut TestGateway) {
        self.fake.connected().await;
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

    async fn say(&self, room: &Room, text: &str) -> MessageId {
        self.push(room, json!({ "content": text }))
    }

    async fn edit(&self, _room: &Room, message: &MessageId, text: &str) {
        self.fake.edit(&message.0, text);
    }

    async fn reply(&self, room: &Room, to: &Shown, text: &str) -> MessageId {
        let reference = json!({"message_id": to.id.0, "channel_id": channel(room), "type": 0});
        self.push(room, json!({"content": text, "message_reference": reference}));
        to.id.clone()
    }

    async fn send_file(&self, room: &Room, file: &File, text: &str) {
        let attachment = self.fake.file(&file.name, &file.media_type, &file.bytes);
        self.push(room, json!({"content": text, "attachments": [attachment]}));
    }

    async fn echo_own(&self, room: &Room, text: &str) {
        self.push_of_bot(room, BOT.0, text);
    }

    async fn repeat(&self, room: &Room) {
        self.fake.repeat(channel(room));
    }

    async fn bot_says(&self, room: &Room, text: &str) {
        self.push_of_bot(room, "999001", text);
    }

    async fn shown(&self, room: &Room) -> Vec<Shown> {
        let posted = self.fake.posted(channel(room)).into_iter();
        let file = |(name, bytes): (String, Vec<u8>)| File {
            name,
            media_type: String::new(),
            bytes,
        };
        posted
            .map(|posted| Shown {
                id: MessageId(posted.id),
                text: posted.content.replace('\\', ""),
                source: posted.content,
                reply_to: posted.answers.map(MessageId),
                files: posted.files.into_iter().map(file).collect(),
            })
            .collect()
    }

    async fn typing_shown(&self, room: &Room) -> bool {
        let path = format!("/channels/{}/typing", channel(room));
        self.fake
            .calls()
            .iter()
            .any(|call| call.path == path && call.status == 204)
    }

    async fn drafts(&self, room: &Room) -> Vec<String> {
        let mut calls = self.calls(room, "POST");
        calls.extend(self.calls(room, "PATCH"));
        calls.sort_by_key(|call| call.at);
        calls.iter().map(content).collect()
    }

    async fn attempts(&self, room: &Room) -> Vec<Instant> {
        let sent = self.calls(room, "POST").into_iter().filter(|call| !is_draft(call));
        sent.map(|call| call.at).collect()
    }

    fn markdown_source(&self) -> String {
        "**bold** and *soft*, `a < b`, [here](https://example.org/x)\n\n- one\n- two\n\n```rust\nlet a = 1 & 2;\n```"
            .to_owned()
    }

    async fn refuse_next(&self, room: &Room, refusal: Refusal) {
        let fault = match refusal {
            Refusal::RateLimited => Fault::TooMany {
                seconds: RATE_LIMIT_WAIT.as_secs_f64(),
                global: false,
            },
            Refusal::Unavailable => Fault::Page(503),
            Refusal::Unauthorized => return self.fake.refuse_token(true),
            Refusal::Gone => return self.fake.close_channel(channel(room)),
        };
        let path = format!("/channels/{}/messages", channel(room));
        self.fake.fail_next("POST", &path, 1, fault);
    }

    async fn refuse_receiver(&self) {
        self.fake.refuse_token(true);
        self.fake.order(Order::Drop);
    }

    async fn forgive(&self) {
        self.fake.refuse_token(false);
    }

    async fn malformed(&self, room: &Room) {
        self.fake.event("SOMETHING_NEW", json!({"from": 7}));
        self.fake.event("MESSAGE_CREATE", Value::Null);
        self.fake
            .event("MESSAGE_CREATE", json!({"id": 7, "channel_id": channel(room)}));
        self.fake.event(
            "MESSAGE_CREATE",
            json!({"id": "7", "channel_id": channel(room), "content": ["a list"]}),
        );
        self.fake
            .event("MESSAGE_UPDATE", json!({"id": "7", "channel_id": channel(room)}));
        self.fake.event("MESSAGE_REACTION_ADD", json!({"emoji": null}));
        self.fake.order(Order::Frame(json!([1, 2])));
        self.fake.order(Order::Frame(json!({"op": 300})));
    }

    async fn drop_connections(&self) {
        self.fake.order(Order::Drop);
    }

    async fn receivers_max(&self) -> usize {
        self.fake.receivers_max()
    }

    async fn oracle(&self) -> Result<(), Skipped> {
        // What the channel did before is no concern of the client's.
        assert_eq!(self.fake.violations(), Vec::<String>::new());
        let python = installed("SLUICEGATE_DISCORD_PYTHON", "discord-venv/bin/python")?;
        let fake = DiscordFake::start().await.expect("a free port");
        let mut command = Command::new(python);
        let script = root().join("components/discord/conformance/oracle.py");
        command.arg(script).arg(fake.origin()).arg(TOKEN);
        let mut program = Program::spawn(command);
        program.close_input();
        let ended = tokio::time::timeout(PATIENCE * 3, program.outcome()).await;
        let (code, output, errors) = ended.expect("it ends");
        assert_eq!(code, Some(0), "the client disagrees with the fake:\n{output}\n{errors}");
        Ok(())
    }
}
