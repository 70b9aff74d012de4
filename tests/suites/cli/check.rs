//! `config check` and what stands on it: each folder in `cases/` is a configuration with its report.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::binary::Outcome;
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

const UNFIT: &str = r#"
[gateway]
listen = "127.0.0.1:0"
tls_roots = "garbage.wasm"

[agents.main]
kind = "echo"

[channels.hook]
component = "webhook"
secrets = { signing = { env = "PATH" } }
settings = { urll = "https://example.org" }

[channels.bot]
component = "telegram"

[channels.stranger]
component = "garbage.wasm"
access = "open"
"#;

#[test]
fn what_a_start_refuses_for_what_is_named_the_check_refuses_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().expect("a folder is made");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file is written");
    write("garbage.wasm", "no component");
    write("sluicegate.toml", UNFIT);
    let checked = binary::run(folder.path(), ["config", "check"]);
    assert_eq!(checked.code, Some(3), "{}", checked.err);
    let named = [
        "gateway.tls_roots",
        "channels.hook.secrets.signing",
        "channels.hook.settings.urll",
        "channels.bot.secrets.bot-token",
        "channels.bot.access",
        "channels.stranger.component",
    ];
    for key in named {
        assert!(checked.err.contains(key), "{key} is not in {}", checked.err);
    }
    let left = std::fs::read_dir(folder.path()).expect("the folder is there").count();
    assert_eq!(left, 2, "the check left something behind");
    let json = binary::run(folder.path(), ["config", "check", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&json.out).expect("the report is JSON");
    assert_eq!(report["faults"].as_array().map(Vec::len), Some(named.len()), "{report}");
    // A start says the same of the channels.
    write("sluicegate.toml", &UNFIT.replace("tls_roots = \"garbage.wasm\"", ""));
    let checked = binary::run(folder.path(), ["config", "check"]);
    let started = binary::run(folder.path(), ["run"]);
    assert_eq!((started.code, started.err), (Some(3), checked.err));
    let left = std::fs::read_dir(folder.path()).expect("the folder is there").count();
    assert_eq!(left, 2, "the start that was refused left something behind");
    // Where there was a data directory before, it stays, and what can't run counts as reviewed by nobody.
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("a data directory");
    assert_eq!(binary::run(folder.path(), ["run"]).code, Some(3));
    assert!(
        data.join("sluicegate.db").exists(),
        "a directory that was there is not touched"
    );
    let noted = data.join("components/stranger.first");
    assert!(!noted.exists(), "what can't run was noted as reviewed");
}

#[test]
fn what_stands_in_the_place_of_the_file_is_never_taken_for_none() {
    let dangling = |path: &Path| std::os::unix::fs::symlink("nowhere.toml", path).expect("a link");
    let in_circles = |path: &Path| std::os::unix::fs::symlink(path, path).expect("a link");
    let pipe = |path: &Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.expect("mkfifo runs").success());
    };
    let folder = |path: &Path| std::fs::create_dir(path).expect("a folder");
    type Make<'a> = &'a dyn Fn(&Path);
    let makes: [(&str, Make<'_>); 4] = [
        ("No such file", &dangling),
        ("symbolic links", &in_circles),
        ("named pipe", &pipe),
        ("directory", &folder),
    ];
    for (words, make) in makes {
        let folder = tempfile::tempdir().expect("a folder is made");
        make(&folder.path().join("sluicegate.toml"));
        let outcome = binary::run(folder.path(), ["config", "check"]);
        assert_eq!(outcome.code, Some(3), "{words}: {}{}", outcome.out, outcome.err);
        assert!(outcome.err.contains(words), "{}", outcome.err);
    }
}

#[test]
fn paths_of_a_configuration_without_a_folder_start_from_the_working_directory() {
    let folder = tempfile::tempdir().expect("a folder is made");
    for at in ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"] {
        let mut command = binary::command(folder.path());
        command.args(["--config", at, "db", "check"]).stdin(Stdio::piped());
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the binary starts");
        let mut input = child.stdin.take().expect("the input is a pipe");
        input
            .write_all(b"[gateway]\ndata = \"here\"\n")
            .expect("the input is taken");
        drop(input);
        let outcome: Outcome = child.wait_with_output().expect("it ends").into();
        assert!(
            !outcome.err.contains("/dev") && !outcome.err.contains("/proc"),
            "{}",
            outcome.err
        );
        assert!(outcome.err.contains("here"), "{}", outcome.err);
    }
}

#[test]
fn a_program_that_may_not_be_executed_and_an_empty_id_are_faults() {
    let folder = tempfile::tempdir().expect("a folder is made");
    let text = "[agents.main]\nkind = \"command\"\ncommand = [\"./sluicegate.toml\"]\n\
        [channels.web]\ncomponent = \"websocket\"\naccess = { allow = [\"\"] }\n";
    std::fs::write(folder.path().join("sluicegate.toml"), text).expect("the configuration is written");
    let outcome = binary::run(folder.path(), ["config", "check"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.out);
    assert!(
        outcome
            .err
            .contains("agents.main.command: the file may not be executed"),
        "{}",
        outcome.err
    );
    assert!(
        outcome.err.contains("channels.web.access.allow: an id is empty"),
        "{}",
        outcome.err
    );
}
