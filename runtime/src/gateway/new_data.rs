//! A data directory that a start made, and that a start which fails takes away again: it leaves nothing half-started.

use std::fs;
use std::path::{Path, PathBuf};

use crate::limit;

/// The folders that a start makes for its data. Dropping it removes them.
#[derive(Debug)]
pub(super) struct NewData {
    /// The data directory and those above it that were not there either, from the inside out.
    missing: Vec<PathBuf>,
}

impl NewData {
    /// Notes what is not there yet.
    pub(super) fn look_at(data: &Path) -> Self {
        let named = data.ancestors().filter(|path| !path.as_os_str().is_empty());
        // A link that leads nowhere is there, and its owner's.
        let missing = named.take_while(|path| path.symlink_metadata().is_err());
        Self {
            missing: missing.map(Path::to_owned).collect(),
        }
    }

    /// Leaves everything where it is.
    pub(super) fn keep(&mut self) {
        self.missing.clear();
    }
}

impl Drop for NewData {
    fn drop(&mut self) {
        let Some((data, above)) = self.missing.split_first() else {
            return;
        };
        let mut removed = fs::remove_dir_all(data);
        for _ in 1..limit::NEW_DATA_REMOVALS_MAX {
            removed = removed.or_else(|_| fs::remove_dir_all(data));
        }
        if let Err(error) = removed {
            tracing::warn!(%error, folder = %data.display(), "the data directory of a start that failed was not removed");
        }
        for folder in above {
            // One with something else in it stays.
            let _ = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_goes_and_what_was_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("a/b/data");
        let made = NewData::look_at(&data);
        fs::create_dir_all(data.join("cache")).unwrap();
        fs::write(folder.path().join("a/else"), "of somebody else").unwrap();
        drop(made);
        assert!(!folder.path().join("a/b").exists() && folder.path().join("a/else").exists());

        fs::create_dir_all(&data).unwrap();
        drop(NewData::look_at(&data));
        assert!(data.exists(), "it was there before");

        fs::remove_dir(&data).unwrap();
        let mut kept = NewData::look_at(&data);
        fs::create_dir(&data).unwrap();
        kept.keep();
        drop(kept);
        assert!(data.exists());
    }
}
