//! The gateway's own HTTP surface. The only module that names axum.
//!
//! | path | for | answers |
//! | --- | --- | --- |
//! | `/hooks/{channel}/…` | platforms | what the channel's component answers, once what it published is durable |
//! | `/ws`, `/ws/{channel}` | clients of a serving channel | the channel's frames; with `?events=all` and the admin token all events too |
//! | `/api/v1/…` | the operator, with the admin token | JSON |
//! | `/live` | supervisors | 200 while the process runs |
//! | `/ready` | load balancers | 200 while it takes messages, else 503 with the reason |
//! | `/metrics` | Prometheus, under an address or a name of our own | the counters of everything |
//!
//! * Takes: requests and connections, bounded in number, size and time.
//! * Gives: them to the channel behind [`crate::ingress::Ingress`].
//! * Durable when: the channel's guest got its `publish` answered; only then does the platform get a 2xx.
//! * On failure: a status that tells the platform whether to come again.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Admin;
use crate::bus::Bus;
use crate::ingress::Ingress;

mod admin;
mod connections;
mod origin;
mod token;
mod unfinished;
mod webhook;
mod ws;

pub use connections::serve;
pub use token::AdminToken;

/// Whether the gateway takes messages, in words.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the surface needs. Cheap to clone.
#[derive(Clone)]
pub struct Surface {
    /// The channels.
    pub ingress: Arc<dyn Ingress>,
    /// What the operator asks.
    pub admin: Arc<dyn Admin>,
    /// The live view.
    pub bus: Bus,
    /// What `/ready` asks.
    pub readiness: Readiness,
    /// What `/metrics` prints.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// What opens the event stream and the operator's door.
    pub token: AdminToken,
    /// The host of the public address, where one is configured: browsers may come from pages there.
    pub public_host: Option<Arc<str>>,
    /// Ends connections.
    pub shutdown: CancellationToken,
    /// The connections of clients, each until its channel knows that it ended.
    pub clients: TaskTracker,
    /// What goes on after a request was answered.
    pub tasks: TaskTracker,
}

impl Surface {
    /// Whether the host that is asked for is one that no stranger can let lead here.
    fn is_own(&self, headers: &HeaderMap) -> bool {
        origin::is_own_host(headers, self.public_host.as_deref())
    }
}

/// Makes the routes. Tests call them without a socket.
pub fn routes(surface: Surface) -> Router {
    Router::new()
        .route("/hooks/{channel}", any(webhook::at_mount))
        .route("/hooks/{channel}/", any(webhook::at_mount))
        .route("/hooks/{channel}/{*path}", any(webhook::below_mount))
        .route("/ws", get(ws::default_channel))
        .route("/ws/{channel}", get(ws::named_channel))
        // As a service, so that `/api/v1/` itself is also behind the token: a nested router leaves that one out.
        .nest_service("/api/v1", admin::routes(surface.clone()))
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(surface)
}

async fn ready(State(surface): State<Surface>, headers: HeaderMap) -> Response {
    match (surface.readiness)() {
        Ok(()) => (StatusCode::OK, "ready\n").into_response(),
        // A load balancer may ask for any name; the reason is for the operator.
        Err(_) if !surface.is_own(&headers) => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics(State(surface): State<Surface>, headers: HeaderMap) -> Response {
    if !surface.is_own(&headers) {
        let words = "the metrics are read under an address, a local name or the host of `public_url` in `[gateway]`: \
                     the name that was asked for is none of them\n";
        return (StatusCode::FORBIDDEN, words).into_response();
    }
    const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, OPENMETRICS)], (surface.metrics)()).into_response()
}

/// Returns a header's text, if it is there once and is text.
fn single(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() {
        return None;
    }
    first.to_str().ok()
}
