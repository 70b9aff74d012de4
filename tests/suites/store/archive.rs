//! The store as someone sees it who is not its gateway: check, copy and export, while it is in use.

use std::path::Path;

use serde_json::Value;
use sluicegate::event::OutboundEvent;
use sluicegate::store::sqlite::{Archive, ArchiveError, CopyPlace, OpenError, SqliteStore};
use sluicegate::store::{EventStore, Quota};

use crate::fixtures::{NOW, accept, ack, block_on, channel, claim, claim_turns, end_of, enqueue, names};

fn sql(dir: &Path, sql: &str) {
    let db = rusqlite::Connection::open(dir.join("sluicegate.db")).expect("the file opens");
    db.execute_batch(sql).expect("the statement runs");
}

/// A store with something of everything.
async fn filled(dir: &Path) -> (SqliteStore, String) {
    let store = SqliteStore::open(dir).expect("the store opens");
    accept(&store, &[("m1", "ada"), ("m2", "bob")], NOW).await;
    let turn = claim_turns(&store, NOW).await.remove(0);
    let reply = OutboundEvent::reply(&turn.event, 0, "hello".into());
    let mut end = end_of(&turn, vec![reply]);
    end.history.push(sluicegate::store::HistoryEntry {
        role: sluicegate::store::Role::User,
        text: "text of m1".into(),
    });
    store.commit_turn(turn.fence, end, NOW).await.expect("commit");
    let dispatch = claim(&store, NOW).await.remove(0);
    ack(&store, &dispatch).await;
    enqueue(&store, &[("1", "ada"), ("2", "bob")], NOW).await;
    let dispatch = claim(&store, NOW).await.remove(0);
    store.bury(dispatch.claim, "no", NOW).await.expect("bury");
    let blob = store
        .blob_put(&channel("family"), "x/y", vec![7; 9], Quota::default(), NOW)
        .await;
    (store, blob.expect("put"))
}

#[test]
fn a_store_in_use_is_sound_and_copied_as_it_is() {
    let (dir, to) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    block_on(async {
        let (store, blob) = filled(dir.path()).await;
        let mut archive = Archive::open(dir.path()).expect("it can be looked at");
        assert_eq!(archive.check().expect("it is read"), [""; 0]);
        let folder = to.path().join("copy");
        let report = archive.backup(&CopyPlace::at(&folder)).expect("it is copied");
        assert_eq!((report.blobs, report.blobs_gone), (1, 0));
        // What happens after the copy is not in it.
        enqueue(&store, &[("3", "eve")], NOW).await;
        assert!(matches!(
            archive.backup(&CopyPlace::at(&folder)),
            Err(ArchiveError::InTheWay(_))
        ));
        let left = std::fs::read_dir(to.path()).expect("listed").count();
        assert_eq!(left, 1, "only the copy, and nothing unready");

        let copy = SqliteStore::open(&folder).expect("a copy is a data directory");
        let depth = copy.depth();
        assert_eq!((depth.inbox, depth.outbox, depth.dead), (1, 1, 1));
        let kept = copy.blob_get(&channel("family"), &blob).await.expect("get");
        assert_eq!(kept, Some(("x/y".to_owned(), vec![7; 9])));
        let next = claim(&copy, NOW).await;
        assert_eq!(names(&next).len(), 1);
    });
}

#[test]
fn an_export_has_everything_that_was_said_a_line_each() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_store, _) = block_on(filled(dir.path()));
    let mut out = Vec::new();
    let lines = Archive::open(dir.path()).expect("it can be looked at").export(&mut out);
    let text = String::from_utf8(out).expect("text");
    let values: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.expect("it is exported"), values.len() as u64);
    let of = |kind: &str| values.iter().filter(|one| one["kind"] == kind).collect::<Vec<_>>();
    assert_eq!(
        (of("history").len(), of("inbound").len(), of("outbound").len()),
        (1, 2, 3)
    );
    assert_eq!(of("history")[0]["text"], "text of m1");
    let states: Vec<&Value> = of("outbound").iter().map(|one| &one["message"]["state"]).collect();
    assert_eq!(states.iter().filter(|state| **state == "dead").count(), 1, "{states:?}");
    assert_eq!(of("inbound")[1]["message"]["event"]["message"]["text"], "text of m2");
}

#[test]
fn a_check_finds_what_is_wrong() {
    for (damage, words) in [
        ("UPDATE gateway SET outbox = outbox + 1", "the count `outbox`"),
        (
            "UPDATE outbox_body SET body = '{'",
            "outbound messages whose text is damaged",
        ),
        (
            "DELETE FROM outbox_body WHERE seq IN (SELECT seq FROM outbox WHERE state = 5)",
            "1 undelivered messages or dead letters without their text",
        ),
        (
            "DELETE FROM outbox_body WHERE seq IN (SELECT seq FROM outbox WHERE state >= 10)",
            "1 undelivered messages or dead letters without their text",
        ),
        ("DELETE FROM inbox_body", "waiting inbound messages without their text"),
        (
            "UPDATE outbox SET state = state - 10 WHERE state >= 10; UPDATE lane SET due_at = NULL",
            "undelivered messages that nothing will send",
        ),
        (
            "UPDATE gateway SET fresh_from = next_seq",
            "undelivered messages that nothing will send",
        ),
        (
            "UPDATE session SET due_at = NULL",
            "waiting inbound messages that nothing will answer",
        ),
        (
            "UPDATE history SET before = seq + 9",
            "1 lines of a history that are cut off",
        ),
        (
            "UPDATE session SET last_line = NULL",
            "1 sessions that do not know the last line",
        ),
        ("UPDATE blob SET size = size + 1", "has 9 of 10 bytes"),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        drop(block_on(filled(dir.path())));
        sql(dir.path(), damage);
        let faults = Archive::open(dir.path())
            .expect("it can be looked at")
            .check()
            .expect("it is read");
        assert!(faults.iter().any(|fault| fault.contains(words)), "{damage}: {faults:?}");
    }
}

#[test]
fn a_damaged_file_is_found_and_not_copied() {
    let (dir, to) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    let (store, _) = block_on(filled(dir.path()));
    block_on(async {
        let many: Vec<String> = (0..500).map(|n| format!("many{n}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "ada")).collect();
        enqueue(&store, &many, NOW).await;
    });
    drop(store);
    let file = dir.path().join("sluicegate.db");
    let mut bytes = std::fs::read(&file).expect("the file is read");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 16_384].fill(0x5A);
    std::fs::write(&file, bytes).expect("the file is damaged");
    let mut archive = Archive::open(dir.path()).expect("its first page is whole");
    assert!(
        !matches!(archive.check(), Ok(faults) if faults.is_empty()),
        "the damage was not found"
    );
    let folder = to.path().join("copy");
    assert!(archive.backup(&CopyPlace::at(&folder)).is_err());
    assert_eq!(
        std::fs::read_dir(to.path()).expect("listed").count(),
        0,
        "nothing is left of the copy"
    );
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(matches!(Archive::open(dir.path()), Err(OpenError::Missing(_))));
    assert_eq!(
        std::fs::read_dir(dir.path()).expect("listed").count(),
        0,
        "nothing is made"
    );
    sql(dir.path(), "CREATE TABLE theirs (a)");
    assert!(matches!(Archive::open(dir.path()), Err(OpenError::Foreign { .. })));
    std::fs::write(dir.path().join("sluicegate.db"), "a letter to my aunt ".repeat(99)).expect("written");
    assert!(matches!(Archive::open(dir.path()), Err(OpenError::Database { .. })));
}

#[test]
fn a_copy_that_is_whole_stays_and_one_that_was_discarded_comes_no_more() {
    let (dir, to) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    let (_store, _) = block_on(filled(dir.path()));
    let archive = Archive::open(dir.path()).expect("it can be looked at");
    let (whole, early) = (
        CopyPlace::at(&to.path().join("whole")),
        CopyPlace::at(&to.path().join("early")),
    );
    archive.backup(&whole).expect("it is copied");
    assert!(!whole.discard(), "it must not be said that nothing is left");
    assert!(early.discard(), "nothing was made");
    assert!(archive.backup(&early).is_err(), "it was discarded before");
    let left: Vec<_> = std::fs::read_dir(to.path()).expect("listed").collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(Archive::open(&to.path().join("whole")).is_ok());
}
