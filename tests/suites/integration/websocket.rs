//! Clients of `/ws`: the fixed frames, who sees what, and what happens to a reply whose client has gone.

use std::time::Duration;

use harness::{MockModel, PATIENCE, Setup, TestGateway, WsClient};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn echoing() -> TestGateway {
    Setup::new().echo().websocket().start().await
}

/// Returns the admin token, which stands in the data directory.
fn token_of(gateway: &TestGateway) -> String {
    let text =
        std::fs::read_to_string(gateway.data().join("admin-token")).expect("the token is made at the first start");
    text.trim().to_owned()
}

#[tokio::test]
async fn a_message_is_accepted_and_then_answered_in_the_fixed_forms() {
    let gateway = echoing().await;
    let mut client = gateway.client().await;
    client
        .send(&json!({"type": "message", "id": "m1", "conversation": "c1", "text": "hi"}))
        .await;
    assert_eq!(client.frame().await, json!({"type": "accepted", "id": "m1"}));
    let mut reply = client.expect("reply").await;
    let key = reply["delivery_key"].take();
    assert!(key.as_str().is_some_and(|key| key.starts_with("dlv_")), "{key}");
    let expected = json!({
        "type": "reply", "conversation": "c1", "in_reply_to": "m1", "delivery_key": null, "text": "hi"
    });
    assert_eq!(reply, expected);
}

#[tokio::test]
async fn a_thread_comes_back_with_the_reply() {
    let gateway = echoing().await;
    let mut client = gateway.client().await;
    client
        .send(&json!({"type": "message", "id": "m1", "conversation": "c1", "thread": "t1", "text": "hi"}))
        .await;
    client.expect("accepted").await;
    let reply = client.expect("reply").await;
    assert_eq!((&reply["thread"], &reply["text"]), (&json!("t1"), &json!("hi")));
}

#[tokio::test]
async fn many_messages_are_answered_in_order_each_accepted_before_its_reply() {
    let gateway = echoing().await;
    let mut client = gateway.client().await;
    for n in 0..30 {
        client.say(&format!("m{n}"), "c1", &format!("text {n}")).await;
    }
    let (mut accepted, mut replied) = (Vec::new(), Vec::new());
    while replied.len() < 30 {
        let frame = client.frame().await;
        match frame["type"].as_str() {
            Some("accepted") => accepted.push(frame["id"].clone()),
            Some("reply") => {
                let answered = frame["in_reply_to"].clone();
                assert!(
                    accepted.contains(&answered),
                    "the reply to {answered} overtook its acceptance"
                );
                replied.push(answered);
            }
            _ => panic!("unexpected: {frame}"),
        }
    }
    let expected: Vec<Value> = (0..30).map(|n| json!(format!("m{n}"))).collect();
    assert_eq!((accepted, replied), (expected.clone(), expected));
}

#[tokio::test]
async fn a_repeated_message_is_accepted_again_and_answered_once() {
    let gateway = echoing().await;
    let mut client = gateway.client().await;
    client.say("m1", "c1", "hi").await;
    client.expect("accepted").await;
    client.expect("reply").await;
    client.say("m1", "c1", "hi").await;
    assert_eq!(client.frame().await, json!({"type": "accepted", "id": "m1"}));
    // Replies of a conversation keep their order: a second answer to m1 would come before this one.
    client.say("m2", "c1", "next").await;
    client.expect("accepted").await;
    assert_eq!(client.expect("reply").await["in_reply_to"], "m2");
}

#[tokio::test]
async fn the_same_id_in_another_conversation_is_another_message() {
    let gateway = echoing().await;
    let mut client = gateway.client().await;
    client.say("m1", "a/b", "one").await;
    assert_eq!(client.until("reply").await["text"], "one");
    client.say("m1", "a", "two").await;
    assert_eq!(client.until("reply").await["text"], "two");
    client.say("b/m1", "a", "three").await;
    assert_eq!(client.until("reply").await["text"], "three");
}

#[tokio::test]
async fn a_reply_whose_client_has_gone_waits_for_the_next_one_that_attaches() {
    let model = MockModel::start().await;
    let gateway = Setup::new().model(&model).websocket().start().await;
    model.hold();
    let mut first = gateway.client().await;
    first.say("m1", "c1", "hi").await;
    first.expect("accepted").await;
    first.close().await;
    gateway.wait_for_metric("sluicegate_channel_clients", 0.0).await;
    model.release();
    // It was tried, and nobody was there.
    gateway.wait_for_metric("sluicegate_delivery_failed_total", 1.0).await;

    let mut second = gateway.client().await;
    second.attach("c1", false).await;
    let reply = second.expect("reply").await;
    assert_eq!(
        (&reply["in_reply_to"], &reply["text"]),
        (&json!("m1"), &json!("re: hi"))
    );
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
}

#[tokio::test]
async fn a_reply_that_waits_outlives_a_crash() {
    let model = MockModel::start().await;
    let mut gateway = Setup::new().model(&model).websocket().start().await;
    model.hold();
    let mut first = gateway.client().await;
    first.say("m1", "c1", "hi").await;
    first.expect("accepted").await;
    first.close().await;
    gateway.wait_for_metric("sluicegate_channel_clients", 0.0).await;
    model.release();
    gateway.wait_for_metric("sluicegate_delivery_failed_total", 1.0).await;
    gateway.crash().await;
    let mut second = gateway.client().await;
    second.attach("c1", false).await;
    assert_eq!(second.expect("reply").await["text"], "re: hi");
}

#[tokio::test]
async fn an_unacknowledged_reply_comes_again_with_its_key_and_an_ack_ends_that() {
    let gateway = echoing().await;
    let mut client = gateway.client().await;
    client.attach("c1", true).await;
    client.say("m1", "c1", "hi").await;
    client.expect("accepted").await;
    let first = client.expect("reply").await;
    client.close().await;
    gateway.wait_for_metric("sluicegate_channel_clients", 0.0).await;

    let mut again = gateway.client().await;
    again.attach("c1", true).await;
    assert_eq!(again.expect("reply").await, first, "the same reply with the same key");
    again
        .send(&json!({"type": "ack", "delivery_key": first["delivery_key"]}))
        .await;
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    again.close().await;

    let mut third = gateway.client().await;
    third.attach("c1", true).await;
    third.say("m2", "c1", "next").await;
    third.expect("accepted").await;
    assert_eq!(
        third.expect("reply").await["in_reply_to"],
        "m2",
        "the acknowledged reply came again"
    );
}

#[tokio::test]
async fn an_ack_counts_only_from_those_whom_the_reply_was_for_and_who_said_that_they_confirm() {
    let gateway = echoing().await;
    let mut client = gateway.client().await;
    client.attach("c1", true).await;
    client.say("m1", "c1", "hi").await;
    client.expect("accepted").await;
    let first = client.expect("reply").await;
    let ack = json!({"type": "ack", "delivery_key": first["delivery_key"]});
    client.close().await;
    gateway.wait_for_metric("sluicegate_channel_clients", 0.0).await;

    let (mut stranger, mut detached) = (gateway.client().await, gateway.client().await);
    stranger.attach("c2", true).await;
    for other in [&mut stranger, &mut detached] {
        other.send(&ack).await;
        // Frames of a client are handled in their order.
        other.attach("c3", true).await;
    }
    let mut again = gateway.client().await;
    again.attach("c1", true).await;
    assert_eq!(
        again.expect("reply").await,
        first,
        "another's ack was taken for this client's"
    );
    again.send(&ack).await;
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
}

#[tokio::test]
async fn a_client_sees_nothing_of_other_conversations() {
    let gateway = echoing().await;
    let (mut ada, mut bob) = (gateway.client().await, gateway.client().await);
    ada.attach("ada", false).await;
    bob.attach("bob", false).await;
    bob.say("m1", "bob", "secret").await;
    bob.expect("accepted").await;
    bob.expect("reply").await;
    // Whatever of it had been broadcast would have come before this.
    ada.say("m1", "ada", "mine").await;
    ada.expect("accepted").await;
    assert_eq!(ada.expect("reply").await["text"], "mine");
}

#[tokio::test]
async fn every_client_of_a_conversation_gets_its_replies() {
    let gateway = echoing().await;
    let (mut speaker, mut listener) = (gateway.client().await, gateway.client().await);
    listener.attach("c1", false).await;
    speaker.say("m1", "c1", "hi").await;
    speaker.expect("accepted").await;
    assert_eq!(speaker.expect("reply").await, listener.expect("reply").await);
}

#[tokio::test]
async fn a_malformed_frame_is_answered_with_an_error_and_the_connection_goes_on() {
    let gateway = echoing().await;
    let mut client = gateway.client().await;
    let long = "x".repeat(257);
    let very_long = "x".repeat(65 * 1024);
    let message = |id: Value, conversation: Value, text: Value| {
        json!({"type": "message", "id": id, "conversation": conversation, "text": text}).to_string()
    };
    let cases: Vec<(String, &str, Value)> = vec![
        (String::new(), "malformed", Value::Null),
        ("hi".into(), "malformed", Value::Null),
        ("{".into(), "malformed", Value::Null),
        ("[]".into(), "malformed", Value::Null),
        ("7".into(), "malformed", Value::Null),
        ("{}".into(), "invalid", Value::Null),
        (r#"{"id":"m9"}"#.into(), "invalid", json!("m9")),
        (r#"{"type":"dance","id":"m9"}"#.into(), "unknown-type", json!("m9")),
        (
            r#"{"type":"reply","text":"I am the agent"}"#.into(),
            "unknown-type",
            Value::Null,
        ),
        (r#"{"type":"message"}"#.into(), "invalid", Value::Null),
        (message(json!(7), json!("c1"), json!("hi")), "invalid", Value::Null),
        (message(json!("m9"), Value::Null, json!("hi")), "invalid", json!("m9")),
        (message(json!("m9"), json!("c1"), json!(["hi"])), "invalid", json!("m9")),
        (message(json!(""), json!("c1"), json!("hi")), "invalid", json!("")),
        (message(json!("m9"), json!(""), json!("hi")), "invalid", json!("m9")),
        (message(json!("m9"), json!("c1"), json!("")), "invalid", json!("m9")),
        (message(json!(long), json!("c1"), json!("hi")), "invalid", Value::Null),
        (message(json!("m9"), json!(long), json!("hi")), "invalid", json!("m9")),
        (
            message(json!("m9"), json!("c1"), json!(very_long)),
            "invalid",
            json!("m9"),
        ),
        (r#"{"type":"attach"}"#.into(), "invalid", Value::Null),
        (
            r#"{"type":"attach","conversation":"c1","acks":"yes"}"#.into(),
            "invalid",
            Value::Null,
        ),
        (r#"{"type":"ack"}"#.into(), "invalid", Value::Null),
        (r#"{"type":"ack","delivery_key":7}"#.into(), "invalid", Value::Null),
    ];
    for (frame, code, id) in cases {
        client.send_text(&frame).await;
        let error = client.expect("error").await;
        let shown = &frame[..frame.len().min(80)];
        assert_eq!(
            (&error["code"], &error["id"]),
            (&json!(code), &id),
            "for {shown:?} came {error}"
        );
        assert!(
            error["message"].as_str().is_some_and(|words| !words.is_empty()),
            "no words for {shown:?}"
        );
    }
    client.say("m1", "c1", "still here").await;
    client.expect("accepted").await;
    assert_eq!(client.expect("reply").await["text"], "still here");
}

#[tokio::test]
async fn an_ack_for_a_key_that_nobody_knows_changes_nothing() {
    let gateway = echoing().await;
    let mut client = gateway.client().await;
    client
        .send(&json!({"type": "ack", "delivery_key": "dlv_made_up"}))
        .await;
    client.say("m1", "c1", "hi").await;
    client.expect("accepted").await;
    client.expect("reply").await;
}

#[tokio::test]
async fn a_binary_frame_ends_the_connection_with_the_reason_and_hurts_no_other() {
    let gateway = echoing().await;
    let (mut rude, mut polite) = (gateway.client().await, gateway.client().await);
    polite.attach("c1", false).await;
    rude.send_binary(vec![0, 159, 146, 150]).await;
    assert_eq!(rude.close_code().await, Some(1008));
    polite.say("m1", "c1", "hi").await;
    polite.expect("accepted").await;
    polite.expect("reply").await;
}

/// Frames against RFC 6455, as they stand on the wire (masked with zeros), and the code that says so.
const AGAINST_THE_PROTOCOL: [(&str, &[u8], u16); 7] = [
    ("text that is no UTF-8", b"\x81\x82\0\0\0\0\xff\xfe", 1007),
    ("a frame without a mask", b"\x81\x02{}", 1002),
    ("a reserved bit", b"\xc1\x82\0\0\0\0{}", 1002),
    ("a reserved kind", b"\x83\x82\0\0\0\0{}", 1002),
    ("a second part without a first", b"\x80\x82\0\0\0\0{}", 1002),
    ("a length of 2^63", b"\x81\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 1009),
    ("a goodbye", b"\x88\x82\0\0\0\0\x03\xe8", 1000),
];

#[tokio::test]
async fn a_connection_that_ends_says_with_its_code_why() {
    let gateway = echoing().await;
    for (what, frame, code) in AGAINST_THE_PROTOCOL {
        let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
        let upgrade = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
        stream.write_all(upgrade).await.expect("the upgrade");
        stream.write_all(frame).await.expect("the frame");
        let mut seen = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut seen)).await;
        read.expect("the gateway ends the connection")
            .expect("in an orderly way");
        let [high, low] = code.to_be_bytes();
        let head = seen.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer");
        let close = |at: &[u8]| at[0] == 0x88 && at[2] == high && at[3] == low;
        let frames = &seen[head + 4..];
        assert!(frames.windows(4).any(close), "{what}: {frames:?}");
    }
}

#[tokio::test]
async fn a_frame_that_is_too_large_ends_the_connection_and_hurts_no_other() {
    let gateway = echoing().await;
    let (mut rude, mut polite) = (gateway.client().await, gateway.client().await);
    polite.attach("c1", false).await;
    rude.send_text(&"x".repeat(512 * 1024 + 1)).await;
    assert_eq!(rude.close_code().await, Some(1009));
    polite.say("m1", "c1", "hi").await;
    polite.expect("accepted").await;
    polite.expect("reply").await;
}

#[tokio::test]
async fn all_events_are_for_the_holder_of_the_token_only() {
    let gateway = echoing().await;
    let token = token_of(&gateway);
    let address = gateway.address();
    for (path, headers) in [
        ("/ws?events=all", vec![]),
        ("/ws?events=all&token=wrong", vec![]),
        ("/ws?events=all", vec![("authorization", "Bearer wrong")]),
        ("/ws?token=wrong", vec![]),
    ] {
        let refused = WsClient::connect(address, path, &headers).await.err();
        assert_eq!(refused, Some(401), "{path} with {headers:?}");
    }

    let bearer = format!("Bearer {token}");
    let by_header = WsClient::connect(address, "/ws?events=all", &[("authorization", &bearer)]).await;
    let by_query = WsClient::connect(address, &format!("/ws?events=all&token={token}"), &[]).await;
    for observer in [by_header, by_query] {
        let mut observer = observer.unwrap_or_else(|status| panic!("the right token was refused with {status}"));
        let mut client = gateway.client().await;
        let id = format!("m{}", observer_id());
        client.say(&id, "elsewhere", "hi").await;
        client.expect("accepted").await;
        client.expect("reply").await;
        let mut kinds = Vec::new();
        while kinds.last().is_none_or(|kind| kind != "delivered") {
            let frame = observer.expect("event").await;
            let event = &frame["event"];
            if event["kind"] != "channel" {
                assert_eq!(
                    (&event["channel"], &event["conversation"]),
                    (&json!("websocket"), &json!("elsewhere"))
                );
                kinds.push(event["kind"].as_str().unwrap_or_default().to_owned());
            }
        }
        kinds.retain(|kind| ["inbound", "outbound", "delivered"].contains(&kind.as_str()));
        assert_eq!(kinds, ["inbound", "outbound", "delivered"]);
    }
}

/// Returns a number that this process has not returned before.
fn observer_id() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

#[tokio::test]
async fn the_holder_of_the_token_chats_as_any_client_does() {
    let gateway = echoing().await;
    let bearer = format!("Bearer {}", token_of(&gateway));
    let client = WsClient::connect(gateway.address(), "/ws?events=all", &[("authorization", &bearer)]).await;
    let mut client = client.unwrap_or_else(|status| panic!("refused with {status}"));
    client.say("m1", "c1", "hi").await;
    client.until("accepted").await;
    assert_eq!(client.until("reply").await["text"], "hi");
}

#[tokio::test]
async fn an_acknowledgement_is_told_as_the_delivery() {
    let gateway = echoing().await;
    let path = format!("/ws?events=all&token={}", token_of(&gateway));
    let observer = WsClient::connect(gateway.address(), &path, &[]).await;
    let mut observer = observer.unwrap_or_else(|status| panic!("refused with {status}"));
    let mut client = gateway.client().await;
    client.attach("c1", true).await;
    client.say("m1", "c1", "hi").await;
    let key = client.until("reply").await["delivery_key"].clone();
    client.send(&json!({ "type": "ack", "delivery_key": key })).await;
    loop {
        let event = observer.until("event").await["event"].clone();
        if event["kind"] == "delivered" {
            assert_eq!(event["delivery_key"], key);
            break;
        }
    }
}

#[tokio::test]
async fn a_web_page_from_elsewhere_may_not_connect() {
    let gateway = echoing().await;
    for (origin, refused) in [
        ("https://evil.example", true),
        ("http://127.0.0.1.evil.example", true),
        ("null", true),
        ("http://localhost:3000", false),
        ("http://127.0.0.1:7878", false),
    ] {
        let outcome = WsClient::connect(gateway.address(), "/ws", &[("origin", origin)])
            .await
            .err();
        assert_eq!(outcome, refused.then_some(403), "{origin}");
    }
}

#[tokio::test]
async fn a_channel_that_serves_nobody_has_no_door() {
    let gateway = echoing().await;
    assert_eq!(
        WsClient::connect(gateway.address(), "/ws/nobody", &[]).await.err(),
        Some(404)
    );
    let named = WsClient::connect(gateway.address(), "/ws/websocket", &[]).await;
    assert!(named.is_ok(), "the channel by its name was refused");
}

#[tokio::test]
async fn a_channel_serves_as_many_clients_as_its_operator_allows() {
    let setup = Setup::new().echo().websocket();
    let gateway = setup.section("[channels.websocket.limits]\nclients = 1").start().await;
    let mut first = gateway.client().await;
    let second = WsClient::connect(gateway.address(), "/ws", &[]).await.err();
    assert_eq!(second, Some(503), "there was room for one");
    first.say("m1", "c1", "hi").await;
    first.until("reply").await;
    drop(first);
    harness::eventually("there is room again", async || {
        WsClient::connect(gateway.address(), "/ws", &[]).await.ok()
    })
    .await;
}

#[tokio::test]
async fn who_is_not_on_the_list_is_refused_in_words() {
    let gateway = Setup::new()
        .echo()
        .section("[channels.websocket]\ncomponent = \"websocket\"\naccess = { allow = [\"admin\"] }")
        .start()
        .await;
    let mut stranger = gateway.client().await;
    stranger.say("m1", "c1", "hi").await;
    let error = stranger.expect("error").await;
    assert_eq!((&error["code"], &error["id"]), (&json!("refused"), &json!("m1")));

    let bearer = format!("Bearer {}", token_of(&gateway));
    let admin = WsClient::connect(gateway.address(), "/ws", &[("authorization", &bearer)]).await;
    let mut admin = admin.unwrap_or_else(|status| panic!("refused with {status}"));
    admin.say("m1", "c1", "hi").await;
    admin.expect("accepted").await;
    admin.expect("reply").await;
}

#[tokio::test]
async fn clients_are_told_that_the_gateway_goes_down() {
    let mut gateway = echoing().await;
    let mut client = gateway.client().await;
    client.attach("c1", false).await;
    let ended = gateway.terminate();
    // 1001: going away (RFC 6455, 7.4.1).
    let (code, ended) = tokio::join!(
        client.close_code(),
        tokio::time::timeout(Duration::from_secs(15), ended)
    );
    assert_eq!(code, Some(1001));
    assert_eq!(
        ended.ok().and_then(|status| status.code()),
        Some(0),
        "an open connection held it up"
    );
}
