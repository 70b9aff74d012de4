//! What holds for the SQLite files themselves: who may open them, and what a crash leaves of them.

use std::path::Path;

use sluicegate::store::sqlite::{OpenError, SqliteStore};
use sluicegate::store::{EventStore, Quota, Standing};

use crate::fixtures::{
    NOW, accept, ack, block_on, channel, claim, claim_one, claim_turns, end_of, enqueue, names, outbound,
};
use crate::outbox::retry_at;

fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(dir).expect("the store opens")
}

fn sql(dir: &Path, sql: &str) {
    let db = rusqlite::Connection::open(dir.join("sluicegate.db")).expect("the file opens");
    db.execute_batch(sql).expect("the statement runs");
}

/// Copies the database and its log as a crash would leave them: without a word to the store that uses them.
fn crash_image(from: &Path) -> tempfile::TempDir {
    let image = tempfile::tempdir().expect("a directory");
    for file in ["sluicegate.db", "sluicegate.db-wal"] {
        std::fs::copy(from.join(file), image.path().join(file)).expect("the file is copied");
    }
    image
}

#[test]
fn a_directory_has_one_user() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = open(dir.path());
    let Err(refused) = SqliteStore::open(dir.path()) else {
        panic!("it was opened twice")
    };
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused:?}");
    let words = refused.to_string();
    assert!(
        words.contains(&std::process::id().to_string()),
        "it names the process: {words}"
    );
    assert!(
        words.contains(&dir.path().display().to_string()),
        "it names the directory: {words}"
    );
    drop(first);
    drop(open(dir.path()));
}

#[test]
fn a_store_whose_files_were_taken_away_or_replaced_stops() {
    for file in ["sluicegate.db", "sluicegate.db-wal"] {
        for is_replaced in [false, true] {
            let dir = tempfile::tempdir().expect("a directory");
            let store = open(dir.path());
            block_on(store.measure()).expect("it is where it was");
            let path = dir.path().join(file);
            std::fs::rename(&path, dir.path().join("away")).expect("it is moved");
            if is_replaced {
                std::fs::copy(dir.path().join("away"), &path).expect("it is copied");
            }
            let refused = block_on(store.measure()).expect_err("what it writes would be lost");
            assert!(
                refused.to_string().contains("was removed or replaced") && refused.to_string().contains(file),
                "{refused}"
            );
            assert!(!store.is_sound());
        }
    }
}

#[test]
fn a_damaged_database_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("sluicegate.db"), [7; 8192]).expect("it is written");
    let Err(refused) = SqliteStore::open(dir.path()) else {
        panic!("it was opened")
    };
    assert!(refused.to_string().contains("`sluicegate db backup`"), "{refused}");
}

#[test]
fn the_files_are_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = tempfile::tempdir().expect("a directory");
    let dir = parent.path().join("new").join("data");
    let store = open(&dir);
    block_on(async {
        let blob = store
            .blob_put(&channel("family"), "x/y", vec![1], Quota::default(), NOW)
            .await
            .expect("put");
        let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&dir.join("blobs"))), (0o700, 0o700));
        for file in ["sluicegate.db", "sluicegate.db-wal", "sluicegate.lock"] {
            assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
        }
        assert_eq!(mode(&dir.join("blobs").join(blob)), 0o600);
    });
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(open(dir.path()));
    sql(dir.path(), "PRAGMA user_version = 999");
    let before = std::fs::read(dir.path().join("sluicegate.db")).expect("the file is read");
    let Err(refused) = SqliteStore::open(dir.path()) else {
        panic!("it was opened")
    };
    assert!(matches!(refused, OpenError::Newer { found: 999, .. }), "{refused:?}");
    assert!(before == std::fs::read(dir.path().join("sluicegate.db")).expect("the file is read"));
}

#[test]
fn what_waits_in_an_older_schema_waits_in_the_new_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    block_on(async {
        enqueue(&store, &[("tried", "ada"), ("new", "bob")], NOW).await;
        accept(&store, &[("turn", "ada")], NOW).await;
        for dispatch in claim(&store, NOW).await {
            if dispatch.event.conversation.id == "ada" {
                retry_at(&store, &dispatch, NOW).await;
            }
        }
        store.close().await.expect("close");
    });
    drop(store);
    sql(
        dir.path(),
        "DROP INDEX lane_due; ALTER TABLE lane DROP COLUMN tried;
        CREATE INDEX lane_due ON lane (channel, due_at) WHERE due_at IS NOT NULL;
        DROP INDEX session_due; ALTER TABLE session DROP COLUMN channel;
        CREATE INDEX session_due ON session (due_at) WHERE due_at IS NOT NULL;
        PRAGMA user_version = 2",
    );
    let store = open(dir.path());
    let claimed = block_on(claim(&store, NOW));
    let mut standings: Vec<_> = names(&claimed)
        .into_iter()
        .zip(claimed.iter().map(|one| one.standing))
        .collect();
    standings.sort_by_key(|(name, _)| *name);
    assert_eq!(standings, [("new", Standing::New), ("tried", Standing::Tried)]);
    assert_eq!(block_on(claim_turns(&store, NOW)).len(), 1);
}

#[test]
fn a_foreign_database_is_refused_and_left_alone() {
    for foreign in ["PRAGMA application_id = 7", "CREATE TABLE theirs (a)"] {
        let dir = tempfile::tempdir().expect("a directory");
        sql(dir.path(), foreign);
        let before = std::fs::read(dir.path().join("sluicegate.db")).expect("the file is read");
        let Err(refused) = SqliteStore::open(dir.path()) else {
            panic!("it was opened")
        };
        assert!(matches!(refused, OpenError::Foreign { .. }), "{refused:?}");
        assert!(before == std::fs::read(dir.path().join("sluicegate.db")).expect("the file is read"));
    }
}

#[test]
fn what_is_no_database_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(
        dir.path().join("sluicegate.db"),
        "this is a letter to my aunt ".repeat(99),
    )
    .expect("written");
    let Err(refused) = SqliteStore::open(dir.path()) else {
        panic!("it was opened")
    };
    assert!(matches!(refused, OpenError::Database { .. }), "{refused:?}");
}

#[test]
fn the_schema_is_marked_and_sound() {
    let dir = tempfile::tempdir().expect("a directory");
    block_on(enqueue(&open(dir.path()), &[("1", "ada")], NOW));
    let db = rusqlite::Connection::open(dir.path().join("sluicegate.db")).expect("the file opens");
    let text = |sql: &str| db.query_row(sql, [], |row| row.get::<_, String>(0)).expect("an answer");
    assert_eq!(
        text("SELECT printf('%x', application_id) FROM pragma_application_id"),
        "534c4754"
    );
    assert_eq!(text("PRAGMA integrity_check"), "ok");
    assert_eq!(text("PRAGMA journal_mode"), "wal");
    let lax = "SELECT count(*) || '' FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%' AND NOT strict";
    assert_eq!(text(lax), "0", "every table is strict");
}

#[test]
fn every_answered_write_is_in_the_image_of_a_crash() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    block_on(async {
        accept(&store, &[("m", "ada")], NOW).await;
        let image = crash_image(dir.path());
        assert_eq!(claim_turns(&open(image.path()), NOW).await.len(), 1, "after accept");

        let turn = claim_turns(&store, NOW).await.remove(0);
        store
            .lazy_record_answer(turn.fence, &turn.event.id, "forty-two")
            .await
            .expect("record");
        let image = crash_image(dir.path());
        let again = claim_turns(&open(image.path()), NOW).await.remove(0);
        assert_eq!(again.answer.as_deref(), Some("forty-two"), "after a lazy write");

        let end = end_of(&turn, vec![outbound("a", "ada"), outbound("b", "ada")]);
        store.commit_turn(turn.fence, end, NOW).await.expect("commit");
        let image = crash_image(dir.path());
        let after_commit = open(image.path());
        assert!(claim_turns(&after_commit, NOW).await.is_empty(), "after commit_turn");
        assert_eq!(claim_one(&after_commit, NOW).await.ambiguous, 0, "after commit_turn");

        let dispatch = claim_one(&store, NOW).await;
        let image = crash_image(dir.path());
        assert_eq!(
            claim_one(&open(image.path()), NOW).await.ambiguous,
            0,
            "after the claim"
        );

        store.lazy_mark_sending(dispatch.claim, NOW).await.expect("mark");
        let image = crash_image(dir.path());
        assert_eq!(
            claim_one(&open(image.path()), NOW).await.ambiguous,
            1,
            "after the sending mark"
        );

        ack(&store, &dispatch).await;
        let image = crash_image(dir.path());
        let after_ack = open(image.path());
        assert_eq!(names(&claim(&after_ack, NOW).await), ["b"], "after the acknowledgement");
        assert_eq!(after_ack.depth(), store.depth());
    });
}

#[test]
fn a_torn_log_loses_its_end_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let names: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    for name in &names {
        block_on(enqueue(&store, &[(name, "ada")], NOW));
    }
    let log = std::fs::metadata(dir.path().join("sluicegate.db-wal"))
        .expect("the log is there")
        .len();
    for part in 1..=16 {
        let image = crash_image(dir.path());
        let file = std::fs::File::options()
            .write(true)
            .open(image.path().join("sluicegate.db-wal"));
        file.and_then(|file| file.set_len(log * part / 16))
            .expect("the log is cut");
        let Ok(cut) = SqliteStore::open(image.path()) else {
            panic!("a torn log must not stop the store")
        };
        let mut found = Vec::new();
        while let Some(dispatch) = block_on(claim(&cut, NOW)).into_iter().next() {
            found.push(dispatch.event.key.as_str().trim_start_matches("dlv_").to_owned());
            block_on(ack(&cut, &dispatch));
        }
        assert_eq!(found, names[..found.len()], "the first ones, in order, without a hole");
        assert!(part < 16 || found.len() == names.len(), "the whole log has them all");
    }
}

#[test]
fn a_blob_file_without_a_row_goes_at_the_next_opening() {
    let dir = tempfile::tempdir().expect("a directory");
    let family = channel("family");
    let store = open(dir.path());
    let blob = block_on(store.blob_put(&family, "x/y", vec![1, 2], Quota::default(), NOW)).expect("put");
    drop(store);
    let stray = dir.path().join("blobs").join("blob_stray");
    std::fs::write(&stray, "left by a crash").expect("written");
    let store = open(dir.path());
    assert!(!stray.exists());
    assert!(block_on(store.blob_get(&family, &blob)).expect("get").is_some());
    std::fs::write(dir.path().join("blobs").join(&blob), [1]).expect("written");
    assert!(
        block_on(store.blob_get(&family, &blob)).is_err(),
        "a file that is not whole is not handed out"
    );
}

#[test]
fn a_message_that_can_no_longer_be_read_does_not_block_its_lane() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    block_on(async {
        enqueue(&store, &[("1", "ada"), ("2", "ada")], NOW).await;
        accept(&store, &[("m1", "ada"), ("m2", "ada")], NOW).await;
    });
    drop(store);
    sql(
        dir.path(),
        "UPDATE outbox_body SET body = '{' WHERE seq = (SELECT min(seq) FROM outbox_body)",
    );
    sql(
        dir.path(),
        "UPDATE inbox_body SET body = '{' WHERE seq = (SELECT min(seq) FROM inbox_body)",
    );
    let store = open(dir.path());
    block_on(async {
        assert!(claim(&store, NOW).await.is_empty());
        assert_eq!(names(&claim(&store, NOW).await), ["2"]);
        assert!(claim_turns(&store, NOW).await.is_empty());
        assert_eq!(claim_turns(&store, NOW).await.len(), 1);
        assert_eq!(
            (store.depth().dead, store.depth().inbox),
            (1, 1),
            "it is counted, not lost from sight"
        );
    });
}

#[test]
fn an_opening_that_fails_leaves_what_it_found_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let left = || -> std::collections::BTreeSet<_> {
        let entries = std::fs::read_dir(dir.path()).expect("listed");
        entries.map(|entry| entry.expect("an entry").file_name()).collect()
    };
    std::fs::write(dir.path().join("sluicegate.db"), "a letter to my aunt ".repeat(99)).expect("written");
    let before = left();
    assert!(matches!(SqliteStore::open(dir.path()), Err(OpenError::Database { .. })));
    assert_eq!(left(), before, "of a damaged database");
    // Folders that nobody needs, because what they are to hold can't be made.
    std::fs::remove_file(dir.path().join("sluicegate.db")).expect("it goes");
    std::fs::create_dir(dir.path().join("sluicegate.db")).expect("a folder in the way");
    let before = left();
    assert!(SqliteStore::open(dir.path()).is_err());
    assert_eq!(left(), before, "of a folder where the database belongs");
    let too_long = dir.path().join("new").join("x".repeat(300));
    assert!(SqliteStore::open(&too_long).is_err());
    assert_eq!(left(), before, "of a directory that can't be made");
    // What was there stays there, and opens once it is whole.
    std::fs::remove_dir(dir.path().join("sluicegate.db")).expect("it goes");
    drop(open(dir.path()));
    sql(dir.path(), "PRAGMA application_id = 7");
    let before = left();
    assert!(matches!(SqliteStore::open(dir.path()), Err(OpenError::Foreign { .. })));
    assert_eq!(left(), before, "of a database of another program");
}

#[test]
fn a_list_of_keys_is_bounded_whatever_the_quota_allows() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, family) = (open(dir.path()), channel("family"));
    let quota = Quota {
        state_bytes: u64::MAX >> 1,
        state_keys: u64::MAX >> 1,
        ..Quota::default()
    };
    block_on(async {
        let set = store.state_set(&family, "b/1", Some(vec![1]), quota).await;
        set.expect("set");
        // As a component would fill it, within a quota that an operator may give.
        sql(
            dir.path(),
            "INSERT INTO state WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 17000)
                SELECT channel.id, 'a/' || printf('%01022d', n), x'' FROM number, channel WHERE channel.name = 'family'",
        );
        for prefix in ["", "a", "a/"] {
            let listed = store.state_keys(&family, prefix).await;
            let Err(sluicegate::store::Error::Quota(words)) = listed else {
                panic!("{prefix:?}: {:?} keys", listed.map(|keys| keys.len()))
            };
            assert!(words.contains("longer prefixes"), "{words}");
        }
        assert_eq!(store.state_keys(&family, "b/").await.expect("keys"), ["b/1"]);
        let tenth = format!("a/{}1", "0".repeat(1017));
        assert_eq!(store.state_keys(&family, &tenth).await.expect("keys").len(), 7001);
    });
}
