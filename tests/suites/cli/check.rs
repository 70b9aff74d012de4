//! `config check` and what stands on it: each folder in `cases/` is a configuration with its report.

use std::path::{Path, PathBuf};

use crate::{binary, golden};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cli/cases");
    let entries = std::fs::read_dir(&folder).expect("the cases are there");
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.expect("a case can be read").path()).collect();
    cases.sort();
    assert!(!cases.is_empty(), "{} has no cases", folder.display());
    cases
}

#[test]
fn every_case_has_its_report() {
    for case in cases() {
        let outcome = binary::run(&case, ["config", "check"]);
        let report = format!(
            "exit {:?}\n---- out\n{}---- err\n{}",
            outcome.code, outcome.out, outcome.err
        );
        golden::assert_matches(&case.join("expected.txt"), &report);
    }
}

#[test]
fn the_json_report_has_the_same_faults() {
    for case in cases() {
        let text = binary::run(&case, ["config", "check"]);
        let json = binary::run(&case, ["config", "check", "--json"]);
        assert_eq!(json.code, text.code, "{}", case.display());
        let report: serde_json::Value = serde_json::from_str(&json.out).expect("the report is JSON");
        let faults = report["faults"].as_array().expect("the report lists faults");
        assert_eq!(
            faults.len(),
            text.err.matches("\n  fix: ").count(),
            "{}",
            case.display()
        );
        for fault in faults {
            let problem = fault["problem"].as_str().expect("a fault has a problem");
            assert!(text.err.contains(problem), "{problem}");
        }
    }
}

#[test]
fn a_wrong_configuration_starts_nothing() {
    for case in cases() {
        if binary::run(&case, ["config", "check"]).code == Some(0) {
            continue;
        }
        let folder = tempfile::tempdir().expect("a folder is made");
        std::fs::copy(case.join("sluicegate.toml"), folder.path().join("sluicegate.toml")).expect("the case is copied");
        for args in [&[][..], &["run"]] {
            let outcome = binary::run(folder.path(), args);
            assert_eq!(outcome.code, Some(3), "{}: {}", case.display(), outcome.err);
        }
        let left: Vec<_> = std::fs::read_dir(folder.path()).expect("the folder is there").collect();
        assert_eq!(left.len(), 1, "{} left something behind: {left:?}", case.display());
    }
}

#[test]
fn a_named_file_that_is_not_there_is_one_clear_line() {
    let outcome = binary::run(Path::new("."), ["run", "--config", "no-such.toml"]);
    assert_eq!(outcome.code, Some(3));
    assert!(outcome.err.contains("no-such.toml: can't be read"), "{}", outcome.err);
}

#[test]
fn the_reference_is_a_right_configuration() {
    let folder = tempfile::tempdir().expect("a folder is made");
    let reference = binary::run(folder.path(), ["config", "reference"]);
    assert_eq!(reference.code, Some(0));
    std::fs::write(folder.path().join("sluicegate.toml"), &reference.out).expect("the reference is written");
    let outcome = binary::run(folder.path(), ["config", "check"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
}
