//! What reaches a channel from outside over the gateway's own HTTP surface: plain data, and the door that
//! [`crate::http`] knocks at. The composition root puts the channels behind it.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use crate::id::random_hex;

/// A request to a channel's mount point.
#[derive(Debug, Clone)]
pub struct WebhookRequest {
    /// The method, such as `POST`.
    pub method: String,
    /// The path below the mount point, starting with `/`.
    pub path: String,
    /// The query without `?`.
    pub query: Option<String>,
    /// Headers in the order received, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The raw body.
    pub body: Vec<u8>,
}

/// A channel's answer.
#[derive(Debug, Clone)]
pub struct WebhookReply {
    /// The status, 200 to 599.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why a request or a connection did not get to a channel's guest, or got no answer from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such channel, or it takes no webhooks or no connections.
    #[error("no such channel")]
    NotFound,
    /// It is not genuine.
    #[error("the signature is missing or wrong")]
    Unverified,
    /// The body is larger than the channel takes.
    #[error("the body is too large")]
    TooLarge,
    /// The body ended early, or is not what its headers say.
    #[error("the body can't be read: it ends early, or is not what the headers say")]
    Broken,
    /// The body did not come in time.
    #[error("the body did not come in time")]
    TooSlow,
    /// Others send too much that is not whole; wait this many seconds.
    #[error("too much is under way that is not whole; send it again")]
    Crowded(u64),
    /// Too much at once; wait this many seconds.
    #[error("busy")]
    Busy(u64),
    /// The channel is paused or going down; wait this many seconds.
    #[error("not available")]
    Unavailable(u64),
    /// The guest failed.
    #[error("the channel failed")]
    Failed,
}

/// Why a connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// Nothing is wrong.
    Normal,
    /// The client broke a rule.
    Policy(String),
    /// A frame was too large.
    TooLarge,
    /// Others send too much that is not whole.
    Crowded,
    /// The channel failed.
    Internal,
}

/// A connection of one client, opened. Dropping it does not tell the channel: call [`Connection::closed`].
#[async_trait]
pub trait Connection: Send + Sync {
    /// Returns the id of the client.
    fn id(&self) -> &ClientId;

    /// Tells the channel of a new client. Returns the frames to send first.
    async fn opened(&self) -> Result<Vec<String>, CloseReason>;

    /// Handles a client's frame. The returned frames go out before any frame that follows from this one.
    async fn received(&self, frame: String) -> Result<Answer, CloseReason>;

    /// Tells the channel that the client is gone.
    async fn closed(&self);
}

/// Frames that answer a client's own frame, with the guard that holds back all others until they are written.
pub struct Answer {
    /// The frames, in order.
    pub frames: Vec<String>,
    /// Drop it when they are written.
    pub hold: Option<tokio::sync::OwnedMutexGuard<()>>,
}

/// The door to the channels.
#[async_trait]
pub trait Ingress: Send + Sync + 'static {
    /// Returns the largest webhook body that a channel takes, bytes.
    fn webhook_body_bytes_max(&self, channel: &str) -> Result<usize, Refusal>;

    /// Hands a request to a channel, after checking that it is genuine. Returns once what it published is durable.
    async fn webhook(&self, channel: &str, request: WebhookRequest) -> Result<WebhookReply, Refusal>;

    /// Registers a client with a serving channel (the default one where `channel` is none).
    fn connect(
        &self,
        channel: Option<&str>,
        path: &str,
        query: Option<&str>,
        principal: Option<&str>,
    ) -> Result<(Arc<dyn Connection>, mpsc::Receiver<OutgoingFrame>), Refusal>;
}

/// The id of one connection, unguessable and never used again, also not after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// Makes a new id.
    pub fn generate() -> Self {
        Self(format!("cli_{}", random_hex::<12>()).into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A frame on its way to a client; `written` hears when the operating system has it.
#[derive(Debug)]
pub struct OutgoingFrame {
    /// The text.
    pub text: String,
    /// Dropped unanswered when the connection ends first.
    pub written: oneshot::Sender<()>,
}

impl std::borrow::Borrow<str> for ClientId {
    fn borrow(&self) -> &str {
        &self.0
    }
}
