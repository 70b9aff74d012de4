//! From a configuration to a gateway that is ready to run: data directory, port, components, channels, agents.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpListener;

use super::agents::{self, Chosen};
use super::components::Purpose;
use super::error::Error;
use super::fit::{Fitted, Fitting, fit};
use super::maker::Maker;
use super::new_data::NewData;
use super::summary::{ChannelSummary, Summary};
use super::switchboard::{Line, Switchboard};
use super::{Beacon, Gateway, timekeeper};
use crate::bus::Bus;
use crate::channel::Compilation;
use crate::clock::{Clock, SteadyClock};
use crate::config::Config;
use crate::delivery::Drafts;
use crate::egress::{Gate, GateError, GateSettings};
use crate::http::AdminToken;
use crate::id::ChannelName;
use crate::store::sqlite::SqliteStore;
use crate::store::{EventStore, Marks};

impl Gateway {
    /// Takes everything that a gateway needs and checks that it fits together. Nothing of it runs yet. `is_current` tells
    /// whether the configuration is still what is written.
    ///
    /// # Errors
    /// Whatever is wrong, before anything was started; see [`Error`].
    ///
    /// # Cancel safety
    /// Dropping the future gives everything back, as an error does.
    pub async fn prepare(config: Config, is_current: impl Fn(&Config) -> bool) -> Result<Self, Error> {
        let listener = listen(&config).await?;
        let address = listener.local_addr().map_err(|source| Error::Listen {
            address: config.gateway.listen,
            source,
        })?;
        let data = &config.gateway.data;
        let steady = Arc::new(SteadyClock::default());
        // Dropped before the store: as long as that one lives nobody else takes the directory.
        let (store, mut new_data) = take_data(&config, is_current)?;
        // Before anything is done with it, it hears what time it is.
        timekeeper::note(store.as_ref(), steady.now_ms()).await;
        let token = AdminToken::load_or_create(&data.join("admin-token")).map_err(|source| Error::File {
            path: data.join("admin-token"),
            source,
        })?;
        let clock: Arc<dyn Clock> = steady.clone();
        let (bus, drafts) = (Bus::new(), Drafts::default());
        let switchboard = Arc::new(Switchboard::new(drafts.clone(), clock.clone()));
        let maker = Maker::new(
            data,
            store.clone(),
            bus.clone(),
            clock.clone(),
            gate(&config)?,
            compilation(&config)?,
        )?;
        let fitted = fit(&maker.components, &maker.tokens, &config, Purpose::Run).await;
        let fitted = fitted.map_err(Error::Channels)?;
        maker.components.tidy(&config);
        let made = agents::make_all(&config.agents).await?;
        let table = agents::table(&config.channels, &made);
        let warnings = fitted.warnings();
        connect(&maker, &switchboard, fitted);
        let summary = summed_up(&config, address, &switchboard, &made, warnings);
        let file = absolute(config.file.as_deref().unwrap_or(Path::new(crate::config::FILE_NAME)))?;
        new_data.keep();
        Ok(Self {
            listener,
            address,
            store,
            bus,
            clock,
            steady,
            switchboard,
            agents: table,
            made: made.into_iter().map(|(name, chosen)| (name, chosen.agent)).collect(),
            maker,
            file,
            drafts,
            token,
            public_url: config.gateway.public_url,
            grace: config.gateway.grace,
            summary,
        })
    }
}

/// Makes the channels of what fits together, and hands them to the switchboard.
fn connect(maker: &Maker, switchboard: &Switchboard, fitted: Fitted<'_>) {
    for channel in fitted.channels {
        let Fitting {
            name,
            config,
            component,
            ready,
        } = channel;
        switchboard.add(Arc::new(maker.connected(name, config, component, ready)));
    }
    for (name, review) in fitted.waiting {
        switchboard.set_review(&name, Some(review));
    }
}

async fn listen(config: &Config) -> Result<TcpListener, Error> {
    let address = config.gateway.listen;
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => port_taken(&config.gateway.data, address),
        _ => Error::Listen { address, source },
    })
}

/// Says who has the port, where that can be known.
fn port_taken(data: &Path, address: SocketAddr) -> Error {
    match Beacon::find(data) {
        Ok(Some(beacon)) if beacon.address.port() == address.port() => Error::AlreadyRuns {
            data: data.to_owned(),
            beacon,
        },
        _ => Error::PortTaken(address),
    }
}

/// Returns the whole path of the configuration file, with links followed where it exists.
fn absolute(file: &Path) -> Result<PathBuf, Error> {
    let failed = |source| Error::File {
        path: file.to_owned(),
        source,
    };
    let whole = std::path::absolute(file).map_err(failed)?;
    Ok(std::fs::canonicalize(&whole).unwrap_or(whole))
}

/// Opens the store, as [`open_store`] does, and looks once more whether the configuration is what is written: from here on
/// the command line asks this gateway for changes; those before it made in the file alone.
fn take_data(config: &Config, is_current: impl Fn(&Config) -> bool) -> Result<(Arc<dyn EventStore>, NewData), Error> {
    // As in `prepare`, the folders go before the store does.
    let (store, new_data) = open_store(&config.gateway.data, config.gateway.pressure)?;
    match is_current(config) {
        true => Ok((store, new_data)),
        false => Err(Error::Outdated),
    }
}

/// Opens the store. Returns with it the folders that were made for it, which go again where the start fails. Blocks, since
/// a start that is given up must not leave it half opened; nothing else runs yet that would wait for it.
fn open_store(data: &Path, marks: Marks) -> Result<(Arc<dyn EventStore>, NewData), Error> {
    let mut new_data = NewData::look_at(data);
    let opened = SqliteStore::open_within(data, marks);
    if !opened.as_ref().is_ok_and(SqliteStore::is_new) {
        // It may be somebody else's, who was faster.
        new_data.keep();
    }
    Ok((Arc::new(opened?), new_data))
}

/// Returns how components are compiled.
pub(super) fn compilation(config: &Config) -> Result<Compilation, Error> {
    Compilation::by_own_executable(config.gateway.compile).map_err(|error| Error::Machine(error.to_string()))
}

/// Makes the gate to the outside.
pub(super) fn gate(config: &Config) -> Result<Arc<Gate>, Error> {
    let settings = GateSettings {
        roots: config.gateway.tls_roots.clone(),
        ..GateSettings::default()
    };
    let gate = Gate::new(settings).map_err(|error| match error {
        roots @ GateError::Roots { .. } => Error::Roots(roots),
        other => Error::Machine(other.to_string()),
    })?;
    Ok(Arc::new(gate))
}

/// Says what the gateway is made of. `warnings` are those about its channels.
fn summed_up(
    config: &Config,
    address: SocketAddr,
    switchboard: &Switchboard,
    made: &BTreeMap<String, Chosen>,
    mut warnings: Vec<String>,
) -> Summary {
    if !address.ip().is_loopback() && config.gateway.public_url.is_none() {
        warnings.push(format!("anyone who reaches {address} can talk to the serving channels"));
    }
    let agents = made
        .iter()
        .map(|(name, it)| (name.clone(), it.agent.describe(), it.why.clone()));
    Summary {
        address,
        data: config.gateway.data.clone(),
        channels: summarised(config, switchboard),
        agents: agents.collect(),
        warnings,
    }
}

fn summarised(config: &Config, switchboard: &Switchboard) -> Vec<ChannelSummary> {
    let serves_by_default = switchboard.default_serving_name();
    let channels = config.channels.iter().filter_map(|(name, channel)| {
        let line = switchboard.find(name.as_str())?;
        let inspection = line.channel.inspection();
        Some(ChannelSummary {
            name: name.to_string(),
            component: channel.component.to_string(),
            terminal: inspection.terminal,
            agent: channel.agent.clone(),
            paths: paths(&line, serves_by_default.as_ref()),
        })
    });
    channels.collect()
}

fn paths(line: &Line, serves_by_default: Option<&ChannelName>) -> Vec<String> {
    let name = &line.channel.services().name;
    let mut paths = Vec::new();
    if line.channel.inspection().offers("connections") {
        paths.push(if serves_by_default == Some(name) {
            "/ws".to_owned()
        } else {
            format!("/ws/{name}")
        });
    }
    paths.extend(line.webhook_path());
    paths
}
