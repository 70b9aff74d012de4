//! From a configuration to a gateway that is ready to run: data directory, port, components, channels, agents.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::error::Error;
use super::setup::{Ready, Setup};
use super::summary::{ChannelSummary, Summary};
use super::switchboard::{Line, Switchboard};
use super::{Gateway, agents};
use crate::agent::AgentTable;
use crate::bus::Bus;
use crate::channel::{
    Channel, ChannelBounds, ChannelLog, Clients, CodeCache, ComponentEngine, LoadedComponent, Services, Share, Usage,
};
use crate::clock::{Clock, SystemClock};
use crate::component::Inspection;
use crate::config::{ChannelConfig, ComponentSource, Config, ConfigError, Fault, FaultKind};
use crate::delivery::{Drafts, Guarantees};
use crate::egress::{ChannelEgress, Gate, GateSettings};
use crate::http::AdminToken;
use crate::id::ChannelName;
use crate::store::EventStore;
use crate::store::sqlite::SqliteStore;

impl Gateway {
    /// Takes everything that a gateway needs and checks that it fits together. Nothing of it runs yet.
    ///
    /// # Errors
    /// Whatever is wrong, before anything was started; see [`Error`].
    pub async fn prepare(config: Config) -> Result<Self, Error> {
        let listener = listen(&config).await?;
        let address = listener.local_addr().map_err(|source| Error::Listen {
            address: config.gateway.listen,
            source,
        })?;
        let data = config.gateway.data.clone();
        let store = open_store(&data).await?;
        let token = AdminToken::load_or_create(&data.join("admin-token")).map_err(|source| Error::File {
            path: data.join("admin-token"),
            source,
        })?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (bus, drafts) = (Bus::new(), Drafts::default());
        let switchboard = Arc::new(Switchboard::new(drafts.clone(), bus.clone(), clock.clone()));
        let shared = Shared {
            store: store.clone(),
            bus: bus.clone(),
            clock: clock.clone(),
            gate: gate()?,
        };
        let components = load_components(&config, &data.join("cache")).await?;
        let (lines, mut warnings) = shared.connect(&config, &components)?;
        let made = agents::make_all(&config.agents).await?;
        let table = AgentTable::new();
        for (name, channel) in &config.channels {
            if let Some(chosen) = made.get(&channel.agent) {
                table.set(name.clone(), chosen.agent.clone());
            }
        }
        if !address.ip().is_loopback() && config.gateway.public_url.is_none() {
            warnings.push(format!("anyone who reaches {address} can talk to the serving channels"));
        }
        lines.into_iter().for_each(|line| switchboard.add(line));
        let summary = Summary {
            address,
            data,
            channels: summarised(&config, &components, switchboard.default_serving_name().as_ref()),
            agents: made
                .iter()
                .map(|(name, it)| (name.clone(), it.agent.describe(), it.why.clone()))
                .collect(),
            warnings,
        };
        Ok(Self {
            listener,
            address,
            store,
            bus,
            clock,
            switchboard,
            agents: table,
            drafts,
            token,
            public_url: config.gateway.public_url,
            grace: config.gateway.grace,
            summary,
        })
    }
}

/// What all channels share.
struct Shared {
    store: Arc<dyn EventStore>,
    bus: Bus,
    clock: Arc<dyn Clock>,
    gate: Arc<Gate>,
}

impl Shared {
    /// Makes the channels, or reports everything that is wrong with any of them.
    fn connect(
        &self,
        config: &Config,
        components: &BTreeMap<ChannelName, Arc<LoadedComponent>>,
    ) -> Result<(Vec<Line>, Vec<String>), Error> {
        let (mut lines, mut warnings, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        let mut terminal: Option<&ChannelName> = None;
        for (name, channel) in &config.channels {
            let Some(component) = components.get(name) else {
                continue;
            };
            let shutdown = CancellationToken::new();
            match Setup::new(name, channel, component.inspection()).check(shutdown.clone()) {
                Ok(ready) => {
                    if ready.terminal
                        && let Some(other) = terminal.replace(name)
                    {
                        faults.push(second_terminal(name, other));
                    }
                    warnings.extend(ready.warnings.iter().cloned());
                    lines.push(self.line(name, channel, component.clone(), ready, shutdown));
                }
                Err(found) => faults.extend(found),
            }
        }
        if faults.is_empty() {
            Ok((lines, warnings))
        } else {
            Err(located(config, faults))
        }
    }

    fn line(
        &self,
        name: &ChannelName,
        config: &ChannelConfig,
        component: Arc<LoadedComponent>,
        ready: Ready,
        shutdown: CancellationToken,
    ) -> Line {
        let inspection = component.inspection();
        let guarantees = Guarantees {
            deduplicates_for: inspection
                .deduplicates_for_s
                .map(|seconds| Duration::from_secs(seconds.into())),
            reconciles: inspection.offers("reconciliation"),
            ambiguous_resends: config.ambiguous_resends,
        };
        let bounds = ChannelBounds {
            memory_bytes_max: config.limits.memory_mib as usize * 1024 * 1024,
            deliver_timeout: Duration::from_secs(config.limits.call_timeout_s.into()),
            ..ChannelBounds::default()
        };
        let services = Arc::new(Services {
            name: name.clone(),
            store: self.store.clone(),
            bus: self.bus.clone(),
            clock: self.clock.clone(),
            egress: ChannelEgress::new(self.gate.clone(), ready.egress),
            settings: ready.settings,
            access: ready.access,
            clients: Clients::default(),
            log: ChannelLog::default(),
            usage: Usage::default(),
            share: Share::default(),
            terminal: ready.terminal,
            listening: shutdown.child_token(),
            shutdown,
        });
        Line::new(Channel::new(component, services, bounds), ready.verifier, guarantees)
    }
}

async fn listen(config: &Config) -> Result<TcpListener, Error> {
    let address = config.gateway.listen;
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => Error::PortTaken(address),
        _ => Error::Listen { address, source },
    })
}

async fn open_store(data: &Path) -> Result<Arc<dyn EventStore>, Error> {
    let folder = data.to_owned();
    let opened = tokio::task::spawn_blocking(move || SqliteStore::open(&folder)).await;
    Ok(Arc::new(opened.map_err(|error| Error::Machine(error.to_string()))??))
}

fn gate() -> Result<Arc<Gate>, Error> {
    Ok(Arc::new(
        Gate::new(GateSettings::default()).map_err(|error| Error::Machine(error.to_string()))?,
    ))
}

/// Loads every component that a channel names, each once. All that can't be loaded are reported together.
async fn load_components(config: &Config, cache: &Path) -> Result<BTreeMap<ChannelName, Arc<LoadedComponent>>, Error> {
    let cache = CodeCache::open(cache).map_err(|source| Error::File {
        path: cache.to_owned(),
        source,
    })?;
    let engine = ComponentEngine::new(Some(cache)).map_err(|error| Error::Machine(error.to_string()))?;
    let mut loaded: BTreeMap<String, Arc<LoadedComponent>> = BTreeMap::new();
    let (mut components, mut faults) = (BTreeMap::new(), Vec::new());
    for (name, channel) in &config.channels {
        let source = channel.component.to_string();
        if let Some(component) = loaded.get(&source) {
            components.insert(name.clone(), component.clone());
            continue;
        }
        match load(&engine, &channel.component).await {
            Ok(component) => {
                loaded.insert(source, component.clone());
                components.insert(name.clone(), component);
            }
            Err((problem, remedy)) => {
                let key = format!("channels.{name}.component");
                faults.push(Fault {
                    kind: FaultKind::WrongValue,
                    file: None,
                    line: None,
                    key,
                    problem,
                    remedy,
                });
            }
        }
    }
    if faults.is_empty() {
        Ok(components)
    } else {
        Err(located(config, faults))
    }
}

async fn load(engine: &ComponentEngine, source: &ComponentSource) -> Result<Arc<LoadedComponent>, (String, String)> {
    let wasm = match source {
        ComponentSource::Bundled(name) => {
            let bundled = sluicegate_bundle::find(name).map(|bundled| bundled.wasm.to_vec());
            bundled.ok_or_else(|| {
                (
                    format!("no component `{name}` is bundled"),
                    "`sluicegate component list` shows all".into(),
                )
            })?
        }
        ComponentSource::File(path) => tokio::fs::read(path).await.map_err(|error| {
            (
                format!("{} can't be read: {error}", path.display()),
                "name a readable .wasm file".into(),
            )
        })?,
    };
    LoadedComponent::load(engine, &wasm).await.map_err(|error| {
        (
            error.to_string(),
            format!("`sluicegate component inspect {source}` says more; use another build of it"),
        )
    })
}

fn second_terminal(name: &ChannelName, other: &ChannelName) -> Fault {
    Fault {
        kind: FaultKind::Contradiction,
        file: None,
        line: None,
        key: format!("channels.{name}.component"),
        problem: format!("the channel `{other}` has this process's terminal already"),
        remedy: "keep one of them".into(),
    }
}

fn located(config: &Config, mut faults: Vec<Fault>) -> Error {
    for fault in &mut faults {
        fault.file.clone_from(&config.file);
    }
    Error::Channels(ConfigError { faults })
}

fn summarised(
    config: &Config,
    components: &BTreeMap<ChannelName, Arc<LoadedComponent>>,
    serves_by_default: Option<&ChannelName>,
) -> Vec<ChannelSummary> {
    let channels = config.channels.iter().filter_map(|(name, channel)| {
        let inspection = components.get(name)?.inspection();
        Some(ChannelSummary {
            name: name.to_string(),
            component: channel.component.to_string(),
            terminal: inspection.terminal,
            agent: channel.agent.clone(),
            paths: paths(name, inspection, serves_by_default),
        })
    });
    channels.collect()
}

fn paths(name: &ChannelName, inspection: &Inspection, serves_by_default: Option<&ChannelName>) -> Vec<String> {
    let mut paths = Vec::new();
    if inspection.offers("connections") {
        paths.push(if serves_by_default == Some(name) {
            "/ws".to_owned()
        } else {
            format!("/ws/{name}")
        });
    }
    if inspection.offers("webhook") {
        paths.push(format!("/hooks/{name}"));
    }
    paths
}
