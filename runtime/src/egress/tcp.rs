//! Byte streams, with TLS from the start, later (STARTTLS) or not at all.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::socket::{Line, Wire};
use super::{ChannelEgress, Evidence, NetError};
use crate::limit;
use crate::policy::{Host, Scheme};
use crate::secret::StreamRedactor;

/// A connected byte stream.
pub struct TcpStream {
    line: Line,
    /// None once the connection is over, or while it is being turned into TLS.
    wire: Option<Box<dyn Wire>>,
    is_secure: bool,
    redactor: StreamRedactor,
    /// Redacted bytes that did not fit into the last read; at most one buffer of [`limit::TCP_READ_BYTES_MAX`].
    waiting: BytesMut,
    /// Kept between reads, so that a dropped read loses nothing and none allocates.
    buffer: BytesMut,
}

impl TcpStream {
    pub(super) async fn connect(
        channel: &Arc<ChannelEgress>,
        scheme: Scheme,
        host: &str,
        port: u16,
        evidence: &Evidence,
    ) -> Result<Self, NetError> {
        let host = Host::parse(host).map_err(|error| NetError::Failed(error.to_string()))?;
        let (line, permit) = Line::reserve(channel, (scheme, host, port), evidence)?;
        let plain = line.dial(permit).await?;
        let wire: Box<dyn Wire> = if scheme == Scheme::Tls {
            Box::new(line.secure(plain).await?)
        } else {
            Box::new(plain)
        };
        Ok(Self {
            redactor: line.channel.keyring().redactor().stream(),
            line,
            wire: Some(wire),
            is_secure: scheme == Scheme::Tls,
            waiting: BytesMut::new(),
            buffer: BytesMut::new(),
        })
    }

    /// Turns the stream into TLS.
    ///
    /// # Errors
    /// When it is TLS already, when the peer sent bytes that would be taken as encrypted, or when TLS fails: the
    /// stream is closed then.
    ///
    /// # Cancel safety
    /// Dropping the future closes the stream.
    pub async fn start_tls(&mut self) -> Result<(), NetError> {
        self.line.check()?;
        if self.is_secure {
            return Err(NetError::Failed("the stream is TLS already".into()));
        }
        let wire = self.wire.take().ok_or(NetError::Closed)?;
        // Bytes from before TLS, read after it, would be trusted as if they had been encrypted.
        if !self.waiting.is_empty() || !self.redactor.finish().is_empty() {
            self.waiting.clear();
            return Err(NetError::Failed(
                "the peer sent bytes before TLS that were not read".into(),
            ));
        }
        let channel = Arc::clone(&self.line.channel);
        let secured = channel
            .unless_shut_down(self.line.secure(wire), NetError::ShuttingDown)
            .await?;
        self.wire = Some(Box::new(secured));
        self.is_secure = true;
        Ok(())
    }

    /// Returns the next 1 to `bytes_max` bytes, or none when nothing came in time.
    ///
    /// # Errors
    /// `Closed` at the end; otherwise what went wrong.
    ///
    /// # Cancel safety
    /// Nothing that was read is lost when the future is dropped.
    pub async fn read(&mut self, bytes_max: u32, timeout: Duration) -> Result<Option<Bytes>, NetError> {
        self.line.check()?;
        let bytes_max = usize::try_from(bytes_max)
            .unwrap_or(usize::MAX)
            .clamp(1, limit::TCP_READ_BYTES_MAX);
        let channel = Arc::clone(&self.line.channel);
        let filled = async {
            tokio::time::timeout(timeout, self.fill())
                .await
                .map_or(Ok(false), |result| result.map(|()| true))
        };
        if !channel.unless_shut_down(filled, NetError::ShuttingDown).await? {
            return Ok(None);
        }
        let length = self.waiting.len().min(bytes_max);
        Ok(Some(self.waiting.split_to(length).freeze()))
    }

    /// Writes all the bytes.
    ///
    /// # Errors
    /// `Timeout` when the peer takes nothing for [`limit::SOCKET_WRITE_TIMEOUT`]; the stream is closed after any error.
    ///
    /// # Cancel safety
    /// Dropping the future may leave some of the bytes written: the stream is closed then.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), NetError> {
        self.line.check()?;
        if self.wire.is_some() {
            self.line.writing(bytes.len()).await?;
        }
        let mut wire = self.wire.take().ok_or(NetError::Closed)?;
        let channel = Arc::clone(&self.line.channel);
        let writing = async {
            wire.write_all(bytes).await?;
            wire.flush().await
        };
        let writing = async {
            let done = tokio::time::timeout(limit::SOCKET_WRITE_TIMEOUT, writing).await;
            done.map_err(|_| NetError::Timeout)?
                .map_err(|error| self.line.failed(&error))
        };
        channel.unless_shut_down(writing, NetError::ShuttingDown).await?;
        self.wire = Some(wire);
        Ok(())
    }

    /// Writes a text with its secrets put in: over TLS, or in the clear to a host that the operator granted by its name.
    ///
    /// # Errors
    /// `Denied` or `Failed` when a placeholder can't be filled in: nothing was written then, and the stream stays open.
    /// Otherwise as [`write`](Self::write).
    ///
    /// # Cancel safety
    /// As `write`.
    pub async fn write_text(&mut self, text: &str) -> Result<(), NetError> {
        let filled = self.line.filled(text, self.is_secure);
        self.line.channel.counters.net_result(filled.as_ref().err());
        self.write(filled?.as_bytes()).await
    }

    /// Waits until there is something to hand out.
    async fn fill(&mut self) -> Result<(), NetError> {
        while self.waiting.is_empty() {
            let wire = self.wire.as_mut().ok_or(NetError::Closed)?;
            self.buffer.reserve(16 * 1024);
            let count = wire
                .read_buf(&mut self.buffer)
                .await
                .map_err(|error| self.line.failed(&error))?;
            if count == 0 {
                self.wire = None;
                self.waiting.extend_from_slice(&self.redactor.finish());
                continue;
            }
            self.line.heard(count);
            let piece = self.redactor.push(&self.buffer.split());
            self.waiting.extend_from_slice(&piece);
        }
        Ok(())
    }
}
