//! A child process whose output is written down.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::{PATIENCE, Record};

/// What a process can be told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT, as Ctrl-C sends.
    Interrupt,
    /// SIGHUP, as a terminal sends that goes away.
    HangUp,
    /// SIGTERM, as a supervisor sends.
    Terminate,
    /// SIGKILL: no last words.
    Kill,
    /// SIGABRT, as a process ends itself that finds something broken.
    Abort,
}

/// A running (or ended) child process with pipes for its input and output. Dropping it kills it.
#[derive(Debug)]
pub struct Program {
    child: Child,
    input: Option<ChildStdin>,
    output: Arc<Record<String>>,
    errors: Arc<Record<String>>,
}

impl Program {
    /// Starts a command.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn spawn(mut command: Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} can't be started: {error}"));
        Self {
            input: child.stdin.take(),
            output: lines_of(child.stdout.take().expect("standard output is a pipe")),
            errors: lines_of(child.stderr.take().expect("standard error is a pipe")),
            child,
        }
    }

    /// Returns the id of its process; none once it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Returns how many files it may have open, and as how many it may ask for; from now on it is these.
    ///
    /// # Panics
    /// When it has ended.
    pub fn bound_open_files(&self, max: u64) -> (u64, u64) {
        use rustix::process::{Pid, Resource, Rlimit, prlimit};
        let id = self.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let bound = Rlimit {
            current: Some(max),
            maximum: Some(max),
        };
        let before = prlimit(id, Resource::Nofile, bound).expect("it runs, and is our own");
        (before.current.unwrap_or(u64::MAX), before.maximum.unwrap_or(u64::MAX))
    }

    /// Writes to its standard input.
    ///
    /// # Panics
    /// When its input was closed before.
    pub async fn write(&mut self, text: &str) {
        let input = self.input.as_mut().expect("standard input is still open");
        input
            .write_all(text.as_bytes())
            .await
            .expect("the program reads its input");
        input.flush().await.expect("the program reads its input");
    }

    /// Takes its standard input, to be written to from elsewhere; none where it was closed or taken before.
    pub fn take_input(&mut self) -> Option<ChildStdin> {
        self.input.take()
    }

    /// Returns the lines that it writes to its standard output, to be looked at from elsewhere, also after its end.
    pub fn output_kept(&self) -> Arc<Record<String>> {
        Arc::clone(&self.output)
    }

    /// Ends its standard input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Returns the lines that it wrote to its standard output.
    pub fn output(&self) -> &Record<String> {
        &self.output
    }

    /// Returns the lines that it wrote to its standard error.
    pub fn errors(&self) -> &Record<String> {
        &self.errors
    }

    /// Sends a signal. One that ended meanwhile hears nothing.
    pub fn signal(&self, signal: Signal) {
        let Some(pid) = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(rustix::process::Pid::from_raw)
        else {
            return;
        };
        let number = match signal {
            Signal::Interrupt => rustix::process::Signal::INT,
            Signal::HangUp => rustix::process::Signal::HUP,
            Signal::Terminate => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
            Signal::Abort => rustix::process::Signal::ABORT,
        };
        // It may have ended between the look and the signal.
        let _ = rustix::process::kill_process(pid, number);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it still runs after [`PATIENCE`].
    pub async fn ended(&mut self) -> ExitStatus {
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.expect("a child can be waited for"),
            Err(_) => panic!(
                "expected within {PATIENCE:?}: the end of the program\nseen:\n{}",
                self.errors.shown()
            ),
        }
    }

    /// Returns its exit status, if it has ended.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be looked at")
    }

    /// Waits for its end and the end of its output. Returns its exit code (none after a signal), and all that it wrote to
    /// standard output and to standard error.
    ///
    /// # Panics
    /// As [`Program::ended`].
    pub async fn outcome(&mut self) -> (Option<i32>, String, String) {
        let status = self.ended().await;
        for record in [&self.output, &self.errors] {
            record
                .wait_for("the end of the output", |lines| {
                    lines.last().filter(|line| *line == END).map(drop)
                })
                .await;
        }
        (status.code(), joined(&self.output), joined(&self.errors))
    }
}

/// Stands in a record for the end of the pipe. No program writes it: lines have no line feeds.
const END: &str = "\n(end)";

fn joined(record: &Record<String>) -> String {
    let mut lines = record.all();
    lines.retain(|line| line != END);
    lines.join("\n")
}

fn lines_of(pipe: impl AsyncRead + Unpin + Send + 'static) -> Arc<Record<String>> {
    let record = Arc::new(Record::default());
    let written = Arc::clone(&record);
    tokio::spawn(async move {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).await.is_ok_and(|count| count > 0) {
            written.push(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned());
            line.clear();
        }
        written.push(END.to_owned());
    });
    record
}
