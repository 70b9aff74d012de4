//! The generic webhook's row: a caller that posts again until it is told that its message is durable, and a URL that takes
//! the answers.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use harness::{Act, Delivery, FakePlatform, Setup, TestGateway, http};
use serde_json::{Value, json};

use crate::cases::{CHANNEL, Case, MARKDOWN};
use crate::platform::{MessageId, Platform, RATE_LIMIT_WAIT, Refusal, Room, Shown, Skipped};

struct Caller {
    platform: FakePlatform,
    next: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    gateway: Option<SocketAddr>,
    /// Posts that no 200 has answered yet, oldest first.
    unanswered: Vec<Value>,
    /// All posts, oldest first.
    posted: Vec<Value>,
}

/// Starts what takes the answers.
pub(crate) async fn start() -> Result<Box<dyn Platform>, Skipped> {
    Ok(Box::new(Caller {
        platform: FakePlatform::start().await,
        next: AtomicUsize::new(1),
        state: Mutex::default(),
    }))
}

impl Caller {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Posts whatever has no answer yet, in order, until the gateway takes no more.
    async fn post_all(&self) {
        loop {
            let (gateway, first) = {
                let state = self.state();
                (state.gateway, state.unanswered.first().cloned())
            };
            let (Some(gateway), Some(body)) = (gateway, first) else {
                return;
            };
            match post(gateway, body.to_string().as_bytes()).await {
                Some(200) => self.state().unanswered.retain(|waiting| *waiting != body),
                Some(status) => panic!("the gateway answers {status} to {body}"),
                // It is down: the next one that comes up gets it.
                None => return,
            }
        }
    }

    fn deliveries(&self, room: &Room) -> Vec<Delivery> {
        let of_room = |one: &Delivery| one.body["thread"].as_str() == room.thread.as_deref();
        let all = self.platform.arrived().all().into_iter();
        all.filter(|one| one.conversation == room.conversation && of_room(one))
            .collect()
    }
}

/// Posts a body, and returns the status of the answer; none where there is none.
async fn post(gateway: SocketAddr, body: &[u8]) -> Option<u16> {
    let path = format!("/hooks/{CHANNEL}");
    let headers = [("content-type", "application/json")];
    let answer = http::request(gateway, "POST", &path, &headers, body).await;
    answer.ok().map(|answer| answer.status)
}

#[async_trait]
impl Platform for Caller {
    fn peer(&self) -> String {
        "own caller and receiver".to_owned()
    }

    fn configure(&self, setup: Setup, channel: &str) -> Setup {
        setup.webhook(channel, &self.platform)
    }

    fn lacks(&self, case: Case) -> Option<&'static str> {
        match case {
            Case::Edit | Case::Reply | Case::FileIn | Case::OtherBot => {
                Some("a call carries a new text and who wrote it, nothing else")
            }
            Case::OwnEcho => Some("nothing that is sent to the URL comes back"),
            Case::FileOut => Some("answers are text"),
            Case::Long => Some("one call takes the longest answer"),
            Case::Typing | Case::Draft => Some("the URL gets whole answers"),
            Case::ReceiverRefused | Case::Reconnect | Case::OneReceiver => {
                Some("it is called, and holds no connection")
            }
            Case::Oracle => Some("the format is the gateway's own"),
            _ => None,
        }
    }

    async fn gateway_is_up(&self, gateway: &mut TestGateway) {
        {
            let mut state = self.state();
            state.gateway = Some(gateway.address());
            // A caller that can't know which answers the gateway's death kept from it posts everything again.
            state.unanswered = state.posted.clone();
        }
        self.post_all().await;
    }

    async fn room(&self) -> Room {
        Room {
            conversation: self.next("c"),
            thread: None,
        }
    }

    async fn thread(&self) -> Room {
        Room {
            conversation: "threads".to_owned(),
            thread: Some(self.next("t")),
        }
    }

    async fn say(&self, room: &Room, text: &str) -> MessageId {
        let id = self.next("m");
        let mut body = json!({"id": id, "conversation": room.conversation, "sender": "ada", "text": text});
        if let Some(thread) = &room.thread {
            body["thread"] = json!(thread);
        }
        {
            let mut state = self.state();
            state.unanswered.push(body.clone());
            state.posted.push(body);
        }
        self.post_all().await;
        MessageId(id)
    }

    async fn repeat(&self, room: &Room) {
        {
            let mut state = self.state();
            let of_room = |body: &&Value| body["conversation"] == room.conversation.as_str();
            let last = state.posted.iter().rev().find(of_room).cloned();
            state.unanswered.push(last.expect("something was said"));
        }
        self.post_all().await;
    }

    async fn shown(&self, room: &Room) -> Vec<Shown> {
        let taken = self.deliveries(room).into_iter().filter(|one| one.accepted);
        taken
            .map(|one| Shown {
                id: MessageId(one.key),
                source: one.text.clone(),
                text: one.text,
                reply_to: one.body["in_reply_to"].as_str().map(|id| MessageId(id.to_owned())),
                files: Vec::new(),
            })
            .collect()
    }

    async fn attempts(&self, room: &Room) -> Vec<Instant> {
        self.deliveries(room).iter().map(|one| one.at).collect()
    }

    fn markdown_source(&self) -> String {
        MARKDOWN.to_owned()
    }

    async fn refuse_next(&self, room: &Room, refusal: Refusal) {
        let act = match refusal {
            Refusal::RateLimited => Act::RefuseFor(RATE_LIMIT_WAIT.as_secs()),
            Refusal::Unavailable => Act::Refuse(503),
            Refusal::Unauthorized => Act::Refuse(401),
            Refusal::Gone => Act::Refuse(410),
        };
        self.platform.next(&room.conversation, [act]);
    }

    async fn malformed(&self, room: &Room) {
        let gateway = self.state().gateway.expect("the gateway is up");
        let half = format!(r#"{{"id":"m0","conversation":"{}","sender":"ada""#, room.conversation);
        for body in [
            b"".as_slice(),
            b"\xff\xfe",
            b"[]",
            b"{}",
            br#"{"id":7}"#,
            half.as_bytes(),
        ] {
            assert_eq!(
                post(gateway, body).await,
                Some(400),
                "{}",
                String::from_utf8_lossy(body)
            );
        }
    }
}
