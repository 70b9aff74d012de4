//! What only Discord's gateway and its nonces ask for.

use harness::{Setup, TestGateway, eventually};
use serde_json::json;

use super::configured;
use super::fake::{DiscordFake, Fault, Order};

async fn echoing(fake: &DiscordFake) -> TestGateway {
    let gateway = configured(fake, Setup::new().echo(), "crew").start().await;
    fake.connected().await;
    gateway
}

/// Lets a person say a text, and waits for its echo.
async fn exchange(fake: &DiscordFake, channel: &str, text: &str) {
    fake.message(channel, json!({ "content": text }));
    eventually(&format!("{text:?} is answered"), async || {
        fake.posted(channel)
            .iter()
            .any(|posted| posted.content == text)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_answers_no_heartbeat_is_left_and_the_session_resumed() {
    let fake = DiscordFake::start().await.expect("a free port");
    fake.order(Order::HeartbeatMs(1_000));
    let _gateway = echoing(&fake).await;
    let channel = fake.add_direct();
    exchange(&fake, &channel, "before").await;
    let resumed = fake.resumed();
    fake.order(Order::Silence(true));
    eventually("the session is resumed", async || {
        (fake.resumed() > resumed).then_some(())
    })
    .await;
    fake.order(Order::Silence(false));
    exchange(&fake, &channel, "after").await;
    assert_eq!(fake.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_session_that_is_not_valid_any_more_is_begun_anew() {
    let fake = DiscordFake::start().await.expect("a free port");
    let _gateway = echoing(&fake).await;
    let channel = fake.add_direct();
    exchange(&fake, &channel, "before").await;
    fake.order(Order::Invalidate(false));
    fake.connected().await;
    exchange(&fake, &channel, "after").await;
    assert_eq!(
        (fake.resumed(), fake.violations()),
        (0, Vec::new()),
        "not within five seconds of the first one"
    );
}

#[tokio::test]
async fn a_close_that_is_final_says_what_to_do() {
    let fake = DiscordFake::start().await.expect("a free port");
    fake.order(Order::RefuseNext(4014));
    let gateway = configured(&fake, Setup::new().echo(), "crew").start().await;
    gateway.wait_for_log(&["crew", "4014", "Message Content Intent"]).await;
}

#[tokio::test]
async fn an_answer_that_discord_took_without_saying_so_is_not_copied() {
    let fake = DiscordFake::start().await.expect("a free port");
    let gateway = echoing(&fake).await;
    let channel = fake.add_direct();
    let path = format!("/channels/{channel}/messages");
    fake.fail_next("POST", &path, 1, Fault::NoAnswer { accepted: true });
    exchange(&fake, &channel, "hello").await;
    gateway
        .wait_for_metric("sluicegate_delivery_delivered_total", 1.0)
        .await;
    let attempts = fake
        .calls()
        .iter()
        .filter(|call| call.method == "POST" && call.path == path)
        .count();
    assert_eq!(
        (attempts, fake.posted(&channel).len()),
        (2, 1),
        "sent twice under one nonce"
    );
}
