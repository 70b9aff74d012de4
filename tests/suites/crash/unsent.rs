//! From the claim to the first byte: what dies there has sent nothing, and the next process does as if it had never been.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use harness::{Act, FakePlatform, Record, Setup, TestGateway};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, ServerConfig};

/// A platform behind TLS that takes connections, and begins with TLS only once it is open.
struct Front {
    address: SocketAddr,
    connected: Arc<Record<()>>,
    is_open: watch::Sender<bool>,
}

impl Front {
    /// Stands before a platform. The certificate's authority is written to `roots`.
    async fn start(platform: &FakePlatform, roots: &Path) -> Self {
        let acceptor = acceptor(roots);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let url = platform.url();
        let behind = url
            .trim_start_matches("http://")
            .split('/')
            .next()
            .expect("a host")
            .to_owned();
        let connected: Arc<Record<()>> = Arc::default();
        let (is_open, opened) = watch::channel(false);
        let seen = Arc::clone(&connected);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                seen.push(());
                tokio::spawn(serve(stream, acceptor.clone(), behind.clone(), opened.clone()));
            }
        });
        Self {
            address,
            connected,
            is_open,
        }
    }

    fn open(&self) {
        self.is_open.send_replace(true);
    }
}

/// The gateway may be killed at any moment: then its connections just end.
async fn serve(stream: TcpStream, acceptor: TlsAcceptor, behind: String, mut opened: watch::Receiver<bool>) {
    if opened.wait_for(|is_open| *is_open).await.is_err() {
        return;
    }
    if let (Ok(mut stream), Ok(mut behind)) = (acceptor.accept(stream).await, TcpStream::connect(behind).await) {
        let _ended = copy_bidirectional(&mut stream, &mut behind).await;
    }
}

fn acceptor(roots: &Path) -> TlsAcceptor {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    std::fs::write(roots, authority.pem()).expect("a file");
    let key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let server = server.signed_by(&key, &authority).expect("a certificate");
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| {
            config
                .with_no_client_auth()
                .with_single_cert(vec![server.der().clone()], private)
        });
    TlsAcceptor::from(Arc::new(config.expect("TLS")))
}

/// A gateway whose channel `hook` reaches the platform through the front, and sends nothing again of which it can't know
/// what became.
async fn gateway(front: &Front, roots: &Path, lines: &str) -> TestGateway {
    let address = front.address;
    let setup = Setup::new().echo().section(&format!(
        "[channels.hook]\ncomponent = \"webhook\"\naccess = \"open\"\nsettings = {{ url = \"https://{address}/\" }}\n\
         grant = [\"https://{address}\"]\nambiguous_resends = 0\n{lines}"
    ));
    let roots = roots.display().to_string();
    setup.env("SSL_CERT_FILE", &roots).start().await
}

#[tokio::test]
async fn an_attempt_that_dies_before_its_first_byte_leaves_nothing_unknown_however_often() {
    let folder = tempfile::tempdir().expect("a folder");
    let roots = folder.path().join("roots.pem");
    for guarantee in ["", "guarantee = \"at-most-once\""] {
        let platform = FakePlatform::start().await;
        let front = Front::start(&platform, &roots).await;
        let mut gateway = gateway(&front, &roots, guarantee).await;
        gateway.tell("hook", "m1", "c1", "hi").await;
        for deaths in 1..=3 {
            front.connected.wait_for_len("the attempt connects", deaths).await;
            gateway.crash().await;
        }
        front.connected.wait_for_len("the attempt connects", 4).await;
        gateway.kill().await;
        front.open();
        gateway.restart().await;
        platform.wait_for_accepted("c1", 1).await;
        // What is behind it in its lane comes once it is settled.
        gateway.tell("hook", "m2", "c1", "next").await;
        let taken = platform.wait_for_accepted("c1", 2).await;
        let texts: Vec<&str> = taken.iter().map(|one| one.text.as_str()).collect();
        assert_eq!(
            (texts, platform.arrived().len()),
            (vec!["hi", "next"], 2),
            "{guarantee}"
        );
        assert!(gateway.metric("sluicegate_dead_letters", "").await < 0.5, "{guarantee}");
    }
}

#[tokio::test]
async fn an_attempt_that_dies_after_its_first_byte_is_unknown_on_a_new_connection_and_on_a_kept_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let roots = folder.path().join("roots.pem");
    let platform = FakePlatform::start().await;
    let front = Front::start(&platform, &roots).await;
    front.open();
    let mut gateway = gateway(&front, &roots, "").await;
    for (round, warm_up) in [false, true].into_iter().enumerate() {
        if warm_up {
            gateway.tell("hook", "w", "warm", "up").await;
            platform.wait_for_accepted("warm", 1).await;
            gateway.wait_for_metric("sluicegate_outbox_waiting", 0.0).await;
        }
        let before = front.connected.len();
        let conversation = format!("c{round}");
        platform.always(&conversation, Act::AcceptThenHang);
        gateway.tell("hook", &conversation, &conversation, "hi").await;
        platform.wait_for_accepted(&conversation, 1).await;
        assert_eq!(front.connected.len() - before, usize::from(!warm_up));
        gateway.crash().await;
        gateway
            .wait_for_metric(
                "sluicegate_dead_letters",
                f64::from(u8::try_from(round + 1).expect("small")),
            )
            .await;
        assert_eq!(platform.accepted(&conversation).len(), 1, "it is not sent again");
    }
}
