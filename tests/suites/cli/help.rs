//! `--help` of every command.

use std::path::Path;

use crate::{binary, golden};

const COMMANDS: [&[&str]; 42] = [
    &[],
    &["run"],
    &["chat"],
    &["channel"],
    &["channel", "add"],
    &["channel", "list"],
    &["channel", "show"],
    &["channel", "log"],
    &["channel", "review"],
    &["channel", "grant"],
    &["channel", "reload"],
    &["channel", "pause"],
    &["channel", "resume"],
    &["channel", "remove"],
    &["send"],
    &["outbox"],
    &["outbox", "list"],
    &["outbox", "show"],
    &["outbox", "hold"],
    &["outbox", "release"],
    &["outbox", "drop"],
    &["dead"],
    &["dead", "list"],
    &["dead", "show"],
    &["dead", "redrive"],
    &["dead", "drop"],
    &["inbox"],
    &["inbox", "dead"],
    &["inbox", "resubmit"],
    &["inbox", "drop"],
    &["changes"],
    &["db"],
    &["db", "check"],
    &["db", "backup"],
    &["db", "export"],
    &["trace"],
    &["component"],
    &["component", "inspect"],
    &["component", "list"],
    &["config"],
    &["config", "check"],
    &["config", "reference"],
];

#[test]
fn every_command_explains_itself() {
    for command in COMMANDS {
        let outcome = binary::run(Path::new("."), command.iter().chain(&["--help"]));
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{command:?}");
        let name = if command.is_empty() {
            "sluicegate".to_owned()
        } else {
            command.join("-")
        };
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("cli/golden/help")
            .join(name + ".txt");
        golden::assert_matches(&file, &outcome.out);
    }
}

#[test]
fn every_command_is_in_the_list_above() {
    let mut found: Vec<Vec<String>> = vec![Vec::new()];
    for at in 0.. {
        let Some(command) = found.get(at).cloned() else { break };
        let help = binary::run(Path::new("."), command.iter().map(String::as_str).chain(["--help"])).out;
        let listed = help
            .lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .take_while(|line| !line.is_empty());
        let names = listed
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help");
        found.extend(names.map(|name| [command.as_slice(), &[name.to_owned()]].concat()));
    }
    let mut expected: Vec<Vec<String>> = COMMANDS
        .iter()
        .map(|command| command.iter().map(|word| (*word).to_owned()).collect())
        .collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_wrong_command_line_exits_with_2_and_a_tip() {
    let outcome = binary::run(Path::new("."), ["chanel"]);
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.err.contains("channel"), "{}", outcome.err);
    assert_eq!(binary::run(Path::new("."), ["--listen", "nowhere"]).code, Some(2));
    // Nothing of many would look as if there were nothing.
    let none = binary::run(Path::new("."), ["outbox", "list", "--limit", "0"]);
    assert_eq!(none.code, Some(2), "{}", none.err);
    for verb in ["redrive", "drop"] {
        let neither = binary::run(Path::new("."), ["dead", verb]);
        assert_eq!(neither.code, Some(2), "{}", neither.err);
        assert!(neither.err.contains("\n  <KEY|--all>\n"), "{}", neither.err);
        let both = binary::run(Path::new("."), ["dead", verb, "dlv_1", "--all"]);
        assert_eq!(both.code, Some(2), "{}", both.err);
    }
}
