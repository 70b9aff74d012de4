//! WebSockets as a client; the host speaks the handshake, the framing and the pings.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::header;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::socket::{Line, Wire};
use super::{ChannelEgress, Evidence, HttpError, NetError};
use crate::limit;
use crate::policy::{Scheme, Target};

/// What a peer sent, redacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Bytes),
    /// The peer closed, with its code (1005 where it gave none) and reason.
    Closed(u16, String),
}

/// A connected WebSocket.
pub struct WebSocket {
    line: Line,
    /// None once the connection is over.
    socket: Option<WebSocketStream<Box<dyn Wire>>>,
}

impl WebSocket {
    pub(super) async fn connect(
        channel: &Arc<ChannelEgress>,
        url: &str,
        headers: &[(String, String)],
        evidence: &Evidence,
    ) -> Result<Self, NetError> {
        let (target, _) = channel.admit(url, &[Scheme::Ws, Scheme::Wss])?;
        let request = client_request(channel, &target, headers)?;
        let place = (target.scheme, target.host, target.port);
        let (line, permit) = Line::reserve(channel, place, evidence)?;
        let plain = line.dial(permit).await?;
        let wire: Box<dyn Wire> = if target.scheme == Scheme::Wss {
            Box::new(line.secure(plain).await?)
        } else {
            Box::new(plain)
        };
        let handshake = tokio_tungstenite::client_async_with_config(request, wire, Some(bounds()));
        let done = tokio::time::timeout(limit::CONNECT_TIMEOUT, handshake)
            .await
            .map_err(|_| NetError::Timeout)?;
        let (socket, _) = done.map_err(|error| refused(&line, &error))?;
        Ok(Self {
            line,
            socket: Some(socket),
        })
    }

    /// Sends a text message, with `{{name}}` filled in where the secret may stand in one.
    ///
    /// # Errors
    /// When the message is too large or the connection fails; after a failure it is closed.
    ///
    /// # Cancel safety
    /// Dropping the future may leave a part of the message sent: the socket is closed then.
    pub async fn send_text(&mut self, text: &str) -> Result<(), NetError> {
        let filled = self
            .line
            .channel
            .keyring()
            .fill_websocket(text, &self.line.host)
            .into_owned();
        self.send(Message::text(filled)).await
    }

    /// Sends a binary message.
    ///
    /// # Errors
    /// As [`send_text`](Self::send_text).
    ///
    /// # Cancel safety
    /// As `send_text`.
    pub async fn send_binary(&mut self, bytes: Bytes) -> Result<(), NetError> {
        self.send(Message::binary(bytes)).await
    }

    /// Returns the next message, or none when none came in time.
    ///
    /// # Errors
    /// `Closed` after the peer's close was returned once; otherwise what went wrong.
    ///
    /// # Cancel safety
    /// No message is lost when the future is dropped.
    pub async fn receive(&mut self, timeout: Duration) -> Result<Option<Frame>, NetError> {
        self.line.check()?;
        let channel = Arc::clone(&self.line.channel);
        let next = async {
            tokio::time::timeout(timeout, self.next())
                .await
                .map_or(Ok(None), |frame| frame.map(Some))
        };
        channel.unless_shut_down(next, NetError::ShuttingDown).await
    }

    /// Closes the connection; without effect on one that is over.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection without a farewell.
    pub async fn close(&mut self, code: u16, reason: &str) {
        let Some(mut socket) = self.socket.take() else { return };
        let code = CloseCode::from(code);
        let code = if code.is_allowed() { code } else { CloseCode::Normal };
        let frame = CloseFrame {
            code,
            reason: shortened(reason).into(),
        };
        // A peer that takes no farewell is left without one.
        let farewell = tokio::time::timeout(limit::SOCKET_WRITE_TIMEOUT, socket.close(Some(frame)));
        if let Ok(Err(error)) = farewell.await {
            tracing::debug!(%error, "a WebSocket ended without a farewell");
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), NetError> {
        self.line.check()?;
        if message.len() > limit::WEBSOCKET_MESSAGE_BYTES_MAX {
            return Err(NetError::Failed("the message is larger than 4 MiB".into()));
        }
        if self.socket.is_some() {
            self.line.writing(message.len()).await?;
        }
        let mut socket = self.socket.take().ok_or(NetError::Closed)?;
        let channel = Arc::clone(&self.line.channel);
        let sending = async {
            let done = tokio::time::timeout(limit::SOCKET_WRITE_TIMEOUT, socket.send(message)).await;
            done.map_err(|_| NetError::Timeout)?
                .map_err(|error| refused(&self.line, &error))
        };
        channel.unless_shut_down(sending, NetError::ShuttingDown).await?;
        self.socket = Some(socket);
        Ok(())
    }

    async fn next(&mut self) -> Result<Frame, NetError> {
        loop {
            let socket = self.socket.as_mut().ok_or(NetError::Closed)?;
            let message = match socket.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    self.socket = None;
                    return Err(refused(&self.line, &error));
                }
                None => {
                    self.socket = None;
                    return Err(NetError::Closed);
                }
            };
            let redactor = self.line.channel.keyring().redactor().clone();
            match message {
                Message::Text(text) => {
                    self.line.heard(text.len());
                    return Ok(Frame::Text(redactor.text(&text).into_owned()));
                }
                Message::Binary(bytes) => {
                    self.line.heard(bytes.len());
                    return Ok(Frame::Binary(Bytes::from(redactor.bytes(&bytes).into_owned())));
                }
                Message::Close(frame) => {
                    self.socket = None;
                    let (code, reason) = frame.map_or((1005, String::new()), |f| (f.code.into(), f.reason.to_string()));
                    return Ok(Frame::Closed(code, redactor.text(&reason).into_owned()));
                }
                // Answered by the protocol itself with the next read or write.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }
}

/// Puts the handshake together: the protocol's own headers first, then the guest's.
fn client_request(
    channel: &ChannelEgress,
    target: &Target,
    headers: &[(String, String)],
) -> Result<http::Request<()>, NetError> {
    let given = channel.fill_headers(headers, target)?;
    let invalid = |_| NetError::Failed("this is no WebSocket URL".into());
    let mut request = target.url.as_str().into_client_request().map_err(invalid)?;
    for (name, value) in &given {
        if name == header::SEC_WEBSOCKET_EXTENSIONS {
            return Err(NetError::Failed(
                "WebSocket extensions are not offered: leave the header out".into(),
            ));
        }
        request.headers_mut().append(name, value.clone());
    }
    Ok(request)
}

fn bounds() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(limit::WEBSOCKET_MESSAGE_BYTES_MAX))
        .max_frame_size(Some(limit::WEBSOCKET_MESSAGE_BYTES_MAX))
        .max_write_buffer_size(2 * limit::WEBSOCKET_MESSAGE_BYTES_MAX)
}

fn refused(line: &Line, error: &WsError) -> NetError {
    match error {
        WsError::ConnectionClosed | WsError::AlreadyClosed => NetError::Closed,
        WsError::Http(response) => line.failed(&format!("answered {} in place of a WebSocket", response.status())),
        other => line.failed(other),
    }
}

fn shortened(reason: &str) -> &str {
    let mut end = reason.len().min(limit::WEBSOCKET_CLOSE_REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

impl From<HttpError> for NetError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Denied(text) => Self::Denied(text),
            HttpError::ShuttingDown => Self::ShuttingDown,
            other => Self::Failed(other.to_string()),
        }
    }
}
