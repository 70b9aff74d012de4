//! Builds guest crates for `wasm32-wasip2` from within a build script.
//!
//! The guests are a cargo workspace of their own, built by a nested cargo that must know nothing of the outer one: not
//! its target, profile, flags or lints. Both who embeds guests and who tests with them build them here, the same way.

mod cargo;
mod programs;
mod target;

use std::path::{Path, PathBuf};
use std::{env, fs, io};

pub use programs::{build_writer, keep_programs};

/// The platform that guests are built for.
pub const TARGET: &str = "wasm32-wasip2";

/// One component that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// The name of the folder with its `Cargo.toml`.
    pub folder: String,
    /// The name of its library or program: the file's name without `.wasm`.
    pub target: String,
    /// The component, below the target directory: a later build replaces it.
    pub wasm: PathBuf,
}

/// Why no components were built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The target is missing and could not be added.
    #[error(
        "the Rust target {TARGET} is missing and could not be added ({reason}): run `rustup target add {TARGET}`, then build again"
    )]
    TargetMissing {
        /// What happened when it was tried.
        reason: String,
    },
    /// A program could not be started.
    #[error("could not start {program}")]
    Start {
        /// Which.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The nested build failed.
    #[error("{output}\nthe components in {} could not be built: the reason stands above", workspace.display())]
    Build {
        /// The workspace.
        workspace: PathBuf,
        /// Everything that the nested build said, in its own words.
        output: String,
    },
    /// The nested build said something that is not understood.
    #[error("cargo reported an artifact in an unknown form")]
    Report(#[source] serde_json::Error),
    /// A guest that is wanted was not among those built.
    #[error("no component `{name}` is built in {}", workspace.display())]
    Missing {
        /// The folder that was looked for.
        name: String,
        /// The workspace.
        workspace: PathBuf,
    },
    /// A file could not be read or written.
    #[error("could not use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// What a build gave.
#[derive(Debug, Default)]
pub struct Built {
    /// The components, sorted by folder and target.
    pub guests: Vec<Guest>,
    /// The programs for the machine that builds.
    pub programs: Vec<PathBuf>,
    /// What the compiler warned of, each as it would print it.
    pub warnings: Vec<String>,
}

/// Builds every component of the cargo workspace in `workspace`, optimised, with its target directory at `target_dir`.
///
/// Components are the `cdylib` libraries and the programs of its members. The locked versions are used. Where the Rust
/// target is missing it is added with rustup. Several builds may use one target directory: cargo makes them wait.
///
/// # Errors
/// See [`Error`]; a failed build brings along everything that it said.
pub fn build(workspace: &Path, target_dir: &Path) -> Result<Built, Error> {
    target::ensure(workspace)?;
    cargo::build(workspace, target_dir)
}

/// Builds as [`build`] does, and speaks to the outer cargo: what to watch, and each warning.
///
/// The source of the members and `also_watched` are watched, besides the workspace's own two files; never the target
/// directory, which would make every build start again, nor the proof that stands beside a member's source.
///
/// # Errors
/// As [`build`].
pub fn build_in_script(workspace: &Path, also_watched: &[&Path], target_dir: &Path) -> Result<Built, Error> {
    watch(workspace, also_watched)?;
    let built = build(workspace, target_dir)?;
    pass_on(&built.warnings);
    Ok(built)
}

fn watch(workspace: &Path, also_watched: &[&Path]) -> Result<(), Error> {
    let sources = cargo::member_sources(workspace)?;
    let own = ["Cargo.toml", "Cargo.lock"].map(|file| workspace.join(file));
    let watched = own
        .iter()
        .chain(&sources)
        .map(PathBuf::as_path)
        .chain(also_watched.iter().copied());
    for path in watched {
        say(&format!("cargo::rerun-if-changed={}", path.display()));
    }
    Ok(())
}

fn pass_on(warnings: &[String]) {
    for line in warnings
        .iter()
        .flat_map(|warning| warning.lines())
        .filter(|line| !line.trim().is_empty())
    {
        say(&format!("cargo::warning={line}"));
    }
}

/// Returns the directory `guests/{label}` in the outer build's target directory: outside the profile's folder, so that
/// debug and release builds of the host share one build of the guests.
///
/// `out_dir` is the build script's `OUT_DIR`.
pub fn target_dir(out_dir: &Path, label: &str) -> PathBuf {
    // OUT_DIR is {target directory}/{profile}/build/{package}/out.
    out_dir.ancestors().nth(4).unwrap_or(out_dir).join("guests").join(label)
}

/// Copies a component to `{folder}/{file_name}`, so that a later build of the guests does not change it under the
/// reader, and returns where it is.
///
/// # Errors
/// [`Error::File`].
pub fn keep(guest: &Guest, folder: &Path, file_name: &str) -> Result<PathBuf, Error> {
    let kept = folder.join(file_name);
    fs::copy(&guest.wasm, &kept).map_err(|source| Error::File {
        path: guest.wasm.clone(),
        source,
    })?;
    Ok(kept)
}

/// Returns the program named by the environment variable `key`, which cargo sets for build scripts, or else `usual`.
fn program(key: &str, usual: &str) -> std::ffi::OsString {
    env::var_os(key).unwrap_or_else(|| usual.into())
}

#[expect(
    clippy::print_stdout,
    reason = "a build script speaks to cargo through its standard output"
)]
fn say(line: &str) {
    println!("{line}");
}
