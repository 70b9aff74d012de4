//! What is still there after a restart.

use harness::{FakePlatform, MockModel, Setup};
use serde_json::{Value, json};

/// Returns who said what in a request to the model, the system prompt left out.
fn said(request: &Value) -> Vec<(String, String)> {
    let messages = request["messages"].as_array().cloned().unwrap_or_default();
    let field = |message: &Value, name: &str| message[name].as_str().unwrap_or_default().to_owned();
    let told = messages
        .iter()
        .map(|message| (field(message, "role"), field(message, "content")));
    told.filter(|(role, _)| role != "system").collect()
}

#[tokio::test]
async fn a_conversation_goes_on_after_an_orderly_restart() {
    let (model, platform) = (MockModel::start().await, FakePlatform::start().await);
    let mut gateway = Setup::new().model(&model).webhook("hook", &platform).start().await;
    gateway.tell("hook", "m1", "c1", "my name is Ada").await;
    platform.wait_for_accepted("c1", 1).await;
    assert_eq!(gateway.terminate().await.code(), Some(0));

    gateway.restart().await;
    gateway.tell("hook", "m2", "c1", "who am I?").await;
    platform.wait_for_accepted("c1", 2).await;
    let expected = [
        ("user", "my name is Ada"),
        ("assistant", "re: my name is Ada"),
        ("user", "who am I?"),
    ];
    let expected = expected.map(|(role, text)| (role.to_owned(), text.to_owned()));
    assert_eq!(said(&model.asked().all()[1]), expected);
}

#[tokio::test]
async fn a_message_that_was_accepted_before_a_restart_is_a_duplicate_after_it() {
    let platform = FakePlatform::start().await;
    let mut gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    gateway.tell("hook", "m1", "c1", "hi").await;
    platform.wait_for_accepted("c1", 1).await;
    gateway.terminate().await;

    gateway.restart().await;
    let again = gateway
        .post(
            "hook",
            &json!({"id": "m1", "conversation": "c1", "sender": "ada", "text": "hi"}),
        )
        .await;
    assert_eq!(
        (again.status, again.text().as_str()),
        (200, r#"{"status":"duplicate"}"#)
    );
    // The lane keeps its order: were the first one answered again, that would come before this.
    gateway.tell("hook", "m2", "c1", "still there?").await;
    let taken = platform.wait_for_accepted("c1", 2).await;
    assert_eq!(
        taken.iter().map(|one| one.text.as_str()).collect::<Vec<_>>(),
        ["hi", "still there?"]
    );
}

#[tokio::test]
async fn a_reply_that_found_its_platform_down_goes_out_after_the_restart() {
    let platform = FakePlatform::start_down();
    let mut gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    gateway.tell("hook", "m1", "c1", "hi").await;
    gateway.wait_for_metric("sluicegate_delivery_failed_total", 1.0).await;
    assert_eq!(gateway.terminate().await.code(), Some(0));

    platform.come_up();
    gateway.restart().await;
    let taken = platform.wait_for_accepted("c1", 1).await;
    assert_eq!(taken[0].text, "hi");
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    assert_eq!(platform.arrived().len(), 1, "the platform got it once");
}
