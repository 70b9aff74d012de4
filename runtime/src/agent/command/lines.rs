//! Reading what a program writes, within bounds.

use std::process::ExitStatus;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt};
use tracing::debug;

use crate::agent::AgentError;
use crate::limit;
use crate::secret::Redactor;

/// The lines of a program's standard output.
pub(super) struct Lines<R> {
    reader: R,
    /// Everything read so far, in bytes.
    total: usize,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, total: 0 }
    }

    /// Returns the next line that is not blank, without its end; none at the end of the output.
    ///
    /// # Errors
    /// When a line or the whole output is too long, or the pipe breaks.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, AgentError> {
        loop {
            let mut line = Vec::new();
            let bound = limit::COMMAND_LINE_BYTES_MAX as u64 + 1;
            let read = (&mut self.reader).take(bound).read_until(b'\n', &mut line).await;
            let read = read.map_err(|fault| AgentError::Unreachable(format!("the program's output broke: {fault}")))?;
            if read == 0 {
                return Ok(None);
            }
            self.total += read;
            if line.len() > limit::COMMAND_LINE_BYTES_MAX || self.total > limit::COMMAND_OUTPUT_BYTES_MAX {
                return Err(AgentError::Refused("the program writes too much".to_owned()));
            }
            let trimmed = line.trim_ascii();
            if !trimmed.is_empty() {
                return Ok(Some(trimmed.to_vec()));
            }
        }
    }
}

/// The end of what a program wrote to its standard error.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    total: u64,
}

impl Tail {
    /// Reads all of it and keeps the last [`limit::COMMAND_STDERR_BYTES_MAX`].
    pub(super) async fn read(&mut self, mut stderr: impl AsyncRead + Unpin) {
        let mut chunk = [0; 4096];
        // A pipe that breaks ends it as the program's end does.
        while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
            self.total += read as u64;
            self.bytes.extend_from_slice(&chunk[..read]);
            let surplus = self.bytes.len().saturating_sub(limit::COMMAND_STDERR_BYTES_MAX);
            self.bytes.drain(..surplus);
        }
    }

    /// Writes it to the log, if there is any.
    pub(super) fn log(&self, status: ExitStatus, redactor: &Redactor) {
        if self.total > 0 {
            let stderr = self.words(redactor);
            debug!(%status, bytes = self.total, stderr, "the program wrote to its standard error");
        }
    }

    /// Returns it as text, without the secrets.
    pub(super) fn words(&self, redactor: &Redactor) -> String {
        let bytes = redactor.bytes(&self.bytes);
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_without_blank_ones_and_the_last_needs_no_end() {
        let mut lines = Lines::new(b"one\r\n\n  \ntwo".as_slice());
        assert_eq!(lines.next().await.unwrap().as_deref(), Some(b"one".as_slice()));
        assert_eq!(lines.next().await.unwrap().as_deref(), Some(b"two".as_slice()));
        assert_eq!(lines.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_line_or_an_output_without_end_is_refused() {
        let endless = vec![b'x'; limit::COMMAND_LINE_BYTES_MAX + 1];
        assert!(Lines::new(endless.as_slice()).next().await.is_err());
        let many = b"line\n".repeat(limit::COMMAND_OUTPUT_BYTES_MAX / 5 + 1);
        let mut lines = Lines::new(many.as_slice());
        let failed = loop {
            match lines.next().await {
                Ok(Some(_)) => {}
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        assert!(failed);
    }

    #[tokio::test]
    async fn the_end_of_the_standard_error_is_kept() {
        let long = [vec![b'x'; limit::COMMAND_STDERR_BYTES_MAX], b"the end".to_vec()].concat();
        let mut tail = Tail::default();
        tail.read(long.as_slice()).await;
        assert!(tail.words(&Redactor::default()).ends_with("xthe end"));
        assert_eq!(
            (tail.bytes.len(), tail.total),
            (limit::COMMAND_STDERR_BYTES_MAX, long.len() as u64)
        );
    }
}
