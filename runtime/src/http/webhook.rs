//! `/hooks/{channel}/…`: platforms that call.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Surface;
use crate::ingress::{Refusal, WebhookReply, WebhookRequest};
use crate::limit;

/// Answers at the mount point itself.
pub(super) async fn at_mount(
    State(surface): State<Surface>,
    Path(channel): Path<String>,
    request: Request,
) -> Response {
    answer(&surface, &channel, String::new(), request).await
}

/// Answers below it.
pub(super) async fn below_mount(
    State(surface): State<Surface>,
    Path((channel, path)): Path<(String, String)>,
    request: Request,
) -> Response {
    answer(&surface, &channel, path, request).await
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
    let (parts, body) = request.into_parts();
    let body = read_body(body, bytes_max).await?;
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
    surface.ingress.webhook(channel, request).await
}

async fn read_body(body: Body, bytes_max: usize) -> Result<Vec<u8>, Refusal> {
    let read = axum::body::to_bytes(body, bytes_max);
    match tokio::time::timeout(limit::REQUEST_BODY_TIMEOUT, read).await {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(error)) if is_too_large(&error) => Err(Refusal::TooLarge),
        Ok(Err(_)) => Err(Refusal::Broken),
        Err(_) => Err(Refusal::TooSlow),
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>)
}

fn refuse(refusal: &Refusal) -> Response {
    let (status, wait_s) = match refusal {
        Refusal::NotFound => (StatusCode::NOT_FOUND, None),
        Refusal::Unverified => (StatusCode::UNAUTHORIZED, None),
        Refusal::Broken => (StatusCode::BAD_REQUEST, None),
        Refusal::TooSlow => (StatusCode::REQUEST_TIMEOUT, None),
        Refusal::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, None),
        Refusal::Busy(wait_s) => (StatusCode::TOO_MANY_REQUESTS, Some(*wait_s)),
        Refusal::Unavailable(wait_s) => (StatusCode::SERVICE_UNAVAILABLE, Some(*wait_s)),
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
    for (name, value) in reply.headers.into_iter().take(limit::REPLY_HEADERS_MAX) {
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
