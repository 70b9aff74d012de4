//! Files, folders and tests.

use std::collections::BTreeSet;

use crate::source::{Source, none, root, rust, rust_below};

/// The longest file, lines without its own tests: above it nobody reads it in one go. The bounds are no text but a table,
/// and all in one place.
const FILE_LINES_MAX: usize = 600;
/// The fewest words in the name of a suite's test: a name says what is so, not what is looked at.
const NAME_WORDS_MIN: usize = 4;
/// What every channel's folder has.
const COMPONENT_FILES: [&str; 5] = ["Cargo.toml", "README.md", "src/lib.rs", "src/wire.rs", "src/map.rs"];
/// Folders of `components/` that are no channels.
const NO_CHANNELS: [&str; 3] = ["build", "bundle", "sdk"];

#[test]
fn no_file_is_too_long_to_read() {
    let sources = rust();
    let long = sources
        .iter()
        .filter(|source| source.lines_before_tests() > FILE_LINES_MAX && !source.path.ends_with("/limit.rs"));
    let faults: Vec<String> = long
        .map(|source| format!("{}: {} lines", source.path, source.lines_before_tests()))
        .collect();
    none("a file has at most 600 lines without its tests", &faults);
}

#[test]
fn no_test_is_switched_off_and_nothing_is_left_for_later() {
    // Written in two halves, so that this file does not find itself.
    let words = [
        ["#[", "ignore"],
        ["TO", "DO"],
        ["FIX", "ME"],
        ["todo", "!("],
        ["unimplemented", "!("],
    ]
    .map(|halves| halves.concat());
    let mut faults = Vec::new();
    for source in rust() {
        for (index, line) in source.text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word.as_str())) {
                faults.push(format!("{}:{}: {}", source.path, index + 1, line.trim()));
            }
        }
    }
    none("what is not done is not there", &faults);
}

#[test]
fn every_file_is_part_of_its_crate() {
    let sources = rust();
    let faults: Vec<String> = sources
        .iter()
        .filter(|source| !is_mounted(source, &sources))
        .map(|source| source.path.clone())
        .collect();
    none("files that no `mod` line names", &faults);
}

/// Returns whether a file is a root that cargo knows, or some `mod` line of its parent names it.
fn is_mounted(source: &Source, all: &[Source]) -> bool {
    let (folder, file) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
    let name = file.trim_end_matches(".rs");
    // The suites' build script mounts the channels' proofs.
    let is_proof = file == "mod.rs" && folder.starts_with("components/") && folder.ends_with("/conformance");
    let is_root =
        is_proof || ["main", "lib", "build"].contains(&name) || folder.ends_with("/tests") || folder.ends_with("/bin");
    let parents = [
        format!("{folder}.rs"),
        format!("{folder}/mod.rs"),
        format!("{folder}/main.rs"),
        format!("{folder}/lib.rs"),
    ];
    let mut parents = all.iter().filter(|parent| parents.contains(&parent.path));
    is_root || parents.any(|parent| names_module(&parent.text, name))
}

fn names_module(text: &str, name: &str) -> bool {
    let is_named = |line: &str| {
        let line = line.trim();
        let rest = line
            .strip_prefix("pub(crate) ")
            .or_else(|| line.strip_prefix("pub(super) "))
            .unwrap_or(line);
        let rest = rest.strip_prefix("pub ").unwrap_or(rest);
        rest.strip_prefix("mod ")
            .is_some_and(|rest| rest.strip_prefix(name) == Some(";"))
    };
    text.lines().any(is_named)
}

#[test]
fn every_suite_is_run() {
    let root = root();
    let manifest = std::fs::read_to_string(root.join("tests/suites/Cargo.toml")).expect("the suites have a manifest");
    let folders = std::fs::read_dir(root.join("tests/suites")).expect("the suites have a folder");
    let folders = folders
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("main.rs").exists());
    let names: BTreeSet<String> = folders
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(names.contains("tidy"), "this suite itself is not found");
    let is_missing = |name: &&String| !manifest.contains(&format!("path = \"{name}/main.rs\""));
    let faults: Vec<String> = names.iter().filter(is_missing).cloned().collect();
    none("suites that tests/suites/Cargo.toml does not name", &faults);
}

#[test]
fn the_name_of_a_suites_test_is_a_sentence() {
    let mut faults = Vec::new();
    for source in rust_below("tests/suites") {
        let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
        for (index, line) in lines.iter().enumerate() {
            let Some(name) = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ") else {
                continue;
            };
            let name = name.split(['(', '<']).next().unwrap_or(name);
            let above = lines[..index].iter().rev().take_while(|line| line.starts_with("#["));
            let is_test = above
                .into_iter()
                .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"));
            if is_test && name.split('_').count() < NAME_WORDS_MIN {
                faults.push(format!("{}:{}: {name}", source.path, index + 1));
            }
        }
    }
    none("a test's name says what is so, in at least four words", &faults);
}

#[test]
fn every_channel_has_the_same_files() {
    let root = root().join("components");
    let folders = std::fs::read_dir(&root).expect("there are components");
    let folders = folders
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("Cargo.toml").exists());
    let names: BTreeSet<String> = folders
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let channels: Vec<&String> = names
        .iter()
        .filter(|name| !NO_CHANNELS.contains(&name.as_str()))
        .collect();
    assert!(channels.len() >= 4, "too few channels are found: {channels:?}");
    let mut faults = Vec::new();
    for channel in channels {
        let missing = COMPONENT_FILES
            .iter()
            .filter(|file| !root.join(channel).join(file).exists());
        faults.extend(missing.map(|file| format!("components/{channel}/{file} is missing")));
    }
    none("channels have the same files", &faults);
}

#[test]
fn nothing_promises_what_nobody_can_keep() {
    let words = ["exactly", "once"].join(" ");
    let root = root();
    let mut texts: Vec<(String, String)> = rust().into_iter().map(|source| (source.path, source.text)).collect();
    for page in ["README.md", "tests/README.md", "components/README.md"] {
        let text = std::fs::read_to_string(root.join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        texts.push((page.to_owned(), text));
    }
    let mut faults = Vec::new();
    for (path, text) in &texts {
        let lines = text.lines().enumerate();
        // A header that stands somewhere once is no delivery.
        let promises =
            lines.filter(|(_, line)| line.to_lowercase().contains(&words) && !line.contains("header's value"));
        faults.extend(promises.map(|(index, line)| format!("{path}:{}: {}", index + 1, line.trim())));
    }
    none("a delivery may happen twice: say what is so", &faults);
}

#[test]
fn every_bound_says_why() {
    let sources = rust_below("runtime/src");
    let limits = sources
        .iter()
        .find(|source| source.path.ends_with("/limit.rs"))
        .expect("the bounds have a file");
    let lines: Vec<&str> = limits.text.lines().collect();
    let bounds = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.starts_with("pub const"));
    let undocumented = bounds
        .clone()
        .filter(|(index, _)| *index == 0 || !lines[index - 1].starts_with("///"));
    let faults: Vec<String> = undocumented
        .map(|(index, line)| format!("{}:{}: {line}", limits.path, index + 1))
        .collect();
    assert!(bounds.count() > 50, "the bounds are not found");
    none("every bound has its reason", &faults);
}
