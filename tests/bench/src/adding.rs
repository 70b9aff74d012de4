//! How soon a channel works that is added to a running gateway.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::client::HttpClient;
use crate::gateway::{self, Setup};
use crate::report::Report;
use crate::sample::Sample;
use crate::sandbox::written;

/// The guest that confirms at once.
const NOOP: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/noop.wasm"));

/// Measures `sandbox.hot_add_*`: from `sluicegate channel add` beside a running gateway, a process of its own, to the
/// first delivery of that channel that is confirmed; with a component that was compiled before, and with a new one.
pub(crate) async fn hot(report: &mut Report) -> anyhow::Result<()> {
    let channels = if report.quick { 3 } else { 10 };
    let folder = tempfile::tempdir_in(".")?;
    let gateway = Setup::new(folder.path(), "[agents.main]\nkind = \"echo\"\n")
        .start()
        .await?;
    let token = std::fs::read_to_string(folder.path().join("data/admin-token"))?;
    let mut client = HttpClient::connect(gateway.address()).await?.with_token(token.trim());
    let (mut cold, mut cached) = (Sample::default(), Sample::default());
    for number in 0..channels {
        let component = written(folder.path(), &format!("noop-{number}.wasm"), &renewed(number))?;
        cold.add(added(folder.path(), &component, &format!("cold-{number}"), &mut client).await?);
        cached.add(added(folder.path(), &component, &format!("cached-{number}"), &mut client).await?);
    }
    report.figure("sandbox.hot_add_ms", cached.median_ms(), "ms");
    report.figure("sandbox.hot_add_cold_ms", cold.median_ms(), "ms");
    report.figure("sandbox.hot_add_floor_ms", asked(folder.path()).await?, "ms");
    gateway.stop().await
}

/// The guest with another digest: a custom section that nobody reads makes it a component never seen before.
fn renewed(number: usize) -> Vec<u8> {
    const CUSTOM_SECTION: u8 = 0;
    let name = format!("{number:08}");
    let length = u8::try_from(name.len()).unwrap_or_default();
    [NOOP, &[CUSTOM_SECTION, length + 1, length], name.as_bytes()].concat()
}

/// Adds a channel as an operator would, sends a message through it, and returns how long it took until it was delivered.
async fn added(folder: &Path, component: &Path, name: &str, client: &mut HttpClient) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let arguments = ["channel", "add"].map(PathBuf::from);
    let arguments = arguments.into_iter().chain([component.to_owned(), name.into()]);
    sluicegate(folder, arguments.chain(["--open", "--yes"].map(PathBuf::from))).await?;
    let message = json!({ "channel": name, "conversation": "c1", "text": "hello" });
    let status = client.post("/api/v1/messages", &message.to_string()).await?;
    ensure!(status == 200, "the message was refused with {status}");
    let stored: Value = serde_json::from_slice(client.body())?;
    let key = stored["delivery_key"].as_str().context("a message has a key")?;
    let path = format!("/api/v1/outbox/{key}");
    while client.get(&path).await? == 200 {
        ensure!(began.elapsed() < gateway::PATIENCE, "{name} does not deliver");
    }
    Ok(began.elapsed())
}

/// Returns what the same command takes of that when there is nothing to do, ms: the start of a process, a question to the
/// gateway and its answer.
async fn asked(folder: &Path) -> anyhow::Result<f64> {
    const TIMES: usize = 10;
    let mut sample = Sample::default();
    for _ in 0..TIMES {
        let began = Instant::now();
        sluicegate(folder, ["channel", "list"].map(PathBuf::from)).await?;
        sample.add(began.elapsed());
    }
    Ok(sample.median_ms())
}

async fn sluicegate(folder: &Path, arguments: impl IntoIterator<Item = PathBuf>) -> anyhow::Result<()> {
    let mut command = Command::new(gateway::binary()?);
    let ended = command
        .args(arguments)
        .current_dir(folder)
        .kill_on_drop(true)
        .output()
        .await?;
    ensure!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    Ok(())
}
