//! WebSockets and byte streams.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::routing::any;
use bytes::Bytes;
use sluicegate::egress::{ChannelEgress, Evidence, Frame, NetError};
use sluicegate::policy::Grants;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{SECRET, Server, Setup};

const LONG: Duration = Duration::from_secs(20);

/// A WebSocket server that echoes, says what it was authorized with, and closes when told `bye`.
async fn websocket_server() -> std::net::SocketAddr {
    let echo = |headers: HeaderMap, upgrade: WebSocketUpgrade| async move {
        upgrade.on_upgrade(|mut socket| async move {
            let authorization = headers
                .get("authorization")
                .map_or("", |value| value.to_str().unwrap())
                .to_owned();
            let is_right = authorization == format!("Bot {SECRET}");
            socket
                .send(Message::text(format!("authorized: {is_right}, {authorization}")))
                .await
                .unwrap();
            while let Some(Ok(message)) = socket.recv().await {
                if matches!(&message, Message::Text(text) if text.as_str() == "bye") {
                    let frame = axum::extract::ws::CloseFrame {
                        code: 4004,
                        reason: "no more".into(),
                    };
                    socket.send(Message::Close(Some(frame))).await.ok();
                } else if !matches!(message, Message::Close(_)) {
                    let length = Message::text(format!("{} bytes", message.clone().into_data().len()));
                    if socket.send(message).await.is_err() || socket.send(length).await.is_err() {
                        return;
                    }
                }
            }
        })
    };
    let app = axum::Router::new().route("/ws", any(echo));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn channel(endpoints: &[String]) -> Arc<ChannelEgress> {
    Setup::granted(endpoints).build()
}

fn text(frame: Option<Frame>) -> String {
    match frame {
        Some(Frame::Text(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_websocket_carries_text_and_bytes_and_no_secret_back() {
    let address = websocket_server().await;
    let channel = channel(&[format!("ws://{address}")]);
    let headers = [("Authorization".to_owned(), "Bot {{token}}".to_owned())];
    let evidence = Evidence::default();
    let mut socket = channel
        .connect_websocket(&format!("ws://{address}/ws"), &headers, &evidence)
        .await
        .unwrap();
    assert_eq!(
        text(socket.receive(LONG).await.unwrap()),
        "authorized: true, Bot [redacted]"
    );
    assert_eq!(socket.receive(Duration::from_millis(20)).await.unwrap(), None);

    socket.send_text(r#"{"token":"{{token}}"}"#).await.unwrap();
    assert!(evidence.bytes_left(), "nothing came back yet");
    assert_eq!(text(socket.receive(LONG).await.unwrap()), r#"{"token":"[redacted]"}"#);
    assert!(!evidence.bytes_left(), "the peer answered");
    let filled = r#"{"token":"12345:s3cr/t+\"v\""}"#.len();
    assert_eq!(text(socket.receive(LONG).await.unwrap()), format!("{filled} bytes"));

    socket.send_binary(Bytes::from_static(&[0, 1, 2])).await.unwrap();
    assert_eq!(
        socket.receive(LONG).await.unwrap(),
        Some(Frame::Binary(Bytes::from_static(&[0, 1, 2])))
    );
    socket.receive(LONG).await.unwrap();
    socket.send_text("bye").await.unwrap();
    assert_eq!(
        socket.receive(LONG).await.unwrap(),
        Some(Frame::Closed(4004, "no more".into()))
    );
    assert_eq!(socket.receive(LONG).await.unwrap_err(), NetError::Closed);
    assert_eq!(socket.send_text("x").await.unwrap_err(), NetError::Closed);
    socket.close(1000, "twice").await;
}

#[tokio::test]
async fn a_websocket_needs_a_grant_of_its_own_at_each_use() {
    let address = websocket_server().await;
    let url = format!("ws://{address}/ws");
    let http_only = channel(&[format!("http://{address}"), format!("wss://{address}")]);
    let refused = http_only.connect_websocket(&url, &[], &Evidence::default()).await.err();
    assert!(matches!(refused, Some(NetError::Denied(_))), "{refused:?}");

    let channel = channel(&[format!("ws://{address}")]);
    let mut socket = channel
        .connect_websocket(&url, &[], &Evidence::default())
        .await
        .unwrap();
    socket.receive(LONG).await.unwrap();
    channel.set_grants(Grants::default());
    assert!(matches!(socket.send_text("x").await, Err(NetError::Denied(_))));
    assert!(matches!(socket.receive(LONG).await, Err(NetError::Denied(_))));
}

#[tokio::test]
async fn what_is_no_websocket_fails_in_words() {
    let server = Server::answering("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await;
    let address = server.address;
    let channel = channel(&[format!("ws://{address}")]);
    let error = channel
        .connect_websocket(&format!("ws://{address}/{{{{token}}}}"), &[], &Evidence::default())
        .await
        .err();
    let Some(NetError::Failed(text)) = error else {
        panic!("{error:?}")
    };
    assert!(text.contains("401") && !text.contains("12345"), "{text}");
    for name in ["Host", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Extensions"] {
        let headers = [(name.to_owned(), "x".to_owned())];
        let error = channel
            .connect_websocket(&format!("ws://{address}/"), &headers, &Evidence::default())
            .await
            .err();
        assert!(matches!(error, Some(NetError::Failed(_))), "{name}: {error:?}");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_message_beyond_its_limit_is_refused_either_way() {
    let address = websocket_server().await;
    let channel = channel(&[format!("ws://{address}")]);
    let url = format!("ws://{address}/ws");
    let mut socket = channel
        .connect_websocket(&url, &[], &Evidence::default())
        .await
        .unwrap();
    let large = Bytes::from(vec![0; 4 * 1024 * 1024 + 1]);
    assert!(matches!(socket.send_binary(large).await, Err(NetError::Failed(_))));
    assert_eq!(
        text(socket.receive(LONG).await.unwrap()),
        "authorized: false, ",
        "the socket still works"
    );

    let flood = Server::start(|mut stream| async move {
        let request = String::from_utf8(crate::support::read_request(&mut stream).await).unwrap();
        let key = request
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
            .unwrap();
        let accept = axum_accept(key);
        let head = format!(
            "HTTP/1.1 101 x\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // A binary frame that claims 100 MB.
        stream
            .write_all(&[0x82, 127, 0, 0, 0, 0, 5, 245, 225, 0])
            .await
            .unwrap();
        while stream.write_all(&[0; 4096]).await.is_ok() {}
    })
    .await;
    let channel = Setup::granted(&[format!("ws://{}", flood.address)]).build();
    let mut socket = channel
        .connect_websocket(&format!("ws://{}/", flood.address), &[], &Evidence::default())
        .await
        .unwrap();
    assert!(matches!(socket.receive(LONG).await, Err(NetError::Failed(_))));
}

fn axum_accept(key: &str) -> String {
    use base64::Engine as _;
    let joined = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, joined.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest)
}

#[tokio::test]
async fn sockets_beyond_the_limit_are_refused_until_one_is_dropped() {
    let server = Server::start(|mut stream| async move {
        stream.read_u8().await.ok();
    })
    .await;
    let mut setup = Setup::granted(&[format!("tcp://{}", server.address)]);
    setup.limits.sockets_max = 1;
    let channel = setup.build();
    let connect = || async {
        let evidence = Evidence::default();
        channel
            .connect_tcp("127.0.0.1", server.address.port(), false, &evidence)
            .await
    };
    let first = connect().await.unwrap();
    assert!(matches!(connect().await.err(), Some(NetError::Failed(_))));
    drop(first);
    connect().await.unwrap();
}

#[tokio::test]
async fn a_byte_stream_is_read_and_written_until_it_ends() {
    let server = Server::start(|mut stream| async move {
        let mut line = [0; 5];
        stream.read_exact(&mut line).await.unwrap();
        stream.write_all(&line).await.unwrap();
        stream.write_all(SECRET.as_bytes()).await.unwrap();
    })
    .await;
    let (host, port) = ("127.0.0.1", server.address.port());
    let channel = channel(&[format!("tcp://{}", server.address)]);
    let evidence = Evidence::default();
    let refused = channel.connect_tcp(host, port, true, &evidence).await.err();
    assert!(matches!(refused, Some(NetError::Denied(_))), "tcp is not tls");
    let mut stream = channel.connect_tcp(host, port, false, &evidence).await.unwrap();
    assert_eq!(stream.read(10, Duration::from_millis(20)).await.unwrap(), None);
    assert!(!evidence.bytes_left());
    stream.write(b"NICK\n").await.unwrap();
    assert!(evidence.bytes_left());
    let mut read = Vec::new();
    let end = loop {
        match stream.read(4, LONG).await {
            Ok(bytes) => read.extend_from_slice(&bytes.unwrap()),
            Err(error) => break error,
        }
    };
    assert_eq!((&read[..], end), (&b"NICK\n[redacted]"[..], NetError::Closed));
    assert!(!evidence.bytes_left());
    assert_eq!(stream.write(b"x").await.unwrap_err(), NetError::Closed);
}

/// A server that answers each line with the line itself.
async fn line_echo() -> Server {
    Server::start(|mut stream| async move {
        let mut bytes = Vec::new();
        while stream.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
            let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else {
                continue;
            };
            let lines: Vec<u8> = bytes.drain(..=end).collect();
            stream.write_all(&lines).await.unwrap();
        }
    })
    .await
}

async fn read_line(stream: &mut sluicegate::egress::TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        line.extend_from_slice(&stream.read(1, LONG).await.unwrap().unwrap());
    }
    String::from_utf8(line).unwrap()
}

#[tokio::test]
async fn a_secret_of_a_byte_stream_is_put_in_where_the_guest_composed_the_text() {
    use base64::Engine as _;
    let server = line_echo().await;
    let channel = channel(&[format!("tcp://{}", server.address)]);
    let mut stream = channel
        .connect_tcp("127.0.0.1", server.address.port(), false, &Evidence::default())
        .await
        .unwrap();
    let sent_before = channel.counters().bytes_out;
    stream.write_text("PASS {{token}}\n").await.unwrap();
    assert_eq!(read_line(&mut stream).await, "PASS [redacted]\n");
    let plain = format!("PASS {SECRET}\n").len() as u64;
    assert_eq!(channel.counters().bytes_out - sent_before, plain, "the value was sent");

    stream.write_text("AUTH {{base64:\0u\0{{token}}}}\n").await.unwrap();
    let echoed = read_line(&mut stream).await;
    assert!(echoed.contains("[redacted]"), "{echoed}");
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("\0u\0{SECRET}"));
    let sent = channel.counters().bytes_out - sent_before - plain;
    assert_eq!(sent, format!("AUTH {encoded}\n").len() as u64);

    stream.write(b"a person wrote {{token}}\n").await.unwrap();
    assert_eq!(read_line(&mut stream).await, "a person wrote {{token}}\n");
    assert!(matches!(
        stream.write_text("{{other}}\n").await,
        Err(NetError::Denied(_))
    ));
    assert!(matches!(
        stream.write_text("{{to ken}}\n").await,
        Err(NetError::Failed(_))
    ));
    stream.write_text("still open\n").await.unwrap();
    assert_eq!(read_line(&mut stream).await, "still open\n");
}

#[tokio::test]
async fn a_secret_goes_in_the_clear_only_to_a_host_that_was_granted_by_its_name() {
    let server = line_echo().await;
    let port = server.address.port();
    let channel = |granted: &str| {
        let mut setup = Setup::granted(&[format!("tcp://irc.test.example:{port}")]);
        setup.granted = vec![crate::support::private_grant(&format!("tcp://{granted}:{port}"))];
        setup.gate.resolver = crate::support::Scripted::new(&[("irc.test.example", &[&["127.0.0.1"]])]);
        setup.build()
    };
    let connect = async |granted: &str| {
        let evidence = Evidence::default();
        let channel = channel(granted);
        channel
            .connect_tcp("irc.test.example", port, false, &evidence)
            .await
            .unwrap()
    };
    let mut suffix = connect("*.test.example").await;
    let refused = suffix.write_text("PASS {{token}}\n").await.unwrap_err();
    assert!(
        matches!(&refused, NetError::Denied(text) if text.contains("in the clear")),
        "{refused}"
    );
    suffix.write_text("NICK bot\n").await.unwrap();
    assert_eq!(
        read_line(&mut suffix).await,
        "NICK bot\n",
        "nothing of the refused text came before"
    );
    let mut named = connect("irc.test.example").await;
    named.write_text("PASS {{token}}\n").await.unwrap();
    assert_eq!(read_line(&mut named).await, "PASS [redacted]\n");
}

#[tokio::test]
async fn a_secret_may_stand_in_a_byte_stream_only_where_that_is_its_place() {
    let server = line_echo().await;
    let endpoint = format!("tcp://{}", server.address);
    let mut elsewhere = Setup::granted(std::slice::from_ref(&endpoint));
    elsewhere.placements.tcp_text = false;
    let mut other_host = Setup::granted(&[endpoint]);
    other_host.hosts = vec!["*.test.example"];
    for setup in [elsewhere, other_host] {
        let channel = setup.build();
        let mut stream = channel
            .connect_tcp("127.0.0.1", server.address.port(), false, &Evidence::default())
            .await
            .unwrap();
        for text in ["PASS {{token}}\n", "AUTH {{base64:{{token}}}}\n"] {
            assert!(
                matches!(stream.write_text(text).await, Err(NetError::Denied(_))),
                "{text}"
            );
        }
        stream.write(b"NICK\n").await.unwrap();
        assert_eq!(read_line(&mut stream).await, "NICK\n");
    }
}
