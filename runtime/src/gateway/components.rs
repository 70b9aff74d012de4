//! Finds the component that the operator reviewed, and asks it what it is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::channel::{ComponentEngine, LoadedComponent};
use crate::component::{self, Shelf};
use crate::config::{ChannelConfig, ComponentSource, Config, Fault, FaultKind};
use crate::id::ChannelName;
use crate::limit;

/// A component that nobody reviewed yet, in the place of the one that somebody did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Review {
    /// The digest that the grants are for.
    pub(super) reviewed: String,
    /// The digest of the file that is there now.
    pub(super) found: String,
}

/// What was found for a channel: the component that may run, what waits for a review, and what the operator should know.
#[derive(Default)]
pub(super) struct Found {
    pub(super) component: Option<Arc<LoadedComponent>>,
    pub(super) review: Option<Review>,
    pub(super) note: Option<String>,
}

/// What is wrong with a component, and the remedy.
pub(super) type Refused = (String, String);

/// What a component is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To run: what counts as reviewed from now on is noted, and kept.
    Run,
    /// To see whether it would run: nothing is written down.
    Look,
}

/// The components of the configured channels.
pub(super) struct Components {
    engine: ComponentEngine,
    shelf: Shelf,
    /// By digest, so that channels of one component share it.
    loaded: Mutex<BTreeMap<String, Weak<LoadedComponent>>>,
}

impl Components {
    pub(super) fn new(engine: ComponentEngine, shelf: Shelf) -> Self {
        Self {
            engine,
            shelf,
            loaded: Mutex::default(),
        }
    }

    /// Returns the digest that a channel's grants are for: the one in the configuration, else the one that ran first.
    pub(super) fn reviewed(&self, name: &ChannelName, config: &ChannelConfig) -> Option<String> {
        self.shelf.reviewed(name, config.sha256.as_deref())
    }

    /// Finds the component of a channel: the one that was reviewed, wherever that is still to be had. Where the
    /// configuration names no digest, the operator wrote the grants by hand, for the file that was there: the first that
    /// is found counts as reviewed, and what is put in its place later does not.
    ///
    /// # Errors
    /// What is wrong with it, and the remedy.
    pub(super) async fn find(
        &self,
        name: &ChannelName,
        config: &ChannelConfig,
        purpose: Purpose,
    ) -> Result<Found, Refused> {
        let path = match &config.component {
            ComponentSource::Bundled(name) => return self.bundled(name).await,
            ComponentSource::File(path) => path.clone(),
        };
        let read = tokio::task::spawn_blocking({
            let path = path.clone();
            move || component::read(&path)
        });
        let wasm = match read.await.map_err(std::io::Error::other).flatten() {
            Ok(wasm) => wasm,
            Err(error) => {
                let problem = format!("{} can't be read: {error}", path.display());
                return self.kept(self.reviewed(name, config), config, problem).await;
            }
        };
        let found = component::digest(&wasm);
        let reviewed = match self.reviewed(name, config) {
            Some(reviewed) if reviewed != found => reviewed,
            reviewed => {
                let component = self.load(&wasm, found.clone(), &config.component).await?;
                // Only now: what can't run is not what anybody reviewed.
                if purpose == Purpose::Run {
                    if reviewed.is_none() {
                        self.note_first(name, &found)?;
                    }
                    if let Err(error) = self.shelf.keep(&found, &wasm) {
                        tracing::warn!(path = %path.display(), %error, "the reviewed component is not kept against a change of its file");
                    }
                }
                return Ok(Found {
                    component: Some(component),
                    ..Found::default()
                });
            }
        };
        let component = match self.shelf.get(&reviewed) {
            Some(kept) => Some(self.load(&kept, reviewed.clone(), &config.component).await?),
            None => None,
        };
        Ok(Found {
            component,
            review: Some(Review { reviewed, found }),
            note: None,
        })
    }

    /// Finds the component of a channel whose file can't be read: the one that was reviewed, where it is kept. It goes on
    /// as it does when its file was changed.
    async fn kept(&self, reviewed: Option<String>, config: &ChannelConfig, problem: String) -> Result<Found, Refused> {
        let kept = reviewed.and_then(|digest| Some((self.shelf.get(&digest)?, digest)));
        let Some((wasm, digest)) = kept else {
            return Err((problem, "name a readable .wasm file".to_owned()));
        };
        let shown = digest[..limit::DIGEST_SHOWN_BYTES].to_owned();
        let component = self.load(&wasm, digest, &config.component).await?;
        Ok(Found {
            component: Some(component),
            review: None,
            note: Some(format!(
                "{problem}; the reviewed component, {shown}…, was kept and runs in its place"
            )),
        })
    }

    fn note_first(&self, name: &ChannelName, found: &str) -> Result<(), Refused> {
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
        Ok(())
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
            ..Found::default()
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
            let other = || format!("`sluicegate component inspect {source}` says more; use another build of it");
            let remedy = error.remedy().map_or_else(other, str::to_owned);
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
