//! Whether the files that are open are still the ones that the next start would find.
//!
//! What is written to a file that was removed, or that another took the place of, goes on without an error, is synced,
//! and is gone with the process.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The store's files, as they were when they were opened.
pub(super) struct Place {
    files: Vec<(PathBuf, Id)>,
}

/// What tells one file from another, whatever its name.
type Id = (u64, u64);

impl Place {
    /// Takes note of the files. They are open, so that nothing else gets their ids.
    pub(super) fn of(files: &[&Path]) -> io::Result<Self> {
        let noted = files.iter().map(|file| Ok((file.to_path_buf(), id(file)?)));
        Ok(Self {
            files: noted.collect::<io::Result<_>>()?,
        })
    }

    /// Returns a file that is no longer where it was. One that can't be looked at just now is none.
    pub(super) fn lost(&self) -> Option<&Path> {
        let is_lost = |path: &Path, noted: Id| match id(path) {
            Ok(found) => found != noted,
            Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        };
        let mut lost = self.files.iter().filter(|(path, noted)| is_lost(path, *noted));
        lost.next().map(|(path, _)| path.as_path())
    }
}

fn id(path: &Path) -> io::Result<Id> {
    let found = std::fs::metadata(path)?;
    Ok((found.dev(), found.ino()))
}
