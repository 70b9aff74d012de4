//! The connections that requests come on: bounded in number, and in the time in which each must ask.
//!
//! Where the bound is reached, the connection on which nothing was asked for the longest time makes room: so those who
//! only hold connections keep nobody out who asks. A request is asked when its body has come. A connection that has only
//! just come is given the time to ask: of a thousand clients that all connect again at once, none is turned away.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use bytes::Bytes;
use hyper::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::unfinished::{Counted, Inflow, Unfinished};
use super::{Surface, routes};
use crate::limit;

/// Serves until `shutdown`, then finishes the requests in flight, at most for `grace`.
pub async fn serve(listener: TcpListener, surface: Surface, shutdown: CancellationToken, grace: Duration) {
    let connections = TaskTracker::new();
    let routes = routes(surface);
    let (room, unfinished) = (Room::new(), Arc::new(Unfinished::default()));
    while let Some(Some((stream, permit))) = shutdown.run_until_cancelled(room.next(&listener)).await {
        let place = Place::in_room(&room);
        let (inflow, routes) = (Inflow::new(&unfinished), routes.clone());
        connections.spawn(answer(stream, inflow, routes, shutdown.clone(), place, permit));
    }
    // Whoever comes from here on is refused.
    drop(listener);
    connections.close();
    if tokio::time::timeout(grace, connections.wait()).await.is_err() {
        tracing::warn!("requests were still in flight at the end of the grace period");
    }
}

/// Answers what is asked on a connection, until it ends, makes room, or becomes a client's.
async fn answer(
    stream: TcpStream,
    inflow: Arc<Inflow>,
    routes: Router,
    shutdown: CancellationToken,
    place: Arc<Place>,
    permit: OwnedSemaphorePermit,
) {
    send_at_once(&stream);
    let stream = Counted::new(stream, Arc::clone(&inflow));
    let (routes, asking) = (TowerToHyperService::new(routes), Arc::clone(&place));
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(|body| Arriving::new(body, &asking));
        request.extensions_mut().insert(Arc::clone(&inflow));
        let (answered, asking, inflow) = (routes.call(request), Arc::clone(&asking), Arc::clone(&inflow));
        async move {
            let answer: Result<Response, Infallible> = answered.await;
            inflow.answered();
            asking.is_silent();
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limit::REQUEST_HEAD_TIMEOUT)
        .max_buf_size(limit::REQUEST_HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = place.end.cancelled() => Ok(()),
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
    drop(permit);
}

/// Turns off Nagle's algorithm: it holds a small frame back until the last one is acknowledged, which takes 40 ms.
fn send_at_once(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was refused; small frames may wait");
    }
}

/// Room for connections.
struct Room {
    free: Arc<Semaphore>,
    silent: Arc<Silent>,
}

impl Room {
    fn new() -> Self {
        Self {
            free: Arc::new(Semaphore::new(limit::CONNECTIONS_ASKING_MAX)),
            silent: Arc::default(),
        }
    }

    /// Accepts the next connection, once there is room for it.
    async fn next(&self, listener: &TcpListener) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        let stream = loop {
            match listener.accept().await {
                Ok((stream, _)) => break stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(limit::ACCEPT_RETRY).await;
                }
            }
        };
        Some((stream, self.permit().await?))
    }

    /// Waits for a free place, and sees that there is one soon.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        let mut look_in = Duration::ZERO;
        let free = Arc::clone(&self.free).acquire_owned();
        tokio::pin!(free);
        loop {
            tokio::select! {
                biased;
                permit = free.as_mut() => return permit.ok(),
                () = tokio::time::sleep(look_in) => look_in = self.silent.end_longest(),
            }
        }
    }
}

/// The connections on which nothing is asked, by when that began: the first for the longest time.
#[derive(Default)]
struct Silent(Mutex<Order>);

#[derive(Default)]
struct Order {
    next: u64,
    waiting: BTreeMap<u64, Silence>,
}

/// A connection on which nothing is asked.
struct Silence {
    /// Until when it is given the time to ask its first question; none where it had that.
    new_until: Option<Instant>,
    end: CancellationToken,
}

impl Silent {
    fn change<T>(&self, change: impl FnOnce(&mut Order) -> T) -> T {
        // Every change is a single one.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the longest silent connection that is not new. Returns when to do so again, if no place is free by then.
    fn end_longest(&self) -> Duration {
        let now = Instant::now();
        self.change(|order| {
            let is_new = |silence: &Silence| silence.new_until.is_some_and(|until| until > now);
            let longest = order.waiting.iter().find(|(_, silence)| !is_new(silence));
            let longest = longest.map(|(since, _)| *since);
            if let Some(ended) = longest.and_then(|since| order.waiting.remove(&since)) {
                ended.end.cancel();
                return limit::CONNECTION_NEW;
            }
            let first_due = order.waiting.values().filter_map(|silence| silence.new_until).min();
            first_due.map_or(limit::CONNECTION_NEW, |due| due.duration_since(now))
        })
    }
}

/// A connection's place among the silent ones, which it leaves while it asks.
struct Place {
    silent: Arc<Silent>,
    since: Mutex<u64>,
    /// Ends the connection.
    end: CancellationToken,
}

impl Place {
    /// Takes a place for a new connection: nothing was asked on it yet.
    fn in_room(room: &Room) -> Arc<Self> {
        let place = Self {
            silent: Arc::clone(&room.silent),
            since: Mutex::default(),
            end: CancellationToken::new(),
        };
        place.wait(Some(Instant::now() + limit::CONNECTION_NEW));
        Arc::new(place)
    }

    fn is_silent(&self) {
        self.wait(None);
    }

    fn wait(&self, new_until: Option<Instant>) {
        let end = self.end.clone();
        let since = self.silent.change(|order| {
            order.next += 1;
            order.waiting.insert(order.next, Silence { new_until, end });
            order.next
        });
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn silent_since(&self) -> u64 {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the place that it took then; without effect where it took another one meanwhile.
    fn asks(&self, since: u64) {
        self.silent.change(|order| order.waiting.remove(&since));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.asks(self.silent_since());
    }
}

/// The body of a request. Until it is there, nothing was asked: who begins many bodies and ends none holds connections only.
struct Arriving {
    body: Incoming,
    place: Arc<Place>,
    since: u64,
}

impl Arriving {
    fn new(body: Incoming, place: &Arc<Place>) -> Self {
        let this = Self {
            body,
            since: place.silent_since(),
            place: Arc::clone(place),
        };
        this.look();
        this
    }

    fn look(&self) {
        if self.body.is_end_stream() {
            self.place.asks(self.since);
        }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        match frame {
            Some(_) => this.look(),
            None => this.place.asks(this.since),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
