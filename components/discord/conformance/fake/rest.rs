//! The fake's REST API.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRequest, Multipart, Path, Request, State as Held};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use serde_json::{Value, json};

use super::state::{Call, Fault, Posted, State, bot, id_of};
use super::{Shared, TOKEN};

/// The longest text of a message, code points.
const TEXT_CHARACTERS_MAX: usize = 2000;
/// The longest nonce, characters.
const NONCE_CHARACTERS_MAX: usize = 25;
/// The largest request.
const REQUEST_BYTES_MAX: usize = 25 * 1024 * 1024;

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v10/{*path}", any(call))
        .route("/attachments/{number}/{name}", get(attachment))
        .layer(axum::extract::DefaultBodyLimit::max(REQUEST_BYTES_MAX))
}

async fn attachment(
    Held(shared): Held<Arc<Shared>>,
    Path((number, _)): Path<(usize, String)>,
    headers: HeaderMap,
) -> Response {
    let mut state = shared.lock();
    if headers.contains_key(header::AUTHORIZATION) {
        state
            .violations
            .push("the token was sent to the file server".to_owned());
    }
    match state.file(number) {
        Some(file) => ([(header::CONTENT_TYPE, file.media_type)], file.bytes).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// An answer of the API.
struct Answer {
    status: u16,
    body: Value,
    headers: Vec<(&'static str, String)>,
}

impl Answer {
    fn ok(body: Value) -> Self {
        Self {
            status: 200,
            body,
            headers: Vec::new(),
        }
    }

    fn empty() -> Self {
        Self {
            status: 204,
            ..Self::ok(Value::Null)
        }
    }

    fn refused(status: u16, code: u32, message: &str) -> Self {
        Self {
            status,
            ..Self::ok(json!({"code": code, "message": message}))
        }
    }

    fn too_many(seconds: f64, global: bool) -> Self {
        let mut headers = vec![
            // discord.py takes a 429 without this header for one of the network before Discord.
            ("via", "1.1 google".to_owned()),
            ("retry-after", seconds.ceil().to_string()),
            ("x-ratelimit-scope", if global { "global" } else { "user" }.to_owned()),
        ];
        if global {
            headers.push(("x-ratelimit-global", "true".to_owned()));
        }
        Self {
            status: 429,
            body: json!({"message": "You are being rate limited.", "retry_after": seconds, "global": global}),
            headers,
        }
    }

    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = if self.body.is_null() {
            status.into_response()
        } else {
            // Exactly this content type: discord.py reads no JSON under another.
            (
                status,
                [(header::CONTENT_TYPE, "application/json")],
                self.body.to_string(),
            )
                .into_response()
        };
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// A call, read.
struct Asked {
    method: String,
    path: String,
    body: Value,
    files: Vec<(String, Vec<u8>)>,
}

async fn call(Held(shared): Held<Arc<Shared>>, Path(path): Path<String>, request: Request) -> Response {
    let (method, headers) = (request.method().to_string(), request.headers().clone());
    let (body, files) = match read(request).await {
        Ok(read) => read,
        Err(words) => return Answer::refused(400, 50109, &words).into_response(),
    };
    let path = format!("/{path}");
    let asked = Asked {
        method,
        path,
        body,
        files,
    };
    let (answer, is_cut) = {
        let mut state = shared.lock();
        let fault = state.take_fault(&asked.method, &asked.path);
        let is_cut = matches!(fault, Some(Fault::NoAnswer { .. }));
        let answer = answer(&mut state, &shared, &asked, &headers, fault);
        let status = answer
            .as_ref()
            .map_or(0, |answer| answer.as_ref().map_or(502, |answer| answer.status));
        state.calls.push(Call {
            method: asked.method.clone(),
            path: asked.path.clone(),
            body: asked.body.clone(),
            status,
            at: std::time::Instant::now(),
        });
        (answer, is_cut)
    };
    match answer {
        Some(Ok(answer)) if !is_cut => answer.into_response(),
        Some(Err(status)) => (
            StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY),
            "<html>",
        )
            .into_response(),
        // A body that breaks off is the nearest thing to no answer that a handler can give.
        _ => {
            let broken = futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other("cut off"))]);
            Response::new(axum::body::Body::from_stream(broken))
        }
    }
}

/// Answers a call: none for one that is cut off, an error for a page of something before Discord.
fn answer(
    state: &mut State,
    shared: &Shared,
    asked: &Asked,
    headers: &HeaderMap,
    fault: Option<Fault>,
) -> Option<Result<Answer, u16>> {
    match fault {
        Some(Fault::Api { status, code }) => return Some(Ok(Answer::refused(status, code, "as ordered"))),
        Some(Fault::Page(status)) => return Some(Err(status)),
        Some(Fault::TooMany { seconds, global }) => return Some(Ok(Answer::too_many(seconds, global))),
        Some(Fault::NoAnswer { accepted: false }) => return None,
        Some(Fault::NoAnswer { accepted: true }) | None => {}
    }
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    if !header("user-agent").starts_with("DiscordBot (") {
        state
            .violations
            .push(format!("{:?} is no user agent of a bot's", header("user-agent")));
    }
    if header("authorization") != format!("Bot {TOKEN}") || state.refuses_token {
        return Some(Ok(Answer::refused(401, 0, "401: Unauthorized")));
    }
    let parts: Vec<&str> = asked.path.trim_matches('/').split('/').collect();
    Some(Ok(match (asked.method.as_str(), parts.as_slice()) {
        ("GET", ["users", "@me"]) => Answer::ok(bot()),
        ("GET", ["oauth2", "applications", "@me"]) => Answer::ok(application()),
        ("GET", ["gateway", "bot"]) => Answer::ok(json!({
            "url": format!("ws://{}/gw", shared.address), "shards": 1,
            "session_start_limit": {"total": 1000, "remaining": 999, "reset_after": 1000, "max_concurrency": 1},
        })),
        (_, ["channels", channel, rest @ ..]) => in_channel(state, asked, channel, rest),
        _ => Answer::refused(404, 0, "404: Not Found"),
    }))
}

fn in_channel(state: &mut State, asked: &Asked, channel: &str, rest: &[&str]) -> Answer {
    let known = state.channels.get(channel).filter(|_| !state.closed.contains(channel));
    let Some(known) = known.cloned() else {
        return Answer::refused(404, 10003, "Unknown Channel");
    };
    match (asked.method.as_str(), rest) {
        ("GET", []) => Answer::ok(known),
        ("POST", ["typing"]) => Answer::empty(),
        ("POST", ["messages"]) => create(state, channel, asked),
        ("PATCH", ["messages", id]) => edit(state, channel, id, &asked.body),
        ("DELETE", ["messages", id]) if state.remove(channel, id) => {
            state.dispatch("MESSAGE_DELETE", &json!({"id": id, "channel_id": channel}));
            Answer::empty()
        }
        ("PUT", ["messages", id, "reactions", emoji, "@me"]) if state.knows(id) => {
            if let Some(posted) = state.posted_mut(channel, id) {
                posted.reactions.push((*emoji).to_owned());
            }
            Answer::empty()
        }
        ("DELETE" | "PUT", ["messages", ..]) => Answer::refused(404, 10008, "Unknown Message"),
        _ => Answer::refused(404, 0, "404: Not Found"),
    }
}

fn create(state: &mut State, channel: &str, asked: &Asked) -> Answer {
    let (left, wait) = state.spend(channel);
    let limits = |answer: Answer, left: u32| Answer {
        headers: [
            ("x-ratelimit-limit", "5".to_owned()),
            ("x-ratelimit-remaining", left.to_string()),
            ("x-ratelimit-reset-after", format!("{:.3}", wait.as_secs_f64())),
            ("x-ratelimit-bucket", "80c17d2f203122d936070c88c8d10f33".to_owned()),
        ]
        .into_iter()
        .chain(answer.headers)
        .collect(),
        ..answer
    };
    let Some(left) = left else {
        return limits(Answer::too_many(wait.as_secs_f64(), false), 0);
    };
    let refused = refusal_of_text(state, &asked.body, asked.files.is_empty());
    let answer = refused.unwrap_or_else(|| {
        if let Some(words) = violation_of(&asked.body) {
            state.violations.push(words);
        }
        Answer::ok(state.post(channel, &asked.body, asked.files.clone()))
    });
    limits(answer, left)
}

fn refusal_of_text(state: &State, body: &Value, is_without_files: bool) -> Option<Answer> {
    let content = body["content"].as_str().unwrap_or_default();
    if content.trim().is_empty() && is_without_files {
        return Some(Answer::refused(400, 50006, "Cannot send an empty message"));
    }
    if content.chars().count() > TEXT_CHARACTERS_MAX {
        return Some(Answer::refused(
            400,
            50035,
            "Invalid Form Body: Must be 2000 or fewer in length.",
        ));
    }
    let nonce = &body["nonce"];
    if nonce
        .as_str()
        .is_some_and(|nonce| nonce.chars().count() > NONCE_CHARACTERS_MAX)
    {
        return Some(Answer::refused(
            400,
            50035,
            "Invalid Form Body: Must be 25 or fewer in length.",
        ));
    }
    let reference = &body["message_reference"];
    let answered = id_of(&reference["message_id"]);
    let is_unknown = answered.is_some_and(|id| !state.knows(&id));
    // Discord's default is to fail.
    if is_unknown && reference["fail_if_not_exists"] != false {
        return Some(Answer::refused(400, 50035, "Invalid Form Body: Unknown message"));
    }
    None
}

/// What Discord lets pass. The oracle's client writes no mentions, and sends no nonce where it is not asked to.
fn violation_of(body: &Value) -> Option<String> {
    let nonce = body["nonce"].as_str().unwrap_or_default();
    if !nonce.is_empty() && body["enforce_nonce"] != true {
        return Some("a nonce that is not enforced".to_owned());
    }
    let parse = &body["allowed_mentions"]["parse"];
    (parse != &json!([])).then(|| format!("mentions are open: {parse}"))
}

fn edit(state: &mut State, channel: &str, id: &str, body: &Value) -> Answer {
    let content = body["content"].as_str().unwrap_or_default().to_owned();
    if content.chars().count() > TEXT_CHARACTERS_MAX {
        return Answer::refused(400, 50035, "Invalid Form Body: Must be 2000 or fewer in length.");
    }
    let Some(posted) = state.posted_mut(channel, id) else {
        return Answer::refused(404, 10008, "Unknown Message");
    };
    let before = std::mem::replace(&mut posted.content, content);
    posted.earlier.push(before);
    let posted: Posted = posted.clone();
    let mut shown = state.shown(&posted);
    shown["edited_timestamp"] = json!("2026-03-01T10:05:00.000000+00:00");
    state.dispatch("MESSAGE_UPDATE", &shown);
    Answer::ok(shown)
}

fn application() -> Value {
    json!({"id": "700", "name": "sluice", "icon": null, "description": "", "bot_public": false, "flags": 0,
        "bot_require_code_grant": false, "verify_key": "00", "team": null, "summary": "", "owner": bot()})
}

/// Reads a body: JSON, or a form of `payload_json` and files.
async fn read(request: Request) -> Result<(Value, Vec<(String, Vec<u8>)>), String> {
    let kind = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !kind.starts_with("multipart/form-data") {
        let bytes = axum::body::to_bytes(request.into_body(), REQUEST_BYTES_MAX)
            .await
            .map_err(|e| e.to_string())?;
        if bytes.is_empty() {
            return Ok((Value::Null, Vec::new()));
        }
        let body = serde_json::from_slice(&bytes)
            .map_err(|error| format!("The request body contains invalid JSON: {error}"))?;
        return Ok((body, Vec::new()));
    }
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|error| error.to_string())?;
    let (mut body, mut files) = (Value::Null, Vec::new());
    while let Some(part) = form.next_field().await.map_err(|error| error.to_string())? {
        let name = part.name().unwrap_or_default().to_owned();
        let file_name = part.file_name().map(str::to_owned);
        let bytes = part.bytes().await.map_err(|error| error.to_string())?;
        match file_name {
            Some(file_name) if name.starts_with("files[") => files.push((file_name, bytes.to_vec())),
            _ if name == "payload_json" => body = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?,
            _ => return Err(format!("the part {name} has no meaning")),
        }
    }
    Ok((body, files))
}
