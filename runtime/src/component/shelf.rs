//! The components that the operator reviewed, kept by their digest in the data directory: a file that was changed is
//! another component, and until that one is reviewed the old one goes on, also over a restart.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::component;
use crate::file::write_whole;
use crate::id::ChannelName;
use crate::limit;

/// The folder of reviewed components. What is in it is trusted no further than its digest, which is checked at each use.
#[derive(Debug, Clone)]
pub struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    /// Returns the shelf of a data directory. Nothing is made yet.
    pub fn of(data: &Path) -> Self {
        Self {
            folder: data.join("components"),
        }
    }

    /// Returns the component of this digest, if it is kept and whole.
    pub fn get(&self, digest: &str) -> Option<Vec<u8>> {
        let wasm = component::read(&self.path(digest)).ok()?;
        (component::digest(&wasm) == digest).then_some(wasm)
    }

    /// Returns whether a component of this digest is kept, without looking whether it is whole.
    pub fn holds(&self, digest: &str) -> bool {
        self.path(digest).is_file()
    }

    /// Returns the digest that a channel's grants are for: the one in the configuration, else the one that ran first.
    pub fn reviewed(&self, channel: &ChannelName, pinned: Option<&str>) -> Option<String> {
        pinned.map(str::to_owned).or_else(|| self.first_of(channel))
    }

    /// Keeps a component, whole or not at all, within [`limit::COMPONENTS_KEPT_BYTES_MAX`] for all together.
    ///
    /// # Errors
    /// Any I/O error, and where there is no room. The channel runs all the same; after a change of its file and a restart
    /// it would have to wait for its review.
    pub fn keep(&self, digest: &str, wasm: &[u8]) -> io::Result<()> {
        if self.get(digest).is_some() {
            return Ok(());
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        if self.bytes()? + wasm.len() as u64 > limit::COMPONENTS_KEPT_BYTES_MAX {
            return Err(io::Error::other(
                "the kept components have all the room that they may have",
            ));
        }
        write_whole(&self.path(digest), &[wasm])
    }

    /// Returns the digest of the component that a channel ran first, where the configuration names none.
    fn first_of(&self, channel: &ChannelName) -> Option<String> {
        let digest = fs::read_to_string(self.first_path(channel)).ok()?;
        (digest.len() == limit::DIGEST_BYTES && digest.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(digest)
    }

    /// Notes the component that a channel runs first: from then on another one in its place waits for a review.
    ///
    /// # Errors
    /// Any I/O error: what can't be noted must not run, since nothing would tell another component from it.
    pub fn note_first(&self, channel: &ChannelName, digest: &str) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        write_whole(&self.first_path(channel), &[digest.as_bytes()])
    }

    /// Drops what no channel is pinned to any more; `unpinned` are the channels for which the configuration names none.
    pub fn keep_only(&self, digests: &BTreeSet<String>, unpinned: &BTreeSet<&ChannelName>) {
        let firsts: BTreeSet<PathBuf> = unpinned.iter().map(|channel| self.first_path(channel)).collect();
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
            let is_used = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .is_some_and(|stem| digests.contains(stem) && self.path(stem) == path)
                || firsts.contains(&path);
            if !is_used && let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a kept component could not be removed");
            }
        }
    }

    fn bytes(&self) -> io::Result<u64> {
        fs::read_dir(&self.folder)?.try_fold(0, |sum, entry| Ok(sum + entry?.metadata()?.len()))
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }

    fn first_path(&self, channel: &ChannelName) -> PathBuf {
        self.folder.join(format!("{channel}.first"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_only_while_it_is_what_it_was() {
        let data = tempfile::tempdir().unwrap();
        let shelf = Shelf::of(data.path());
        let (one, two) = (component::digest(b"one"), component::digest(b"two"));
        assert_eq!(shelf.get(&one), None);
        shelf.keep(&one, b"one").unwrap();
        shelf.keep(&two, b"two").unwrap();
        assert!(shelf.holds(&one));
        assert_eq!(shelf.get(&one).as_deref(), Some(&b"one"[..]));
        fs::write(shelf.path(&one), "another").unwrap();
        assert_eq!(shelf.get(&one), None, "a kept file that was changed is not used");
        shelf.keep(&one, b"one").unwrap();
        assert!(shelf.get(&one).is_some(), "and is mended");
        let (mine, gone) = (ChannelName::from_trusted("mine"), ChannelName::from_trusted("gone"));
        shelf.note_first(&mine, &one).unwrap();
        shelf.note_first(&gone, &one).unwrap();
        shelf.keep_only(&BTreeSet::from([two.clone()]), &BTreeSet::from([&mine]));
        assert_eq!(
            shelf.reviewed(&mine, Some("00")).as_deref(),
            Some("00"),
            "a pin is the operator's own word"
        );
        assert_eq!(
            (shelf.first_of(&mine), shelf.first_of(&gone)),
            (Some(one.clone()), None)
        );
        assert_eq!((shelf.get(&one), shelf.get(&two).as_deref()), (None, Some(&b"two"[..])));
    }

    #[test]
    fn the_room_is_bounded() {
        let data = tempfile::tempdir().unwrap();
        let shelf = Shelf::of(data.path());
        shelf.keep(&component::digest(b"one"), b"one").unwrap();
        let large = fs::File::create(shelf.path("large")).unwrap();
        large.set_len(limit::COMPONENTS_KEPT_BYTES_MAX).unwrap();
        assert!(shelf.keep(&component::digest(b"two"), b"two").is_err());
    }
}
