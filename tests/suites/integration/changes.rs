//! What operators change: messages that wait, many dead letters at once, and the list of all that was changed.

use harness::{Act, FakePlatform, MockModel, Saying, Setup};
use serde_json::{Value, json};

use crate::operator::{command, done, events, fails, json_of, next_event};

/// The keys of a list.
fn keys(listed: &Value) -> Vec<&str> {
    let items = listed.as_array().into_iter().flatten();
    items.filter_map(|one| one["delivery_key"].as_str()).collect()
}

#[tokio::test]
async fn a_message_that_waits_is_seen_held_released_and_dropped() {
    let platform = FakePlatform::start_down();
    let gateway = Setup::new().echo().websocket().webhook("hook", &platform).start().await;
    let mut events = events(&gateway).await;
    for (id, text) in [("m1", "first line\nsecond line"), ("m2", "behind it")] {
        gateway.tell("hook", id, "c1", text).await;
    }
    gateway.wait_for_metric("sluicegate_outbox_waiting", 2.0).await;
    gateway.wait_for_metric("sluicegate_delivery_failed_total", 1.0).await;
    let listed = json_of(&gateway, &["outbox", "list"]).await;
    let [first, second] = keys(&listed)[..] else {
        panic!("{listed}")
    };
    let shown = done(&gateway, &["outbox", "show", first]).await;
    assert!(
        shown.starts_with(&format!("message {first}\n")) && shown.ends_with("\n  first line\n  second line\n"),
        "{shown}"
    );
    let held = done(&gateway, &["outbox", "hold", first]).await;
    assert!(held.contains("is held back"), "{held}");
    let change = next_event(&mut events, "operator").await;
    assert_eq!(
        (&change["verb"], &change["subject"], &change["count"]),
        (&json!("hold"), &json!(first), &json!(1))
    );
    assert_eq!(json_of(&gateway, &["outbox", "show", first]).await["state"], "held");
    platform.come_up();
    // A later message of another conversation overtakes it; those behind it wait.
    gateway.tell("hook", "o1", "other", "overtakes").await;
    platform.wait_for_accepted("other", 1).await;
    assert!(platform.accepted("c1").is_empty(), "it is held");

    done(&gateway, &["outbox", "release", first]).await;
    let taken = platform.wait_for_accepted("c1", 2).await;
    assert_eq!((taken[0].key.as_str(), taken[1].key.as_str()), (first, second));
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    for verb in ["show", "hold", "release", "drop"] {
        let said = fails(gateway.folder(), &["outbox", verb, first], 1).await;
        assert!(said.contains("there is no message that"), "{verb}: {said}");
    }

    // Twice: what comes in behind it may let it be tried at once. After that it waits long enough to be dropped.
    platform.next("c1", [Act::Refuse(503), Act::Refuse(503)]);
    for (id, text) in [("m3", "is dropped"), ("m4", "comes through")] {
        gateway.tell("hook", id, "c1", text).await;
    }
    gateway.wait_for_metric("sluicegate_delivery_failed_total", 3.0).await;
    let listed = json_of(&gateway, &["outbox", "list", "--channel", "hook"]).await;
    done(&gateway, &["outbox", "drop", keys(&listed)[0]]).await;
    let taken = platform.wait_for_accepted("c1", 3).await;
    assert_eq!(taken[2].text, "comes through");
    let trace = done(&gateway, &["trace", "m3"]).await;
    assert!(trace.contains("given up: dropped by the operator"), "{trace}");

    let verbs: Vec<Value> = json_of(&gateway, &["changes"])
        .await
        .as_array()
        .cloned()
        .unwrap_or_default();
    let verbs: Vec<&str> = verbs.iter().filter_map(|one| one["verb"].as_str()).collect();
    assert_eq!(verbs, ["drop", "release", "hold"]);
    assert!(done(&gateway, &["changes"]).await.contains(first));
}

#[tokio::test]
async fn dead_letters_are_chosen_by_reason_and_a_long_list_comes_in_parts() {
    let platform = FakePlatform::start().await;
    let gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    for (number, status) in (1..).zip([422, 410, 422]) {
        let place = format!("c{number}");
        platform.next(&place, [Act::Refuse(status)]);
        gateway.tell("hook", &place, &place, "hi").await;
        gateway
            .wait_for_metric("sluicegate_dead_letters", f64::from(number))
            .await;
    }
    let found = json_of(&gateway, &["dead", "list", "--reason", "422"]).await;
    assert_eq!(keys(&found).len(), 2, "{found}");
    let token = crate::operator::token(&gateway);
    let bearer = format!("Bearer {token}");
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/dead?limit=1{after}");
        let answer = gateway.request("GET", &path, &[("authorization", &bearer)], b"").await;
        let part: Value = serde_json::from_slice(&answer.body).expect("JSON");
        seen.extend(keys(&part["items"]).into_iter().map(str::to_owned));
        let Some(next) = part["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, keys(&json_of(&gateway, &["dead", "list"]).await));
    let drop = ["dead", "drop", "--all", "--channel", "hook", "--reason", "422"];
    assert_eq!(done(&gateway, &drop).await, "dropped: 2\n");
    assert_eq!(done(&gateway, &drop).await, "dropped: 0\n");
    let left = json_of(&gateway, &["dead", "list"]).await;
    assert!(
        left[0]["reason"].as_str().is_some_and(|why| why.contains("410")),
        "{left}"
    );
    fails(gateway.folder(), &["dead", "drop"], 2).await;
    let changes = json_of(&gateway, &["changes"]).await;
    assert_eq!(
        (&changes[0]["verb"], &changes[0]["count"]),
        (&json!("drop-dead"), &json!(2))
    );
}

#[tokio::test]
async fn a_message_that_was_given_up_can_be_dropped() {
    let (platform, model) = (FakePlatform::start().await, MockModel::start().await);
    let mut gateway = Setup::new().model(&model).webhook("hook", &platform).start().await;
    model.next([Saying::Status(400)]);
    gateway.tell("hook", "m1", "c1", "hi").await;
    gateway.wait_for_metric("sluicegate_dead_inbound", 1.0).await;
    gateway.crash().await;
    gateway.wait_for_metric("sluicegate_dead_inbound", 1.0).await;
    let dead = json_of(&gateway, &["inbox", "dead"]).await;
    let event = dead[0]["event"].as_str().expect("an event");
    assert_eq!(
        done(&gateway, &["inbox", "drop", event]).await,
        format!("{event} is dropped\n")
    );
    gateway.wait_for_metric("sluicegate_dead_inbound", 0.0).await;
    fails(gateway.folder(), &["inbox", "drop", event], 1).await;
    assert_eq!(json_of(&gateway, &["inbox", "dead"]).await, json!([]));
}

#[tokio::test]
async fn a_message_under_a_key_of_ones_own_goes_out_once_and_is_found_by_it() {
    let platform = FakePlatform::start().await;
    let gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    let send = ["send", "hook", "c1", "the disk is full", "--key", "disk-1"];
    let first = done(&gateway, &send).await;
    assert!(first.contains(" is stored; "), "{first}");
    let again = done(&gateway, &send).await;
    assert!(again.contains("was stored before"), "{again}");
    platform.wait_for_accepted("c1", 1).await;
    let traced = json_of(&gateway, &["trace", "disk-1"]).await;
    let key = traced[0]["outbound"][0]["delivery_key"].as_str().expect("a delivery");
    assert!(
        first.starts_with(key) && again.starts_with(key),
        "{key}: {first}{again}"
    );
    assert_eq!(traced.as_array().map(Vec::len), Some(1), "{traced}");
    done(&gateway, &["send", "hook", "c1", "behind it"]).await;
    let texts = platform.wait_for_accepted("c1", 2).await;
    assert_eq!(texts.len(), 2, "{texts:?}");
}

#[tokio::test]
async fn a_slip_in_the_name_of_a_channel_is_recognised_by_every_command() {
    let channel = "[channels.other]\ncomponent = \"websocket\"\naccess = \"open\"";
    let gateway = Setup::new().echo().section(channel).start().await;
    for words in [
        &["channel", "pause", "othr"][..],
        &["channel", "resume", "othr"],
        &["channel", "log", "othr"],
        &["channel", "show", "othr"],
        &["channel", "grant", "othr"],
        &["channel", "reload", "othr"],
        &["channel", "review", "othr"],
        &["channel", "remove", "othr"],
        &["send", "othr", "c1", "hi"],
    ] {
        let unknown = fails(gateway.folder(), words, 2).await;
        let expected = "there is no channel \"othr\"\n  fix: did you mean other?";
        assert!(unknown.contains(expected), "{words:?}: {unknown}");
    }
    for words in [
        &["outbox", "list"][..],
        &["dead", "list"],
        &["dead", "redrive", "--all"],
    ] {
        let words = [words, &["--channel", "othr"]].concat();
        let output = command(gateway.folder(), &words).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.starts_with("warning: there is no channel"),
            "{said}"
        );
    }
}
