//! What an edit leaves of a configuration's file as it was, and what it does not touch at all.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use crate::binary::{self, Outcome};

const WEB: &str = "# Ours.\n\n# The web.\n[channels.web]\ncomponent = \"websocket\"\naccess = \"open\"\n";
/// A file of these bytes can be read, and no longer one.
const BYTES_MAX: usize = 1024 * 1024;

/// Makes a folder with this configuration.
fn folder_with(configuration: impl AsRef<[u8]>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder is made");
    std::fs::write(folder.path().join("sluicegate.toml"), configuration).expect("a configuration");
    folder
}

fn bytes_in(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("sluicegate.toml")).expect("the configuration is there")
}

fn add(folder: &Path, name: &str) -> Outcome {
    binary::run(folder, ["channel", "add", "websocket", name, "--open", "--yes"])
}

fn succeeds(outcome: &Outcome) {
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
}

#[test]
fn an_edited_configuration_is_still_its_owners() {
    const SOMEBODY: u32 = 65_534;
    let folder = folder_with(WEB);
    let file = folder.path().join("sluicegate.toml");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    if let Err(why) = chown(&file, Some(SOMEBODY), Some(SOMEBODY)) {
        return println!("skipped: only root can give a file away: {why}");
    }
    succeeds(&binary::run(folder.path(), ["channel", "pause", "web"]));
    succeeds(&add(folder.path(), "other"));
    let found = file.metadata().expect("it is there");
    assert_eq!((found.uid(), found.gid()), (SOMEBODY, SOMEBODY));
    assert_eq!(found.mode() & 0o777, 0o600);
    let text = String::from_utf8(bytes_in(folder.path())).expect("text");
    assert!(
        text.contains("paused = true") && text.contains("[channels.other]"),
        "{text}"
    );
}

#[test]
fn an_edit_never_makes_a_configuration_that_is_too_long_to_read() {
    let padding = "x".repeat(BYTES_MAX - WEB.len() - 8);
    let long = format!("{WEB}# {padding}\n");
    assert_eq!(long.len(), BYTES_MAX - 5);
    let folder = folder_with(&long);
    let outcome = add(folder.path(), "other");
    assert_eq!(outcome.code, Some(3), "{}", outcome.err);
    assert!(
        outcome.err.contains("would have more than 1048576 bytes"),
        "{}",
        outcome.err
    );
    assert!(bytes_in(folder.path()) == long.as_bytes(), "it was changed");
    succeeds(&binary::run(folder.path(), ["channel", "show", "web"]));
}

#[test]
fn a_link_that_leads_nowhere_is_never_replaced_by_a_file() {
    let folder = tempfile::tempdir().expect("a folder is made");
    let link = folder.path().join("sluicegate.toml");
    symlink("nowhere.toml", &link).expect("a link");
    for outcome in [
        add(folder.path(), "web"),
        binary::run(folder.path(), ["channel", "pause", "web"]),
        binary::run(folder.path(), ["channel", "remove", "web"]),
    ] {
        assert_eq!(outcome.code, Some(3), "{}", outcome.err);
        let words = "sluicegate.toml is a symbolic link that can't be followed";
        assert!(outcome.err.contains(words), "{}", outcome.err);
    }
    assert!(link.is_symlink(), "a file was put in its place");
    assert!(!folder.path().join("nowhere.toml").exists(), "it was made");
}

#[test]
fn line_ends_and_a_byte_order_mark_outlive_every_edit() {
    let text = format!("\u{feff}{}", WEB.replace('\n', "\r\n"));
    let folder = folder_with(&text);
    succeeds(&add(folder.path(), "other"));
    let added = "\r\n[channels.other]\r\ncomponent = \"websocket\"\r\naccess = \"open\"\r\n";
    let edited = String::from_utf8(bytes_in(folder.path())).expect("text");
    assert_eq!(edited, format!("{text}{added}"));
    succeeds(&binary::run(folder.path(), ["channel", "remove", "other"]));
    assert_eq!(bytes_in(folder.path()), text.as_bytes());
    succeeds(&binary::run(folder.path(), ["channel", "remove", "web"]));
    let left = String::from_utf8(bytes_in(folder.path())).expect("text");
    assert_eq!(left, "\u{feff}# Ours.\r\n");
}

#[test]
fn what_is_no_configuration_at_all_is_wrong_for_every_command() {
    for unfit in [vec![0xff, 0xfe], vec![b' '; BYTES_MAX + 1]] {
        let folder = folder_with(&unfit);
        for outcome in [
            binary::run(folder.path(), ["config", "check"]),
            binary::run(folder.path(), ["run"]),
            add(folder.path(), "web"),
            binary::run(folder.path(), ["channel", "remove", "web"]),
        ] {
            assert_eq!(outcome.code, Some(3), "{}", outcome.err);
        }
        assert!(bytes_in(folder.path()) == unfit, "it was changed");
    }
}

#[test]
fn channels_that_stand_on_one_line_are_added_and_removed_there() {
    let text = "channels = { web = { component = \"websocket\", access = \"open\" } } # all\n";
    let folder = folder_with(text);
    succeeds(&add(folder.path(), "other"));
    let edited = String::from_utf8(bytes_in(folder.path())).expect("text");
    assert_eq!(edited.lines().count(), 1, "{edited}");
    assert!(edited.ends_with("# all\n"), "{edited}");
    succeeds(&binary::run(folder.path(), ["channel", "show", "other"]));
    succeeds(&binary::run(folder.path(), ["config", "check"]));
    succeeds(&binary::run(folder.path(), ["channel", "remove", "web"]));
    let gone = binary::run(folder.path(), ["channel", "show", "web"]);
    assert_eq!(gone.code, Some(2), "{}", gone.err);
    succeeds(&binary::run(folder.path(), ["channel", "show", "other"]));
}
