//! Delivery's figures against the store itself: whole turns a second, what a turn commit takes, and what a backlog costs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sluicegate::clock::{Clock as _, SystemClock, UnixMillis};
use sluicegate::event::{
    Confirmation, Conversation, ConversationKind, EventKind, InboundEvent, InboundMessage, OutboundEvent, Receipt,
    Sender,
};
use sluicegate::id::{ChannelName, DeliveryKey, EventId, SessionKey};
use sluicegate::store::sqlite::SqliteStore;
use sluicegate::store::{Ask, ClaimedTurn, Dispatch, EventStore, HistoryEntry, Role, TurnCommit};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::report::Report;
use crate::sample::Sample;
use crate::store::{file_pairs, floor_pairs, flush_ms, flush_of};

/// The channel of everything that goes out.
pub(crate) const CHANNEL: &str = "out";
/// Turns that are committed, and answers that are delivered, at once: sessions and lanes of their own.
const CLIENTS: usize = 512;
/// What a message says, both ways.
const TEXT: &str = "All work and no play makes a gateway dull. All work and no play makes a gateway dull.";
/// Events of one command where a backlog is made.
const FILLED_AT_ONCE: u64 = 500;
/// Deliveries at once where a backlog is worked off.
const WORKERS: usize = 32;

fn now() -> UnixMillis {
    SystemClock.now_ms()
}

fn channel() -> ChannelName {
    ChannelName::from_trusted(CHANNEL)
}

fn inbound(place: usize, number: usize) -> InboundEvent {
    let now = now();
    InboundEvent {
        id: EventId::generate(now),
        channel: channel(),
        session: SessionKey::from_trusted(format!("{CHANNEL}/{place}")),
        received_at_ms: now,
        message: InboundMessage {
            kind: EventKind::Message,
            id: format!("{place}-{number}"),
            conversation: Conversation {
                id: format!("conversation-{place}"),
                thread: None,
                kind: ConversationKind::Direct,
                title: None,
            },
            sender: Sender {
                id: "ada".to_owned(),
                name: None,
                bot: false,
            },
            text: TEXT.to_owned(),
            attachments: Vec::new(),
            in_reply_to: None,
            value: None,
            sent_at_ms: None,
            addressed: true,
            extra: Vec::new(),
        },
    }
}

fn outcome(turn: &ClaimedTurn) -> TurnCommit {
    let said = |role| HistoryEntry {
        role,
        text: TEXT.to_owned(),
    };
    TurnCommit {
        event: turn.event.id.clone(),
        session: turn.event.session.clone(),
        history: vec![said(Role::User), said(Role::Assistant)],
        outbound: vec![OutboundEvent::reply(&turn.event, 0, TEXT.to_owned())],
    }
}

fn receipt(dispatch: &Dispatch) -> Receipt {
    Receipt {
        message_ids: vec![dispatch.claim.row.to_string()],
        confirmation: Confirmation::Complete,
    }
}

/// Stores `rounds` inbound events for each of `sessions`.
async fn accept(store: &SqliteStore, sessions: usize, rounds: usize) -> anyhow::Result<()> {
    for number in 0..rounds {
        let events = (0..sessions).map(|place| inbound(place, number)).collect();
        store.accept(&channel(), events, None, now()).await?;
    }
    Ok(())
}

// ---- whole turns

/// Measures `delivery.pairs_c512` beside its floors.
///
/// A pair here goes through everything that a message leaves behind: the commit of its turn (inbound done, two lines of
/// history, the answer with its key and lane) and the acknowledgement of the answer (claim, receipt).
pub(crate) async fn pairs(report: &mut Report) -> anyhow::Result<()> {
    let (rounds, time) = if report.quick { (20, 1) } else { (100, 4) };
    let time = Duration::from_secs(time);
    let floor = floor_pairs(CLIENTS, time, true).await;
    report.figure("delivery.floor_c512", floor, "pairs/s");
    report.figure("delivery.file_per_event_c64", file_pairs(64, time), "pairs/s");
    let dir = tempfile::tempdir_in(".")?;
    let store = Arc::new(SqliteStore::open(dir.path())?);
    accept(&store, CLIENTS, rounds).await?;
    let wake = Arc::new(Notify::new());
    let began = Instant::now();
    let turns = tokio::spawn(run_turns(Arc::clone(&store), Arc::clone(&wake), CLIENTS * rounds));
    deliver(&store, &wake, CLIENTS * rounds).await?;
    turns.await??;
    let pairs = (CLIENTS * rounds) as f64 / began.elapsed().as_secs_f64();
    report.figure("delivery.pairs_c512", pairs, "pairs/s");
    store.close().await?;
    Ok(())
}

/// Claims turns and commits them until `count` are done; each end makes the next turn of its session due.
async fn run_turns(store: Arc<SqliteStore>, wake: Arc<Notify>, count: usize) -> anyhow::Result<()> {
    let (mut done, mut running) = (0, JoinSet::new());
    while done < count {
        // A turn that is committed and not yet durable counts: its session is free already, its client is not.
        for turn in store
            .claim_turns(CLIENTS - running.len(), usize::MAX, now())
            .await?
            .turns
        {
            let (store, wake) = (Arc::clone(&store), Arc::clone(&wake));
            running.spawn(async move {
                let committed = store.commit_turn(turn.fence, outcome(&turn), now()).await;
                wake.notify_one();
                committed
            });
        }
        done += finished(&mut running).await?;
    }
    Ok(())
}

/// Claims heads and acknowledges them until `count` are delivered.
async fn deliver(store: &Arc<SqliteStore>, wake: &Notify, count: usize) -> anyhow::Result<()> {
    let (mut done, mut running) = (0, JoinSet::new());
    while done < count {
        let claimed = store
            .lazy_claim_heads(&[Ask::unbounded(channel())], CLIENTS - running.len(), now())
            .await?
            .dispatches;
        if claimed.is_empty() && running.is_empty() {
            wake.notified().await;
        }
        for dispatch in claimed {
            let store = Arc::clone(store);
            running.spawn(async move {
                store.lazy_mark_sending(dispatch.claim, now()).await?;
                store.lazy_ack(dispatch.claim, receipt(&dispatch), now()).await
            });
        }
        done += finished(&mut running).await?;
    }
    Ok(())
}

/// Waits for one of the running commands, if there is any, and takes along all that have ended too.
async fn finished(running: &mut JoinSet<Result<(), sluicegate::store::Error>>) -> anyhow::Result<usize> {
    let mut count = 0;
    let mut ended = running.join_next().await;
    while let Some(one) = ended {
        one??;
        count += 1;
        ended = running.try_join_next();
    }
    Ok(count)
}

// ---- one turn commit

/// Measures `delivery.commit_p50_over_flush`: what eight clients wait for a turn commit, over a bare flush; and of what
/// that wait is made, as far as it can be seen from outside.
pub(crate) async fn commit(report: &mut Report) -> anyhow::Result<()> {
    const SESSIONS: usize = 8;
    let rounds: usize = if report.quick { 100 } else { 400 };
    let dir = tempfile::tempdir_in(".")?;
    let store = Arc::new(SqliteStore::open(dir.path())?);
    accept(&store, SESSIONS, rounds + rounds.div_ceil(SESSIONS)).await?;
    let before = flush_ms();
    let written = bytes_written()?;
    let sample = commits(&store, SESSIONS, SESSIONS * rounds).await?;
    let bytes = (bytes_written()? - written) / (SESSIONS * rounds) as u64;
    let flush = f64::midpoint(before, flush_ms());
    report.figure("delivery.commit_flush_ms", flush, "ms");
    report.figure("delivery.commit_p50_ms", sample.median_ms(), "ms");
    report.figure("delivery.commit_p50_over_flush", sample.median_ms() / flush, "times");
    report.figure("delivery.commit_bytes", bytes as f64, "bytes");
    report.figure("delivery.commit_flush_same_bytes_ms", flush_of(bytes), "ms");
    parts(&store, rounds, report).await?;
    store.close().await?;
    Ok(())
}

/// Commits `count` turns, of `clients` sessions at once.
async fn commits(store: &Arc<SqliteStore>, clients: usize, count: usize) -> anyhow::Result<Sample> {
    let (mut sample, mut running) = (Sample::default(), JoinSet::new());
    let mut unclaimed = count;
    for _ in 0..count {
        let free = unclaimed.min(clients - running.len());
        for turn in store.claim_turns(free, usize::MAX, now()).await?.turns {
            unclaimed -= 1;
            let store = Arc::clone(store);
            running.spawn(async move {
                let began = Instant::now();
                store.commit_turn(turn.fence, outcome(&turn), now()).await?;
                Ok::<_, sluicegate::store::Error>(began.elapsed())
            });
        }
        sample.add(running.join_next().await.context("a turn runs")???);
    }
    Ok(sample)
}

/// Says what a client waits for that is alone: for a command that does nothing (there and back again), for one that writes
/// a little and is not flushed, and for a turn commit. Beside the last, the rest of the wait of eight is for each other.
async fn parts(store: &Arc<SqliteStore>, rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let (mut empty, mut lazy) = (Sample::default(), Sample::default());
    let turn = store
        .claim_turns(1, usize::MAX, now())
        .await?
        .turns
        .pop()
        .context("a turn is due")?;
    for _ in 0..rounds {
        let began = Instant::now();
        store.next_turn_due().await?;
        empty.add(began.elapsed());
        let began = Instant::now();
        store.lazy_record_answer(turn.fence, &turn.event.id, TEXT).await?;
        lazy.add(began.elapsed());
    }
    store.release_turn(turn.fence, &turn.event.id).await?;
    let alone = commits(store, 1, rounds).await?;
    report.figure("delivery.commit_part_hops_ms", empty.median_ms(), "ms");
    report.figure("delivery.commit_part_lazy_write_ms", lazy.median_ms(), "ms");
    report.figure("delivery.commit_part_alone_ms", alone.median_ms(), "ms");
    Ok(())
}

/// Returns how many bytes this process has written to files.
fn bytes_written() -> anyhow::Result<u64> {
    let counts = std::fs::read_to_string("/proc/self/io").context("the kernel counts what is written")?;
    let written = counts.lines().find_map(|line| line.strip_prefix("wchar: "));
    Ok(written.context("the kernel counts bytes")?.trim().parse()?)
}

// ---- backlogs

/// Makes a data directory with `pending` answers that wait in `lanes`.
pub(crate) async fn fill(dir: &Path, pending: u64, lanes: u64) -> anyhow::Result<()> {
    let store = SqliteStore::open(dir)?;
    let mut at = 0;
    while at < pending {
        let numbers = at..pending.min(at + FILLED_AT_ONCE);
        at = numbers.end;
        let events = numbers.map(|number| waiting(number % lanes, number)).collect();
        store.enqueue(events, now()).await?;
    }
    store.close().await?;
    Ok(())
}

fn waiting(lane: u64, number: u64) -> OutboundEvent {
    let lane = usize::try_from(lane).unwrap_or_default();
    let number = usize::try_from(number).unwrap_or_default();
    OutboundEvent::reply(&inbound(lane, number), 0, TEXT.to_owned())
}

/// Returns deliveries a second where each is followed by a new answer at the end of its lane: the backlog stays as it is.
pub(crate) async fn rate(dir: &Path, time: Duration) -> anyhow::Result<f64> {
    let store = Arc::new(SqliteStore::open(dir)?);
    let delivered = Arc::new(AtomicU64::new(0));
    let places = Arc::new(Semaphore::new(WORKERS));
    let began = Instant::now();
    let mut running = JoinSet::new();
    while began.elapsed() < time {
        let free = places.available_permits().max(1);
        let first = Arc::clone(&places).acquire_owned().await?;
        let mut place = Some(first);
        for dispatch in store
            .lazy_claim_heads(&[Ask::unbounded(channel())], free, now())
            .await?
            .dispatches
        {
            let permit = match place.take() {
                Some(permit) => permit,
                None => Arc::clone(&places).acquire_owned().await?,
            };
            let (store, delivered) = (Arc::clone(&store), Arc::clone(&delivered));
            running.spawn(async move {
                let _permit = permit;
                let receipt = receipt(&dispatch);
                store.lazy_mark_sending(dispatch.claim, now()).await?;
                store.lazy_ack(dispatch.claim, receipt, now()).await?;
                delivered.fetch_add(1, Ordering::Relaxed);
                store.enqueue(vec![again(dispatch.event)], now()).await
            });
        }
        while let Some(ended) = running.try_join_next() {
            ended??;
        }
    }
    let rate = delivered.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    store.close().await?;
    Ok(rate)
}

/// Returns the same message under a new key.
fn again(event: OutboundEvent) -> OutboundEvent {
    OutboundEvent {
        key: DeliveryKey::of_turn(&EventId::generate(now()), 0),
        ..event
    }
}
