//! The files of blobs: bytes beside the database, so that a large one holds up no commit.
//!
//! A file is complete and synced before its row is committed, and the row is gone before its file is removed. So a row
//! always has its file; a file without a row is what a crash left, and goes at the next opening.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tokio::task::spawn_blocking;

use super::SqliteStore;
use crate::id::random_hex;
use crate::store::Error;

/// Bytes between two syncs of one file: a single large write-back at the end would delay the flushes of the WAL.
const SYNC_BYTES: usize = 1024 * 1024;

impl SqliteStore {
    /// Notes what the writing of a file came to. Where there is no room for it, that is the store's state until there is: see
    /// [`super::flusher::Durability::note_unroomed`].
    pub(super) fn written<T>(&self, bytes: usize, written: io::Result<T>) -> Result<T, Error> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        written
            .inspect(|_| self.durability.note_roomed(bytes))
            .map_err(|error| match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    self.durability.note_unroomed(bytes);
                    Error::Busy
                }
                _ => Error::Refused(error.to_string()),
            })
    }

    /// Looks whether a file that found no room on the disk would find it now, with so many bytes free.
    pub(super) async fn look_for_room(&self, free: u64) {
        let Some(bytes) = self.durability.unroomed() else {
            return;
        };
        let dir = self.blobs.clone();
        let looked = spawn_blocking(move || has_room(&dir, bytes, free)).await;
        if looked.unwrap_or(false) {
            self.durability.note_roomed(bytes);
        }
    }
}

/// Returns whether a file of so many bytes would find room where so many are free. That is believed of its bytes; what the
/// figure does not tell, such as that the disk can't hold one file more, shows when a part of it is written.
fn has_room(dir: &Path, bytes: u64, free: u64) -> bool {
    let part = usize::try_from(bytes).unwrap_or(SYNC_BYTES).min(SYNC_BYTES);
    bytes <= free && write(dir, &format!("room_{}", random_hex::<16>()), &vec![0; part]).is_ok()
}

/// A file that is not in the database yet: removed unless it is kept.
pub(super) struct Unstored {
    path: PathBuf,
    is_kept: bool,
}

impl Unstored {
    /// Leaves the file where it is.
    pub(super) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Unstored {
    fn drop(&mut self) {
        if !self.is_kept {
            remove(&self.path);
        }
    }
}

/// Writes a new file and makes it durable.
pub(super) fn write(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<Unstored> {
    let unstored = Unstored {
        path: dir.join(name),
        is_kept: false,
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unstored.path)?;
    for chunk in bytes.chunks(SYNC_BYTES) {
        file.write_all(chunk)?;
        file.sync_data()?;
    }
    file.sync_all()?;
    File::open(dir)?.sync_all()?;
    Ok(unstored)
}

/// Reads a file that must have `size` bytes.
pub(super) fn read(path: &Path, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than expected tells a file that grew from one that is whole.
    File::open(path)?.take(size.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == size {
        Ok(bytes)
    } else {
        Err(io::Error::other("the file has another size than its row"))
    }
}

/// Removes a file whose row is gone.
pub(super) fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a blob's file could not be removed");
    }
}

/// Removes the files that have no row.
pub(super) fn remove_strays(dir: &Path, db: &Connection) -> io::Result<()> {
    let mut known = db
        .prepare("SELECT 1 FROM blob WHERE id = ?1")
        .map_err(io::Error::other)?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if !known.exists([name.to_string_lossy()]).map_err(io::Error::other)? {
            remove(&entry.path());
        }
    }
    Ok(())
}
