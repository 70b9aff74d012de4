//! The path of a message through the real binary: a WebSocket round trip through the echo agent, and how many messages
//! a webhook makes durable.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{HttpClient, WsClient};
use crate::gateway::Setup;
use crate::peer::{Kind, Peer};
use crate::report::Report;
use crate::sample::{Sample, flush_ms};

const TEXT: &str = "All work and no play makes a gateway dull.";
/// Clients of the webhook, each with a connection that it keeps and a conversation of its own.
const CLIENTS: usize = 64;
/// A program that never answers, and ends at the latest a second after the gateway that started it.
const WAITING_AGENT: &str = r#"["sh", "-c", "exec tail -f --pid=$PPID /dev/null"]"#;
/// Load before the first request counts.
const WARM_UP: Duration = Duration::from_millis(500);

/// Measures `path.ws_roundtrip_*`: sequential messages of one client, each durable on both ways.
pub(crate) async fn ws(report: &mut Report) -> anyhow::Result<()> {
    let messages = if report.quick { 200 } else { 500 };
    let folder = tempfile::tempdir_in(".")?;
    report.figure("path.flush_ms", flush_ms(folder.path())?, "ms");
    let sections =
        "[agents.main]\nkind = \"echo\"\n\n[channels.websocket]\ncomponent = \"websocket\"\naccess = \"open\"";
    let gateway = Setup::new(folder.path(), sections).start().await?;
    let mut client = WsClient::connect(gateway.address(), "bench").await?;
    for _ in 0..messages / 10 {
        client.ask(TEXT).await?;
    }
    let mut sample = Sample::default();
    for _ in 0..messages {
        sample.add(client.ask(TEXT).await?);
    }
    report.figure("path.ws_roundtrip_p50_ms", sample.median_ms(), "ms");
    report.figure("path.ws_roundtrip_p99_ms", sample.quantile_ms(0.99), "ms");
    gateway.stop().await
}

/// Measures `path.webhook_rps` and its floor.
///
/// The agent is a program that only waits: 32 turns begin and hold every place there is, so that the figure is what
/// comes in durably, and neither answers nor their deliveries take a part of the machine. (An echo would make an answer
/// and a delivery of each message; a webhook without a `url` would bury each of those.)
pub(crate) async fn webhook(report: &mut Report) -> anyhow::Result<()> {
    let time = Duration::from_secs(if report.quick { 2 } else { 5 });
    let floor = Peer::start(Kind::Floor).await?;
    let rps = requests_a_second(floor.address(), time).await?;
    drop(floor);
    report.figure("path.floor_rps", rps, "requests/s");
    let folder = tempfile::tempdir_in(".")?;
    let sections = format!(
        "[agents.main]\nkind = \"command\"\ncommand = {WAITING_AGENT}\n\n\
         [channels.in]\ncomponent = \"webhook\"\naccess = \"open\""
    );
    // What waits for ever is not waited for at the end.
    let gateway = Setup {
        grace_s: 0,
        ..Setup::new(folder.path(), sections)
    }
    .start()
    .await?;
    let rps = requests_a_second(gateway.address(), time).await?;
    report.figure("path.webhook_rps", rps, "requests/s");
    gateway.stop().await
}

/// What the clients share.
#[derive(Default)]
struct Meter {
    answered: AtomicU64,
    is_over: AtomicBool,
}

/// Posts messages from all clients at once, each waiting for its answer, and counts the answers.
async fn requests_a_second(address: SocketAddr, time: Duration) -> anyhow::Result<f64> {
    let meter = Arc::new(Meter::default());
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(post_until_over(address, number, Arc::clone(&meter)));
    }
    tokio::time::sleep(WARM_UP).await;
    let (began, from) = (Instant::now(), meter.answered.load(Ordering::Relaxed));
    tokio::time::sleep(time).await;
    let answered = meter.answered.load(Ordering::Relaxed) - from;
    let elapsed = began.elapsed();
    meter.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    Ok(answered as f64 / elapsed.as_secs_f64())
}

async fn post_until_over(address: SocketAddr, number: usize, meter: Arc<Meter>) -> anyhow::Result<()> {
    let mut client = HttpClient::connect(address).await?;
    let mut sent = 0_u64;
    while !meter.is_over.load(Ordering::Relaxed) {
        let (id, conversation) = (format!("{number}-{sent}"), format!("conversation-{number}"));
        let message = json!({ "id": id, "conversation": conversation, "sender": "bench", "text": TEXT });
        let status = client.post("/hooks/in", &message.to_string()).await?;
        anyhow::ensure!(status == 200, "a message was answered with {status}");
        meter.answered.fetch_add(1, Ordering::Relaxed);
        sent += 1;
    }
    Ok(())
}
