//! The agent that is a program: one process a turn, one JSON object a line each way.
//!
//! A process of its own for each turn keeps turns apart and needs no protocol for telling them apart. It reads one line
//! with the turn, then the end of its input, and writes lines of these kinds:
//!
//! | line | means |
//! | --- | --- |
//! | `{"delta":"…"}` | the answer grows by this |
//! | `{"text":"…"}` | this is the whole answer |
//! | `{"error":"…","retry":true}` | no answer; `retry` says whether another run may help (false by default) |
//!
//! Its standard error goes to the log. The program gets PATH, HOME and LANG of the gateway and what is configured for
//! it, nothing else of the environment. It ends with its turn at the latest, and with the gateway, however that ends:
//! see [`guard`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::{Agent, AgentError, Growing, Turn};
use crate::limit;
use crate::secret::{Redactor, Secret};

pub mod guard;
mod lines;
mod wire;

use lines::{Lines, Tail};
use wire::Output;

/// What the program gets of the gateway's own environment.
const ENVIRONMENT: [&str; 3] = ["PATH", "HOME", "LANG"];

/// Which program, and how it is started.
#[derive(Clone)]
pub struct Settings {
    /// The gateway's executable, which guards the program.
    pub guard: PathBuf,
    /// The program: a path, or a name that is looked up in PATH.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it gets besides PATH, HOME and LANG; may hold secrets.
    pub env: BTreeMap<String, String>,
    /// Where it runs; none for the gateway's own directory.
    pub directory: Option<PathBuf>,
    /// The longest run; at most [`limit::TURN_TIMEOUT`] counts.
    pub timeout: Duration,
}

/// A program that answers.
pub struct CommandAgent {
    settings: Settings,
    /// Takes what the program was given for itself out of its words to the operator.
    redactor: Redactor,
    timeout: Duration,
}

impl CommandAgent {
    /// Makes the agent. Nothing is started before the first turn.
    pub fn new(settings: Settings) -> Self {
        let timeout = settings.timeout.min(limit::TURN_TIMEOUT);
        let given: Vec<Secret> = settings.env.values().cloned().map(Secret::new).collect();
        Self {
            settings,
            redactor: Redactor::new(&given),
            timeout,
        }
    }

    fn spawn(&self) -> Result<Process, AgentError> {
        let Settings {
            guard,
            program,
            args,
            env,
            directory,
            ..
        } = &self.settings;
        let mut command = Command::new(guard);
        command.args([guard::SUBCOMMAND, program]).args(args).env_clear();
        for name in ENVIRONMENT {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(env);
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let child = command.spawn().map_err(|fault| self.not_started(&fault))?;
        Process::new(child).ok_or_else(|| AgentError::Unreachable("the program ended at once".to_owned()))
    }

    fn not_started(&self, fault: &std::io::Error) -> AgentError {
        let text = format!("the program {} can't be started: {fault}", self.settings.program);
        if guard::is_misconfiguration(fault) {
            AgentError::Misconfigured(text)
        } else {
            AgentError::Unreachable(text)
        }
    }

    async fn converse(&self, turn: Turn<'_>, growing: &Growing<'_>) -> Result<String, AgentError> {
        let question = wire::question(turn)?;
        let mut process = self.spawn()?;
        let mut output = Output::default();
        let mut tail = Tail::default();
        let run = process.run(&question, &mut output, &mut tail, growing);
        let Ok(ended) = timeout(self.timeout, run).await else {
            return self.cut_off(output);
        };
        let (status, read) = ended?;
        tail.log(status, &self.redactor);
        read?;
        let answer = output.finish(status.success());
        if answer.is_err() {
            let stderr = tail.words(&self.redactor);
            warn!(%status, stderr, "the program gave no answer");
            if status.code() == Some(guard::NOT_STARTED.into()) {
                let program = &self.settings.program;
                let text = format!("the program {program}, or one that it starts, is not there or may not be run");
                return Err(AgentError::Misconfigured(text));
            }
        }
        answer
    }

    /// Takes what a program said that had no more time. A whole answer need not be asked for again.
    fn cut_off(&self, output: Output) -> Result<String, AgentError> {
        if !output.is_whole() {
            return Err(AgentError::TimedOut(self.timeout));
        }
        let timeout_s = self.timeout.as_secs();
        warn!(
            timeout_s,
            "the program gave its answer and did not end in time: it is killed"
        );
        output.finish(true)
    }
}

#[async_trait]
impl Agent for CommandAgent {
    fn describe(&self) -> String {
        // Not its arguments: they may hold a secret.
        format!("command: {}", self.settings.program)
    }

    async fn answer(&self, turn: Turn<'_>, growing: &Growing<'_>) -> Result<String, AgentError> {
        let answer = self.converse(turn, growing).await;
        answer.map_err(|error| error.redacted(&self.redactor))
    }
}

async fn write_question(mut stdin: ChildStdin, question: &[u8]) -> std::io::Result<()> {
    stdin.write_all(question).await?;
    stdin.shutdown().await
}

async fn read_answer(stdout: ChildStdout, output: &mut Output, growing: &Growing<'_>) -> Result<(), AgentError> {
    let mut lines = Lines::new(BufReader::new(stdout));
    while let Some(line) = lines.next().await? {
        if output.take(&line)? {
            growing(output.text());
        }
    }
    Ok(())
}

/// A running program with everything that it started: all of it is killed when this is dropped.
struct Process {
    child: Child,
    /// The process group of the program, which its guard leads.
    group: Pid,
}

impl Process {
    fn new(child: Child) -> Option<Self> {
        let group = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)?;
        Some(Self { child, group })
    }

    fn pipes(&mut self) -> Result<(ChildStdin, ChildStdout, ChildStderr), AgentError> {
        let child = &mut self.child;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(AgentError::Unreachable("the program has no pipes".to_owned()));
        };
        Ok((stdin, stdout, stderr))
    }

    /// Asks the program and reads what it says, to its end. Returns how it ended, and what was wrong with what it said.
    async fn run(
        &mut self,
        question: &[u8],
        output: &mut Output,
        tail: &mut Tail,
        growing: &Growing<'_>,
    ) -> Result<(ExitStatus, Result<(), AgentError>), AgentError> {
        let (stdin, stdout, stderr) = self.pipes()?;
        let talk = async {
            let (written, read, ()) = tokio::join!(
                write_question(stdin, question),
                read_answer(stdout, output, growing),
                tail.read(stderr)
            );
            // A program need not read its question to answer it.
            if let Err(fault) = written {
                debug!(error = %fault, "the program did not read its input");
            }
            read
        };
        let read = self.watch(talk).await;
        let status = self.end(matches!(read, Some(Err(_)))).await?;
        Ok((status, read.unwrap_or(Ok(()))))
    }

    /// Runs `talk` to its end, or until a little after the end of the program: a child that it left behind may hold its
    /// pipes open for ever. None in that second case.
    async fn watch<T>(&mut self, talk: impl Future<Output = T>) -> Option<T> {
        let mut talk = std::pin::pin!(talk);
        tokio::select! {
            biased;
            said = &mut talk => Some(said),
            _status = self.child.wait() => timeout(limit::COMMAND_DRAIN_TIMEOUT, talk).await.ok(),
        }
    }

    /// Waits for the end of the program; kills it first when nothing more is wanted of it.
    async fn end(&mut self, kill: bool) -> Result<ExitStatus, AgentError> {
        if kill {
            self.kill();
        }
        self.child
            .wait()
            .await
            .map_err(|fault| AgentError::Unreachable(format!("the program was lost: {fault}")))
    }

    fn kill(&self) {
        // It fails when nothing of the group is left.
        let _gone = kill_process_group(self.group, Signal::KILL);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
