//! Makes channels of components and configurations that fit together. Nothing that is made here runs yet.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::components::Components;
use super::error::Error;
use super::setup::{Ready, Setup};
use super::switchboard::Line;
use crate::bus::Bus;
use crate::channel::{Channel, ChannelBounds, CodeCache, Compilation, ComponentEngine, LoadedComponent};
use crate::clock::Clock;
use crate::component::{Inspection, Shelf};
use crate::config::{ChannelConfig, Fault, Guarantee};
use crate::delivery::Guarantees;
use crate::egress::{ChannelEgress, Gate};
use crate::guest::{Allowance, ChannelLog, Clients, Crowd, Relay, Services, Share, Usage};
use crate::id::ChannelName;
use crate::policy::webhook::PathTokens;
use crate::secret::kept;
use crate::store::{EventStore, Quota};

/// Makes channels.
pub(super) struct Maker {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) bus: Bus,
    pub(super) clock: Arc<dyn Clock>,
    gate: Arc<Gate>,
    pub(super) components: Components,
    crowd: Crowd,
    /// For webhooks that are not signed.
    pub(super) tokens: PathTokens,
}

impl Maker {
    /// Sets up what all channels share; `data` is the data directory.
    pub(super) fn new(
        data: &Path,
        store: Arc<dyn EventStore>,
        bus: Bus,
        clock: Arc<dyn Clock>,
        gate: Arc<Gate>,
        compilation: Compilation,
    ) -> Result<Self, Error> {
        let cache = CodeCache::folder_of(data);
        let cache = CodeCache::open(&cache).map_err(|source| Error::File { path: cache, source })?;
        let engine = ComponentEngine::new(compilation, Some(cache));
        let engine = engine.map_err(|error| Error::Machine(error.to_string()))?;
        let key = data.join("webhook-key");
        let tokens = kept::load_or_make(&key).map_err(|source| Error::File { path: key, source })?;
        Ok(Self {
            store,
            bus,
            clock,
            gate,
            components: Components::new(engine, Shelf::of(data)),
            crowd: Crowd::on_cores(std::thread::available_parallelism().map_or(1, usize::from)),
            tokens: PathTokens::new(&tokens),
        })
    }

    /// Holds a channel's configuration against its component.
    ///
    /// # Errors
    /// All that is wrong.
    pub(super) fn check(
        &self,
        name: &ChannelName,
        config: &ChannelConfig,
        inspection: &Inspection,
    ) -> Result<Ready, Vec<Fault>> {
        Setup::new(name, config, inspection, &self.tokens).check()
    }

    /// Makes a channel. Returns with it what is allowed and probably not meant.
    ///
    /// # Errors
    /// All that is wrong.
    pub(super) fn line(
        &self,
        name: &ChannelName,
        config: &ChannelConfig,
        component: Arc<LoadedComponent>,
    ) -> Result<(Line, Vec<String>), Vec<Fault>> {
        let ready = self.check(name, config, component.inspection())?;
        let warnings = ready.warnings.clone();
        Ok((self.connected(name, config, component, ready), warnings))
    }

    /// Makes a channel of what fits together.
    pub(super) fn connected(
        &self,
        name: &ChannelName,
        config: &ChannelConfig,
        component: Arc<LoadedComponent>,
        ready: Ready,
    ) -> Line {
        let shutdown = ready.egress.shutdown.clone();
        let inspection = component.inspection();
        let guarantees = Guarantees {
            deduplicates_for: inspection
                .deduplicates_for_s
                .map(|seconds| Duration::from_secs(seconds.into())),
            reconciles: inspection.offers("reconciliation"),
            ambiguous_resends: match config.guarantee {
                Guarantee::AtLeastOnce => config.ambiguous_resends,
                Guarantee::AtMostOnce => 0,
            },
            at_most_once: config.guarantee == Guarantee::AtMostOnce,
        };
        const MIB: u64 = 1024 * 1024;
        let limits = &config.limits;
        let bounds = ChannelBounds {
            memory_bytes_max: limits.memory_mib as usize * 1024 * 1024,
            cpu_max: Duration::from_secs(limits.call_cpu_s.into()),
            deliver_timeout: Duration::from_secs(limits.call_timeout_s.into()),
            calls_max: limits.calls_at_once,
        };
        let services = Arc::new(Services {
            name: name.clone(),
            store: self.store.clone(),
            quota: Quota {
                state_bytes: u64::from(limits.state_mib) * MIB,
                state_keys: limits.state_keys.into(),
                blob_bytes: u64::from(limits.blobs_mib) * MIB,
            },
            inbound: Allowance::per_minute(limits.messages_per_minute),
            bus: self.bus.clone(),
            clock: self.clock.clone(),
            egress: ChannelEgress::new(self.gate.clone(), ready.egress),
            settings: ready.settings,
            access: ready.access,
            clients: Clients::new(limits.clients as usize),
            relay: Relay::default(),
            log: ChannelLog::new(limits.log_lines_per_second, limits.log_line_bytes as usize),
            refusals: ChannelLog::default(),
            usage: Usage::default(),
            share: Share::among(self.crowd.clone(), limits.cpu_percent),
            terminal: ready.terminal,
            listening: shutdown.child_token(),
            shutdown,
        });
        let channel = Channel::new(component, services, bounds);
        Line::new(channel, ready.door, guarantees, config.clone())
    }
}

/// Returns the names of the bundled components, sorted.
pub fn bundled_names() -> Vec<&'static str> {
    sluicegate_bundle::all().iter().map(|bundled| bundled.name).collect()
}
