//! Where the binary under test is.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

/// Names the binary to test in place of the one that cargo built beside the tests.
const OVERRIDE: &str = "SLUICEGATE_BINARY";

/// Returns the `sluicegate` binary of the profile that the test was built with.
///
/// # Panics
/// When it is missing, or older than the source of the host: a test of yesterday's program proves nothing.
pub fn sluicegate_binary() -> PathBuf {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOUND.get_or_init(find) {
        Ok(path) => path.clone(),
        Err(why) => panic!("{why}"),
    }
}

fn find() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os(OVERRIDE) {
        return Ok(path.into());
    }
    let own = std::env::current_exe().map_err(|error| format!("the test does not know where it is: {error}"))?;
    // Tests are in target/PROFILE/deps, the binary one folder above.
    let folder = own
        .parent()
        .and_then(Path::parent)
        .ok_or("the test is not in a target folder")?;
    let path = folder.join(format!("sluicegate{}", std::env::consts::EXE_SUFFIX));
    let built = modified(&path).ok_or_else(|| {
        format!(
            "{} is missing: run `cargo test` at the root, or `cargo build` before this suite alone",
            path.display()
        )
    })?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtime/src");
    match newest_in(&source) {
        Some((changed, file)) if changed > built => Err(format!(
            "{} is older than {}: run `cargo build` first",
            path.display(),
            file.display()
        )),
        _ => Ok(path),
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn newest_in(folder: &Path) -> Option<(SystemTime, PathBuf)> {
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let times = entries.filter_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            newest_in(&path)
        } else {
            Some((modified(&path)?, path))
        }
    });
    times.max()
}
