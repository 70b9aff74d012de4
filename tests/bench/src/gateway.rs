//! The real binary in a process of its own, started as an operator would.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::sync::oneshot;

use crate::client::HttpClient;

/// The longest wait for a gateway to be ready, or to end: far above every figure, so that only a broken one meets it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The lines of its log that are shown when it fails.
const LOG_LINES_KEPT: usize = 20;

/// A configuration, and the folder that it is in.
pub(crate) struct Setup<'a> {
    /// Where `sluicegate.toml` and `data` are.
    pub(crate) folder: &'a Path,
    /// What follows `[gateway]` in the configuration.
    pub(crate) sections: String,
    /// Variables of its environment, for secrets.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// How long it may take to finish what it has accepted.
    pub(crate) grace_s: u32,
}

impl<'a> Setup<'a> {
    pub(crate) fn new(folder: &'a Path, sections: impl Into<String>) -> Self {
        Self {
            folder,
            sections: sections.into(),
            environment: Vec::new(),
            grace_s: 10,
        }
    }

    /// Starts a gateway and waits until `/ready` says yes.
    pub(crate) async fn start(&self) -> anyhow::Result<Gateway> {
        let config = format!(
            "[gateway]\nlisten = \"127.0.0.1:0\"\ndata = \"data\"\ngrace_s = {}\n\n{}\n",
            self.grace_s, self.sections
        );
        std::fs::write(self.folder.join("sluicegate.toml"), config)?;
        let mut command = self.command()?;
        let began = Instant::now();
        let mut child = command.spawn().context("the gateway could not be started")?;
        let (Some(stderr), Some(stdin)) = (child.stderr.take(), child.stdin.take()) else {
            bail!("the gateway has no pipes")
        };
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let (address_tx, address_rx) = oneshot::channel();
        tokio::spawn(keep(BufReader::new(stderr).lines(), Arc::clone(&log), address_tx));
        let Ok(Ok(address)) = tokio::time::timeout(PATIENCE, ready(address_rx)).await else {
            bail!("the gateway is not ready; it said:\n{}", joined(&log))
        };
        let ready_after = began.elapsed();
        Ok(Gateway {
            child,
            address,
            ready_after,
            log,
            _stdin: stdin,
        })
    }

    fn command(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(binary()?);
        command.arg("run").current_dir(self.folder).env_clear();
        for name in ["PATH", "HOME"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Ok(command)
    }
}

/// Returns the `sluicegate` beside this program: of the same profile.
pub(crate) fn binary() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(format!("sluicegate{}", std::env::consts::EXE_SUFFIX));
    if !path.is_file() {
        bail!(
            "{} is missing: run `cargo build --release` at the root first",
            path.display()
        );
    }
    Ok(path)
}

/// Returns whether the host's source was changed after the binary was built: `cargo run -p bench` does not build it.
pub(crate) fn is_outdated(binary: &Path) -> bool {
    let built = std::fs::metadata(binary).and_then(|metadata| metadata.modified());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtime/src");
    built.is_ok_and(|built| last_change(&source).is_some_and(|changed| changed > built))
}

/// Returns when the newest file below a folder was changed; none where there is no such folder.
fn last_change(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let times = entries.filter_map(|entry| match entry.metadata().ok()? {
        metadata if metadata.is_dir() => last_change(&entry.path()),
        metadata => metadata.modified().ok(),
    });
    times.max()
}

/// Learns where it listens from what it says, then asks until it is ready.
async fn ready(address: oneshot::Receiver<SocketAddr>) -> anyhow::Result<SocketAddr> {
    let address = address.await.context("it ended")?;
    // The port is bound: a request made now is answered as soon as anything is.
    while HttpClient::connect(address).await?.get("/ready").await? != 200 {}
    Ok(address)
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://")?;
    let end = rest
        .find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c)))
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

fn push(log: &mut VecDeque<String>, line: String) {
    if log.len() == LOG_LINES_KEPT {
        log.pop_front();
    }
    log.push_back(line);
}

fn joined(log: &Mutex<VecDeque<String>>) -> String {
    let log = log.lock().unwrap_or_else(PoisonError::into_inner);
    log.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
}

/// Reads its log until it ends, so that it never waits for a reader, and tells the first address in it.
async fn keep(
    mut lines: Lines<BufReader<ChildStderr>>,
    log: Arc<Mutex<VecDeque<String>>>,
    address_tx: oneshot::Sender<SocketAddr>,
) {
    let mut address_tx = Some(address_tx);
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(address) = address_in(&line)
            && let Some(address_tx) = address_tx.take()
        {
            // Nobody waits any more where its time was up.
            let _ = address_tx.send(address);
        }
        push(&mut log.lock().unwrap_or_else(PoisonError::into_inner), line);
    }
}

/// A running gateway. Dropping it kills it.
pub(crate) struct Gateway {
    child: Child,
    address: SocketAddr,
    ready_after: Duration,
    log: Arc<Mutex<VecDeque<String>>>,
    /// Held open: the end of its input would end a gateway with a terminal.
    _stdin: ChildStdin,
}

impl Gateway {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the time from its start until `/ready` answered 200.
    pub(crate) fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Returns its resident memory, MiB.
    pub(crate) fn resident_mib(&self) -> anyhow::Result<f64> {
        let id = self.child.id().context("the gateway has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .context("the kernel tells its memory")?;
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib / 1024.0)
    }

    /// Stops it as an operator would, and waits for its end.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let id = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        kill_process(id.context("the gateway has ended")?, Signal::TERM)?;
        let Ok(status) = tokio::time::timeout(PATIENCE, self.child.wait()).await else {
            bail!("the gateway does not stop; it said:\n{}", self.said())
        };
        let status = status?;
        if !status.success() {
            bail!("the gateway ended with {status}; it said:\n{}", self.said());
        }
        Ok(())
    }

    /// Returns the end of its log.
    fn said(&self) -> String {
        joined(&self.log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_wherever_it_stands_in_a_line() {
        let expected = Some(SocketAddr::from(([127, 0, 0, 1], 40123)));
        assert_eq!(
            address_in("sluicegate 0.1.0 on http://127.0.0.1:40123, data in data"),
            expected
        );
        assert_eq!(address_in("http://127.0.0.1:40123"), expected);
        assert_eq!(address_in("see http://example.org/"), None);
        assert_eq!(address_in("nothing"), None);
    }
}
