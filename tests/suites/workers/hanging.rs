//! Platforms that hang or refuse: whom they delay, and whom they don't.

use sluicegate::event::OutboundEvent;
use sluicegate::limit;
use tokio::time::Instant;

use crate::deliveries::{FAMILY, Scene};
use crate::support::*;

/// Messages to so many conversations, each of its own.
fn one_each(channel: &str, places: std::ops::Range<usize>, prefix: &str) -> Vec<OutboundEvent> {
    places
        .map(|n| outbound(channel, &format!("{prefix}{n}"), prefix))
        .collect()
}

/// Returns how many attempts were not the first of their message.
fn retries(platform: &Platform) -> usize {
    let attempts = platform.attempts.lock().unwrap();
    attempts.iter().filter(|it| it.attempt > 1).count()
}

#[tokio::test(start_paused = true)]
async fn conversations_that_hang_take_no_place_of_those_that_deliver() {
    let scene = Scene::new();
    let platform = Platform::new(FAMILY, CAREFUL, |request, _| async move {
        match request.event.text.as_str() {
            "hangs" => std::future::pending().await,
            _ => taken(),
        }
    });
    let running = scene.run(&platform);
    scene.enqueue(one_each("family", 0..8, "known")).await;
    until("they are known to deliver", || platform.texts_taken().len() == 8).await;
    scene.enqueue(one_each("family", 0..1000, "hangs")).await;
    until("they hang", || platform.attempts.lock().unwrap().len() > 8).await;
    let began = Instant::now();
    for round in 2..=10 {
        scene.enqueue(one_each("family", 0..8, "known")).await;
        until("the others are out", || platform.texts_taken().len() == 8 * round).await;
    }
    assert!(
        began.elapsed() < limit::RECHECK_PERIOD * 10,
        "{:?} for nine rounds",
        began.elapsed()
    );
    running.kill().await;
}

#[tokio::test(start_paused = true)]
async fn conversations_that_hang_again_take_no_place_of_new_ones() {
    let scene = Scene::new();
    let platform = Platform::new(FAMILY, CAREFUL, |request, before| async move {
        match (request.event.text.as_str(), before) {
            ("hangs", 0) => unavailable(),
            ("hangs", _) => std::future::pending().await,
            _ => taken(),
        }
    });
    let running = scene.run(&platform);
    scene.enqueue(one_each("family", 0..1000, "hangs")).await;
    let again = || retries(&platform);
    let places = limit::DELIVERIES_PER_CHANNEL_MAX * limit::DELIVERIES_TRIED_PERCENT / 100;
    until("the second attempts hang", || again() >= places).await;
    let began = Instant::now();
    scene.enqueue(one_each("family", 0..100, "new")).await;
    until("the new ones are out", || platform.texts_taken().len() == 100).await;
    assert!(began.elapsed() < limit::RECHECK_PERIOD * 2, "{:?}", began.elapsed());
    assert_eq!(again(), places, "no more than their places");
    running.kill().await;
}

#[tokio::test(start_paused = true)]
async fn no_number_of_channels_that_hang_stops_another() {
    let scene = Scene::new();
    let slow: Vec<String> = (0..12).map(|n| format!("slow{n}")).collect();
    let channels: Vec<&str> = slow.iter().map(String::as_str).chain(["family"]).collect();
    let platform = Platform::new(&channels, CAREFUL, |request, _| async move {
        match request.event.text.as_str() {
            "hangs" => std::future::pending().await,
            _ => taken(),
        }
    });
    for channel in &slow {
        scene.enqueue(one_each(channel, 0..100, "hangs")).await;
    }
    let running = scene.run(&platform);
    until("they hang", || {
        platform.attempts.lock().unwrap().len() >= limit::DELIVERIES_IN_FLIGHT_MAX
    })
    .await;
    let began = Instant::now();
    scene.enqueue(one_each("family", 0..100, "new")).await;
    until("the new ones are out", || platform.texts_taken().len() == 100).await;
    assert!(began.elapsed() < limit::RECHECK_PERIOD * 2, "{:?}", began.elapsed());
    running.kill().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_a_thousand_conversations_is_not_sent_again_in_one_moment() {
    let scene = Scene::new();
    let platform = Platform::new(FAMILY, CAREFUL, |_, _| async { unavailable() });
    let running = scene.run(&platform);
    scene.enqueue(one_each("family", 0..1000, "refused")).await;
    let budget = limit::RETRY_BUDGET as usize;
    until("the retries began", || retries(&platform) >= budget).await;
    let (began, before) = (Instant::now(), retries(&platform));
    until("more of them", || retries(&platform) >= before + 200).await;
    let (took, made) = (began.elapsed(), retries(&platform) - before);
    let least = limit::RETRY_BUDGET_REFILL * u32::try_from(made - budget).unwrap();
    assert!(took >= least, "{made} retries in {took:?}, expected at least {least:?}");
    let most = limit::RETRY_BUDGET_REFILL * u32::try_from(made).unwrap() * 2;
    assert!(took <= most, "{made} retries in {took:?}, expected at most {most:?}");
    running.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_platform_that_is_back_gets_what_waits_for_it_without_a_limit() {
    let scene = Scene::new();
    let platform = Platform::new(FAMILY, CAREFUL, |_, before| async move {
        match before {
            0 => unavailable(),
            _ => taken(),
        }
    });
    let running = scene.run(&platform);
    scene.enqueue(one_each("family", 0..1000, "waits")).await;
    let began = Instant::now();
    until("all are out", || platform.texts_taken().len() == 1000).await;
    // By the schedule with its jitter, and a moment.
    let most = limit::RETRY_SCHEDULE[0] * 2;
    assert!(
        began.elapsed() < most,
        "{:?}, expected less than {most:?}",
        began.elapsed()
    );
    running.kill().await;
}
