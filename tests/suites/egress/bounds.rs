//! Peers that send too much, too slowly or forever, and guests that ask for too much at once.

use std::time::Duration;

use sluicegate::egress::{ChannelSettings, EgressLimits, Evidence, HttpError};
use tokio::io::AsyncWriteExt as _;

use crate::support::{Server, Setup, channel_to, get, post, read_request, with_header};

fn small(server: &Server) -> Setup {
    let mut setup = Setup::granted(&[format!("http://{}", server.address)]);
    setup.limits = EgressLimits {
        response_body_bytes_max: 1000,
        ..EgressLimits::default()
    };
    setup
}

/// A server that sends this head and then these bytes for as long as anyone reads.
async fn endless(head: &'static str, piece: &'static [u8]) -> Server {
    Server::start(move |mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(head.as_bytes()).await.ok();
        while stream.write_all(piece).await.is_ok() {}
    })
    .await
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit() {
    let server = Server::answering(format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{}",
        "x".repeat(1000)
    ))
    .await;
    let response = small(&server)
        .build()
        .send(get(server.url("/")), &Evidence::default())
        .await
        .unwrap();
    assert_eq!(response.body.len(), 1000);
}

#[tokio::test]
async fn a_body_beyond_its_limit_is_cut_off() {
    let one_gib = "HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let until_closed = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    for (head, piece) in [
        (one_gib, &b"x"[..]),
        (chunked, b"4\r\nxxxx\r\n"),
        (until_closed, b"xxxx"),
    ] {
        let server = endless(head, piece).await;
        let result = small(&server)
            .build()
            .send(get(server.url("/")), &Evidence::default())
            .await;
        assert_eq!(result.unwrap_err(), HttpError::TooLarge, "{head}");
    }
}

#[tokio::test]
async fn headers_without_end_are_cut_off() {
    let fields = endless("HTTP/1.1 200 OK\r\n", b"x-a: b\r\n").await;
    let one_field = endless(
        "HTTP/1.1 200 OK\r\nx-a: ",
        b"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    )
    .await;
    let large = Server::answering(format!("HTTP/1.1 200 OK\r\nx-a: {}\r\n\r\n", "b".repeat(70_000))).await;
    for server in [&fields, &one_field, &large] {
        let error = channel_to(server)
            .send(get(server.url("/")), &Evidence::default())
            .await
            .unwrap_err();
        assert!(
            matches!(error, HttpError::Interrupted(_) | HttpError::TooLarge),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_peer_that_drips_or_stalls_is_given_up_in_time() {
    let silent = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let interim = endless("", b"HTTP/1.1 103 x\r\n\r\n").await;
    let stalled = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx")
            .await
            .unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    for server in [&silent, &interim, &stalled] {
        let mut request = get(server.url("/"));
        request.timeout = Some(Duration::from_millis(200));
        let error = channel_to(server)
            .send(request, &Evidence::default())
            .await
            .unwrap_err();
        assert!(
            matches!(&error, HttpError::Interrupted(text) if text.contains("within 200 ms")),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_timeout_beyond_the_limit_is_clamped() {
    let server = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let mut setup = small(&server);
    setup.limits.timeout_max = Duration::from_millis(100);
    let mut request = get(server.url("/"));
    request.timeout = Some(Duration::MAX);
    let error = setup.build().send(request, &Evidence::default()).await.unwrap_err();
    assert!(
        matches!(&error, HttpError::Interrupted(text) if text.contains("within 100 ms")),
        "{error:?}"
    );
    let mut request = get(server.url("/"));
    request.timeout = Some(Duration::ZERO);
    assert!(channel_to(&server).send(request, &Evidence::default()).await.is_err());
}

#[tokio::test]
async fn a_request_beyond_its_limits_is_not_sent() {
    let server = Server::echoing().await;
    let mut setup = small(&server);
    setup.limits.request_body_bytes_max = 10;
    let channel = setup.build();
    let many = (0..101).fold(get(server.url("/")), |request, n| {
        with_header(request, &format!("x-{n}"), "v")
    });
    let large = with_header(get(server.url("/")), "x", &"v".repeat(70_000));
    for request in [post(server.url("/"), "12345678901"), many, large] {
        assert_eq!(
            channel.send(request, &Evidence::default()).await.unwrap_err(),
            HttpError::TooLarge
        );
    }
    assert_eq!((server.connections(), channel.counters().too_large), (0, 3));
}

#[tokio::test]
async fn requests_beyond_the_limit_in_flight_wait_and_are_refused_in_time() {
    let (arrived_tx, mut arrived_rx) = tokio::sync::mpsc::channel(1);
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    let gate = std::sync::Arc::clone(&go);
    let server = Server::start(move |mut stream| {
        let (arrived_tx, gate) = (arrived_tx.clone(), std::sync::Arc::clone(&gate));
        async move {
            read_request(&mut stream).await;
            arrived_tx.send(()).await.unwrap();
            gate.notified().await;
            stream
                .write_all(b"HTTP/1.1 204 x\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
        }
    })
    .await;
    let waiting_at_most = |place_wait_max| {
        let mut setup = small(&server);
        setup.limits.in_flight_max = 1;
        setup.limits.place_wait_max = place_wait_max;
        setup.build()
    };
    let impatient = waiting_at_most(Duration::from_millis(50));
    let send = |channel: &std::sync::Arc<sluicegate::egress::ChannelEgress>| {
        let (channel, request, evidence) = (channel.clone(), post(server.url("/"), "x"), Evidence::default());
        tokio::spawn(async move {
            let sent = channel.send(request, &evidence).await;
            (
                sent.map(|answer| answer.status),
                evidence.is_unplaced(),
                evidence.bytes_left(),
            )
        })
    };
    let first = send(&impatient);
    arrived_rx.recv().await.unwrap();
    assert_eq!(
        send(&impatient).await.unwrap(),
        (Err(HttpError::Busy), true, false),
        "none became free in time"
    );
    go.notify_one();
    assert_eq!(first.await.unwrap(), (Ok(204), false, false));

    let patient = waiting_at_most(sluicegate::limit::HTTP_PLACE_WAIT_MAX);
    let (first, second) = (send(&patient), send(&patient));
    for _ in 0..2 {
        arrived_rx.recv().await.unwrap();
        go.notify_one();
    }
    assert_eq!(first.await.unwrap(), (Ok(204), false, false));
    assert_eq!(second.await.unwrap(), (Ok(204), false, false));
}

#[tokio::test]
async fn a_channel_that_used_up_its_bytes_waits_for_the_next_minute() {
    let server = Server::echoing().await;
    let mut setup = Setup::granted(&[format!("http://{}", server.address)]);
    setup.limits.bytes_per_minute_max = 2000;
    let channel = setup.build();
    channel
        .send(post(server.url("/"), &"x".repeat(2000)), &Evidence::default())
        .await
        .unwrap();
    let evidence = Evidence::default();
    assert_eq!(
        channel.send(post(server.url("/"), "x"), &evidence).await.unwrap_err(),
        HttpError::Busy
    );
    assert!(!evidence.bytes_left());
}

#[tokio::test]
async fn shutting_down_ends_what_waits() {
    let server = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let settings = ChannelSettings::default();
    let shutdown = settings.shutdown.clone();
    let grants = small(&server).build().grants();
    let gate = std::sync::Arc::new(sluicegate::egress::Gate::new(sluicegate::egress::GateSettings::default()).unwrap());
    let channel = sluicegate::egress::ChannelEgress::new(
        gate,
        ChannelSettings {
            grants: (*grants).clone(),
            ..settings
        },
    );
    let evidence = Evidence::default();
    let (result, ()) = tokio::join!(channel.send(post(server.url("/"), "x"), &evidence), async {
        while server.connections() == 0 {
            tokio::task::yield_now().await;
        }
        shutdown.cancel();
    });
    assert_eq!(result.unwrap_err(), HttpError::ShuttingDown);
    assert!(evidence.bytes_left());
}
