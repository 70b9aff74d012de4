//! The Rust target: there, or added.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, TARGET, program};

/// Adds the target with rustup where it is missing. `workspace` is where the guests are built, so that the toolchain
/// file above it counts.
pub(crate) fn ensure(workspace: &Path) -> Result<(), Error> {
    if is_there(workspace)? {
        return Ok(());
    }
    let missing = |reason: String| Error::TargetMissing { reason };
    let output = Command::new("rustup")
        .args(["target", "add", TARGET])
        .current_dir(workspace)
        .output()
        .map_err(|error| missing(format!("rustup can't be started: {error}")))?;
    if !output.status.success() {
        return Err(missing(last_line(&output.stderr)));
    }
    if is_there(workspace)? {
        Ok(())
    } else {
        Err(missing("rustup added it to another toolchain".to_owned()))
    }
}

fn is_there(workspace: &Path) -> Result<bool, Error> {
    let rustc = program("RUSTC", "rustc");
    let output = Command::new(&rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(workspace)
        .output()
        .map_err(|source| Error::Start {
            program: rustc.to_string_lossy().into_owned(),
            source,
        })?;
    // The folder is printed for every target that the compiler knows, installed or not.
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    Ok(output.status.success() && folder.is_dir())
}

fn last_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("it said nothing")
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::last_line;

    #[test]
    fn the_last_line_that_says_something_is_the_reason() {
        assert_eq!(
            last_line(b"info: downloading\nerror: no network\n\n"),
            "error: no network"
        );
        assert_eq!(last_line(b""), "it said nothing");
    }
}
