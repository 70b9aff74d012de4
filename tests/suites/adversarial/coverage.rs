//! That no attack is forgotten.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the Rust files of a folder, by the names before `.rs`, with their texts.
fn files(folder: &str) -> Vec<(String, String)> {
    let entries = fs::read_dir(tests().join(folder)).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let rust = paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        (name, fs::read_to_string(path).expect("a text"))
    })
    .collect()
}

#[test]
fn every_attack_is_offered_by_the_guest_and_ordered_by_a_test() {
    let attacks = files("programs/hostile/src/behaviours");
    assert!(attacks.len() > 20, "the folder of the attacks is found");
    let offered = fs::read_to_string(tests().join("programs/hostile/src/behaviours.rs")).expect("the list");
    let suite: String = files("suites/adversarial").into_iter().map(|(_, text)| text).collect();
    let mut forgotten = BTreeSet::new();
    for (attack, _) in &attacks {
        // As a test orders it: alone, or with something after it.
        let ordered = [format!("\"{attack}\""), format!("\"{attack} "), format!("/{attack}")];
        if !offered.contains(&format!("\"{attack}\" =>")) || !ordered.iter().any(|order| suite.contains(order.as_str()))
        {
            forgotten.insert(attack.as_str());
        }
    }
    assert!(forgotten.is_empty(), "attacks without a test: {forgotten:?}");
}

#[test]
fn every_lie_of_the_guest_is_told_in_a_test() {
    let guest = fs::read_to_string(tests().join("programs/hostile/src/lie.rs")).expect("the guest's lies");
    let suite = fs::read_to_string(tests().join("suites/adversarial/descriptions.rs")).expect("the tests of lies");
    let lies: Vec<&str> = guest
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" => ").map(|(lie, _)| lie))
        .filter(|lie| !lie.is_empty())
        .collect();
    assert!(lies.len() > 20, "the lies are found");
    let untold: Vec<_> = lies
        .iter()
        .filter(|lie| !suite.contains(&format!("\"{lie}\"")) && !suite.contains(&format!("recipe {lie}\"")))
        .collect();
    assert!(untold.is_empty(), "lies that no test tells: {untold:?}");
}

#[test]
fn every_test_that_security_md_names_is_there() {
    let promises = fs::read_to_string(tests().join("../SECURITY.md")).expect("SECURITY.md at the root");
    let named: BTreeSet<&str> = promises
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.matches('_').count() >= 3 && word.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect();
    assert!(named.len() > 20, "SECURITY.md names its tests");
    let sources: String = ["adversarial", "egress", "store", "integration", "workers", "cli"]
        .iter()
        .flat_map(|suite| files(&format!("suites/{suite}")))
        .map(|(_, text)| text)
        .collect();
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !sources.contains(&format!("fn {name}(")))
        .collect();
    assert!(
        missing.is_empty(),
        "SECURITY.md names tests that are not there: {missing:?}"
    );
}
