//! A wall clock that a test sets, for one process.
//!
//! libfaketime stands between the process and the C library: what asks for the time of day gets it with an offset that is
//! read from a file at each call. All other clocks go on as they are, as they do where somebody sets a machine's clock.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Setup, TempFolder};

/// Names the library where it is not at its usual place.
const VARIABLE: &str = "SLUICEGATE_LIBFAKETIME";

/// A clock that one process sees. It must outlive the process.
#[derive(Debug)]
pub struct WallClock {
    preload: PathBuf,
    folder: TempFolder,
}

impl WallClock {
    /// Makes a clock that goes right.
    ///
    /// # Errors
    /// Why this machine can't: the test that wanted it says so, and proves nothing.
    ///
    /// # Panics
    /// There, with `SLUICEGATE_REQUIRE_PEERS=1`.
    pub fn new() -> Result<Self, String> {
        let Some(library) = library() else {
            let why = format!("libfaketime is missing; install the package libfaketime, or set {VARIABLE}");
            assert!(
                std::env::var_os("SLUICEGATE_REQUIRE_PEERS").is_none_or(|value| value != "1"),
                "{why}"
            );
            return Err(why);
        };
        let folder = TempFolder::new();
        let clock = Self {
            preload: library,
            folder,
        };
        clock.set(0);
        Ok(clock)
    }

    /// Sets it this many seconds ahead of the right time; behind it where they are negative.
    ///
    /// # Panics
    /// When its file can't be written.
    pub fn set(&self, seconds: i64) {
        let next = self.folder.write("next", &format!("{seconds:+}\n"));
        // In one step: half a file is another time.
        fs::rename(next, self.file()).expect("a file in a temporary folder can be renamed");
    }

    /// Shows it to a gateway.
    #[must_use]
    pub fn shown_to(&self, setup: Setup) -> Setup {
        let path = |path: &Path| path.display().to_string();
        setup
            .env("LD_PRELOAD", &path(&self.preload))
            .env("FAKETIME_TIMESTAMP_FILE", &path(&self.file()))
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }
}

/// Returns where the library is: Debian has it in a folder of the machine's architecture.
fn library() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(VARIABLE) {
        return Some(PathBuf::from(path)).filter(|path| path.exists());
    }
    let folders = fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok);
    let mut found = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    found.find(|path| path.exists())
}
