//! The terminal of the process, for the guests of a channel that was granted it. What a delivery prints there has left the
//! host.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream, stdout};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::egress::{Evidence, Unmarked};

/// Stdout of the process, as one call of a guest has it.
#[derive(Clone)]
pub(super) struct TerminalOutput(pub(super) Evidence);

impl IsTerminal for TerminalOutput {
    fn is_terminal(&self) -> bool {
        stdout().is_terminal()
    }
}

impl StdoutStream for TerminalOutput {
    // Only WASI 0.3 asks for it, which no guest is given.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Printing {
            stdout: stdout().p2_stream(),
            evidence: self.0.clone(),
            marked: None,
        })
    }
}

/// Takes nothing before the attempt is marked.
struct Printing {
    stdout: Box<dyn OutputStream>,
    evidence: Evidence,
    marked: Option<Result<(), Unmarked>>,
}

#[async_trait]
impl Pollable for Printing {
    async fn ready(&mut self) {
        if self.marked.is_none() {
            self.marked = Some(self.evidence.mark().await);
        }
        self.stdout.ready().await;
    }
}

impl OutputStream for Printing {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if !matches!(self.marked, Some(Ok(()))) {
            return Err(StreamError::trap("it was written more than there was room for"));
        }
        self.evidence.note_handed_over();
        self.stdout.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.stdout.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        match &self.marked {
            None => Ok(0),
            Some(Ok(())) => self.stdout.check_write(),
            Some(Err(unmarked)) => Err(StreamError::LastOperationFailed(wasmtime::Error::new(unmarked.clone()))),
        }
    }
}
