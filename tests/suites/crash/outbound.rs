//! From the sending mark to the ack: a copy only where nobody can know whether the first one arrived, and never two.

use harness::{Act, FakePlatform, Setup};
use serde_json::json;

#[tokio::test]
async fn a_message_taken_without_an_answer_is_copied_once_with_its_key() {
    let platform = FakePlatform::start().await;
    let mut gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    platform.next("c1", [Act::AcceptThenHang]);
    gateway.tell("hook", "m1", "c1", "hi").await;
    platform.wait_for_accepted("c1", 1).await;
    gateway.crash().await;
    let taken = platform.wait_for_accepted("c1", 2).await;
    assert_eq!((&taken[1].key, &taken[1].text), (&taken[0].key, &taken[0].text));
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    assert_eq!((platform.arrived().len(), dead_letters(&gateway).await), (2, 0));
}

#[tokio::test]
async fn a_message_that_is_never_answered_is_copied_no_more_than_allowed_however_often_the_process_dies() {
    let platform = FakePlatform::start().await;
    let mut gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    platform.always("mute", Act::AcceptThenHang);
    gateway.tell("hook", "m1", "mute", "hi").await;
    platform.wait_for_accepted("mute", 1).await;
    gateway.crash().await;
    platform.wait_for_accepted("mute", 2).await;
    gateway.crash().await;
    gateway.wait_for_metric("sluicegate_dead_letters", 1.0).await;
    assert_eq!(platform.arrived().len(), 2, "one copy is allowed by default");
}

#[tokio::test]
async fn where_no_copy_is_allowed_an_unknown_outcome_becomes_a_dead_letter() {
    let platform = FakePlatform::start().await;
    let setup = Setup::new()
        .echo()
        .webhook_with("hook", &platform, "ambiguous_resends = 0");
    let mut gateway = setup.start().await;
    platform.next("c1", [Act::AcceptThenHang]);
    gateway.tell("hook", "m1", "c1", "hi").await;
    platform.wait_for_accepted("c1", 1).await;
    gateway.crash().await;
    gateway.wait_for_metric("sluicegate_dead_letters", 1.0).await;
    // The lane goes on.
    gateway.tell("hook", "m2", "c1", "next").await;
    let texts: Vec<String> = platform
        .wait_for_accepted("c1", 2)
        .await
        .into_iter()
        .map(|one| one.text)
        .collect();
    assert_eq!(texts, ["hi", "next"]);
}

#[tokio::test]
async fn a_kill_at_the_moment_of_the_platforms_answer_makes_at_most_one_copy() {
    let platform = FakePlatform::start().await;
    let mut gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    for round in 0..8 {
        let conversation = format!("c{round}");
        gateway.tell("hook", &format!("m{round}"), &conversation, "hi").await;
        platform.wait_for_accepted(&conversation, 1).await;
        gateway.crash().await;
        gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
        let taken = platform.accepted(&conversation);
        assert!(taken.len() <= 2, "{} copies in round {round}", taken.len() - 1);
        assert!(taken.iter().all(|one| one.key == taken[0].key));
        assert_eq!(dead_letters(&gateway).await, 0);
    }
}

#[tokio::test]
async fn a_message_that_was_acked_is_never_sent_again() {
    let platform = FakePlatform::start().await;
    let mut gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    gateway.tell("hook", "m1", "c1", "one").await;
    gateway
        .wait_for_metric("sluicegate_delivery_delivered_total", 1.0)
        .await;
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    gateway.crash().await;
    gateway.tell("hook", "m2", "c1", "two").await;
    let texts: Vec<String> = platform
        .wait_for_accepted("c1", 2)
        .await
        .into_iter()
        .map(|one| one.text)
        .collect();
    assert_eq!(texts, ["one", "two"]);
}

#[tokio::test]
async fn messages_behind_an_ambiguous_one_keep_their_order() {
    let platform = FakePlatform::start().await;
    let mut gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    platform.next("c1", [Act::AcceptThenHang]);
    for (id, text) in [("m1", "one"), ("m2", "two"), ("m3", "three")] {
        gateway.tell("hook", id, "c1", text).await;
    }
    platform.wait_for_accepted("c1", 1).await;
    gateway.crash().await;
    let texts: Vec<String> = platform
        .wait_for_accepted("c1", 4)
        .await
        .into_iter()
        .map(|one| one.text)
        .collect();
    assert_eq!(texts, ["one", "one", "two", "three"]);
}

#[tokio::test]
async fn an_unacknowledged_reply_comes_again_after_a_kill_and_an_acknowledged_one_does_not() {
    let mut gateway = Setup::new().echo().websocket().start().await;
    let mut client = gateway.client().await;
    client.attach("c1", true).await;
    client.say("m1", "c1", "hi").await;
    client.expect("accepted").await;
    let first = client.expect("reply").await;
    gateway.crash().await;

    let mut client = gateway.client().await;
    client.attach("c1", true).await;
    assert_eq!(client.expect("reply").await, first, "the same reply with the same key");
    client
        .send(&json!({"type": "ack", "delivery_key": first["delivery_key"]}))
        .await;
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    gateway.crash().await;

    let mut client = gateway.client().await;
    client.attach("c1", true).await;
    client.say("m2", "c1", "next").await;
    client.expect("accepted").await;
    assert_eq!(
        client.expect("reply").await["in_reply_to"],
        "m2",
        "the acknowledged reply came again"
    );
}

async fn dead_letters(gateway: &harness::TestGateway) -> usize {
    // A gauge of whole numbers.
    if gateway.metric("sluicegate_dead_letters", "").await < 0.5 {
        0
    } else {
        1
    }
}
