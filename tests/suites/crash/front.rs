//! What stands before a platform in order to show the moment at which nothing has left yet.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use harness::{FakePlatform, Record};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, ServerConfig};

/// Who vouches for platforms behind TLS.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// Makes an authority, and writes its certificate to a file.
    pub(crate) fn written_to(roots: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
        std::fs::write(roots, authority.pem()).expect("a file");
        Self(authority)
    }

    fn acceptor(&self) -> TlsAcceptor {
        let key = KeyPair::generate().expect("a key");
        let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let server = server.signed_by(&key, &self.0).expect("a certificate");
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
}

/// A platform behind TLS that takes connections, and begins with TLS only while it is open.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    pub(crate) connected: Arc<Record<()>>,
    is_open: watch::Sender<bool>,
}

impl Front {
    /// Stands before a platform, closed.
    pub(crate) async fn start(platform: &FakePlatform, authority: &Authority) -> Self {
        let acceptor = authority.acceptor();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let behind = platform.endpoint().trim_start_matches("http://").to_owned();
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

    /// Returns what a grant for it says.
    pub(crate) fn endpoint(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn open(&self) {
        self.is_open.send_replace(true);
    }

    pub(crate) fn close(&self) {
        self.is_open.send_replace(false);
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
