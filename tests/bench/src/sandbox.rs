//! What the sandbox costs, and what it is worth: a neighbour's round trip under attack, a request through the gate
//! beside one without it, and the memory of a channel that only listens.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sluicegate::egress::{Body, ChannelEgress, ChannelSettings, EgressLimits, Evidence, Gate, GateSettings, Request};
use sluicegate::id::ChannelName;
use sluicegate::policy::Grants;
use sluicegate::policy::webhook::PathTokens;
use sluicegate::secret::Keyring;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client::{HttpClient, WsClient};
use crate::gateway::{Gateway, Setup};
use crate::peer::{Kind, Peer};
use crate::report::Report;
use crate::sample::Sample;

/// The guest with all the attacks.
const HOSTILE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hostile.wasm"));
/// The guest whose listener only waits.
const IDLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/idle.wasm"));

/// What the eight hostile channels do, each without end: the attack, and whether its argument is the endless server.
const ATTACKS: [(&str, bool); 8] = [
    ("spin", false),
    ("allocate", false),
    ("log_flood", false),
    ("panic", false),
    ("clients_flood", false),
    ("reply", false),
    ("http", true),
    ("streams", true),
];
/// Callers of each hostile channel: more than the host runs at once for a channel would only wait.
const CALLERS: usize = 2;
/// Attack before the first round trip counts: longer than the burst that a channel may use before its share holds it.
const WARM_UP: Duration = Duration::from_secs(4);
const TEXT: &str = "All work and no play makes a gateway dull.";
/// How long after it is ready a gateway with many channels counts as idle.
const SETTLING: Duration = Duration::from_secs(2);
/// Requests of one side before the other has its turn: short, so that both see the same machine.
const IN_A_ROW: usize = 50;

/// Measures `sandbox.noisy_neighbour_*`: the round trips of a peaceful channel beside eight hostile ones, first while
/// those are left alone and then while all of them attack.
pub(crate) async fn noisy_neighbour(report: &mut Report) -> anyhow::Result<()> {
    let messages = if report.quick { 400 } else { 2000 };
    let folder = tempfile::tempdir_in(".")?;
    let endless = Peer::start(Kind::Endless).await?;
    let gateway = hostile_gateway(folder.path(), endless.address()).await?;
    let mut client = WsClient::connect(gateway.address(), "bench").await?;
    round_trips(&mut client, messages / 10).await?;
    let quiet = round_trips(&mut client, messages).await?;
    let is_over = Arc::new(AtomicBool::new(false));
    // As the gateway makes them: what is not signed is reached by its token.
    let tokens = PathTokens::new(&std::fs::read_to_string(folder.path().join("data/webhook-key"))?);
    let mut attackers = attack(gateway.address(), endless.address(), &tokens, &is_over);
    tokio::time::sleep(WARM_UP).await;
    let noisy = round_trips(&mut client, messages).await?;
    is_over.store(true, Ordering::Relaxed);
    let mut calls = 0;
    while let Some(ended) = attackers.join_next().await {
        calls += ended??;
    }
    report.figure("sandbox.quiet_p99_ms", quiet.quantile_ms(0.99), "ms");
    report.figure("sandbox.noisy_p99_ms", noisy.quantile_ms(0.99), "ms");
    let ratio = noisy.quantile_ms(0.99) / quiet.quantile_ms(0.99);
    report.figure("sandbox.noisy_neighbour_p99_ratio", ratio, "ratio");
    report.figure(
        "sandbox.noisy_neighbour_p50_ratio",
        noisy.median_ms() / quiet.median_ms(),
        "ratio",
    );
    report.figure("sandbox.attacks", f64::from(calls), "calls");
    gateway.stop().await
}

async fn hostile_gateway(folder: &Path, endless: SocketAddr) -> anyhow::Result<Gateway> {
    let component = written(folder, "hostile.wasm", HOSTILE)?;
    let mut sections = "[agents.main]\nkind = \"echo\"\n\n\
         [channels.websocket]\ncomponent = \"websocket\"\naccess = \"open\"\n"
        .to_owned();
    for number in 0..ATTACKS.len() {
        write!(
            sections,
            "\n[channels.hostile-{number}]\ncomponent = \"{}\"\naccess = \"open\"\n\
             grant = [\"http://{endless}\"]\nsecrets = {{ token = {{ env = \"HOSTILE_TOKEN\" }} }}\n",
            component.display()
        )?;
    }
    let setup = Setup {
        environment: vec![("HOSTILE_TOKEN", "a-token-that-is-no-one's".to_owned())],
        // An attack that is still running is not waited for.
        grace_s: 0,
        ..Setup::new(folder, sections)
    };
    setup.start().await
}

/// Keeps every hostile channel attacking until it is over. Each task returns how many calls were answered.
fn attack(
    gateway: SocketAddr,
    endless: SocketAddr,
    tokens: &PathTokens,
    is_over: &Arc<AtomicBool>,
) -> JoinSet<anyhow::Result<u32>> {
    let mut attackers = JoinSet::new();
    for (number, (name, takes_server)) in ATTACKS.into_iter().enumerate() {
        let argument = match (name, takes_server) {
            (_, true) => format!("http://{endless}/endless"),
            ("reply", _) => "body=900000".to_owned(),
            _ => String::new(),
        };
        for _ in 0..CALLERS {
            let token = tokens.of(&ChannelName::from_trusted(format!("hostile-{number}")));
            let path = format!("/hooks/hostile-{number}/{}/{name}?{argument}", token.expose());
            attackers.spawn(call_until_over(gateway, path, Arc::clone(is_over)));
        }
    }
    attackers
}

async fn call_until_over(gateway: SocketAddr, path: String, is_over: Arc<AtomicBool>) -> anyhow::Result<u32> {
    let mut client = HttpClient::connect(gateway).await?;
    let mut calls = 0;
    while !is_over.load(Ordering::Relaxed) {
        match client.post(&path, "").await {
            Ok(_status) => calls += 1,
            // The gateway may close a connection after an answer; the attack goes on over another one.
            Err(_closed) => client = HttpClient::connect(gateway).await?,
        }
    }
    Ok(calls)
}

async fn round_trips(client: &mut WsClient, messages: usize) -> anyhow::Result<Sample> {
    let mut sample = Sample::default();
    for _ in 0..messages {
        sample.add(client.ask(TEXT).await?);
    }
    Ok(sample)
}

/// Measures `sandbox.egress_*`: a small GET through the gate, and the same from bare reqwest, each over one kept
/// connection to the same server, in turns.
pub(crate) async fn egress(report: &mut Report) -> anyhow::Result<()> {
    let rounds = if report.quick { 20 } else { 100 };
    let server = Peer::start(Kind::Floor).await?;
    // The route is the floor's webhook; it answers whatever is asked of it.
    let url = format!("http://{}/hooks/bench", server.address());
    // On a worker thread, where the gateway's requests run too.
    let (gated, bare) = tokio::spawn(both_ways(url, rounds)).await??;
    let (gated_us, bare_us) = (gated.median_ms() * 1000.0, bare.median_ms() * 1000.0);
    report.figure("sandbox.egress_gated_us", gated_us, "us");
    report.figure("sandbox.egress_bare_us", bare_us, "us");
    report.figure("sandbox.egress_overhead_us", gated_us - bare_us, "us");
    Ok(())
}

async fn both_ways(url: String, rounds: usize) -> anyhow::Result<(Sample, Sample)> {
    let egress = egress_to(&url)?;
    let client = bare_client()?;
    let (mut gated, mut bare) = (Sample::default(), Sample::default());
    // The first round warms both sides up and is not counted.
    for round in 0..=rounds {
        for _ in 0..IN_A_ROW {
            let request = Request {
                method: "GET".to_owned(),
                url: url.clone(),
                headers: vec![("authorization".to_owned(), "Bearer no-secret".to_owned())],
                body: Body::Empty,
                timeout: None,
            };
            let evidence = Evidence::default();
            let began = Instant::now();
            let answer = egress.send(request, &evidence).await;
            let took = began.elapsed();
            let answer = answer.map_err(|error| anyhow::anyhow!("the gate answered {error:?}"))?;
            anyhow::ensure!(answer.status == 200, "the server answered {}", answer.status);
            if round > 0 {
                gated.add(took);
            }
        }
        for _ in 0..IN_A_ROW {
            let began = Instant::now();
            let answer = client
                .get(&url)
                .header("authorization", "Bearer no-secret")
                .send()
                .await?;
            let status = answer.status();
            answer.bytes().await?;
            let took = began.elapsed();
            anyhow::ensure!(status == 200, "the server answered {status}");
            if round > 0 {
                bare.add(took);
            }
        }
    }
    Ok((gated, bare))
}

/// The floor: reqwest as it comes, with the same TLS library although nothing here is encrypted.
fn bare_client() -> anyhow::Result<reqwest::Client> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(reqwest::Client::builder()
        .no_proxy()
        .tls_backend_preconfigured(tls)
        .build()?)
}

/// A channel's way out to the server alone.
fn egress_to(url: &str) -> anyhow::Result<Arc<ChannelEgress>> {
    let endpoint = url.split_once("/hooks").context("the URL of the floor")?.0;
    let (asked, granted) = (endpoint.parse()?, endpoint.parse().context("an endpoint to grant")?);
    let settings = ChannelSettings {
        grants: Grants::new(vec![asked], [granted]),
        keyring: Keyring::new(BTreeMap::new()),
        limits: EgressLimits::default(),
        shutdown: CancellationToken::new(),
    };
    Ok(ChannelEgress::new(
        Arc::new(Gate::new(GateSettings::default())?),
        settings,
    ))
}

/// Measures `sandbox.idle_channel_kib`: what a gateway with many channels holds more than one with a single channel.
pub(crate) async fn idle_channels(report: &mut Report) -> anyhow::Result<()> {
    let channels = if report.quick { 200 } else { 1000 };
    let one = idle_resident_mib(1).await?;
    let many = idle_resident_mib(1 + channels).await?;
    let each = (many - one) * 1024.0 / channels as f64;
    report.figure("sandbox.idle_channel_kib", each, "KiB");
    Ok(())
}

async fn idle_resident_mib(channels: usize) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir_in(".")?;
    let component = written(folder.path(), "idle.wasm", IDLE)?;
    let mut sections = "[agents.main]\nkind = \"echo\"\n".to_owned();
    for number in 0..channels {
        write!(
            sections,
            "\n[channels.idle-{number}]\ncomponent = \"{}\"\naccess = \"open\"\n",
            component.display()
        )?;
    }
    let setup = Setup::new(folder.path(), sections);
    // The first start compiles: what the compiler used would be counted too.
    setup.start().await?.stop().await?;
    let gateway = setup.start().await?;
    tokio::time::sleep(SETTLING).await;
    let resident = gateway.resident_mib()?;
    gateway.stop().await?;
    Ok(resident)
}

/// Writes a component beside the configuration, and returns its whole path.
fn written(folder: &Path, name: &str, wasm: &[u8]) -> anyhow::Result<PathBuf> {
    let path = std::path::absolute(folder.join(name))?;
    std::fs::write(&path, wasm)?;
    Ok(path)
}
