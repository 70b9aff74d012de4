//! Makes channels: finds the component that the operator reviewed, asks it what it is, and holds the configuration
//! against that. Nothing that is made here runs yet.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::error::Error;
use super::setup::{Ready, Setup};
use super::shelf::Shelf;
use super::switchboard::Line;
use crate::bus::Bus;
use crate::channel::{Channel, ChannelBounds, CodeCache, ComponentEngine, LoadedComponent};
use crate::clock::Clock;
use crate::component::{self, Inspection};
use crate::config::{ChannelConfig, ComponentSource, Config, Fault, FaultKind, Guarantee};
use crate::delivery::Guarantees;
use crate::egress::{ChannelEgress, Gate};
use crate::guest::{Allowance, ChannelLog, Clients, Crowd, Relay, Services, Share, Usage};
use crate::id::ChannelName;
use crate::limit;
use crate::policy::webhook::PathTokens;
use crate::secret::kept;
use crate::store::{EventStore, Quota};

/// A component that nobody reviewed yet, in the place of the one that somebody did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Review {
    /// The digest that the grants are for.
    pub(super) reviewed: String,
    /// The digest of the file that is there now.
    pub(super) found: String,
}

/// What was found for a channel: the component that may run, and what waits for a review.
pub(super) struct Found {
    pub(super) component: Option<Arc<LoadedComponent>>,
    pub(super) review: Option<Review>,
}

/// What is wrong with a component, and the remedy.
pub(super) type Refused = (String, String);

/// Makes channels.
pub(super) struct Maker {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) bus: Bus,
    pub(super) clock: Arc<dyn Clock>,
    gate: Arc<Gate>,
    engine: ComponentEngine,
    crowd: Crowd,
    shelf: Shelf,
    /// For webhooks that are not signed.
    tokens: PathTokens,
    /// By digest, so that channels of one component share it.
    loaded: Mutex<BTreeMap<String, Weak<LoadedComponent>>>,
}

impl Maker {
    /// Sets up what all channels share; `data` is the data directory.
    pub(super) fn new(
        data: &Path,
        store: Arc<dyn EventStore>,
        bus: Bus,
        clock: Arc<dyn Clock>,
        gate: Arc<Gate>,
        compile_max: Duration,
    ) -> Result<Self, Error> {
        let cache = CodeCache::folder_of(data);
        let cache = CodeCache::open(&cache).map_err(|source| Error::File { path: cache, source })?;
        let engine = ComponentEngine::new(Some(cache)).map_err(|error| Error::Machine(error.to_string()))?;
        let engine = engine.with_compile_time(compile_max);
        let key = data.join("webhook-key");
        let tokens = kept::load_or_make(&key).map_err(|source| Error::File { path: key, source })?;
        Ok(Self {
            store,
            bus,
            clock,
            gate,
            engine,
            crowd: Crowd::on_cores(std::thread::available_parallelism().map_or(1, usize::from)),
            shelf: Shelf::of(data),
            tokens: PathTokens::new(&tokens),
            loaded: Mutex::default(),
        })
    }

    /// Returns the digest that a channel's grants are for: the one in the configuration, else the one that ran first.
    pub(super) fn reviewed(&self, name: &ChannelName, config: &ChannelConfig) -> Option<String> {
        config.sha256.clone().or_else(|| self.shelf.first_of(name))
    }

    /// Finds the component of a channel: the one that was reviewed, wherever that is still to be had. Where the
    /// configuration names no digest, the operator wrote the grants by hand, for the file that was there: the first that
    /// is found counts as reviewed, and what is put in its place later does not.
    ///
    /// # Errors
    /// What is wrong with it, and the remedy.
    pub(super) async fn find(&self, name: &ChannelName, config: &ChannelConfig) -> Result<Found, Refused> {
        let path = match &config.component {
            ComponentSource::Bundled(name) => return self.bundled(name).await,
            ComponentSource::File(path) => path.clone(),
        };
        let read = tokio::task::spawn_blocking({
            let path = path.clone();
            move || component::read(&path)
        });
        let wasm = read.await.map_err(std::io::Error::other).flatten().map_err(|error| {
            let problem = format!("{} can't be read: {error}", path.display());
            (problem, "name a readable .wasm file".to_owned())
        })?;
        let found = component::digest(&wasm);
        let reviewed = match self.reviewed(name, config) {
            Some(digest) => digest,
            None => self.note_first(name, &found)?,
        };
        if reviewed == found {
            if let Err(error) = self.shelf.keep(&found, &wasm) {
                tracing::warn!(path = %path.display(), %error, "the reviewed component is not kept against a change of its file");
            }
            let component = self.load(&wasm, found, &config.component).await?;
            return Ok(Found {
                component: Some(component),
                review: None,
            });
        }
        let component = match self.shelf.get(&reviewed) {
            Some(kept) => Some(self.load(&kept, reviewed.clone(), &config.component).await?),
            None => None,
        };
        Ok(Found {
            component,
            review: Some(Review { reviewed, found }),
        })
    }

    fn note_first(&self, name: &ChannelName, found: &str) -> Result<String, Refused> {
        self.shelf.note_first(name, found).map_err(|error| {
            let problem = format!("its digest can't be noted in the data directory: {error}");
            (
                problem,
                format!("make room there, or write `sha256 = \"{found}\"` into the channel"),
            )
        })?;
        let digest = &found[..limit::DIGEST_SHOWN_BYTES];
        tracing::warn!(
            channel = %name,
            "its component {digest}… is not pinned: this one counts as reviewed from now on, and another in its place waits; \
             `sluicegate channel review {name}` shows it and writes its sha256 into the configuration"
        );
        Ok(found.to_owned())
    }

    async fn bundled(&self, name: &str) -> Result<Found, Refused> {
        let bundled = sluicegate_bundle::find(name).ok_or_else(|| {
            let problem = format!("no component `{name}` is bundled");
            (problem, "`sluicegate component list` shows all".to_owned())
        })?;
        let source = ComponentSource::Bundled(name.to_owned());
        let component = self
            .load(bundled.wasm, component::digest(bundled.wasm), &source)
            .await?;
        Ok(Found {
            component: Some(component),
            review: None,
        })
    }

    /// Compiles a component and asks it what it is, unless that was done for another channel.
    ///
    /// # Errors
    /// What is wrong with it, and the remedy.
    pub(super) async fn load(
        &self,
        wasm: &[u8],
        digest: String,
        source: &ComponentSource,
    ) -> Result<Arc<LoadedComponent>, Refused> {
        let known = self.lock_loaded().get(&digest).and_then(Weak::upgrade);
        if let Some(component) = known {
            return Ok(component);
        }
        let component = LoadedComponent::load(&self.engine, wasm).await.map_err(|error| {
            let remedy = format!("`sluicegate component inspect {source}` says more; use another build of it");
            (error.to_string(), remedy)
        })?;
        self.lock_loaded().insert(digest, Arc::downgrade(&component));
        Ok(component)
    }

    fn lock_loaded(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Weak<LoadedComponent>>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the kept components that this configuration has no use for.
    pub(super) fn tidy(&self, config: &Config) {
        let channels = || config.channels.iter();
        let reviewed = channels().filter_map(|(name, channel)| self.reviewed(name, channel));
        let unpinned = channels().filter(|(_, channel)| channel.sha256.is_none());
        self.shelf
            .keep_only(&reviewed.collect(), &unpinned.map(|(name, _)| name).collect());
        self.lock_loaded().retain(|_, component| component.strong_count() > 0);
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
        shutdown: CancellationToken,
    ) -> Result<Ready, Vec<Fault>> {
        Setup::new(name, config, inspection, &self.tokens).check(shutdown)
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
        let shutdown = CancellationToken::new();
        let ready = self.check(name, config, component.inspection(), shutdown.clone())?;
        let warnings = ready.warnings.clone();
        Ok((self.connected(name, config, component, ready, shutdown), warnings))
    }

    fn connected(
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

/// Says that a channel wants a terminal that another has.
pub(super) fn second_terminal(name: &ChannelName, other: &ChannelName) -> Fault {
    Fault {
        kind: FaultKind::Contradiction,
        file: None,
        line: None,
        key: format!("channels.{name}.component"),
        problem: format!("the channel `{other}` has this process's terminal already"),
        remedy: "keep one of them".into(),
    }
}

/// Says that a channel's component can't be used.
pub(super) fn unusable(name: &ChannelName, (problem, remedy): Refused) -> Fault {
    Fault {
        kind: FaultKind::WrongValue,
        file: None,
        line: None,
        key: format!("channels.{name}.component"),
        problem,
        remedy,
    }
}

impl Review {
    /// Says what waits, in words.
    pub(super) fn words(&self, channel: &ChannelName) -> String {
        let found = &self.found[..limit::DIGEST_SHOWN_BYTES];
        let reviewed = &self.reviewed[..limit::DIGEST_SHOWN_BYTES];
        format!("its component was changed from {reviewed}… to {found}…: `sluicegate channel review {channel}`")
    }
}
