//! What the gateway does when it has taken in enough, and what is done with its store meanwhile.

use harness::{Act, FakePlatform, MockModel, Saying, Setup};
use serde_json::{Value, json};

use crate::operator::{done, events, fails, json_of, next_event};

#[tokio::test]
async fn from_a_mark_on_webhooks_come_again_and_the_agent_waits_until_there_is_room() {
    let platform = FakePlatform::start_down();
    let gateway = Setup::new()
        .section("[gateway.pressure]\noutbox_rows = 2")
        .echo()
        .websocket()
        .webhook("hook", &platform)
        .start()
        .await;
    let mut events = events(&gateway).await;
    for id in ["m1", "m2"] {
        gateway.tell("hook", id, id, "hi").await;
    }
    gateway.wait_for_metric("sluicegate_outbox_waiting", 2.0).await;
    let message = json!({"id": "m3", "conversation": "m3", "sender": "ada", "text": "hi"});
    let refused = gateway.post("hook", &message).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("10")));
    let told = next_event(&mut events, "pressure").await;
    let words = "2 messages wait to be delivered";
    assert_eq!((&told["intake"], &told["turns"]), (&json!(words), &json!(words)));
    let ready = gateway.get("/ready").await;
    assert_eq!(
        (ready.status, ready.text()),
        (503, format!("nothing is taken in: {words}\n"))
    );
    for (metric, value) in [
        ("intake_open", 0.0),
        ("turns_open", 0.0),
        ("webhooks_turned_away_total", 1.0),
    ] {
        gateway.wait_for_metric(&format!("sluicegate_{metric}"), value).await;
    }
    platform.come_up();
    platform.wait_for_accepted("m1", 1).await;
    platform.wait_for_accepted("m2", 1).await;
    gateway.wait_for_metric("sluicegate_intake_open", 1.0).await;
    assert_eq!(gateway.post("hook", &message).await.status, 200, "the platform's retry");
    platform.wait_for_accepted("m3", 1).await;
    let over = next_event(&mut events, "pressure").await;
    assert_eq!((&over["intake"], &over["turns"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn a_full_inbox_still_lets_the_agent_answer_and_one_conversation_can_t_fill_it() {
    let (platform, model) = (FakePlatform::start().await, MockModel::start().await);
    let gateway = Setup::new()
        .section("[gateway.pressure]\ninbox_rows = 3\nchannel_rows = 3\nconversation_rows = 2")
        .model(&model)
        .websocket()
        .webhook("hook", &platform)
        .start()
        .await;
    let mut events = events(&gateway).await;
    model.next([Saying::Status(503)]);
    gateway.tell("hook", "m1", "c1", "hi").await;
    gateway.wait_for_metric("sluicegate_turns_failed_total", 1.0).await;
    model.next([Saying::Status(503)]);
    gateway.tell("hook", "m2", "c1", "hi").await;
    let third = json!({"id": "m3", "conversation": "c1", "sender": "ada", "text": "hi"});
    let answer = gateway.post("hook", &third).await;
    assert_ne!(answer.text(), r#"{"status":"accepted"}"#);
    let told = next_event(&mut events, "refused").await;
    assert_eq!(
        (&told["message_id"], &told["conversation"]),
        (&json!("m3"), &json!("c1"))
    );
    gateway
        .wait_for_metric("sluicegate_channel_inbound_over_cap_total", 1.0)
        .await;
    platform.wait_for_accepted("c1", 2).await;
    gateway.tell("hook", "m3", "c1", "hi").await;
    platform.wait_for_accepted("c1", 3).await;
}

#[tokio::test]
async fn a_channel_that_floods_the_inbox_has_its_share_and_its_neighbours_publish_on() {
    let (platform, model) = (FakePlatform::start().await, MockModel::start().await);
    let mut gateway = Setup::new()
        .section("[gateway.pressure]\ninbox_rows = 6")
        .model(&model)
        .websocket()
        .webhook("flood", &platform)
        .webhook("calm", &platform)
        .start()
        .await;
    let mut events = events(&gateway).await;
    // Nothing of the flood is answered before all of it is there.
    model.hold();
    for id in ["f1", "f2", "f3"] {
        gateway.tell("flood", id, id, "hi").await;
    }
    let fourth = json!({"id": "f4", "conversation": "f4", "sender": "ada", "text": "hi"});
    let refused = gateway.post("flood", &fourth).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("10")));
    let told = next_event(&mut events, "pressure").await;
    let words = "3 messages of this channel wait for the agent";
    assert_eq!((&told["channel"], &told["intake"]), (&json!("flood"), &json!(words)));
    let count = gateway.metric("sluicegate_channel_inbound_held_total", "flood").await;
    assert!((count - 1.0).abs() < 0.5, "{count}");
    gateway.tell("calm", "c1", "c1", "hi").await;
    assert_eq!(
        gateway.get("/ready").await.status,
        200,
        "the gateway itself takes messages"
    );

    // What waits is known again after a restart.
    gateway.crash().await;
    assert_eq!(gateway.post("flood", &fourth).await.status, 503);
    gateway.tell("calm", "c2", "c2", "hi").await;
    model.release();
    for id in ["f1", "f2", "f3", "c1", "c2"] {
        platform.wait_for_accepted(id, 1).await;
    }
    assert_eq!(gateway.post("flood", &fourth).await.status, 200, "the platform's retry");
    platform.wait_for_accepted("f4", 1).await;
}

#[tokio::test]
async fn the_store_is_checked_copied_and_exported_while_the_gateway_runs() {
    let platform = FakePlatform::start().await;
    let mut gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    platform.next("c1", [Act::Refuse(422)]);
    gateway.tell("hook", "m1", "c1", "secret words").await;
    gateway.wait_for_metric("sluicegate_dead_letters", 1.0).await;
    assert!(done(&gateway, &["db", "check"]).await.contains("is sound"));
    assert_eq!(json_of(&gateway, &["db", "check"]).await["sound"], true);
    let copied = done(&gateway, &["db", "backup", "copy"]).await;
    assert!(copied.starts_with("Copied and checked"), "{copied}");
    let again = fails(gateway.folder(), &["db", "backup", "copy"], 1).await;
    assert!(again.contains("is there already"), "{again}");
    let exported = done(&gateway, &["db", "export"]).await;
    let lines: Vec<Value> = exported
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let dead = lines
        .iter()
        .find(|line| line["kind"] == "outbound")
        .expect("the dead letter");
    assert_eq!(dead["message"]["event"]["text"], "secret words");

    // With the gateway gone, and of the copy, the same is seen.
    gateway.kill().await;
    assert_eq!(done(&gateway, &["db", "export"]).await, exported);
    assert_eq!(done(&gateway, &["--data", "copy", "db", "export"]).await, exported);
    let none = fails(gateway.folder(), &["--data", "nowhere", "db", "check"], 1).await;
    assert!(none.contains("there is no store in"), "{none}");
    assert!(!gateway.folder().join("nowhere").exists());
}

#[tokio::test]
async fn at_most_once_leaves_what_may_have_arrived_to_the_operator() {
    let platform = FakePlatform::start().await;
    let lines = "guarantee = \"at-most-once\"";
    let gateway = Setup::new().echo().webhook_with("hook", &platform, lines).start().await;
    platform.next("c1", [Act::AcceptThenClose]);
    gateway.tell("hook", "m1", "c1", "one").await;
    gateway.wait_for_metric("sluicegate_dead_letters", 1.0).await;
    gateway.tell("hook", "m2", "c1", "two").await;
    platform.wait_for_accepted("c1", 2).await;
    let arrived: Vec<String> = platform.arrived().all().into_iter().map(|one| one.text).collect();
    assert_eq!(arrived, ["one", "two"], "no copy");
    let dead = json_of(&gateway, &["dead", "list"]).await;
    assert!(
        dead[0]["reason"]
            .as_str()
            .is_some_and(|why| why.contains("outcome unknown")),
        "{dead}"
    );
}
