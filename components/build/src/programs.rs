//! The guests that only tests and figures use, and the program that writes random ones.

use std::path::{Path, PathBuf};

use crate::{Error, build_in_script, cargo, keep, pass_on, target_dir, watch};

/// Builds the guests in `root/tests/programs` from a build script, and keeps those named as `{name}.wasm` in `out_dir`,
/// for `include_bytes!`. `root` is the project's folder, `out_dir` the build script's `OUT_DIR`.
///
/// # Errors
/// As [`build_in_script`]; [`Error::Missing`] where a name is no guest of that workspace.
pub fn keep_programs(root: &Path, out_dir: &Path, names: &[&str]) -> Result<(), Error> {
    let (sdk, contract) = (root.join("components/sdk"), root.join("wit"));
    let workspace: PathBuf = root.join("tests/programs");
    let built = build_in_script(&workspace, &[&sdk, &contract], &target_dir(out_dir, "programs"))?;
    for &name in names {
        let guest = built.guests.iter().find(|guest| guest.folder == name);
        let guest = guest.ok_or_else(|| Error::Missing {
            name: name.to_owned(),
            workspace: workspace.clone(),
        })?;
        keep(guest, out_dir, &format!("{name}.wasm"))?;
    }
    Ok(())
}

/// Builds the program in `root/tests/fuzz`, which writes files of random shape, from a build script, and returns where it
/// is. `root` is the project's folder, `out_dir` the build script's `OUT_DIR`.
///
/// # Errors
/// As [`build_in_script`].
pub fn build_writer(root: &Path, out_dir: &Path) -> Result<PathBuf, Error> {
    let workspace = root.join("tests/fuzz");
    watch(&workspace, &[])?;
    let built = cargo::build_native(&workspace, &target_dir(out_dir, "fuzz"))?;
    pass_on(&built.warnings);
    built.programs.into_iter().next().ok_or(Error::Missing {
        name: "shapes".to_owned(),
        workspace,
    })
}
