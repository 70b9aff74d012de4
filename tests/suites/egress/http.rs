//! What an ordinary exchange looks like on both sides.

use bytes::Bytes;
use sluicegate::egress::{Body, Evidence, FormPart, HttpError};

use crate::support::{Server, channel_to, get, post, request, with_header};

async fn echoed(request: sluicegate::egress::Request, channel: &sluicegate::egress::ChannelEgress) -> String {
    let response = channel.send(request, &Evidence::default()).await.unwrap();
    assert_eq!(response.status, 200);
    String::from_utf8(response.body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_request_arrives_as_the_guest_wrote_it() {
    let server = Server::echoing().await;
    let sent = with_header(post(server.url("/a/b?c=d#e"), "hello"), "X-Custom", "value");
    let seen = echoed(sent, &channel_to(&server)).await;
    assert!(seen.starts_with("POST /a/b?c=d HTTP/1.1\r\n"), "{seen}");
    assert!(
        seen.contains("\r\nx-custom: value\r\n") && seen.ends_with("\r\n\r\nhello"),
        "{seen}"
    );
    assert!(
        seen.contains("\r\naccept-encoding: identity\r\n") && seen.contains("\r\nuser-agent: sluicegate/"),
        "{seen}"
    );
    assert!(seen.contains(&format!("\r\nhost: {}\r\n", server.address)), "{seen}");
    for absent in ["referer", "cookie", "proxy", "authorization"] {
        assert!(!seen.contains(absent), "{absent} in {seen}");
    }
}

#[tokio::test]
async fn a_form_is_framed_with_its_length() {
    let server = Server::echoing().await;
    let part = |name: &str, file: Option<&str>, data: &'static [u8]| FormPart {
        name: name.into(),
        file_name: file.map(Into::into),
        media_type: file.map(|_| "text/plain".into()),
        data: Bytes::from_static(data),
    };
    let parts = vec![
        part("chat_id", None, b"42"),
        part("document", Some("a\"b.txt"), b"file\r\n--x"),
        part("empty", None, b""),
    ];
    let seen = echoed(
        sluicegate::egress::Request {
            body: Body::Multipart(parts),
            ..request("POST", server.url("/"))
        },
        &channel_to(&server),
    )
    .await;
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    let boundary = head.split("boundary=").nth(1).unwrap().lines().next().unwrap();
    let expected = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"chat_id\"\r\n\r\n42\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"document\"; filename=\"a%22b.txt\"\r\nContent-Type: text/plain\r\n\r\nfile\r\n--x\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"empty\"\r\n\r\n\r\n--{boundary}--\r\n"
    );
    assert_eq!(body, expected);
    assert!(
        head.contains(&format!("content-length: {}", expected.len())) && !head.contains("chunked"),
        "{head}"
    );
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request() {
    let server = Server::echoing().await;
    let channel = channel_to(&server);
    for _ in 0..5 {
        echoed(get(server.url("/")), &channel).await;
    }
    assert_eq!(server.connections(), 1);
    let counters = channel.counters();
    assert_eq!(counters.requests, 5);
    assert!(
        counters.bytes_out > 0 && counters.bytes_in > counters.bytes_out,
        "{counters:?}"
    );
}

#[tokio::test]
async fn a_redirect_goes_back_to_the_guest() {
    let target = Server::echoing().await;
    let location = target.url("/elsewhere");
    let server = Server::answering(format!(
        "HTTP/1.1 307 x\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
    ))
    .await;
    let response = channel_to(&server)
        .send(post(server.url("/"), "x"), &Evidence::default())
        .await
        .unwrap();
    assert_eq!(response.status, 307);
    assert!(response.headers.contains(&("location".into(), location)));
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let server = Server::answering(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nconnection: close\r\nkeep-alive: x\r\n\r\nbody",
    )
    .await;
    let response = channel_to(&server)
        .send(get(server.url("/")), &Evidence::default())
        .await
        .unwrap();
    assert_eq!(
        (response.status, &response.body[..], response.headers),
        (200, &b"body"[..], vec![])
    );
}

#[tokio::test]
async fn what_nobody_may_send_is_refused_before_anything_leaves() {
    let server = Server::echoing().await;
    let channel = channel_to(&server);
    let url = server.url("/");
    for wrong in [
        request("get", url.as_str()),
        request("CONNECT", url.as_str()),
        request("GET /x HTTP/1.1\r\nX: y\r\n\r\nGET", url.as_str()),
        get(format!("http://user@{}/", server.address)),
        get(format!("http://{}/a\r\nX: y", server.address)),
        get(format!("{url}{}", "x".repeat(9000))),
        get("/relative"),
        get("ftp://127.0.0.1/"),
        with_header(get(url.as_str()), "Host", "evil.example"),
        with_header(post(url.as_str(), "x"), "Content-Length", "0"),
        with_header(post(url.as_str(), "x"), "Transfer-Encoding", "chunked"),
        with_header(get(url.as_str()), "X-A", "b\r\nX-C: d"),
        with_header(get(url.as_str()), "X A", "b"),
        with_header(
            with_header(get(url.as_str()), "Authorization", "a"),
            "authorization",
            "b",
        ),
    ] {
        let shown = format!("{wrong:?}");
        let evidence = Evidence::default();
        let error = channel.send(wrong, &evidence).await.unwrap_err();
        assert!(matches!(error, HttpError::Invalid(_)), "{shown}: {error:?}");
        assert!(!evidence.bytes_left());
    }
    assert_eq!((server.connections(), channel.counters().invalid), (0, 14));
}
