//! A channel's log: what its guests print or report, bounded in rate and length, with control characters shown and not
//! obeyed.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::allowance::Allowance;
use super::services::Services;
use crate::limit;
use crate::shown::printable_within;

/// How urgent a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For following single steps.
    Trace,
    /// For finding faults.
    Debug,
    /// Life cycle.
    Info,
    /// Degraded.
    Warn,
    /// A human must act.
    Error,
}

/// The bounded log of one channel.
#[derive(Debug)]
pub struct ChannelLog {
    lines: Allowance,
    line_bytes_max: usize,
    dropped: Mutex<u64>,
}

impl Default for ChannelLog {
    fn default() -> Self {
        Self::new(limit::LOG_LINES_PER_SECOND_DEFAULT, limit::LOG_LINE_BYTES_DEFAULT)
    }
}

impl ChannelLog {
    /// Makes a log that takes so many lines, after a burst, each of so many bytes.
    pub fn new(lines_per_second: u32, line_bytes_max: usize) -> Self {
        Self {
            lines: Allowance::new(lines_per_second.into(), limit::LOG_LINES_BURST.into()),
            line_bytes_max,
            dropped: Mutex::default(),
        }
    }

    /// Returns how long a line may be, bytes.
    pub(super) fn line_bytes_max(&self) -> usize {
        self.line_bytes_max
    }

    /// Writes a line, or counts it as dropped where the channel writes too many. Returns whether it was written.
    ///
    /// `message` is only asked for a line that is written: making it presentable costs more than dropping it.
    pub fn write<'m>(&self, channel: &str, level: Level, message: impl FnOnce() -> Cow<'m, str>) -> bool {
        let Some(dropped) = self.take() else { return false };
        if dropped > 0 {
            tracing::warn!(target: "sluicegate::guest", channel, dropped, "the channel logs too fast; lines were dropped");
        }
        let line = printable_within(&message(), self.line_bytes_max);
        match level {
            Level::Trace => tracing::trace!(target: "sluicegate::guest", channel, "{line}"),
            Level::Debug => tracing::debug!(target: "sluicegate::guest", channel, "{line}"),
            Level::Info => tracing::info!(target: "sluicegate::guest", channel, "{line}"),
            Level::Warn => tracing::warn!(target: "sluicegate::guest", channel, "{line}"),
            Level::Error => tracing::error!(target: "sluicegate::guest", channel, "{line}"),
        }
        true
    }

    /// Takes one line from the allowance. Returns how many were dropped since the last one that was written.
    fn take(&self) -> Option<u64> {
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        // The line that tells of dropped ones is a line too.
        let lines = if *dropped > 0 { 2.0 } else { 1.0 };
        if !self.lines.take(lines) {
            *dropped += 1;
            return None;
        }
        Some(std::mem::take(&mut dropped))
    }
}

/// Cuts what a guest said to what can be shown of it, with room for a secret that begins there: a redactor finds only whole
/// ones. Redacting all of ten megabytes for four kilobytes of them would stop the neighbours.
pub(super) fn near_start(message: &str, bytes_max: usize) -> &str {
    /// Percent-encoding triples a secret.
    const ENCODED: usize = 3;
    &message[..message.floor_char_boundary(bytes_max + ENCODED * limit::SECRET_BYTES_MAX)]
}

/// Stdout or stderr of a guest: each line goes to the channel's log.
#[derive(Clone)]
pub(super) struct LogOutput {
    services: Arc<Services>,
}

impl LogOutput {
    pub(super) fn new(services: Arc<Services>) -> Self {
        Self { services }
    }
}

impl IsTerminal for LogOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.lines())
    }

    // The library's own adapter writes every byte to its debug log, secrets included, before a line comes here.
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.lines())
    }
}

impl LogOutput {
    fn lines(&self) -> LineWriter {
        LineWriter {
            services: self.services.clone(),
            line: Vec::new(),
        }
    }
}

/// Collects bytes until a line is whole or too long.
struct LineWriter {
    services: Arc<Services>,
    line: Vec<u8>,
}

impl LineWriter {
    fn emit(&mut self) {
        if !self.line.is_empty() {
            self.services.log(Level::Info, &String::from_utf8_lossy(&self.line));
            self.line.clear();
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                self.emit();
            } else if self.line.len() < self.services.log.line_bytes_max() {
                self.line.push(*byte);
            }
        }
    }
}

#[async_trait]
impl Pollable for LineWriter {
    async fn ready(&mut self) {}
}

impl OutputStream for LineWriter {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(self.services.log.line_bytes_max())
    }
}

impl AsyncWrite for LineWriter {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.emit();
        Poll::Ready(Ok(()))
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        self.emit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_cut_and_the_log_comes_back() {
        let log = ChannelLog::default();
        let written = (0..10_000)
            .filter(|_| log.write("noisy", Level::Trace, || "x".into()))
            .count();
        assert_eq!(written, limit::LOG_LINES_BURST as usize);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert!(log.write("noisy", Level::Trace, || "x".into()));
    }
}
