//! The granted folder on the disk: a file is written under a name that nobody looks at, made durable, and only then given
//! its own name, which fails where another file has it.
//!
//! Everything goes through the open folder, so that nothing in it can lead elsewhere, and no link is followed. What other
//! programs put there counts towards its bounds and is otherwise left alone.

use std::ffi::CStr;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fsync, linkat, openat, statat, unlinkat};
use rustix::io::Errno;

use crate::clock::UnixMillis;
use crate::limit;

/// What unfinished files begin with; guests' names can't.
const UNFINISHED: &str = ".sluicegate-";
/// Others may read what was put there only where they are in the folder's group.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR).union(Mode::RGRP);

/// Why a file was not put.
#[derive(Debug, thiserror::Error)]
pub(super) enum PutError {
    /// Another file has the name.
    #[error("another file has this name")]
    Taken,
    /// There is no room; says for what.
    #[error("{0}")]
    Full(String),
    /// Nothing was written.
    #[error("{0}")]
    Failed(#[source] io::Error),
    /// The file has its name, but may not outlive a power cut.
    #[error("{0}")]
    Interrupted(#[source] io::Error),
}

impl From<Errno> for PutError {
    fn from(error: Errno) -> Self {
        io::Error::from(error).into()
    }
}

impl From<io::Error> for PutError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full("its disk is full".to_owned()),
            _ => Self::Failed(error),
        }
    }
}

/// A folder to put files into.
pub(super) struct Place {
    path: PathBuf,
    now: UnixMillis,
}

impl Place {
    pub(super) fn new(path: PathBuf, now: UnixMillis) -> Self {
        Self { path, now }
    }

    /// Puts a file there under a checked name. Blocks.
    ///
    /// # Errors
    /// See [`PutError`]; a file of the same name and content is none.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) -> Result<(), PutError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&self.path, flags, Mode::empty())?;
        if is_there(&folder, name, bytes)? {
            return keep(&folder);
        }
        self.make_room(&folder, bytes.len())?;
        let unfinished = Unfinished::write(&folder, bytes)?;
        match linkat(&folder, &unfinished.name, &folder, name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::EXIST) if is_there(&folder, name, bytes)? => {}
            Err(error) => return Err(error.into()),
        }
        drop(unfinished);
        keep(&folder)
    }

    /// Checks the bounds of the folder, and removes what crashes left of files that never got their names.
    fn make_room(&self, folder: &OwnedFd, bytes: usize) -> Result<(), PutError> {
        let (mut files, mut held) = (0_usize, bytes as u64);
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let Ok(stat) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if self.is_left_over(name, &stat) && unlinkat(folder, name, AtFlags::empty()).is_ok() {
                continue;
            }
            files += 1;
            held = held.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
            if files >= limit::FOLDER_FILES_MAX {
                return Err(PutError::Full(format!("it holds {files} files: take some away")));
            }
            if held > limit::FOLDER_BYTES_MAX {
                return Err(PutError::Full(format!(
                    "with this file it would hold more than {} bytes: take some away",
                    limit::FOLDER_BYTES_MAX
                )));
            }
        }
        Ok(())
    }

    fn is_left_over(&self, name: &CStr, stat: &Stat) -> bool {
        let written_ms = stat.st_mtime.saturating_mul(1000);
        let age_ms = self.now.saturating_sub(written_ms);
        name.to_bytes().starts_with(UNFINISHED.as_bytes())
            && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && u128::try_from(age_ms).is_ok_and(|age| age > limit::FOLDER_LEFT_OVER_AGE.as_millis())
    }
}

/// Makes the names in a folder durable.
fn keep(folder: &OwnedFd) -> Result<(), PutError> {
    fsync(folder).map_err(|error| PutError::Interrupted(error.into()))
}

/// Returns whether a file of this name has these bytes.
///
/// # Errors
/// [`PutError::Taken`] where it has others, or is no file.
fn is_there(folder: &OwnedFd, name: &str, bytes: &[u8]) -> Result<bool, PutError> {
    // Not to wait for the other end where the name is a pipe's.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::NOENT) => return Ok(false),
        // A link, a file that is not ours to read, a socket.
        Err(Errno::LOOP | Errno::ACCESS | Errno::PERM | Errno::NXIO) => return Err(PutError::Taken),
        Err(error) => return Err(error.into()),
    };
    let found = file.metadata()?;
    if !found.is_file() || found.len() != bytes.len() as u64 {
        return Err(PutError::Taken);
    }
    let mut content = Vec::with_capacity(bytes.len());
    (&file).take(bytes.len() as u64 + 1).read_to_end(&mut content)?;
    if content == bytes {
        // Perhaps of an attempt that ended before it was durable.
        file.sync_all()?;
        Ok(true)
    } else {
        Err(PutError::Taken)
    }
}

/// A file that has its bytes and not yet its name; gone when dropped.
struct Unfinished<'a> {
    folder: &'a OwnedFd,
    name: String,
}

impl<'a> Unfinished<'a> {
    /// Writes the bytes durably under a name that no other attempt uses.
    fn write(folder: &'a OwnedFd, bytes: &[u8]) -> Result<Self, PutError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{UNFINISHED}{:08x}-{number:08x}", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = std::fs::File::from(openat(folder, &name, flags, MODE)?);
        let unfinished = Self { folder, name };
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(unfinished)
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        // Where that fails it is left over, and removed later.
        let _ignored = unlinkat(self.folder, &self.name, AtFlags::empty());
    }
}

#[cfg(test)]
mod tests;
