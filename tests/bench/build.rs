//! Builds the guests that do nothing, wait, or attack, to be embedded and measured.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use sluicegate_guest_build as guest_build;

#[expect(
    clippy::print_stderr,
    reason = "a build script explains its failure on its standard error"
)]
fn main() -> ExitCode {
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a backtrace: the last line is the one to read.
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn embed() -> anyhow::Result<()> {
    let own = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("cargo names the package's folder")?);
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").context("cargo names the output folder")?);
    let root = own.ancestors().nth(2).context("the benches stand below tests/")?;
    guest_build::keep_programs(root, &out_dir, &["hostile", "idle", "noop"])?;
    Ok(())
}
