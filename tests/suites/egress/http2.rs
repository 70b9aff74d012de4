//! HTTP/2, where the requests of several channels to one server share a connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sluicegate::egress::{Evidence, Gate, Request};
use tokio::net::TcpStream;

use crate::support::{Server, get};
use crate::tls::Authority;

const NAME: &str = "api.test.example";
const LARGE_BYTES: usize = 8 * 1024 * 1024;

/// A server that speaks HTTP/2 only, and answers `/large` with more than any window holds.
async fn server(authority: &Authority) -> Server {
    let acceptor = authority.acceptor.clone();
    Server::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream).await;
            }
        }
    })
    .await
}

async fn answer(stream: tokio_rustls::server::TlsStream<TcpStream>) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let body = match request.uri().path() {
            "/large" => Bytes::from(vec![b'x'; LARGE_BYTES]),
            _ => Bytes::from_static(b"small"),
        };
        let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
        stream.send_data(body, true).unwrap();
    }
}

#[tokio::test]
async fn answers_that_one_channel_does_not_read_hold_up_no_other_on_the_same_connection() {
    let authority = Authority::speaking(&[b"h2"]);
    let server = server(&authority).await;
    let setup = || authority.setup(NAME, &server, true);
    let gate = Arc::new(Gate::new(setup().gate).unwrap());
    let (deaf, neighbour) = (setup().build_on(&gate), setup().build_on(&gate));
    let url = |path| format!("https://{NAME}:{}{path}", server.address.port());
    let evidence = Evidence::default();
    let mut unread = Vec::new();
    for _ in 0..sluicegate::limit::HTTP_IN_FLIGHT_DEFAULT {
        unread.push(deaf.open_stream(get(url("/large")), &evidence).await.unwrap());
        let small = Request {
            timeout: Some(Duration::from_secs(5)),
            ..get(url("/small"))
        };
        let answer = neighbour.send(small, &evidence).await;
        assert_eq!(answer.unwrap().body, "small", "beside {} unread answers", unread.len());
    }
    assert_eq!(server.connections(), 1, "they share a connection");
    let mut first = unread.swap_remove(0);
    let mut read = 0;
    while read < LARGE_BYTES {
        let piece = first.read(u32::MAX, Duration::from_secs(20)).await.unwrap();
        read += piece.expect("in time").len();
    }
}
