//! Guests that reach out: only granted endpoints answer, and no secret comes back or stays behind.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use harness::http::{Handler, Reply, Request, Response, Server};
use sluicegate::delivery::Failure;
use sluicegate::ingress::WebhookRequest;
use sluicegate::limit;
use sluicegate::secret::{Redactor, Secret};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Rig, SECRET, encoded};

/// Starts a server that answers with what `reply` makes of a request.
pub(crate) async fn server(reply: impl Fn(Request) -> Reply + Send + Sync + 'static) -> (Server, SocketAddr) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let handler: Handler = Arc::new(move |request| {
        let reply = reply(request);
        Box::pin(async move { reply })
    });
    (Server::start(listener, handler), address)
}

/// Everything of a request, given back.
fn echo(request: &Request) -> Reply {
    let token = request.header("x-token").unwrap_or_default().to_owned();
    let percent: String = token.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let body = format!("{request:?} {token} {percent}");
    Reply::Whole(
        Response::new(418, body)
            .with("x-echo", &token)
            .with("location", &format!("http://169.254.169.254/{token}")),
    )
}

#[tokio::test]
async fn a_secret_that_a_server_echoes_comes_back_redacted_and_stays_nowhere() {
    let (_server, address) = server(|request| echo(&request)).await;
    let rig = Rig::new().grant(&format!("http://{address}")).ample_cpu().up().await;
    let reported = rig
        .report(&format!("http http://{address}/ x-token {{{{token}}}}"))
        .await;
    assert!(
        reported.starts_with("status 418") && reported.contains("[redacted]"),
        "{reported}"
    );
    assert!(
        !reported.contains("hunter2") && !reported.contains("%68%75"),
        "{reported}"
    );
    rig.survived().await;
}

#[tokio::test]
async fn a_secret_that_a_platform_shows_to_the_host_does_not_reach_the_guest() {
    let rig = Rig::new().up().await;
    let request = WebhookRequest {
        method: "POST".to_owned(),
        path: "/seen".to_owned(),
        query: Some(encoded(&format!("q={SECRET}"))),
        headers: vec![
            ("x-secret".to_owned(), SECRET.as_bytes().to_vec()),
            ("authorization".to_owned(), format!("Bearer {SECRET}").into_bytes()),
            ("x-other".to_owned(), b"stays".to_vec()),
        ],
        body: format!("before {SECRET} after").into_bytes(),
    };
    let reply = rig.channel.webhook(request).await.expect("the guest answers");
    assert_eq!(
        String::from_utf8_lossy(&reply.body),
        "x-secret: [redacted] | authorization: Bearer [redacted] | x-other: stays | q=[redacted] | before [redacted] after"
    );
    rig.survived().await;
}

#[tokio::test]
async fn a_placeholder_is_filled_in_for_its_own_hosts_and_places_only() {
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let written = Arc::clone(&arrived);
    let (_server, address) = server(move |request| {
        let shown = format!("{} {:?}", request.path, request.headers);
        written.lock().expect("no panic before").push(shown);
        Reply::Whole(Response::new(200, "fine"))
    })
    .await;
    let port = address.port();
    let rig = Rig::new()
        .grant(&format!("http://{address}"))
        .grant(&format!("http://localhost:{port}"))
        .ample_cpu()
        .up()
        .await;
    for attack in [
        format!("http http://localhost:{port}/ x-token {{{{token}}}}"),
        format!("http http://{address}/?q={{{{token}}}}"),
        format!("http http://{address}/{{{{token}}}}"),
        format!("http http://{address}/ x-token {{{{nobody}}}}"),
    ] {
        let reported = rig.report(&attack).await;
        assert!(!reported.contains("hunter2"), "{attack}: {reported}");
    }
    let secrets = Redactor::new([&Secret::new(SECRET.to_owned())]);
    for shown in arrived.lock().expect("no panic before").drain(..) {
        assert_eq!(secrets.text(&shown), shown, "the secret went where it may not go");
    }
    // The same server does get it where it may: what is asserted above could have failed.
    rig.report(&format!("http http://{address}/ x-token {{{{token}}}}"))
        .await;
    let shown = arrived.lock().expect("no panic before").pop().expect("a request");
    assert_ne!(secrets.text(&shown), shown, "{shown}");
    rig.survived().await;
}

#[tokio::test]
async fn a_secret_is_not_revealed_and_no_other_secret_is_there() {
    let rig = Rig::new().up().await;
    let reported = rig.report("secrets token").await;
    assert!(
        reported.starts_with("true revealed Err(") && reported.ends_with("others 0"),
        "{reported}"
    );
    rig.survived().await;
}

#[tokio::test]
async fn what_is_not_granted_is_denied_and_nothing_arrives() {
    let (arrived_tx, mut arrived_rx) = tokio::sync::mpsc::channel(16);
    let (_server, address) = server(move |_| {
        // A full channel has something in it already.
        let _ = arrived_tx.try_send(());
        Reply::Whole(Response::new(200, "reached"))
    })
    .await;
    let rig = Rig::new().grant("https://example.org").ample_cpu().up().await;
    let port = address.port();
    for url in [
        format!("http://{address}/"),
        format!("http://example.org@{address}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://0x7f.1:{port}/"),
        format!("http://localhost.:{port}/"),
        "http://example.org/".to_owned(),
        "https://example.org:8443/".to_owned(),
        "https://example.org.evil.test/".to_owned(),
        "https://example.org%23@evil.test/".to_owned(),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "unix:/run/docker.sock".to_owned(),
    ] {
        let reported = rig.report(&format!("http {url}")).await;
        let kinds = ["HttpError::Denied(", "HttpError::Invalid("];
        assert!(kinds.iter().any(|kind| reported.starts_with(kind)), "{url}: {reported}");
    }
    assert!(arrived_rx.try_recv().is_err(), "no request arrived");
    rig.survived().await;
}

#[tokio::test]
async fn a_redirect_is_handed_back_and_never_followed() {
    let (_server, address) = server(|request| match request.path.as_str() {
        "/inner" => Reply::Whole(Response::new(200, "followed")),
        _ => Reply::Whole(Response::new(302, "").with("location", "/inner")),
    })
    .await;
    let rig = Rig::new().grant(&format!("http://{address}")).ample_cpu().up().await;
    let reported = rig.report(&format!("http http://{address}/")).await;
    assert!(
        reported.starts_with("status 302") && !reported.contains("followed"),
        "{reported}"
    );
    rig.survived().await;
}

#[tokio::test]
async fn a_server_that_never_answers_holds_a_call_until_its_deadline_and_no_longer() {
    let (_server, address) = server(|_| Reply::Hang).await;
    let rig = Rig::new().grant(&format!("http://{address}")).up().await;
    for (url, leaves) in [
        (format!("http://{address}/"), false),
        (format!("post:http://{address}/"), true),
    ] {
        let attempt = rig.deliver(&format!("http {url}")).await;
        assert_eq!(attempt.result, Err(Failure::DeadlineExceeded));
        assert_eq!(
            attempt.bytes_left, leaves,
            "the host saw what left it that may have changed something"
        );
    }
    rig.survived().await;
}

#[tokio::test]
async fn a_component_that_traps_after_its_request_was_answered_leaves_an_outcome_that_nobody_knows() {
    let (_server, address) = server(|_| Reply::Whole(Response::new(200, "taken"))).await;
    let rig = Rig::new().grant(&format!("http://{address}")).up().await;
    let attempt = rig.deliver(&format!("post_and_panic http://{address}/")).await;
    assert!(matches!(attempt.result, Err(Failure::Trapped(_))), "{attempt:?}");
    assert!(attempt.bytes_left, "the platform has it, and nobody says so");
    let refused = rig.deliver("post_and_panic http://127.0.0.1:1/").await;
    assert!(!refused.bytes_left, "{refused:?}");
    rig.survived().await;
}

#[tokio::test]
async fn a_flood_of_streams_and_sockets_ends_at_the_channels_bound() {
    let (_server, address) = server(|_| Reply::Chunks {
        media_type: "text/event-stream",
        chunks: vec![b"data: x\n\n".to_vec()],
        finished: true,
        written: Box::new(|| {}),
    })
    .await;
    let rig = Rig::new().grant(&format!("http://{address}")).ample_cpu().up().await;
    for round in 0..2 {
        let reported = rig.report(&format!("streams http://{address}/")).await;
        assert_eq!(
            reported,
            format!("{} open, then HttpError::Busy", limit::HTTP_IN_FLIGHT_DEFAULT),
            "round {round}"
        );
    }
    let denied = rig.report(&format!("websockets ws://{address}/")).await;
    assert!(denied.starts_with("0 open, then NetError::Denied("), "{denied}");
    rig.survived().await;
}

/// A WebSocket server that sends to each client without end (`floods`), or waits for it to go. It counts the messages that
/// were taken from it, and the clients that are gone.
pub(crate) async fn websocket_server(floods: bool) -> (SocketAddr, Arc<AtomicUsize>, Arc<harness::Record<()>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (taken, gone) = (Arc::<AtomicUsize>::default(), Arc::<harness::Record<()>>::default());
    let (counted, noted) = (Arc::clone(&taken), Arc::clone(&gone));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (counted, noted) = (Arc::clone(&counted), Arc::clone(&noted));
            tokio::spawn(async move {
                if let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await {
                    let mebibyte = || Message::binary(vec![0; 1024 * 1024]);
                    while floods && socket.send(mebibyte()).await.is_ok() {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    while let Some(Ok(_)) = socket.next().await {}
                }
                noted.push(());
            });
        }
    });
    (address, taken, gone)
}

#[tokio::test]
async fn a_flood_of_frames_that_a_guest_does_not_read_waits_at_the_peer() {
    let (address, taken, gone) = websocket_server(true).await;
    let rig = Rig::new()
        .grant(&format!("ws://{address}"))
        .deadline(Duration::from_secs(2));
    let (rig, neighbour) = (rig.up().await, Rig::new().up().await);
    let attack = format!("deaf ws://{address}/");
    let (failure, served) = tokio::join!(rig.failure(&attack), neighbour.deliver("log_line 0"));
    assert_eq!(failure, Failure::DeadlineExceeded);
    assert!(served.result.is_ok(), "{served:?}");
    gone.wait_for_len("the connection ends with the call", 1).await;
    let taken = taken.load(Ordering::Relaxed);
    // What fits into the sockets of both ends, and one message that is being read.
    assert!((1..=16).contains(&taken), "{taken} MiB were taken from the peer");
    rig.survived().await;
    neighbour.survived().await;
}

#[tokio::test]
async fn a_storm_of_connections_leaves_none_behind() {
    let (address, _, gone) = websocket_server(false).await;
    let rig = Rig::new().grant(&format!("ws://{address}")).ample_cpu().up().await;
    assert_eq!(rig.report(&format!("reconnect ws://{address}/")).await, "300 connected");
    gone.wait_for_len("all of them end", 300).await;
    let reported = rig.report(&format!("websockets ws://{address}/")).await;
    let all = format!("{} open, then ", limit::SOCKETS_DEFAULT);
    assert!(reported.starts_with(&all), "{reported}");
    gone.wait_for_len("and those of the next call", 300 + limit::SOCKETS_DEFAULT)
        .await;
    rig.survived().await;
}
