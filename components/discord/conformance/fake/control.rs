//! The tests' side over HTTP, for the oracle script: JSON below `/control/`.

use std::sync::Arc;

use axum::extract::State as Held;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::gateway::Order;
use super::state::Fault;

/// What a script can order.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
enum Command {
    Say { channel: String, fields: Value },
    Edit { id: String, text: String },
    TooMany { method: String, path: String, seconds: f64 },
    Fail { method: String, path: String, status: u16 },
    Reconnect,
    Drop,
    Invalidate,
    File { name: String, text: String },
}

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/control/do", post(obey))
        .route("/control/state", get(overview))
}

async fn obey(Held(shared): Held<Arc<Shared>>, Json(command): Json<Command>) -> Json<Value> {
    let origin = format!("http://{}", shared.address);
    let mut state = shared.lock();
    Json(match command {
        Command::Say { channel, fields } => json!(state.message_by_person(&channel, &fields)),
        Command::Edit { id, text } => {
            state.edit_by_person(&id, &text);
            Value::Null
        }
        Command::TooMany { method, path, seconds } => {
            state.order_fault(&method, &path, 1, Fault::TooMany { seconds, global: false });
            Value::Null
        }
        Command::Fail { method, path, status } => {
            state.order_fault(&method, &path, 1, Fault::Api { status, code: 0 });
            Value::Null
        }
        Command::Reconnect => ordered(&mut state, Order::Reconnect),
        Command::Drop => ordered(&mut state, Order::Drop),
        Command::Invalidate => ordered(&mut state, Order::Invalidate(false)),
        Command::File { name, text } => state.add_file(&origin, &name, "text/plain", text.as_bytes()),
    })
}

fn ordered(state: &mut super::state::State, order: Order) -> Value {
    state.order(&order);
    Value::Null
}

async fn overview(Held(shared): Held<Arc<Shared>>) -> Json<Value> {
    let state = shared.lock();
    let calls = state
        .calls
        .iter()
        .map(|call| json!({"method": call.method, "path": call.path, "body": call.body, "status": call.status}));
    let calls: Vec<Value> = calls.collect();
    Json(json!({
        "calls": calls, "violations": state.violations, "identified": state.identified, "resumed": state.resumed,
    }))
}
