//! The pages for supervisors and operators.

use std::time::Instant;

use harness::{FakePlatform, PATIENCE, Setup, TestGateway, WsClient, http};
use sluicegate::limit;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::operator::token;

#[tokio::test]
async fn it_says_that_it_lives_and_is_ready_and_goes_with_0_when_told() {
    let mut gateway = Setup::new().echo().websocket().start().await;
    let live = gateway.get("/live").await;
    assert_eq!((live.status, live.text().as_str()), (200, "live\n"));
    let ready = gateway.get("/ready").await;
    assert_eq!((ready.status, ready.text().as_str()), (200, "ready\n"));
    assert_eq!(gateway.get("/nothing/here").await.status, 404);
    assert_eq!(gateway.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn the_metrics_count_what_went_in_and_out() {
    let platform = FakePlatform::start().await;
    let gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    for id in ["m1", "m2", "m3"] {
        gateway.tell("hook", id, "c1", "hi").await;
    }
    platform.wait_for_accepted("c1", 3).await;
    gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
    gateway
        .wait_for_metric("sluicegate_delivery_delivered_total", 3.0)
        .await;
    for (name, value) in [
        ("sluicegate_channel_inbound_accepted_total", 3.0),
        ("sluicegate_turns_committed_total", 3.0),
        ("sluicegate_channel_egress_requests_total", 3.0),
        ("sluicegate_channel_traps_total", 0.0),
        ("sluicegate_inbox_waiting", 0.0),
        ("sluicegate_dead_letters", 0.0),
        ("sluicegate_channel_up", 1.0),
        ("sluicegate_store_sound", 1.0),
    ] {
        let seen = gateway.metric(name, "").await;
        assert!((seen - value).abs() < 0.5, "expected {name} at {value}, seen {seen}");
    }
    let page = gateway.get("/metrics").await;
    assert!(
        page.header("content-type")
            .is_some_and(|kind| kind.starts_with("application/openmetrics-text"))
    );
    assert!(page.text().ends_with("# EOF\n"), "the page ends as OpenMetrics asks");
}

#[tokio::test]
async fn connections_that_never_ask_keep_nobody_out_and_are_ended() {
    let gateway = Setup::new().echo().websocket().start().await;
    let mut silent = Vec::new();
    for number in 0..limit::CONNECTIONS_ASKING_MAX {
        let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
        if number % 2 == 0 {
            stream
                .write_all(b"GET /live HTTP/1.1\r\nHo")
                .await
                .expect("half a head");
        }
        silent.push(stream);
    }
    assert_eq!(gateway.get("/live").await.status, 200);
    let mut last = silent.pop().expect("the last one");
    last.write_all(b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .expect("it still stands");
    let answer = http::receive(last)
        .await
        .expect("only the longest silent one made room");
    assert_eq!(answer.status, 200);
    for mut stream in silent {
        let mut left = Vec::new();
        let ended = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut left);
        // The end may be a reset where something was written that nobody read.
        let _ended = tokio::time::timeout(harness::PATIENCE, ended)
            .await
            .expect("it is ended");
    }
}

/// As after a restart of the gateway, when all of its clients come again.
#[tokio::test]
async fn more_connections_at_once_than_there_is_room_for_are_all_answered() {
    let gateway = Setup::new().echo().websocket().start().await;
    // A machine that is busy with other tests may take longer over it than a new connection has to ask: once more then.
    let storm = loop {
        let began = Instant::now();
        let mut storm = Vec::new();
        for _ in 0..limit::CONNECTIONS_ASKING_MAX + 100 {
            storm.push(TcpStream::connect(gateway.address()).await.expect("a connection"));
        }
        let mut asked = true;
        for stream in &mut storm {
            let head = b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            asked &= stream.write_all(head).await.is_ok();
        }
        if began.elapsed() < limit::CONNECTION_NEW / 2 {
            assert!(asked, "they still stand");
            break storm;
        }
    };
    for stream in storm {
        let answer = http::receive(stream).await.expect("nobody had to make room");
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn a_client_that_pings_and_does_not_read_is_not_kept_everything_for() {
    const PINGS: usize = 400_000;
    // A ping and a pong of the same size: 125 bytes, the first under a mask of zeros.
    let ping: Vec<u8> = [&[0x89, 0x80 | 125, 0, 0, 0, 0][..], &[b'x'; 125]].concat();
    let goodbye = [0x88, 0x80, 0, 0, 0, 0];
    let gateway = Setup::new().echo().websocket().start().await;
    let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
    let upgrade = "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await.expect("it is asked");
    let burst = ping.repeat(1000);
    for _ in 0..PINGS / 1000 {
        stream.write_all(&burst).await.expect("pings are read on");
    }
    stream.write_all(&goodbye).await.expect("and a goodbye");
    let mut answered = Vec::new();
    let reading = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answered);
    let ended = tokio::time::timeout(harness::PATIENCE, reading).await.expect("it ends");
    // What the gateway kept, and what fits into the sockets of both ends.
    let kept_at_most = limit::CLIENT_UNREAD_BYTES_MAX + 16 * 1024 * 1024;
    assert!(answered.len() < kept_at_most, "{} bytes, {ended:?}", answered.len());
    assert_eq!(gateway.get("/live").await.status, 200);
}

#[tokio::test]
async fn bodies_that_never_come_keep_nobody_out() {
    let platform = FakePlatform::start().await;
    let gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    let mut held = Vec::new();
    for _ in 0..limit::CONNECTIONS_ASKING_MAX {
        let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
        stream
            .write_all(b"POST /hooks/hook HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
            .await
            .expect("the head and a little");
        held.push(stream);
    }
    // Before the first of them is too slow.
    let answered = tokio::time::timeout(limit::REQUEST_BODY_TIMEOUT / 3, gateway.get("/live")).await;
    assert_eq!(answered.expect("at once").status, 200);
    drop(held);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_refused_as_such() {
    let platform = FakePlatform::start().await;
    let gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
    stream
        .write_all(b"POST /hooks/hook HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 99\r\n\r\n{")
        .await
        .expect("the head and a little");
    let answer = http::receive(stream).await.expect("an answer");
    assert_eq!(answer.status, 408, "{}", answer.text());
    assert!(answer.text().contains("did not come in time"), "{}", answer.text());
}

#[tokio::test]
async fn a_body_that_is_not_what_its_headers_say_is_refused_in_words_that_fit() {
    let platform = FakePlatform::start().await;
    let gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    for (headers, body, status, words) in [
        (
            "Transfer-Encoding: chunked",
            "zz\r\nhello",
            400,
            "not what the headers say",
        ),
        ("Content-Length: 99", "{}", 400, "ends early"),
        ("Content-Length: 2000000", &*"x".repeat(2_000_000), 413, "too large"),
    ] {
        let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
        let request = format!("POST /hooks/hook HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n\r\n{body}");
        // What is refused at once need not be read to its end.
        let _written = stream.write_all(request.as_bytes()).await;
        let _shut = stream.shutdown().await;
        if let Ok(answer) = http::receive(stream).await {
            assert_eq!(answer.status, status, "{headers}: {}", answer.text());
            assert!(answer.text().contains(words), "{headers}: {}", answer.text());
        } else {
            assert_eq!(status, 413, "{headers}: no answer");
        }
    }
    gateway.tell("hook", "m1", "c1", "hi").await;
    platform.wait_for_accepted("c1", 1).await;
}

/// Sends the head of a request, nothing of its body, and returns what comes first.
async fn answer_to_head(gateway: &TestGateway, path: &str, headers: &str) -> http::Response {
    let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("the head");
    let answer = tokio::time::timeout(PATIENCE, http::receive(stream)).await;
    answer.expect("an answer to the head alone").expect("a whole answer")
}

#[tokio::test]
async fn a_body_that_says_that_it_is_too_large_is_refused_before_it_is_sent() {
    let platform = FakePlatform::start().await;
    let gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    let operator = format!(
        "Authorization: Bearer {}\r\nContent-Type: application/json",
        token(&gateway)
    );
    for (path, who) in [
        ("/hooks/hook", "X-Nobody: 1"),
        ("/api/v1/dead/drop", operator.as_str()),
        ("/api/v1/messages", operator.as_str()),
    ] {
        for size in [
            "Content-Length: 99999999",
            "Content-Length: 1000000000000",
            "Content-Length: 99999999\r\nExpect: 100-continue",
        ] {
            let answer = answer_to_head(&gateway, path, &format!("{who}\r\n{size}")).await;
            assert_eq!(answer.status, 413, "{path}, {size}: {}", answer.text());
            assert!(answer.text().contains(r#""error":"the body is too large"#), "{path}");
        }
    }
}

#[tokio::test]
async fn who_sends_far_too_much_before_it_reads_hears_why_it_was_refused() {
    let platform = FakePlatform::start().await;
    let gateway = Setup::new().echo().webhook("hook", &platform).start().await;
    // More than the operating system keeps for a connection.
    let body = vec![b'x'; 20 * 1024 * 1024];
    let chunked = [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
    let sized = format!("Content-Length: {}", body.len());
    for (headers, body) in [(sized.as_str(), &body), ("Transfer-Encoding: chunked", &chunked)] {
        let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
        let head = format!("POST /hooks/hook HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("the head");
        stream.write_all(body).await.expect("the whole body is taken");
        let answer = http::receive(stream).await.expect("an answer");
        assert_eq!(answer.status, 413, "{headers}: {}", answer.text());
    }
    gateway.tell("hook", "m1", "c1", "hi").await;
    platform.wait_for_accepted("c1", 1).await;
}

#[tokio::test]
async fn no_page_from_elsewhere_reads_the_metrics_by_letting_its_name_lead_here() {
    let gateway = Setup::new()
        .public_url("https://gate.example.org")
        .echo()
        .websocket()
        .start()
        .await;
    let address = gateway.address().to_string();
    for (host, status) in [
        (address.as_str(), 200),
        ("localhost:7878", 200),
        ("sluicegate:7878", 200),
        ("gate.example.org", 200),
        ("evil.example:7878", 403),
        ("127.0.0.1.evil.example", 403),
    ] {
        let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it is asked");
        let answer = http::receive(stream).await.expect("an answer");
        assert_eq!(answer.status, status, "{host}: {}", answer.text());
        assert_eq!(answer.text().contains("sluicegate_channel_up"), status == 200, "{host}");
    }
}

#[tokio::test]
async fn clients_leave_the_files_and_connections_that_everything_else_needs() {
    const OPEN_FILES: usize = 1024;
    let mut gateway = Setup::new().echo().websocket().start().await;
    let (open, allowed) = gateway.program().bound_open_files(OPEN_FILES as u64);
    assert!(
        open >= allowed.min(limit::OPEN_FILES_WANTED),
        "{open} of {allowed}: it asked for what it may have"
    );
    let room = OPEN_FILES - limit::CONNECTIONS_ASKING_MAX - limit::OPEN_FILES_BESIDES;
    let mut clients = Vec::new();
    let refused = loop {
        match WsClient::connect(gateway.address(), "/ws", &[]).await {
            Ok(client) => clients.push(client),
            Err(status) => break status,
        }
        assert!(clients.len() <= room, "more are let in than there is room for");
    };
    assert_eq!((refused, clients.len()), (503, room));
    assert_eq!(gateway.get("/live").await.status, 200);
    clients.truncate(room / 2);
    harness::eventually("another client is let in", async || {
        WsClient::connect(gateway.address(), "/ws", &[]).await.ok()
    })
    .await;
}
