//! What can't be seen from outside: when flushes happen, who waits for them, and what follows when one fails.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use rusqlite::{StatementStatus, params};

use super::attempt::WAITING_LANES_OF;
use super::outbox::Outgoing;
use super::writer::{Answer, Failure};
use super::{SqliteStore, flusher};
use crate::clock::UnixMillis;
use crate::event::{Action, Confirmation, Conversation, ConversationKind, OutboundEvent, Purpose, Receipt};
use crate::id::{ChannelName, DeliveryKey};
use crate::limit;
use crate::store::{Ask, Attempted, DeliveryState, Dispatch, Error, EventStore, Full, Marks, Pressure, Quota};

const NOW: UnixMillis = 1_800_000_000_000;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts")
        .block_on(future)
}

/// Polls once: a command goes into the queue with the first poll.
fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    Pin::new(future)
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_pending()
}

fn event(name: &str) -> OutboundEvent {
    OutboundEvent {
        key: DeliveryKey::from_trusted(name),
        channel: family(),
        conversation: Conversation {
            id: name.into(),
            thread: None,
            kind: ConversationKind::Direct,
            title: None,
        },
        action: Action::Send,
        purpose: Purpose::Answer,
        in_reply_to: None,
        text: String::new(),
        attachments: Vec::new(),
        choices: Vec::new(),
        cause: None,
        extra: Vec::new(),
    }
}

fn family() -> ChannelName {
    ChannelName::from_trusted("family")
}

fn receipt() -> Receipt {
    Receipt {
        message_ids: Vec::new(),
        confirmation: Confirmation::Complete,
    }
}

async fn claim(store: &SqliteStore) -> Result<Vec<Dispatch>, Error> {
    Ok(store
        .lazy_claim_heads(&[Ask::unbounded(family())], 9, NOW)
        .await?
        .dispatches)
}

/// A store that counts its flushes.
fn counting(dir: &Path) -> (SqliteStore, Arc<AtomicUsize>) {
    let flushes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&flushes);
    let sync = move |wal: std::fs::File| -> flusher::Sync {
        Box::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            wal.sync_data()
        })
    };
    (
        SqliteStore::open_with(dir, Marks::default(), sync).expect("the store opens"),
        flushes,
    )
}

/// A store whose flushes begin with a word to the test and end with a word from it.
fn stepwise(dir: &Path) -> (SqliteStore, Receiver<()>, SyncSender<io::Result<()>>) {
    let (begun_tx, begun_rx) = sync_channel(64);
    let (end_tx, end_rx) = sync_channel::<io::Result<()>>(64);
    let end_rx = Mutex::new(end_rx);
    let sync = move |_| -> flusher::Sync {
        Box::new(move || {
            // The test may be over.
            let _ = begun_tx.send(());
            end_rx.lock().expect("one thread flushes").recv().unwrap_or(Ok(()))
        })
    };
    (
        SqliteStore::open_with(dir, Marks::default(), sync).expect("the store opens"),
        begun_rx,
        end_tx,
    )
}

#[test]
fn only_durable_writes_are_flushed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, flushes) = counting(dir.path());
    block_on(async {
        store.enqueue(vec![event("a"), event("b")], NOW).await.expect("enqueue");
        let after_enqueue = flushes.load(Ordering::SeqCst);
        assert_eq!(after_enqueue, 1);
        let claimed = claim(&store).await.expect("claim");
        store.lazy_ack(claimed[0].claim, receipt(), NOW).await.expect("ack");
        let failed = Attempted::Failed;
        store
            .lazy_reschedule(claimed[1].claim, NOW, false, failed, "", NOW)
            .await
            .expect("reschedule");
        store.next_head_due(&[family()]).await.expect("next");
        assert_eq!(
            flushes.load(Ordering::SeqCst),
            after_enqueue,
            "lazy writes wait for no flush"
        );
        store.enqueue(vec![event("a")], NOW).await.expect("enqueue");
        assert_eq!(
            flushes.load(Ordering::SeqCst),
            after_enqueue,
            "what changes nothing needs none"
        );
        store.enqueue(vec![event("c")], NOW).await.expect("enqueue");
        assert_eq!(flushes.load(Ordering::SeqCst), after_enqueue + 1);
    });
}

#[test]
fn a_durable_write_is_answered_after_its_flush() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, begun, end) = stepwise(dir.path());
    block_on(async {
        let mut first = store.enqueue(vec![event("a")], NOW);
        assert!(is_pending(&mut first));
        begun.recv().expect("the flush begins");
        assert!(is_pending(&mut first), "committed, but not durable");
        end.send(Ok(())).expect("the flush ends");
        first.await.expect("enqueue");
    });
}

#[test]
fn nothing_is_handed_out_that_a_power_cut_could_unwrite() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, begun, end) = stepwise(dir.path());
    block_on(async {
        let family = family();
        let mut write = store.accept(&family, Vec::new(), Some("42".into()), NOW);
        assert!(is_pending(&mut write));
        begun.recv().expect("the flush begins");
        // Committed, so visible to readers and to the next command, but not durable.
        let mut enqueue = store.enqueue(vec![event("a")], NOW);
        assert!(is_pending(&mut enqueue));
        let mut claiming = Box::pin(claim(&store));
        assert!(is_pending(&mut claiming));
        store
            .next_head_due(std::slice::from_ref(&family))
            .await
            .expect("the commands before it are committed now");
        let mut cursor = store.cursor(&family);
        for _ in 0..1000 {
            assert!(is_pending(&mut cursor), "the cursor waits for its flush");
            tokio::task::yield_now().await;
        }
        assert!(is_pending(&mut claiming), "the claim waits for the flush of its rows");
        for _ in 0..4 {
            end.send(Ok(())).expect("the flush ends");
        }
        write.await.expect("accept");
        enqueue.await.expect("enqueue");
        assert_eq!(cursor.await.expect("cursor").as_deref(), Some("42"));
        assert_eq!(claiming.await.expect("claim").len(), 1);
    });
}

#[test]
fn a_lazy_write_is_answered_while_a_flush_is_under_way() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, begun, end) = stepwise(dir.path());
    block_on(async {
        end.send(Ok(())).expect("room");
        store.enqueue(vec![event("a")], NOW).await.expect("enqueue");
        begun.recv().expect("the flush of a began");
        let claimed = claim(&store).await.expect("claim");
        let mut other = store.enqueue(vec![event("b")], NOW);
        assert!(is_pending(&mut other));
        begun.recv().expect("the flush of b begins");
        store.lazy_ack(claimed[0].claim, receipt(), NOW).await.expect("ack");
        assert!(is_pending(&mut other));
        end.send(Ok(())).expect("the flush ends");
        other.await.expect("enqueue");
    });
}

#[test]
fn a_failed_flush_stops_the_store() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, begun, end) = stepwise(dir.path());
    block_on(async {
        let mut first = store.enqueue(vec![event("a")], NOW);
        assert!(is_pending(&mut first));
        begun.recv().expect("the flush begins");
        let mut second = store.enqueue(vec![event("b")], NOW);
        assert!(is_pending(&mut second));
        end.send(Err(io::Error::other("the cable is out")))
            .expect("the flush ends");
        for result in [
            first.await,
            second.await,
            store.enqueue(vec![event("c")], NOW).await,
            store.close().await,
        ] {
            let Err(Error::Poisoned(reason)) = result else {
                panic!("{result:?}")
            };
            assert!(reason.contains("the cable is out"), "{reason}");
        }
        assert!(!store.is_sound());
        assert!(begun.try_recv().is_err(), "no flush is tried again");
    });
}

#[test]
fn a_panic_stops_the_store() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(dir.path()).expect("the store opens");
    block_on(async {
        let broken = store
            .write(Answer::Durable, 0, |_| -> Result<(), Failure> { panic!("a bug") })
            .await;
        assert!(matches!(broken, Err(Error::Poisoned(_))), "{broken:?}");
        let later = store.enqueue(vec![event("a")], NOW).await;
        assert!(matches!(later, Err(Error::Poisoned(_))), "{later:?}");
        assert!(!store.is_sound());
    });
}

#[test]
fn a_command_that_fails_half_done_takes_no_other_with_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(dir.path()).expect("the store opens");
    block_on(async {
        // Holds the writer until the other three are queued.
        let (go_tx, go_rx) = sync_channel(0);
        let held = store.write(Answer::Lazy, 0, move |_| Ok(go_rx.recv().is_ok()));
        let broken = store.write(Answer::Durable, 0, |work| {
            let outgoing = Outgoing::of(&event("half"))?;
            work.enqueue(&outgoing, None, NOW)?;
            // A second row under the same number: a constraint.
            work.sql("INSERT INTO session (id, key, due_at) VALUES (1, 'k', NULL), (1, 'l', ?1)")?
                .execute(params![work.memory.next_seq() - 1])?;
            Ok(())
        });
        let (mut held, mut before) = (Box::pin(held), store.enqueue(vec![event("before")], NOW));
        let (mut broken, mut after) = (Box::pin(broken), store.enqueue(vec![event("after")], NOW));
        assert!(is_pending(&mut held) && is_pending(&mut before));
        assert!(is_pending(&mut broken) && is_pending(&mut after));
        go_tx.send(()).expect("the writer waits");
        // Run again after the rollback, it finds the sender gone.
        drop(go_tx);
        held.await.expect("held");
        before.await.expect("the one before");
        after.await.expect("the one after");
        let refused = broken.await;
        assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
        assert_eq!(store.depth().outbox, 2, "counted without the broken one");
        let claimed = claim(&store).await.expect("claim");
        let mut names: Vec<_> = claimed.iter().map(|one| one.event.key.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["after", "before"]);
    });
}

#[test]
fn a_mark_that_nobody_waited_for_does_not_outlive_the_end_of_its_attempt() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(dir.path()).expect("the store opens");
    block_on(async {
        store.enqueue(vec![event("a"), event("b")], NOW).await.expect("enqueue");
        let claimed = claim(&store).await.expect("claim");
        // Holds the writer until all of it is queued: one transaction.
        let (go_tx, go_rx) = sync_channel(0);
        let mut held = Box::pin(store.write(Answer::Lazy, 0, move |_| Ok(go_rx.recv().is_ok())));
        assert!(is_pending(&mut held));
        for one in &claimed {
            let mut given_up = store.lazy_mark_sending(one.claim, NOW);
            assert!(is_pending(&mut given_up));
        }
        let mut ended = store.lazy_reschedule(claimed[0].claim, NOW + 9, false, Attempted::NotAtAll, "", NOW);
        assert!(is_pending(&mut ended));
        go_tx.send(()).expect("the writer waits");
        held.await.expect("held");
        ended.await.expect("the attempt ends");
        for (one, expected) in claimed
            .iter()
            .zip([(DeliveryState::Retrying, 0), (DeliveryState::Sending, 1)])
        {
            let shown = store
                .delivery(&one.event.key)
                .await
                .expect("read")
                .expect("it is there");
            assert_eq!((shown.state, shown.attempts), expected);
        }
    });
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(dir.path()).expect("the store opens");
    let pages_max = async |sql: &'static str| {
        store
            .write(Answer::Lazy, 0, move |work| {
                Ok(work.sql(sql)?.query_row([], |row| row.get::<_, i64>(0))?)
            })
            .await
    };
    block_on(async {
        store.enqueue(vec![event("a")], NOW).await.expect("enqueue");
        let _ = pages_max("PRAGMA max_page_count = 1")
            .await
            .expect("it stops at the present size");
        let large = store
            .state_set(
                &family(),
                "k",
                Some(vec![0; limit::STATE_VALUE_BYTES_MAX]),
                Quota::default(),
            )
            .await;
        assert!(matches!(large, Err(Error::Busy)), "{large:?}");
        assert!(store.is_sound(), "SQLite has rolled it back: nothing is in doubt");
        assert_eq!(store.state_get(&family(), "k").await.expect("get"), None);
        let claimed = claim(&store).await.expect("what needs no room goes on");
        store.lazy_ack(claimed[0].claim, receipt(), NOW).await.expect("ack");
        let _ = pages_max("PRAGMA max_page_count = 1000000")
            .await
            .expect("there is room again");
        store
            .state_set(
                &family(),
                "k",
                Some(vec![0; limit::STATE_VALUE_BYTES_MAX]),
                Quota::default(),
            )
            .await
            .expect("set");
    });
}

#[test]
fn what_is_kept_of_fresh_lanes_is_bounded_and_nothing_is_forgotten() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(dir.path()).expect("the store opens");
    let fresh = async || {
        let sql = "SELECT count(*) FROM outbox WHERE state >= 10";
        let count = store.write(Answer::Lazy, 0, move |work| {
            Ok(work.sql(sql)?.query_row([], |row| row.get::<_, i64>(0))?)
        });
        usize::try_from(count.await.expect("count")).expect("a count")
    };
    block_on(async {
        let names: Vec<_> = (0..limit::FRESH_ROWS_MAX + 10).map(|n| format!("{n:05}")).collect();
        let events = names.iter().map(|name| event(name)).collect();
        store.enqueue(events, NOW).await.expect("enqueue");
        assert_eq!(fresh().await, limit::FRESH_ROWS_MAX);
        let claimed = store
            .lazy_claim_heads(&[Ask::unbounded(family())], usize::MAX, NOW)
            .await
            .expect("claim");
        let mut found: Vec<_> = claimed.dispatches.iter().map(|one| one.event.key.as_str()).collect();
        found.sort_unstable();
        assert_eq!(found, names, "each lane's head, once");
        let last = claimed.dispatches.last().expect("a head").claim;
        store
            .lazy_reschedule(last, NOW, false, Attempted::Failed, "", NOW)
            .await
            .expect("reschedule");
        assert_eq!(fresh().await, limit::FRESH_ROWS_MAX - 1, "a retry settles its lane");
        store.sweep(NOW).await.expect("sweep");
        assert_eq!(fresh().await, 0, "a sweep settles all");
        assert_eq!(store.depth().outbox, names.len() as u64);
    });
}

#[test]
fn a_dropped_future_leaves_its_command_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(dir.path()).expect("the store opens");
    block_on(async {
        let mut given_up = store.enqueue(vec![event("a"), event("b")], NOW);
        assert!(is_pending(&mut given_up));
        drop(given_up);
        assert_eq!(claim(&store).await.expect("claim").len(), 2);
    });
}

#[test]
fn a_sign_of_life_costs_the_same_however_many_other_lanes_are_stuck() {
    let steps_beside = |stuck: usize| {
        let dir = tempfile::tempdir().expect("a directory");
        let store = SqliteStore::open(dir.path()).expect("the store opens");
        block_on(async {
            let events = (0..=stuck).map(|n| event(&n.to_string())).collect();
            store.enqueue(events, NOW).await.expect("enqueue");
            let heads = store
                .lazy_claim_heads(&[Ask::unbounded(family())], usize::MAX, NOW)
                .await
                .expect("claim");
            assert_eq!(heads.dispatches.len(), stuck + 1);
            for head in heads.dispatches {
                store
                    .lazy_reschedule(head.claim, NOW + 60_000, false, Attempted::Failed, "", NOW)
                    .await
                    .expect("reschedule");
            }
            store.reachable(&family(), "0", None, NOW).await.expect("reachable");
            assert_eq!(claim(&store).await.expect("claim").len(), 1, "it is due now");
            let steps = store.write(Answer::Lazy, 0, |work| {
                Ok(work.sql(WAITING_LANES_OF)?.get_status(StatementStatus::VmStep))
            });
            steps.await.expect("steps")
        })
    };
    let beside_one = steps_beside(1);
    assert!(beside_one > 0, "it was not looked for in this way");
    assert_eq!(steps_beside(100), beside_one);
}

#[test]
fn every_search_of_a_hot_path_uses_an_index() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(dir.path()).expect("the store opens");
    let plans = store.write(Answer::Lazy, 0, |work| {
        let mut scans = Vec::new();
        for sql in [
            "SELECT id FROM lane WHERE channel = ?1 AND tried = ?2 AND due_at <= ?3 ORDER BY due_at LIMIT ?4",
            "SELECT due_at, id FROM lane WHERE channel = ?1 AND tried = ?2 AND due_at IS NOT NULL ORDER BY due_at LIMIT ?3",
            "SELECT seq FROM outbox WHERE lane = ?1 AND state <= 2 ORDER BY seq LIMIT 1",
            "SELECT seq FROM inbox WHERE session = ?1 AND state = 0 ORDER BY seq LIMIT 1",
            "SELECT id FROM session WHERE channel = ?1 AND due_at <= ?2 ORDER BY due_at LIMIT ?3",
            "SELECT due_at, id FROM session WHERE channel = ?1 AND due_at IS NOT NULL ORDER BY due_at",
            "SELECT seq FROM outbox WHERE state = 5 ORDER BY finished_at DESC, seq DESC LIMIT ?1",
            "SELECT seq FROM inbox WHERE state = 2 ORDER BY finished_at DESC, seq DESC LIMIT ?1",
        ] {
            let mut statement = work.sql(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            let nulls = params_none(&statement);
            let details: Vec<String> = statement
                .query_map(nulls, |row| row.get(3))?
                .collect::<Result<_, _>>()?;
            let plan = details.join("; ");
            if !plan.contains("INDEX") || plan.contains("TEMP B-TREE") {
                scans.push(format!("{sql}: {plan}"));
            }
        }
        Ok(scans)
    });
    assert_eq!(block_on(plans).expect("plans"), Vec::<String>::new());
}

/// Nulls for a statement's parameters: its plan does not depend on their values.
fn params_none(statement: &rusqlite::CachedStatement<'_>) -> impl rusqlite::Params + use<> {
    rusqlite::params_from_iter(vec![None::<i64>; statement.parameter_count()])
}

#[test]
fn a_file_without_room_is_pressure_until_a_file_finds_room_whatever_transactions_find() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(dir.path()).expect("the store opens");
    let failed = |bytes, kind: io::ErrorKind| store.written::<()>(bytes, Err(kind.into())).expect_err("it is said");
    let put = |bytes: usize| {
        let family = family();
        let put = store.blob_put(&family, "text/plain", vec![0; bytes], Quota::default(), NOW);
        block_on(put).expect("it is stored")
    };
    let broken = failed(1, io::ErrorKind::PermissionDenied);
    assert!(matches!(broken, Error::Refused(_)), "{broken:?}");
    assert_eq!(store.pressure(), Pressure::default());
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
        let full = failed(10, kind);
        assert!(matches!(full, Error::Busy), "{full:?}");
        let no_files = Pressure {
            intake: Some(Full::Files),
            turns: None,
        };
        assert_eq!(store.pressure(), no_files);
        block_on(store.enqueue(vec![event(&kind.to_string())], NOW)).expect("there is room");
        assert_eq!(store.pressure(), no_files, "a transaction says nothing of files");
        put(9);
        assert_eq!(store.pressure(), no_files, "a smaller file says nothing of it");
        put(10);
        assert_eq!(store.pressure(), Pressure::default());
    }
}

#[test]
fn a_look_at_the_disk_tells_whether_a_file_would_find_room() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(dir.path()).expect("the store opens");
    let full = store.written::<()>(10, Err(io::ErrorKind::StorageFull.into()));
    assert!(matches!(full, Err(Error::Busy)), "{full:?}");
    block_on(store.look_for_room(9));
    assert_eq!(store.pressure().intake, Some(Full::Files), "it has ten bytes");
    std::fs::rename(store.blobs.clone(), dir.path().join("away")).expect("it can be moved");
    block_on(store.look_for_room(10));
    assert_eq!(store.pressure().intake, Some(Full::Files), "no file can be made");
    std::fs::rename(dir.path().join("away"), store.blobs.clone()).expect("it can be moved back");
    block_on(store.look_for_room(10));
    assert_eq!(store.pressure(), Pressure::default());
    let left = std::fs::read_dir(&store.blobs).expect("it is there").count();
    assert_eq!(left, 0, "what was tried is removed");
}
