//! What a backlog means to the real binary: how soon it delivers after its start, what it holds in memory, and whether
//! stuck lanes delay healthy ones.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};

use crate::client::HttpClient;
use crate::delivery::{CHANNEL, fill, rate};
use crate::gateway::{Gateway, Setup};
use crate::report::Report;
use crate::sample::Sample;

/// Messages that wait in each lane of a backlog.
const LANE_DEPTH: u64 = 20;
/// Lanes whose messages the platform never takes.
const STUCK_LANES: u64 = 1000;
/// Conversations that go on beside them.
const HEALTHY_CLIENTS: usize = 4;
/// Messages before the first that counts: some two seconds, in which a channel at this pace uses up what CPU time it may use
/// at once.
const WARM_UP: Duration = Duration::from_secs(3);
/// The longest wait for one delivery: far above every figure, so that only a broken gateway meets it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the memory of a gateway is looked at.
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// A platform that answers are posted to. It refuses those for conversations whose name begins with `stuck`.
#[derive(Default)]
struct Platform {
    taken: AtomicU64,
    refused: AtomicU64,
    changed: Notify,
    waiting: Mutex<HashMap<String, oneshot::Sender<Instant>>>,
}

impl Platform {
    async fn start() -> anyhow::Result<(Arc<Self>, SocketAddr)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let platform = Arc::new(Self::default());
        let routes = Router::new().route("/", post(take)).with_state(Arc::clone(&platform));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok((platform, address))
    }

    /// Waits until a counter has reached a number.
    async fn wait_for(&self, counter: &AtomicU64, number: u64) -> anyhow::Result<()> {
        let reached = async {
            loop {
                let changed = self.changed.notified();
                if counter.load(Ordering::Relaxed) >= number {
                    break;
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, reached)
            .await
            .context("the gateway does not deliver")
    }

    fn expect(&self, conversation: &str) -> oneshot::Receiver<Instant> {
        let (taken_tx, taken_rx) = oneshot::channel();
        self.waiting().insert(conversation.to_owned(), taken_tx);
        taken_rx
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<Instant>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn take(State(platform): State<Arc<Platform>>, Json(answer): Json<Value>) -> StatusCode {
    let conversation = answer["conversation"].as_str().unwrap_or_default();
    let (counter, status) = if conversation.starts_with("stuck") {
        (&platform.refused, StatusCode::SERVICE_UNAVAILABLE)
    } else {
        (&platform.taken, StatusCode::OK)
    };
    counter.fetch_add(1, Ordering::Relaxed);
    if let Some(client) = platform.waiting().remove(conversation) {
        // It may have given up.
        let _ = client.send(Instant::now());
    }
    platform.changed.notify_waiters();
    status
}

fn setup(folder: &Path, platform: SocketAddr) -> Setup<'_> {
    let sections = format!(
        "[agents.main]\nkind = \"echo\"\n\n[channels.{CHANNEL}]\ncomponent = \"webhook\"\naccess = \"open\"\n\
         settings = {{ url = \"http://{platform}/\" }}\ngrant = [\"http://{platform}\"]"
    );
    // What still waits is not waited for at the end.
    Setup {
        grace_s: 0,
        ..Setup::new(folder, sections)
    }
}

/// A number of messages, and how it is written in a figure's name.
type Size = (u64, &'static str);

/// Measures `delivery.recovery_ms_*`, `delivery.rss_mib_*` and the rate with a large backlog over that with a small one.
/// `quick` takes a tenth of each backlog, and says so in the names.
pub(crate) async fn run(report: &mut Report) -> anyhow::Result<()> {
    let (middle, large, seconds): (Size, Size, u64) = if report.quick {
        ((10_000, "10k"), (100_000, "100k"), 2)
    } else {
        ((100_000, "100k"), (1_000_000, "1m"), 10)
    };
    let time = Duration::from_secs(seconds);
    let small = tempfile::tempdir_in(".")?;
    fill(small.path(), 1000, 1000 / LANE_DEPTH).await?;
    let rate_of_small = rate(small.path(), time).await?;
    let folder = tempfile::tempdir_in(".")?;
    prepare(folder.path(), middle.0).await?;
    let (recovery, _) = recover(folder.path(), Duration::ZERO).await?;
    report.figure(&format!("delivery.recovery_ms_{}", middle.1), recovery, "ms");
    drop(folder);
    let folder = tempfile::tempdir_in(".")?;
    prepare(folder.path(), large.0).await?;
    let rate_of_large = rate(&folder.path().join("data"), time).await?;
    report.figure("delivery.rate_at_1k", rate_of_small, "pairs/s");
    report.figure(&format!("delivery.rate_at_{}", large.1), rate_of_large, "pairs/s");
    let name = format!("delivery.rate_at_{}_over_rate_at_1k", large.1);
    report.figure(&name, rate_of_large / rate_of_small, "times");
    let (recovery, resident) = recover(folder.path(), time).await?;
    report.figure(&format!("delivery.recovery_ms_{}", large.1), recovery, "ms");
    report.figure(&format!("delivery.rss_mib_{}", large.1), resident, "MiB");
    Ok(())
}

/// Makes the data directory of a gateway that ran before, so that its compiled code is there, with a backlog.
async fn prepare(folder: &Path, pending: u64) -> anyhow::Result<()> {
    let (_platform, address) = Platform::start().await?;
    setup(folder, address).start().await?.stop().await?;
    fill(&folder.join("data"), pending, pending / LANE_DEPTH).await
}

/// Starts a gateway on a backlog. Returns the time from its start to its first delivery, milliseconds, and the most
/// memory that it held while it delivered for `time`, MiB.
async fn recover(folder: &Path, time: Duration) -> anyhow::Result<(f64, f64)> {
    let (platform, address) = Platform::start().await?;
    let setup = setup(folder, address);
    let began = Instant::now();
    let started = tokio::spawn({
        let platform = Arc::clone(&platform);
        async move {
            platform.wait_for(&platform.taken, 1).await?;
            anyhow::Ok(Instant::now())
        }
    });
    let gateway = setup.start().await?;
    let first = started.await??;
    let resident = most_memory(&gateway, time).await?;
    gateway.stop().await?;
    Ok(((first - began).as_secs_f64() * 1000.0, resident))
}

async fn most_memory(gateway: &Gateway, time: Duration) -> anyhow::Result<f64> {
    let (began, mut most) = (Instant::now(), gateway.resident_mib()?);
    while began.elapsed() < time {
        tokio::time::sleep(LOOK_PERIOD).await;
        most = most.max(gateway.resident_mib()?);
    }
    Ok(most)
}

// ---- stuck lanes

/// Measures `delivery.lane_isolation_p99_ratio`: from a webhook in to the answer at the platform, p99 over healthy
/// conversations, with a thousand others whose answers the platform refuses over none.
pub(crate) async fn isolation(report: &mut Report) -> anyhow::Result<()> {
    let messages = if report.quick { 100 } else { 500 };
    let folder = tempfile::tempdir_in(".")?;
    let (platform, address) = Platform::start().await?;
    let gateway = setup(folder.path(), address).start().await?;
    // Warm: until the CPU time is spent that a channel may use at once, so that it is slowed down as much alone as beside.
    let (began, mut round) = (Instant::now(), 0);
    while began.elapsed() < WARM_UP {
        ask(&gateway, &platform, &format!("warm-{round}"), messages / 10).await?;
        round += 1;
    }
    let alone = ask(&gateway, &platform, "alone", messages).await?;
    let mut client = HttpClient::connect(gateway.address()).await?;
    for number in 0..STUCK_LANES {
        send(&mut client, &format!("stuck-{number}"), 0).await?;
    }
    platform.wait_for(&platform.refused, STUCK_LANES).await?;
    let beside = ask(&gateway, &platform, "beside", messages).await?;
    gateway.stop().await?;
    let (alone, beside) = (alone.quantile_ms(0.99), beside.quantile_ms(0.99));
    report.figure("delivery.lane_p99_ms", alone, "ms");
    report.figure("delivery.lane_p99_ms_beside_1k_stuck", beside, "ms");
    report.figure("delivery.lane_isolation_p99_ratio", beside / alone, "times");
    Ok(())
}

/// Sends messages in healthy conversations, one at a time each, and takes the time to each answer.
async fn ask(gateway: &Gateway, platform: &Arc<Platform>, name: &str, messages: usize) -> anyhow::Result<Sample> {
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..HEALTHY_CLIENTS {
        let (platform, address) = (Arc::clone(platform), gateway.address());
        let conversation = format!("{name}-{number}");
        clients.spawn(async move {
            let mut client = HttpClient::connect(address).await?;
            let mut times = Vec::with_capacity(messages);
            for round in 0..messages {
                let taken = platform.expect(&conversation);
                let began = Instant::now();
                send(&mut client, &conversation, round).await?;
                times.push(tokio::time::timeout(PATIENCE, taken).await.context("no answer")?? - began);
            }
            anyhow::Ok(times)
        });
    }
    let mut sample = Sample::default();
    while let Some(times) = clients.join_next().await {
        times??.into_iter().for_each(|time| sample.add(time));
    }
    Ok(sample)
}

async fn send(client: &mut HttpClient, conversation: &str, round: usize) -> anyhow::Result<()> {
    let id = format!("{conversation}-{round}");
    let message = json!({ "id": id, "conversation": conversation, "sender": "bench", "text": "hi" });
    let status = client.post(&format!("/hooks/{CHANNEL}"), &message.to_string()).await?;
    anyhow::ensure!(status == 200, "a message was answered with {status}");
    Ok(())
}

// ---- soak

/// Starts on a million pending messages in 50,000 lanes, drains them all, and says what memory that takes at the
/// beginning and at the end. `quick` takes 20,000.
pub(crate) async fn soak(report: &mut Report) -> anyhow::Result<()> {
    let pending: u64 = if report.quick { 20_000 } else { 1_000_000 };
    let folder = tempfile::tempdir_in(".")?;
    prepare(folder.path(), pending).await?;
    let (platform, address) = Platform::start().await?;
    let began = Instant::now();
    let gateway = setup(folder.path(), address).start().await?;
    let mut most = [0.0_f64; 2];
    let is_over = AtomicBool::new(false);
    let watch = async {
        while !is_over.load(Ordering::Relaxed) {
            tokio::time::sleep(LOOK_PERIOD).await;
            let half = usize::from(platform.taken.load(Ordering::Relaxed) > pending / 2);
            most[half] = most[half].max(gateway.resident_mib()?);
        }
        anyhow::Ok(most)
    };
    let drained = async {
        // One that stops on the way is noticed by its next delivery being late.
        for share in 1..=100 {
            platform.wait_for(&platform.taken, pending * share / 100).await?;
        }
        is_over.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let (most, ()) = tokio::try_join!(watch, drained)?;
    let elapsed = began.elapsed().as_secs_f64();
    report.figure("soak.drained", pending as f64, "messages");
    report.figure("soak.drain_rate", pending as f64 / elapsed, "messages/s");
    report.figure("soak.rss_mib_first_half", most[0], "MiB");
    report.figure("soak.rss_mib_second_half", most[1], "MiB");
    gateway.stop().await
}
