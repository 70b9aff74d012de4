//! A WebSocket client of the gateway.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::PATIENCE;

/// A connected client.
#[derive(Debug)]
pub struct WsClient {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl WsClient {
    /// Connects to a path of the gateway, such as `/ws`.
    ///
    /// # Errors
    /// Returns the status of a refusal.
    ///
    /// # Panics
    /// When there is no HTTP answer at all.
    pub async fn connect(address: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        let url = format!("ws://{address}{path}");
        let mut request = url.into_client_request().expect("the address makes a URL");
        for (name, value) in headers {
            request
                .headers_mut()
                .insert(*name, value.parse().expect("the value can stand in a header"));
        }
        match tokio::time::timeout(PATIENCE, connect_async(request)).await {
            Ok(Ok((stream, _))) => Ok(Self { stream }),
            Ok(Err(Error::Http(response))) => Err(response.status().as_u16()),
            Ok(Err(error)) => panic!("no HTTP answer from ws://{address}{path}: {error}"),
            Err(_) => panic!("expected within {PATIENCE:?}: an HTTP answer from ws://{address}{path}"),
        }
    }

    /// Connects, as [`WsClient::connect`], to a gateway that may be killed at any moment: none where it was.
    pub async fn try_connect(address: SocketAddr, path: &str) -> Option<Self> {
        let connecting = connect_async(format!("ws://{address}{path}"));
        let (stream, _) = tokio::time::timeout(PATIENCE, connecting).await.ok()?.ok()?;
        Some(Self { stream })
    }

    /// Sends a frame.
    ///
    /// # Panics
    /// When the connection has ended.
    pub async fn send(&mut self, frame: &Value) {
        assert!(
            self.try_send(frame).await,
            "the gateway closed the connection before {frame}"
        );
    }

    /// Sends a frame, and returns whether the connection took it.
    pub async fn try_send(&mut self, frame: &Value) -> bool {
        self.stream.send(Message::text(frame.to_string())).await.is_ok()
    }

    /// Sends a text that need not be a frame at all.
    ///
    /// # Panics
    /// When the connection has ended.
    pub async fn send_text(&mut self, text: &str) {
        self.stream
            .send(Message::text(text))
            .await
            .expect("the connection is open");
    }

    /// Sends a binary message.
    ///
    /// # Panics
    /// When the connection has ended.
    pub async fn send_binary(&mut self, bytes: Vec<u8>) {
        self.stream
            .send(Message::binary(bytes))
            .await
            .expect("the connection is open");
    }

    /// Sends a message for the agent.
    ///
    /// # Panics
    /// When the connection has ended.
    pub async fn say(&mut self, id: &str, conversation: &str, text: &str) {
        self.send(&json!({"type": "message", "id": id, "conversation": conversation, "text": text}))
            .await;
    }

    /// Attaches to a conversation and waits until that is so.
    ///
    /// # Panics
    /// When something other comes first: nothing may overtake the answer.
    pub async fn attach(&mut self, conversation: &str, acks: bool) {
        self.send(&json!({"type": "attach", "conversation": conversation, "acks": acks}))
            .await;
        let frame = self.frame().await;
        assert_eq!(frame, json!({"type": "attached", "conversation": conversation}));
    }

    /// Returns the next frame but those that only show work (`typing`, `draft`); none when the connection has ended.
    ///
    /// # Panics
    /// When none comes within [`PATIENCE`], and when one is not JSON.
    pub async fn next(&mut self) -> Option<Value> {
        // One deadline for the whole wait: the gateway's pings must not stretch it.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = tokio::time::timeout_at(deadline, self.stream.next()).await;
            let message = message.unwrap_or_else(|_| panic!("expected within {PATIENCE:?}: a frame"));
            let text = match message {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => continue,
            };
            let frame: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("a frame is JSON, not {text}"));
            if frame["type"] != "typing" && frame["type"] != "draft" {
                return Some(frame);
            }
        }
    }

    /// Returns the next frame, as [`WsClient::next`], of a connection that must go on.
    ///
    /// # Panics
    /// As [`WsClient::next`], and when the connection has ended.
    pub async fn frame(&mut self) -> Value {
        self.next().await.expect("the gateway keeps the connection")
    }

    /// Returns the next frame, which must be of this type.
    ///
    /// # Panics
    /// As [`WsClient::frame`], and when it is of another type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let frame = self.frame().await;
        assert_eq!(frame["type"], kind, "expected a frame of type {kind}, seen {frame}");
        frame
    }

    /// Skips frames until one of this type.
    ///
    /// # Panics
    /// As [`WsClient::frame`].
    pub async fn until(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.frame().await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Returns the code with which the gateway closes the connection; none where it ends without one.
    ///
    /// # Panics
    /// When it stays open for [`PATIENCE`].
    pub async fn close_code(&mut self) -> Option<u16> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = tokio::time::timeout_at(deadline, self.stream.next()).await;
            match message.unwrap_or_else(|_| panic!("expected within {PATIENCE:?}: the end of the connection")) {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Ends the connection as a client that says goodbye, and waits for the gateway's goodbye.
    ///
    /// # Panics
    /// When the gateway keeps the connection for [`PATIENCE`].
    pub async fn close(mut self) {
        // The gateway may be gone already.
        let _ = self.stream.close(None).await;
        let ended = tokio::time::timeout(PATIENCE, async { while let Some(Ok(_)) = self.stream.next().await {} });
        assert!(
            ended.await.is_ok(),
            "expected within {PATIENCE:?}: the gateway ends the connection of a client that left"
        );
    }
}
