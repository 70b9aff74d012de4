//! `/api/v1/…`: the operator's door, for who has the admin token as a bearer token. All of it speaks JSON.
//!
//! | request | answers |
//! | --- | --- |
//! | `GET channels` | the channels with status and usage |
//! | `POST channels/{name}/pause`, `…/resume` | what was done, and the channel as it is then |
//! | `GET channels/{name}/egress?limit=` | what it reached, or tried to, newest first |
//! | `POST channels/{name}` with a staged configuration | makes the channel what that says |
//! | `POST messages` with `{"channel": …, "conversation": …, "text": …}` | stores a message to be delivered: `{"delivery_key": …}` |
//! | `GET outbox?channel=&after=&limit=` | what waits to be delivered, oldest first |
//! | `GET outbox/{key}`, `DELETE outbox/{key}` | one with its whole text; drops it |
//! | `POST outbox/{key}/hold`, `…/release` | holds it back; lets it go |
//! | `GET dead?channel=&reason=&after=&limit=` | dead letters, newest first |
//! | `GET dead/{key}`, `DELETE dead/{key}` | one with its whole text; drops it |
//! | `POST dead/{key}/redrive` | puts it back |
//! | `POST dead/redrive`, `POST dead/drop` with `{"channel": …, "reason": …}` | puts back, or drops, all of these |
//! | `GET dead-inbound?limit=` | inbound messages whose turn was given up, newest first |
//! | `POST dead-inbound/{event}/resubmit`, `DELETE dead-inbound/{event}` | lets the turn run again; drops it |
//! | `GET changes?limit=` | what operators changed, newest first |
//! | `GET trace/{id}` | the way of a message, by any of its ids |
//! | `GET openapi.json` | the document of all this, for programs |
//!
//! Lists are `{"items": […], "next": "…"}`, where `next` is the `after` of what comes behind, if there is more; changes `{"count": n}`, failures `{"error": "…"}`.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use axum::body::HttpBody as _;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Surface;
use super::unfinished::Inflow;
use super::webhook::read_on;
use crate::admin::{
    Change, ChangeView, Changed, ChannelChanged, ChannelEdit, ChannelView, Dead, DeadFilter, DeliveryView, EgressView,
    List, Outgoing, Part, Refusal, Sent, TraceView, TurnView,
};
use crate::id::{ChannelName, DeliveryKey, EventId};
use crate::limit;

/// Makes the routes below `/api/v1`.
pub(super) fn routes(surface: Surface) -> Router {
    Router::new()
        .route("/channels", get(channels))
        .route("/channels/{name}", post(apply))
        .route("/channels/{name}/egress", get(egress))
        .route("/channels/{name}/pause", post(pause))
        .route("/channels/{name}/resume", post(resume))
        .route("/messages", post(send))
        .route("/outbox", get(outbox))
        .route("/outbox/{key}", get(waiting).delete(drop_waiting))
        .route("/outbox/{key}/hold", post(hold))
        .route("/outbox/{key}/release", post(release))
        .route("/dead", get(dead))
        .route("/dead/redrive", post(redrive_all))
        .route("/dead/drop", post(drop_all_dead))
        .route("/dead/{key}", get(dead_letter).delete(drop_dead))
        .route("/dead/{key}/redrive", post(redrive))
        .route("/dead-inbound", get(dead_inbound))
        .route("/dead-inbound/{event}", delete(drop_inbound))
        .route("/dead-inbound/{event}/resubmit", post(resubmit))
        .route("/changes", get(changes))
        .route("/trace/{id}", get(trace))
        .route("/openapi.json", get(openapi))
        .fallback(|| async { Fault(StatusCode::NOT_FOUND, "there is no such page".to_owned()) })
        .method_not_allowed_fallback(|| async {
            let words = "this page has no such method: `allow` names those it has";
            Fault(StatusCode::METHOD_NOT_ALLOWED, words.to_owned())
        })
        // Before anything else of a request is looked at.
        .layer(middleware::from_fn_with_state(surface.clone(), require_token))
        .with_state(surface)
}

/// Lets a request through that carries the token in its header. One in the query would stand in logs and histories.
async fn require_token(State(surface): State<Surface>, request: Request, next: Next) -> Response {
    if surface.token.offered_in(request.headers(), None) == Some(true) {
        if let Some(inflow) = request.extensions().get::<Arc<Inflow>>() {
            inflow.trust();
        }
        return next.run(request).await;
    }
    let words = "the admin token is needed: `Authorization: Bearer …`, from the file admin-token in the data directory";
    let mut refused = Fault(StatusCode::UNAUTHORIZED, words.to_owned()).into_response();
    let scheme = HeaderValue::from_static("Bearer");
    refused.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    refused
}

/// Why a request failed, in words for the operator.
struct Fault(StatusCode, String);

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let Self(status, mut words) = self;
        // They may repeat what was asked.
        if words.len() > limit::OPERATOR_FAULT_BYTES_MAX {
            words.truncate(words.floor_char_boundary(limit::OPERATOR_FAULT_BYTES_MAX));
            words.push('…');
        }
        (status, Json(serde_json::json!({ "error": words }))).into_response()
    }
}

/// The name or id in the path of a request.
struct Named(String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(name) = path.map_err(|_| Fault(StatusCode::NOT_FOUND, "a name is UTF-8".to_owned()))?;
        if name.len() > limit::OPERATOR_ID_BYTES_MAX {
            let words = format!("nothing has a name of {} bytes", name.len());
            return Err(Fault(StatusCode::NOT_FOUND, words));
        }
        Ok(Self(name))
    }
}

/// What a body says, and how long it may be.
trait Bounded: DeserializeOwned + Send {
    const BYTES_MAX: usize = limit::OPERATOR_BODY_BYTES_MAX;
}

impl Bounded for Which {}

impl Bounded for ChannelEdit {}

impl Bounded for Outgoing {
    const BYTES_MAX: usize = limit::OPERATOR_SEND_BODY_BYTES_MAX;
}

/// The body of a request: a JSON object.
struct Told<T>(T);

impl<T: Bounded> FromRequest<Surface> for Told<T> {
    type Rejection = Fault;

    async fn from_request(mut request: Request, surface: &Surface) -> Result<Self, Fault> {
        // What says itself that it is too large is refused before any of it is read.
        if request.body().size_hint().lower() > T::BYTES_MAX as u64 {
            let (parts, body) = request.into_parts();
            read_on(surface, &parts, body);
            let words = format!("the body is too large: it may have {} bytes", T::BYTES_MAX);
            return Err(Fault(StatusCode::PAYLOAD_TOO_LARGE, words));
        }
        DefaultBodyLimit::max(T::BYTES_MAX).apply(&mut request);
        let Json(Object(told)) = Json::<Object<T>>::from_request(request, surface).await?;
        Ok(Self(told))
    }
}

/// What is read from a JSON object only. By itself a struct is read from an array as well, field by field: `[null,null]`
/// would be all dead letters.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

struct Fields<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, fields: M) -> Result<T, M::Error> {
        T::deserialize(MapAccessDeserializer::new(fields))
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::NotFound(_) => StatusCode::NOT_FOUND,
            Refusal::Misunderstood(_) => StatusCode::BAD_REQUEST,
            Refusal::NotNow(_) => StatusCode::CONFLICT,
            Refusal::Outdated(_) => StatusCode::PRECONDITION_FAILED,
            Refusal::Wrong(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::StoreFailed(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, refusal.to_string())
    }
}

impl From<QueryRejection> for Fault {
    fn from(rejection: QueryRejection) -> Self {
        Self(rejection.status(), rejection.body_text())
    }
}

impl From<JsonRejection> for Fault {
    fn from(rejection: JsonRejection) -> Self {
        let status = match &rejection {
            // 422 says that what was asked is understood, and wrong.
            JsonRejection::JsonDataError(_) => StatusCode::BAD_REQUEST,
            other => other.status(),
        };
        Self(status, rejection.body_text())
    }
}

type Answer<T> = Result<Json<T>, Fault>;

/// What a list is asked with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    limit: Option<usize>,
}

/// What the outbox is asked with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutboxPage {
    channel: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

/// What the dead letters are asked with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeadPage {
    channel: Option<String>,
    reason: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

/// Which dead letters are changed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    channel: Option<String>,
    reason: Option<String>,
}

fn filter(channel: Option<String>, reason: Option<String>) -> DeadFilter {
    DeadFilter {
        channel: channel.map(ChannelName::from_trusted),
        reason,
    }
}

fn part(after: Option<String>, limit: Option<usize>) -> Part {
    Part {
        after,
        max: rows(limit),
    }
}

/// Returns how many rows are meant.
fn rows(limit: Option<usize>) -> usize {
    limit
        .unwrap_or(limit::OPERATOR_ROWS_DEFAULT)
        .min(limit::OPERATOR_ROWS_MAX)
}

fn list<T>(items: Vec<T>) -> Json<List<T>> {
    Json(List { items, next: None })
}

async fn channels(State(surface): State<Surface>) -> Json<List<ChannelView>> {
    list(surface.admin.channels())
}

async fn egress(
    State(surface): State<Surface>,
    Named(name): Named,
    page: Result<Query<Page>, QueryRejection>,
) -> Answer<List<EgressView>> {
    let max = rows(page?.limit);
    Ok(list(surface.admin.egress(&name, max)?))
}

async fn pause(State(surface): State<Surface>, Named(name): Named) -> Answer<ChannelChanged> {
    Ok(Json(surface.admin.pause(&name).await?))
}

async fn resume(State(surface): State<Surface>, Named(name): Named) -> Answer<ChannelChanged> {
    Ok(Json(surface.admin.resume(&name).await?))
}

async fn apply(
    State(surface): State<Surface>,
    Named(name): Named,
    Told(edit): Told<ChannelEdit>,
) -> Answer<ChannelChanged> {
    Ok(Json(surface.admin.apply(&name, edit).await?))
}

async fn send(State(surface): State<Surface>, Told(message): Told<Outgoing>) -> Answer<Sent> {
    Ok(Json(surface.admin.send(message).await?))
}

async fn outbox(
    State(surface): State<Surface>,
    page: Result<Query<OutboxPage>, QueryRejection>,
) -> Answer<List<DeliveryView>> {
    let Query(page) = page?;
    let part = part(page.after, page.limit);
    Ok(Json(surface.admin.outbox(page.channel.as_deref(), part).await?))
}

async fn waiting(State(surface): State<Surface>, Named(key): Named) -> Answer<DeliveryView> {
    Ok(Json(surface.admin.waiting(&key).await?))
}

async fn hold(State(surface): State<Surface>, Named(key): Named) -> Answer<Changed> {
    change(&surface, Change::Hold(DeliveryKey::from_trusted(key))).await
}

async fn release(State(surface): State<Surface>, Named(key): Named) -> Answer<Changed> {
    change(&surface, Change::Release(DeliveryKey::from_trusted(key))).await
}

async fn drop_waiting(State(surface): State<Surface>, Named(key): Named) -> Answer<Changed> {
    change(&surface, Change::Drop(DeliveryKey::from_trusted(key))).await
}

async fn dead(
    State(surface): State<Surface>,
    page: Result<Query<DeadPage>, QueryRejection>,
) -> Answer<List<DeliveryView>> {
    let Query(page) = page?;
    let filter = filter(page.channel, page.reason);
    Ok(Json(surface.admin.dead(&filter, part(page.after, page.limit)).await?))
}

async fn dead_letter(State(surface): State<Surface>, Named(key): Named) -> Answer<DeliveryView> {
    Ok(Json(surface.admin.dead_letter(&key).await?))
}

async fn drop_dead(State(surface): State<Surface>, Named(key): Named) -> Answer<Changed> {
    change(&surface, Change::DropDead(Dead::One(DeliveryKey::from_trusted(key)))).await
}

async fn redrive(State(surface): State<Surface>, Named(key): Named) -> Answer<Changed> {
    change(&surface, Change::Redrive(Dead::One(DeliveryKey::from_trusted(key)))).await
}

async fn redrive_all(State(surface): State<Surface>, Told(which): Told<Which>) -> Answer<Changed> {
    change(&surface, Change::Redrive(all(which))).await
}

async fn drop_all_dead(State(surface): State<Surface>, Told(which): Told<Which>) -> Answer<Changed> {
    change(&surface, Change::DropDead(all(which))).await
}

fn all(which: Which) -> Dead {
    Dead::Matching {
        filter: filter(which.channel, which.reason),
        max: usize::MAX,
    }
}

async fn change(surface: &Surface, change: Change) -> Answer<Changed> {
    Ok(Json(surface.admin.change(change).await?))
}

async fn dead_inbound(
    State(surface): State<Surface>,
    page: Result<Query<Page>, QueryRejection>,
) -> Answer<List<TurnView>> {
    Ok(list(surface.admin.dead_inbound(rows(page?.limit)).await?))
}

async fn resubmit(State(surface): State<Surface>, Named(event): Named) -> Answer<Changed> {
    change(&surface, Change::Resubmit(EventId::from_trusted(event))).await
}

async fn drop_inbound(State(surface): State<Surface>, Named(event): Named) -> Answer<Changed> {
    change(&surface, Change::DropInbound(EventId::from_trusted(event))).await
}

async fn changes(
    State(surface): State<Surface>,
    page: Result<Query<Page>, QueryRejection>,
) -> Answer<List<ChangeView>> {
    Ok(list(surface.admin.changes(rows(page?.limit)).await?))
}

/// The document of all of this: `tests/suites/tidy/openapi.rs` holds it against the code.
async fn openapi() -> Response {
    const DOCUMENT: &str = include_str!("openapi.json");
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

async fn trace(State(surface): State<Surface>, Named(id): Named) -> Answer<List<TraceView>> {
    Ok(list(surface.admin.trace(&id).await?))
}
