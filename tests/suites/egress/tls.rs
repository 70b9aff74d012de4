//! TLS: the system's and the operator's certificates, for the name that was asked for.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sluicegate::egress::{Evidence, Gate, GateError, GateSettings, HttpError, NetError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{self, ServerConfig};

use crate::support::{Scripted, Server, Setup, get, private_grant};

const LONG: Duration = Duration::from_secs(20);

/// A certificate authority of the test's own, its PEM file, and a server certificate for `api.test.example`.
pub(crate) struct Authority {
    folder: tempfile::TempDir,
    pub(crate) acceptor: TlsAcceptor,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::speaking(&[])
    }

    /// With a server that offers these protocols over its TLS.
    pub(crate) fn speaking(protocols: &[&[u8]]) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec!["api.test.example".to_owned()])
            .unwrap()
            .signed_by(&key, &authority)
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = config
            .with_no_client_auth()
            .with_single_cert(vec![server.der().clone()], private)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("roots.pem"), authority.pem()).unwrap();
        Self {
            folder,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        }
    }

    /// A channel to `name` at this server, which trusts the authority or not.
    pub(crate) fn channel(&self, name: &str, server: &Server, trusted: bool) -> Arc<sluicegate::egress::ChannelEgress> {
        self.setup(name, server, trusted).build()
    }

    /// What such a channel is made of.
    pub(crate) fn setup(&self, name: &str, server: &Server, trusted: bool) -> Setup {
        let port = server.address.port();
        let endpoints: Vec<String> = ["https", "tls", "tcp"]
            .iter()
            .map(|scheme| format!("{scheme}://{name}:{port}"))
            .collect();
        let mut setup = Setup::granted(&endpoints);
        setup.granted = endpoints.iter().map(|url| private_grant(url)).collect();
        let roots = trusted.then(|| self.folder.path().join("roots.pem"));
        setup.gate = GateSettings {
            roots,
            resolver: Scripted::new(&[(name, &[&["127.0.0.1"]])]),
        };
        setup
    }
}

async fn https_server(authority: &Authority) -> Server {
    let acceptor = authority.acceptor.clone();
    Server::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
                .await
                .unwrap();
            stream.shutdown().await.ok();
        }
    })
    .await
}

#[tokio::test]
async fn only_a_trusted_certificate_for_the_right_name_is_accepted() {
    let authority = Authority::new();
    for (name, trusted, accepted) in [
        ("api.test.example", true, true),
        ("api.test.example", false, false),
        ("other.test.example", true, false),
    ] {
        let server = https_server(&authority).await;
        let url = format!("https://{name}:{}/", server.address.port());
        let evidence = Evidence::default();
        let request = sluicegate::egress::Request {
            method: "POST".into(),
            ..get(url)
        };
        let result = authority.channel(name, &server, trusted).send(request, &evidence).await;
        assert!(!evidence.bytes_left());
        match result {
            Ok(response) => assert!(accepted && response.body == "hi", "{name} {trusted}"),
            Err(error) => assert!(
                !accepted && matches!(error, HttpError::Unreachable(_)),
                "{name}: {error:?}"
            ),
        }
    }
}

#[tokio::test]
async fn a_byte_stream_over_tls_checks_the_certificate_too() {
    let authority = Authority::new();
    let server = https_server(&authority).await;
    let port = server.address.port();
    let evidence = Evidence::default();
    let channel = authority.channel("api.test.example", &server, true);
    let mut stream = channel
        .connect_tcp("api.test.example", port, true, &evidence)
        .await
        .unwrap();
    stream.write(b"x\r\n\r\n").await.unwrap();
    let read = stream.read(1000, LONG).await.unwrap().unwrap();
    assert!(read.starts_with(b"HTTP/1.1 200"), "{read:?}");
    let distrusting = authority.channel("api.test.example", &server, false);
    let refused = distrusting
        .connect_tcp("api.test.example", port, true, &evidence)
        .await
        .err();
    assert!(matches!(refused, Some(NetError::Failed(_))), "{refused:?}");
}

/// A server that offers STARTTLS after `injected` more bytes in the clear.
async fn starttls_server(authority: &Authority, injected: &'static [u8]) -> Server {
    let acceptor = authority.acceptor.clone();
    Server::start(move |mut stream| {
        let acceptor = acceptor.clone();
        async move {
            stream.write_all(b"220 go\n").await.unwrap();
            stream.write_all(injected).await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            stream.write_all(b"secure\n").await.unwrap();
            stream.shutdown().await.ok();
        }
    })
    .await
}

#[tokio::test]
async fn a_stream_turns_into_tls_when_the_guest_says_so() {
    let authority = Authority::new();
    let server = starttls_server(&authority, b"").await;
    let channel = authority.channel("api.test.example", &server, true);
    let mut stream = channel
        .connect_tcp("api.test.example", server.address.port(), false, &Evidence::default())
        .await
        .unwrap();
    assert_eq!(stream.read(100, LONG).await.unwrap().unwrap(), "220 go\n");
    stream.start_tls().await.unwrap();
    assert_eq!(stream.read(100, LONG).await.unwrap().unwrap(), "secure\n");
    assert!(matches!(stream.start_tls().await, Err(NetError::Failed(_))), "twice");
}

#[tokio::test]
async fn bytes_slipped_in_before_tls_close_the_stream() {
    let authority = Authority::new();
    let server = starttls_server(&authority, b"250 fake\n").await;
    let channel = authority.channel("api.test.example", &server, true);
    let mut stream = channel
        .connect_tcp("api.test.example", server.address.port(), false, &Evidence::default())
        .await
        .unwrap();
    let mut read = 0;
    while read < 7 {
        read += stream
            .read(7 - read, LONG)
            .await
            .unwrap()
            .map_or(0, |bytes| u32::try_from(bytes.len()).unwrap());
    }
    assert!(matches!(stream.start_tls().await, Err(NetError::Failed(_))));
    assert_eq!(stream.read(100, LONG).await.unwrap_err(), NetError::Closed);
}

#[test]
fn a_roots_file_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("roots.pem");
    let gate = || {
        Gate::new(GateSettings {
            roots: Some(path.clone()),
            ..GateSettings::default()
        })
        .err()
    };
    assert!(matches!(gate(), Some(GateError::Roots { .. })), "missing");
    std::fs::write(&path, "no certificate").unwrap();
    assert!(matches!(gate(), Some(GateError::Roots { .. })), "empty");
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert!(gate().is_some(), "no certificate inside");
}
