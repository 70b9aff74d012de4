//! The limits that an operator sets for a channel, in the real binary: a guest that wants more gets as much, and no more.

use harness::TestGateway;
use harness::http::{Reply, Response};

use crate::neighbours::gateway_within;
use crate::network::{server, websocket_server};
use crate::support::encoded;

/// Lets the hostile channel do something through its webhook.
async fn ordered(gateway: &TestGateway, name: &str, argument: &str) -> Response {
    let path = format!("{}/{name}?{}", gateway.hook("hostile").await, encoded(argument));
    gateway.request("POST", &path, &[], b"").await
}

/// The same, and returns what it reports.
async fn report(gateway: &TestGateway, name: &str, argument: &str) -> String {
    let answer = ordered(gateway, name, argument).await;
    assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    answer.text()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_keeps_as_much_as_its_operator_allows() {
    let gateway = gateway_within("memory_mib = 8, state_mib = 1, blobs_mib = 1", "").await;
    let state = report(&gateway, "state_quota", "").await;
    assert_eq!(
        state, "3 kept, after a deletion true",
        "of 256 KiB each, and their keys"
    );
    let mut stored = Vec::new();
    for _ in 0..3 {
        let said = report(&gateway, "blob_flood", "").await;
        stored.extend(said.rsplit(' ').next().and_then(|number| number.parse::<usize>().ok()));
    }
    assert_eq!(stored, [100, 100, 56], "an empty file takes 4 KiB");
    let memory = report(&gateway, "allocate", "").await;
    let mib = memory
        .strip_prefix("refused after ")
        .and_then(|rest| rest.strip_suffix(" MiB"));
    let mib: usize = mib
        .and_then(|mib| mib.parse().ok())
        .unwrap_or_else(|| panic!("{memory}"));
    assert!((4..8).contains(&mib), "{memory}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_keeps_as_many_keys_as_its_operator_allows() {
    let gateway = gateway_within("state_keys = 5", "").await;
    let state = report(&gateway, "state_quota", "1").await;
    assert_eq!(state, "5 kept, after a deletion true", "of a byte each");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_takes_in_as_many_messages_a_minute_as_its_operator_allows() {
    let gateway = gateway_within("messages_per_minute = 5", "").await;
    // The sixth is let in on credit: a batch is never parted.
    for number in 0..6 {
        let said = report(&gateway, "publish", "plain").await;
        let outcome = if number == 0 { "Accepted" } else { "Duplicate" };
        assert_eq!(said, format!("Ok([Outcome::{outcome}])"));
    }
    let held = ordered(&gateway, "publish", "plain").await;
    let wait = held.header("retry-after").and_then(|wait| wait.parse::<u64>().ok());
    assert_eq!(held.status, 429, "{}", held.text());
    assert!(
        wait.is_some_and(|wait| (1..=13).contains(&wait)),
        "{wait:?} s of twelve a message"
    );
    let counted = gateway.metric("sluicegate_channel_inbound_held_total", "hostile").await;
    assert!((counted - 1.0).abs() < 0.5, "{counted} were held");
    gateway.wait_for_log(&["messages_per_minute"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_logs_as_long_lines_as_its_operator_allows() {
    let gateway = gateway_within("log_line_bytes = 100", "").await;
    report(&gateway, "log_line", "1").await;
    let line = gateway.wait_for_log(&["long long"]).await;
    let words = line.matches("long").count();
    assert!((15..=20).contains(&words), "100 bytes are 20 words: {line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_uses_as_much_of_the_network_as_its_operator_allows() {
    const MIB: usize = 1024 * 1024;
    let (_server, http) = server(|request| match request.path.as_str() {
        "/long" => Reply::Whole(Response::new(200, vec![b'x'; MIB + 1])),
        "/fits" => Reply::Whole(Response::new(200, vec![b'x'; MIB / 2])),
        _ => Reply::Chunks {
            media_type: "text/event-stream",
            chunks: vec![b"data: x\n\n".to_vec()],
            finished: true,
            written: Box::new(|| {}),
        },
    })
    .await;
    let (socket, _, _) = websocket_server(false).await;
    let limits = "requests_in_flight = 2, response_mib = 1, sockets = 3, network_mib_per_minute = 3";
    let lines = format!(
        "settings = {{ server = \"{http}\", peer = \"{socket}\" }}\ngrant = [\"http://{http}\", \"ws://{socket}\"]"
    );
    let gateway = gateway_within(limits, &lines).await;
    let streams = report(&gateway, "streams", &format!("http://{http}/")).await;
    assert_eq!(streams, "2 open, then HttpError::Busy");
    let sockets = report(&gateway, "websockets", &format!("ws://{socket}/")).await;
    assert!(sockets.starts_with("3 open, then "), "{sockets}");
    let long = report(&gateway, "http", &format!("http://{http}/long")).await;
    assert!(long.contains("TooLarge"), "{long}");
    let mut answers = Vec::new();
    for _ in 0..7 {
        answers.push(report(&gateway, "http", &format!("http://{http}/fits")).await);
    }
    assert!(answers[0].starts_with("status 200"), "{answers:?}");
    assert!(answers[6].contains("Busy"), "3 MiB are used up: {answers:?}");
}
