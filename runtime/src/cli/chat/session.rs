//! One conversation, over as many connections as it takes.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::input::{LINE_BYTES_MAX, Line};
use super::wire::{FromGateway, ToGateway};
use crate::cli::failure::Failure;
use crate::telemetry::tell;

/// A connection to the gateway.
pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Messages without an answer, above which no more lines are taken: a pipe with a million lines is sent in pieces.
const UNANSWERED_MAX: usize = 32;
/// Keys of answers that are remembered to drop copies: far more than can be under way.
const SEEN_MAX: usize = 1024;
/// How often the connection is looked after.
const TICK: Duration = Duration::from_secs(1);
/// Silence after which a sign of life is asked for; after twice as much the connection counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// How long a chat without input waits for answers that lie ready in its conversation: they come at once, or not now.
const READY_WAIT: Duration = Duration::from_secs(2);
/// The wait before a message is sent again to a gateway that was busy.
const BUSY_WAIT: Duration = Duration::from_secs(2);

/// How a connection ended.
pub(super) enum End {
    /// All is said and answered, or the person left.
    Done,
    /// It broke, for this reason.
    Lost(String),
}

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Sent, and not yet known to be durable.
    Sent,
    /// To be sent again at this time.
    Refused(Instant),
    /// Durable: the gateway has it for good.
    Accepted,
}

struct Pending {
    text: String,
    state: State,
}

/// A conversation with all that is still open in it.
pub(super) struct Session {
    conversation: String,
    /// Whether others may have spoken in it before.
    is_continued: bool,
    is_terminal: bool,
    /// How long answers are waited for after the end of input.
    wait: Duration,
    lines: mpsc::Receiver<Line>,
    /// When waiting ends; none while there is input.
    deadline: Option<Instant>,
    /// Messages without an answer, by id.
    pending: BTreeMap<String, Pending>,
    /// The number of the next message: ids sort as they were written.
    next: u64,
    /// Makes ids unique over chats in the same conversation.
    nonce: String,
    /// Keys of the answers that were written, the latest last.
    seen: VecDeque<String>,
    /// Messages that the gateway refused for good.
    refused: usize,
    /// Whether the person left, or nobody reads the answers any more.
    has_left: bool,
}

impl Session {
    /// Starts without anything said, in a conversation to go on with or a new one.
    pub(super) fn new(
        conversation: Option<String>,
        is_terminal: bool,
        wait: Duration,
        lines: mpsc::Receiver<Line>,
    ) -> Self {
        Self {
            is_continued: conversation.is_some(),
            conversation: conversation.unwrap_or_else(|| format!("chat-{}", crate::id::random_hex::<4>())),
            is_terminal,
            wait,
            lines,
            deadline: None,
            pending: BTreeMap::new(),
            next: 0,
            nonce: crate::id::random_hex::<6>(),
            seen: VecDeque::new(),
            refused: 0,
            has_left: false,
        }
    }

    /// Returns the conversation's id.
    pub(super) fn conversation(&self) -> &str {
        &self.conversation
    }

    /// Talks over one connection until all is answered or the connection is lost.
    pub(super) async fn run(&mut self, socket: &mut Socket) -> End {
        match self.talk(socket).await {
            Ok(()) => {
                self.leave_prompt();
                // The gateway keeps what it has accepted, whether or not it hears the farewell.
                let _ = tokio::time::timeout(TICK, socket.close(None)).await;
                End::Done
            }
            Err(why) => End::Lost(why),
        }
    }

    /// Waits until the chat is over while there is no connection: the person leaves, or the wait for answers ends. Lines
    /// are taken meanwhile, so that the end of input is noticed; the next connection sends them.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub(super) async fn over(&mut self) {
        let mut interrupted = std::pin::pin!(interrupted());
        while !self.is_over() {
            let (deadline, takes_lines) = (self.deadline, self.takes_lines());
            tokio::select! {
                () = &mut interrupted => self.has_left = true,
                () = sleep_until(deadline) => {}
                line = self.lines.recv(), if takes_lines => drop(self.note(line)),
            }
        }
    }

    fn takes_lines(&self) -> bool {
        self.deadline.is_none() && self.pending.len() < UNANSWERED_MAX
    }

    /// Returns how the chat went.
    ///
    /// # Errors
    /// Where a message was refused, or not accepted in time.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        let lost = self
            .pending
            .values()
            .filter(|message| message.state != State::Accepted)
            .count();
        let unanswered = self.pending.len() - lost;
        if unanswered > 0 {
            tell(format_args!(
                "{unanswered} without an answer so far; the gateway has them, and the answers come with --conversation {}",
                self.conversation
            ));
        }
        match (lost, self.refused) {
            (0, 0) => Ok(()),
            (0, refused) => Err(Failure::plain(format!("messages that the gateway refused: {refused}"))),
            (lost, _) => Err(Failure::plain(format!(
                "messages that the gateway did not accept: {lost}"
            ))),
        }
    }

    async fn talk(&mut self, socket: &mut Socket) -> Result<(), String> {
        // One for the whole connection, so that a Ctrl-C between two waits is not missed.
        let mut interrupted = std::pin::pin!(interrupted());
        self.greet(socket).await?;
        let mut tick = tokio::time::interval(TICK);
        let mut heard = Instant::now();
        while !self.is_over() {
            let takes_lines = self.takes_lines();
            // Each branch only waits, and takes what it waited for whole: any may be dropped for another.
            tokio::select! {
                frame = socket.next() => {
                    heard = Instant::now();
                    let frame = frame.ok_or("it was closed")?.map_err(|error| error.to_string())?;
                    self.on_frame(socket, frame).await?;
                }
                line = self.lines.recv(), if takes_lines => self.on_line(socket, line).await?,
                _ = tick.tick() => self.look_after(socket, heard).await?,
                () = &mut interrupted => self.has_left = true,
            }
        }
        Ok(())
    }

    /// Attaches, and sends again what an earlier connection may not have brought over.
    async fn greet(&mut self, socket: &mut Socket) -> Result<(), String> {
        send(
            socket,
            &ToGateway::Attach {
                conversation: &self.conversation,
                acks: true,
            },
        )
        .await?;
        for (id, message) in &mut self.pending {
            if message.state != State::Accepted {
                message.state = State::Sent;
                send_message(socket, id, &self.conversation, &message.text).await?;
            }
        }
        self.prompt();
        Ok(())
    }

    fn is_over(&self) -> bool {
        let is_answered = self.deadline.is_some() && self.pending.is_empty() && !self.only_listens();
        self.has_left || is_answered || self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Whether it said nothing, and is there for what waits in its conversation.
    fn only_listens(&self) -> bool {
        self.is_continued && self.next == 0
    }

    async fn on_line(&mut self, socket: &mut Socket, line: Option<Line>) -> Result<(), String> {
        match self.note(line) {
            // Where sending fails, the next connection sends it.
            Some((id, text)) => send_message(socket, &id, &self.conversation, &text).await,
            None => Ok(()),
        }
    }

    /// Notes what was typed. Returns the id and the text of what is to be sent.
    fn note(&mut self, line: Option<Line>) -> Option<(String, String)> {
        match line {
            None if self.only_listens() => self.deadline = Some(Instant::now() + self.wait.min(READY_WAIT)),
            None => self.deadline = Some(Instant::now() + self.wait),
            Some(Line::TooLong) => {
                self.refused += 1;
                tell(format_args!("a line of more than {LINE_BYTES_MAX} bytes was left out"));
                self.prompt();
            }
            Some(Line::Text(text)) => {
                let id = format!("m{:06}-{}", self.next, self.nonce);
                self.next += 1;
                self.pending.insert(
                    id.clone(),
                    Pending {
                        text: text.clone(),
                        state: State::Sent,
                    },
                );
                self.prompt();
                return Some((id, text));
            }
        }
        None
    }

    async fn on_frame(&mut self, socket: &mut Socket, frame: Message) -> Result<(), String> {
        let Message::Text(text) = frame else { return Ok(()) };
        let parsed =
            serde_json::from_str(&text).map_err(|error| format!("the gateway sent an unreadable frame: {error}"))?;
        match parsed {
            FromGateway::Accepted { id } => {
                if let Some(message) = self.pending.get_mut(&id) {
                    message.state = State::Accepted;
                }
            }
            FromGateway::Reply {
                in_reply_to,
                delivery_key,
                text,
            } => {
                if !self.seen.contains(&delivery_key) && !self.show(&text) {
                    return Ok(());
                }
                send(
                    socket,
                    &ToGateway::Ack {
                        delivery_key: &delivery_key,
                    },
                )
                .await?;
                self.remember(delivery_key);
                if let Some(id) = in_reply_to {
                    self.pending.remove(&id);
                }
            }
            FromGateway::Error { id, code, message } => self.on_error(id, &code, &message),
            FromGateway::Other => {}
        }
        Ok(())
    }

    fn on_error(&mut self, id: Option<String>, code: &str, message: &str) {
        let pending = id.as_ref().and_then(|id| self.pending.get_mut(id));
        if let (Some(pending), "busy" | "shutting-down") = (pending, code) {
            pending.state = State::Refused(Instant::now() + BUSY_WAIT);
            return;
        }
        if id.is_some_and(|id| self.pending.remove(&id).is_some()) {
            self.refused += 1;
        }
        tell(format_args!(
            "the gateway refused it: {} ({})",
            harmless(message),
            harmless(code)
        ));
        self.prompt();
    }

    /// Sends again what is due, and asks a silent gateway for a sign of life.
    async fn look_after(&mut self, socket: &mut Socket, heard: Instant) -> Result<(), String> {
        let now = Instant::now();
        for (id, message) in &mut self.pending {
            if matches!(message.state, State::Refused(due) if due <= now) {
                message.state = State::Sent;
                send_message(socket, id, &self.conversation, &message.text).await?;
            }
        }
        match now.duration_since(heard) {
            silence if silence > 2 * SILENCE_MAX => Err("the gateway is silent".to_owned()),
            silence if silence > SILENCE_MAX => write(socket, Message::Ping(Vec::new().into())).await,
            _ => Ok(()),
        }
    }

    /// Writes an answer. Returns whether it was written: only then it may be acknowledged.
    fn show(&mut self, text: &str) -> bool {
        let text = harmless(text);
        let mut out = std::io::stdout().lock();
        // On a terminal the prompt is taken away first and comes back below the answer.
        let written = if self.is_terminal {
            write!(out, "\r\x1b[K{text}\n> ")
        } else {
            writeln!(out, "{text}")
        };
        let is_written = written.and_then(|()| out.flush()).is_ok();
        self.has_left |= !is_written;
        is_written
    }

    fn prompt(&self) {
        if self.is_terminal {
            let mut out = std::io::stdout();
            // A terminal that is gone is noticed at the next answer.
            let _ = write!(out, "\r\x1b[K> ").and_then(|()| out.flush());
        }
    }

    /// Ends the line of the prompt, so that what comes after the chat starts on a line of its own.
    fn leave_prompt(&self) {
        if self.is_terminal {
            // A terminal that is gone needs no line break.
            let _ = writeln!(std::io::stdout());
        }
    }

    fn remember(&mut self, key: String) {
        if self.seen.contains(&key) {
            return;
        }
        if self.seen.len() == SEEN_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(key);
    }
}

async fn send_message(socket: &mut Socket, id: &str, conversation: &str, text: &str) -> Result<(), String> {
    send(socket, &ToGateway::Message { id, conversation, text }).await
}

async fn send(socket: &mut Socket, frame: &ToGateway<'_>) -> Result<(), String> {
    let text = serde_json::to_string(frame).map_err(|error| error.to_string())?;
    write(socket, Message::Text(text.into())).await
}

/// Writes a frame. A gateway that takes nothing any more must not hold the chat up for ever.
async fn write(socket: &mut Socket, frame: Message) -> Result<(), String> {
    match tokio::time::timeout(SILENCE_MAX, socket.send(frame)).await {
        Ok(written) => written.map_err(|error| error.to_string()),
        Err(_) => Err("the gateway takes nothing any more".to_owned()),
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Waits for Ctrl-C; where it can't be heard, for ever, so that it ends the process as usual.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Takes the control characters out of a text, but for line breaks and tabs: an answer must not drive the terminal.
fn harmless(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_can_not_drive_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\r\u{9b}c\td\n"), "a[2Jbc\td\n");
    }
}
