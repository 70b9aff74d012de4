//! `gateway.json` in the data directory: where the gateway listens that runs there, so that the command line finds it.
//!
//! Invariant: the file counts only while the process that wrote it holds its lock, which ends with that process. One that was
//! left behind is never believed, whoever has its process's id or its port by now: the admin token goes there.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::file::{is_at, write_locked};
use crate::store::sqlite::is_held;

/// The file's name.
const FILE_NAME: &str = "gateway.json";

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beacon {
    /// The gateway's process.
    pub pid: i32,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Who works in a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// No process: what is changed now, the next gateway has so.
    Nobody,
    /// A gateway that is starting or stopping, and can't be spoken to.
    Dark,
    /// A gateway that can be spoken to.
    Lit(Beacon),
}

impl Presence {
    /// Looks who works in a data directory.
    ///
    /// # Errors
    /// As [`Beacon::find`], and where the directory's lock can't be looked at.
    pub fn look(data: &Path) -> io::Result<Self> {
        Ok(match Beacon::find(data)? {
            Some(beacon) => Self::Lit(beacon),
            None if is_held(data)? => Self::Dark,
            None => Self::Nobody,
        })
    }
}

impl Beacon {
    /// Reads the beacon of the gateway that runs in a data directory. None where none can be spoken to: there is no file, or
    /// it was left behind by a process that is gone.
    ///
    /// # Errors
    /// Any I/O error but a missing file, and a file that is not as it should be.
    pub fn find(data: &Path) -> io::Result<Option<Self>> {
        let mut file = match File::open(data.join(FILE_NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        // Shared, so that of several who look at once none is taken for the gateway.
        match file.try_lock_shared() {
            Ok(()) => return Ok(None),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(Some(serde_json::from_str(&text)?))
    }
}

/// A beacon that is lit; dropping it removes the file.
#[derive(Debug)]
pub(super) struct Lit {
    path: PathBuf,
    /// Held open, and with it the lock.
    file: File,
}

impl Lit {
    /// Writes the file for this process: whole, or not at all, and readable by its owner alone.
    pub(super) fn light(data: &Path, address: SocketAddr) -> io::Result<Self> {
        let beacon = Beacon {
            pid: std::process::id().try_into().map_err(io::Error::other)?,
            address,
        };
        let path = data.join(FILE_NAME);
        let file = write_locked(&path, &[serde_json::to_string(&beacon)?.as_bytes()])?;
        Ok(Self { path, file })
    }
}

impl Drop for Lit {
    fn drop(&mut self) {
        // The next gateway of the directory may have put its own there.
        if !is_at(&self.path, &self.file).unwrap_or(false) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "gateway.json was not removed; nobody believes it any more");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beacon_is_found_while_it_is_lit_and_its_process_holds_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let data = tempfile::tempdir().expect("a directory");
        let address = SocketAddr::from(([127, 0, 0, 1], 7878));
        assert_eq!(Beacon::find(data.path()).expect("read"), None);
        let lit = Lit::light(data.path(), address).expect("lit");
        let file = data.path().join(FILE_NAME);
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        let found = Beacon::find(data.path()).expect("read").expect("it is lit");
        assert_eq!((found.address, found.pid.unsigned_abs()), (address, std::process::id()));
        assert_eq!(Presence::look(data.path()).expect("read"), Presence::Lit(found));
        let text = fs::read(&file).expect("read");
        drop(lit);
        assert!(!file.exists(), "it is put out");
        // As a process leaves it that is killed: its id is that of one that lives, and its lock is gone.
        fs::write(&file, text).expect("written");
        assert_eq!(Beacon::find(data.path()).expect("read"), None);
        assert_eq!(Presence::look(data.path()).expect("read"), Presence::Nobody);
    }

    #[test]
    fn a_beacon_of_the_next_gateway_is_not_put_out() {
        let data = tempfile::tempdir().expect("a directory");
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let first = Lit::light(data.path(), address(1)).expect("lit");
        let _second = Lit::light(data.path(), address(2)).expect("lit");
        drop(first);
        let found = Beacon::find(data.path()).expect("read").expect("it is lit");
        assert_eq!(found.address, address(2));
    }

    #[test]
    fn a_directory_that_is_held_without_a_beacon_is_dark_whatever_was_left_in_it() {
        let data = tempfile::tempdir().expect("a directory");
        let lock = File::create(data.path().join("sluicegate.lock")).expect("made");
        lock.try_lock().expect("nobody has it");
        fs::write(data.path().join(FILE_NAME), "{").expect("written");
        assert_eq!(Presence::look(data.path()).expect("read"), Presence::Dark);
        drop(lock);
        assert_eq!(Presence::look(data.path()).expect("read"), Presence::Nobody);
    }
}
