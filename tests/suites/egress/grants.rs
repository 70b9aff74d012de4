//! Nothing leaves without a request and a grant, checked at each use.

use sluicegate::egress::{Evidence, HttpError};
use sluicegate::policy::Grants;

use crate::support::{Server, Setup, channel_to, get};

async fn denied(channel: &sluicegate::egress::ChannelEgress, url: String) -> String {
    match channel.send(get(url.as_str()), &Evidence::default()).await {
        Err(HttpError::Denied(text)) => text,
        other => panic!("{url}: {other:?}"),
    }
}

#[tokio::test]
async fn another_host_port_or_scheme_is_denied() {
    let (granted, other) = (Server::echoing().await, Server::echoing().await);
    let channel = channel_to(&granted);
    let port = granted.address.port();
    for url in [
        other.url("/"),
        format!("https://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://127.0.0.2:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://127.0.0.1.nip.example:{port}/"),
        "http://127.0.0.1/".to_owned(),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
    ] {
        let text = denied(&channel, url).await;
        assert!(text.contains("is not granted"), "{text}");
    }
    assert_eq!(
        (granted.connections(), other.connections(), channel.counters().denied),
        (0, 0, 9)
    );
}

#[tokio::test]
async fn an_address_is_the_same_in_every_spelling() {
    let server = Server::echoing().await;
    let channel = channel_to(&server);
    for host in ["0x7f.1", "2130706433", "0177.0.0.1", "127.1"] {
        let url = format!("http://{host}:{}/", server.address.port());
        assert_eq!(
            channel.send(get(url), &Evidence::default()).await.unwrap().status,
            200,
            "{host}"
        );
    }
}

#[tokio::test]
async fn a_grant_that_the_component_does_not_ask_for_has_no_effect() {
    let server = Server::echoing().await;
    let mut setup = Setup::granted(&[format!("http://{}", server.address)]);
    setup.requested.clear();
    let text = denied(&setup.build(), server.url("/")).await;
    assert!(text.contains("does not ask for it"), "{text}");
    let mut setup = Setup::granted(&[format!("http://{}", server.address)]);
    setup.granted.clear();
    let text = denied(&setup.build(), server.url("/")).await;
    assert!(text.contains("is not granted"), "{text}");
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_revoked_grant_ends_with_the_next_request_on_a_kept_connection_too() {
    let server = Server::echoing().await;
    let channel = channel_to(&server);
    let before = channel.grants();
    channel.send(get(server.url("/")), &Evidence::default()).await.unwrap();
    channel.set_grants(Grants::default());
    denied(&channel, server.url("/")).await;
    channel.set_grants(Grants::clone(&before));
    channel.send(get(server.url("/")), &Evidence::default()).await.unwrap();
    assert_eq!(server.connections(), 1, "the connection was kept all along");
}
