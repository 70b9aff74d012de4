//! The path of a message with a model in it: WebSocket in, a chat completion from a model server that answers at once,
//! WebSocket out; beside that server's own time.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;

use crate::client::WsClient;
use crate::gateway::Setup;
use crate::peer::{Kind, Peer};
use crate::report::Report;
use crate::sample::{Sample, flush_ms};

const TEXT: &str = "What does a gateway do with a message?";
/// Sessions of `path.sessions16_rps`.
const SESSIONS: usize = 16;

/// Measures `path.model_*`: sequential messages of one conversation, whose history grows with them.
pub(crate) async fn roundtrip(report: &mut Report) -> anyhow::Result<()> {
    let (messages, edge) = if report.quick { (100, 25) } else { (200, 50) };
    let folder = tempfile::tempdir_in(".")?;
    let model = Peer::start(Kind::Model).await?;
    report.figure("path.model_flush_ms", flush_ms(folder.path())?, "ms");
    report.figure(
        "path.model_mock_ms",
        asked_directly(model.address(), messages).await?.median_ms(),
        "ms",
    );
    let gateway = setup(folder.path(), &model).start().await?;
    // Another conversation warms it up: the measured one begins empty.
    let mut other = WsClient::connect(gateway.address(), "warm-up").await?;
    for _ in 0..10 {
        other.ask(TEXT).await?;
    }
    let mut client = WsClient::connect(gateway.address(), "bench").await?;
    let mut sample = Sample::default();
    for _ in 0..messages {
        sample.add(client.ask(TEXT).await?);
    }
    report.figure("path.model_roundtrip_p50_ms", sample.median_ms(), "ms");
    report.figure("path.model_roundtrip_p99_ms", sample.quantile_ms(0.99), "ms");
    report.figure("path.model_roundtrip_first50_ms", sample.first(edge).median_ms(), "ms");
    report.figure("path.model_roundtrip_last50_ms", sample.last(edge).median_ms(), "ms");
    gateway.stop().await
}

/// Measures `path.sessions16_rps`: replies a second where every session has one message under way at any time.
pub(crate) async fn sessions(report: &mut Report) -> anyhow::Result<()> {
    let time = Duration::from_secs(if report.quick { 2 } else { 5 });
    let folder = tempfile::tempdir_in(".")?;
    let model = Peer::start(Kind::Model).await?;
    let gateway = setup(folder.path(), &model).start().await?;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for number in 0..SESSIONS {
        let mut client = WsClient::connect(gateway.address(), &format!("bench-{number}")).await?;
        client.ask(TEXT).await?;
        clients.push(client);
    }
    let began = Instant::now();
    let mut asking = tokio::task::JoinSet::new();
    for client in clients {
        asking.spawn(ask_until_over(client, Arc::clone(&is_over)));
    }
    tokio::time::sleep(time).await;
    is_over.store(true, Ordering::Relaxed);
    let mut replies = 0;
    while let Some(asked) = asking.join_next().await {
        replies += asked??;
    }
    report.figure(
        "path.sessions16_rps",
        replies as f64 / began.elapsed().as_secs_f64(),
        "replies/s",
    );
    gateway.stop().await
}

async fn ask_until_over(mut client: WsClient, is_over: Arc<AtomicBool>) -> anyhow::Result<u64> {
    let mut replies = 0;
    while !is_over.load(Ordering::Relaxed) {
        client.ask(TEXT).await?;
        replies += 1;
    }
    Ok(replies)
}

fn setup<'a>(folder: &'a Path, model: &Peer) -> Setup<'a> {
    let base_url = format!("http://{}/v1", model.address());
    let agent = format!("[agents.main]\nkind = \"openai\"\nbase_url = \"{base_url}\"\nmodel = \"mock\"\n\n");
    Setup::new(
        folder,
        agent + "[channels.websocket]\ncomponent = \"websocket\"\naccess = \"open\"",
    )
}

/// Asks the model server as the gateway's agent does: the same client library, the whole stream read.
async fn asked_directly(address: SocketAddr, times: usize) -> anyhow::Result<Sample> {
    // Another part of the process may have chosen the provider already: then that one counts.
    let _chosen_before = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tcp_nodelay(true)
        .tls_certs_only([])
        .build()?;
    let url = format!("http://{address}/v1/chat/completions");
    let question = json!({ "model": "mock", "stream": true, "messages": [{ "role": "user", "content": TEXT }] });
    let question = question.to_string();
    let mut sample = Sample::default();
    for asked in 0..times + times / 10 {
        let request = client
            .post(&url)
            .header("content-type", "application/json")
            .body(question.clone());
        let began = Instant::now();
        let answer = request.send().await?.error_for_status()?.bytes().await?;
        let took = began.elapsed();
        anyhow::ensure!(answer.ends_with(b"data: [DONE]\n\n"), "the model's answer was cut off");
        if asked >= times / 10 {
            sample.add(took);
        }
    }
    anyhow::Ok(sample).context("the model server was asked directly")
}
