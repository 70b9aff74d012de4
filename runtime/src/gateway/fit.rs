//! Holds every channel's configuration against its component: a start does this before it starts anything, and
//! `config check` does nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::account::{self, Configured};
use super::components::{Components, Purpose, Review, unusable};
use super::error::Error;
use super::setup::{Ready, Setup};
use super::{agents, prepare};
use crate::channel::{CodeCache, ComponentEngine, LoadedComponent};
use crate::component::Shelf;
use crate::config::{ChannelConfig, Config, ConfigError, Fault, FaultKind};
use crate::id::ChannelName;
use crate::policy::webhook::PathTokens;

/// All channels that fit their components.
#[derive(Default)]
pub(super) struct Fitted<'a> {
    pub(super) channels: Vec<Fitting<'a>>,
    /// Those whose component was changed, or was never reviewed.
    pub(super) waiting: BTreeMap<ChannelName, Review>,
    /// What else the operator should know of them.
    notes: Vec<String>,
}

impl Fitted<'_> {
    fn configured(&self) -> Vec<Configured<'_>> {
        let channels = self.channels.iter();
        let configured = channels.map(|channel| Configured {
            name: channel.name,
            config: channel.config,
            component: channel.component.inspection(),
        });
        configured.collect()
    }

    /// Returns what is allowed and probably not meant, which channels wait for a review, and whose component is not where it should be.
    pub(super) fn warnings(&self) -> Vec<String> {
        let of_channels = self
            .channels
            .iter()
            .flat_map(|channel| channel.ready.warnings.iter().cloned());
        let reviews = self.waiting.iter();
        let reviews =
            reviews.map(|(name, review)| format!("channel {name} waits for a review: {}", review.words(name)));
        of_channels.chain(reviews).chain(self.notes.iter().cloned()).collect()
    }
}

/// A channel that fits its component.
pub(super) struct Fitting<'a> {
    pub(super) name: &'a ChannelName,
    pub(super) config: &'a ChannelConfig,
    pub(super) component: Arc<LoadedComponent>,
    pub(super) ready: Ready,
}

/// Holds all channels against their components.
///
/// # Errors
/// Everything that is wrong with any of them.
pub(super) async fn fit<'a>(
    components: &Components,
    tokens: &PathTokens,
    config: &'a Config,
    purpose: Purpose,
) -> Result<Fitted<'a>, ConfigError> {
    let (mut fitted, mut faults) = (Fitted::default(), Vec::new());
    for (name, channel) in &config.channels {
        let found = match components.find(name, channel, purpose).await {
            Ok(found) => found,
            Err(refused) => {
                faults.push(unusable(name, refused));
                continue;
            }
        };
        let note = found.note.map(|note| format!("channel {name}: {note}"));
        fitted.notes.extend(note);
        if let Some(review) = found.review {
            fitted.waiting.insert(name.clone(), review);
        }
        let Some(component) = found.component else { continue };
        match Setup::new(name, channel, component.inspection(), tokens).check() {
            Ok(ready) => fitted.channels.push(Fitting {
                name,
                config: channel,
                component,
                ready,
            }),
            Err(found) => faults.extend(found),
        }
    }
    let mut of_terminal = fitted.channels.iter().filter(|channel| channel.ready.terminal);
    if let Some(first) = of_terminal.next() {
        faults.extend(of_terminal.map(|other| second_terminal(other.name, first.name)));
    }
    if faults.is_empty() {
        let shared = account::shared(&fitted.configured());
        fitted.notes.extend(shared);
        return Ok(fitted);
    }
    for fault in &mut faults {
        fault.file.clone_from(&config.file);
        fault.line = config.lines.find(&fault.key);
    }
    faults.sort_by_key(|fault| fault.line);
    Err(ConfigError { faults })
}

/// What a start would say of a configuration, or of as much of it as can be read.
#[derive(Debug, Default)]
pub struct Examined {
    /// What would keep it from starting.
    pub faults: Vec<Fault>,
    /// What is allowed and probably not meant.
    pub warnings: Vec<String>,
}

/// Holds a configuration against what it names, components, agents and certificates, as a start does. Nothing is started,
/// asked or written, but for compiled code where the data directory keeps some.
///
/// # Errors
/// Where this machine can't run components.
pub async fn examine(config: &Config) -> Result<Examined, Error> {
    let mut examined = Examined::default();
    let mut wrong = |key: &str, error: &Error| {
        let remedy = error.remedy().unwrap_or_default();
        let fault = config.fault(FaultKind::WrongValue, key, error.to_string(), remedy);
        examined.faults.push(fault);
    };
    match prepare::gate(config) {
        Ok(_) => {}
        Err(error @ Error::Roots(_)) => wrong("gateway.tls_roots", &error),
        Err(error) => return Err(error),
    }
    for (name, error) in agents::unusable(&config.agents).await {
        wrong(&format!("agents.{name}"), &error);
    }
    let cache = CodeCache::folder_of(&config.gateway.data);
    let cache = cache.is_dir().then(|| CodeCache::open(&cache).ok()).flatten();
    let engine = ComponentEngine::new(prepare::compilation(config)?, cache);
    let engine = engine.map_err(|error| Error::Machine(error.to_string()))?;
    let components = Components::new(engine, Shelf::of(&config.gateway.data));
    // The paths of webhooks are made of it; nobody is told them here.
    let tokens = PathTokens::new("");
    match fit(&components, &tokens, config, Purpose::Look).await {
        Ok(fitted) => examined.warnings = fitted.warnings(),
        Err(error) => examined.faults.extend(error.faults),
    }
    Ok(examined)
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
