//! The real binary with a hostile channel and a peaceful one: whatever the first does, the second is served, and the
//! process stays within its bounds.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use harness::{Record, Setup, TempFolder, TestGateway, WsClient};
use serde_json::json;
use sluicegate::limit;
use sluicegate::secret::{Redactor, Secret};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::{HOSTILE, SECRET, encoded};

/// How long a neighbour's round trip may take while everything else attacks: generous, since two cores may be shared with
/// a whole test run. Without the channel's share of the CPU it takes several times as long.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(5);

/// Starts a gateway with the channel `websocket` and a hostile one of these further lines.
async fn gateway(lines: &str) -> TestGateway {
    gateway_within("memory_mib = 32, call_timeout_s = 5", lines).await
}

/// The same with other limits.
pub(crate) async fn gateway_within(limits: &str, lines: &str) -> TestGateway {
    let folder = TempFolder::new();
    let component = folder.path().join("hostile.wasm");
    std::fs::write(&component, HOSTILE).expect("a file in a temporary folder can be written");
    let channel = format!(
        "[channels.hostile]\ncomponent = \"{}\"\nsha256 = \"{}\"\naccess = \"open\"\nsecrets = {{ token = {{ env = \"HOSTILE_TOKEN\" }} }}\n\
         limits = {{ {limits} }}\n{lines}",
        component.display(),
        sluicegate::component::digest(HOSTILE)
    );
    let setup = Setup::new()
        .echo()
        .websocket()
        .section(&channel)
        .env("HOSTILE_TOKEN", SECRET);
    TestGateway::start(setup, folder).await
}

/// Sends a message to the peaceful channel and waits for its answer. Returns how long that took.
async fn round_trip(client: &mut WsClient, number: usize) -> Duration {
    let (id, text) = (format!("m{number}"), format!("hello {number}"));
    let began = Instant::now();
    client.say(&id, "c1", &text).await;
    let accepted = client.expect("accepted").await;
    assert_eq!(accepted["id"], json!(id));
    let reply = client.expect("reply").await;
    assert_eq!(
        (&reply["in_reply_to"], &reply["conversation"]),
        (&json!(id), &json!("c1")),
        "{reply}"
    );
    began.elapsed()
}

/// Resident memory of a process, MiB.
fn resident_mib(gateway: &mut TestGateway) -> u64 {
    let id = gateway.program().id().expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("its status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("its resident memory");
    line.trim()
        .trim_end_matches(" kB")
        .trim()
        .parse::<u64>()
        .expect("a number")
        / 1024
}

/// Checks that neither the log nor any file of the gateway has the secret.
fn silent(gateway: &mut TestGateway) {
    let secrets = Redactor::new([&Secret::new(SECRET.to_owned())]);
    let errors: &Record<String> = gateway.program().errors();
    for line in errors.all() {
        assert_eq!(secrets.text(&line), line, "a log line has the secret");
        assert!(
            !line.contains(|c: char| c.is_control()),
            "a log line drives a terminal: {line:?}"
        );
    }
    let mut folders = vec![gateway.data()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                assert!(secrets.bytes(&bytes) == bytes, "{} has the secret", path.display());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_neighbour_is_served_while_every_kind_of_attack_runs() {
    let mut gateway = gateway("settings = { listener = \"spin\" }").await;
    let mut client = gateway.client().await;
    round_trip(&mut client, 0).await;
    let before = resident_mib(&mut gateway);
    let orders = [
        "spin",
        "allocate",
        "recurse",
        "log_flood",
        "print_flood",
        "tiny_calls",
        "publish_flood",
        "log_line 50",
        "idle 28",
        "panic now",
        "reachable_flood",
        "state_quota",
        "clients_flood",
        "reply body=900000",
        "sleep",
        "log_controls",
    ];
    let (address, hook) = (gateway.address(), gateway.hook("hostile").await);
    let mut attacks = tokio::task::JoinSet::new();
    for order in orders.iter().chain(&orders) {
        let (name, argument) = order.split_once(' ').unwrap_or((order, ""));
        let path = format!("{hook}/{name}?{}", encoded(argument));
        attacks.spawn(async move {
            harness::http::request(address, "POST", &path, &[], b"")
                .await
                .map(|it| it.status)
        });
    }
    let (mut slowest, mut largest, mut number) = (Duration::ZERO, before, 0);
    let mut statuses = BTreeSet::new();
    while !attacks.is_empty() || number < 20 {
        number += 1;
        slowest = slowest.max(round_trip(&mut client, number).await);
        largest = largest.max(resident_mib(&mut gateway));
        while let Some(ended) = attacks.try_join_next() {
            statuses.insert(ended.expect("no panic").expect("every caller gets an answer"));
        }
    }
    assert!(
        slowest < ROUND_TRIP_MAX,
        "the slowest of {number} round trips took {slowest:?}"
    );
    // All instances of the channel together have eight times 32 MiB; the rest is what calls carry, and the allocator.
    assert!(
        largest < before + 8 * 32 + 256,
        "{before} MiB before, {largest} MiB at most"
    );
    assert!(
        statuses.contains(&200) && statuses.contains(&502),
        "answers and failures: {statuses:?}"
    );
    assert!(
        statuses.iter().all(|status| [200, 429, 502].contains(status)),
        "{statuses:?}"
    );
    assert!(gateway.metric("sluicegate_channel_traps_total", "hostile").await >= 2.0);
    assert!((gateway.metric("sluicegate_channel_traps_total", "websocket").await).abs() < 0.5);
    silent(&mut gateway);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_spins_is_retried_and_holds_up_nobody_else() {
    let mut gateway = gateway("").await;
    let mut client = gateway.client().await;
    // What is published here is answered by echo, and the answer's text is an order to its delivery.
    let hook = gateway.hook("hostile").await;
    let answer = gateway
        .request("POST", &format!("{hook}/publish?order%3dspin"), &[], b"")
        .await;
    assert_eq!(answer.text(), "Ok([Outcome::Accepted])");
    gateway.wait_for_log(&["channel=hostile", "tried again later"]).await;
    for number in 0..10 {
        let took = round_trip(&mut client, number).await;
        assert!(took < ROUND_TRIP_MAX, "{took:?}");
    }
    silent(&mut gateway);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stores_files_without_end_is_slowed_down() {
    /// As many as the attack stores at once, and calls of it.
    const FILES: u32 = 100;
    const CALLS: u32 = 70;
    let mut gateway = gateway("").await;
    let hook = gateway.hook("hostile").await;
    let began = Instant::now();
    for _ in 0..CALLS {
        let answer = gateway.request("POST", &format!("{hook}/blob_flood"), &[], b"").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let over = limit::FILE_CPU * FILES * CALLS - limit::CHANNEL_CPU_BURST;
    let at_least = over * 100 / limit::CHANNEL_CPU_PERCENT_DEFAULT;
    assert!(began.elapsed() > at_least, "{:?}, not {at_least:?}", began.elapsed());
    silent(&mut gateway);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_a_webhook_that_hangs_keep_nobody_else_out() {
    let mut gateway = gateway("").await;
    let hook = gateway.hook("hostile").await;
    let mut held = Vec::new();
    for _ in 0..limit::CONNECTIONS_ASKING_MAX {
        let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
        let request = format!("POST {hook}/sleep HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it is asked");
        held.push(stream);
    }
    // Before those that wait for their turn give up.
    let answered = tokio::time::timeout(limit::CALL_WAIT_MAX / 2, gateway.get("/live")).await;
    assert_eq!(answered.expect("at once").status, 200);
    drop(held);
    silent(&mut gateway);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_can_not_speak_in_a_conversation_of_another_channel() {
    let mut gateway = gateway("").await;
    let mut client = gateway.client().await;
    client.attach("c1", true).await;
    client.say("m1", "c1", "hello").await;
    client.expect("accepted").await;
    let first = client.expect("reply").await;
    let key = first["delivery_key"].as_str().expect("a key").to_owned();
    // The same conversation id in another channel is another conversation.
    let hook = gateway.hook("hostile").await;
    let answer = gateway
        .request("POST", &format!("{hook}/publish?plain"), &[], b"")
        .await;
    assert_eq!(answer.text(), "Ok([Outcome::Accepted])");
    // A confirmation of another channel's delivery is none: the reply comes again to the next client, with the same key.
    for attack in ["confirm", "sent"] {
        let path = format!("{hook}/{attack}?{key}");
        assert_eq!(gateway.request("POST", &path, &[], b"").await.status, 200);
    }
    client.close().await;
    let mut next = gateway.client().await;
    next.attach("c1", true).await;
    let again = next.expect("reply").await;
    assert_eq!(
        (&again["delivery_key"], &again["text"]),
        (&json!(key), &first["text"]),
        "{again}"
    );
    silent(&mut gateway);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_a_webhook_can_neither_split_the_response_nor_run_in_the_gateways_name() {
    let mut gateway = gateway("").await;
    let hook = gateway.hook("hostile").await;
    let path = format!("{hook}/reply?injection");
    let answer = gateway.request("GET", &path, &[], b"").await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "<script>alert(1)</script>")
    );
    for gone in [
        "set-cookie",
        "x-split",
        "x-na",
        "me",
        "clear-site-data",
        "transfer-encoding",
    ] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    assert_eq!(answer.header("content-length"), Some("25"));
    let policies: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "content-security-policy")
        .collect();
    assert_eq!(policies.len(), 1, "{policies:?}");
    assert!(policies[0].1.starts_with("sandbox"), "{policies:?}");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    silent(&mut gateway);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_without_a_signature_is_reached_by_its_token_only() {
    let mut gateway = gateway("").await;
    let hook = gateway.hook("hostile").await;
    let token = hook.strip_prefix("/hooks/hostile/").expect("its path has a token");
    assert_eq!(token.len(), 48, "192 bits: {token}");
    let order = "log_line%201";
    for wrong in [
        format!("/hooks/hostile/log_line?{order}"),
        format!("/hooks/hostile/{}/log_line", &token[1..]),
        format!("/hooks/hostile/{token}x/log_line"),
        format!("/hooks/hostile/{}/log_line", "0".repeat(48)),
        format!("/hooks/hostile/log_line?token={token}"),
        "/hooks/hostile".to_owned(),
    ] {
        let answer = gateway.request("POST", &wrong, &[], b"").await;
        assert_eq!(
            (answer.status, answer.text().contains("no such channel")),
            (404, true),
            "{wrong}"
        );
    }
    let calls = gateway.metric("sluicegate_channel_calls_total", "hostile").await;
    assert_eq!(
        gateway
            .request("POST", &format!("{hook}/log_line?1"), &[], b"")
            .await
            .status,
        200
    );
    let after = gateway.metric("sluicegate_channel_calls_total", "hostile").await;
    assert!(
        (after - calls - 1.0).abs() < 0.5,
        "only the right one ran the guest: {calls} {after}"
    );
    let printed = gateway.wait_for_log(&["channel hostile", &hook]).await;
    assert!(
        printed.contains("hostile.wasm"),
        "the operator is shown it at the start: {printed}"
    );
    gateway.crash().await;
    assert_eq!(gateway.hook("hostile").await, hook, "it lasts");
    silent(&mut gateway);
}
