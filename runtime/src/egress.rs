//! The egress gate: the only way from a guest to the network.
//!
//! HTTP, WebSocket and byte streams pass through one order of checks: the URL is parsed once and must be granted, then
//! secrets are put in, then the name is resolved and only addresses that its grant allows are connected to (so that a
//! name can't change its mind in between). Redirects go back to the guest. Sizes, times and concurrency are bounded,
//! and what comes back is redacted.
//!
//! * **Takes:** a guest's [`Request`], or the address of a socket.
//! * **Gives:** a [`Response`], a [`ResponseStream`], a [`WebSocket`] or a [`TcpStream`], with every secret taken out.
//! * **Durable when:** never; what a delivery attempt may have left behind on the network is kept in its [`Evidence`].
//! * **On failure:** [`HttpError`] or [`NetError`] says whether anything can have been sent.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::counters::Denial;
use crate::limit;
use crate::policy::{Grants, Host, Permit, Scheme, Target};
use crate::secret::keyring::KeyringError;
use crate::secret::{Keyring, Signing};

mod address;
mod counters;
mod departure;
mod evidence;
mod exchange;
mod gate;
mod log;
mod lookups;
mod prepare;
mod quota;
mod socket;
mod stream;
mod tcp;
mod websocket;

pub use address::{Resolver, Resolving};
pub use counters::{CounterValues, Counters, Denials};
pub(crate) use evidence::Unanswered;
pub use evidence::{Evidence, Unmarked};
pub use gate::{Gate, GateError, GateSettings};
pub use log::{Entry, REVEAL};
pub use lookups::SystemResolver;
pub use stream::ResponseStream;
pub use tcp::TcpStream;
pub use websocket::{Frame, WebSocket};

/// An HTTP request of a guest, as it wrote it.
#[derive(Debug, Clone)]
pub struct Request {
    /// A method in upper case.
    pub method: String,
    /// An absolute `http` or `https` URL; its path and query may hold `{{name}}`.
    pub url: String,
    /// In order; values may hold `{{name}}`.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: Body,
    /// The time for the whole exchange, clamped to [`EgressLimits::timeout_max`].
    pub timeout: Option<Duration>,
}

/// The body of a request.
#[derive(Debug, Clone)]
pub enum Body {
    /// Nothing.
    Empty,
    /// As it is; in JSON a string that is nothing but `{{name}}` is filled in.
    Bytes(Bytes),
    /// A form, `multipart/form-data` (RFC 7578).
    Multipart(Vec<FormPart>),
}

/// One part of a form.
#[derive(Debug, Clone)]
pub struct FormPart {
    /// The field's name.
    pub name: String,
    /// For a file, its name.
    pub file_name: Option<String>,
    /// RFC 6838 media type.
    pub media_type: Option<String>,
    /// The value.
    pub data: Bytes,
}

/// The answer to a request, complete and redacted.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status, redirects too.
    pub status: u16,
    /// In order; without those that only concern the connection.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
}

/// Why an HTTP request failed. Texts hold the scheme, host and port of the URL, never its path or query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// Not granted, or an address that nobody may reach. Nothing was sent.
    #[error("{0}")]
    Denied(String),
    /// The request can't be sent by anyone. Nothing was sent.
    #[error("{0}")]
    Invalid(String),
    /// No such name, no route, refused, TLS; or it could not be stored that something is about to be sent. Nothing was
    /// sent.
    #[error("{0}")]
    Unreachable(String),
    /// The request may have arrived.
    #[error("{0}")]
    Interrupted(String),
    /// The request (nothing was sent) or the answer is larger than allowed. An answer by which an attempt may have changed
    /// something is `Interrupted` instead.
    #[error("the body or the headers are larger than allowed")]
    TooLarge,
    /// Too many at once, or too much in this minute. Nothing was sent.
    #[error("too much at once")]
    Busy,
    /// The channel goes down.
    #[error("shutting down")]
    ShuttingDown,
}

/// Why a socket failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// Not granted, or an address that nobody may reach.
    #[error("{0}")]
    Denied(String),
    /// The peer did not answer or take anything in time.
    #[error("timed out")]
    Timeout,
    /// The connection is over.
    #[error("closed")]
    Closed,
    /// The channel goes down.
    #[error("shutting down")]
    ShuttingDown,
    /// Anything else, in words.
    #[error("{0}")]
    Failed(String),
}

impl Body {
    /// Returns how long it is, without the frame of a form.
    fn bytes(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Bytes(bytes) => bytes.len(),
            Self::Multipart(parts) => parts.iter().map(|part| part.data.len()).sum(),
        }
    }
}

impl HttpError {
    /// Returns it in a word, for the log of requests.
    fn word(&self) -> &'static str {
        match self {
            Self::Denied(_) => "denied",
            Self::Invalid(_) => "invalid",
            Self::Unreachable(_) => "unreachable",
            Self::Interrupted(_) => "interrupted",
            Self::TooLarge => "too-large",
            Self::Busy => "busy",
            Self::ShuttingDown => "shutting-down",
        }
    }
}

impl NetError {
    /// Returns it in a word, for the log of requests.
    fn word(&self) -> &'static str {
        match self {
            Self::Denied(_) => "denied",
            Self::Timeout | Self::Closed | Self::Failed(_) => "unreachable",
            Self::ShuttingDown => "shutting-down",
        }
    }
}

/// The bounds of one channel. The defaults suit ordinary adapters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressLimits {
    /// Requests and response streams at once.
    pub in_flight_max: usize,
    /// How long a request waits for its place among them. A stream, which may be kept for as long as its guest likes, does
    /// not wait.
    pub place_wait_max: Duration,
    /// Sockets at once.
    pub sockets_max: usize,
    /// The body of one request, bytes.
    pub request_body_bytes_max: usize,
    /// The body of one response that goes into guest memory, bytes.
    pub response_body_bytes_max: usize,
    /// In and out together, over [`limit::EGRESS_QUOTA_PERIOD`].
    pub bytes_per_minute_max: u64,
    /// Where the guest does not say.
    pub timeout_default: Duration,
    /// Whatever the guest says.
    pub timeout_max: Duration,
}

impl Default for EgressLimits {
    fn default() -> Self {
        Self {
            in_flight_max: limit::HTTP_IN_FLIGHT_DEFAULT,
            place_wait_max: limit::HTTP_PLACE_WAIT_MAX,
            sockets_max: limit::SOCKETS_DEFAULT,
            request_body_bytes_max: limit::HTTP_REQUEST_BODY_BYTES_MAX,
            response_body_bytes_max: limit::HTTP_RESPONSE_BODY_BYTES_DEFAULT,
            bytes_per_minute_max: limit::EGRESS_BYTES_PER_MINUTE_DEFAULT,
            timeout_default: limit::HTTP_TIMEOUT_DEFAULT,
            timeout_max: limit::HTTP_TIMEOUT_MAX,
        }
    }
}

/// What a channel's egress is made of.
#[derive(Debug, Default)]
pub struct ChannelSettings {
    /// What it may reach.
    pub grants: Grants,
    /// Its secrets.
    pub keyring: Keyring,
    /// Its bounds.
    pub limits: EgressLimits,
    /// Ends every wait with `ShuttingDown`.
    pub shutdown: CancellationToken,
}

/// One channel's way through the gate. Shared by all its instances.
pub struct ChannelEgress {
    gate: Arc<Gate>,
    /// Replaced as a whole; read at every use, so that a revoked grant ends with the next call.
    grants: RwLock<Arc<Grants>>,
    keyring: Keyring,
    limits: EgressLimits,
    shutdown: CancellationToken,
    /// Bounds requests and response streams; a permit lives as long as its exchange.
    in_flight: Arc<Semaphore>,
    /// Bounds sockets; a permit lives as long as its socket.
    sockets: Arc<Semaphore>,
    lookups: lookups::Lookups,
    quota: quota::Quota,
    counters: Counters,
    log: log::Log,
}

impl ChannelEgress {
    /// Opens a channel's way through the gate.
    pub fn new(gate: Arc<Gate>, settings: ChannelSettings) -> Arc<Self> {
        let ChannelSettings {
            grants,
            keyring,
            limits,
            shutdown,
        } = settings;
        Arc::new(Self {
            gate,
            grants: RwLock::new(Arc::new(grants)),
            keyring,
            in_flight: Arc::new(Semaphore::new(limits.in_flight_max)),
            sockets: Arc::new(Semaphore::new(limits.sockets_max)),
            lookups: lookups::Lookups::default(),
            quota: quota::Quota::new(limits.bytes_per_minute_max),
            limits,
            shutdown,
            counters: Counters::default(),
            log: log::Log::default(),
        })
    }

    /// Returns the present grants.
    pub fn grants(&self) -> Arc<Grants> {
        Arc::clone(&self.grants.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the grants. Holds from the next use on, for open sockets and streams too.
    pub fn set_grants(&self, grants: Grants) {
        *self.grants.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(grants);
    }

    /// Returns what was sent, received and refused so far.
    pub fn counters(&self) -> CounterValues {
        self.counters.values()
    }

    /// Returns the newest requests and sockets, at most `max`, newest first.
    pub fn log(&self, max: usize) -> Vec<Entry> {
        self.log.newest(max)
    }

    /// Returns the channel's secrets.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Takes the channel's secrets out of a text.
    pub fn redact(&self, text: &str) -> String {
        self.keyring.redactor().text(text).into_owned()
    }

    /// Whether a secret of this name is configured.
    pub fn has_secret(&self, name: &str) -> bool {
        self.keyring.available(name)
    }

    /// Signs with a secret that stays in the host.
    ///
    /// # Errors
    /// When there is no such secret, or it is no key for this.
    pub fn sign(&self, name: &str, signing: Signing, data: &[u8]) -> Result<Vec<u8>, KeyringError> {
        self.keyring.sign(name, signing, data)
    }

    /// Returns the plain value of a secret, where the operator granted that.
    ///
    /// # Errors
    /// When it is not granted, or there is no such secret.
    pub fn reveal(&self, name: &str) -> Result<String, KeyringError> {
        let revealed = self.keyring.reveal(name, &self.grants());
        let mut entry = Entry::of_reveal(Some(name).filter(|name| self.keyring.available(name)));
        if matches!(revealed, Err(KeyringError::NotGranted(_))) {
            self.counters.denied(Denial::Secret);
        }
        if revealed.is_err() {
            entry.outcome = "denied";
        }
        self.log.add(entry);
        revealed.map(|secret| secret.expose().to_owned())
    }

    /// Sends a request and returns its whole answer.
    ///
    /// # Errors
    /// See [`HttpError`]; each case says whether anything can have been sent.
    ///
    /// # Cancel safety
    /// Dropping the future ends the exchange; where bytes of it may have left, `evidence` keeps saying so.
    pub async fn send(&self, request: Request, evidence: &Evidence) -> Result<Response, HttpError> {
        self.send_bounded(request, evidence, self.limits.response_body_bytes_max)
            .await
    }

    /// Like [`send`](Self::send), for an answer that stays in the host, such as a file: with a body limit of its own.
    ///
    /// # Errors
    /// As `send`.
    ///
    /// # Cancel safety
    /// As `send`.
    pub async fn send_bounded(
        &self,
        request: Request,
        evidence: &Evidence,
        body_bytes_max: usize,
    ) -> Result<Response, HttpError> {
        let mut entry = self.entry_of(&request);
        let result = self
            .unless_shut_down(
                self.exchange(request, evidence, body_bytes_max),
                HttpError::ShuttingDown,
            )
            .await;
        self.counters.http_result(result.as_ref().err());
        match &result {
            Ok(response) => {
                entry.status = Some(response.status);
                entry.bytes_in = response.body.len() as u64;
            }
            Err(error) => entry.outcome = error.word(),
        }
        self.log.add(entry);
        result
    }

    /// Sends a request and returns its answer as it comes.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    /// As `send`.
    pub async fn open_stream(
        self: &Arc<Self>,
        request: Request,
        evidence: &Evidence,
    ) -> Result<ResponseStream, HttpError> {
        let mut entry = self.entry_of(&request);
        let result = self
            .unless_shut_down(ResponseStream::open(self, request, evidence), HttpError::ShuttingDown)
            .await;
        self.counters.http_result(result.as_ref().err());
        match &result {
            Ok(stream) => entry.status = Some(stream.status()),
            Err(error) => entry.outcome = error.word(),
        }
        self.log.add(entry);
        result
    }

    /// Connects a WebSocket to a `ws` or `wss` URL.
    ///
    /// # Errors
    /// See [`NetError`].
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn connect_websocket(
        self: &Arc<Self>,
        url: &str,
        headers: &[(String, String)],
        evidence: &Evidence,
    ) -> Result<WebSocket, NetError> {
        let result = self
            .unless_shut_down(WebSocket::connect(self, url, headers, evidence), NetError::ShuttingDown)
            .await;
        self.counters.net_result(result.as_ref().err());
        let mut entry = Entry::of_url("WEBSOCKET", url, 0);
        entry.secrets = self.secrets_in(url, headers, &[]);
        entry.outcome = result.as_ref().err().map_or("open", NetError::word);
        self.log.add(entry);
        result
    }

    /// Connects a byte stream, with TLS from its first byte on or without.
    ///
    /// # Errors
    /// See [`NetError`].
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn connect_tcp(
        self: &Arc<Self>,
        host: &str,
        port: u16,
        tls: bool,
        evidence: &Evidence,
    ) -> Result<TcpStream, NetError> {
        let scheme = if tls { Scheme::Tls } else { Scheme::Tcp };
        let result = self
            .unless_shut_down(
                TcpStream::connect(self, scheme, host, port, evidence),
                NetError::ShuttingDown,
            )
            .await;
        self.counters.net_result(result.as_ref().err());
        let mut entry = Entry::of_stream(scheme, host, port);
        entry.outcome = result.as_ref().err().map_or("open", NetError::word);
        self.log.add(entry);
        result
    }

    /// Begins the log's entry of a request.
    fn entry_of(&self, request: &Request) -> Entry {
        let mut entry = Entry::of_url(&request.method, &request.url, request.body.bytes());
        let body: &[u8] = match &request.body {
            Body::Bytes(bytes) => bytes,
            Body::Empty | Body::Multipart(_) => &[],
        };
        entry.secrets = self.secrets_in(&request.url, &request.headers, body);
        entry
    }

    /// Returns the channel's secrets whose placeholders a guest wrote, wherever it may not have been allowed to.
    fn secrets_in(&self, url: &str, headers: &[(String, String)], body: &[u8]) -> Vec<String> {
        let headers = headers.iter().take(limit::HTTP_HEADERS_MAX);
        let texts = headers.map(|(_, value)| value.as_bytes()).chain([url.as_bytes(), body]);
        let start = |text: &'_ [u8]| text.len().min(limit::EGRESS_LOG_SEARCHED_BYTES_MAX);
        let names = texts.flat_map(|text| self.keyring.named_in(&text[..start(text)]));
        let names: std::collections::BTreeSet<&str> = names.collect();
        names.into_iter().map(str::to_owned).collect()
    }

    /// Checks a connection against the present grants.
    fn permit(&self, scheme: Scheme, host: &Host, port: u16) -> Result<Permit, String> {
        let grants = self.grants();
        grants.permit(scheme, host, port).ok_or_else(|| {
            let place = format!("{scheme}://{host}:{port}");
            if grants.is_unrequested(scheme, host, port) {
                self.counters.denied(Denial::NotRequested);
                format!("{place} is granted, but the component's description does not ask for it")
            } else {
                self.counters.denied(Denial::NotGranted);
                format!("{place} is not granted: the operator can add it to the channel's `grant`")
            }
        })
    }

    /// Returns the folder that files may be put into at present.
    ///
    /// # Errors
    /// In words, where none is granted.
    pub(crate) fn folder(&self) -> Result<PathBuf, String> {
        self.grants().folder().map(Path::to_owned).ok_or_else(|| {
            self.counters.denied(Denial::NotGranted);
            "no folder is granted: the operator can add \"folder:/absolute/path\" to the channel's `grant`".to_owned()
        })
    }

    fn permit_target(&self, target: &Target) -> Result<Permit, String> {
        self.permit(target.scheme, &target.host, target.port)
    }

    async fn unless_shut_down<T, E>(&self, work: impl Future<Output = Result<T, E>>, ended: E) -> Result<T, E> {
        tokio::select! {
            biased;
            // Dropping the work is what shutting down means; its evidence stays.
            () = self.shutdown.cancelled() => Err(ended),
            result = work => result,
        }
    }
}
