//! The terminal's row: an operator who types into the gateway's own standard input and reads its standard output.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use harness::{Record, Setup, TestGateway};
use tokio::io::AsyncWriteExt as _;
use tokio::process::ChildStdin;

use crate::cases::Case;
use crate::platform::{MessageId, Platform, Room, Shown, Skipped};

#[derive(Default)]
struct Terminal {
    input: tokio::sync::Mutex<Option<ChildStdin>>,
    output: Mutex<Option<Arc<Record<String>>>>,
    /// Lines of earlier processes, and those that stood there when the present case began.
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    before: Vec<String>,
    begun_at: usize,
}

/// Starts nothing: the terminal is the gateway's own.
pub(crate) async fn start() -> Result<Box<dyn Platform>, Skipped> {
    Ok(Box::new(Terminal::default()))
}

impl Terminal {
    /// Returns every line that the gateway printed, over all its lives.
    fn lines(&self) -> Vec<String> {
        let mut lines = self.seen.lock().unwrap_or_else(PoisonError::into_inner).before.clone();
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        lines.extend(output.as_ref().map(|output| output.all()).unwrap_or_default());
        lines
    }

    async fn write(&self, bytes: &[u8]) {
        let mut input = self.input.lock().await;
        let input = input.as_mut().expect("the gateway is up");
        input.write_all(bytes).await.expect("the gateway reads its input");
        input.flush().await.expect("the gateway reads its input");
    }
}

#[async_trait]
impl Platform for Terminal {
    fn peer(&self) -> String {
        "pipes of the real process".to_owned()
    }

    fn configure(&self, setup: Setup, channel: &str) -> Setup {
        setup.section(&format!(
            "[channels.{channel}]\ncomponent = \"terminal\"\naccess = \"open\"\ngrant = [\"terminal\"]"
        ))
    }

    fn lacks(&self, case: Case) -> Option<&'static str> {
        match case {
            Case::Text | Case::Short | Case::Malformed => None,
            Case::OwnEcho | Case::Duplicate | Case::OtherBot | Case::OneReceiver => {
                Some("one person types, each line once")
            }
            Case::Reconnect | Case::Restart => Some("it lives and ends with the process"),
            Case::Oracle => Some("it is the real terminal"),
            Case::RateLimited | Case::Unavailable | Case::Gone | Case::Unauthorized | Case::ReceiverRefused => {
                Some("a terminal refuses nothing")
            }
            _ => Some("a terminal has lines of text, nothing else"),
        }
    }

    /// There is one conversation, so the next case begins when the one before has ended.
    fn cases_at_once(&self) -> usize {
        1
    }

    async fn gateway_is_up(&self, gateway: &mut TestGateway) {
        let before = self.lines();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).before = before;
        *self.input.lock().await = gateway.program().take_input();
        let output = gateway.program().output_kept();
        *self.output.lock().unwrap_or_else(PoisonError::into_inner) = Some(output);
    }

    async fn room(&self) -> Room {
        let begun_at = self.lines().len();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).begun_at = begun_at;
        Room {
            conversation: "terminal".to_owned(),
            thread: None,
        }
    }

    async fn say(&self, _room: &Room, text: &str) -> MessageId {
        self.write(format!("{text}\n").as_bytes()).await;
        // Lines have no ids, and answers name none.
        MessageId(String::new())
    }

    async fn shown(&self, _room: &Room) -> Vec<Shown> {
        let begun_at = self.seen.lock().unwrap_or_else(PoisonError::into_inner).begun_at;
        let lines = self.lines().into_iter().enumerate().skip(begun_at);
        lines
            .map(|(number, line)| Shown {
                id: MessageId(number.to_string()),
                text: line.clone(),
                source: line,
                reply_to: None,
                files: Vec::new(),
            })
            .collect()
    }

    async fn malformed(&self, _room: &Room) {
        self.write(b"\xff\xfe\x00\x1b[2J\n\n \n").await;
    }
}
