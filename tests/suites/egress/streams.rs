//! Responses that are read as they come.

use std::time::Duration;

use sluicegate::egress::{Evidence, HttpError};
use sluicegate::policy::Grants;
use tokio::io::AsyncWriteExt as _;

use crate::support::{SECRET, Server, channel_to, get, post, read_request};

const LONG: Duration = Duration::from_secs(20);
const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

/// A server that sends one piece each time it is told to, and closes at the end of the pieces.
async fn told(pieces: Vec<String>) -> (Server, tokio::sync::mpsc::Sender<()>) {
    let (go_tx, go_rx) = tokio::sync::mpsc::channel::<()>(16);
    let state = std::sync::Arc::new((tokio::sync::Mutex::new(go_rx), pieces));
    let server = Server::start(move |mut stream| {
        let state = std::sync::Arc::clone(&state);
        async move {
            read_request(&mut stream).await;
            stream.write_all(HEAD.as_bytes()).await.unwrap();
            for piece in &state.1 {
                if state.0.lock().await.recv().await.is_none() {
                    return;
                }
                stream.write_all(piece.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    (server, go_tx)
}

#[tokio::test]
async fn each_piece_comes_when_it_was_sent() {
    let (server, go) = told(vec!["data: one\n\n".into(), "data: two\n\n".into()]).await;
    let mut stream = channel_to(&server)
        .open_stream(get(server.url("/")), &Evidence::default())
        .await
        .unwrap();
    assert_eq!(stream.status(), 200);
    assert_eq!(
        stream.headers(),
        [("content-type".to_owned(), "text/event-stream".to_owned())]
    );
    assert_eq!(stream.read(1000, Duration::from_millis(50)).await.unwrap(), None);
    go.send(()).await.unwrap();
    assert_eq!(stream.read(6, LONG).await.unwrap().unwrap(), "data: ");
    assert_eq!(stream.read(1000, LONG).await.unwrap().unwrap(), "one\n\n");
    go.send(()).await.unwrap();
    assert_eq!(stream.read(1000, LONG).await.unwrap().unwrap(), "data: two\n\n");
    for _ in 0..2 {
        assert_eq!(
            stream.read(1000, LONG).await.unwrap().unwrap(),
            "",
            "the end stays the end"
        );
    }
}

#[tokio::test]
async fn a_secret_that_comes_in_two_pieces_is_redacted() {
    let (first, second) = SECRET.split_at(7);
    let (server, go) = told(vec![format!("data: {first}"), format!("{second}\n\n")]).await;
    let mut stream = channel_to(&server)
        .open_stream(get(server.url("/")), &Evidence::default())
        .await
        .unwrap();
    go.send(()).await.unwrap();
    assert_eq!(stream.read(1000, LONG).await.unwrap().unwrap(), "data: ");
    go.send(()).await.unwrap();
    assert_eq!(stream.read(1000, LONG).await.unwrap().unwrap(), "[redacted]\n\n");
}

#[tokio::test]
async fn a_revoked_grant_ends_an_open_stream() {
    let (server, go) = told(vec!["x".into()]).await;
    let channel = channel_to(&server);
    let mut stream = channel
        .open_stream(get(server.url("/")), &Evidence::default())
        .await
        .unwrap();
    go.send(()).await.unwrap();
    channel.set_grants(Grants::default());
    assert!(matches!(stream.read(1000, LONG).await, Err(HttpError::Denied(_))));
}

#[tokio::test]
async fn a_request_is_open_until_its_stream_has_ended() {
    let (server, go) = told(vec!["x".into()]).await;
    let evidence = Evidence::default();
    let mut stream = channel_to(&server)
        .open_stream(post(server.url("/"), "x"), &evidence)
        .await
        .unwrap();
    assert!(evidence.bytes_left());
    go.send(()).await.unwrap();
    while !stream.read(1000, LONG).await.unwrap().unwrap().is_empty() {}
    assert!(!evidence.bytes_left());
}

#[tokio::test]
async fn a_stream_that_breaks_off_says_so() {
    let server = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc").await;
    let mut stream = channel_to(&server)
        .open_stream(get(server.url("/")), &Evidence::default())
        .await
        .unwrap();
    assert_eq!(stream.read(1000, LONG).await.unwrap().unwrap(), "abc");
    assert!(matches!(stream.read(1000, LONG).await, Err(HttpError::Interrupted(_))));
}
