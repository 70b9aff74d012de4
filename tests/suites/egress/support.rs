//! Servers on loopback that behave as scripted, and channels that may reach them.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use sluicegate::egress::{
    Body, ChannelEgress, ChannelSettings, EgressLimits, Gate, GateSettings, Request, Resolver, Resolving,
};
use sluicegate::policy::{GrantEntry, Grants, HostPattern};
use sluicegate::secret::{BoundSecret, Keyring, Placements, Secret};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The secret that every test channel has, as `{{token}}`; it needs each of its encodings.
pub(crate) const SECRET: &str = "12345:s3cr/t+\"v\"";

pub(crate) const ALL_PLACES: Placements = Placements {
    header: true,
    url_path: true,
    url_query: true,
    json_body: true,
    websocket_text: true,
    tcp_text: true,
};

/// A server that runs one script for each connection, and counts them.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start<F, R>(script: F) -> Self
    where
        F: Fn(TcpStream) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut running = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                running.spawn(script(stream));
            }
        });
        Self {
            address,
            connections,
            task,
        }
    }

    /// A server that reads one request for each connection, answers with these bytes, and closes.
    pub(crate) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = Arc::new(answer.into());
        Self::start(move |mut stream| {
            let answer = Arc::clone(&answer);
            async move {
                read_request(&mut stream).await;
                stream.write_all(&answer).await.ok();
            }
        })
        .await
    }

    /// A server that answers every request with the request itself, as it came.
    pub(crate) async fn echoing() -> Self {
        Self::start(|mut stream| async move {
            loop {
                let request = read_request(&mut stream).await;
                if request.is_empty() {
                    return;
                }
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nx-echo: {}\r\n\r\n",
                    request.len(),
                    SECRET
                );
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(&request).await.unwrap();
            }
        })
        .await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads one request, head and body; empty when the peer has gone.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut request = Vec::new();
    loop {
        if let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |n| n.parse().unwrap());
            if request.len() >= end + 4 + length {
                return request;
            }
        }
        match stream.read_buf(&mut request).await {
            Ok(count) if count > 0 => {}
            _ => return Vec::new(),
        }
    }
}

/// A resolver with a script: each name's answers in order, the last one repeated.
#[derive(Default)]
pub(crate) struct Scripted {
    answers: Mutex<BTreeMap<String, Vec<Vec<IpAddr>>>>,
    calls: AtomicUsize,
}

impl Scripted {
    pub(crate) fn new(names: &[(&str, &[&[&str]])]) -> Arc<Self> {
        let parse = |answers: &&[&[&str]]| {
            answers
                .iter()
                .map(|answer| answer.iter().map(|text| text.parse().unwrap()).collect())
                .collect()
        };
        let answers = names
            .iter()
            .map(|(name, answers)| ((*name).to_owned(), parse(answers)))
            .collect();
        Arc::new(Self {
            answers: Mutex::new(answers),
            calls: AtomicUsize::new(0),
        })
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Resolver for Scripted {
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let answer = match answers.get_mut(name) {
            Some(list) if list.len() > 1 => list.remove(0),
            Some(list) => list[0].clone(),
            None => Vec::new(),
        };
        Box::pin(async move { Ok(answer) })
    }
}

/// Everything a test channel is made of; change what the test is about.
pub(crate) struct Setup {
    pub(crate) requested: Vec<String>,
    pub(crate) granted: Vec<GrantEntry>,
    pub(crate) hosts: Vec<&'static str>,
    pub(crate) placements: Placements,
    pub(crate) limits: EgressLimits,
    pub(crate) gate: GateSettings,
}

impl Setup {
    /// A channel that asks for and was granted these endpoints.
    pub(crate) fn granted(endpoints: &[String]) -> Self {
        Self {
            requested: endpoints.to_vec(),
            granted: endpoints.iter().map(|text| text.parse().unwrap()).collect(),
            hosts: vec!["127.0.0.1", "localhost", "*.test.example"],
            placements: ALL_PLACES,
            limits: EgressLimits::default(),
            gate: GateSettings::default(),
        }
    }

    /// A channel with a gate of its own.
    pub(crate) fn build(mut self) -> Arc<ChannelEgress> {
        let gate = Gate::new(std::mem::take(&mut self.gate)).unwrap();
        self.build_on(&Arc::new(gate))
    }

    /// A channel that shares its gate with others.
    pub(crate) fn build_on(self, gate: &Arc<Gate>) -> Arc<ChannelEgress> {
        let bound = BoundSecret {
            secret: Secret::new(SECRET.to_owned()),
            hosts: self
                .hosts
                .iter()
                .map(|host| HostPattern::parse(host).unwrap())
                .collect(),
            placements: self.placements,
        };
        let settings = ChannelSettings {
            grants: Grants::new(
                self.requested.iter().map(|text| text.parse().unwrap()).collect(),
                self.granted,
            ),
            keyring: Keyring::new(BTreeMap::from([("token".to_owned(), bound)])),
            limits: self.limits,
            ..ChannelSettings::default()
        };
        ChannelEgress::new(Arc::clone(gate), settings)
    }
}

/// A channel that may reach this server over HTTP.
pub(crate) fn channel_to(server: &Server) -> Arc<ChannelEgress> {
    Setup::granted(&[format!("http://{}", server.address)]).build()
}

pub(crate) fn private_grant(url: &str) -> GrantEntry {
    let mut entry: GrantEntry = url.parse().unwrap();
    if let GrantEntry::Endpoint(grant) = &mut entry {
        grant.private = true;
    }
    entry
}

pub(crate) fn request(method: &str, url: impl Into<String>) -> Request {
    Request {
        method: method.into(),
        url: url.into(),
        headers: Vec::new(),
        body: Body::Empty,
        timeout: Some(Duration::from_secs(20)),
    }
}

pub(crate) fn get(url: impl Into<String>) -> Request {
    request("GET", url)
}

pub(crate) fn post(url: impl Into<String>, body: &str) -> Request {
    Request {
        body: Body::Bytes(Bytes::copy_from_slice(body.as_bytes())),
        ..request("POST", url)
    }
}

pub(crate) fn with_header(mut request: Request, name: &str, value: &str) -> Request {
    request.headers.push((name.into(), value.into()));
    request
}

/// Panics if the text holds the secret, in any form.
pub(crate) fn assert_silent(text: &str) {
    let redacted = sluicegate::secret::Redactor::new([&Secret::new(SECRET.to_owned())])
        .text(text)
        .into_owned();
    assert_eq!(redacted, text, "the secret shows");
}
