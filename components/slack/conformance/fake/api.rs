//! The fake's Web API.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State as Held};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Map, Value, json};

use super::state::{Call, Fault, State, Stored};
use super::{APP_BOT, APP_TOKEN, APP_USER, BOT_TOKEN, Shared};

/// The longest text of `chat.postMessage`, characters.
const POST_CHARACTERS_MAX: usize = 40_000;
/// The longest text of `chat.update`, characters.
const UPDATE_CHARACTERS_MAX: usize = 4_000;
/// Messages of a page where the app does not say how many.
const PAGE_MESSAGES_DEFAULT: usize = 100;
/// The largest request.
const REQUEST_BYTES_MAX: usize = 25 * 1024 * 1024;

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/{method}", post(call).get(call))
        .route("/files-pri/{number}/{name}", get(download))
        .route("/upload/{number}", post(upload))
        .layer(axum::extract::DefaultBodyLimit::max(REQUEST_BYTES_MAX))
}

fn bearer(headers: &HeaderMap) -> &str {
    let value = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value.strip_prefix("Bearer ").unwrap_or_default()
}

async fn download(
    Held(shared): Held<Arc<Shared>>,
    Path((number, _)): Path<(usize, String)>,
    headers: HeaderMap,
) -> Response {
    if bearer(&headers) != BOT_TOKEN {
        // Slack shows its page for logging in.
        return (
            [(header::CONTENT_TYPE, "text/html; charset=utf-8")],
            "<html>log in</html>",
        )
            .into_response();
    }
    let file = shared.lock().files.get(number).cloned();
    match file {
        Some(file) => ([(header::CONTENT_TYPE, file.media_type)], file.bytes).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn upload(Held(shared): Held<Arc<Shared>>, Path(number): Path<usize>, body: Bytes) -> Response {
    let mut state = shared.lock();
    let Some(file) = state.files.get_mut(number) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if file.length != body.len() {
        let words = format!("{} bytes were announced, {} came", file.length, body.len());
        state.violations.push(words);
        return StatusCode::BAD_REQUEST.into_response();
    }
    file.bytes = body.to_vec();
    format!("OK - {}", body.len()).into_response()
}

async fn call(
    Held(shared): Held<Arc<Shared>>,
    Path(method): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let params = params(&headers, &body);
    let mut state = shared.lock();
    let channel = params["channel"]
        .as_str()
        .or(params["channel_id"].as_str())
        .unwrap_or_default()
        .to_owned();
    let fault = state.take_fault(&method, &channel);
    let (status, answer) = match fault {
        Some(Fault::TooMany(_)) => (429, json!({"ok": false, "error": "ratelimited"})),
        Some(Fault::Page(status)) => (status, Value::Null),
        None => {
            let answer = token_refusal(&state, &method, &headers)
                .map_or_else(|| answer(&mut state, &shared, &method, &params), Err);
            (200, answer.unwrap_or_else(|error| json!({"ok": false, "error": error})))
        }
    };
    state.calls.push(Call {
        method,
        params,
        status,
        at: std::time::Instant::now(),
    });
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let kind = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    match (fault, answer) {
        (Some(Fault::TooMany(seconds)), answer) => (
            code,
            kind,
            [(header::RETRY_AFTER, seconds.to_string())],
            answer.to_string(),
        )
            .into_response(),
        (_, Value::Null) => (code, "<html>").into_response(),
        (_, answer) => (code, kind, answer.to_string()).into_response(),
    }
}

fn params(headers: &HeaderMap, body: &Bytes) -> Value {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if kind.starts_with("application/json") {
        return serde_json::from_slice(body).unwrap_or_default();
    }
    let fields = url::form_urlencoded::parse(body);
    let fields = fields.map(|(name, value)| {
        // Lists and objects stand in forms as JSON.
        let value = match serde_json::from_str(&value) {
            Ok(nested @ (Value::Array(_) | Value::Object(_))) => nested,
            _ => json!(value),
        };
        (name.into_owned(), value)
    });
    Value::Object(fields.collect::<Map<String, Value>>())
}

fn token_refusal(state: &State, method: &str, headers: &HeaderMap) -> Option<&'static str> {
    let token = bearer(headers);
    let wanted = if method == "apps.connections.open" {
        APP_TOKEN
    } else {
        BOT_TOKEN
    };
    match token {
        "" => Some("not_authed"),
        _ if state.refuses_tokens => Some("invalid_auth"),
        _ if token == wanted => None,
        BOT_TOKEN | APP_TOKEN => Some("not_allowed_token_type"),
        _ => Some("invalid_auth"),
    }
}

fn answer(state: &mut State, shared: &Shared, method: &str, params: &Value) -> Result<Value, &'static str> {
    let text = |key: &str| params[key].as_str().unwrap_or_default();
    match method {
        "auth.test" => Ok(
            json!({"ok": true, "url": "https://crew.slack.com/", "team": "Crew", "user": "sluice",
            "team_id": "T1", "user_id": APP_USER, "bot_id": APP_BOT, "is_enterprise_install": false}),
        ),
        "apps.connections.open" => {
            let ticket = format!("ticket-{}", state.number());
            state.tickets.insert(ticket.clone());
            Ok(json!({"ok": true, "url": format!("ws://{}/link/?ticket={ticket}&app_id=A700", shared.address)}))
        }
        "files.getUploadURLExternal" => {
            let length = params["length"]
                .as_u64()
                .or_else(|| text("length").parse().ok())
                .ok_or("invalid_arguments")?;
            let number = state.files.len();
            state.files.push(Stored {
                name: Some(text("filename"))
                    .filter(|name| !name.is_empty())
                    .ok_or("invalid_arguments")?
                    .to_owned(),
                length: usize::try_from(length).map_err(|_| "invalid_arguments")?,
                ..Stored::default()
            });
            let url = format!("{}/upload/{number}", state.origin);
            Ok(json!({"ok": true, "upload_url": url, "file_id": format!("F{number}")}))
        }
        "files.completeUploadExternal" => complete(state, params),
        "assistant.threads.setStatus" => {
            let is_thread = !text("thread_ts").is_empty() && text("channel_id").starts_with('D');
            if is_thread {
                Ok(json!({"ok": true}))
            } else {
                Err("invalid_thread_ts")
            }
        }
        "conversations.history" | "conversations.replies" => listed(state, method, params),
        "chat.postMessage" | "chat.update" | "chat.delete" | "reactions.add" => about_message(state, method, params),
        _ => Err("unknown_method"),
    }
}

fn about_message(state: &mut State, method: &str, params: &Value) -> Result<Value, &'static str> {
    let text = |key: &str| params[key].as_str().unwrap_or_default();
    let (channel, ts) = (text("channel"), text("ts"));
    if !state.channels.contains(channel) {
        return Err("channel_not_found");
    }
    if !params["thread_ts"].is_null() && !params["thread_ts"].is_string() {
        state.violations.push("thread_ts is text and no number".to_owned());
    }
    match method {
        "chat.postMessage" => {
            check_text(state, text("text"), POST_CHARACTERS_MAX)?;
            let metadata = checked_metadata(params)?;
            let message = state.post(
                channel,
                params["thread_ts"].as_str(),
                text("text"),
                Vec::new(),
                metadata,
            );
            Ok(json!({"ok": true, "channel": channel, "ts": message["ts"], "message": message}))
        }
        "chat.update" => {
            check_text(state, text("text"), UPDATE_CHARACTERS_MAX)?;
            checked_metadata(params)?;
            let is_known = state.knows(channel, ts);
            let post = state.post_mut(channel, ts);
            let post = post.ok_or(if is_known {
                "cant_update_message"
            } else {
                "message_not_found"
            })?;
            text("text").clone_into(&mut post.text);
            if !params["metadata"].is_null() {
                post.metadata = params["metadata"].clone();
            }
            Ok(json!({"ok": true, "channel": channel, "ts": ts, "text": text("text")}))
        }
        "chat.delete" if state.remove(channel, ts) => Ok(json!({"ok": true, "channel": channel, "ts": ts})),
        "reactions.add" if state.knows(channel, text("timestamp")) => {
            let name = text("name");
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-'".contains(&b)) {
                return Err("invalid_name");
            }
            Ok(json!({"ok": true}))
        }
        _ => Err("message_not_found"),
    }
}

/// Lists messages by pages: a conversation's from the newest on, a thread's from the oldest on.
fn listed(state: &State, method: &str, params: &Value) -> Result<Value, &'static str> {
    let text = |key: &str| params[key].as_str().unwrap_or_default();
    let number = |key: &str| {
        text(key)
            .parse::<usize>()
            .ok()
            .filter(|number| (1..1000).contains(number))
    };
    if !state.channels.contains(text("channel")) {
        return Err("channel_not_found");
    }
    let thread = (method == "conversations.replies").then(|| text("ts"));
    if thread == Some("") {
        return Err("invalid_arguments");
    }
    let with_metadata = matches!(text("include_all_metadata"), "true" | "1");
    let mut all = state.listed(text("channel"), thread, text("oldest"), with_metadata);
    if thread.is_none() {
        all.reverse();
    }
    let limit = number("limit").unwrap_or(PAGE_MESSAGES_DEFAULT);
    let start = match text("cursor") {
        "" => 0,
        cursor => cursor
            .trim_start_matches("next:")
            .parse()
            .map_err(|_| "invalid_cursor")?,
    };
    let (end, count) = ((start + limit).min(all.len()), all.len());
    let page = all.get(start..end).ok_or("invalid_cursor")?;
    let next = if end < count {
        format!("next:{end}")
    } else {
        String::new()
    };
    Ok(json!({"ok": true, "messages": page, "has_more": end < count, "response_metadata": {"next_cursor": next}}))
}

/// Returns what an app wants to be kept beside a text.
fn checked_metadata(params: &Value) -> Result<&Value, &'static str> {
    let metadata = &params["metadata"];
    let is_sound = metadata["event_type"].is_string() && metadata["event_payload"].is_object();
    if metadata.is_null() || is_sound {
        Ok(metadata)
    } else {
        Err("invalid_metadata_format")
    }
}

fn check_text(state: &mut State, text: &str, characters_max: usize) -> Result<(), &'static str> {
    if text.trim().is_empty() {
        return Err("no_text");
    }
    if text.chars().count() > characters_max {
        return Err("msg_too_long");
    }
    if text.contains("<!") || text.contains("<@") {
        state.violations.push(format!("somebody is pinged: {text:?}"));
    }
    Ok(())
}

fn complete(state: &mut State, params: &Value) -> Result<Value, &'static str> {
    let channel = params["channel_id"].as_str().unwrap_or_default();
    if !state.channels.contains(channel) {
        return Err("channel_not_found");
    }
    let (mut files, mut shown) = (Vec::new(), Vec::new());
    for file in params["files"].as_array().ok_or("invalid_arguments")? {
        let id = file["id"].as_str().unwrap_or_default();
        let number: usize = id.trim_start_matches('F').parse().map_err(|_| "file_not_found")?;
        let stored = state.files.get(number).ok_or("file_not_found")?;
        if stored.bytes.len() != stored.length {
            return Err("file_not_found");
        }
        files.push(super::state::SharedFile {
            id: id.to_owned(),
            name: stored.name.clone(),
            bytes: stored.bytes.clone(),
        });
        shown.push(json!({"id": id, "title": file["title"], "name": stored.name}));
    }
    let words = params["initial_comment"].as_str().unwrap_or_default().to_owned();
    state.post(channel, params["thread_ts"].as_str(), &words, files, &Value::Null);
    Ok(json!({"ok": true, "files": shown}))
}
