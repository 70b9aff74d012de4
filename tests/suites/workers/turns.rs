//! The agent worker: sessions, failures, notices, drafts.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sluicegate::agent::echo::Echo;
use sluicegate::agent::{Agent, AgentError, AgentTable, AgentWorker, Growing, Presence, Turn};
use sluicegate::bus::{Bus, Event, Received};
use sluicegate::clock::Clock;
use sluicegate::event::{Conversation, InboundEvent, OutboundEvent};
use sluicegate::id::{ChannelName, DeliveryKey, SessionKey};
use sluicegate::limit;
use sluicegate::store::{EventStore, Role};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::*;

async fn no_turn_left(store: &Arc<TestStore>) {
    let store = Arc::clone(store);
    until("all turns are done", move || store.depth().inbox == 0).await;
}

/// Delivers everything that is stored, and returns the texts in order.
async fn sent(store: &Arc<TestStore>, clock: &Arc<TestClock>) -> Vec<String> {
    let platform = Platform::willing(&["family"]);
    let running = Running::new().deliveries(store, clock, &platform);
    let waiting = Arc::clone(store);
    until("everything is delivered", move || waiting.depth().outbox == 0).await;
    running.stop().await;
    platform.texts_taken()
}

async fn history(store: &Arc<TestStore>, session: &str) -> Vec<String> {
    let lines = store
        .history(&SessionKey::from_trusted(session), 100, 100_000)
        .await
        .unwrap();
    let role = |role| if role == Role::User { "user" } else { "agent" };
    lines
        .into_iter()
        .map(|line| format!("{}: {}", role(line.role), line.text))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_message_is_answered_without_any_wake_up_and_becomes_history() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clock) = (TestStore::open(dir.path()), TestClock::starting_at(1_000_000));
    let agent = ScriptedAgent::new(|text, _| async move { Ok(format!("you said {text}")) });
    let running = Running::new().agents(&store, &clock, agent);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let began = Instant::now();
    accept(&store, vec![inbound("c1", "a"), inbound("c1", "b")], &clock).await;
    no_turn_left(&store).await;
    assert!(
        began.elapsed() <= limit::RECHECK_PERIOD + Duration::from_millis(200),
        "{:?}",
        began.elapsed()
    );
    running.stop().await;
    assert_eq!(sent(&store, &clock).await, ["you said a", "you said b"]);
    assert_eq!(
        history(&store, "family/c1").await,
        ["user: a", "agent: you said a", "user: b", "agent: you said b"]
    );
}

#[tokio::test(start_paused = true)]
async fn no_history_is_read_for_an_agent_that_does_not_look_at_it() {
    let dir = tempfile::tempdir().unwrap();
    let reads: Arc<Mutex<usize>> = Arc::default();
    let counted = Arc::clone(&reads);
    let store = TestStore::open_with(dir.path(), move |call| {
        *counted.lock().unwrap() += usize::from(call == "history");
        Fault::None
    });
    let clock = TestClock::starting_at(1_000_000);
    let looks = ScriptedAgent::new(|text, _| async move { Ok(text) });
    let agents: [(_, Arc<dyn Agent>, _); 2] = [("a", Arc::new(Echo), 0), ("b", looks, 1)];
    for (text, agent, expected) in agents {
        let running = Running::new().agents(&store, &clock, agent);
        accept(&store, vec![inbound("c1", text)], &clock).await;
        no_turn_left(&store).await;
        running.stop().await;
        assert_eq!(*reads.lock().unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn turns_of_a_session_run_one_after_another_and_sessions_beside_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clock) = (TestStore::open(dir.path()), TestClock::starting_at(1_000_000));
    let running_now: Arc<Mutex<Vec<String>>> = Arc::default();
    let most = Arc::new(Mutex::new(0));
    let (now, peak) = (Arc::clone(&running_now), Arc::clone(&most));
    let agent = ScriptedAgent::new(move |text, _| {
        let (now, peak) = (Arc::clone(&now), Arc::clone(&peak));
        async move {
            let session = text.split('/').next().unwrap().to_owned();
            {
                let mut now = now.lock().unwrap();
                assert!(!now.contains(&session), "two turns of session {session} at once");
                now.push(session.clone());
                let mut peak = peak.lock().unwrap();
                *peak = now.len().max(*peak);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            now.lock().unwrap().retain(|other| *other != session);
            Ok(text)
        }
    });
    let sessions = limit::TURNS_PER_CHANNEL_MAX * 2;
    let messages = (0..3).flat_map(|n| (0..sessions).map(move |s| inbound(&format!("c{s}"), &format!("{s}/{n}"))));
    accept(&store, messages.collect(), &clock).await;
    let began = Instant::now();
    let running = Running::new().agents(&store, &clock, Arc::clone(&agent) as _);
    no_turn_left(&store).await;
    running.stop().await;
    assert_eq!(
        *most.lock().unwrap(),
        limit::TURNS_PER_CHANNEL_MAX,
        "all the room of the channel is used, and no more"
    );
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    let asked = agent.asked.lock().unwrap();
    for session in 0..sessions {
        let of_session: Vec<_> = asked
            .iter()
            .filter(|text| text.starts_with(&format!("{session}/")))
            .collect();
        assert_eq!(of_session.len(), 3);
        assert!(of_session.is_sorted(), "{of_session:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_number_of_channels_whose_agent_hangs_stops_the_turns_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clock) = (TestStore::open(dir.path()), TestClock::starting_at(1_000_000));
    let agent = ScriptedAgent::new(|text, _| async move {
        match text.as_str() {
            "hangs" => std::future::pending().await,
            _ => Ok(text),
        }
    });
    let agents = AgentTable::new();
    let slow: Vec<String> = (0..12).map(|n| format!("slow{n}")).collect();
    for name in slow.iter().map(String::as_str).chain(["family"]) {
        agents.set(channel(name), Arc::clone(&agent) as _);
    }
    for name in &slow {
        let events = (0..100).map(|n| in_channel(name, inbound(&format!("{name}-{n}"), "hangs")));
        accept_in(&store, name, events.collect(), &clock).await;
    }
    let worker = AgentWorker::new(
        Arc::clone(&store) as _,
        Bus::new(),
        Arc::clone(&clock) as _,
        agents,
        Arc::new(NoPresence),
    );
    let task = tokio::spawn(worker.run(CancellationToken::new()));
    let hanging = || {
        agent
            .asked
            .lock()
            .unwrap()
            .iter()
            .filter(|text| *text == "hangs")
            .count()
    };
    until("they hang", || hanging() >= limit::TURNS_RUNNING_MAX).await;
    let began = Instant::now();
    let quick = (0..20).map(|n| inbound(&format!("c{n}"), "quick"));
    accept(&store, quick.collect(), &clock).await;
    until("the others are answered", || store.depth().outbox == 20).await;
    assert!(began.elapsed() < limit::RECHECK_PERIOD * 2, "{:?}", began.elapsed());
    let in_all = limit::TURNS_RUNNING_MAX + slow.len() * limit::TURNS_PER_CHANNEL_MIN;
    assert!(hanging() <= in_all, "{} of {in_all}", hanging());
    task.abort();
}

/// Moves an event to another channel, with its session.
fn in_channel(name: &str, mut event: InboundEvent) -> InboundEvent {
    event.channel = channel(name);
    event.session = SessionKey::from_trusted(format!("{name}/{}", event.message.conversation.id));
    event
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_is_silence() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clock) = (TestStore::open(dir.path()), TestClock::starting_at(1_000_000));
    accept(&store, vec![inbound("c1", "a")], &clock).await;
    let agent = ScriptedAgent::new(|_, _| async { Ok(" \n".to_owned()) });
    let running = Running::new().agents(&store, &clock, agent);
    no_turn_left(&store).await;
    running.stop().await;
    assert_eq!(store.depth().outbox, 0);
    assert_eq!(history(&store, "family/c1").await, ["user: a"]);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_away_is_tried_again_and_the_person_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clock) = (TestStore::open(dir.path()), TestClock::starting_at(1_000_000));
    accept(&store, vec![inbound("c1", "a")], &clock).await;
    let agent = ScriptedAgent::new(|text, before| async move {
        if before < 4 {
            Err(AgentError::Unreachable("connection refused".to_owned()))
        } else {
            Ok(text)
        }
    });
    let running = Running::new().agents(&store, &clock, Arc::clone(&agent) as _);
    no_turn_left(&store).await;
    running.stop().await;
    assert_eq!(agent.asked.lock().unwrap().len(), 5);
    let texts = sent(&store, &clock).await;
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(
        texts[0].contains("can't be reached") && texts[0].contains("kept"),
        "{texts:?}"
    );
    assert_eq!(texts[1], "a");
}

#[tokio::test(start_paused = true)]
async fn a_short_absence_is_not_worth_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clock) = (TestStore::open(dir.path()), TestClock::starting_at(1_000_000));
    accept(&store, vec![inbound("c1", "a")], &clock).await;
    let agent = ScriptedAgent::new(|text, before| async move {
        if before == 0 {
            Err(AgentError::Unreachable("connection refused".to_owned()))
        } else {
            Ok(text)
        }
    });
    let running = Running::new().agents(&store, &clock, agent);
    no_turn_left(&store).await;
    running.stop().await;
    assert_eq!(sent(&store, &clock).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_fails_for_good_is_given_up_with_a_word() {
    let away = || AgentError::Unreachable("connection refused".to_owned());
    let refused = || AgentError::Refused("HTTP 400: sk-internal".to_owned());
    for (failure, runs) in [(away(), limit::TURN_FAILURES_MAX as usize), (refused(), 1)] {
        let dir = tempfile::tempdir().unwrap();
        let (store, clock) = (TestStore::open(dir.path()), TestClock::starting_at(1_000_000));
        let message = inbound("c1", "a");
        let id = message.id.clone();
        accept(&store, vec![message], &clock).await;
        let agent = ScriptedAgent::new(move |_, _| std::future::ready(Err(failure.clone())));
        let (bus, shutdown) = (Bus::new(), CancellationToken::new());
        let mut view = bus.subscribe();
        let worker = turn_worker(
            &store,
            &clock,
            Arc::clone(&agent) as _,
            bus.clone(),
            Arc::new(NoPresence),
        );
        let task = tokio::spawn(worker.run(shutdown.clone()));
        no_turn_left(&store).await;
        shutdown.cancel();
        task.await.unwrap().unwrap();
        drop(bus);
        assert_eq!(agent.asked.lock().unwrap().len(), runs);
        let texts = sent(&store, &clock).await;
        // The word that it will be late has expired by the time that there is nothing to wait for.
        assert_eq!(texts.len(), 1, "{texts:?}");
        assert!(texts.iter().all(|text| !text.contains("sk-internal")), "{texts:?}");
        let mut last_failure = None;
        while let Some(Received::Event(event)) = view.recv().await {
            if let Event::TurnFailed {
                event,
                attempt,
                retry_at_ms,
                ..
            } = &*event
            {
                assert_eq!(*event, id);
                last_failure = Some((*attempt as usize, *retry_at_ms));
            }
        }
        assert_eq!(last_failure, Some((runs, None)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_panics_or_never_ends_costs_its_own_turn_only() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clock) = (TestStore::open(dir.path()), TestClock::starting_at(1_000_000));
    accept(
        &store,
        ["boom", "endless", "calm"].map(|text| inbound(text, text)).into(),
        &clock,
    )
    .await;
    let agent = ScriptedAgent::new(|text, before| async move {
        match (text.as_str(), before) {
            ("boom", 0) => panic!("a fault of the agent"),
            ("endless", 0) => std::future::pending().await,
            _ => Ok(text),
        }
    });
    let worker = turn_worker(&store, &clock, agent, Bus::new(), Arc::new(NoPresence));
    let (counters, shutdown) = (worker.counters(), CancellationToken::new());
    let task = tokio::spawn(worker.run(shutdown.clone()));
    no_turn_left(&store).await;
    shutdown.cancel();
    task.await.unwrap().unwrap();
    let mut texts = sent(&store, &clock).await;
    texts.sort();
    assert_eq!(texts, ["boom", "calm", "endless"]);
    assert_eq!((counters.panicked(), counters.failed(), counters.answered()), (1, 2, 3));
    assert_eq!(counters.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_channel_without_an_agent_keeps_its_messages() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clock) = (TestStore::open(dir.path()), TestClock::starting_at(1_000_000));
    let agents = sluicegate::agent::AgentTable::new();
    let worker = sluicegate::agent::AgentWorker::new(
        Arc::clone(&store) as _,
        Bus::new(),
        Arc::clone(&clock) as _,
        agents.clone(),
        Arc::new(NoPresence),
    );
    let (counters, shutdown) = (worker.counters(), CancellationToken::new());
    let task = tokio::spawn(worker.run(shutdown.clone()));
    accept(&store, vec![inbound("c1", "a")], &clock).await;
    until("the turn failed", || counters.failed() > 0).await;
    agents.set(channel("family"), Arc::new(Echo));
    no_turn_left(&store).await;
    shutdown.cancel();
    task.await.unwrap().unwrap();
    assert_eq!(sent(&store, &clock).await.last().map(String::as_str), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_takes_no_more_turns_and_waits_for_the_running_one() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clock) = (TestStore::open(dir.path()), TestClock::starting_at(1_000_000));
    accept(&store, vec![inbound("c1", "first"), inbound("c1", "second")], &clock).await;
    let agent = ScriptedAgent::new(|text, _| async move {
        tokio::time::sleep(Duration::from_secs(30)).await;
        Ok(text)
    });
    let running = Running::new().agents(&store, &clock, Arc::clone(&agent) as _);
    until("the first runs", || agent.asked.lock().unwrap().len() == 1).await;
    running.stop().await;
    assert_eq!(*agent.asked.lock().unwrap(), ["first"]);
    assert_eq!((store.depth().inbox, store.depth().outbox), (1, 1));
}

/// A channel that notes its drafts with the second in which they came, and takes its time.
#[derive(Default)]
struct Screen {
    delay: Duration,
    /// The channel that never shows anything.
    hangs: Option<ChannelName>,
    typing: Mutex<Vec<Duration>>,
    drafts: Mutex<Vec<(Duration, OutboundEvent)>>,
    began: Mutex<Option<Instant>>,
}

impl Screen {
    fn elapsed(&self) -> Duration {
        self.began.lock().unwrap().get_or_insert_with(Instant::now).elapsed()
    }

    async fn hang_for(&self, channel: &ChannelName) {
        if self.hangs.as_ref() == Some(channel) {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Presence for Screen {
    async fn typing(&self, channel: &ChannelName, _conversation: &Conversation) {
        self.hang_for(channel).await;
        let at = self.elapsed();
        self.typing.lock().unwrap().push(at);
        tokio::time::sleep(self.delay).await;
    }

    async fn draft(&self, growing: OutboundEvent) {
        self.hang_for(&growing.channel).await;
        tokio::time::sleep(self.delay).await;
        let at = self.elapsed();
        self.drafts.lock().unwrap().push((at, growing));
    }
}

/// Says a word every 50 ms.
struct Talker {
    words: usize,
}

#[async_trait]
impl Agent for Talker {
    fn describe(&self) -> String {
        "talker".to_owned()
    }

    async fn answer(&self, _turn: Turn<'_>, growing: &Growing<'_>) -> Result<String, AgentError> {
        let mut text = String::new();
        for n in 0..self.words {
            tokio::time::sleep(Duration::from_millis(50)).await;
            text.push_str(&format!("{n} "));
            growing(&text);
        }
        Ok(text)
    }
}

async fn talk(words: usize, delay: Duration) -> (Arc<Screen>, Duration, OutboundEvent) {
    let dir = tempfile::tempdir().unwrap();
    let (store, clock) = (TestStore::open(dir.path()), TestClock::starting_at(1_000_000));
    let message = inbound("c1", "talk");
    let answer = OutboundEvent::reply(&message, 0, String::new());
    accept(&store, vec![message], &clock).await;
    let screen = Arc::new(Screen {
        delay,
        ..Screen::default()
    });
    screen.elapsed();
    let began = Instant::now();
    let shutdown = CancellationToken::new();
    let worker = turn_worker(
        &store,
        &clock,
        Arc::new(Talker { words }),
        Bus::new(),
        Arc::clone(&screen) as _,
    );
    let task = tokio::spawn(worker.run(shutdown.clone()));
    no_turn_left(&store).await;
    shutdown.cancel();
    task.await.unwrap().unwrap();
    (screen, began.elapsed(), answer)
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_shown_as_it_grows_at_most_once_a_second() {
    let (screen, took, answer) = talk(200, Duration::ZERO).await;
    assert!(
        (Duration::from_secs(10)..Duration::from_secs(11)).contains(&took),
        "{took:?}"
    );
    let drafts = screen.drafts.lock().unwrap();
    assert!((8..=10).contains(&drafts.len()), "{}", drafts.len());
    for pair in drafts.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= limit::DRAFT_PERIOD);
        assert!(pair[1].1.text.len() > pair[0].1.text.len() && pair[1].1.text.starts_with(&pair[0].1.text));
    }
    assert!(
        drafts.iter().all(|(_, draft)| draft.key == answer.key),
        "a draft has the key of its answer"
    );
    let typing = screen.typing.lock().unwrap();
    assert_eq!(typing.len(), 3, "{typing:?}");
}

#[tokio::test(start_paused = true)]
async fn a_quick_answer_needs_no_signs() {
    let (screen, _, _) = talk(3, Duration::ZERO).await;
    assert!(screen.drafts.lock().unwrap().is_empty() && screen.typing.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_screen_that_hangs_delays_the_answer_no_longer_than_the_bound() {
    let (screen, took, _) = talk(100, Duration::from_secs(3600)).await;
    assert!(screen.drafts.lock().unwrap().is_empty());
    let bound = Duration::from_secs(5) + limit::DRAFT_SETTLE_MAX + Duration::from_millis(300);
    assert!(took <= bound, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_channel_whose_drafts_hang_takes_no_place_of_anothers() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clock) = (TestStore::open(dir.path()), TestClock::starting_at(1_000_000));
    let screen = Arc::new(Screen {
        hangs: Some(channel("slow")),
        ..Screen::default()
    });
    let agents = AgentTable::new();
    for name in ["slow", "family"] {
        agents.set(channel(name), Arc::new(Talker { words: 100 }));
    }
    let hanging = (0..limit::TURNS_PER_CHANNEL_MAX).map(|n| in_channel("slow", inbound(&format!("s{n}"), "talk")));
    accept_in(&store, "slow", hanging.collect(), &clock).await;
    accept(&store, vec![inbound("c1", "talk")], &clock).await;
    let (bus, presence) = (Bus::new(), Arc::clone(&screen) as _);
    let worker = AgentWorker::new(Arc::clone(&store) as _, bus, Arc::clone(&clock) as _, agents, presence);
    let task = tokio::spawn(worker.run(CancellationToken::new()));
    no_turn_left(&store).await;
    task.abort();
    let shown = screen.drafts.lock().unwrap().len();
    assert!(shown >= 3, "{shown} drafts of the channel that shows them at once");
}

#[tokio::test(start_paused = true)]
async fn an_answer_too_long_to_send_is_cut_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clock) = (TestStore::open(dir.path()), TestClock::starting_at(1_000_000));
    accept(&store, vec![inbound("c1", "a")], &clock).await;
    let agent = ScriptedAgent::new(|_, _| async { Ok("x".repeat(limit::ANSWER_BYTES_MAX * 2)) });
    let running = Running::new().agents(&store, &clock, agent);
    no_turn_left(&store).await;
    running.stop().await;
    let texts = sent(&store, &clock).await;
    assert!(
        texts[0].len() <= limit::ANSWER_BYTES_MAX && texts[0].contains("cut"),
        "{}",
        texts[0].len()
    );
}

#[test]
fn the_notices_of_a_message_have_keys_of_their_own() {
    use sluicegate::event::Notice;
    let message = inbound("c1", "a");
    let key = |notice| OutboundEvent::notice(&message, notice, String::new()).key;
    let keys = [
        key(Notice::Delayed),
        key(Notice::GivenUp),
        DeliveryKey::of_turn(&message.id, 0),
    ];
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
    assert_eq!(key(Notice::Delayed), keys[0]);
}

#[tokio::test(start_paused = true)]
async fn the_clock_of_the_tests_is_the_paused_one() {
    let clock = TestClock::starting_at(5);
    tokio::time::sleep(Duration::from_millis(7)).await;
    assert_eq!(clock.now_ms(), 12);
}
