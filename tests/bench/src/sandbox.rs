//! What the sandbox costs: a request through the gate beside one without it, and the memory of a channel that only
//! listens.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sluicegate::egress::{Body, ChannelEgress, ChannelSettings, EgressLimits, Evidence, Gate, GateSettings, Request};
use sluicegate::policy::Grants;
use sluicegate::secret::Keyring;
use tokio_util::sync::CancellationToken;

use crate::gateway::Setup;
use crate::peer::{Kind, Peer};
use crate::report::Report;
use crate::sample::Sample;

/// The guest whose listener only waits.
const IDLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/idle.wasm"));

/// How long after it is ready a gateway with many channels counts as idle.
const SETTLING: Duration = Duration::from_secs(2);
/// Requests of one side before the other has its turn: short, so that both see the same machine.
const IN_A_ROW: usize = 50;

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
pub(crate) fn written(folder: &Path, name: &str, wasm: &[u8]) -> anyhow::Result<PathBuf> {
    let path = std::path::absolute(folder.join(name))?;
    std::fs::write(&path, wasm)?;
    Ok(path)
}
