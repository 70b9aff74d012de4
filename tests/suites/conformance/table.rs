//! The table of what works: made by the run, kept in the README, one line a channel.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::cases::{CASES, Column, Outcome};

/// Where the table stands, and where the reasons for what is missing.
const TABLE: &str = "README.md";
const REASONS: &str = "components/README.md";
const BEGIN: &str = "<!-- conformance -->";
const END: &str = "<!-- /conformance -->";

/// One line is rewritten at a time.
static WRITING: Mutex<()> = Mutex::new(());

/// Returns the root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Compares a channel's lines with what its cases did, or writes them where `UPDATE_GOLDEN=1` says so.
///
/// # Panics
/// Where they differ.
pub(crate) fn keep(name: &str, peer: &str, outcomes: &[Outcome]) {
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    keep_line(TABLE, &format!("| {name} |"), Some(table_line(name, peer, outcomes)));
    keep_line(REASONS, &format!("- **{name}**:"), reasons_line(name, outcomes));
}

fn table_line(name: &str, peer: &str, outcomes: &[Outcome]) -> String {
    let mut line = format!("| {name} |");
    for column in Column::ALL {
        let of_column = || CASES.iter().zip(outcomes).filter(|((_, own, _), _)| *own == column);
        let passed = of_column().filter(|(_, outcome)| **outcome == Outcome::Passed);
        let passed: Vec<&str> = passed.map(|((_, _, words), _)| *words).collect();
        let lacking = of_column().filter(|(_, outcome)| matches!(outcome, Outcome::NotApplicable(_)));
        let lacking: Vec<&str> = lacking.map(|((_, _, words), _)| *words).collect();
        let cell = match (passed.is_empty(), lacking.is_empty()) {
            (_, true) => passed.join(", "),
            (true, false) => format!("n/a: {}", lacking.join(", ")),
            (false, false) => format!("{}; n/a: {}", passed.join(", "), lacking.join(", ")),
        };
        line.push_str(&format!(" {cell} |"));
    }
    format!("{line} {peer} |")
}

/// Returns the reasons for what has no meaning on a platform, cases of one reason together; none where nothing lacks.
fn reasons_line(name: &str, outcomes: &[Outcome]) -> Option<String> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for ((_, _, words), outcome) in CASES.iter().zip(outcomes) {
        let Outcome::NotApplicable(why) = outcome else {
            continue;
        };
        match reasons.iter_mut().find(|(known, _)| known == why) {
            Some((_, cases)) => cases.push(words),
            None => reasons.push((why, vec![words])),
        }
    }
    let reasons = reasons
        .iter()
        .map(|(why, cases)| format!("{}: {why}", cases.join(", ")));
    let reasons: Vec<String> = reasons.collect();
    (!reasons.is_empty()).then(|| format!("- **{name}**: {}.", reasons.join("; ")))
}

/// Compares (or writes) the line with this beginning in the block of a file; none wants it away.
fn keep_line(file: &str, beginning: &str, wanted: Option<String>) {
    let path = root().join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
    let (before, block, after) = parts(&text).unwrap_or_else(|| panic!("{file} has no block {BEGIN} … {END}"));
    let found = block.lines().find(|line| line.starts_with(beginning));
    if found == wanted.as_deref() {
        return;
    }
    let update = std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1");
    assert!(
        update,
        "{file} says {found:?}, the run says {wanted:?}: `UPDATE_GOLDEN=1 cargo test -p suites --test conformance` writes it"
    );
    let block = replaced(block, beginning, wanted.as_deref());
    std::fs::write(&path, format!("{before}{block}{after}")).unwrap_or_else(|error| panic!("{file}: {error}"));
}

/// Cuts a text into what stands before the block's lines, the lines, and what stands after them.
fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let begin = text.find(BEGIN)? + BEGIN.len() + 1;
    let end = begin + text.get(begin..)?.find(END)?;
    Some((&text[..begin], &text[begin..end], &text[end..]))
}

/// Returns a block with one line put in place of another, the lines of channels in order.
fn replaced(block: &str, beginning: &str, wanted: Option<&str>) -> String {
    let is_channel =
        |line: &&str| line.starts_with("| ") && !line.starts_with("| channel ") || line.starts_with("- **");
    let others = block.lines().filter(|line| !line.starts_with(beginning));
    let (mut channels, head): (Vec<&str>, Vec<&str>) = others.partition(is_channel);
    channels.extend(wanted);
    channels.sort_unstable();
    head.into_iter()
        .chain(channels)
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn a_line_takes_its_place_among_the_others() {
    let block = "| channel | x |\n| --- | --- |\n| b | old |\n| c | - |\n";
    let with = |wanted| replaced(block, "| b |", wanted);
    assert_eq!(with(Some("| b | new |")), block.replace("old", "new"));
    assert_eq!(with(None), block.replace("| b | old |\n", ""));
    assert_eq!(
        replaced(block, "| a |", Some("| a | - |")),
        "| channel | x |\n| --- | --- |\n| a | - |\n| b | old |\n| c | - |\n"
    );
}

#[test]
fn what_has_no_meaning_stands_in_the_line_with_its_reason() {
    let lacks = |n: usize| {
        if n == 1 || n == 3 {
            Outcome::NotApplicable("it has none")
        } else {
            Outcome::Passed
        }
    };
    let outcomes: Vec<Outcome> = (0..CASES.len()).map(lacks).collect();
    let line = table_line("x", "a peer", &outcomes);
    assert!(
        line.starts_with("| x | text, reply, file; n/a: edit, thread |") && line.ends_with("| a peer |"),
        "{line}"
    );
    assert_eq!(
        reasons_line("x", &outcomes).as_deref(),
        Some("- **x**: edit, thread: it has none.")
    );
}

#[test]
fn the_heading_has_the_columns_of_the_table() {
    let text = std::fs::read_to_string(root().join(TABLE)).expect("the README is there");
    let headings: Vec<&str> = Column::ALL.iter().map(|column| column.heading()).collect();
    let heading = format!("| channel | {} | proved against |", headings.join(" | "));
    assert!(
        text.contains(&heading),
        "the README's table has another heading than {heading}"
    );
}

#[test]
fn no_line_of_the_table_is_of_a_channel_that_is_gone() {
    let text = std::fs::read_to_string(root().join(TABLE)).expect("the README is there");
    let (_, block, _) = parts(&text).expect("the README has the table");
    let lines = block.lines().filter_map(|line| line.strip_prefix("| "));
    let names = lines.filter_map(|line| line.split(" |").next());
    for name in names.filter(|name| *name != "channel" && !name.starts_with("---")) {
        // A channel may have rows for several ways of receiving: `slack (events)`.
        let folder = name.split(' ').next().unwrap_or(name);
        assert!(
            crate::CHANNELS.contains(&folder),
            "the README has a row of {name}, which has no proof"
        );
    }
}
