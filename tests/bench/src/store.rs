//! The store's figures: durable pairs (enqueue + acknowledgement) a second, beside a bare log on the same disk.
//!
//! The floor is one thread that appends whatever is queued, up to the store's own bound, to a preallocated file, and
//! syncs once for all of it: nothing durable can be quicker on that disk without giving up the flush. In `store.floor_*`
//! both records of a pair wait for their flush; in `store.floor_lazy_*` only the first does, as in the store.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluicegate::clock::{Clock as _, SystemClock, UnixMillis};
use sluicegate::event::{Action, Confirmation, Conversation, ConversationKind, OutboundEvent, Purpose, Receipt};
use sluicegate::id::{ChannelName, DeliveryKey, EventId};
use sluicegate::limit;
use sluicegate::store::sqlite::SqliteStore;
use sluicegate::store::{Ask, DeliveryClaim, EventStore};
use tokio::sync::{Notify, mpsc, oneshot};

const NOW: UnixMillis = 1_800_000_000_000;
/// Room for everything that one measurement of the floor appends.
const LOG_BYTES: u64 = 512 * 1024 * 1024;

/// Measures the store and its floors, one after the other. `quick` takes a second each in place of four.
///
/// # Panics
/// When the disk or the store refuses: there is no figure then.
pub(crate) fn run(out: &mut impl FnMut(&str, f64, &str), quick: bool) {
    let time = Duration::from_secs(if quick { 1 } else { 4 });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    out("store.flush_ms", flush_ms(), "ms");
    for clients in [64, 512] {
        let floor = runtime.block_on(floor_pairs(clients, time, true));
        out(&format!("store.floor_c{clients}"), floor, "pairs/s");
        let lazy = runtime.block_on(floor_pairs(clients, time, false));
        out(&format!("store.floor_lazy_c{clients}"), lazy, "pairs/s");
        let pairs = runtime.block_on(store_pairs(clients, time));
        out(&format!("store.pairs_c{clients}"), pairs, "pairs/s");
    }
    out("store.file_per_event_c64", file_pairs(64, time), "pairs/s");
}

/// Returns the median time of a 4 KiB write with its flush, milliseconds.
pub(crate) fn flush_ms() -> f64 {
    flush_of(4096)
}

/// Returns the median time of a write of `bytes` with its flush, milliseconds: into a file that has room already.
pub(crate) fn flush_of(bytes: u64) -> f64 {
    const FLUSHES: u64 = 100;
    let dir = tempfile::tempdir_in(".").expect("a directory for the measurement");
    let mut file = preallocated(&dir.path().join("log"), (FLUSHES * bytes).next_multiple_of(1024 * 1024));
    let page = vec![7; usize::try_from(bytes).expect("a write fits into memory")];
    let mut times: Vec<f64> = (0..FLUSHES)
        .map(|_| {
            let began = Instant::now();
            file.write_all(&page).expect("the disk takes a write");
            file.sync_data().expect("the disk flushes");
            began.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn preallocated(path: &Path, bytes: u64) -> File {
    let mut file = File::create(path).expect("a file for the measurement");
    let zeros = vec![0; 1024 * 1024];
    for _ in 0..bytes / zeros.len() as u64 {
        file.write_all(&zeros).expect("room for the measurement");
    }
    file.sync_all().expect("the disk flushes");
    file.rewind().expect("a file can be rewound");
    file
}

fn event(client: usize, round: u64) -> OutboundEvent {
    let id = format!("conversation-{client}");
    let cause = EventId::generate(SystemClock.now_ms());
    OutboundEvent {
        key: DeliveryKey::of_turn(&cause, 0),
        channel: ChannelName::from_trusted("bench"),
        conversation: Conversation {
            id,
            thread: None,
            kind: ConversationKind::Direct,
            title: None,
        },
        action: Action::Send,
        purpose: Purpose::Answer,
        in_reply_to: Some(format!("message-{round}")),
        text: "All work and no play makes a gateway dull. ".repeat(6),
        attachments: Vec::new(),
        choices: Vec::new(),
        cause: Some(cause),
        extra: Vec::new(),
    }
}

/// Counts pairs from the moment that all clients run until the time is over.
async fn pairs_a_second<F>(clients: usize, time: Duration, client: impl Fn(usize, Arc<Meter>) -> F) -> f64
where
    F: Future<Output = ()> + Send + 'static,
{
    let meter = Arc::new(Meter::default());
    let tasks: Vec<_> = (0..clients)
        .map(|index| tokio::spawn(client(index, Arc::clone(&meter))))
        .collect();
    let began = Instant::now();
    let from = meter.pairs.load(Ordering::Relaxed);
    tokio::time::sleep(time).await;
    let pairs = meter.pairs.load(Ordering::Relaxed) - from;
    let elapsed = began.elapsed();
    meter.is_over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("a client ends");
    }
    pairs as f64 / elapsed.as_secs_f64()
}

#[derive(Default)]
struct Meter {
    pairs: AtomicU64,
    is_over: AtomicBool,
}

impl Meter {
    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.pairs.fetch_add(1, Ordering::Relaxed);
    }
}

// ---- the store

async fn store_pairs(clients: usize, time: Duration) -> f64 {
    let dir = tempfile::tempdir_in(".").expect("a directory for the measurement");
    let store = Arc::new(SqliteStore::open(dir.path()).expect("the store opens"));
    let courier = Arc::new(Courier::default());
    let dispatching = tokio::spawn(dispatch(Arc::clone(&store), Arc::clone(&courier)));
    let pairs = pairs_a_second(clients, time, |index, meter| {
        store_client(index, meter, Arc::clone(&store), Arc::clone(&courier))
    })
    .await;
    courier.is_over.store(true, Ordering::Relaxed);
    courier.wake.notify_one();
    dispatching.await.expect("the dispatcher ends");
    store.close().await.expect("the store closes");
    pairs
}

/// Where the dispatcher hands a claim to the client whose event it is, as a delivery worker would to a channel.
#[derive(Default)]
struct Courier {
    waiting: Mutex<HashMap<String, oneshot::Sender<DeliveryClaim>>>,
    wake: Notify,
    is_over: AtomicBool,
}

impl Courier {
    fn expect(&self, key: &DeliveryKey) -> oneshot::Receiver<DeliveryClaim> {
        let (claim_tx, claim_rx) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(key.as_str().to_owned(), claim_tx);
        claim_rx
    }

    fn hand_out(&self, key: &DeliveryKey, claim: DeliveryClaim) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = waiting.remove(key.as_str()) {
            let _ = client.send(claim);
        }
    }
}

async fn dispatch(store: Arc<SqliteStore>, courier: Arc<Courier>) {
    let channels = [Ask::unbounded(ChannelName::from_trusted("bench"))];
    while !courier.is_over.load(Ordering::Relaxed) {
        let claimed = store
            .lazy_claim_heads(&channels, 1024, NOW)
            .await
            .expect("the store hands out claims")
            .dispatches;
        if claimed.is_empty() {
            courier.wake.notified().await;
        }
        for one in claimed {
            courier.hand_out(&one.event.key, one.claim);
        }
    }
}

async fn store_client(index: usize, meter: Arc<Meter>, store: Arc<SqliteStore>, courier: Arc<Courier>) {
    let mut round = 0;
    while meter.goes_on() {
        let event = event(index, round);
        let claim = courier.expect(&event.key);
        store.enqueue(vec![event], NOW).await.expect("the store takes an event");
        courier.wake.notify_one();
        let claim = claim.await.expect("the dispatcher hands the event out");
        store
            .lazy_mark_sending(claim, NOW)
            .await
            .expect("the store takes the mark");
        let receipt = Receipt {
            message_ids: vec![round.to_string()],
            confirmation: Confirmation::Complete,
        };
        store
            .lazy_ack(claim, receipt, NOW)
            .await
            .expect("the store takes the acknowledgement");
        meter.count();
        round += 1;
    }
}

// ---- the floors

/// A record for the log, and where its writer is told that it is written (or durable).
struct Record {
    bytes: Vec<u8>,
    is_durable: bool,
    written: oneshot::Sender<()>,
}

/// Returns pairs a second of a bare log; with `is_ack_durable` both records of a pair wait for their flush.
pub(crate) async fn floor_pairs(clients: usize, time: Duration, is_ack_durable: bool) -> f64 {
    let dir = tempfile::tempdir_in(".").expect("a directory for the measurement");
    let file = preallocated(&dir.path().join("log"), LOG_BYTES);
    let (records_tx, records_rx) = mpsc::channel(limit::STORE_QUEUE_MAX);
    let log = std::thread::spawn(move || append(file, records_rx));
    let pairs = pairs_a_second(clients, time, |index, meter| {
        floor_client(index, meter, records_tx.clone(), is_ack_durable)
    })
    .await;
    drop(records_tx);
    log.join().expect("the log ends");
    pairs
}

fn append(mut file: File, mut records: mpsc::Receiver<Record>) {
    let (mut batch, mut bytes, mut at) = (Vec::new(), Vec::new(), 0);
    while records.blocking_recv_many(&mut batch, limit::STORE_BATCH_COMMANDS_MAX) > 0 {
        bytes.clear();
        batch.iter().for_each(|record| bytes.extend_from_slice(&record.bytes));
        if at + bytes.len() as u64 > LOG_BYTES {
            file.rewind().expect("a file can be rewound");
            at = 0;
        }
        at += bytes.len() as u64;
        file.write_all(&bytes).expect("the disk takes a batch");
        let (durable, lazy): (Vec<_>, Vec<_>) = batch.drain(..).partition(|record| record.is_durable);
        tell(lazy);
        if !durable.is_empty() {
            file.sync_data().expect("the disk flushes");
        }
        tell(durable);
    }
}

fn tell(written: Vec<Record>) {
    for record in written {
        // Its client may have gone.
        let _ = record.written.send(());
    }
}

async fn floor_client(index: usize, meter: Arc<Meter>, records: mpsc::Sender<Record>, is_ack_durable: bool) {
    let mut round = 0;
    while meter.goes_on() {
        let event = event(index, round);
        let bytes = serde_json::to_vec(&event).expect("an event is JSON");
        write(&records, bytes, true).await;
        write(&records, event.key.as_str().as_bytes().to_vec(), is_ack_durable).await;
        meter.count();
        round += 1;
    }
}

async fn write(records: &mpsc::Sender<Record>, bytes: Vec<u8>, is_durable: bool) {
    let (written, done) = oneshot::channel();
    assert!(
        records
            .send(Record {
                bytes,
                is_durable,
                written
            })
            .await
            .is_ok(),
        "the log lives"
    );
    done.await.expect("the log answers");
}

/// Pairs a second where each event is a file: written, synced with its directory, and unlinked.
pub(crate) fn file_pairs(clients: usize, time: Duration) -> f64 {
    let dir = tempfile::tempdir_in(".").expect("a directory for the measurement");
    let began = Instant::now();
    let threads: Vec<_> = (0..clients)
        .map(|index| {
            let path = dir.path().to_owned();
            std::thread::spawn(move || {
                let mut round = 0;
                while began.elapsed() < time {
                    let file = path.join(format!("{index}-{round}.json"));
                    write_event_file(&path, &file, &event(index, round));
                    std::fs::remove_file(&file).expect("the file is there");
                    round += 1;
                }
                round
            })
        })
        .collect();
    let pairs: u64 = threads
        .into_iter()
        .map(|thread| thread.join().expect("a client ends"))
        .sum();
    pairs as f64 / began.elapsed().as_secs_f64()
}

fn write_event_file(dir: &Path, path: &Path, event: &OutboundEvent) {
    let mut file = File::create_new(path).expect("a file for the event");
    file.write_all(&serde_json::to_vec(event).expect("an event is JSON"))
        .expect("the disk takes an event");
    file.sync_all().expect("the disk flushes");
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .expect("the directory flushes");
}
