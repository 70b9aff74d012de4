//! The binary under test.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Returns the path of the binary, which stands beside the folder of the tests' own binaries.
pub(crate) fn path() -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own path");
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("tests run from target/PROFILE/deps");
    let binary = folder.join(format!("sluicegate{}", std::env::consts::EXE_SUFFIX));
    assert!(
        binary.is_file(),
        "{} is missing: build the package `sluicegate` first",
        binary.display()
    );
    binary
}

/// Prepares a command with nothing of the developer's environment but the places of programs.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(path());
    command
        .env_clear()
        .env("COLUMNS", "100")
        .stdin(Stdio::null())
        .current_dir(folder);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// What a command wrote, and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
    /// The exit code; none where a signal ended it.
    pub(crate) code: Option<i32>,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the output is UTF-8");
        Self {
            out: text(output.stdout),
            err: text(output.stderr),
            code: output.status.code(),
        }
    }
}

/// Runs a command to its end.
pub(crate) fn run<S: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = S>) -> Outcome {
    command(folder).args(args).output().expect("the binary starts").into()
}
