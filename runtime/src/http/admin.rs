//! `/api/v1/…`: the operator's door, for who has the admin token as a bearer token. All of it speaks JSON.
//!
//! | request | answers |
//! | --- | --- |
//! | `GET channels` | the channels with status and usage |
//! | `POST channels/{name}/pause`, `…/resume` | the channel as it is then |
//! | `GET outbox?channel=&limit=` | what waits to be delivered, oldest first |
//! | `GET dead?limit=` | dead letters, newest first |
//! | `GET dead/{key}`, `DELETE dead/{key}` | one with its whole text; drops it |
//! | `POST dead/{key}/redrive`, `POST dead/redrive` with `{"channel": …}` | puts it, or all of a channel, back |
//! | `GET dead-inbound?limit=` | inbound messages whose turn was given up, newest first |
//! | `POST dead-inbound/{event}/resubmit` | lets the turn run again |
//! | `GET trace/{id}` | the way of a message, by any of its ids |
//!
//! Lists are `{"items": […]}`, changes `{"count": n}`, failures `{"error": "…"}`.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use super::Surface;
use crate::admin::{Changed, ChannelView, DeliveryView, List, Refusal, TraceView, TurnView};
use crate::limit;

/// Makes the routes below `/api/v1`.
pub(super) fn routes(surface: &Surface) -> Router<Surface> {
    Router::new()
        .route("/channels", get(channels))
        .route("/channels/{name}/pause", post(pause))
        .route("/channels/{name}/resume", post(resume))
        .route("/outbox", get(outbox))
        .route("/dead", get(dead))
        .route("/dead/redrive", post(redrive_all))
        .route("/dead/{key}", get(dead_letter).delete(drop_dead))
        .route("/dead/{key}/redrive", post(redrive))
        .route("/dead-inbound", get(dead_inbound))
        .route("/dead-inbound/{event}/resubmit", post(resubmit))
        .route("/trace/{id}", get(trace))
        .fallback(|| async { Fault(StatusCode::NOT_FOUND, "there is no such page".to_owned()) })
        .layer(DefaultBodyLimit::max(limit::OPERATOR_BODY_BYTES_MAX))
        // Before anything else of a request is looked at.
        .layer(middleware::from_fn_with_state(surface.clone(), require_token))
}

/// Lets a request through that carries the token in its header. One in the query would stand in logs and histories.
async fn require_token(State(surface): State<Surface>, request: Request, next: Next) -> Response {
    if surface.token.offered_in(request.headers(), None) == Some(true) {
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
        (self.0, Json(serde_json::json!({ "error": self.1 }))).into_response()
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::NotFound(_) => StatusCode::NOT_FOUND,
            Refusal::NotNow(_) => StatusCode::CONFLICT,
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
        Self(rejection.status(), rejection.body_text())
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
    limit: Option<usize>,
}

/// Which dead letters are put back.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    channel: Option<String>,
}

/// Returns how many rows are meant.
fn rows(limit: Option<usize>) -> usize {
    limit
        .unwrap_or(limit::OPERATOR_ROWS_DEFAULT)
        .min(limit::OPERATOR_ROWS_MAX)
}

fn list<T>(items: Vec<T>) -> Json<List<T>> {
    Json(List { items })
}

async fn channels(State(surface): State<Surface>) -> Json<List<ChannelView>> {
    list(surface.admin.channels())
}

async fn pause(State(surface): State<Surface>, Path(name): Path<String>) -> Answer<ChannelView> {
    Ok(Json(surface.admin.pause(&name)?))
}

async fn resume(State(surface): State<Surface>, Path(name): Path<String>) -> Answer<ChannelView> {
    Ok(Json(surface.admin.resume(&name)?))
}

async fn outbox(
    State(surface): State<Surface>,
    page: Result<Query<OutboxPage>, QueryRejection>,
) -> Answer<List<DeliveryView>> {
    let Query(page) = page?;
    Ok(list(
        surface.admin.outbox(page.channel.as_deref(), rows(page.limit)).await?,
    ))
}

async fn dead(State(surface): State<Surface>, page: Result<Query<Page>, QueryRejection>) -> Answer<List<DeliveryView>> {
    Ok(list(surface.admin.dead(rows(page?.limit)).await?))
}

async fn dead_letter(State(surface): State<Surface>, Path(key): Path<String>) -> Answer<DeliveryView> {
    Ok(Json(surface.admin.dead_letter(&key).await?))
}

async fn drop_dead(State(surface): State<Surface>, Path(key): Path<String>) -> Answer<Changed> {
    Ok(Json(surface.admin.drop_dead(&key).await?))
}

async fn redrive(State(surface): State<Surface>, Path(key): Path<String>) -> Answer<Changed> {
    Ok(Json(surface.admin.redrive(&key).await?))
}

async fn redrive_all(State(surface): State<Surface>, which: Result<Json<Which>, JsonRejection>) -> Answer<Changed> {
    let Json(which) = which?;
    Ok(Json(surface.admin.redrive_all(which.channel.as_deref()).await?))
}

async fn dead_inbound(
    State(surface): State<Surface>,
    page: Result<Query<Page>, QueryRejection>,
) -> Answer<List<TurnView>> {
    Ok(list(surface.admin.dead_inbound(rows(page?.limit)).await?))
}

async fn resubmit(State(surface): State<Surface>, Path(event): Path<String>) -> Answer<Changed> {
    Ok(Json(surface.admin.resubmit(&event).await?))
}

async fn trace(State(surface): State<Surface>, Path(id): Path<String>) -> Answer<List<TraceView>> {
    Ok(list(surface.admin.trace(&id).await?))
}
