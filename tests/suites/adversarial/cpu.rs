//! Guests that run, sleep or call without end: each call ends at its bound, and a channel never gets more than its share.

use std::time::{Duration, Instant};

use sluicegate::channel::CallError;
use sluicegate::delivery::{Failure, Finding};
use sluicegate::egress::Evidence;
use sluicegate::ingress::{ClientId, CloseReason};
use sluicegate::limit;
use sluicegate::store::EventStore as _;

use crate::support::{Hostile, Rig, conversation, request};

const USED_UP: &str = "it used up its CPU time";

#[tokio::test]
async fn a_guest_that_spins_is_ended_at_its_cpu_time_in_every_export() {
    let rig = Rig::new()
        .setting("start", "spin")
        .setting("stop", "spin")
        .setting("closed", "spin")
        .up()
        .await;
    assert_eq!(rig.trap("spin").await, USED_UP);
    assert_eq!(
        rig.webhook("spin").await.err(),
        Some(CallError::Trapped(USED_UP.to_owned()))
    );
    let client = ClientId::generate();
    let opened = rig
        .channel
        .client_opened(&client, "/".into(), Some("spin".into()), None)
        .await;
    assert_eq!(opened, Err(CloseReason::Internal));
    assert_eq!(
        rig.channel.client_received(&client, "spin".into()).await,
        Err(CloseReason::Internal)
    );
    rig.channel.client_closed(&client).await;
    rig.channel.typing(conversation("spin")).await;
    assert_eq!(rig.channel.draft(request(rig.name(), "spin")).await, None);
    assert_eq!(
        rig.channel.reconcile(request(rig.name(), "spin"), 0).await,
        Finding::Unknown
    );
    assert!(
        rig.channel
            .start(None)
            .await
            .is_err_and(|reason| reason.contains(USED_UP))
    );
    rig.channel.stop().await;
    assert_eq!(
        (rig.usage().traps.get(), rig.usage().calls.get()),
        (10, 10),
        "each is counted"
    );
    rig.survived().await;
}

#[tokio::test]
async fn a_million_small_calls_of_the_host_are_paid_from_the_guests_cpu_time() {
    let rig = Rig::new().up().await;
    let began = Instant::now();
    match rig.deliver("tiny_calls").await.result {
        Ok(receipt) => assert_eq!(receipt.message_ids.len(), 1),
        Err(failure) => assert_eq!(failure, Failure::Trapped(USED_UP.to_owned())),
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    rig.survived().await;
}

#[tokio::test]
async fn a_guest_that_sleeps_for_ever_is_ended_at_its_deadline_and_uses_no_cpu() {
    let rig = Rig::new().up().await;
    let began = Instant::now();
    assert_eq!(rig.failure("sleep").await, Failure::DeadlineExceeded);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!((rig.usage().deadlines.get(), rig.usage().traps.get()), (1, 0));
    let used = rig.usage().cpu();
    assert!(used < Duration::from_millis(200), "{used:?} used");
    rig.survived().await;
}

#[tokio::test]
async fn many_calls_at_once_get_the_cpu_share_of_their_channel_and_not_one_each() {
    let rig = Rig::new().ample_cpu().up().await;
    let began = Instant::now();
    // Until well past what the channel may use at once.
    let calls = (0..8).map(|_| rig.deliver("spin"));
    let spinning = futures_util::future::join_all(calls);
    assert!(
        tokio::time::timeout(4 * limit::CHANNEL_CPU_BURST, spinning)
            .await
            .is_err(),
        "they spin for ever"
    );
    let earned = began.elapsed() * limit::CHANNEL_CPU_PERCENT_DEFAULT / 100;
    let used = rig.usage().cpu();
    // Eight guests may each be in the middle of a tick.
    let allowed = limit::CHANNEL_CPU_BURST + earned + 9 * limit::EPOCH_TICK;
    assert!(used < allowed, "{used:?} used, {allowed:?} allowed");
    rig.silent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_too_brief_to_be_interrupted_get_no_more_than_the_channels_share() {
    let rig = Rig::new().ample_cpu().up().await;
    // What it may use at once, it uses up: alone it makes a crowd, whose long calls are held.
    let spinning = futures_util::future::join_all((0..8).map(|_| rig.deliver("spin")));
    let _spun = tokio::time::timeout(5 * limit::CHANNEL_CPU_BURST, spinning).await;
    let (began, before) = (Instant::now(), rig.usage().cpu());
    assert!(before >= limit::CHANNEL_CPU_BURST, "{before:?} used");
    let callers = (0..16).map(async |_| {
        while began.elapsed() < Duration::from_secs(3) {
            rig.deliver("panic").await;
        }
    });
    futures_util::future::join_all(callers).await;
    let earned = began.elapsed() * limit::CHANNEL_CPU_PERCENT_DEFAULT / 100;
    let used = rig.usage().cpu() - before;
    // Sixteen may each have begun before the others owed anything.
    let allowed = earned + 16 * limit::CALL_CPU_BRIEF_MAX;
    assert!(used < allowed, "{used:?} used, {allowed:?} allowed");
    rig.survived().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_handled_while_a_delivery_of_the_same_channel_hangs() {
    let rig = Rig::new().up().await;
    let hanging = {
        let (channel, request) = (rig.channel.clone(), request(rig.name(), "sleep"));
        tokio::spawn(async move { channel.deliver(request, Evidence::default()).await })
    };
    harness::eventually("the delivery has begun", async || {
        (rig.usage().calls.get() == 1).then_some(())
    })
    .await;
    assert_eq!(rig.report("log_line 0").await, "0 lines");
    assert!(!hanging.is_finished(), "the webhook did not wait for it");
    let attempt = hanging.await.expect("no panic");
    assert_eq!(attempt.result, Err(Failure::DeadlineExceeded));
    rig.survived().await;
}

#[tokio::test]
async fn what_a_guest_would_do_after_its_deadline_is_not_done() {
    let (rig, patient) = (
        Rig::new().deadline(Duration::from_secs(1)).up().await,
        Rig::new().up().await,
    );
    // The one that has the time is at it later than the other would be.
    let (late, in_time) = tokio::join!(rig.failure("late 2000"), patient.deliver("late 4000"));
    assert_eq!(late, Failure::DeadlineExceeded);
    assert!(in_time.result.is_ok(), "{in_time:?}");
    let said = |rig: &Hostile| {
        let mine = format!("channel=\"{}\"", rig.name());
        let lines = rig.log_lines();
        lines
            .iter()
            .filter(|line| line.contains(&mine) && line.contains("after its time"))
            .count()
    };
    assert_eq!((said(&rig), rig.store.depth().inbox), (0, 0));
    assert_eq!((said(&patient), patient.store.depth().inbox), (1, 1));
    rig.survived().await;
    patient.survived().await;
}
