//! An attempt is marked before its first byte leaves, and not before there is a connection for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::Record;
use sluicegate::egress::{Evidence, HttpError};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::{Server, Setup, channel_to, get, post, read_request};
use crate::tls::Authority;

/// What happened, in order: `marked`, or the method of a request that arrived.
type Order = Arc<Record<String>>;

fn marking(order: &Order) -> Evidence {
    let order = Arc::clone(order);
    Evidence::marked_by(move || {
        order.push("marked".to_owned());
        std::future::ready(Ok(()))
    })
}

fn refusing() -> Evidence {
    Evidence::marked_by(|| std::future::ready(Err("the disk is full".to_owned())))
}

/// Answers every request of a connection, and writes its method down.
async fn answer_all<S>(mut stream: S, order: Order)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        let request = read_request(&mut stream).await;
        let Some(method) = request
            .split(|byte| *byte == b' ')
            .next()
            .filter(|method| !method.is_empty())
        else {
            return;
        };
        order.push(String::from_utf8_lossy(method).into_owned());
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

async fn server(order: &Order) -> Server {
    let order = Arc::clone(order);
    Server::start(move |stream: TcpStream| answer_all(stream, Arc::clone(&order))).await
}

#[tokio::test]
async fn an_attempt_is_marked_once_and_before_its_bytes_on_a_new_connection_and_on_a_kept_one() {
    let order = Order::default();
    let server = server(&order).await;
    let channel = channel_to(&server);
    for _attempt in 0..2 {
        let evidence = marking(&order);
        channel.send(get(server.url("/")), &evidence).await.unwrap();
        for _request in 0..2 {
            channel.send(post(server.url("/"), "x"), &evidence).await.unwrap();
        }
    }
    let attempt = ["GET", "marked", "POST", "POST"];
    assert_eq!(order.all(), [attempt, attempt].concat());
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn nothing_leaves_of_an_attempt_that_cannot_be_marked() {
    let order = Order::default();
    let server = server(&order).await;
    let channel = channel_to(&server);
    for _ in ["no connection yet", "one that is kept"] {
        let evidence = refusing();
        let refused = channel.send(post(server.url("/"), "x"), &evidence).await;
        assert!(
            matches!(&refused, Err(HttpError::Unreachable(why)) if why.contains("the disk is full")),
            "{refused:?}"
        );
        assert!(!evidence.anything_left());
        channel.send(get(server.url("/")), &Evidence::default()).await.unwrap();
    }
    assert_eq!(order.all(), ["GET", "GET"]);
}

#[tokio::test]
async fn a_deadline_before_there_is_a_connection_leaves_nothing_open() {
    let mute = Server::start(|stream| async move {
        let _kept = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let order = Order::default();
    let channel = Setup::granted(&[format!("https://{}", mute.address)]).build();
    let evidence = marking(&order);
    let mut request = post(format!("https://{}/", mute.address), "x");
    request.timeout = Some(Duration::from_millis(300));
    let error = channel.send(request, &evidence).await.unwrap_err();
    assert!(matches!(error, HttpError::Interrupted(_)), "{error:?}");
    assert_eq!(mute.connections(), 1);
    assert!(!evidence.anything_left() && order.is_empty());
}

/// The attempt's own connection gets stuck in TLS; another request's is made meanwhile, and comes back to the pool.
#[tokio::test]
async fn an_attempt_that_gets_the_connection_of_another_request_is_marked_before_that_is_used() {
    let authority = Authority::new();
    let order = Order::default();
    let (acceptor, seen, connections) = (
        authority.acceptor.clone(),
        Arc::clone(&order),
        Arc::new(AtomicUsize::new(0)),
    );
    let server = Server::start(move |stream| {
        let (acceptor, order) = (acceptor.clone(), Arc::clone(&seen));
        let number = connections.fetch_add(1, Ordering::SeqCst);
        async move {
            if number == 0 {
                order.push("stuck".to_owned());
                let _kept = stream;
                std::future::pending::<()>().await;
            } else if let Ok(stream) = acceptor.accept(stream).await {
                answer_all(stream, order).await;
            }
        }
    })
    .await;
    let channel = authority.channel("api.test.example", &server, true);
    let url = format!("https://api.test.example:{}/", server.address.port());
    let evidence = marking(&order);
    let stuck = channel.send(post(&url, "x"), &evidence);
    let other = async {
        order.wait_for_len("the first connection", 1).await;
        channel.send(get(&url), &Evidence::default()).await
    };
    let (stuck, other) = tokio::join!(stuck, other);
    assert_eq!((stuck.unwrap().status, other.unwrap().status), (200, 200));
    let order = order.all();
    let at = |what: &str| order.iter().position(|one| one == what);
    assert!(at("marked").is_some() && at("marked") < at("POST"), "{order:?}");
    assert_eq!(order.len(), 4, "{order:?}");
}
