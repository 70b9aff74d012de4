//! Reading the workspace's own source.

use std::path::{Path, PathBuf};

/// A source file.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// Returns the lines of code with their numbers, from 1: without comments, and without the tests at the end.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let all = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        all.take(self.lines_before_tests())
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Returns the number of lines before the file's own tests.
    pub(crate) fn lines_before_tests(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        let is_start = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ");
        lines.windows(2).position(is_start).unwrap_or(lines.len())
    }
}

/// Returns the root of the workspace.
pub(crate) fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the suites are two folders below the root")
}

/// Returns every Rust file below a folder of the workspace, sorted by path.
pub(crate) fn rust_below(folder: &str) -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    collect(&root.join(folder), &mut found);
    found.sort();
    let sources: Vec<Source> = found.into_iter().map(|path| read(&root, &path)).collect();
    assert!(
        !sources.is_empty(),
        "{folder} has no Rust files: the check looks in the wrong place"
    );
    sources
}

/// Returns every Rust file of ours.
pub(crate) fn rust() -> Vec<Source> {
    ["runtime", "components", "tests"]
        .into_iter()
        .flat_map(rust_below)
        .collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let is_build_output = path.ends_with("target") || path.ends_with("node_modules");
        if path.is_dir() && !is_build_output {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn read(root: &Path, path: &Path) -> Source {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let short = path.strip_prefix(root).unwrap_or(path);
    Source {
        path: short.to_string_lossy().replace('\\', "/"),
        text,
    }
}

/// Fails with the faults, one a line, if there are any.
#[track_caller]
pub(crate) fn none(rule: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}
