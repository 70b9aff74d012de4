//! Builds every component of the guests' workspace and writes the table that embeds them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use anyhow::Context as _;
use sluicegate_guest_build as guest_build;

#[expect(
    clippy::print_stderr,
    reason = "a build script explains its failure on its standard error"
)]
fn main() -> ExitCode {
    match bundle() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a backtrace: the last line is the one to read.
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bundle() -> anyhow::Result<()> {
    let bundle = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("cargo names the package's folder")?);
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").context("cargo names the output folder")?);
    let components = bundle.parent().context("the bundle stands beside the components")?;
    let contract = components.with_file_name("wit");
    let target_dir = guest_build::target_dir(&out_dir, "bundle");
    let built = guest_build::build_in_script(components, &[&contract], &target_dir)?;
    write_table(&built.guests, &out_dir)
}

fn write_table(guests: &[guest_build::Guest], out_dir: &Path) -> anyhow::Result<()> {
    let mut table = String::from("&[\n");
    for guest in guests {
        let name = &guest.folder;
        let kept = guest_build::keep(guest, out_dir, &format!("{name}.wasm"))?;
        let path = kept.to_str().context("the output folder has a UTF-8 name")?;
        writeln!(
            table,
            "    Bundled {{ name: {name:?}, wasm: include_bytes!({path:?}) }},"
        )?;
    }
    table.push(']');
    fs::write(out_dir.join("bundled.rs"), table).context("the table of bundled components can't be written")
}
