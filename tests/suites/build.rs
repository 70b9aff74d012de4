//! Builds the guests that attack the host, for the suite `adversarial`.

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
    let tests = own.parent().context("the suites stand below tests/")?;
    let root = tests.parent().context("tests/ stands below the root")?;
    let (sdk, contract) = (root.join("components/sdk"), root.join("wit"));
    let target_dir = guest_build::target_dir(&out_dir, "programs");
    let built = guest_build::build_in_script(&tests.join("programs"), &[&sdk, &contract], &target_dir)?;
    let hostile = built
        .guests
        .iter()
        .find(|guest| guest.folder == "hostile")
        .context("no component `hostile` was built")?;
    guest_build::keep(hostile, &out_dir, "hostile.wasm")?;
    Ok(())
}
