//! A proxy between the gateway and a fake that stops one request of a test's choice.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;

use crate::Record;
use crate::http::{self, Handler, Reply, Request, Response, Server};

/// What happens to the request that is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It is not passed on, and answered with this status.
    Refuse(u16),
    /// It is not passed on, and never answered.
    Hang,
    /// It is not passed on, and its connection is cut.
    Cut,
    /// It is passed on, and its answer is kept.
    HangAfter,
    /// It is passed on, and its connection is cut before the answer.
    CutAfter,
}

/// Passes every request on but the one that a test stops.
#[derive(Debug)]
pub struct Toll {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: Server,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    rule: Mutex<Option<Rule>>,
    stopped: Record<String>,
}

#[derive(Debug)]
struct Rule {
    path_end: String,
    /// How many are still to pass.
    passing: usize,
    stop: Stop,
}

impl Toll {
    /// Starts before a fake.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port can be bound");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            upstream,
            rule: Mutex::new(None),
            stopped: Record::default(),
        });
        let passing = Arc::clone(&shared);
        let handler: Handler = Arc::new(move |request| Box::pin(Arc::clone(&passing).pass(request)));
        Self {
            address,
            shared,
            _server: Server::start(listener, handler),
        }
    }

    /// Returns what stands in the place of the fake's own address.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets `passing` requests to a path with this end go by, and stops the one after them. Those later go by again.
    pub fn stop_after(&self, path_end: &str, passing: usize, stop: Stop) {
        let rule = Rule {
            path_end: path_end.to_owned(),
            passing,
            stop,
        };
        *self.shared.rule.lock().unwrap_or_else(PoisonError::into_inner) = Some(rule);
    }

    /// Returns the paths of the requests that were stopped.
    pub fn stopped(&self) -> &Record<String> {
        &self.shared.stopped
    }
}

impl Shared {
    async fn pass(self: Arc<Self>, request: Request) -> Reply {
        let stop = self.stop_for(&request.path);
        let answer = match stop {
            Some(Stop::Refuse(_) | Stop::Hang | Stop::Cut) => None,
            None | Some(Stop::HangAfter | Stop::CutAfter) => http::forward(self.upstream, &request).await.ok(),
        };
        if stop.is_some() {
            self.stopped.push(request.path);
        }
        match (stop, answer) {
            (Some(Stop::Refuse(status)), _) => Reply::Whole(Response::new(status, "")),
            (Some(Stop::Hang | Stop::HangAfter), _) => Reply::Hang,
            (None, Some(answer)) => Reply::Whole(answer),
            (Some(Stop::Cut | Stop::CutAfter) | None, _) => Reply::Close,
        }
    }

    fn stop_for(&self, path: &str) -> Option<Stop> {
        let mut rule = self.rule.lock().unwrap_or_else(PoisonError::into_inner);
        let found = rule.as_mut().filter(|rule| path.ends_with(&rule.path_end))?;
        if found.passing > 0 {
            found.passing -= 1;
            return None;
        }
        rule.take().map(|rule| rule.stop)
    }
}
