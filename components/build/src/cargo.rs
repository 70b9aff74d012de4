//! The nested cargo: how it is started, and what it reports.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;

use crate::{Built, Error, Guest, TARGET, program};

/// One line of `cargo build --message-format=json` (The Cargo Book, "External tools").
#[derive(Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Report {
    CompilerArtifact {
        manifest_path: PathBuf,
        target: Target,
        filenames: Vec<PathBuf>,
        executable: Option<PathBuf>,
    },
    CompilerMessage {
        message: Diagnostic,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Diagnostic {
    level: String,
    rendered: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    manifest_path: PathBuf,
}

/// Builds the guests.
pub(crate) fn build(workspace: &Path, target_dir: &Path) -> Result<Built, Error> {
    build_for(workspace, target_dir, &["--release", "--target", TARGET])
}

/// Builds for the machine that builds, quickly.
pub(crate) fn build_native(workspace: &Path, target_dir: &Path) -> Result<Built, Error> {
    build_for(workspace, target_dir, &[])
}

fn build_for(workspace: &Path, target_dir: &Path, target: &[&str]) -> Result<Built, Error> {
    let output = run(command(workspace)
        .args(["build", "--workspace", "--locked", "--message-format=json"])
        .args(target)
        .arg("--target-dir")
        .arg(target_dir))?;
    let (built, said) = read(&String::from_utf8_lossy(&output.stdout))?;
    if output.status.success() {
        return Ok(built);
    }
    let output = format!("{}{}", said.concat(), String::from_utf8_lossy(&output.stderr));
    Err(Error::Build {
        workspace: workspace.to_owned(),
        output,
    })
}

/// Returns what the workspace's members are built from, sorted: their manifests and source folders.
pub(crate) fn member_sources(workspace: &Path) -> Result<Vec<PathBuf>, Error> {
    let output = run(command(workspace).args(["metadata", "--no-deps", "--format-version=1"]))?;
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Error::Build {
            workspace: workspace.to_owned(),
            output,
        });
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).map_err(Error::Report)?;
    let manifests = metadata.packages.into_iter().map(|package| package.manifest_path);
    let sources = manifests.flat_map(|manifest| [manifest.with_file_name("src"), manifest]);
    Ok(sources.collect::<BTreeSet<_>>().into_iter().collect())
}

/// Makes a cargo that starts in `workspace` without what the outer cargo has put into the environment.
fn command(workspace: &Path) -> Command {
    let mut command = Command::new(program("CARGO", "cargo"));
    command.current_dir(workspace);
    for (key, _) in env::vars_os().filter(|(key, _)| belongs_to_the_host(key)) {
        command.env_remove(key);
    }
    command
}

/// Returns whether a variable is about the outer build: its target, profile, flags, wrappers and package.
///
/// What is left is about the machine: where cargo and rustup keep things, the network, the registries and the job server.
fn belongs_to_the_host(key: &OsString) -> bool {
    const KEPT: [&str; 9] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_MAKEFLAGS",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "RUSTUP_",
        "RUST_BACKTRACE",
    ];
    const OF_BUILD_SCRIPTS: [&str; 8] = [
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
        "NUM_JOBS",
        "OUT_DIR",
        "CLIPPY_ARGS",
    ];
    let key = key.to_string_lossy();
    if KEPT.iter().any(|prefix| key.starts_with(prefix)) {
        return false;
    }
    key.starts_with("CARGO") || key.starts_with("RUST") || OF_BUILD_SCRIPTS.contains(&key.as_ref())
}

fn run(command: &mut Command) -> Result<Output, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.output().map_err(|source| Error::Start { program, source })
}

/// Reads what cargo reported: the components with the warnings, and every diagnostic as the compiler would print it.
fn read(reports: &str) -> Result<(Built, Vec<String>), Error> {
    let mut built = Built::default();
    let mut said = Vec::new();
    // A build script or a procedural macro may print lines of its own in between.
    for line in reports.lines().filter(|line| line.starts_with('{')) {
        match serde_json::from_str(line).map_err(Error::Report)? {
            Report::CompilerArtifact {
                manifest_path,
                target,
                filenames,
                executable,
            } => {
                built.programs.extend(executable);
                built.guests.extend(guest(&manifest_path, &target, filenames));
            }
            Report::CompilerMessage {
                message:
                    Diagnostic {
                        level,
                        rendered: Some(rendered),
                    },
            } => {
                if level == "warning" {
                    built.warnings.push(rendered.clone());
                }
                said.push(rendered);
            }
            Report::CompilerMessage { .. } | Report::Other => {}
        }
    }
    built
        .guests
        .sort_by(|a, b| (&a.folder, &a.target).cmp(&(&b.folder, &b.target)));
    Ok((built, said))
}

fn guest(manifest_path: &Path, target: &Target, filenames: Vec<PathBuf>) -> Option<Guest> {
    let wasm = filenames
        .into_iter()
        .find(|file| file.extension().is_some_and(|extension| extension == "wasm"))?;
    let folder = manifest_path.parent()?.file_name()?.to_string_lossy().into_owned();
    Some(Guest {
        folder,
        target: target.name.clone(),
        wasm,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORTS: &str = r#"
{"reason":"compiler-artifact","package_id":"path+file:///w/sdk#0.1.0","manifest_path":"/w/sdk/Cargo.toml","target":{"name":"sdk"},"filenames":["/t/libsdk.rlib"]}
{"reason":"compiler-message","package_id":"path+file:///w/b#0.1.0","message":{"level":"warning","rendered":"warning: unused\n"}}
{"reason":"compiler-message","package_id":"path+file:///w/b#0.1.0","message":{"level":"error","rendered":"error: wrong\n"}}
{"reason":"compiler-artifact","package_id":"path+file:///w/b#0.1.0","manifest_path":"/w/b/Cargo.toml","target":{"name":"b_two"},"filenames":["/t/b_two.wasm"]}
{"reason":"compiler-artifact","package_id":"path+file:///w/a#0.1.0","manifest_path":"/w/a/Cargo.toml","target":{"name":"a"},"filenames":["/t/a.d","/t/a.wasm"],"executable":null}
{"reason":"compiler-artifact","package_id":"path+file:///w/p#0.1.0","manifest_path":"/w/p/Cargo.toml","target":{"name":"p"},"filenames":["/t/p"],"executable":"/t/p"}
a line that some build script printed
{"reason":"build-finished","success":true}
"#;

    #[test]
    fn only_what_became_wasm_is_a_guest_sorted_by_folder() {
        let (built, said) = read(REPORTS).expect("the reports are well formed");
        let names: Vec<_> = built
            .guests
            .iter()
            .map(|guest| (guest.folder.as_str(), guest.target.as_str()))
            .collect();
        assert_eq!(names, [("a", "a"), ("b", "b_two")]);
        assert_eq!(built.guests[0].wasm, Path::new("/t/a.wasm"));
        assert_eq!(built.programs, [Path::new("/t/p")]);
        assert_eq!(built.warnings, ["warning: unused\n"]);
        assert_eq!(said, ["warning: unused\n", "error: wrong\n"]);
    }

    #[test]
    fn a_report_in_another_form_is_an_error() {
        assert!(matches!(
            read(r#"{"reason":"compiler-artifact"}"#),
            Err(Error::Report(_))
        ));
    }

    #[test]
    fn the_outer_build_is_forgotten_and_the_machine_is_not() {
        let forgotten = [
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTFLAGS",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTC",
            "CARGO_BUILD_TARGET",
            "CARGO_TARGET_DIR",
            "CARGO_PROFILE_RELEASE_LTO",
            "CARGO_CFG_UNIX",
            "CLIPPY_ARGS",
            "TARGET",
            "OPT_LEVEL",
        ];
        for key in forgotten {
            assert!(belongs_to_the_host(&key.into()), "{key} was kept");
        }
        for key in [
            "PATH",
            "HOME",
            "CARGO_HOME",
            "CARGO_MAKEFLAGS",
            "CARGO_NET_OFFLINE",
            "RUSTUP_TOOLCHAIN",
            "RUSTUP_HOME",
        ] {
            assert!(!belongs_to_the_host(&key.into()), "{key} was dropped");
        }
    }
}
