//! The WebSocket's row: a client for each room, which attaches again after each loss of its connection and sends again
//! what was not accepted.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::{SinkExt as _, StreamExt as _};
use harness::{Record, Setup, TestGateway};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

use crate::cases::{CHANNEL, Case, MARKDOWN};
use crate::platform::{MessageId, Platform, Room, Shown, Skipped};

/// Frames that may wait to be sent; a case sends a few.
const WAITING_MAX: usize = 64;

#[derive(Default)]
struct Clients {
    next: AtomicUsize,
    gateway: Mutex<Option<SocketAddr>>,
    clients: Mutex<HashMap<Room, Client>>,
}

/// The client of one room.
struct Client {
    received: Arc<Record<Value>>,
    /// What was sent, oldest first.
    sent: Vec<Value>,
    frames_tx: mpsc::Sender<Message>,
    connection: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Starts nothing: clients come with the rooms.
pub(crate) async fn start() -> Result<Box<dyn Platform>, Skipped> {
    Ok(Box::new(Clients::default()))
}

/// Connects, attaches to the room, and carries frames both ways until the connection ends. A gateway that is down ends it
/// at once.
async fn converse(
    url: String,
    first: Vec<Value>,
    mut frames_rx: mpsc::Receiver<Message>,
    received: Arc<Record<Value>>,
) {
    let Ok((mut stream, _)) = tokio_tungstenite::connect_async(url).await else {
        return;
    };
    for frame in first {
        if stream.send(Message::text(frame.to_string())).await.is_err() {
            return;
        }
    }
    loop {
        tokio::select! {
            frame = frames_rx.recv() => {
                let Some(frame) = frame else { return };
                if stream.send(frame).await.is_err() {
                    return;
                }
            }
            message = stream.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let frame = serde_json::from_str(&text).unwrap_or_else(|_| panic!("a frame is JSON, not {text}"));
                    received.push(frame);
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
        }
    }
}

impl Clients {
    fn clients(&self) -> MutexGuard<'_, HashMap<Room, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Connects the client of a room where it is not connected; what was not accepted goes out again.
    fn ensure(&self, room: &Room) {
        let mut clients = self.clients();
        if clients.get(room).is_some_and(|client| !client.connection.is_finished()) {
            return;
        }
        let (received, sent) = match clients.remove(room) {
            Some(mut old) => (Arc::clone(&old.received), std::mem::take(&mut old.sent)),
            None => (Arc::default(), Vec::new()),
        };
        let gateway = *self.gateway.lock().unwrap_or_else(PoisonError::into_inner);
        let url = format!("ws://{}/ws/{CHANNEL}", gateway.expect("the gateway was up"));
        let accepted = received.all();
        let is_accepted = |id: &Value| {
            accepted
                .iter()
                .any(|frame| frame["type"] == "accepted" && frame["id"] == *id)
        };
        let mut first = vec![json!({"type": "attach", "conversation": room.conversation})];
        first.extend(sent.iter().filter(|frame| !is_accepted(&frame["id"])).cloned());
        let (frames_tx, frames_rx) = mpsc::channel(WAITING_MAX);
        let connection = tokio::spawn(converse(url, first, frames_rx, Arc::clone(&received)));
        let client = Client {
            received,
            sent,
            frames_tx,
            connection,
        };
        clients.insert(room.clone(), client);
    }

    /// Sends a frame; where the connection ends before, the next one takes it.
    async fn send(&self, room: &Room, frame: Value) {
        let frames_tx = {
            let mut clients = self.clients();
            let client = clients.get_mut(room).expect("the room has a client");
            client.sent.push(frame.clone());
            client.frames_tx.clone()
        };
        // A connection that has ended sends it when it is there again.
        let _ = frames_tx.send(Message::text(frame.to_string())).await;
    }

    /// Returns the frames of a type that a room's client received.
    fn received(&self, room: &Room, kind: &str) -> Vec<Value> {
        self.ensure(room);
        let all = self
            .clients()
            .get(room)
            .map(|client| client.received.all())
            .unwrap_or_default();
        let of_room = all.into_iter().filter(|frame| frame["type"] == kind);
        of_room
            .filter(|frame| frame["thread"].as_str() == room.thread.as_deref())
            .collect()
    }

    fn new_room(&self, conversation: String, thread: Option<String>) -> Room {
        let room = Room { conversation, thread };
        self.ensure(&room);
        room
    }
}

#[async_trait]
impl Platform for Clients {
    fn peer(&self) -> String {
        "own client".to_owned()
    }

    fn configure(&self, setup: Setup, channel: &str) -> Setup {
        setup.section(&format!(
            "[channels.{channel}]\ncomponent = \"websocket\"\naccess = \"open\""
        ))
    }

    fn lacks(&self, case: Case) -> Option<&'static str> {
        match case {
            Case::Edit | Case::Reply | Case::FileIn | Case::OtherBot => {
                Some("a frame carries a new text, nothing else")
            }
            Case::OwnEcho => Some("clients get replies, and send none back"),
            Case::FileOut => Some("answers are text"),
            Case::Long => Some("one frame takes the longest answer"),
            Case::RateLimited | Case::Unavailable | Case::Gone => {
                Some("a client does not refuse; one that is away is waited for")
            }
            Case::Unauthorized | Case::ReceiverRefused => Some("it has no credentials"),
            Case::OneReceiver => Some("clients connect to it"),
            Case::Oracle => Some("the frames are the gateway's own"),
            _ => None,
        }
    }

    async fn gateway_is_up(&self, gateway: &mut TestGateway) {
        *self.gateway.lock().unwrap_or_else(PoisonError::into_inner) = Some(gateway.address());
    }

    async fn room(&self) -> Room {
        self.new_room(self.next("c"), None)
    }

    async fn thread(&self) -> Room {
        self.new_room("threads".to_owned(), Some(self.next("t")))
    }

    async fn say(&self, room: &Room, text: &str) -> MessageId {
        let id = self.next("m");
        let mut frame = json!({"type": "message", "id": id, "conversation": room.conversation, "text": text});
        if let Some(thread) = &room.thread {
            frame["thread"] = json!(thread);
        }
        self.send(room, frame).await;
        MessageId(id)
    }

    async fn repeat(&self, room: &Room) {
        let last = self.clients().get(room).and_then(|client| client.sent.last().cloned());
        self.send(room, last.expect("something was said")).await;
    }

    async fn shown(&self, room: &Room) -> Vec<Shown> {
        let mut shown: Vec<Shown> = Vec::new();
        for reply in self.received(room, "reply") {
            let text = |key: &str| reply[key].as_str().unwrap_or_default().to_owned();
            let id = MessageId(text("delivery_key"));
            // A copy has the same key: clients drop it.
            if shown.iter().all(|known| known.id != id) {
                shown.push(Shown {
                    id,
                    text: text("text"),
                    source: text("text"),
                    reply_to: Some(MessageId(text("in_reply_to"))),
                    files: Vec::new(),
                });
            }
        }
        shown
    }

    async fn typing_shown(&self, room: &Room) -> bool {
        !self.received(room, "typing").is_empty()
    }

    async fn drafts(&self, room: &Room) -> Vec<String> {
        let drafts = self.received(room, "draft").into_iter();
        drafts
            .map(|draft| draft["text"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    fn markdown_source(&self) -> String {
        MARKDOWN.to_owned()
    }

    async fn malformed(&self, room: &Room) {
        let client = |client: &Client| (client.frames_tx.clone(), Arc::clone(&client.received));
        let (frames_tx, received) = self.clients().get(room).map(client).expect("the room has a client");
        let broken = [
            "",
            "{",
            "[]",
            "{}",
            r#"{"type":"dance"}"#,
            r#"{"type":"message","id":7}"#,
        ];
        for frame in broken {
            let sent = frames_tx.send(Message::text(frame)).await;
            sent.expect("the connection is open");
        }
        // Each is answered on this connection: the client would make another one.
        let errors = |frames: &[Value]| frames.iter().filter(|frame| frame["type"] == "error").count();
        let look = |frames: &[Value]| (errors(frames) >= broken.len()).then_some(());
        received.wait_for("an error for each broken frame", look).await;
    }

    async fn drop_connections(&self) {
        let take = |client: &mut Client| std::mem::replace(&mut client.connection, tokio::spawn(async {}));
        let connections: Vec<JoinHandle<()>> = self.clients().values_mut().map(take).collect();
        for connection in connections {
            connection.abort();
            // It has ended, one way or the other.
            let _ = connection.await;
        }
    }
}
