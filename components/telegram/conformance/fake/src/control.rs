//! The tests' side over HTTP, for scripts in other languages: everything is JSON below `/control/`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State as Held};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fault::Fault;
use crate::people::Failure;
use crate::server::json_response;
use crate::state::{Call, ChatState, Shared, State};

/// How long `await` waits unless told otherwise, milliseconds.
const AWAIT_MS: u64 = 10_000;

/// What a script can order.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
enum Order {
    Say {
        chat: i64,
        user: i64,
        text: String,
    },
    Message {
        chat: i64,
        user: i64,
        fields: Value,
    },
    Update {
        update: Value,
    },
    Edit {
        chat: i64,
        message_id: i64,
        text: String,
    },
    Press {
        chat: i64,
        user: i64,
        message_id: i64,
        data: String,
    },
    React {
        chat: i64,
        user: i64,
        message_id: i64,
        emoji: Option<String>,
    },
    File {
        name: String,
        text: String,
    },
    Chat {
        chat: i64,
        state: ChatState,
    },
    Forum {
        chat: i64,
        topics: Vec<i64>,
    },
    Fail {
        method: String,
        count: usize,
        fault: Fault,
    },
}

/// Returns the routes of the control side.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/control/do", post(order))
        .route("/control/calls", get(calls))
        .route("/control/await", get(await_calls))
        .route("/control/messages", get(messages))
        .route("/control/state", get(overview))
}

async fn order(Held(shared): Held<Arc<Shared>>, body: String) -> Response {
    let order: Order = match serde_json::from_str(&body) {
        Ok(order) => order,
        Err(error) => return json_response(400, &json!({"error": error.to_string()})),
    };
    match shared.change(|state| obey(state, order)) {
        Ok(result) => json_response(200, &json!({"result": result})),
        Err(failure) => json_response(409, &json!({"error": failure.0})),
    }
}

fn obey(state: &mut State, order: Order) -> Result<Value, Failure> {
    Ok(match order {
        Order::Say { chat, user, text } => json!(state.say(chat, user, &text)),
        Order::Message { chat, user, fields } => json!(state.push_message(chat, user, fields)),
        Order::Update { update } => json!(state.push_update(update)),
        Order::Edit { chat, message_id, text } => json!(state.edit_by_person(chat, message_id, &text)?),
        Order::Press {
            chat,
            user,
            message_id,
            data,
        } => json!(state.press(chat, user, message_id, &data)?),
        Order::React {
            chat,
            user,
            message_id,
            emoji,
        } => json!(state.react(chat, user, message_id, emoji.as_deref())),
        Order::File { name, text } => json!(state.add_file(&name, text.into_bytes())),
        Order::Chat {
            chat,
            state: chat_state,
        } => {
            state.chat_mut(chat).state = chat_state;
            Value::Null
        }
        Order::Forum { chat, topics } => {
            state.add_forum(chat, &topics);
            Value::Null
        }
        Order::Fail { method, count, fault } => {
            state.order_fault(&method, None, count, fault);
            Value::Null
        }
    })
}

async fn calls(Held(shared): Held<Arc<Shared>>, Query(query): Query<HashMap<String, String>>) -> Response {
    let calls = match query.get("method") {
        Some(method) => shared.lock().calls_of(method),
        None => shared.lock().calls.clone(),
    };
    json_response(200, &described(&calls))
}

async fn await_calls(Held(shared): Held<Arc<Shared>>, Query(query): Query<HashMap<String, String>>) -> Response {
    let Some(method) = query.get("method") else {
        return json_response(400, &json!({"error": "await needs a method"}));
    };
    let count = number(&query, "count").unwrap_or(1_usize);
    let patience = Duration::from_millis(number(&query, "timeout_ms").unwrap_or(AWAIT_MS));
    match shared.await_calls(method, count, patience).await {
        Ok(calls) => json_response(200, &described(&calls)),
        Err(calls) => json_response(408, &described(&calls)),
    }
}

async fn messages(Held(shared): Held<Arc<Shared>>, Query(query): Query<HashMap<String, String>>) -> Response {
    match number(&query, "chat") {
        Some(chat) => json_response(200, &json!(shared.lock().bot_messages(chat))),
        None => json_response(400, &json!({"error": "messages needs a chat"})),
    }
}

async fn overview(Held(shared): Held<Arc<Shared>>) -> Response {
    let state = shared.lock();
    let overview = json!({
        "token": state.options.token, "pending": state.pending, "violations": state.violations,
        "webhook_attempts": state.webhook_attempts,
    });
    json_response(200, &overview)
}

fn number<T: std::str::FromStr>(query: &HashMap<String, String>, name: &str) -> Option<T> {
    query.get(name)?.parse().ok()
}

/// Describes calls for a script; uploaded bytes as text where they are text.
fn described(calls: &[Call]) -> Value {
    let described = calls.iter().map(|call| {
        let files = call.files.iter().map(|file| {
            json!({
                "field": file.field, "file_name": file.file_name, "media_type": file.media_type,
                "size": file.bytes.len(), "text": std::str::from_utf8(&file.bytes).ok(),
            })
        });
        json!({
            "method": call.method, "params": call.params, "files": files.collect::<Vec<_>>(), "at_ms": call.at_ms,
            "status": call.status, "accepted": call.accepted,
        })
    });
    Value::Array(described.collect())
}
