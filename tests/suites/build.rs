//! Builds the guests that attack the host, for the suite `adversarial`, with the program that writes random ones, and those
//! for the platforms of `crash`, and mounts the channels' proofs in the suite `conformance`.

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
    let root = own.ancestors().nth(2).context("the suites stand below tests/")?;
    guest_build::keep_programs(root, &out_dir, &["asking", "foreign", "hostile", "keyed"])?;
    let writer = guest_build::build_writer(root, &out_dir)?;
    println!("cargo::rustc-env=SLUICEGATE_SHAPES={}", writer.display());
    mount_proofs(&root.join("components"), &out_dir.join("conformance.rs"))
}

/// Writes a module and a test for each `components/<name>/conformance/mod.rs`.
fn mount_proofs(components: &Path, mounted: &Path) -> anyhow::Result<()> {
    // The list of members changes with each new channel; what is in the modules is watched by the compiler.
    println!("cargo::rerun-if-changed={}", components.join("Cargo.toml").display());
    let folders = fs::read_dir(components).context("the components have a folder")?;
    let proofs = folders
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("conformance/mod.rs"));
    let mut proofs: Vec<PathBuf> = proofs.filter(|path| path.is_file()).collect();
    proofs.sort();
    let (mut modules, mut tests, mut names) = (String::new(), String::new(), Vec::new());
    for proof in &proofs {
        println!("cargo::rerun-if-changed={}", proof.display());
        let name = proof.ancestors().nth(2).and_then(|folder| folder.file_name()?.to_str());
        let name = name.context("a channel's folder has a UTF-8 name")?;
        let module = name.replace('-', "_");
        writeln!(modules, "#[path = {proof:?}]\nmod {module};")?;
        writeln!(
            tests,
            "    #[tokio::test]\n    async fn {module}() {{\n        crate::cases::row({name:?}, crate::{module}::start().await).await;\n    }}"
        )?;
        names.push(name);
    }
    let channels = format!("/// The channels that have a proof.\nconst CHANNELS: &[&str] = &{names:?};");
    let text = format!("{modules}\n{channels}\n\nmod rows {{\n{tests}}}\n");
    fs::write(mounted, text).context("the list of proofs can't be written")
}
