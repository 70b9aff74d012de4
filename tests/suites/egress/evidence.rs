//! Whether bytes may have left is told from what the host saw, for every way in which an exchange ends.

use std::time::Duration;

use sluicegate::egress::{Evidence, HttpError};
use tokio::io::AsyncWriteExt as _;

use crate::support::{Server, Setup, channel_to, get, post, read_request, request};

#[tokio::test]
async fn a_complete_answer_of_any_status_settles() {
    for status in [200, 204, 302, 400, 429, 500] {
        let server = Server::answering(format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n")).await;
        let evidence = Evidence::default();
        let response = channel_to(&server)
            .send(post(server.url("/"), "x"), &evidence)
            .await
            .unwrap();
        assert_eq!((response.status, evidence.bytes_left()), (status, false));
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_leaves_a_change_open_but_not_a_question() {
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        "garbage\r\n\r\n",
    ] {
        let server = Server::answering(answer).await;
        for (request, left) in [
            (post(server.url("/"), "x"), true),
            (request("DELETE", server.url("/")), true),
            (get(server.url("/")), false),
            (request("HEAD", server.url("/")), false),
        ] {
            let is_head = request.method == "HEAD";
            let evidence = Evidence::default();
            let result = channel_to(&server).send(request, &evidence).await;
            let complete = is_head && answer.contains("\r\n\r\n") && answer.starts_with("HTTP");
            assert!(
                complete || matches!(result, Err(HttpError::Interrupted(_))),
                "{answer:?}: {result:?}"
            );
            assert_eq!(evidence.bytes_left(), left, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_leaves_the_change_of_an_attempt_open() {
    let attempt = || Evidence::marked_by(|| std::future::ready(Ok(())));
    let long = "x".repeat(2000);
    for answer in [
        format!("HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n{long}"),
        format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{long}"),
        format!(
            "HTTP/1.1 200 OK\r\nx-a: {}\r\ncontent-length: 0\r\n\r\n",
            long.repeat(40)
        ),
    ] {
        let server = Server::answering(answer.clone()).await;
        let mut setup = Setup::granted(&[format!("http://{}", server.address)]);
        setup.limits.response_body_bytes_max = 1000;
        let channel = setup.build();
        let evidence = attempt();
        // A guest takes "too large" for a message that can't be sent, and this one may have been.
        let error = channel.send(post(server.url("/"), "x"), &evidence).await.unwrap_err();
        let told = matches!(&error, HttpError::Interrupted(text) if text.contains("answered with"));
        assert!(told && evidence.bytes_left(), "{error:?}");
        for (request, evidence) in [
            (get(server.url("/")), attempt()),
            (post(server.url("/"), "x"), Evidence::default()),
        ] {
            let error = channel.send(request, &evidence).await.unwrap_err();
            assert_eq!(error, HttpError::TooLarge, "who asks again can ask for less");
        }
    }
}

#[tokio::test]
async fn what_was_never_sent_leaves_nothing_open() {
    let address = {
        let gone = Server::echoing().await;
        gone.address
    };
    let channel = Setup::granted(&[format!("http://{address}"), "http://no-such-name.invalid".into()]).build();
    for url in [format!("http://{address}/"), "http://no-such-name.invalid/".into()] {
        let evidence = Evidence::default();
        let error = channel.send(post(url, "x"), &evidence).await.unwrap_err();
        assert!(matches!(error, HttpError::Unreachable(_)), "{error:?}");
        assert!(!evidence.bytes_left());
    }
    assert_eq!(channel.counters().unreachable, 2);
}

#[tokio::test]
async fn a_deadline_or_a_trap_in_flight_keeps_the_request_open() {
    let (arrived_tx, mut arrived_rx) = tokio::sync::mpsc::channel(1);
    let server = Server::start(move |mut stream| {
        let arrived_tx = arrived_tx.clone();
        async move {
            read_request(&mut stream).await;
            arrived_tx.send(()).await.unwrap();
            std::future::pending::<()>().await;
        }
    })
    .await;
    let channel = channel_to(&server);
    let dropped = Evidence::default();
    tokio::select! {
        result = channel.send(post(server.url("/"), "x"), &dropped) => panic!("{result:?}"),
        arrived = arrived_rx.recv() => arrived.unwrap(),
    }
    assert!(dropped.bytes_left());

    let timed_out = Evidence::default();
    let mut request = post(server.url("/"), "x");
    request.timeout = Some(Duration::from_millis(200));
    let error = channel.send(request, &timed_out).await.unwrap_err();
    assert!(matches!(error, HttpError::Interrupted(_)) && timed_out.bytes_left());
}

#[tokio::test]
async fn one_open_request_is_not_closed_by_the_answer_to_another() {
    let broken = Server::answering("").await;
    let whole = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let channel = Setup::granted(&[
        format!("http://{}", broken.address),
        format!("http://{}", whole.address),
    ])
    .build();
    let evidence = Evidence::default();
    channel.send(post(broken.url("/"), "x"), &evidence).await.unwrap_err();
    channel.send(post(whole.url("/"), "x"), &evidence).await.unwrap();
    assert!(evidence.bytes_left());
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_meanwhile_is_replaced_unnoticed() {
    let server = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
    })
    .await;
    let channel = channel_to(&server);
    for _ in 0..3 {
        // The server closes after each answer without having said so; a request may meet the closing connection.
        let evidence = Evidence::default();
        match channel.send(get(server.url("/")), &evidence).await {
            Ok(response) => assert_eq!(response.status, 200),
            Err(error) => assert!(matches!(error, HttpError::Interrupted(_)), "{error:?}"),
        }
        assert!(!evidence.bytes_left());
    }
}
