//! `/hooks/{channel}/…`: platforms that call.

use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::Surface;
use super::unfinished::Inflow;
use crate::ingress::{Refusal, WebhookReply, WebhookRequest};
use crate::limit;

/// Answers at the mount point itself.
pub(super) async fn at_mount(
    State(surface): State<Surface>,
    channel: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    match channel {
        Ok(Path(channel)) => answer(&surface, &channel, String::new(), request).await,
        // No channel has such a name.
        Err(_) => refuse(&Refusal::NotFound),
    }
}

/// Answers below it.
pub(super) async fn below_mount(
    State(surface): State<Surface>,
    place: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    match place {
        Ok(Path((channel, path))) => answer(&surface, &channel, path, request).await,
        Err(_) => refuse(&Refusal::NotFound),
    }
}

async fn answer(surface: &Surface, channel: &str, path: String, request: Request) -> Response {
    match forward(surface, channel, path, request).await {
        Ok(reply) => into_response(reply),
        Err(refusal) => refuse(&refusal),
    }
}

async fn forward(surface: &Surface, channel: &str, path: String, request: Request) -> Result<WebhookReply, Refusal> {
    if surface.shutdown.is_cancelled() {
        return Err(Refusal::Unavailable(5));
    }
    // The size is checked before anything else of the body: a signature over a gigabyte is an attack.
    let bytes_max = surface.ingress.webhook_body_bytes_max(channel)?;
    let (parts, mut body) = request.into_parts();
    let inflow = parts.extensions.get::<Arc<Inflow>>().cloned();
    let read = unless_given_up(inflow.as_deref(), read_body(&mut body, bytes_max)).await;
    if matches!(read, Err(Refusal::TooLarge | Refusal::Crowded(_))) {
        read_on(surface, &parts, body);
    }
    let body = read?;
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    let request = WebhookRequest {
        method: parts.method.as_str().to_owned(),
        path: format!("/{path}"),
        query: parts.uri.query().map(str::to_owned),
        headers: headers.collect(),
        body,
    };
    // It may have to wait for its turn, and until then is kept whole.
    unless_given_up(inflow.as_deref(), surface.ingress.webhook(channel, request)).await
}

/// Goes on unless the request is given up for what others send.
async fn unless_given_up<T>(
    inflow: Option<&Inflow>,
    work: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let Some(inflow) = inflow else {
        return work.await;
    };
    tokio::select! {
        biased;
        done = work => done,
        () = inflow.given_up() => Err(Refusal::Crowded(5)),
    }
}

async fn read_body(body: &mut Body, bytes_max: usize) -> Result<Vec<u8>, Refusal> {
    // What says itself that it is too large is refused before any of it is read.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Refusal::TooLarge);
    }
    let read = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(limit::REQUEST_BODY_TIMEOUT, read).await {
        Ok(Ok(bytes)) => Ok(bytes.to_bytes().into()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge),
        Ok(Err(_)) => Err(Refusal::Broken),
        Err(_) => Err(Refusal::TooSlow),
    }
}

/// Reads on while a refused body comes, for a while: a client that is still sending when the connection ends under it
/// may see that in the place of the answer.
pub(super) fn read_on(surface: &Surface, refused: &Parts, body: Body) {
    // Who waits for `100 Continue` sends nothing more; asking for it would be that.
    if refused.headers.contains_key(header::EXPECT) {
        return;
    }
    let discarded = discard(body, refused.extensions.get::<Arc<Inflow>>().cloned());
    surface
        .tasks
        .spawn(surface.shutdown.clone().run_until_cancelled_owned(discarded));
}

async fn discard(mut body: Body, inflow: Option<Arc<Inflow>>) {
    let discarded = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            if let Some(inflow) = &inflow {
                inflow.dropped(length);
            }
            bytes += length;
            if bytes > limit::REFUSED_BODY_BYTES_MAX {
                return;
            }
        }
    };
    // However it ends, the answer is out.
    let _ = tokio::time::timeout(limit::REFUSED_BODY_TIMEOUT, discarded).await;
}

fn refuse(refusal: &Refusal) -> Response {
    let (status, wait_s) = match refusal {
        Refusal::NotFound => (StatusCode::NOT_FOUND, None),
        Refusal::Unverified => (StatusCode::UNAUTHORIZED, None),
        Refusal::Broken => (StatusCode::BAD_REQUEST, None),
        Refusal::TooSlow => (StatusCode::REQUEST_TIMEOUT, None),
        Refusal::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, None),
        Refusal::Busy(wait_s) => (StatusCode::TOO_MANY_REQUESTS, Some(*wait_s)),
        Refusal::Unavailable(wait_s) | Refusal::Crowded(wait_s) => (StatusCode::SERVICE_UNAVAILABLE, Some(*wait_s)),
        Refusal::Failed => (StatusCode::BAD_GATEWAY, None),
    };
    let body = serde_json::json!({ "error": refusal.to_string() }).to_string();
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    if let Some(wait_s) = wait_s {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(wait_s));
    }
    response
}

/// The guest's answer as it is, but for headers that belong to the connection or the whole site, which it can't speak for.
fn into_response(reply: WebhookReply) -> Response {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::BAD_GATEWAY);
    for (name, value) in reply.headers {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
            continue;
        };
        if !belongs_to_the_connection(&name) {
            response.headers_mut().append(name, value);
        }
    }
    // A page from a component must not act as the gateway's own pages: no scripts, no cookies, no guessed types.
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("sandbox; default-src 'none'"),
    );
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn belongs_to_the_connection(name: &HeaderName) -> bool {
    const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");
    [
        CLEAR_SITE_DATA,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        header::SET_COOKIE,
    ]
    .contains(name)
}
