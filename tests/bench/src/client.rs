//! The clients that make the load: as thin as they can be, because they share the machine with what they measure.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// The longest wait for one answer: far above every figure, so that only a broken gateway meets it.
const PATIENCE: Duration = Duration::from_secs(30);

/// One HTTP/1.1 connection that is kept open.
pub(crate) struct HttpClient {
    stream: BufReader<TcpStream>,
    /// What every request says besides, a whole header a line.
    headers: String,
    line: String,
    body: Vec<u8>,
}

impl HttpClient {
    pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
            headers: String::new(),
            line: String::new(),
            body: Vec::new(),
        })
    }

    /// Shows this token with every request from now on.
    pub(crate) fn with_token(mut self, token: &str) -> Self {
        self.headers = format!("authorization: Bearer {token}\r\n");
        self
    }

    /// Returns the body of the last answer.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Asks, and returns the status.
    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<u16> {
        let headers = &self.headers;
        self.exchange(&format!("GET {path} HTTP/1.1\r\nhost: bench\r\n{headers}\r\n"))
            .await
    }

    /// Posts JSON, and returns the status.
    pub(crate) async fn post(&mut self, path: &str, json: &str) -> anyhow::Result<u16> {
        let (bytes, headers) = (json.len(), &self.headers);
        let head = format!("POST {path} HTTP/1.1\r\nhost: bench\r\n{headers}content-type: application/json\r\n");
        self.exchange(&format!("{head}content-length: {bytes}\r\n\r\n{json}"))
            .await
    }

    async fn exchange(&mut self, request: &str) -> anyhow::Result<u16> {
        let exchange = async {
            self.stream.write_all(request.as_bytes()).await?;
            self.read_response().await
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .context("no answer in time")?
    }

    async fn read_response(&mut self) -> anyhow::Result<u16> {
        let status = self
            .read_line()
            .await?
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let mut body_bytes = 0;
        loop {
            let line = self.read_line().await?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                body_bytes = value.trim().parse()?;
            }
        }
        self.body.resize(body_bytes, 0);
        self.stream.read_exact(&mut self.body).await?;
        status.context("an answer without a status")
    }

    async fn read_line(&mut self) -> anyhow::Result<&str> {
        self.line.clear();
        if self.stream.read_line(&mut self.line).await? == 0 {
            bail!("the connection was closed");
        }
        Ok(self.line.trim_end())
    }
}

/// One WebSocket client in one conversation.
pub(crate) struct WsClient {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    conversation: String,
    sent: u64,
}

impl WsClient {
    pub(crate) async fn connect(address: SocketAddr, conversation: &str) -> anyhow::Result<Self> {
        let url = format!("ws://{address}/ws");
        let (stream, _) = tokio_tungstenite::connect_async_with_config(url, None, true).await?;
        Ok(Self {
            stream,
            conversation: conversation.to_owned(),
            sent: 0,
        })
    }

    /// Sends a text and waits for the reply to it. Returns the time between.
    pub(crate) async fn ask(&mut self, text: &str) -> anyhow::Result<Duration> {
        self.sent += 1;
        let id = format!("m{}", self.sent);
        let frame = json!({ "type": "message", "id": id, "conversation": self.conversation, "text": text });
        let frame = Message::text(frame.to_string());
        let began = Instant::now();
        self.stream.send(frame).await?;
        tokio::time::timeout(PATIENCE, self.reply_to(&id))
            .await
            .context("no reply in time")??;
        Ok(began.elapsed())
    }

    async fn reply_to(&mut self, id: &str) -> anyhow::Result<()> {
        while let Some(message) = self.stream.next().await {
            let Message::Text(text) = message? else { continue };
            let frame: Value = serde_json::from_str(&text)?;
            match frame["type"].as_str() {
                Some("reply") if frame["in_reply_to"] == id => return Ok(()),
                Some("error") => bail!("the gateway answered {text}"),
                _ => {}
            }
        }
        bail!("the gateway closed the connection")
    }
}
