//! A disk that remembers what was synced, and breaks when told to.
//!
//! [`TestDisk`] is a small file system of the tests' own (FUSE, held in memory) that the real binary works on. It writes
//! down every change with its moment ([`Step`]), so that afterwards each moment of the run can be looked at as a power
//! cut would have left it: [`History::after_a_cut`] keeps what was synced until then, and of the rest nothing, all, or
//! random sectors of random writes.
//!
//! Only another process may work on it: one that maps a file of a disk which it serves itself waits for itself.
//!
//! It is stricter than most file systems: the name of a new file is durable only once its directory was synced.

mod history;
mod mounted;
mod tree;
mod wire;

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use history::Step;
pub use history::{History, Remains, Unsynced};
use tree::{Change, Tree};

use crate::TempFolder;

/// How the disk answers from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// As it should.
    #[default]
    None,
    /// Little room: a megabyte is left, and every write works.
    Scarce,
    /// No room: every write fails (ENOSPC).
    Full,
    /// No room for another file, and enough for all that are there: making one fails (ENOSPC).
    NoFiles,
    /// Every write fails (EIO).
    WritesFail,
    /// Every sync fails (EIO), and nothing of what it was to sync is durable.
    SyncsFail,
    /// Nothing may be changed (EROFS), as after the kernel has remounted a damaged disk.
    ReadOnly,
}

/// What the file system and the test share.
#[derive(Debug, Default)]
struct Shared {
    tree: Tree,
    steps: Vec<Step>,
    fault: Fault,
}

impl Shared {
    /// Makes a change and writes it down.
    fn change(&mut self, change: Change) {
        self.tree.apply(&change);
        self.steps.push(Step {
            at: Instant::now(),
            change,
        });
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mounted disk. Dropping it unmounts it.
#[derive(Debug)]
pub struct TestDisk {
    shared: Arc<Mutex<Shared>>,
    folder: TempFolder,
}

impl TestDisk {
    /// Mounts an empty disk, which takes the right to mount (root's).
    ///
    /// # Errors
    /// Why this machine can't: the test that wanted it says so, and proves nothing.
    pub fn mount() -> Result<Self, String> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let device = device.map_err(|error| format!("/dev/fuse can't be opened: {error}"))?;
        let folder = TempFolder::new();
        mount(&device, folder.path())?;
        let shared = Arc::new(Mutex::new(Shared::default()));
        let served = Arc::clone(&shared);
        std::thread::spawn(move || mounted::serve(device, &served));
        Ok(Self { shared, folder })
    }

    /// Returns where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the data directory for a gateway: it does not exist yet.
    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// Orders how it answers from now on.
    pub fn fail(&self, fault: Fault) {
        lock(&self.shared).fault = fault;
    }

    /// Returns everything that was done to it so far.
    pub fn history(&self) -> History {
        History::new(lock(&self.shared).steps.clone())
    }
}

impl Drop for TestDisk {
    fn drop(&mut self) {
        // Lazily, so that a process which a failed test left behind can't hold it.
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

/// Asks mount(8) to mount what is served behind a device, which it gets as its standard input.
fn mount(device: &File, folder: &Path) -> Result<(), String> {
    let device = device.try_clone().map_err(|error| error.to_string())?;
    let mut command = Command::new("mount");
    command.args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=40000,user_id=0,group_id=0"]);
    command
        .arg("sluicegate-test-disk")
        .arg(folder)
        .stdin(Stdio::from(device));
    let output = command
        .output()
        .map_err(|error| format!("mount(8) can't be started: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(format!("a FUSE file system can't be mounted here: {why}"))
    }
}
