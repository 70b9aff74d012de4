//! Looks whether the file of a component was changed while its channel runs: what is there then is another component, which
//! waits for the operator's review.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::components::Review;
use super::roster::Roster;
use crate::component;
use crate::config::ComponentSource;
use crate::id::ChannelName;
use crate::limit;

/// What tells a changed file without reading it.
type Look = (u64, Option<SystemTime>);

/// Looks now and then, until the gateway goes down.
pub(super) async fn watch(roster: Arc<Roster>) {
    let mut seen: BTreeMap<PathBuf, (Look, String)> = BTreeMap::new();
    loop {
        tokio::select! {
            () = roster.stopping.cancelled() => return,
            () = tokio::time::sleep(limit::COMPONENT_LOOK_PERIOD) => {}
        }
        // What is being changed just now is looked at the next time.
        let Ok(_alone) = roster.changing.try_lock() else {
            continue;
        };
        for line in roster.switchboard.all() {
            let config = line.config();
            let ComponentSource::File(path) = &config.component else {
                continue;
            };
            let name = &line.channel.services().name;
            let Some(reviewed) = roster.maker.components.reviewed(name, &config) else {
                continue;
            };
            let Some(found) = digest_of(path, &mut seen).await else {
                continue;
            };
            let review = (reviewed != found).then_some(Review { reviewed, found });
            note(&roster, name, review);
        }
    }
}

fn note(roster: &Roster, name: &ChannelName, review: Option<Review>) {
    let words = review.as_ref().map(|review| review.words(name));
    if roster.switchboard.set_review(name, review) {
        match words {
            Some(words) => tracing::warn!(channel = %name, words, "waiting for review; the reviewed component goes on"),
            None => tracing::info!(channel = %name, "the reviewed component is back"),
        }
    }
}

/// Returns the digest of a file; it is read only where it was touched. None where it can't be read: a file is written in
/// more than one step.
async fn digest_of(path: &Path, seen: &mut BTreeMap<PathBuf, (Look, String)>) -> Option<String> {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    let look = (metadata.len(), metadata.modified().ok());
    if let Some((before, digest)) = seen.get(path)
        && *before == look
    {
        return Some(digest.clone());
    }
    let own = path.to_owned();
    let wasm = tokio::task::spawn_blocking(move || component::read(&own))
        .await
        .ok()?
        .ok()?;
    let digest = component::digest(&wasm);
    seen.insert(path.to_owned(), (look, digest.clone()));
    Some(digest)
}
