//! The operator's hands: what is seen of stored messages, and what can be done to them, over HTTP and on the command line.

use std::path::Path;
use std::process::Output;

use harness::{Act, FakePlatform, MockModel, Saying, Setup, TestGateway, WsClient, eventually, sluicegate_binary};
use serde_json::{Value, json};

/// Runs a command as an operator would who stands in the gateway's folder.
pub(crate) async fn command(folder: &Path, words: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(sluicegate_binary());
    for name in [
        "SLUICEGATE_CONFIG",
        "SLUICEGATE_DATA",
        "SLUICEGATE_LISTEN",
        "SLUICEGATE_LOG",
    ] {
        command.env_remove(name);
    }
    command
        .args(words)
        .current_dir(folder)
        .stdin(std::process::Stdio::null());
    command.output().await.expect("the binary starts")
}

/// Runs a command that must succeed, and returns what it answers.
pub(crate) async fn done(gateway: &TestGateway, words: &[&str]) -> String {
    let output = command(gateway.folder(), words).await;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {errors}");
    String::from_utf8(output.stdout).expect("an answer is text")
}

/// As [`done`], with the answer read as JSON.
pub(crate) async fn json_of(gateway: &TestGateway, words: &[&str]) -> Value {
    let words = [words, &["--json"]].concat();
    serde_json::from_str(&done(gateway, &words).await).expect("the answer is JSON")
}

/// Runs a command that must fail with this exit code, and returns what it says.
pub(crate) async fn fails(folder: &Path, words: &[&str], code: i32) -> String {
    let output = command(folder, words).await;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {errors}");
    errors
}

pub(crate) fn token(gateway: &TestGateway) -> String {
    std::fs::read_to_string(gateway.data().join("admin-token")).expect("the token is there")
}

/// Connects to the stream of all events.
pub(crate) async fn events(gateway: &TestGateway) -> WsClient {
    let bearer = format!("Bearer {}", token(gateway));
    let client = WsClient::connect(gateway.address(), "/ws?events=all", &[("authorization", &bearer)]).await;
    client.expect("the token opens the stream")
}

/// Returns the next event of this kind.
pub(crate) async fn next_event(events: &mut WsClient, kind: &str) -> Value {
    loop {
        let frame = events.until("event").await;
        if frame["event"]["kind"] == kind {
            return frame["event"].clone();
        }
    }
}

#[tokio::test]
async fn a_dead_letter_is_seen_put_back_and_delivered_with_the_same_key() {
    let platform = FakePlatform::start().await;
    let gateway = Setup::new().echo().websocket().webhook("hook", &platform).start().await;
    let mut events = events(&gateway).await;
    assert_eq!(done(&gateway, &["dead", "list"]).await, "There are no dead letters.\n");
    platform.next("c1", [Act::Refuse(422)]);
    gateway.tell("hook", "m1", "c1", "first line\nsecond line").await;
    let dead = next_event(&mut events, "dead").await;
    let key = dead["delivery_key"].as_str().expect("a key");

    let listed = json_of(&gateway, &["dead", "list"]).await;
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    let fields = [
        "delivery_key",
        "state",
        "channel",
        "conversation",
        "in_reply_to",
        "attempts",
    ];
    let seen: Vec<&Value> = fields.iter().map(|field| &listed[0][field]).collect();
    assert_eq!(
        seen,
        [
            &json!(key),
            &json!("dead"),
            &json!("hook"),
            &json!("c1"),
            &json!("m1"),
            &json!(1)
        ]
    );
    let table = done(&gateway, &["dead", "list"]).await;
    assert!(
        table.starts_with("KEY") && table.contains(key) && table.contains("first line second line"),
        "{table}"
    );
    let shown = done(&gateway, &["dead", "show", key]).await;
    assert!(
        shown.contains("422") && shown.ends_with("\n  first line\n  second line\n"),
        "{shown}"
    );

    let said = done(&gateway, &["dead", "redrive", key]).await;
    assert!(said.contains("is put back"), "{said}");
    let change = next_event(&mut events, "operator").await;
    assert_eq!((&change["verb"], &change["subject"]), (&json!("redrive"), &json!(key)));
    let taken = platform.wait_for_accepted("c1", 1).await;
    assert_eq!((taken[0].key.as_str(), &taken[0].body["attempt"]), (key, &json!(1)));
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    let traced = done(&gateway, &["trace", key]).await;
    assert!(
        traced.contains("  put back by the operator\n") && !traced.contains("  stored\n"),
        "its time is not when the answer was stored: {traced}"
    );
    assert_eq!(json_of(&gateway, &["dead", "list"]).await, json!([]));
    for verb in ["redrive", "drop", "show"] {
        let said = fails(gateway.folder(), &["dead", verb, key], 1).await;
        assert!(said.contains("there is no dead letter"), "{said}");
    }
}

#[tokio::test]
async fn a_trace_says_what_a_message_waits_for() {
    let platform = FakePlatform::start_down();
    let gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    gateway.tell("hook", "m1", "c1", "one").await;
    gateway.wait_for_metric("sluicegate_delivery_failed_total", 1.0).await;
    gateway.tell("hook", "m2", "c1", "two").await;
    gateway.wait_for_metric("sluicegate_outbox_waiting", 2.0).await;
    let waiting = json_of(&gateway, &["outbox", "list"]).await;
    let head = waiting[0]["delivery_key"].as_str().expect("a key");
    let trace = done(&gateway, &["trace", "m2"]).await;
    assert!(
        trace.contains(&format!("waits for {head}, which goes before it")),
        "{trace}"
    );
    let table = done(&gateway, &["outbox", "list"]).await;
    assert!(table.contains("behind another"), "{table}");
    done(&gateway, &["outbox", "hold", head]).await;
    let trace = done(&gateway, &["trace", "m1"]).await;
    assert!(trace.contains(&format!("sluicegate outbox release {head}")), "{trace}");
    done(&gateway, &["channel", "pause", "hook"]).await;
    let trace = done(&gateway, &["trace", "m2"]).await;
    assert!(trace.contains("its channel is paused: by the operator"), "{trace}");
    let table = done(&gateway, &["outbox", "list"]).await;
    assert!(table.contains("channel paused"), "{table}");
    let shown = done(&gateway, &["outbox", "show", head]).await;
    assert!(shown.contains("paused: by the operator"), "{shown}");
    let unknown = fails(gateway.folder(), &["trace", "nosuch"], 1).await;
    assert!(unknown.contains("fix: see what there is"), "{unknown}");
}

#[tokio::test]
async fn a_trace_counts_no_attempt_where_the_platform_asked_to_wait() {
    let platform = FakePlatform::start().await;
    platform.always("c1", Act::RefuseFor(3600));
    let gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    gateway.tell("hook", "m1", "c1", "one").await;
    eventually("the trace says what the platform asked for", async || {
        let trace = done(&gateway, &["trace", "m1"]).await;
        let says = |words| trace.contains(words);
        (says("an attempt began, which does not count") && says("the platform asked to wait")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_clients_message_is_traced_by_the_id_that_the_client_chose() {
    let gateway = Setup::new().echo().websocket().start().await;
    let mut client = gateway.client().await;
    for conversation in ["c/1", "c2"] {
        client.say("m%1", conversation, "hi").await;
        client.until("reply").await;
    }
    let trace = json_of(&gateway, &["trace", "m%1"]).await;
    let sessions = [0, 1].map(|n| &trace[n]["inbound"]["session"]);
    assert_eq!(
        sessions,
        [&json!("websocket/c2"), &json!("websocket/c/1")],
        "newest first: {trace}"
    );
    for one in ["1", "m_1", "c2"] {
        fails(gateway.folder(), &["trace", one], 1).await;
    }
}

#[tokio::test]
async fn all_dead_letters_of_a_channel_are_put_back_and_what_is_dropped_stays_away() {
    let platform = FakePlatform::start().await;
    let gateway = Setup::new()
        .echo()
        .webhook("hook", &platform)
        .webhook("other", &platform)
        .start()
        .await;
    let messages = [
        ("m0", "hook", "c1"),
        ("m1", "hook", "c1"),
        ("m2", "hook", "drop"),
        ("m3", "other", "o1"),
    ];
    for ((id, channel, place), dead) in messages.into_iter().zip([1.0, 2.0, 3.0, 4.0]) {
        platform.next(place, [Act::Refuse(422)]);
        gateway.tell(channel, id, place, id).await;
        gateway.wait_for_metric("sluicegate_dead_letters", dead).await;
    }
    let listed = json_of(&gateway, &["dead", "list", "--limit", "2"]).await;
    assert_eq!(
        (&listed[0]["conversation"], &listed[1]["conversation"]),
        (&json!("o1"), &json!("drop")),
        "newest first"
    );
    let key = listed[1]["delivery_key"].as_str().expect("a key");
    assert_eq!(
        done(&gateway, &["dead", "drop", key]).await,
        format!("{key} is dropped\n")
    );
    assert_eq!(
        done(&gateway, &["dead", "redrive", "--all", "--channel", "hook"]).await,
        "put back: 2\n"
    );
    let taken = platform.wait_for_accepted("c1", 2).await;
    assert_eq!(
        (taken[0].text.as_str(), taken[1].text.as_str()),
        ("m0", "m1"),
        "in their order"
    );
    gateway.wait_for_metric("sluicegate_dead_letters", 1.0).await;
    assert_eq!(done(&gateway, &["dead", "redrive", "--all"]).await, "put back: 1\n");
    platform.wait_for_accepted("o1", 1).await;
    assert_eq!(done(&gateway, &["dead", "redrive", "--all"]).await, "put back: 0\n");
    assert_eq!(
        json_of(&gateway, &["dead", "drop", "--all"]).await,
        json!({ "count": 0 })
    );
    assert!(platform.accepted("drop").is_empty(), "it was dropped");
    fails(gateway.folder(), &["dead", "redrive"], 2).await;
}

#[tokio::test]
async fn a_message_is_traced_from_the_webhook_to_the_receipt() {
    let platform = FakePlatform::start_down();
    let gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    gateway.tell("hook", "m1", "c1", "hi").await;
    gateway.wait_for_metric("sluicegate_delivery_failed_total", 1.0).await;

    let waiting = json_of(&gateway, &["outbox", "list", "--channel", "hook"]).await;
    assert_eq!(
        (&waiting[0]["conversation"], &waiting[0]["text"]),
        (&json!("c1"), &json!("hi")),
        "{waiting}"
    );
    assert!(
        waiting[0]["reason"].is_string() && waiting[0]["due_at_ms"].is_i64(),
        "{waiting}"
    );
    assert_eq!(
        json_of(&gateway, &["outbox", "list", "--channel", "nobody"]).await,
        json!([])
    );
    let text = done(&gateway, &["trace", "m1"]).await;
    assert!(
        text.contains("in channel hook") && text.contains("the last attempt failed: "),
        "{text}"
    );

    platform.come_up();
    platform.wait_for_accepted("c1", 1).await;
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    let trace = json_of(&gateway, &["trace", "m1"]).await;
    let (inbound, outbound) = (&trace[0]["inbound"], &trace[0]["outbound"][0]);
    assert_eq!(
        (&inbound["state"], &outbound["state"]),
        (&json!("done"), &json!("delivered")),
        "{trace}"
    );
    let times = [
        &inbound["received_at_ms"],
        &inbound["finished_at_ms"],
        &outbound["attempt_at_ms"],
        &outbound["finished_at_ms"],
    ];
    let times: Vec<i64> = times.iter().map(|at| at.as_i64().expect("a time")).collect();
    assert!(times.is_sorted(), "{trace}");
    for id in [&inbound["event"], &outbound["delivery_key"]] {
        assert_eq!(json_of(&gateway, &["trace", id.as_str().expect("an id")]).await, trace);
    }
    assert_eq!(
        done(&gateway, &["outbox", "list"]).await,
        "Nothing waits to be delivered.\n"
    );
    let unknown = fails(gateway.folder(), &["trace", "m/2?x"], 1).await;
    assert!(unknown.contains("there is no message known as \"m/2?x\""), "{unknown}");
}

#[tokio::test]
async fn a_paused_channel_rests_until_it_is_resumed_and_no_other_does() {
    let platform = FakePlatform::start().await;
    let gateway = Setup::new()
        .echo()
        .websocket()
        .webhook("hook", &platform)
        .webhook("other", &platform)
        .start()
        .await;
    let mut events = events(&gateway).await;
    platform.next("c1", [Act::Refuse(503)]);
    gateway.tell("hook", "m1", "c1", "waits").await;
    next_event(&mut events, "failed").await;
    assert_eq!(
        done(&gateway, &["channel", "pause", "hook"]).await,
        "paused hook\nIt is paused.\n"
    );
    let change = next_event(&mut events, "operator").await;
    assert_eq!((&change["verb"], &change["subject"]), (&json!("pause"), &json!("hook")));

    let message = json!({"id": "m2", "conversation": "c1", "sender": "ada", "text": "hi"});
    let refused = gateway.post("hook", &message).await;
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true));
    let listed = json_of(&gateway, &["channel", "list"]).await;
    let status = |name: &str| {
        let found = listed
            .as_array()
            .into_iter()
            .flatten()
            .find(|channel| channel["name"] == name);
        found.map(|channel| channel["status"].clone())
    };
    assert_eq!(
        (status("hook"), status("other")),
        (Some(json!("paused")), Some(json!("up")))
    );
    // Two waits of the same length, one after the other: the paused channel's own is over then.
    for place in ["o1", "o2"] {
        platform.next(place, [Act::Refuse(503)]);
        gateway.tell("other", place, place, "goes on").await;
        platform.wait_for_accepted(place, 1).await;
    }
    assert!(
        platform.accepted("c1").is_empty(),
        "it was delivered through a paused channel"
    );

    assert_eq!(
        done(&gateway, &["channel", "resume", "hook"]).await,
        "resumed hook\nIt is back at work.\n"
    );
    platform.wait_for_accepted("c1", 1).await;
    assert_eq!(gateway.post("hook", &message).await.status, 200);
}

#[tokio::test]
async fn a_message_that_was_given_up_can_be_asked_again() {
    let (platform, model) = (FakePlatform::start().await, MockModel::start().await);
    let gateway = Setup::new().model(&model).webhook("hook", &platform).start().await;
    model.next([Saying::Status(400)]);
    gateway.tell("hook", "m1", "c1", "hi").await;
    gateway.wait_for_metric("sluicegate_turns_dead_total", 1.0).await;
    let notice = platform.wait_for_accepted("c1", 1).await;
    let dead = json_of(&gateway, &["inbox", "dead"]).await;
    assert_eq!(
        (&dead[0]["message_id"], &dead[0]["text"], &dead[0]["state"]),
        (&json!("m1"), &json!("hi"), &json!("dead"))
    );
    let event = dead[0]["event"].as_str().expect("an event");
    let table = done(&gateway, &["inbox", "dead"]).await;
    assert!(table.contains(event) && table.contains("ada"), "{table}");
    done(&gateway, &["inbox", "resubmit", event]).await;
    let taken = platform.wait_for_accepted("c1", 2).await;
    assert_eq!(taken[1].text, "re: hi");
    assert_ne!(taken[1].key, notice[0].key);
    let trace = json_of(&gateway, &["trace", event]).await;
    assert_eq!(
        trace[0]["outbound"].as_array().map(Vec::len),
        Some(2),
        "the notice and the answer: {trace}"
    );
    let again = fails(gateway.folder(), &["inbox", "resubmit", event], 1).await;
    assert!(
        again.contains("there is no inbound message that was given up"),
        "{again}"
    );
}

/// Requests with the right token, and how they are answered.
const ROUTES: [(&str, &str, u16); 30] = [
    ("GET", "channels", 200),
    ("POST", "channels/websocket/pause", 200),
    ("POST", "channels/websocket/resume", 200),
    ("POST", "channels/nobody/pause", 404),
    ("GET", "outbox", 200),
    ("GET", "outbox?limit=7&channel=websocket", 200),
    ("GET", "outbox?limit=many", 400),
    ("GET", "outbox?limti=7", 400),
    ("GET", "outbox?after=x", 400),
    ("GET", "outbox/dlv_none", 404),
    ("DELETE", "outbox/dlv_none", 404),
    ("POST", "outbox/dlv_none/hold", 404),
    ("POST", "outbox/dlv_none/release", 404),
    ("GET", "dead?limit=0&reason=x&channel=y&after=1.2", 200),
    ("GET", "dead?after=1", 400),
    ("GET", "dead/dlv_none", 404),
    ("DELETE", "dead/dlv_none", 404),
    ("POST", "dead/dlv_none/redrive", 404),
    ("POST", "dead/redrive", 415),
    ("GET", "dead-inbound", 200),
    ("POST", "dead-inbound/evt_none/resubmit", 404),
    ("DELETE", "dead-inbound/evt_none", 404),
    ("POST", "dead/drop", 415),
    ("GET", "changes?limit=7", 200),
    ("GET", "trace/m1", 404),
    ("PUT", "dead", 405),
    ("GET", "nowhere", 404),
    ("GET", "", 404),
    ("GET", "/", 404),
    ("GET", "channels/", 404),
];

#[tokio::test]
async fn nothing_is_shown_or_done_without_the_token_in_the_header() {
    let gateway = Setup::new().echo().websocket().start().await;
    let token = token(&gateway);
    let right = format!("Bearer {token}");
    for (method, page, status) in ROUTES {
        let path = format!("/api/v1/{page}");
        let mark = if page.contains('?') { '&' } else { '?' };
        let in_query = format!("{path}{mark}token={token}");
        for (path, headers) in [
            (&path, vec![]),
            (&path, vec![("authorization", "Bearer wrong")]),
            (&path, vec![("authorization", token.as_str())]),
            (
                &path,
                vec![("authorization", right.as_str()), ("authorization", right.as_str())],
            ),
            (&in_query, vec![]),
        ] {
            let refused = gateway.request(method, path, &headers, b"").await;
            assert_eq!(
                refused.status,
                401,
                "{method} {page} with {headers:?}: {}",
                refused.text()
            );
            assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        }
        let answer = gateway.request(method, &path, &[("authorization", &right)], b"").await;
        assert_eq!(answer.status, status, "{method} {page}: {}", answer.text());
    }
    let flood = vec![b' '; 64 * 1024];
    let headers = [("authorization", right.as_str()), ("content-type", "application/json")];
    assert_eq!(
        gateway
            .request("POST", "/api/v1/dead/redrive", &headers, &flood)
            .await
            .status,
        413
    );
    assert_eq!(
        gateway
            .request("POST", "/api/v1/dead/redrive", &headers, b"{\"chanel\":\"x\"}")
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn a_body_of_another_shape_is_refused_and_changes_nothing() {
    let platform = FakePlatform::start().await;
    let gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    platform.next("c1", [Act::Refuse(422)]);
    gateway.tell("hook", "m1", "c1", "hi").await;
    gateway.wait_for_metric("sluicegate_dead_letters", 1.0).await;
    let right = format!("Bearer {}", token(&gateway));
    let headers = [("authorization", right.as_str()), ("content-type", "application/json")];
    for page in ["dead/redrive", "dead/drop", "messages", "channels/hook"] {
        for body in [
            "[null,null]",
            "[]",
            r#"["hook","c1",null,"hi",[],null]"#,
            "null",
            "7",
            r#"{"channel":7}"#,
            "{",
            "",
        ] {
            let path = format!("/api/v1/{page}");
            let answer = gateway.request("POST", &path, &headers, body.as_bytes()).await;
            assert_eq!(answer.status, 400, "{page} with {body}: {}", answer.text());
            let refusal: Value = serde_json::from_slice(&answer.body).expect("a refusal is JSON");
            assert!(refusal["error"].is_string(), "{page} with {body}: {refusal}");
        }
    }
    let dead = gateway.metric("sluicegate_dead_letters", "").await;
    assert!((dead - 1.0).abs() < 0.5, "{dead} dead letters are left");
    assert_eq!(json_of(&gateway, &["outbox", "list"]).await, json!([]));
}

#[tokio::test]
async fn a_refusal_is_short_json_however_long_or_odd_the_question_was() {
    let gateway = Setup::new().echo().websocket().start().await;
    let right = format!("Bearer {}", token(&gateway));
    let headers = [("authorization", right.as_str()), ("content-type", "application/json")];
    let long = "x".repeat(6000);
    let unknown = json!({ &long: 1 }).to_string();
    for (method, page, body, status) in [
        ("GET", format!("trace/{long}"), "", 404),
        ("GET", "trace/%ff".to_owned(), "", 404),
        ("GET", format!("outbox/{long}"), "", 404),
        ("GET", format!("outbox?after={long}"), "", 400),
        ("POST", format!("outbox/{long}/hold"), "", 404),
        ("POST", format!("channels/{long}/pause"), "", 404),
        ("GET", format!("channels/{long}/egress"), "", 404),
        ("POST", "dead/drop".to_owned(), unknown.as_str(), 400),
        ("PUT", "dead".to_owned(), "", 405),
        ("GET", String::new(), "", 404),
        ("GET", "channels/".to_owned(), "", 404),
    ] {
        let path = format!("/api/v1/{page}");
        let answer = gateway.request(method, &path, &headers, body.as_bytes()).await;
        let text = answer.text();
        let shown = &page[..page.len().min(40)];
        assert_eq!(answer.status, status, "{method} {shown}: {text}");
        assert!(
            answer.body.len() < 4400,
            "{method} {shown}: {} bytes",
            answer.body.len()
        );
        let refusal: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{method} {shown}: {text}"));
        assert!(refusal["error"].is_string(), "{method} {shown}: {text}");
    }
    let answer = gateway.request("PUT", "/api/v1/dead", &headers, b"").await;
    assert_eq!(answer.header("allow"), Some("GET,HEAD"));
}

#[tokio::test]
async fn where_no_gateway_runs_the_operator_is_told_so() {
    let mut gateway = Setup::new().echo().websocket().start().await;
    let beacon = gateway.data().join("gateway.json");
    let lit: Value = serde_json::from_slice(&std::fs::read(&beacon).expect("it is there")).expect("JSON");
    assert_eq!(lit["address"], json!(gateway.address().to_string()));
    assert!(gateway.terminate().await.success());
    assert!(!beacon.exists(), "a clean stop leaves no sign of life");
    gateway.restart().await;
    gateway.kill().await;
    assert!(beacon.exists(), "a killed gateway could not remove it");
    for words in [
        &["outbox", "list"][..],
        &["dead", "list"],
        &["inbox", "dead"],
        &["trace", "m1"],
    ] {
        let said = fails(gateway.folder(), words, 1).await;
        assert!(
            said.contains("no gateway runs in the data directory") && said.contains("`sluicegate run`"),
            "{said}"
        );
    }
    let listed = done(&gateway, &["channel", "list"]).await;
    assert!(listed.contains("No gateway runs in this data directory"), "{listed}");
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_is_not_said_to_be_none() {
    let gateway = Setup::new().echo().websocket().start().await;
    let beacon = gateway.data().join("gateway.json");
    let mut lit: Value = serde_json::from_slice(&std::fs::read(&beacon).expect("it is there")).expect("JSON");
    // Nothing listens there.
    lit["address"] = json!("127.0.0.1:1");
    std::fs::write(&beacon, lit.to_string()).expect("it is written");
    let output = command(gateway.folder(), &["channel", "list"]).await;
    assert!(output.status.success(), "{output:?}");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(err.contains("the gateway does not answer"), "{err}");
    assert!(out.contains("can't be asked, so there is no status"), "{out}");
    assert!(!out.contains("No gateway runs"), "{out}");
}
