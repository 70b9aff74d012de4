//! The moment at which an HTTP request is about to leave: there is a connection for it, and nothing was written on it.
//!
//! Looking a name up, connecting and TLS are most of the time that a delivery takes before its first byte, and all of it
//! where a platform is down. An attempt that ends there has sent nothing, and must not be marked as if it had. But the
//! client that pools the connections hands a request from one that waits to the wire without a word. So the gate knows, of
//! each origin, whether a connection can be waiting. Where one can, a request is noted before it is given to the client.
//! Where none can, it is noted by the first connection that is made, whoever that is for, before anyone gets to use it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tower::{Layer, Service};

use super::evidence::{Evidence, Unanswered, Unmarked};
use crate::limit;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

tokio::task_local! {
    /// The use that a connection is made for.
    static USE: Arc<Use>;
}

/// The origins of one pool of connections: those that have one or are about to, so it is no larger than the pool.
#[derive(Debug, Default)]
pub(super) struct Origins(Mutex<HashMap<String, Origin>>);

#[derive(Debug, Default)]
struct Origin {
    /// How many requests may have a connection, which goes back to the pool at some moment before they end.
    holders: usize,
    /// Until when a connection that was used may wait in the pool.
    pooled_until: Option<Instant>,
    /// Requests that wait for a connection, to be noted before there is one.
    departures: Vec<Arc<Departure>>,
}

impl Origin {
    fn may_be_connected(&self, now: Instant) -> bool {
        self.holders > 0 || self.pooled_until.is_some_and(|until| now < until)
    }

    /// Notes that a connection was used at this time.
    fn used_at(&mut self, at: Instant) {
        self.pooled_until = self
            .pooled_until
            .max(Some(at + limit::POOL_IDLE_TIMEOUT + limit::CONNECT_TIMEOUT));
    }
}

/// A request of an attempt, which is noted in its evidence before it leaves.
#[derive(Debug)]
struct Departure {
    evidence: Evidence,
    noted: tokio::sync::Mutex<Option<Unanswered>>,
}

impl Departure {
    async fn note(&self) -> Result<(), Unmarked> {
        let mut noted = self.noted.lock().await;
        if noted.is_none() {
            *noted = Some(self.evidence.begin().await?);
        }
        Ok(())
    }
}

/// One request's use of an origin. Lives until its answer is complete, since until then its connection is not back.
#[derive(Debug)]
pub(super) struct Use {
    origins: Arc<Origins>,
    origin: String,
    began_at: Instant,
    /// Whether it counts among the holders. Changed under the lock of the origins only.
    holds: AtomicBool,
    is_answered: AtomicBool,
    departure: Option<Arc<Departure>>,
}

impl Origins {
    /// Begins a use. What is noted in `evidence`, where there is one, is noted now if a connection can be waiting.
    pub(super) async fn enter(
        self: &Arc<Self>,
        origin: String,
        evidence: Option<&Evidence>,
    ) -> Result<Arc<Use>, Unmarked> {
        let departure = evidence.map(|evidence| {
            Arc::new(Departure {
                evidence: evidence.clone(),
                noted: tokio::sync::Mutex::default(),
            })
        });
        let began_at = Instant::now();
        let may_be_connected = self.begin_use(&origin, departure.as_ref(), began_at);
        let begun = Arc::new(Use {
            origins: Arc::clone(self),
            origin,
            began_at,
            holds: AtomicBool::new(may_be_connected),
            is_answered: AtomicBool::new(false),
            departure,
        });
        if may_be_connected && let Some(departure) = &begun.departure {
            departure.note().await?;
        }
        Ok(begun)
    }

    fn begin_use(&self, origin: &str, departure: Option<&Arc<Departure>>, now: Instant) -> bool {
        let mut origins = self.lock();
        if !origins.contains_key(origin) {
            origins.retain(|_, other| !other.departures.is_empty() || other.may_be_connected(now));
        }
        let origin = origins.entry(origin.to_owned()).or_default();
        let may_be_connected = origin.may_be_connected(now);
        origin.holders += usize::from(may_be_connected);
        origin.departures.extend(departure.cloned());
        may_be_connected
    }

    fn waits(&self, origin: &str, departure: &Arc<Departure>) -> bool {
        let origins = self.lock();
        let waiting = origins.get(origin).map_or(&[][..], |origin| &origin.departures);
        waiting.iter().any(|other| Arc::ptr_eq(other, departure))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Origin>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Use {
    /// Carries out what may make a connection for this use.
    pub(super) async fn scope<T>(self: &Arc<Self>, work: impl Future<Output = T>) -> T {
        USE.scope(Arc::clone(self), work).await
    }

    /// Says that the answer has begun.
    pub(super) fn answered(&self) {
        self.is_answered.store(true, Ordering::Release);
    }

    /// Says that a connection is being made for it: it has found none that waits.
    fn connecting(&self) {
        let mut origins = self.origins.lock();
        if self.holds.swap(false, Ordering::AcqRel)
            && let Some(origin) = origins.get_mut(&self.origin)
        {
            origin.holders = origin.holders.saturating_sub(1);
        }
    }

    /// Returns what was noted of the request; none where nothing of it can have left.
    pub(super) async fn take_noted(&self) -> Option<Unanswered> {
        self.departure.as_ref()?.noted.lock().await.take()
    }

    /// Notes every request that a new connection could be used for. The connection must not be used after an error.
    async fn connected(&self) -> Result<(), Unmarked> {
        let departures = {
            let mut origins = self.origins.lock();
            let origin = origins.entry(self.origin.clone()).or_default();
            origin.used_at(Instant::now());
            origin.holders += usize::from(!self.holds.swap(true, Ordering::AcqRel));
            origin.departures.clone()
        };
        for departure in departures {
            let noted = departure.note().await;
            // One that was given up meanwhile no longer leaves.
            if noted.is_err() && self.origins.waits(&self.origin, &departure) {
                return noted;
            }
        }
        Ok(())
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut origins = self.origins.lock();
        let Some(origin) = origins.get_mut(&self.origin) else {
            return;
        };
        if self.holds.load(Ordering::Acquire) {
            origin.holders = origin.holders.saturating_sub(1);
            let is_answered = self.is_answered.load(Ordering::Acquire);
            // Unanswered, it was given a connection no later than it could have been given a new one.
            origin.used_at(if is_answered { Instant::now() } else { self.began_at });
        }
        if let Some(own) = &self.departure {
            origin.departures.retain(|other| !Arc::ptr_eq(other, own));
        }
    }
}

/// Has what could leave on a new connection noted before the pool gets it.
#[derive(Debug, Clone, Copy)]
pub(super) struct NoteDepartures;

impl<S> Layer<S> for NoteDepartures {
    type Service = NotingConnector<S>;

    fn layer(&self, connector: S) -> Self::Service {
        NotingConnector(connector)
    }
}

/// See [`NoteDepartures`].
#[derive(Debug, Clone)]
pub(super) struct NotingConnector<S>(S);

impl<S, D> Service<D> for NotingConnector<S>
where
    S: Service<D, Error = BoxError>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, destination: D) -> Self::Future {
        // Known here and kept: the connection may be finished on another task when its request found one sooner.
        let used_by = USE.try_with(Arc::clone).inspect(|used_by| used_by.connecting());
        let connecting = self.0.call(destination);
        Box::pin(async move {
            let used_by = used_by?;
            let connection = connecting.await?;
            used_by.connected().await?;
            Ok(connection)
        })
    }
}
