//! Secrets: filled in on the way out, for their hosts and places only, and taken out on the way back.

use base64::Engine as _;
use sluicegate::egress::{Evidence, HttpError};
use sluicegate::secret::Placements;

use crate::support::{ALL_PLACES, SECRET, Server, Setup, assert_silent, channel_to, get, post, with_header};

/// A server that answers with the bytes of `answer`, whatever it is asked.
async fn response_of(body: &str, headers: &str) -> sluicegate::egress::Response {
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    let server = Server::answering(answer).await;
    channel_to(&server)
        .send(get(server.url("/")), &Evidence::default())
        .await
        .unwrap()
}

#[tokio::test]
async fn the_server_gets_the_secret_and_the_guest_does_not() {
    let (seen_tx, mut seen_rx) = tokio::sync::mpsc::channel(4);
    let server = Server::start(move |mut stream| {
        let seen_tx = seen_tx.clone();
        async move {
            let request = crate::support::read_request(&mut stream).await;
            seen_tx.send(String::from_utf8(request).unwrap()).await.unwrap();
            let body = format!("you sent {SECRET}");
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes())
                .await
                .unwrap();
        }
    })
    .await;
    let sent = post(
        server.url("/bot{{token}}/send?t={{token}}"),
        r#"{"token":"{{token}}","text":"say {{token}}, {{x}}"}"#,
    );
    let sent = with_header(
        with_header(sent, "Authorization", "Bot {{token}}"),
        "Content-Type",
        "application/json; charset=utf-8",
    );
    let response = channel_to(&server).send(sent, &Evidence::default()).await.unwrap();
    assert_eq!(&response.body[..], b"you sent [redacted]");
    assert!(
        !response.headers.iter().any(|(name, _)| name == "content-length"),
        "it would no longer be true"
    );

    let seen = seen_rx.recv().await.unwrap();
    assert!(
        seen.starts_with("POST /bot12345:s3cr%2Ft+%22v%22/send?t=12345%3As3cr%2Ft%2B%22v%22 HTTP/1.1\r\n"),
        "{seen}"
    );
    assert!(seen.contains(&format!("\r\nauthorization: Bot {SECRET}\r\n")), "{seen}");
    assert!(
        seen.ends_with(r#"{"token":"12345:s3cr/t+\"v\"","text":"say {{token}}, {{x}}"}"#),
        "{seen}"
    );
}

#[tokio::test]
async fn an_echo_is_redacted_in_every_encoding() {
    let base64 = base64::engine::general_purpose::STANDARD;
    for echoed in [
        SECRET.to_owned(),
        serde_json::json!({ "url": SECRET }).to_string(),
        SECRET.replace('/', "%2F").replace('+', "%2b").replace('"', "%22"),
        base64.encode(SECRET),
        base64.encode(format!("user:{SECRET}")),
        base64.encode(format!("{SECRET}:{SECRET}")),
        sluicegate::id::hex(SECRET.as_bytes()),
    ] {
        let response = response_of(&format!("before {echoed} after"), "").await;
        let body = String::from_utf8(response.body.to_vec()).unwrap();
        assert!(
            body.starts_with("before ") && body.ends_with(" after") && body.contains("[redacted]"),
            "{body}"
        );
        assert_silent(&body);
    }
}

#[tokio::test]
async fn headers_are_redacted_and_so_is_where_a_redirect_leads() {
    let headers = format!("location: https://x.example/bot{SECRET}/\r\nx-request: /bot12345:s3cr%2Ft+%22v%22/\r\n");
    let response = response_of("", &headers).await;
    for (name, value) in &response.headers {
        assert_silent(value);
        assert!(
            name == "content-length" || value.contains("[redacted]"),
            "{name}: {value}"
        );
    }
}

#[tokio::test]
async fn a_header_with_a_secret_in_its_name_is_left_out() {
    let headers = format!(
        "x-key-{}: yes\r\nx-other: yes\r\n",
        sluicegate::id::hex(SECRET.as_bytes())
    );
    let response = response_of("", &headers).await;
    let names: Vec<_> = response.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["content-length", "x-other"]);
}

#[tokio::test]
async fn a_secret_goes_only_to_its_hosts_and_places() {
    let server = Server::echoing().await;
    let grant = [format!("http://{}", server.address)];
    let none = Placements::default();
    for (hosts, placements, request) in [
        (vec!["other.example"], ALL_PLACES, get(server.url("/{{token}}"))),
        (vec![], ALL_PLACES, get(server.url("/{{token}}"))),
        (vec!["127.0.0.1"], none, get(server.url("/{{token}}"))),
        (
            vec!["127.0.0.1"],
            Placements { url_path: true, ..none },
            get(server.url("/?{{token}}")),
        ),
        (
            vec!["127.0.0.1"],
            Placements {
                url_query: true,
                ..none
            },
            get(server.url("/{{token}}?")),
        ),
        (
            vec!["127.0.0.1"],
            Placements { url_path: true, ..none },
            with_header(get(server.url("/")), "X", "{{token}}"),
        ),
        (vec!["127.0.0.1"], ALL_PLACES, get(server.url("/{{other}}"))),
    ] {
        let mut setup = Setup::granted(&grant);
        (setup.hosts, setup.placements) = (hosts, placements);
        let shown = format!("{request:?}");
        let error = setup.build().send(request, &Evidence::default()).await.unwrap_err();
        assert!(
            matches!(&error, HttpError::Denied(text) if text.contains("`token`") || text.contains("`other`")),
            "{shown}: {error:?}"
        );
    }
    let channel = channel_to(&server);
    for url in [
        "http://{{token}}/",
        "http://127.0.0.1:{{token}}/",
        "http://{{token}}@127.0.0.1/",
        "{{token}}://127.0.0.1/",
    ] {
        let error = channel.send(get(url), &Evidence::default()).await.unwrap_err();
        assert!(matches!(error, HttpError::Invalid(_)), "{url}: {error:?}");
        assert_silent(&error.to_string());
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn no_error_shows_a_secret_or_a_path() {
    let closed = Server::start(|stream| async move { drop(stream) }).await;
    let address = {
        let gone = Server::echoing().await;
        gone.address
    };
    let refused = Setup::granted(&[format!("http://{address}")]).build();
    for (channel, address) in [(channel_to(&closed), closed.address), (refused, address)] {
        let url = format!("http://{address}/bot{{{{token}}}}/hidden?{{{{token}}}}");
        let error = channel.send(get(url), &Evidence::default()).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert_silent(&text);
        assert!(
            !text.contains("hidden") && text.contains(&address.to_string()),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_compressed_answer_that_was_not_asked_for_is_not_passed_on() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc";
    let server = Server::answering(answer).await;
    let request = with_header(get(server.url("/")), "Accept-Encoding", "gzip");
    let error = channel_to(&server)
        .send(request, &Evidence::default())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, HttpError::Interrupted(text) if text.contains("compressed")),
        "{error:?}"
    );
}
