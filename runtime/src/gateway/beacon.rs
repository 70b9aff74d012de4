//! `gateway.json` in the data directory: where the gateway listens that runs there, so that the command line finds it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::file::write_whole;

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

impl Beacon {
    /// Reads the beacon of the gateway that runs in a data directory. None where none runs: there is no file, or it was
    /// left behind by a process that is gone. The admin token must not be sent to whoever has its port now.
    ///
    /// # Errors
    /// Any I/O error but a missing file, and a file that is not as it should be.
    pub fn find(data: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(data.join(FILE_NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let beacon: Self = serde_json::from_str(&text)?;
        Ok(Some(beacon).filter(Self::is_alive))
    }

    fn is_alive(&self) -> bool {
        let Some(pid) = rustix::process::Pid::from_raw(self.pid.max(0)) else {
            return false;
        };
        // A process of someone else is one all the same.
        matches!(
            rustix::process::test_kill_process(pid),
            Ok(()) | Err(rustix::io::Errno::PERM)
        )
    }
}

/// A beacon that is lit; dropping it removes the file.
#[derive(Debug)]
pub(super) struct Lit {
    path: PathBuf,
}

impl Lit {
    /// Writes the file for this process: whole, or not at all, and readable by its owner alone.
    pub(super) fn light(data: &Path, address: SocketAddr) -> io::Result<Self> {
        let beacon = Beacon {
            pid: std::process::id().try_into().map_err(io::Error::other)?,
            address,
        };
        let path = data.join(FILE_NAME);
        write_whole(&path, &[serde_json::to_string(&beacon)?.as_bytes()])?;
        Ok(Self { path })
    }
}

impl Drop for Lit {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "gateway.json was not removed; it names a process that is gone");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beacon_is_found_while_it_is_lit_and_its_process_lives() {
        use std::os::unix::fs::PermissionsExt as _;
        let data = tempfile::tempdir().expect("a directory");
        let address = SocketAddr::from(([127, 0, 0, 1], 7878));
        assert_eq!(Beacon::find(data.path()).expect("read"), None);
        let lit = Lit::light(data.path(), address).expect("lit");
        let file = data.path().join(FILE_NAME);
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        let found = Beacon::find(data.path()).expect("read").expect("it is lit");
        assert_eq!((found.address, found.pid.unsigned_abs()), (address, std::process::id()));
        drop(lit);
        assert_eq!(Beacon::find(data.path()).expect("read"), None);
        for pid in [i32::MAX, 0, -1] {
            let left_behind = Beacon { pid, address };
            fs::write(&file, serde_json::to_string(&left_behind).expect("JSON")).expect("written");
            assert_eq!(Beacon::find(data.path()).expect("read"), None, "process {pid}");
        }
        fs::write(&file, "{").expect("written");
        assert!(Beacon::find(data.path()).is_err());
    }
}
