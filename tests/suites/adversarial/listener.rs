//! Listeners: the one instance that lives long must not cost more than the others.

use std::time::Duration;

use sluicegate::bus::{Event, Received};
use sluicegate::channel::{CallError, Ended, Status};
use sluicegate::delivery::Failure;
use sluicegate::limit;

use crate::support::{Hostile, Rig, SECRET};

/// Waits until the channel is degraded, and returns why.
async fn degraded(rig: &Hostile) -> String {
    let looking = async {
        loop {
            if let Status::Degraded(reason) = rig.channel.status() {
                return reason;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking)
        .await
        .expect("the channel becomes degraded")
}

#[tokio::test]
async fn a_listener_that_fails_is_degraded_with_words_that_can_be_shown() {
    let words = format!("fail \u{1b}[2J{SECRET}");
    let rig = Rig::new().setting("listener", &words).up().await;
    let listening = tokio::spawn(rig.channel.clone().listen());
    assert_eq!(degraded(&rig).await, "the listener stopped: \\u{1b}[2J[redacted]");
    assert!(rig.channel.delivers(), "deliveries go on");
    rig.channel.services().listening.cancel();
    assert_eq!(listening.await.expect("no panic"), Ended::Stopped);
    assert!(rig.usage().restarts.get() >= 1);
    rig.survived().await;
}

#[tokio::test]
async fn a_listener_that_traps_or_returns_is_restarted_with_backoff() {
    for (attack, reason) in [
        ("panic now", "it panicked (unreachable code)"),
        ("publish x", "it returned although it was not told to"),
    ] {
        let rig = Rig::new().setting("listener", attack).up().await;
        let listening = tokio::spawn(rig.channel.clone().listen());
        assert_eq!(degraded(&rig).await, format!("the listener stopped: {reason}"));
        assert!(rig.usage().restarts.get() <= 2, "not in a tight loop");
        rig.channel.services().listening.cancel();
        assert_eq!(listening.await.expect("no panic"), Ended::Stopped);
        rig.survived().await;
    }
}

#[tokio::test]
async fn a_listener_that_crashes_again_and_again_is_paused_and_one_that_says_why_is_not() {
    let rig = Rig::new().setting("listener", "panic now").up().await;
    let mut events = rig.channel.services().bus.subscribe();
    tokio::time::pause();
    let ended = tokio::select! {
        ended = rig.channel.clone().listen() => ended,
        never = hurry() => never,
    };
    tokio::time::resume();
    assert_eq!(ended, Ended::GivenUp);
    let Status::Paused(reason) = rig.channel.status() else {
        panic!("{:?}", rig.channel.status())
    };
    assert!(
        reason.starts_with("crash loop: the listener crashed 8 times"),
        "{reason}"
    );
    assert_eq!(rig.usage().restarts.get(), u64::from(limit::LISTENER_CRASHES_MAX));
    let mut told = Vec::new();
    while told.last().is_none_or(|state| state != "paused") {
        match events.recv().await {
            Some(Received::Event(event)) => told.extend(state_of(&event)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, ["degraded", "paused"], "the live view hears of it");
    rig.silent().await;
    let rig = Rig::new().setting("listener", "fail again").up().await;
    let listening = tokio::spawn(rig.channel.clone().listen());
    harness::eventually("it fails and is started again", async || {
        (rig.usage().restarts.get() > 1).then_some(())
    })
    .await;
    assert!(
        matches!(rig.channel.status(), Status::Degraded(_)),
        "{:?}",
        rig.channel.status()
    );
    listening.abort();
    rig.survived().await;
}

#[tokio::test]
async fn a_listener_that_is_refused_pauses_its_channel_and_is_not_started_again() {
    let words = format!("refuse \u{1b}[2J{SECRET}");
    let rig = Rig::new().setting("listener", &words).up().await;
    let mut events = rig.channel.services().bus.subscribe();
    let ended = tokio::time::timeout(Duration::from_secs(20), rig.channel.clone().listen()).await;
    assert_eq!(ended.expect("it ends by itself"), Ended::Refused);
    let wanted = "the listener is refused: \\u{1b}[2J[redacted] (resume the channel when that is mended)";
    assert_eq!(rig.channel.status(), Status::Paused(wanted.to_owned()));
    assert_eq!(rig.usage().restarts.get(), 0);
    let told = match events.recv().await {
        Some(Received::Event(event)) => state_of(&event),
        other => panic!("{other:?}"),
    };
    assert_eq!(told.as_deref(), Some("paused"), "the live view hears of it");
    rig.silent().await;
}

/// Makes the paused clock go on by steps. On its own it would pass at once, also while a guest works on another thread:
/// then one that has just begun would count as steady.
async fn hurry() -> Ended {
    const STEP: Duration = limit::LISTENER_STEADY.checked_div(4).expect("four is not zero");
    loop {
        let in_real_time = || std::thread::sleep(Duration::from_millis(100));
        tokio::task::spawn_blocking(in_real_time).await.expect("it ends");
        tokio::time::advance(STEP).await;
    }
}

fn state_of(event: &Event) -> Option<String> {
    match event {
        Event::Channel { state, .. } => Some(state.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn a_listener_that_spins_gets_its_share_and_stops_when_told() {
    let rig = Rig::new().setting("listener", "spin").up().await;
    let listening = tokio::spawn(rig.channel.clone().listen());
    let began = tokio::time::Instant::now();
    harness::eventually("it uses up more than its burst", async || {
        let used = rig.usage().cpu();
        (used >= limit::CHANNEL_CPU_BURST + Duration::from_millis(300)).then_some(())
    })
    .await;
    let earned = began.elapsed() * limit::CHANNEL_CPU_PERCENT_DEFAULT / 100;
    let used = rig.usage().cpu();
    assert!(
        used <= limit::CHANNEL_CPU_BURST + earned + 10 * limit::EPOCH_TICK,
        "{used:?}"
    );
    assert_eq!(
        rig.report("log_line 0").await,
        "0 lines",
        "the channel's other calls go on"
    );
    rig.channel.services().listening.cancel();
    let stopped = tokio::time::timeout(4 * limit::LISTENER_STOP_GRACE, listening).await;
    assert_eq!(stopped.expect("it stops in time").expect("no panic"), Ended::Stopped);
    rig.survived().await;
}

#[tokio::test]
async fn a_listener_that_fails_does_not_bring_a_paused_channel_back() {
    let rig = Rig::new().setting("listener", "fail again").up().await;
    rig.channel
        .set_status(Status::Paused("the credentials are refused".into()));
    let listening = tokio::spawn(rig.channel.clone().listen());
    let failed = async {
        while rig.usage().restarts.get() == 0 || rig.channel.status() == Status::Up {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), failed)
        .await
        .expect("the listener fails");
    rig.channel.services().listening.cancel();
    assert_eq!(listening.await.expect("no panic"), Ended::Stopped);
    assert_eq!(
        rig.channel.status(),
        Status::Paused("the credentials are refused".into())
    );
    rig.silent().await;
}

#[tokio::test]
async fn a_delivery_that_comes_to_a_channel_just_stopped_does_not_begin() {
    let rig = Rig::new().up().await;
    rig.channel.pause("it is being stopped");
    assert!(rig.channel.rest(Duration::from_secs(10)).await, "nothing runs");
    // Handed over by a claim that was made before: who stops the channel cuts short what begins after its rest.
    let attempt = rig.deliver("receipt 1").await;
    assert_eq!((attempt.result, attempt.bytes_left), (Err(Failure::NotUp), false));
    assert_eq!(rig.webhook("log_line 0").await.err(), Some(CallError::NotUp));
    rig.channel.set_status(Status::Up);
    assert!(rig.deliver("receipt 1").await.result.is_ok(), "it goes on");
    rig.survived().await;
}

#[tokio::test]
async fn a_time_in_which_nobody_listened_is_told() {
    let rig = Rig::new().setting("listener", "idle").up().await;
    let services = rig.channel.services();
    let mut events = services.bus.subscribe();
    let hour_ago = services.clock.now_ms() - 3_600_000;
    services.store.lazy_seen(&services.name, hour_ago).await.expect("noted");
    let listening = tokio::spawn(rig.channel.clone().listen());
    let told = loop {
        if let Some(Received::Event(event)) = events.recv().await
            && let Event::Gap { from_ms, until_ms, .. } = *event
        {
            break (from_ms, until_ms - from_ms >= 3_600_000);
        }
    };
    assert_eq!((told, rig.usage().gaps.get()), ((hour_ago, true), 1));
    services.listening.cancel();
    assert_eq!(listening.await.expect("no panic"), Ended::Stopped);
    let seen = services.store.last_seen(&services.name).await.expect("read");
    assert!(seen.is_some_and(|seen| seen > hour_ago), "it is noted that it listens");
    rig.survived().await;
}
