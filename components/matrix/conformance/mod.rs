//! The proof of the channel `matrix`: a real Synapse, and people on it who use matrix-nio.

mod absent;
mod gate;
mod people;
mod synapse;

use std::collections::BTreeSet;
use std::time::Instant;

use async_trait::async_trait;
use harness::{Setup, TestGateway};
use serde_json::{Value, json};

use crate::cases::Case;
use crate::platform::{File, MessageId, Platform, Refusal, Room, Shown, Skipped, installed};
use gate::{Accounts, Gate, Order, escaped};
use people::{People, Seen};
use synapse::{SHARED_SECRET, Synapse, call};

/// The person who talks with the bot.
const PERSON: &str = "ada";
/// Another bot.
const OTHER_BOT: &str = "marvin";

/// Starts the row.
pub(crate) async fn start() -> Result<Box<dyn Platform>, Skipped> {
    Ok(Box::new(Matrix::start().await?))
}

struct Matrix {
    people: People,
    gate: Gate,
    accounts: Accounts,
    synapse: Synapse,
}

#[async_trait]
impl Platform for Matrix {
    fn peer(&self) -> String {
        "Synapse 1.163.2, with people through matrix-nio 0.26".to_owned()
    }

    fn configure(&self, setup: Setup, channel: &str) -> Setup {
        let base = self.gate.base_url();
        setup.env("MATRIX_TOKEN", &self.accounts.bot_token).section(&format!(
            "[channels.{channel}]\ncomponent = \"matrix\"\naccess = \"open\"\ngrant = [\"{base}\"]\n\
             settings = {{ homeserver = \"{base}\", sync-seconds = 5 }}\n\
             secrets = {{ access-token = {{ env = \"MATRIX_TOKEN\" }} }}"
        ))
    }

    fn lacks(&self, case: Case) -> Option<&'static str> {
        match case {
            Case::Oracle => Some("it is no fake"),
            _ => None,
        }
    }

    /// Synapse limits the account's rate, so also what another case sends meanwhile, and a draft is not sent again.
    fn cases_at_once(&self) -> usize {
        1
    }

    async fn gateway_is_up(&self, _gateway: &mut TestGateway) {
        self.gate.wait_for_listening().await;
    }

    async fn room(&self) -> Room {
        let bot = &self.accounts.bot;
        let made = self
            .people
            .ask(json!({"do": "room", "who": PERSON, "invite": [bot]}))
            .await;
        let room = text(&made["room"]);
        self.wait_for_member(&room, bot).await;
        Room {
            conversation: room,
            thread: None,
        }
    }

    async fn thread(&self) -> Room {
        let room = self.room().await;
        // A notice is not for bots, so nothing answers it.
        let root = json!({"msgtype": "m.notice", "body": "what we talk about below"});
        let root = self.send(PERSON, &room.conversation, root).await;
        Room {
            thread: Some(root.0),
            ..room
        }
    }

    async fn say(&self, room: &Room, words: &str) -> MessageId {
        let mut content = json!({"msgtype": "m.text", "body": words});
        if let Some(root) = &room.thread {
            content["m.relates_to"] = json!({
                "rel_type": "m.thread", "event_id": root, "is_falling_back": true, "m.in_reply_to": {"event_id": root},
            });
        }
        self.send(PERSON, &room.conversation, content).await
    }

    async fn edit(&self, room: &Room, message: &MessageId, words: &str) {
        let content = json!({
            "msgtype": "m.text", "body": format!("* {words}"), "m.new_content": {"msgtype": "m.text", "body": words},
            "m.relates_to": {"rel_type": "m.replace", "event_id": message.0},
        });
        self.send(PERSON, &room.conversation, content).await;
    }

    async fn reply(&self, room: &Room, to: &Shown, words: &str) -> MessageId {
        let relation = json!({"m.in_reply_to": {"event_id": to.id.0}});
        let content = json!({"msgtype": "m.text", "body": words, "m.relates_to": relation});
        self.send(PERSON, &room.conversation, content).await;
        to.id.clone()
    }

    async fn send_file(&self, room: &Room, file: &File, words: &str) {
        let hex: String = file.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let upload = json!({
            "do": "upload", "who": PERSON, "name": file.name, "media_type": file.media_type, "hex": hex,
        });
        let uploaded = self.people.ask(upload).await;
        let content = json!({
            "msgtype": "m.file", "body": words, "filename": file.name, "url": uploaded["url"],
            "info": {"mimetype": file.media_type, "size": file.bytes.len()},
        });
        self.send(PERSON, &room.conversation, content).await;
    }

    async fn echo_own(&self, room: &Room, words: &str) {
        let path = format!(
            "/_matrix/client/v3/rooms/{}/send/m.room.message",
            escaped(&room.conversation)
        );
        // Without the mark that its own messages have: the account alone must be enough.
        let content = json!({"msgtype": "m.text", "body": words});
        call(
            self.synapse.address(),
            "POST",
            &path,
            &self.accounts.bot_token,
            &content,
        )
        .await;
    }

    async fn repeat(&self, room: &Room) {
        let of_person = |(of, event): &&(String, Value)| {
            *of == room.conversation
                && event["type"] == "m.room.message"
                && event["sender"] != self.accounts.bot.as_str()
        };
        let what = "the person's client has what was said";
        let last = |seen: &Seen| seen.events.iter().rev().find(of_person).map(|(_, event)| event.clone());
        let said = self.people.wait_for(what, last).await;
        self.gate.inject(&room.conversation, vec![said]);
    }

    async fn bot_says(&self, room: &Room, words: &str) {
        let user = format!("@{OTHER_BOT}:localhost");
        let invitation = json!({"do": "invite", "who": PERSON, "room": room.conversation, "user": user});
        self.people.ask(invitation).await;
        let joining = json!({"do": "join", "who": OTHER_BOT, "room": room.conversation});
        self.people.ask(joining).await;
        let notice = json!({
            "msgtype": "m.notice", "body": words, "m.mentions": {"user_ids": [self.accounts.bot]},
        });
        self.send(OTHER_BOT, &room.conversation, notice).await;
        // So that what the person says next is for the bot without a mention.
        let kick = json!({"do": "kick", "who": PERSON, "room": room.conversation, "user": user});
        self.people.ask(kick).await;
    }

    async fn shown(&self, room: &Room) -> Vec<Shown> {
        let mut shown = self.shown_texts(room);
        for message in &mut shown {
            for file in &mut message.files {
                // The address stands in the place of the contents until they are fetched.
                let url = String::from_utf8_lossy(&file.bytes).into_owned();
                let fetched = self
                    .people
                    .ask(json!({"do": "download", "who": PERSON, "url": url}))
                    .await;
                file.bytes = from_hex(&text(&fetched["hex"]));
                file.media_type = text(&fetched["media_type"]);
            }
        }
        shown
    }

    async fn typing_shown(&self, room: &Room) -> bool {
        let wanted = (room.conversation.clone(), self.accounts.bot.clone());
        self.people.seen().typing.contains(&wanted)
    }

    async fn drafts(&self, room: &Room) -> Vec<String> {
        let events = self.events_of_bot(room);
        events
            .iter()
            .map(|event| text(&newest_content(event)["body"]))
            .collect()
    }

    async fn attempts(&self, room: &Room) -> Vec<Instant> {
        self.gate.attempts(&room.conversation)
    }

    fn code_marks(&self) -> (&'static str, &'static str) {
        ("<pre>", "</pre>")
    }

    fn markdown_source(&self) -> String {
        "<p><strong>bold</strong> and <em>soft</em>, <code>a &lt; b</code>, <a href=\"https://example.org/x\">here</a></p>\n\
         <ul>\n<li>one</li>\n<li>two</li>\n</ul>\n\
         <pre><code class=\"language-rust\">let a = 1 &amp; 2;\n</code></pre>"
            .to_owned()
    }

    fn long_words(&self) -> usize {
        // A part takes 20 KiB, and the code must not fit into the last one.
        6000
    }

    async fn refuse_next(&self, room: &Room, refusal: Refusal) {
        match refusal {
            Refusal::RateLimited => self.gate.order(&room.conversation, Order::Limit),
            Refusal::Unavailable => self.gate.order(&room.conversation, Order::Unavailable),
            Refusal::Unauthorized => self.gate.order(&room.conversation, Order::Lock),
            Refusal::Gone => {
                // The bot still hears, and may no longer speak.
                let path = format!(
                    "/_matrix/client/v3/rooms/{}/state/m.room.power_levels",
                    escaped(&room.conversation)
                );
                let ask = |method: &str, body: Value| {
                    self.people
                        .ask(json!({"do": "call", "who": PERSON, "method": method, "path": path, "body": body}))
                };
                let mut levels = ask("GET", Value::Null).await;
                levels["events_default"] = json!(50);
                ask("PUT", levels).await;
            }
        }
    }

    async fn refuse_receiver(&self) {
        self.set_locked(true).await;
        self.gate.drop_connections().await;
    }

    async fn forgive(&self) {
        self.set_locked(false).await;
    }

    async fn malformed(&self, room: &Room) {
        // What Synapse takes from anyone in a room …
        let said = [
            json!({"msgtype": "", "body": ""}),
            json!({"msgtype": "m.text", "body": "", "m.relates_to": "x", "formatted_body": 7}),
            json!({"msgtype": "m.notice", "body": "x", "m.relates_to": {"rel_type": "m.replace", "event_id": 7}}),
            json!({"msgtype": "m.image", "body": "", "url": {"a": []}, "info": "x"}),
            json!({"msgtype": "m.file", "body": "", "url": "mxc:///"}),
        ];
        for content in said {
            let path = format!(
                "/_matrix/client/v3/rooms/{}/send/m.room.message",
                escaped(&room.conversation)
            );
            let send = json!({"do": "call", "who": PERSON, "method": "POST", "path": path, "body": content});
            self.people.ask(send).await;
        }
        // … and what no server ever sent.
        let broken = [
            json!(null),
            json!([1, 2]),
            json!({"event_id": 7, "type": "m.room.message", "sender": "@a:b"}),
            json!({"type": "m.room.message"}),
            json!({"event_id": "$x", "type": "m.room.message", "sender": "@a:b", "content": [[]]}),
            json!({"event_id": "$y", "type": "m.reaction", "sender": "@a:b", "content": {"m.relates_to": 1}}),
        ];
        self.gate.inject(&room.conversation, broken.to_vec());
    }

    async fn drop_connections(&self) {
        self.gate.drop_connections().await;
    }

    async fn receivers_max(&self) -> usize {
        self.gate.receivers_max()
    }
}

impl Matrix {
    /// Starts a homeserver with the bot's account and people.
    async fn start() -> Result<Self, Skipped> {
        let python = installed("SLUICEGATE_MATRIX_PYTHON", "matrix-venv/bin/python")?;
        let synapse = Synapse::start(&python).await;
        let people = People::start(&python, &format!("http://{}", synapse.address()), SHARED_SECRET);
        let admin = people
            .ask(json!({"do": "register", "name": "root", "admin": true}))
            .await;
        let bot = people.ask(json!({"do": "register", "name": "bot"})).await;
        let other = people.ask(json!({"do": "person", "name": OTHER_BOT})).await;
        let person = people.ask(json!({"do": "person", "name": PERSON})).await;
        let (admin_token, bot_token) = (text(&admin["token"]), text(&bot["token"]));
        for account in [&bot, &other, &person] {
            let user = escaped(&text(&account["user"]));
            let path = format!("/_synapse/admin/v1/users/{user}/override_ratelimit");
            let unlimited = json!({"messages_per_second": 0, "burst_count": 0});
            call(synapse.address(), "POST", &path, &admin_token, &unlimited).await;
        }
        let made = call(
            synapse.address(),
            "POST",
            "/_matrix/client/v3/createRoom",
            &bot_token,
            &json!({}),
        )
        .await;
        let accounts = Accounts {
            bot: text(&bot["user"]),
            bot_token,
            admin_token,
            bots_room: text(&made["room_id"]),
        };
        Ok(Self {
            gate: Gate::start(synapse.address(), accounts.clone()).await,
            people,
            accounts,
            synapse,
        })
    }

    /// Locks the bot's account, or unlocks it.
    async fn set_locked(&self, locked: bool) {
        let path = format!("/_synapse/admin/v2/users/{}", escaped(&self.accounts.bot));
        let token = &self.accounts.admin_token;
        call(
            self.synapse.address(),
            "PUT",
            &path,
            token,
            &json!({ "locked": locked }),
        )
        .await;
    }

    async fn send(&self, who: &str, room: &str, content: Value) -> MessageId {
        let sent = self
            .people
            .ask(json!({"do": "send", "who": who, "room": room, "content": content}))
            .await;
        MessageId(text(&sent["event"]))
    }

    async fn wait_for_member(&self, room: &str, user: &str) {
        let joined = |(of, event): &(String, Value)| {
            of == room && event["state_key"] == user && event["content"]["membership"] == "join"
        };
        let what = format!("{user} is in {room}");
        let look = |seen: &Seen| seen.events.iter().any(joined).then_some(());
        self.people.wait_for(&what, look).await;
    }

    /// Returns what the bot sent to a room, oldest first, edits as events of their own.
    fn events_of_bot(&self, room: &Room) -> Vec<Value> {
        let seen = self.people.seen();
        let bot = self.accounts.bot.as_str();
        let bad: Vec<&Value> = seen.bad.iter().filter(|event| event["sender"] == bot).collect();
        assert!(bad.is_empty(), "matrix-nio does not understand these: {bad:#?}");
        let of_bot = seen.events.iter().filter(|(of, event)| {
            *of == room.conversation
                && event["sender"] == self.accounts.bot.as_str()
                && event["type"] == "m.room.message"
        });
        // Not what `echo_own` put into its mouth.
        let own = of_bot.filter(|(_, event)| event["content"]["sluicegate.automated"] == true);
        own.map(|(_, event)| event.clone()).collect()
    }

    /// Returns the bot's messages as they stand, with the addresses of files in the place of their contents.
    fn shown_texts(&self, room: &Room) -> Vec<Shown> {
        let events = self.events_of_bot(room);
        let removed: BTreeSet<String> = {
            let seen = self.people.seen();
            let redactions = seen
                .events
                .iter()
                .filter(|(_, event)| event["type"] == "m.room.redaction");
            redactions
                .map(|(_, event)| text(event["content"].get("redacts").unwrap_or(&event["redacts"])))
                .collect()
        };
        let mut shown: Vec<Shown> = Vec::new();
        for event in &events {
            let relation = &event["content"]["m.relates_to"];
            let (content, id) = (newest_content(event), text(&event["event_id"]));
            if relation["rel_type"] == "m.replace" {
                let edited = shown
                    .iter_mut()
                    .find(|message| relation["event_id"] == message.id.0.as_str());
                if let Some(edited) = edited {
                    (edited.text, edited.source) = words(content);
                }
                continue;
            }
            let thread = (relation["rel_type"] == "m.thread").then(|| text(&relation["event_id"]));
            if thread != room.thread || removed.contains(&id) {
                continue;
            }
            let is_answer = relation["is_falling_back"] != true;
            let answered = relation["m.in_reply_to"]["event_id"].as_str().filter(|_| is_answer);
            let (text, source) = words(content);
            shown.push(Shown {
                id: MessageId(id),
                text,
                source,
                reply_to: answered.map(|id| MessageId(id.to_owned())),
                files: file(content).into_iter().collect(),
            });
        }
        shown
    }
}

/// Returns what an event says, or what an edit says in the place of what was there.
fn newest_content(event: &Value) -> &Value {
    let content = &event["content"];
    content.get("m.new_content").unwrap_or(content)
}

/// Returns a content's text, and its HTML where it has some.
fn words(content: &Value) -> (String, String) {
    let body = text(&content["body"]);
    let html = content["formatted_body"].as_str().map(str::to_owned);
    let source = html.unwrap_or_else(|| body.clone());
    (body, source)
}

fn file(content: &Value) -> Option<File> {
    Some(File {
        name: text(&content["filename"]),
        media_type: String::new(),
        bytes: content["url"].as_str()?.as_bytes().to_vec(),
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn from_hex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("two hexadecimal digits");
    (0..text.len()).step_by(2).map(byte).collect()
}
