//! Power cuts: the real binary works on a disk that writes down every change, and afterwards each moment is looked at as
//! a cut would have left it: what was synced until then, and of the rest nothing, all, or random sectors of random writes.
//!
//! At every sync, just before and just after, the store is opened on these remains and asked for what the outside had
//! been told by then; at some of them the whole gateway is started, and finishes the work.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use futures_util::stream::{self, StreamExt as _};
use harness::{Delivery, FakePlatform, History, MockModel, Remains, Setup, TempFolder, TestDisk, Unsynced, http};
use serde_json::json;
use sluicegate::id::DeliveryKey;
use sluicegate::store::EventStore as _;
use sluicegate::store::sqlite::SqliteStore;

/// Conversations at once.
const POSTERS: usize = 3;
/// Messages of each.
const MESSAGES: usize = 4;
/// Moments at which the power is cut and a gateway started.
const STARTS: usize = 6;
/// Gateways that recover at once.
const AT_ONCE: usize = 2;
/// The most moments at which the store is opened in one test.
const OPENINGS_MAX: usize = 40;
/// Stands between a message's id and what makes it long.
const PADDING: char = '~';
/// A time that is later than everything in these runs, Unix milliseconds.
const LATER: i64 = 4_000_000_000_000;

/// What happened before the power was cut, from outside.
#[derive(Debug)]
struct FirstLife {
    history: History,
    /// When each message was confirmed, by its text.
    confirmed: Vec<(Instant, String)>,
    delivered: Vec<Delivery>,
}

impl FirstLife {
    /// Returns what the platform had taken by then; everything where the run had ended.
    fn delivered_until(&self, time: Option<Instant>) -> Vec<Delivery> {
        let before = self
            .delivered
            .iter()
            .filter(|one| time.is_none_or(|time| one.at <= time));
        before.cloned().collect()
    }

    fn is_confirmed(&self, id: &str, time: Option<Instant>) -> bool {
        let mut confirmed = self.confirmed.iter();
        confirmed.any(|(at, one)| one == id && time.is_none_or(|time| *at <= time))
    }
}

fn id(conversation: usize, n: usize) -> String {
    format!("c{conversation} m{n}")
}

/// Returns the id of the message that a reply answers.
fn answered(reply: &Delivery) -> &str {
    let text = reply.text.trim_start_matches("re: ");
    text.split(PADDING).next().unwrap_or_default()
}

fn body(conversation: usize, n: usize, padding: usize) -> String {
    let id = id(conversation, n);
    let text = format!("{id}{}", PADDING.to_string().repeat(padding));
    json!({"id": id, "conversation": format!("c{conversation}"), "sender": "ada", "text": text}).to_string()
}

/// Takes `messages` of each conversation the whole way, each longer by `padding` characters. None where this machine has
/// no such disk.
#[expect(clippy::print_stdout, reason = "says why nothing is proved on this machine")]
async fn first_life(agent: Setup, platform: &FakePlatform, messages: usize, padding: usize) -> Option<FirstLife> {
    let disk = match TestDisk::mount() {
        Ok(disk) => disk,
        Err(why) => {
            println!("skipped: {why}");
            return None;
        }
    };
    let mut gateway = agent.webhook("hook", platform).data(&disk.data()).start().await;
    let address = gateway.address();
    let mut posters = tokio::task::JoinSet::new();
    for conversation in 0..POSTERS {
        posters.spawn(async move {
            let mut confirmed = Vec::new();
            for n in 0..messages {
                let body = body(conversation, n, padding);
                let answer = http::request(address, "POST", "/hooks/hook", &[], body.as_bytes()).await;
                assert_eq!(answer.map(|answer| answer.status).ok(), Some(200));
                confirmed.push((Instant::now(), id(conversation, n)));
            }
            confirmed
        });
    }
    let confirmed = posters.join_all().await.into_iter().flatten().collect();
    for conversation in 0..POSTERS {
        platform.wait_for_accepted(&format!("c{conversation}"), messages).await;
    }
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    assert_eq!(gateway.terminate().await.code(), Some(0));
    Some(FirstLife {
        history: disk.history(),
        confirmed,
        delivered: platform.arrived().all(),
    })
}

/// Opens the store on what a power cut left, and returns what of the promises to the outside does not hold.
async fn broken(first: &FirstLife, time: Option<Instant>, data: &Path) -> Vec<String> {
    let store = match SqliteStore::open(data) {
        Ok(store) => store,
        Err(error) => return vec![format!("the store does not open: {error}")],
    };
    let mut faults = Vec::new();
    for (_, id) in &first.confirmed {
        if first.is_confirmed(id, time) && store.trace(id).await.expect("a trace").is_empty() {
            faults.push(format!("{id:?} was confirmed, and is lost"));
        }
    }
    let turns = store.claim_turns(1000, usize::MAX, LATER).await.expect("turns").turns;
    for reply in first.delivered_until(time) {
        let key = DeliveryKey::from_trusted(reply.key.clone());
        if store.delivery(&key).await.expect("a delivery").is_none() {
            faults.push(format!("{reply:?} was delivered, and is unknown"));
        }
        if turns.iter().any(|turn| turn.event.message.id == answered(&reply)) {
            faults.push(format!("{reply:?} was delivered, and would be asked for again"));
        }
    }
    drop(store);
    let db = rusqlite::Connection::open(data.join("sluicegate.db")).expect("the file opens");
    let verdict: String = db
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("an answer");
    if verdict != "ok" {
        faults.push(format!("the file is damaged: {verdict}"));
    }
    faults
}

/// Where remains are written: memory where there is such a folder, since a slow disk would only be waited for.
fn scratch() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    tempfile::tempdir_in(folder).expect("a temporary folder can be made")
}

/// Takes at most `max` of the moments, evenly spread, the last one with them.
fn some_of(moments: &[usize], max: usize) -> Vec<usize> {
    let count = moments.len().min(max);
    (1..=count).map(|n| moments[n * moments.len() / count - 1]).collect()
}

/// Opens the store on all kinds of remains at each of these moments, and returns every broken promise.
fn open_at(first: &FirstLife, moments: &[usize]) -> Vec<String> {
    let (mut faults, folder) = (Vec::new(), scratch());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    let look = |step: usize, remains: &Remains| {
        for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn(step as u64)] {
            let path = folder.path().join("disk");
            remains.write_to(&path, unsynced);
            let found = runtime.block_on(broken(first, first.history.time_of(step), &path.join("data")));
            let what = format!("step {step}, unsynced {unsynced:?}");
            faults.extend(found.into_iter().map(|fault| format!("{what}: {fault}")));
            std::fs::remove_dir_all(&path).expect("a temporary folder can be removed");
        }
    };
    first.history.walk(moments, look);
    faults
}

fn shown(faults: &[String]) -> String {
    format!(
        "{} broken promises:\n{}",
        faults.len(),
        faults[..faults.len().min(20)].join("\n")
    )
}

/// Opens the store on remains of moments around syncs; no promise may be broken.
#[expect(clippy::print_stdout, reason = "says how much was looked at")]
async fn assert_kept(first: FirstLife) -> FirstLife {
    let opened = tokio::task::spawn_blocking(move || {
        let all = first.history.around_syncs();
        let moments = some_of(&all, OPENINGS_MAX);
        let faults = open_at(&first, &moments);
        println!(
            "power cut at {} of {} moments around syncs, 3 kinds of remains each; {} confirmed, {} delivered; broken \
             promises: {}",
            moments.len(),
            all.len(),
            first.confirmed.len(),
            first.delivered.len(),
            faults.len()
        );
        assert!(faults.is_empty(), "{}", shown(&faults));
        first
    });
    opened
        .await
        .unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_outside_was_told_survives_a_power_cut_at_every_sync() {
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let Some(first) = first_life(Setup::new().model(&model), &platform, MESSAGES, 0).await else {
        return;
    };
    let first = assert_kept(first).await;
    // The same run on a disk that only says that it syncs: were nothing missed there, this proof could not fail.
    let first = FirstLife {
        history: first.history.without_syncs(),
        ..first
    };
    let faults = tokio::task::spawn_blocking(move || open_at(&first, &[first.history.len() / 2, first.history.len()]));
    let faults = faults.await.expect("a look at the remains");
    println!("broken promises where syncs do nothing: {}", faults.len());
    assert!(!faults.is_empty(), "a disk that lies about its syncs is not found out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_outside_was_told_survives_a_power_cut_around_checkpoints() {
    let platform = FakePlatform::start().await;
    // Enough for the log to be moved into the database while messages come in.
    let Some(first) = first_life(Setup::new().echo(), &platform, 12, 200_000).await else {
        return;
    };
    assert_kept(first).await;
}

/// Starts a gateway on what a cut after `steps` left, repeats what was not confirmed, and checks what arrives.
/// Returns the number of copies.
async fn second_life(first: &FirstLife, steps: usize, unsynced: Unsynced) -> usize {
    let what = format!(
        "power cut at step {steps} of {}, unsynced {unsynced:?}",
        first.history.len()
    );
    let disk = TempFolder::new();
    first.history.after_a_cut(steps, unsynced, disk.path());
    let time = first.history.time_of(steps);
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let setup = Setup::new().model(&model).webhook("hook", &platform);
    let gateway = setup.data(&disk.path().join("data")).start().await;
    for conversation in 0..POSTERS {
        for n in 0..MESSAGES {
            if !first.is_confirmed(&id(conversation, n), time) {
                let body = body(conversation, n, 0);
                let sent = http::request(gateway.address(), "POST", "/hooks/hook", &[], body.as_bytes());
                assert_eq!(sent.await.map(|answer| answer.status).ok(), Some(200), "{what}");
            }
        }
    }
    let before = first.delivered_until(time);
    let all_of = |conversation: usize| {
        let name = format!("c{conversation}");
        let mut all: Vec<Delivery> = before.iter().filter(|one| one.conversation == name).cloned().collect();
        all.extend(platform.accepted(&name));
        all
    };
    gateway.wait_for_metric("sluicegate_inbox_waiting", 0.0).await;
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    assert!(gateway.metric("sluicegate_dead_letters", "").await < 0.5, "{what}");
    let mut copies = 0;
    for conversation in 0..POSTERS {
        let all = all_of(conversation);
        let expected: Vec<String> = (0..MESSAGES).map(|n| format!("re: {}", id(conversation, n))).collect();
        let mut seen: Vec<&str> = Vec::new();
        for one in &all {
            if !seen.contains(&one.text.as_str()) {
                seen.push(&one.text);
            }
        }
        assert_eq!(seen, expected, "{what}: all answered, in order");
        copies += all.len() - expected.len();
    }
    let again = platform.arrived().all();
    for one in &again {
        let twice = again.iter().filter(|other| other.key == one.key).count();
        assert_eq!(twice, 1, "{what}: {one:?} came twice after the cut");
    }
    for one in &before {
        let question = answered(one);
        assert_eq!(model.times_asked(question), 0, "{what}: {question:?} had been answered");
    }
    copies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_goes_on_after_a_power_cut_at_any_moment() {
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let Some(first) = first_life(Setup::new().model(&model), &platform, MESSAGES, 0).await else {
        return;
    };
    let moments = first.history.around_syncs();
    let cuts = some_of(&moments, STARTS).into_iter();
    let kinds = |cut: usize| [(cut, Unsynced::Lost), (cut, Unsynced::Torn(cut as u64))];
    let first = &first;
    let lives = stream::iter(cuts.flat_map(kinds)).map(|(cut, unsynced)| second_life(first, cut, unsynced));
    let copies: Vec<usize> = lives.buffer_unordered(AT_ONCE).collect().await;
    let (lives, copies) = (copies.len(), copies.iter().sum::<usize>());
    println!(
        "{lives} recoveries at {STARTS} of {} moments around syncs; {} messages in each; lost 0, copies {copies} in all",
        moments.len(),
        POSTERS * MESSAGES
    );
}
