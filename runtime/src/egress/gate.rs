//! What all channels share: connection pools, TLS settings and the resolver. One for each process.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_platform_verifier::Verifier;

use super::address::{CheckedResolver, Resolver};
use super::departure::{NoteDepartures, Origins};
use super::lookups::SystemResolver;
use crate::limit;
use crate::policy::Permit;

/// What the gate is made of.
pub struct GateSettings {
    /// A PEM file with certificates to trust besides the system's.
    pub roots: Option<PathBuf>,
    /// Where addresses come from.
    pub resolver: Arc<dyn Resolver>,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            roots: None,
            resolver: Arc::new(SystemResolver::default()),
        }
    }
}

/// Why the gate could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// The operator's certificates can't be read or are none.
    #[error("can't read certificates from {path}: it must be a PEM file with at least one certificate")]
    Roots {
        /// As configured.
        path: PathBuf,
        /// What went wrong; none where the file simply has no certificate.
        #[source]
        source: Option<rustls::pki_types::pem::Error>,
    },
    /// TLS can't be set up.
    #[error("TLS can't be set up")]
    Tls(#[from] rustls::Error),
    /// The HTTP client can't be set up.
    #[error("the HTTP client can't be set up")]
    Client(#[from] reqwest::Error),
}

/// A client with its connections.
pub(super) struct Pool {
    pub(super) client: reqwest::Client,
    pub(super) origins: Arc<Origins>,
}

/// The shared part of the egress gate.
pub struct Gate {
    /// For grants that end at public addresses only. A pool of its own: a connection to a private address is never
    /// found in it.
    public: Pool,
    /// For grants that may end at private addresses.
    private: Pool,
    resolver: Arc<dyn Resolver>,
    /// For sockets; the HTTP clients have their own copy, with HTTP/2.
    tls: tokio_rustls::TlsConnector,
}

impl Gate {
    /// Sets the gate up: reads certificates, opens nothing.
    ///
    /// # Errors
    /// When the operator's certificates are unreadable, or TLS can't be set up.
    pub fn new(settings: GateSettings) -> Result<Self, GateError> {
        let mut tls = tls_config(settings.roots)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls.clone()));
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let pool = |private| {
            let resolver = CheckedResolver {
                source: Arc::clone(&settings.resolver),
                permit: Permit { private },
            };
            http_client(tls.clone(), resolver).map(|client| Pool {
                client,
                origins: Arc::default(),
            })
        };
        Ok(Self {
            public: pool(false)?,
            private: pool(true)?,
            resolver: Arc::clone(&settings.resolver),
            tls: connector,
        })
    }

    pub(super) fn pool(&self, permit: Permit) -> &Pool {
        if permit.private { &self.private } else { &self.public }
    }

    pub(super) fn resolver(&self, permit: Permit) -> CheckedResolver {
        CheckedResolver {
            source: Arc::clone(&self.resolver),
            permit,
        }
    }

    pub(super) fn tls(&self) -> &tokio_rustls::TlsConnector {
        &self.tls
    }
}

/// The largest window of a connection that HTTP/2 knows (RFC 9113, section 6.9.1).
const HTTP2_WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;

fn http_client(tls: ClientConfig, resolver: CheckedResolver) -> Result<reqwest::Client, GateError> {
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(Arc::new(resolver))
        .connector_layer(NoteDepartures)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .connect_timeout(limit::CONNECT_TIMEOUT)
        .pool_idle_timeout(limit::POOL_IDLE_TIMEOUT)
        .pool_max_idle_per_host(limit::POOL_IDLE_PER_HOST_MAX)
        .tcp_keepalive(limit::TCP_KEEPALIVE)
        .http1_max_headers(limit::HTTP_HEADERS_MAX)
        // Channels share a connection: what one of them does not read must hold up itself alone, so that each answer has its
        // own bound and the connection none.
        .http2_initial_stream_window_size(limit::HTTP2_ANSWER_BYTES_WAITING_MAX)
        .http2_initial_connection_window_size(HTTP2_WINDOW_BYTES_MAX)
        .http2_max_header_list_size(u32::try_from(limit::HTTP_HEADER_BYTES_MAX).unwrap_or(u32::MAX));
    Ok(builder.build()?)
}

fn tls_config(roots: Option<PathBuf>) -> Result<ClientConfig, GateError> {
    let extra = roots.map_or_else(|| Ok(Vec::new()), read_roots)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    match Verifier::new_with_extra_roots(extra, provider) {
        Ok(verifier) => Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth()),
        Err(rustls::Error::General(reason)) => {
            // A machine without certificates can still serve channels that need no TLS.
            tracing::warn!(
                reason,
                "no certificate is trusted, so every TLS connection will fail: install ca-certificates"
            );
            Ok(builder
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth())
        }
        Err(error) => Err(error.into()),
    }
}

fn read_roots(path: PathBuf) -> Result<Vec<CertificateDer<'static>>, GateError> {
    let read = CertificateDer::pem_file_iter(&path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(roots) if roots.is_empty() => Err(GateError::Roots { path, source: None }),
        Ok(roots) => Ok(roots),
        Err(source) => Err(GateError::Roots {
            path,
            source: Some(source),
        }),
    }
}
