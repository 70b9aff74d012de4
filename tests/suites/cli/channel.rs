//! `channel` and `component` on the bundled components, in a folder of their own.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use sluicegate::component::{Shelf, digest};
use sluicegate::id::ChannelName;

use crate::binary::{self, Outcome};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder is made")
}

fn file_in(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("sluicegate.toml")).expect("the configuration is there")
}

fn json(outcome: &Outcome) -> Value {
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    serde_json::from_str(&outcome.out).expect("the answer is JSON")
}

#[test]
fn a_channel_is_added_listed_shown_and_removed() {
    let folder = folder();
    let add = binary::run(folder.path(), ["channel", "add", "websocket", "web", "--open", "--yes"]);
    assert_eq!(add.code, Some(0), "{}", add.err);
    assert!(
        add.err.contains("serves clients that connect"),
        "the card is shown: {}",
        add.err
    );
    assert_eq!(
        file_in(folder.path()),
        "[channels.web]\ncomponent = \"websocket\"\naccess = \"open\"\n"
    );
    let list = json(&binary::run(folder.path(), ["channel", "list", "--json"]));
    assert_eq!(list[0]["name"], "web");
    assert_eq!(list[0]["default"], false);
    let show = json(&binary::run(folder.path(), ["channel", "show", "web", "--json"]));
    assert_eq!(
        (&show["component"], &show["access"]),
        (&Value::from("websocket"), &Value::from("open"))
    );
    assert_eq!(binary::run(folder.path(), ["config", "check"]).code, Some(0));
    assert_eq!(binary::run(folder.path(), ["channel", "remove", "web"]).code, Some(0));
    assert_eq!(file_in(folder.path()), "");
}

#[test]
fn the_channel_that_served_by_default_goes_on_beside_the_first_that_is_written() {
    let folder = folder();
    let add = binary::run(folder.path(), ["channel", "add", "webhook", "hook", "--open", "--yes"]);
    assert_eq!(add.code, Some(0), "{}", add.err);
    assert!(
        add.out.contains("channel websocket, there by default so far"),
        "{}",
        add.out
    );
    let list = json(&binary::run(folder.path(), ["channel", "list", "--json"]));
    let names: Vec<_> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| &row["name"])
        .collect();
    assert_eq!(names, ["hook", "websocket"]);
    assert_eq!(
        binary::run(folder.path(), ["channel", "remove", "websocket"]).code,
        Some(0)
    );
    let second = binary::run(folder.path(), ["channel", "add", "webhook", "other", "--open", "--yes"]);
    assert_eq!(second.code, Some(0), "{}", second.err);
    assert!(
        !file_in(folder.path()).contains("websocket"),
        "{}",
        file_in(folder.path())
    );
}

#[test]
fn channels_that_are_added_at_once_are_all_there() {
    let folder = folder();
    let names: Vec<String> = (0..8).map(|number| format!("hook{number}")).collect();
    let adding: Vec<_> = names
        .iter()
        .map(|name| {
            let words = ["channel", "add", "webhook", name, "--open", "--yes"];
            let url = ["--set", "url=https://example.com/x"];
            let mut command = binary::command(folder.path());
            command
                .args(words)
                .args(url)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            command.spawn().expect("the binary starts")
        })
        .collect();
    for one in adding {
        let outcome: Outcome = one.wait_with_output().expect("it ends").into();
        assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    }
    let listed = json(&binary::run(folder.path(), ["channel", "list", "--json"]));
    let found: Vec<&str> = listed
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|row| row["name"].as_str().filter(|name| name.starts_with("hook")))
        .collect();
    assert_eq!(found, names);
    let left = std::fs::read_dir(folder.path()).expect("the folder is there").count();
    assert_eq!(left, 1, "only the configuration");
}

#[test]
fn what_is_no_grant_is_named_as_it_was_written_and_changes_nothing() {
    let folder = folder();
    let add = ["channel", "add", "ntfy", "--set", "base-url=http://10.0.0.1", "--grant"];
    let given = binary::run(folder.path(), [&add[..], &["http://10.0.0.1"]].concat());
    assert_eq!(given.code, Some(0), "{}", given.err);
    let before = file_in(folder.path());
    for (grant, why) in [
        ("private:http://10.0.0.1", "`private` belongs to names"),
        ("private:http://nas.lan/x", "leave out the path"),
        ("private:terminal", "it must start with http://"),
        ("nas.lan", "it must start with http://"),
    ] {
        for words in [
            &["channel", "add", "ntfy", "other", "--grant", grant][..],
            &["channel", "grant", "ntfy", grant],
        ] {
            let refused = binary::run(folder.path(), words);
            assert_eq!(refused.code, Some(2), "{words:?}: {}", refused.err);
            let expected = format!("error: \"{grant}\" is no grant: {why}");
            assert!(refused.err.contains(&expected), "{words:?}: {}", refused.err);
            assert_eq!(file_in(folder.path()), before, "{words:?}");
        }
    }
}

#[test]
fn a_link_that_leads_nowhere_or_to_itself_is_said_to_be_one() {
    let folder = folder();
    for (link, leads_to) in [("loop", "loop"), ("nowhere", "gone.wasm")] {
        std::os::unix::fs::symlink(leads_to, folder.path().join(link)).expect("a link");
        for words in [["channel", "add", link], ["component", "inspect", link]] {
            let refused = binary::run(folder.path(), words);
            assert_eq!(refused.code, Some(1), "{words:?}: {}", refused.err);
            let expected = format!("error: {link} is a symbolic link that can't be followed: ");
            assert!(refused.err.starts_with(&expected), "{words:?}: {}", refused.err);
            assert!(refused.err.contains("  fix: make the link lead to"), "{}", refused.err);
        }
    }
    assert!(!folder.path().join("sluicegate.toml").exists());
}

#[test]
fn a_name_that_is_taken_is_said_before_anything_is_asked() {
    let folder = folder();
    let configuration = "[channels.telegram]\ncomponent = \"websocket\"\naccess = \"open\"\n";
    std::fs::write(folder.path().join("sluicegate.toml"), configuration).expect("a configuration");
    // Without a flag, the name is the component's own.
    for name in [&[][..], &["telegram"]] {
        let outcome = binary::run(folder.path(), [&["channel", "add", "telegram"], name].concat());
        assert_eq!(outcome.code, Some(2), "{}", outcome.err);
        assert!(
            outcome.err.contains("there is a channel \"telegram\" already"),
            "{}",
            outcome.err
        );
        assert_eq!(outcome.out, "", "it is described before that");
    }
    assert_eq!(file_in(folder.path()), configuration);
}

#[test]
fn a_configuration_that_is_no_file_is_never_replaced_by_one() {
    let folder = folder();
    let link = folder.path().join("sluicegate.toml");
    std::os::unix::fs::symlink("/dev/stdin", &link).expect("a link");
    for arguments in [
        &["channel", "add", "websocket", "--open"][..],
        &["channel", "pause", "websocket"],
        &["channel", "remove", "websocket"],
    ] {
        let mut command = binary::command(folder.path());
        // A pipe, whose other end is closed at once.
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
        let outcome: Outcome = child.wait_with_output().expect("it ends").into();
        assert_eq!(outcome.code, Some(1), "{}", outcome.err);
        assert!(
            outcome.err.contains("can't be changed: it is not a regular file"),
            "{}",
            outcome.err
        );
        let is_link = link.symlink_metadata().expect("it is there").is_symlink();
        assert!(is_link, "{arguments:?} put a file in its place");
    }
}

#[test]
fn what_is_asked_for_is_not_granted_by_silence() {
    let folder = folder();
    let silent = binary::run(folder.path(), ["channel", "add", "terminal", "--open"]);
    assert_eq!(silent.code, Some(2));
    assert!(silent.err.contains("--grant terminal, or --yes"), "{}", silent.err);
    assert!(!folder.path().join("sluicegate.toml").exists(), "nothing is written");
    let granted = binary::run(
        folder.path(),
        ["channel", "add", "terminal", "--open", "--grant", "terminal"],
    );
    assert_eq!(granted.code, Some(0), "{}", granted.err);
    assert!(file_in(folder.path()).contains("grant = [\"terminal\"]"));
}

#[test]
fn who_may_talk_is_not_decided_by_silence() {
    let folder = folder();
    let outcome = binary::run(folder.path(), ["channel", "add", "websocket"]);
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.err.contains("--allow ID"), "{}", outcome.err);
}

#[test]
fn comments_and_order_outlive_every_edit() {
    let folder = folder();
    let text = "# Ours.\n\n[agents.main] # who\nkind = \"echo\"\n\n# The web.\n[channels.web]\ncomponent = \"websocket\" # bundled\naccess = \"open\"\n";
    std::fs::write(folder.path().join("sluicegate.toml"), text).expect("the file is written");
    let add = binary::run(folder.path(), ["channel", "add", "websocket", "other", "--allow", "7"]);
    assert_eq!(add.code, Some(0), "{}", add.err);
    assert!(file_in(folder.path()).starts_with(text));
    assert_eq!(binary::run(folder.path(), ["channel", "remove", "other"]).code, Some(0));
    assert_eq!(file_in(folder.path()), text);
    let again = binary::run(folder.path(), ["channel", "add", "websocket", "web", "--open"]);
    assert_eq!(again.code, Some(2));
    assert!(
        again.err.contains("there is a channel \"web\" already"),
        "{}",
        again.err
    );
}

#[test]
fn a_component_from_a_file_is_written_with_a_path_that_is_found_again() {
    let (folder, elsewhere) = (folder(), folder());
    let wasm = sluicegate_bundle::find("websocket")
        .expect("the websocket channel is bundled")
        .wasm;
    std::fs::write(elsewhere.path().join("mine.wasm"), wasm).expect("the component is written");
    std::fs::create_dir(folder.path().join("below")).expect("a folder is made");
    std::fs::write(folder.path().join("below/mine.wasm"), wasm).expect("the component is written");
    let config = folder.path().join("sluicegate.toml");
    for (from, component, name) in [
        (folder.path(), "below/mine.wasm", "near"),
        (elsewhere.path(), "mine.wasm", "far"),
    ] {
        let config = config.to_str().expect("the path is UTF-8");
        let add = binary::run(from, ["channel", "add", component, name, "--open", "--config", config]);
        assert_eq!(add.code, Some(0), "{}", add.err);
    }
    assert!(
        file_in(folder.path()).contains("component = \"./below/mine.wasm\""),
        "{}",
        file_in(folder.path())
    );
    assert_eq!(binary::run(folder.path(), ["config", "check"]).code, Some(0));
}

#[test]
fn a_component_is_described_for_people_and_for_programs() {
    let here = Path::new(".");
    let text = binary::run(here, ["component", "inspect", "terminal"]);
    assert_eq!(text.code, Some(0), "{}", text.err);
    assert!(
        text.out
            .contains("It asks for:\n  the terminal of the gateway's process"),
        "{}",
        text.out
    );
    let inspection = json(&binary::run(here, ["component", "inspect", "terminal", "--json"]));
    assert_eq!(inspection["terminal"], true);
    assert_eq!(inspection["digest"].as_str().map(str::len), Some(64));
    let names = json(&binary::run(here, ["component", "list", "--json"]));
    assert!(
        names
            .as_array()
            .is_some_and(|names| names.iter().any(|it| it["name"] == "terminal")),
        "{names}"
    );
}

#[test]
fn what_is_no_component_is_refused_in_words() {
    let folder = folder();
    std::fs::write(folder.path().join("text.wasm"), "not wasm").expect("the file is written");
    let outcome = binary::run(folder.path(), ["component", "inspect", "text.wasm"]);
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.err.starts_with("error: text.wasm is refused: "),
        "{}",
        outcome.err
    );
    let unknown = binary::run(folder.path(), ["component", "inspect", "terminl"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.err.contains("did you mean terminal?"), "{}", unknown.err);
}

#[test]
fn nobody_waits_for_what_is_no_file() {
    let folder = folder();
    let made = std::process::Command::new("mkfifo")
        .arg(folder.path().join("pipe"))
        .status();
    assert!(made.expect("mkfifo runs").success());
    for path in ["./pipe", "/dev/zero", "."] {
        let outcome = binary::run(folder.path(), ["component", "inspect", path]);
        assert_eq!(outcome.code, Some(1), "{path}");
        let words = format!("error: {path} can't be read: it is not a regular file\n");
        assert!(outcome.err.starts_with(&words), "{}", outcome.err);
    }
}

#[test]
fn an_unknown_channel_is_a_wrong_command_line() {
    let folder = folder();
    std::fs::write(
        folder.path().join("sluicegate.toml"),
        "[channels.web]\ncomponent = \"websocket\"\naccess = \"open\"\n",
    )
    .expect("a configuration");
    for command in ["show", "grant", "pause", "resume", "reload", "review", "remove"] {
        let outcome = binary::run(folder.path(), ["channel", command, "wep"]);
        assert_eq!(outcome.code, Some(2), "{}", outcome.err);
        let expected = "error: there is no channel \"wep\"\n  fix: did you mean web?";
        assert!(outcome.err.starts_with(expected), "{command}: {}", outcome.err);
    }
}

#[test]
fn a_trial_shows_what_was_tried_and_proposes_the_narrowest_grants_and_writes_nothing() {
    let folder = folder();
    let learned = binary::run(
        folder.path(),
        ["channel", "add", "telegram", "family", "--allow", "7", "--learn"],
    );
    assert_eq!(learned.code, Some(0), "{}", learned.err);
    for told in [
        "https://api.telegram.org/bot{{bot-token}}/",
        "(secret bot-token): denied",
        "grant = [\"https://api.telegram.org\"]",
        "sluicegate channel add telegram family --secret bot-token=env:VARIABLE --allow 7 --grant https://api.telegram.org\n",
        "nothing was written",
    ] {
        assert!(learned.out.contains(told), "{told} is missing in:\n{}", learned.out);
    }
    assert!(!folder.path().join("sluicegate.toml").exists(), "nothing is written");
    let to_anybody = binary::run(folder.path(), ["channel", "add", "telegram", "--learn"]);
    let command = to_anybody
        .out
        .lines()
        .find(|line| line.contains("sluicegate channel add"));
    assert!(
        command.is_some_and(|line| line.contains("--allow ID")),
        "the command leaves out who may talk to the agent:\n{}{}",
        to_anybody.out,
        to_anybody.err
    );
    let both = binary::run(folder.path(), ["channel", "add", "telegram", "--learn", "--yes"]);
    assert_eq!(
        both.code,
        Some(2),
        "what was learned is not granted unseen: {}",
        both.out
    );
}

/// An ordinary program with a socket, and a channel that has one besides.
const FOREIGN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/foreign.wasm"));
const WITH_SOCKETS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hostile.wasm"));

#[test]
fn a_channel_waits_for_a_review_where_its_file_is_another_than_the_one_that_ran_first() {
    let folder = folder();
    let component = folder.path().join("mine.wasm");
    std::fs::write(&component, WITH_SOCKETS).expect("the component is written");
    let config = "[channels.mine]\ncomponent = \"./mine.wasm\"\naccess = \"open\"\n";
    std::fs::write(folder.path().join("sluicegate.toml"), config).expect("the configuration is written");
    let waits = || json(&binary::run(folder.path(), ["channel", "list", "--json"]))[0]["waiting_for_review"].clone();
    assert_eq!(waits(), false, "the first that runs counts as reviewed");
    let name = ChannelName::parse("mine").expect("a name");
    let shelf = Shelf::of(&folder.path().join("data"));
    shelf
        .note_first(&name, &digest(WITH_SOCKETS))
        .expect("it is noted, as a start does");
    assert_eq!(waits(), false);
    std::fs::write(&component, FOREIGN).expect("another component is written");
    assert_eq!(waits(), true);
    let list = binary::run(folder.path(), ["channel", "list"]);
    assert!(list.out.contains("waiting for review"), "{}", list.out);
}

#[test]
fn a_component_that_wants_sockets_is_told_that_they_lead_nowhere_and_what_to_use() {
    let folder = folder();
    for (name, wasm, code) in [("foreign.wasm", FOREIGN, 1), ("channel.wasm", WITH_SOCKETS, 0)] {
        std::fs::write(folder.path().join(name), wasm).expect("a file is written");
        let inspected = binary::run(folder.path(), ["component", "inspect", name]);
        assert_eq!(inspected.code, Some(code), "{name}: {}", inspected.err);
        let said = if code == 0 { inspected.out } else { inspected.err };
        for words in [
            "network sockets (`wasi:sockets/",
            "lead nowhere here",
            "`http` or `net` of `sluicegate:channel`",
        ] {
            assert!(said.contains(words), "{name}: {said}");
        }
        assert_eq!(said.contains("not a channel"), code != 0, "{name}: {said}");
    }
}
