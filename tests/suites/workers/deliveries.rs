//! The delivery worker: order, isolation, repeats, pauses, recovery.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluicegate::bus::{Bus, Event, Received};
use sluicegate::clock::Clock;
use sluicegate::delivery::{Attempt, DeliveryWorker, Drafts, Failure, Finding, Guarantees};
use sluicegate::event::{DeliveryError, OutboundEvent, SentPart, WaitScope};
use sluicegate::limit;
use sluicegate::store::EventStore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::*;

pub(crate) const FAMILY: &[&str] = &["family"];

/// A store in a folder of its own, with a clock.
pub(crate) struct Scene {
    store: Arc<TestStore>,
    clock: Arc<TestClock>,
    _dir: tempfile::TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with_faults(|_| Fault::None)
    }

    /// With a store that fails as planned.
    fn with_faults(plan: impl FnMut(&'static str) -> Fault + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            store: TestStore::open_with(dir.path(), plan),
            clock: TestClock::starting_at(1_000_000),
            _dir: dir,
        }
    }

    pub(crate) async fn enqueue(&self, messages: Vec<OutboundEvent>) {
        self.store.enqueue(messages, self.clock.now_ms()).await.unwrap();
    }

    fn worker(&self, platform: &Arc<Platform>, bus: Bus, drafts: Drafts) -> DeliveryWorker {
        delivery_worker(&self.store, &self.clock, platform, bus, drafts)
    }

    pub(crate) fn run(&self, platform: &Arc<Platform>) -> Running {
        Running::new().deliveries(&self.store, &self.clock, platform)
    }

    async fn nothing_left(&self) {
        let store = Arc::clone(&self.store);
        until("everything is delivered or dead", move || store.depth().outbox == 0).await;
    }

    /// Sends until nothing waits any more.
    async fn deliver_all(&self, platform: &Arc<Platform>) {
        let running = self.run(platform);
        self.nothing_left().await;
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_is_delivered_without_any_wake_up() {
    let scene = Scene::new();
    let platform = Platform::willing(FAMILY);
    let running = scene.run(&platform);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let began = Instant::now();
    scene.enqueue(vec![outbound("family", "c1", "hi")]).await;
    scene.nothing_left().await;
    assert!(
        began.elapsed() <= limit::RECHECK_PERIOD + Duration::from_millis(200),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(platform.texts_taken(), ["hi"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_makes_it_at_once() {
    let scene = Scene::new();
    let (began_tx, mut began_rx) = tokio::sync::mpsc::channel(1);
    let platform = Platform::new(FAMILY, CAREFUL, move |_, _| {
        let began_tx = began_tx.clone();
        async move {
            began_tx.send(Instant::now()).await.unwrap();
            taken()
        }
    });
    let (bus, shutdown) = (Bus::new(), CancellationToken::new());
    let worker = scene.worker(&platform, bus.clone(), Drafts::default());
    let task = tokio::spawn(worker.run(shutdown.clone()));
    tokio::time::sleep(Duration::from_millis(10_700)).await;
    let stored = Instant::now();
    scene.enqueue(vec![outbound("family", "c1", "hi")]).await;
    bus.deliveries_due().wake();
    assert_eq!(began_rx.recv().await.unwrap().duration_since(stored), Duration::ZERO);
    shutdown.cancel();
    task.await.unwrap().unwrap();
    assert_eq!(scene.store.depth().outbox, 0, "the attempt in flight was waited for");
}

/// Outcomes by dice; about half of the attempts deliver.
fn by_dice(dice: &mut Dice) -> Attempt {
    match dice.roll(10) {
        0 => unavailable(),
        1 => Attempt {
            result: Err(Failure::Trapped("unreachable".to_owned())),
            bytes_left: false,
        },
        2 => Attempt {
            result: Err(Failure::DeadlineExceeded),
            bytes_left: true,
        },
        3 => reported(DeliveryError::RateLimited {
            retry_after_ms: 3000,
            scope: WaitScope::Conversation,
        }),
        4 => Attempt {
            result: Err(Failure::NotUp),
            bytes_left: false,
        },
        _ => taken(),
    }
}

fn seed_of(what: impl std::hash::Hash) -> u64 {
    use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
    BuildHasherDefault::<DefaultHasher>::default().hash_one(what)
}

#[tokio::test(start_paused = true)]
async fn order_holds_in_every_lane_whatever_fails() {
    const LANES: u64 = 8;
    const MESSAGES: u64 = 12;
    for seed in 1..=3 {
        let scene = Scene::new();
        // The same key goes out again: the platform drops what it took before, as one that deduplicates does.
        let guarantees = Guarantees {
            deduplicates_for: Some(limit::DELIVERY_EXPIRY),
            ..CAREFUL
        };
        let platform = Platform::new(FAMILY, guarantees, move |request, before| {
            // Thrown for each attempt by itself, so that a seed means the same whatever order the lanes run in; and not
            // for ever, so that no message expires.
            let mut dice = Dice::seeded(seed_of((
                seed,
                &request.event.conversation.id,
                &request.event.text,
                before,
            )));
            let pause = Duration::from_millis(dice.roll(900));
            let attempt = if before < 4 { by_dice(&mut dice) } else { taken() };
            async move {
                tokio::time::sleep(pause).await;
                attempt
            }
        });
        for n in 0..MESSAGES {
            let batch = (0..LANES)
                .map(|lane| outbound("family", &format!("c{lane}"), &format!("{n:02}")))
                .collect();
            scene.enqueue(batch).await;
        }
        scene.deliver_all(&platform).await;
        assert_eq!(scene.store.depth().dead, 0, "seed {seed}");
        for lane in 0..LANES {
            let mut seen = platform.taken.lock().unwrap().clone();
            seen.retain(|(place, _)| *place == format!("c{lane}"));
            seen.dedup();
            let texts: Vec<&str> = seen.iter().map(|(_, text)| text.as_str()).collect();
            let expected: Vec<String> = (0..MESSAGES).map(|n| format!("{n:02}")).collect();
            assert_eq!(texts, expected, "seed {seed}, lane {lane}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stuck_lane_delays_no_other_and_a_slow_channel_no_other_channel() {
    let scene = Scene::new();
    // Every attempt of `slow` hangs; the conversation `stuck` of `family` always fails.
    let platform = Platform::new(&["slow", "family"], CAREFUL, |request, _| async move {
        match (request.event.channel.as_str(), request.event.conversation.id.as_str()) {
            ("slow", _) => std::future::pending().await,
            (_, "stuck") => unavailable(),
            _ => taken(),
        }
    });
    let slow = (0..200).map(|n| outbound("slow", &format!("s{n}"), "never")).collect();
    scene.enqueue(slow).await;
    scene
        .enqueue((0..5).map(|_| outbound("family", "stuck", "never")).collect())
        .await;
    let quick: Vec<_> = (0..200)
        .map(|n| outbound("family", &format!("c{n}"), "quick"))
        .collect();
    scene.enqueue(quick).await;
    let running = scene.run(&platform);
    let began = Instant::now();
    until("all quick ones are out", || platform.texts_taken().len() == 200).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let hanging = platform
        .attempts
        .lock()
        .unwrap()
        .iter()
        .filter(|it| it.event.channel.as_str() == "slow")
        .count();
    let places = limit::DELIVERIES_PER_CHANNEL_MAX * limit::DELIVERIES_UNPROVEN_PERCENT / 100;
    assert_eq!(hanging, places);
    running.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_makes_at_most_the_copies_that_are_allowed() {
    for (resends, attempts) in [(0, 1), (1, 2), (3, 4)] {
        let scene = Scene::new();
        let guarantees = Guarantees {
            ambiguous_resends: resends,
            ..CAREFUL
        };
        let platform = Platform::new(FAMILY, guarantees, |_, _| async { cut_off() });
        scene.enqueue(vec![outbound("family", "c1", "hi")]).await;
        scene.deliver_all(&platform).await;
        assert_eq!(platform.attempts.lock().unwrap().len(), attempts, "{resends} allowed");
        let dead = reasons(&scene.store).await;
        assert!(dead[0].starts_with("outcome unknown"), "{dead:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn at_most_once_is_known_to_the_disk_before_it_begins_and_never_begins_twice() {
    let calls = Arc::new(std::sync::Mutex::new(Vec::new()));
    let guarantees = Guarantees {
        ambiguous_resends: 0,
        at_most_once: true,
        ..CAREFUL
    };
    let platform = Platform::new(FAMILY, guarantees, |_, _| async { cut_off() });
    let (seen, watched) = (Arc::clone(&calls), Arc::clone(&platform));
    let scene = Scene::with_faults(move |call| {
        seen.lock().unwrap().push((call, watched.texts_taken().len()));
        Fault::None
    });
    let hi = outbound("family", "c1", "hi");
    scene.enqueue(vec![hi]).await;
    scene.deliver_all(&platform).await;
    assert!(reasons(&scene.store).await[0].starts_with("outcome unknown"));
    let calls = calls.lock().unwrap();
    let of_interest = ["lazy_mark_sending", "flush", "bury"];
    let order: Vec<_> = calls.iter().filter(|(call, _)| of_interest.contains(call)).collect();
    assert_eq!(
        order,
        [&("lazy_mark_sending", 0), &("flush", 0), &("bury", 1)],
        "what the platform has taken at each call"
    );
    assert_eq!(platform.texts_taken(), ["hi"]);
}

#[tokio::test(start_paused = true)]
async fn a_component_that_can_find_out_is_asked_before_anything_goes_out_again() {
    let receipt = taken().result.unwrap();
    // The findings are taken from the end.
    for (findings, asked, attempts, dead) in [
        (vec![Finding::Delivered(receipt.clone())], 1, 1, 0),
        (
            vec![Finding::Delivered(receipt), Finding::NotDelivered(Vec::new())],
            2,
            2,
            0,
        ),
        (vec![Finding::Unknown], 1, 1, 1),
    ] {
        let scene = Scene::new();
        let guarantees = Guarantees {
            reconciles: true,
            ambiguous_resends: 0,
            ..CAREFUL
        };
        let platform = Platform::new(FAMILY, guarantees, |_, _| async { cut_off() });
        *platform.findings.lock().unwrap() = findings;
        scene.enqueue(vec![outbound("family", "c1", "hi")]).await;
        scene.deliver_all(&platform).await;
        assert_eq!(platform.asked.load(std::sync::atomic::Ordering::Relaxed), asked);
        assert_eq!(platform.attempts.lock().unwrap().len(), attempts);
        assert_eq!(scene.store.depth().dead, dead);
    }
}

#[tokio::test(start_paused = true)]
async fn parts_that_the_component_finds_are_kept_and_never_sent_again() {
    let scene = Scene::new();
    let guarantees = Guarantees {
        reconciles: true,
        ambiguous_resends: 0,
        ..CAREFUL
    };
    let platform = Platform::new(FAMILY, guarantees, |_, before| async move {
        match before {
            0 => cut_off(),
            1 => reported(DeliveryError::Unavailable("in between".to_owned())),
            _ => taken(),
        }
    });
    let found = SentPart {
        index: 1,
        message_id: "p2".to_owned(),
    };
    *platform.findings.lock().unwrap() = vec![
        Finding::NotDelivered(Vec::new()),
        Finding::NotDelivered(vec![found.clone()]),
    ];
    scene.enqueue(vec![outbound("family", "c1", "hi")]).await;
    scene.deliver_all(&platform).await;
    let attempts = platform.attempts.lock().unwrap();
    let known: Vec<_> = attempts.iter().map(|request| request.already_sent.clone()).collect();
    assert_eq!(known, [vec![], vec![found.clone()], vec![found]]);
}

#[tokio::test(start_paused = true)]
async fn a_channel_wide_limit_holds_the_whole_channel_and_no_other() {
    let scene = Scene::new();
    let began = Instant::now();
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    let platform = Platform::new(&["family", "other"], CAREFUL, move |request, before| {
        let text = request.event.text.clone();
        seen.lock().unwrap().push((text.clone(), began.elapsed().as_secs()));
        async move {
            match (text.as_str(), before) {
                ("first", 0) => reported(DeliveryError::RateLimited {
                    retry_after_ms: 30_000,
                    scope: WaitScope::Channel,
                }),
                _ => taken(),
            }
        }
    });
    let running = scene.run(&platform);
    scene.enqueue(vec![outbound("family", "c1", "first")]).await;
    until("the limit is known", || !times.lock().unwrap().is_empty()).await;
    let later = vec![outbound("family", "c2", "second"), outbound("other", "c3", "third")];
    scene.enqueue(later).await;
    scene.nothing_left().await;
    running.stop().await;
    let times = times.lock().unwrap();
    let of = |text: &str| {
        times
            .iter()
            .filter(|(other, _)| other == text)
            .map(|(_, at)| *at)
            .collect::<Vec<_>>()
    };
    assert!(of("first")[1] >= 30 && of("second")[0] >= 30, "{times:?}");
    assert!(of("third")[0] <= 5, "{times:?}");
    let second_attempt = platform
        .attempts
        .lock()
        .unwrap()
        .iter()
        .rfind(|it| it.event.text == "first")
        .unwrap()
        .attempt;
    assert_eq!(second_attempt, 1, "a limit costs no attempt");
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_pause_the_channel_until_the_operator_resumes_it() {
    let scene = Scene::new();
    let platform = Platform::new(FAMILY, CAREFUL, |_, before| async move {
        if before == 0 {
            reported(DeliveryError::Unauthorized("401".to_owned()))
        } else {
            taken()
        }
    });
    scene
        .enqueue(vec![outbound("family", "c1", "one"), outbound("family", "c1", "two")])
        .await;
    let (bus, shutdown) = (Bus::new(), CancellationToken::new());
    let worker = scene.worker(&platform, bus.clone(), Drafts::default());
    let task = tokio::spawn(worker.run(shutdown.clone()));
    until("it is paused", || !platform.paused().is_empty()).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(platform.attempts.lock().unwrap().len(), 1);
    // The second message is refused once as well, and that pauses the channel again.
    while scene.store.depth().outbox > 0 {
        platform.resume();
        bus.deliveries_due().wake();
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(platform.texts_taken(), ["one", "two"]);
    shutdown.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_handed_over_and_never_confirmed_goes_out_again_with_the_same_key() {
    let scene = Scene::new();
    let guarantees = Guarantees {
        deduplicates_for: Some(limit::DELIVERY_EXPIRY),
        ..CAREFUL
    };
    let platform = Platform::new(FAMILY, guarantees, |_, before| async move {
        if before < 2 { handed_over() } else { taken() }
    });
    let message = outbound("family", "c1", "hi");
    scene
        .enqueue(vec![message.clone(), outbound("family", "c1", "next")])
        .await;
    scene.deliver_all(&platform).await;
    let attempts = platform.attempts.lock().unwrap();
    let texts: Vec<(&str, u32)> = attempts.iter().map(|it| (it.event.text.as_str(), it.attempt)).collect();
    assert_eq!(texts[..2], [("hi", 1), ("next", 1)], "the lane goes on meanwhile");
    assert_eq!(attempts.iter().filter(|it| it.event.key == message.key).count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_delivery_is_an_attempt_without_a_known_outcome() {
    let scene = Scene::new();
    let platform = Platform::new(FAMILY, CAREFUL, |request, before| async move {
        assert!(before > 0 || request.event.text != "boom", "a fault of the host");
        taken()
    });
    let messages = vec![outbound("family", "c1", "boom"), outbound("family", "c2", "calm")];
    scene.enqueue(messages).await;
    let worker = scene.worker(&platform, Bus::new(), Drafts::default());
    let (counters, shutdown) = (worker.counters(), CancellationToken::new());
    let task = tokio::spawn(worker.run(shutdown.clone()));
    scene.nothing_left().await;
    shutdown.cancel();
    task.await.unwrap().unwrap();
    assert_eq!(platform.texts_taken(), ["calm", "boom"]);
    assert_eq!(
        (counters.panicked(), counters.ambiguous(), counters.delivered()),
        (1, 1, 2)
    );
    assert_eq!(counters.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_busy_store_gets_the_outcome_later_and_nothing_goes_out_twice() {
    let mut acks = 0;
    let scene = Scene::with_faults(move |name| {
        acks += usize::from(name == "lazy_ack");
        if name == "lazy_ack" && acks < 6 {
            Fault::Busy
        } else {
            Fault::None
        }
    });
    let platform = Platform::willing(FAMILY);
    scene.enqueue(vec![outbound("family", "c1", "hi")]).await;
    scene.deliver_all(&platform).await;
    assert_eq!(platform.texts_taken(), ["hi"]);
}

#[tokio::test(start_paused = true)]
async fn the_draft_goes_with_its_answer_and_the_live_view_sees_each_step() {
    let scene = Scene::new();
    let platform = Platform::new(FAMILY, CAREFUL, |_, before| async move {
        if before == 0 { unavailable() } else { taken() }
    });
    let (bus, drafts, shutdown) = (Bus::new(), Drafts::default(), CancellationToken::new());
    let mut view = bus.subscribe();
    let message = outbound("family", "c1", "hi");
    drafts.remember(&message, "d7".to_owned());
    scene.enqueue(vec![message.clone()]).await;
    let worker = scene.worker(&platform, bus.clone(), drafts.clone());
    let task = tokio::spawn(worker.run(shutdown.clone()));
    scene.nothing_left().await;
    shutdown.cancel();
    task.await.unwrap().unwrap();
    let draft_ids: Vec<_> = platform
        .attempts
        .lock()
        .unwrap()
        .iter()
        .map(|it| it.draft_id.clone())
        .collect();
    assert_eq!(draft_ids, [Some("d7".to_owned()), Some("d7".to_owned())]);
    assert_eq!(drafts.of(&message), None, "the answer took its place");
    let Some(Received::Event(failed)) = view.recv().await else {
        panic!("no event")
    };
    assert!(matches!(&*failed, Event::Failed { attempt: 1, retry_at_ms, at_ms, .. } if retry_at_ms > at_ms));
    let Some(Received::Event(delivered)) = view.recv().await else {
        panic!("no event")
    };
    assert!(matches!(&*delivered, Event::Delivered { attempt: 2, message_ids, .. } if message_ids == &["p1"]));
}

#[tokio::test(start_paused = true)]
async fn attempts_that_failed_for_certain_use_up_no_resends_of_an_unconfirmed_delivery() {
    let scene = Scene::new();
    let guarantees = Guarantees {
        deduplicates_for: None,
        ambiguous_resends: 1,
        ..CAREFUL
    };
    // Down twice, handed over, down again, and handed over for the last time that is allowed.
    let platform = Platform::new(FAMILY, guarantees, |_, before| async move {
        match before {
            2 | 4 => handed_over(),
            _ => unavailable(),
        }
    });
    scene.enqueue(vec![outbound("family", "c1", "hi")]).await;
    scene.deliver_all(&platform).await;
    assert_eq!(platform.attempts.lock().unwrap().len(), 5);
    let dead = reasons(&scene.store).await;
    assert!(dead[0].contains("2 attempts left the host"), "{dead:?}");
}

#[tokio::test(start_paused = true)]
async fn what_expires_is_counted_and_told() {
    let scene = Scene::new();
    let platform = Platform::willing(FAMILY);
    let message = outbound("family", "c1", "too late");
    scene.enqueue(vec![message.clone()]).await;
    tokio::time::sleep(limit::DELIVERY_EXPIRY).await;
    let bus = Bus::new();
    let mut view = bus.subscribe();
    let worker = scene.worker(&platform, bus.clone(), Drafts::default());
    let (counters, shutdown) = (worker.counters(), CancellationToken::new());
    let task = tokio::spawn(worker.run(shutdown.clone()));
    scene.nothing_left().await;
    shutdown.cancel();
    task.await.unwrap().unwrap();
    assert_eq!((counters.dead(), counters.attempts()), (1, 0));
    let Some(Received::Event(event)) = view.recv().await else {
        panic!("nothing was told")
    };
    match &*event {
        Event::Dead { letter, attempt, .. } => assert_eq!((&letter.delivery_key, *attempt), (&message.key, 0)),
        other => panic!("{other:?}"),
    }
}
