//! What the gateway does when the platform misbehaves: the same key again, in order, and no lane held up by another.

use std::time::Duration;

use harness::{Act, Delivery, FakePlatform, Setup, TestGateway};
use serde_json::json;
use sluicegate::limit;

async fn echoing(platform: &FakePlatform) -> TestGateway {
    Setup::new().echo().webhook("hook", platform).start().await
}

fn texts(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|one| one.text.as_str()).collect()
}

/// Returns the deliveries' keys without repetition, in order of first arrival.
fn keys(deliveries: &[Delivery]) -> Vec<&str> {
    let mut keys: Vec<&str> = Vec::new();
    for one in deliveries {
        if !keys.contains(&one.key.as_str()) {
            keys.push(&one.key);
        }
    }
    keys
}

#[tokio::test]
async fn a_reply_is_posted_as_json_with_its_key_as_the_idempotency_key() {
    let platform = FakePlatform::start().await;
    let gateway = echoing(&platform).await;
    let message = json!({
        "id": "m1", "conversation": "c1", "thread": "t1", "sender": "ada", "sender_name": "Ada", "text": "hi"
    });
    assert_eq!(gateway.post("hook", &message).await.status, 200);
    let taken = platform.wait_for_accepted("c1", 1).await;
    let key = taken[0].key.clone();
    assert!(key.starts_with("dlv_"), "{key}");
    let expected = json!({
        "delivery_key": key, "conversation": "c1", "thread": "t1", "in_reply_to": "m1", "text": "hi", "attempt": 1
    });
    assert_eq!(taken[0].body, expected);
    let request = &taken[0].request;
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/deliver"));
    assert_eq!(request.header("idempotency-key"), Some(key.as_str()));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("x-signature"), None, "without a key nothing is signed");
}

/// Lets the first delivery of a conversation go wrong, and returns all that arrived there until two messages were taken.
async fn after(act: Act) -> Vec<Delivery> {
    let platform = FakePlatform::start().await;
    let gateway = echoing(&platform).await;
    platform.next("c1", [act]);
    gateway.tell("hook", "m1", "c1", "one").await;
    gateway.tell("hook", "m2", "c1", "two").await;
    gateway
        .wait_for_metric("sluicegate_delivery_delivered_total", 2.0)
        .await;
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    let arrived = platform.arrived().all();
    assert_eq!(
        texts(&arrived),
        ["one", "one", "two"],
        "in order, and the failed one again before the next"
    );
    assert_eq!(
        keys(&arrived),
        [&arrived[0].key, &arrived[2].key],
        "the same message has the same key"
    );
    assert_eq!(
        (&arrived[0].body["attempt"], &arrived[2].body["attempt"]),
        (&json!(1), &json!(1))
    );
    arrived
}

fn gap(arrived: &[Delivery]) -> Duration {
    arrived[1].at.duration_since(arrived[0].at)
}

#[tokio::test]
async fn a_platform_that_is_unavailable_gets_the_message_again_by_the_schedule() {
    let arrived = after(Act::Refuse(503)).await;
    // The schedule's first wait is two seconds, give or take a fifth.
    assert!(gap(&arrived) > Duration::from_millis(1500), "{:?}", gap(&arrived));
}

#[tokio::test]
async fn a_platform_that_fails_inside_gets_the_message_again() {
    after(Act::Refuse(500)).await;
}

#[tokio::test]
async fn a_platform_that_asks_to_wait_is_not_disturbed_before() {
    let arrived = after(Act::RefuseFor(3)).await;
    assert!(gap(&arrived) >= Duration::from_millis(2950), "{:?}", gap(&arrived));
}

#[tokio::test]
async fn a_platform_that_took_it_and_hung_gets_one_copy_with_the_same_key() {
    after(Act::AcceptThenHang).await;
}

#[tokio::test]
async fn a_platform_that_took_it_and_closed_gets_one_copy_with_the_same_key() {
    after(Act::AcceptThenClose).await;
}

#[tokio::test]
async fn a_platform_that_took_it_and_answers_at_length_gets_no_copy() {
    let platform = FakePlatform::start().await;
    let gateway = echoing(&platform).await;
    // More than `response_mib` allows.
    platform.next("c1", [Act::AcceptThenFlood(9 << 20)]);
    gateway.tell("hook", "m1", "c1", "one").await;
    gateway.tell("hook", "m2", "c1", "two").await;
    gateway
        .wait_for_metric("sluicegate_delivery_delivered_total", 2.0)
        .await;
    assert_eq!(texts(&platform.arrived().all()), ["one", "two"]);
    gateway.wait_for_metric("sluicegate_dead_letters", 0.0).await;
}

#[tokio::test]
async fn a_platform_that_never_answers_gets_no_more_copies_than_the_operator_allows() {
    copies_are_bounded(Act::AcceptThenClose).await;
}

#[tokio::test]
async fn an_answer_that_leaves_open_whether_it_arrived_makes_no_more_copies_than_the_operator_allows() {
    // Such as of a proxy that gave up waiting for the platform.
    copies_are_bounded(Act::Refuse(504)).await;
}

async fn copies_are_bounded(act: Act) {
    let platform = FakePlatform::start().await;
    let gateway = Setup::new()
        .echo()
        .webhook_with("careful", &platform, "ambiguous_resends = 0")
        .webhook("hook", &platform)
        .start()
        .await;
    platform.always("mute", act);
    gateway.tell("careful", "m1", "mute", "never twice").await;
    gateway.wait_for_metric("sluicegate_dead_letters", 1.0).await;
    gateway.tell("hook", "m1", "mute", "at most twice").await;
    gateway.wait_for_metric("sluicegate_dead_letters", 2.0).await;
    let arrived = platform.arrived().all();
    assert_eq!(texts(&arrived), ["never twice", "at most twice", "at most twice"]);
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
}

#[tokio::test]
async fn a_conversation_that_is_stuck_delays_no_other_and_keeps_its_order() {
    let platform = FakePlatform::start().await;
    let gateway = echoing(&platform).await;
    platform.next("stuck", [Act::Refuse(503), Act::Refuse(503)]);
    gateway.tell("hook", "m1", "stuck", "one").await;
    gateway.tell("hook", "m2", "stuck", "two").await;
    platform.wait_for_arrived("stuck", 1).await;
    for n in 0..10 {
        gateway.tell("hook", &format!("f{n}"), "free", &format!("{n}")).await;
    }
    let free = platform.wait_for_accepted("free", 10).await;
    assert_eq!(texts(&free), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert!(
        platform.accepted("stuck").is_empty(),
        "the stuck conversation was to wait"
    );
    let stuck = platform.wait_for_accepted("stuck", 2).await;
    assert_eq!(texts(&stuck), ["one", "two"]);
}

#[tokio::test]
async fn a_conversation_whose_attempts_hang_delays_no_other() {
    let platform = FakePlatform::start().await;
    let gateway = echoing(&platform).await;
    platform.always("hung", Act::AcceptThenHang);
    for n in 0..5 {
        gateway.tell("hook", &format!("h{n}"), "hung", "x").await;
    }
    platform.wait_for_arrived("hung", 1).await;
    gateway.tell("hook", "f1", "free", "through").await;
    let hung_before = platform
        .arrived()
        .all()
        .iter()
        .filter(|one| one.conversation == "hung")
        .count();
    platform.wait_for_accepted("free", 1).await;
    assert_eq!(hung_before, 1, "one attempt of a conversation at a time");
}

/// As many conversations hang as may that are not known to deliver.
#[tokio::test]
async fn a_conversation_that_delivers_goes_on_beside_as_many_as_hang() {
    let hanging = limit::DELIVERIES_PER_CHANNEL_MAX * limit::DELIVERIES_UNPROVEN_PERCENT / 100;
    let platform = FakePlatform::start().await;
    let gateway = echoing(&platform).await;
    gateway.tell("hook", "k0", "known", "through").await;
    platform.wait_for_accepted("known", 1).await;
    for n in 0..2 * hanging {
        let conversation = format!("hung{n}");
        platform.next(&conversation, [Act::AcceptThenHang]);
        gateway.tell("hook", &format!("h{n}"), &conversation, "x").await;
    }
    let began = std::time::Instant::now();
    for n in 1..=3 {
        gateway.tell("hook", &format!("k{n}"), "known", "through").await;
        platform.wait_for_accepted("known", n + 1).await;
    }
    assert!(began.elapsed() < limit::HTTP_PLACE_WAIT_MAX, "{:?}", began.elapsed());
    let arrived = platform.arrived().all();
    let hung = arrived
        .iter()
        .filter(|one| one.conversation.starts_with("hung"))
        .count();
    assert!(hung <= hanging, "{hung} of {hanging} places");
}

/// More conversations than the channel may have requests: who finds no place waits for one, as long as that takes.
#[tokio::test]
async fn a_request_that_waits_for_its_place_costs_no_attempt() {
    let platform = FakePlatform::start().await;
    let gateway = Setup::new()
        .echo()
        .section(&format!(
            "[channels.hook]\ncomponent = \"webhook\"\naccess = \"open\"\nsettings = {{ url = \"{}\" }}\n\
             grant = [\"{}\"]\nlimits = {{ requests_in_flight = 1, call_timeout_s = 1 }}",
            platform.url(),
            platform.endpoint()
        ))
        .start()
        .await;
    platform.next("hung", [Act::AcceptThenHang]);
    gateway.tell("hook", "h1", "hung", "x").await;
    platform.wait_for_arrived("hung", 1).await;
    for n in 0..4 {
        let conversation = format!("c{n}");
        gateway.tell("hook", &format!("m{n}"), &conversation, "through").await;
    }
    for n in 0..4 {
        let taken = platform.wait_for_accepted(&format!("c{n}"), 1).await;
        assert_eq!(taken[0].body["attempt"], json!(1), "{taken:?}");
    }
    let failed = gateway.metric("sluicegate_delivery_failed_total", "").await;
    assert!(failed.abs() < 0.5, "{failed} attempts failed that never began");
}

#[tokio::test]
async fn someone_who_writes_again_is_not_left_waiting_for_an_old_backoff() {
    let platform = FakePlatform::start_down();
    let gateway = echoing(&platform).await;
    gateway.tell("hook", "m1", "c1", "one").await;
    // Two failures: the next attempt is ten seconds away.
    gateway.wait_for_metric("sluicegate_delivery_failed_total", 2.0).await;
    platform.come_up();
    gateway.tell("hook", "m2", "c1", "two").await;
    let said = std::time::Instant::now();
    let taken = platform.wait_for_accepted("c1", 2).await;
    assert_eq!(texts(&taken), ["one", "two"]);
    assert!(
        said.elapsed() < Duration::from_secs(6),
        "the old wait was kept: {:?}",
        said.elapsed()
    );
}

#[tokio::test]
async fn what_the_platform_rejects_is_a_dead_letter_at_once_and_the_next_goes_on() {
    let platform = FakePlatform::start().await;
    let gateway = echoing(&platform).await;
    platform.next("c1", [Act::Refuse(422)]);
    gateway.tell("hook", "m1", "c1", "one").await;
    gateway.tell("hook", "m2", "c1", "two").await;
    assert_eq!(texts(&platform.wait_for_accepted("c1", 1).await), ["two"]);
    gateway.wait_for_metric("sluicegate_dead_letters", 1.0).await;
    assert_eq!(platform.arrived().len(), 2, "a rejected message is not tried again");
}

#[tokio::test]
async fn an_endpoint_that_was_not_granted_gets_nothing_and_the_log_says_why() {
    let platform = FakePlatform::start().await;
    let gateway = Setup::new()
        .echo()
        .section(&format!(
            "[channels.hook]\ncomponent = \"webhook\"\naccess = \"open\"\nsettings = {{ url = \"{}\" }}",
            platform.url()
        ))
        .start()
        .await;
    gateway.tell("hook", "m1", "c1", "hi").await;
    gateway.wait_for_log(&["grant"]).await;
    gateway.wait_for_metric("sluicegate_delivery_failed_total", 1.0).await;
    assert!(platform.arrived().is_empty(), "it was sent all the same");
    assert!(
        (gateway.metric("sluicegate_outbox_waiting", "").await - 1.0).abs() < 0.5,
        "the reply waits for the grant"
    );
}

#[tokio::test]
async fn a_channel_without_a_url_buries_its_replies_with_the_reason() {
    let gateway = Setup::new()
        .echo()
        .section("[channels.hook]\ncomponent = \"webhook\"\naccess = \"open\"")
        .start()
        .await;
    gateway.tell("hook", "m1", "c1", "hi").await;
    gateway.wait_for_metric("sluicegate_dead_letters", 1.0).await;
    gateway.wait_for_log(&["url"]).await;
}
