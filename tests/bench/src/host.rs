//! The host's cost of one delivery: the whole of `Channel::deliver` with everything that bounds and serves a guest,
//! beside the same guest in a bare wasmtime, in turns.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use sluicegate::bus::Bus;
use sluicegate::channel::{Channel, ChannelBounds, CodeCache, Compilation, ComponentEngine, LoadedComponent, Status};
use sluicegate::clock::SystemClock;
use sluicegate::component::CompileBounds;
use sluicegate::delivery::DeliveryRequest;
use sluicegate::egress::{ChannelEgress, ChannelSettings, EgressLimits, Evidence, Gate, GateSettings};
use sluicegate::event::{Action, Conversation, ConversationKind, OutboundEvent, Purpose};
use sluicegate::guest::bindings::exports::sluicegate::channel::delivery::{GuestIndices, OutboundMessage};
use sluicegate::guest::{Allowance, ChannelLog, Clients, Crowd, Relay, Services, Share, Usage};
use sluicegate::id::{ChannelName, DeliveryKey, EventId};
use sluicegate::limit;
use sluicegate::policy::{Access, Grants};
use sluicegate::secret::Keyring;
use sluicegate::store::sqlite::SqliteStore;
use sluicegate::store::{EventStore as _, Quota};
use tokio_util::sync::CancellationToken;
use wasmtime::component::{Component, InstancePre, Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::report::Report;
use crate::sample::Sample;

/// The guest that confirms at once.
const NOOP: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/noop.wasm"));
/// Deliveries of one side before the other has its turn: short, so that both see the same machine.
const IN_A_ROW: usize = 50;

/// Measures `host.deliver_fresh_us` and `host.floor_us`.
pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let rounds = if report.quick { 20 } else { 100 };
    let folder = tempfile::tempdir_in(".")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let path = folder.path().to_owned();
    // On a worker thread, where the gateway's deliveries run too.
    let (host, floor) = runtime.block_on(async { tokio::spawn(measure(path, rounds)).await })??;
    report.figure("host.deliver_fresh_us", host.median_ms() * 1000.0, "us");
    report.figure("host.floor_us", floor.median_ms() * 1000.0, "us");
    Ok(())
}

async fn measure(folder: std::path::PathBuf, rounds: usize) -> anyhow::Result<(Sample, Sample)> {
    let store = Arc::new(SqliteStore::open(&folder.join("data"))?);
    let engine = engine(&folder)?;
    let component = LoadedComponent::load(&engine, NOOP).await?;
    let channel = channel(component, BTreeMap::new(), Arc::clone(&store))?;
    let bare = Bare::new().map_err(plain)?;
    let (mut host, mut floor) = (Sample::default(), Sample::default());
    // The first round warms both sides up and is not counted.
    for round in 0..=rounds {
        for number in 0..IN_A_ROW {
            let request = request(round * IN_A_ROW + number);
            let began = Instant::now();
            let attempt = channel.deliver(request, Evidence::default()).await;
            let took = began.elapsed();
            if let Err(failed) = attempt.result {
                bail!("the delivery failed: {failed:?}");
            }
            if round > 0 {
                host.add(took);
            }
        }
        for number in 0..IN_A_ROW {
            let message: OutboundMessage = request(round * IN_A_ROW + number).into();
            let began = Instant::now();
            bare.deliver(&message).await.map_err(plain)?;
            let took = began.elapsed();
            if round > 0 {
                floor.add(took);
            }
        }
    }
    store.close().await?;
    Ok((host, floor))
}

/// An engine as the gateway's, with what is compiled kept in a folder.
pub(crate) fn engine(folder: &Path) -> anyhow::Result<ComponentEngine> {
    let compilation = Compilation::by(crate::gateway::binary()?, CompileBounds::default());
    let cache = CodeCache::open(&folder.join("cache"))?;
    Ok(ComponentEngine::new(compilation, Some(cache))?)
}

/// A channel as the gateway makes it: bounds, a grant, egress, a durable store, a log.
pub(crate) fn channel(
    component: Arc<LoadedComponent>,
    settings: BTreeMap<String, String>,
    store: Arc<SqliteStore>,
) -> anyhow::Result<Channel> {
    let gate = Arc::new(Gate::new(GateSettings::default())?);
    let shutdown = CancellationToken::new();
    let granted = "https://api.example.org".parse().context("an endpoint to grant")?;
    let egress = ChannelSettings {
        grants: Grants::new(Vec::new(), [granted]),
        keyring: Keyring::new(BTreeMap::new()),
        limits: EgressLimits::default(),
        shutdown: shutdown.clone(),
    };
    let services = Services {
        name: ChannelName::from_trusted("bench"),
        store,
        quota: Quota::default(),
        inbound: Allowance::per_minute(limit::MESSAGES_PER_MINUTE_DEFAULT),
        bus: Bus::new(),
        clock: Arc::new(SystemClock),
        egress: ChannelEgress::new(gate, egress),
        settings,
        access: Access::Open,
        clients: Clients::default(),
        relay: Relay::default(),
        log: ChannelLog::default(),
        refusals: ChannelLog::default(),
        usage: Usage::default(),
        share: Share::among(Crowd::on_cores(2), limit::CHANNEL_CPU_PERCENT_DEFAULT),
        terminal: false,
        listening: shutdown.child_token(),
        shutdown,
    };
    let channel = Channel::new(component, Arc::new(services), ChannelBounds::default());
    channel.set_status(Status::Up);
    Ok(channel)
}

/// A message of the usual size.
pub(crate) fn request(number: usize) -> DeliveryRequest {
    let cause = EventId::from_trusted(format!("evt_{number:032x}"));
    let event = OutboundEvent {
        key: DeliveryKey::of_turn(&cause, 0),
        channel: ChannelName::from_trusted("bench"),
        conversation: Conversation {
            id: "conversation-1".to_owned(),
            thread: None,
            kind: ConversationKind::Direct,
            title: None,
        },
        action: Action::Send,
        purpose: Purpose::Answer,
        in_reply_to: Some(format!("message-{number}")),
        text: "All work and no play makes a gateway dull. ".repeat(6),
        attachments: Vec::new(),
        choices: Vec::new(),
        cause: Some(cause),
        extra: Vec::new(),
    };
    DeliveryRequest {
        event,
        attempt: 1,
        already_sent: Vec::new(),
        draft_id: None,
    }
}

/// The same guest in a wasmtime with its defaults: no limits, no deadline, no services.
struct Bare {
    engine: Engine,
    pre: InstancePre<BareGuest>,
    delivery: GuestIndices,
}

/// What WASI itself needs, and nothing else.
struct BareGuest {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for BareGuest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl Bare {
    fn new() -> wasmtime::Result<Self> {
        let engine = Engine::default();
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        // It calls nothing of the contract, so it imports nothing of it either.
        let pre = linker.instantiate_pre(&Component::from_binary(&engine, NOOP)?)?;
        let delivery = GuestIndices::new(&pre)?;
        Ok(Self { engine, pre, delivery })
    }

    async fn deliver(&self, message: &OutboundMessage) -> wasmtime::Result<()> {
        let guest = BareGuest {
            wasi: WasiCtx::builder().build(),
            table: ResourceTable::new(),
        };
        let mut store = Store::new(&self.engine, guest);
        let instance = self.pre.instantiate_async(&mut store).await?;
        let guest = self.delivery.load(&mut store, &instance)?;
        match guest.call_deliver(&mut store, message).await? {
            Ok(_receipt) => Ok(()),
            Err(failed) => wasmtime::bail!("the delivery failed: {failed:?}"),
        }
    }
}

/// wasmtime's error type is its own.
fn plain(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}
