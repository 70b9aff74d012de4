//! Names that lead where they should not, or change their mind.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use sluicegate::egress::{Evidence, Gate, GateSettings, HttpError, NetError, SystemResolver};
use sluicegate::limit;

use crate::support::{Scripted, Server, Setup, get, private_grant};

struct Case {
    server: Server,
    resolver: Arc<Scripted>,
    setup: Setup,
    url: String,
}

/// A channel that was granted `api.test.example`, which leads where the script says.
async fn case(answers: &[&[&str]], private: bool) -> Case {
    let server = Server::echoing().await;
    let port = server.address.port();
    let resolver = Scripted::new(&[("api.test.example", answers)]);
    let endpoints = [
        format!("http://api.test.example:{port}"),
        format!("tcp://api.test.example:{port}"),
        format!("ws://api.test.example:{port}"),
    ];
    let mut setup = Setup::granted(&endpoints);
    if private {
        setup.granted = endpoints.iter().map(|url| private_grant(url)).collect();
    }
    setup.gate = GateSettings {
        resolver: resolver.clone(),
        ..GateSettings::default()
    };
    Case {
        url: format!("http://api.test.example:{port}/"),
        server,
        resolver,
        setup,
    }
}

#[tokio::test]
async fn a_public_name_that_leads_to_a_private_address_is_denied_on_every_path() {
    for address in [
        "127.0.0.1",
        "10.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "fd00::1",
        "100.64.0.1",
    ] {
        let case = case(&[&[address]], false).await;
        let channel = case.setup.build();
        let evidence = Evidence::default();
        let error = channel.send(get(case.url.as_str()), &evidence).await.unwrap_err();
        assert!(
            matches!(&error, HttpError::Denied(text) if text.contains("private = true")),
            "{address}: {error:?}"
        );
        let port = case.server.address.port();
        let tcp = channel
            .connect_tcp("api.test.example", port, false, &evidence)
            .await
            .err();
        assert!(matches!(tcp, Some(NetError::Denied(_))), "{address}: {tcp:?}");
        let ws = channel
            .connect_websocket(&case.url.replace("http", "ws"), &[], &evidence)
            .await
            .err();
        assert!(matches!(ws, Some(NetError::Denied(_))), "{address}: {ws:?}");
        assert_eq!((case.server.connections(), channel.counters().denied), (0, 3));
    }
}

#[tokio::test]
async fn metadata_addresses_are_denied_even_under_a_private_grant() {
    for address in [
        "169.254.169.254",
        "fd00:ec2::254",
        "100.100.100.200",
        "64:ff9b::a9fe:a9fe",
        "0.0.0.0",
        "224.0.0.1",
    ] {
        let case = case(&[&[address]], true).await;
        let error = case
            .setup
            .build()
            .send(get(case.url), &Evidence::default())
            .await
            .unwrap_err();
        assert!(matches!(error, HttpError::Denied(_)), "{address}: {error:?}");
    }
}

#[tokio::test]
async fn a_private_grant_leads_to_the_private_address() {
    let case = case(&[&["169.254.169.254", "127.0.0.1"]], true).await;
    let response = case
        .setup
        .build()
        .send(get(case.url), &Evidence::default())
        .await
        .unwrap();
    assert_eq!((response.status, case.server.connections()), (200, 1));
}

#[tokio::test]
async fn the_checked_address_is_the_one_connected_to() {
    // A second look would find nothing there: the name must be resolved once for each connection.
    let case = case(&[&["127.0.0.1"], &["127.9.9.9"]], true).await;
    let channel = case.setup.build();
    for _ in 0..3 {
        assert_eq!(
            channel
                .send(get(case.url.as_str()), &Evidence::default())
                .await
                .unwrap()
                .status,
            200
        );
    }
    assert_eq!((case.resolver.calls(), case.server.connections()), (1, 1));
}

#[tokio::test]
async fn a_connection_under_a_private_grant_is_not_shared_with_a_public_one() {
    let case = case(&[&["127.0.0.1"]], true).await;
    let private = case.setup.build();
    private
        .send(get(case.url.as_str()), &Evidence::default())
        .await
        .unwrap();
    let mut revoked = (*private.grants()).clone();
    let requested: Vec<_> = revoked.granted().iter().map(|grant| grant.endpoint.clone()).collect();
    let public = requested
        .iter()
        .map(|endpoint| endpoint.to_string().parse().unwrap())
        .collect::<Vec<_>>();
    revoked = sluicegate::policy::Grants::new(requested, public);
    private.set_grants(revoked);
    let error = private.send(get(case.url), &Evidence::default()).await.unwrap_err();
    assert!(matches!(error, HttpError::Denied(_)), "{error:?}");
}

#[tokio::test]
async fn a_name_without_addresses_is_unreachable() {
    let case = case(&[&[]], false).await;
    let error = case
        .setup
        .build()
        .send(get(case.url), &Evidence::default())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, HttpError::Unreachable(text) if text.contains("has no address")),
        "{error:?}"
    );
}

#[tokio::test]
async fn localhost_is_this_machine_whatever_a_name_server_says() {
    let server = Server::echoing().await;
    let endpoint = format!("http://localhost:{}", server.address.port());
    for (answer, reaches) in [("127.0.0.1", true), ("10.0.0.1", false), ("1.1.1.1", false)] {
        let mut setup = Setup::granted(std::slice::from_ref(&endpoint));
        setup.gate.resolver = Scripted::new(&[("localhost", &[&[answer]])]);
        let result = setup
            .build()
            .send(get(format!("{endpoint}/")), &Evidence::default())
            .await;
        assert_eq!(result.is_ok(), reaches, "{answer}: {result:?}");
    }
}

/// A resolver that does not answer for `slow.test.example`, as long as this lives.
#[derive(Default)]
struct Hanging(Arc<(Mutex<Lookups>, Condvar)>);

#[derive(Default)]
struct Lookups {
    running: usize,
    most: usize,
    is_over: bool,
}

impl Hanging {
    fn resolver(&self) -> SystemResolver {
        let state = Arc::clone(&self.0);
        SystemResolver::asking(move |name| {
            if name.ends_with("slow.test.example") {
                let (lookups, changed) = &*state;
                let mut now = lookups.lock().unwrap();
                now.running += 1;
                now.most = now.most.max(now.running);
                now = changed.wait_while(now, |now| !now.is_over).unwrap();
                now.running -= 1;
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])
        })
    }

    fn most(&self) -> usize {
        self.0.0.lock().unwrap().most
    }

    fn end(&self) {
        self.0.0.lock().unwrap().is_over = true;
        self.0.1.notify_all();
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.end();
    }
}

#[tokio::test]
async fn lookups_without_an_answer_are_bounded_and_hold_up_no_other_channel() {
    let (server, hanging) = (Server::echoing().await, Hanging::default());
    let port = server.address.port();
    let quick = format!("http://quick.test.example:{port}");
    let endpoints = [
        format!("http://*.slow.test.example:{port}"),
        format!("tcp://*.slow.test.example:{port}"),
        quick.clone(),
    ];
    let gate = GateSettings {
        resolver: Arc::new(hanging.resolver()),
        ..GateSettings::default()
    };
    let gate = Arc::new(Gate::new(gate).unwrap());
    let [channel, neighbour] = [(); 2].map(|()| {
        let mut setup = Setup::granted(&endpoints);
        setup.granted = endpoints.iter().map(|url| private_grant(url)).collect();
        setup.build_on(&gate)
    });
    for number in 0..2 * limit::LOOKUPS_PER_CHANNEL_MAX {
        let mut request = get(format!("http://a{number}.slow.test.example:{port}/"));
        request.timeout = Some(Duration::from_millis(50));
        let error = channel.send(request, &Evidence::default()).await.unwrap_err();
        assert!(matches!(error, HttpError::Interrupted(_)), "{error:?}");
        let (name, evidence) = (format!("b{number}.slow.test.example"), Evidence::default());
        let connecting = channel.connect_tcp(&name, port, false, &evidence);
        // Nobody waits longer for it.
        let _given_up = tokio::time::timeout(Duration::from_millis(50), connecting).await;
    }
    assert_eq!(hanging.most(), limit::LOOKUPS_PER_CHANNEL_MAX);
    let answer = neighbour.send(get(format!("{quick}/")), &Evidence::default()).await;
    assert_eq!(answer.unwrap().status, 200);
    hanging.end();
    let answer = channel.send(get(format!("{quick}/")), &Evidence::default()).await;
    assert_eq!(answer.unwrap().status, 200, "once they ended, there is room again");
}
