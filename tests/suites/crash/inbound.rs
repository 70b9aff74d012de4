//! Around the inbox commit: the platform heard success only for what is there, and repeats the rest.

use std::time::Duration;

use harness::{FakePlatform, MockModel, Setup, http};
use serde_json::json;

/// How long after a request was sent the process is killed, microseconds: from before it was read until after it was
/// answered.
const KILL_AFTER_US: [u64; 10] = [0, 200, 500, 1_000, 2_000, 4_000, 8_000, 12_000, 20_000, 40_000];

#[tokio::test]
async fn a_webhook_that_got_no_answer_is_sent_again_and_answered_once() {
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let mut gateway = Setup::new().model(&model).webhook("hook", &platform).start().await;
    let mut unanswered = 0;
    for (round, delay_us) in KILL_AFTER_US.into_iter().enumerate() {
        // Nothing goes out in the first life, so that every delivery is of the second.
        model.hold();
        let conversation = format!("c{round}");
        let body = json!({"id": format!("m{round}"), "conversation": conversation, "sender": "ada", "text": "hi"});
        let body_text = body.to_string();
        let sent = http::send(gateway.address(), "POST", "/hooks/hook", &[], body_text.as_bytes()).await;
        tokio::time::sleep(Duration::from_micros(delay_us)).await;
        gateway.kill().await;
        let heard_success = match sent {
            Ok(stream) => http::receive(stream).await.is_ok_and(|answer| answer.status == 200),
            Err(_) => false,
        };
        unanswered += usize::from(!heard_success);

        gateway.restart().await;
        // As platforms do with what was not confirmed. What was confirmed must be there without it.
        if !heard_success {
            assert_eq!(gateway.post("hook", &body).await.status, 200);
        }
        model.release();
        platform.wait_for_accepted(&conversation, 1).await;
        gateway.wait_for_metric("sluicegate_inbox_waiting", 0.0).await;
        gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
        assert_eq!(
            platform.accepted(&conversation).len(),
            1,
            "killed {delay_us} µs after the request"
        );
    }
    assert!(
        unanswered > 0,
        "no kill came before an answer: the delays are too long for this machine"
    );
}

#[tokio::test]
async fn what_was_confirmed_is_there_after_a_kill_and_its_repetition_is_a_duplicate() {
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let mut gateway = Setup::new().model(&model).webhook("hook", &platform).start().await;
    model.hold();
    gateway.tell("hook", "m1", "c1", "hi").await;
    gateway.crash().await;
    let again = gateway
        .post(
            "hook",
            &json!({"id": "m1", "conversation": "c1", "sender": "ada", "text": "hi"}),
        )
        .await;
    assert_eq!(again.text(), r#"{"status":"duplicate"}"#);
    model.release();
    gateway.tell("hook", "m2", "c1", "next").await;
    let texts: Vec<String> = platform
        .wait_for_accepted("c1", 2)
        .await
        .into_iter()
        .map(|one| one.text)
        .collect();
    assert_eq!(texts, ["re: hi", "re: next"]);
}

#[tokio::test]
async fn a_frame_that_was_accepted_is_answered_after_a_kill() {
    let model = MockModel::start().await;
    let mut gateway = Setup::new().model(&model).websocket().start().await;
    model.hold();
    let mut client = gateway.client().await;
    client.say("m1", "c1", "hi").await;
    client.expect("accepted").await;
    gateway.crash().await;
    model.release();
    let mut client = gateway.client().await;
    client.say("m1", "c1", "hi").await;
    client.expect("accepted").await;
    assert_eq!(client.expect("reply").await["text"], "re: hi");
    client.say("m2", "c1", "next").await;
    client.expect("accepted").await;
    assert_eq!(
        client.expect("reply").await["in_reply_to"],
        "m2",
        "the first was answered twice"
    );
}
