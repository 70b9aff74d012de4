//! The death of the process at every single call of the store, before and after it is carried out: nothing is lost, the
//! agent is not asked again for what it has answered, copies come only of attempts without a known outcome, and the
//! order holds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sluicegate::agent::{Agent, AgentError, Growing, Presence, Turn};
use sluicegate::bus::Bus;
use sluicegate::clock::Clock;
use sluicegate::delivery::Guarantees;
use sluicegate::event::{Conversation, OutboundEvent};
use sluicegate::id::ChannelName;
use sluicegate::limit;
use sluicegate::store::EventStore;
use tokio_util::sync::CancellationToken;

use crate::support::*;

const MESSAGES: [&str; 3] = ["one", "two", "three"];

/// What happened in both lives of the process.
#[derive(Default)]
struct Seen {
    asked: Vec<String>,
    taken: Vec<String>,
    /// How often the first life called the store, by the name of the call.
    calls: BTreeMap<&'static str, usize>,
}

/// Runs both workers over three messages of one conversation. The process dies at a call of the store, the n-th of its name
/// (from 0), and starts again; where there are fewer calls it lives. In which order the calls of both workers come is
/// not the same each time.
async fn run(fatal: Option<(&'static str, usize)>, fault: Fault, guarantees: Guarantees) -> Seen {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::starting_at(1_000_000);
    let mut seen = Seen::default();
    {
        let store = TestStore::open(dir.path());
        accept(&store, MESSAGES.map(|text| inbound("c1", text)).into(), &clock).await;
    }
    let calls: Arc<Mutex<BTreeMap<&'static str, usize>>> = Arc::default();
    let counted = Arc::clone(&calls);
    let dying = TestStore::open_with(dir.path(), move |name| {
        let mut calls = counted.lock().unwrap();
        let nth = calls.entry(name).or_default();
        let here = fatal == Some((name, *nth));
        *nth += 1;
        if here { fault } else { Fault::None }
    });
    live(dying, &clock, guarantees, &mut seen).await;
    live(TestStore::open(dir.path()), &clock, guarantees, &mut seen).await;
    seen.calls = std::mem::take(&mut calls.lock().unwrap());
    seen
}

/// One life of the process: to its death, or to the end of its work.
async fn live(store: Arc<TestStore>, clock: &Arc<TestClock>, guarantees: Guarantees, seen: &mut Seen) {
    let agent = ScriptedAgent::new(|text, _| async move { Ok(format!("{text}!")) });
    let platform = Platform::new(&["family"], guarantees, |_, _| async { taken() });
    let running = Running::new()
        .agents(&store, clock, Arc::clone(&agent) as _)
        .deliveries(&store, clock, &platform);
    let ended = Arc::clone(&store);
    until("the process died or all is done", move || {
        let depth = ended.depth();
        ended.died.is_cancelled() || (depth.inbox == 0 && depth.outbox == 0)
    })
    .await;
    running.kill().await;
    seen.asked.extend(agent.asked.lock().unwrap().drain(..));
    seen.taken.extend(platform.texts_taken());
    assert_eq!(store.depth().dead, 0, "nothing died");
    // The next life needs the directory's lock.
    assert_eq!(Arc::strong_count(&store), 1, "nothing of the process is left");
}

fn check(seen: &Seen, context: &str) {
    let mut first_copies = Vec::new();
    for text in &seen.taken {
        if !first_copies.contains(text) {
            first_copies.push(text.clone());
        }
    }
    assert_eq!(
        first_copies,
        ["one!", "two!", "three!"],
        "lost or out of order: {context}"
    );
    let copies = seen.taken.len() - MESSAGES.len();
    let asked_again = seen.asked.len() - MESSAGES.len();
    // Only a delivery that was under way at the death may be repeated, and only once.
    assert!(copies <= 1, "{copies} copies: {context}");
    // Turns run beside deliveries: the model is asked again only where its answer had not been stored.
    assert!(asked_again <= 1, "asked {asked_again} times again: {context}");
}

async fn at_every_call(fault: Fault, guarantees: Guarantees) -> Vec<(&'static str, usize, usize)> {
    let mut outcomes = Vec::new();
    for name in run(None, fault, guarantees).await.calls.into_keys() {
        for nth in 0.. {
            let seen = run(Some((name, nth)), fault, guarantees).await;
            if seen.calls.get(name).is_none_or(|calls| *calls <= nth) {
                break;
            }
            check(&seen, &format!("{fault:?} at {name}, call {nth}: {:?}", seen.taken));
            outcomes.push((
                name,
                seen.taken.len() - MESSAGES.len(),
                seen.asked.len() - MESSAGES.len(),
            ));
        }
    }
    outcomes
}

#[tokio::test(start_paused = true)]
async fn a_death_before_any_call_of_the_store_loses_nothing() {
    let outcomes = at_every_call(Fault::DieBefore, CAREFUL).await;
    for name in [
        "claim_turns",
        "history",
        "commit_turn",
        "lazy_claim_heads",
        "lazy_mark_sending",
        "lazy_ack",
    ] {
        assert!(
            outcomes.iter().any(|(at, ..)| *at == name),
            "no death at {name}: {outcomes:?}"
        );
    }
    // A death between the platform's yes and the ack is the one that may make a copy.
    assert!(
        outcomes.iter().any(|(at, copies, _)| *at == "lazy_ack" && *copies == 1),
        "{outcomes:?}"
    );
    assert!(
        outcomes
            .iter()
            .any(|(at, _, asked)| *at == "commit_turn" && *asked == 1),
        "{outcomes:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_death_after_any_call_of_the_store_loses_nothing() {
    let outcomes = at_every_call(Fault::DieAfter, CAREFUL).await;
    for (name, copies, asked) in outcomes {
        // The answer is stored: a turn that died with it stored is never asked again by that death.
        assert!(asked == 0 || name != "commit_turn", "asked again after the commit");
        assert!(copies == 0 || name != "lazy_ack", "a copy after the ack");
    }
}

/// Grows for longer than the first draft waits, and says then that it is finished.
struct Grower {
    asked: AtomicUsize,
}

#[async_trait]
impl Agent for Grower {
    fn describe(&self) -> String {
        "grower".to_owned()
    }

    async fn answer(&self, _turn: Turn<'_>, growing: &Growing<'_>) -> Result<String, AgentError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        growing("half");
        tokio::time::sleep(limit::DRAFT_PERIOD + Duration::from_millis(500)).await;
        Ok("half and half".to_owned())
    }
}

/// A channel that is never done with a draft.
struct Stuck;

#[async_trait]
impl Presence for Stuck {
    async fn typing(&self, _channel: &ChannelName, _conversation: &Conversation) {}

    async fn draft(&self, _growing: OutboundEvent) {
        std::future::pending::<()>().await;
    }
}

/// Lets a turn end while its draft is still on its way. The process dies before this call of the store, and starts again.
/// Returns how often the agent was asked in all.
async fn asked_where_the_draft_is_stuck(fatal: &'static str) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::starting_at(1_000_000);
    accept(&TestStore::open(dir.path()), vec![inbound("c1", "hi")], &clock).await;
    let agent = Arc::new(Grower {
        asked: AtomicUsize::new(0),
    });
    for life in 0..2 {
        let store = TestStore::open_with(dir.path(), move |name| {
            if life == 0 && name == fatal {
                Fault::DieBefore
            } else {
                Fault::None
            }
        });
        let worker = turn_worker(&store, &clock, Arc::clone(&agent) as _, Bus::new(), Arc::new(Stuck));
        let running = tokio::spawn(worker.run(CancellationToken::new()));
        until("the process died or the turn is done", || {
            store.died.is_cancelled() || store.depth().inbox == 0
        })
        .await;
        running.abort();
        assert!(running.await.is_err_and(|ended| ended.is_cancelled()));
    }
    agent.asked.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_waits_for_its_draft_is_kept_meanwhile() {
    assert_eq!(asked_where_the_draft_is_stuck("commit_turn").await, 1);
    assert_eq!(asked_where_the_draft_is_stuck("lazy_record_answer").await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_over_and_over_still_gets_everything_out() {
    for seed in 1..=6 {
        let mut dice = Dice::seeded(seed);
        let dir = tempfile::tempdir().unwrap();
        let clock = TestClock::starting_at(1_000_000);
        let conversations = ["c1", "c2", "c3"];
        {
            let store = TestStore::open(dir.path());
            let messages = conversations
                .iter()
                .flat_map(|place| (0..4).map(move |n| inbound(place, &format!("{n}"))));
            accept(&store, messages.collect(), &clock).await;
        }
        let guarantees = Guarantees {
            deduplicates_for: Some(limit::DELIVERY_EXPIRY),
            ..CAREFUL
        };
        let mut taken_in_all = Vec::new();
        let mut lives = 0;
        loop {
            lives += 1;
            assert!(lives < 200, "no progress with seed {seed}");
            let (mut left, fault) = (
                dice.roll(25),
                [Fault::DieBefore, Fault::DieAfter][(dice.roll(2)) as usize],
            );
            let store = TestStore::open_with(dir.path(), move |_| {
                left = left.wrapping_sub(1);
                if left == 0 { fault } else { Fault::None }
            });
            let agent = ScriptedAgent::new(|text, _| async move { Ok(text) });
            let platform = Platform::new(&["family"], guarantees, |_, _| async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                taken()
            });
            let running = Running::new()
                .agents(&store, &clock, agent)
                .deliveries(&store, &clock, &platform);
            let ended = Arc::clone(&store);
            until("the process died or all is done", move || {
                let depth = ended.depth();
                ended.died.is_cancelled() || (depth.inbox == 0 && depth.outbox == 0)
            })
            .await;
            running.kill().await;
            taken_in_all.extend(platform.taken.lock().unwrap().drain(..));
            assert!(clock.now_ms() > 0);
            if !store.died.is_cancelled() {
                assert_eq!(store.depth().dead, 0);
                break;
            }
        }
        for place in conversations {
            let mut texts: Vec<_> = taken_in_all
                .iter()
                .filter(|(at, _)| at == place)
                .map(|(_, text)| text)
                .collect();
            texts.dedup();
            assert_eq!(texts, ["0", "1", "2", "3"], "seed {seed}, {lives} lives");
        }
    }
}
