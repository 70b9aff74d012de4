//! The two ways in which a bot gets its updates: long poll and webhook.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::methods::{ApiError, Reply};
use crate::params::Params;
use crate::state::{Shared, State, Webhook, WebhookAttempt, unix_seconds};

/// The longest wait of a long poll, seconds (the real server's bound).
const POLL_SECONDS_MAX: i64 = 50;
/// How long the bot may take to answer its webhook.
const WEBHOOK_PATIENCE: Duration = Duration::from_secs(10);
/// What Telegram leaves out unless `allowed_updates` names it.
const NOT_BY_DEFAULT: [&str; 3] = ["chat_member", "message_reaction", "message_reaction_count"];

impl State {
    /// Takes over `allowed_updates`; absent means as before, an empty list the default.
    fn set_allowed_updates(&mut self, params: &Params) -> Result<(), ApiError> {
        let Some(list) = params.structure("allowed_updates")? else {
            return Ok(());
        };
        let list = list
            .as_array()
            .ok_or("Bad Request: can't parse allowed updates: expected an Array of String")?;
        let names: Vec<String> = list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        self.allowed_updates = (!names.is_empty()).then_some(names);
        Ok(())
    }

    pub(crate) fn set_webhook(&mut self, params: &Params) -> Reply {
        let url = params.text("url").unwrap_or_default();
        if url.is_empty() {
            return Ok(self.delete_webhook(params));
        }
        let parsed = url::Url::parse(&url).map_err(|_| "Bad Request: invalid webhook URL specified")?;
        let loopback = matches!(parsed.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        // Telegram takes HTTPS only; a test's gateway on the loopback has no certificate.
        if parsed.scheme() != "https" && !loopback {
            return Err("Bad Request: bad webhook: An HTTPS URL must be provided for webhook".into());
        }
        let secret = params.text("secret_token");
        if let Some(secret) = &secret {
            let allowed = secret
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
            if secret.is_empty() || secret.len() > 256 || !allowed {
                return Err("Bad Request: secret token contains unallowed characters".into());
            }
        }
        self.set_allowed_updates(params)?;
        self.drop_pending(params);
        self.webhook = Some(Webhook {
            url,
            secret,
            last_error: None,
        });
        Ok(json!(true))
    }

    pub(crate) fn delete_webhook(&mut self, params: &Params) -> Value {
        self.webhook = None;
        self.drop_pending(params);
        json!(true)
    }

    fn drop_pending(&mut self, params: &Params) {
        if params.boolean("drop_pending_updates") {
            self.pending.clear();
        }
    }

    pub(crate) fn webhook_info(&self) -> Value {
        let mut info = json!({
            "url": "", "has_custom_certificate": false, "pending_update_count": self.pending.len(),
        });
        if let Some(webhook) = &self.webhook {
            info["url"] = json!(webhook.url);
            info["max_connections"] = json!(40);
            if let Some(error) = &webhook.last_error {
                info["last_error_message"] = json!(error);
                info["last_error_date"] = json!(unix_seconds());
            }
        }
        if let Some(allowed) = &self.allowed_updates {
            info["allowed_updates"] = json!(allowed);
        }
        info
    }

    /// Drops the waiting updates that the bot does not want.
    fn drop_unwanted(&mut self) {
        let allowed = self.allowed_updates.clone();
        self.pending.retain(|update| {
            let kind = kind_of(update);
            match &allowed {
                Some(names) => names.iter().any(|name| name == kind),
                None => !NOT_BY_DEFAULT.contains(&kind),
            }
        });
    }

    /// Forgets the updates below `offset`; a negative one keeps only that many of the newest.
    fn confirm(&mut self, offset: i64) {
        if offset < 0 {
            let keep = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX);
            let surplus = self.pending.len().saturating_sub(keep);
            self.pending.drain(..surplus);
        } else {
            self.pending.retain(|update| id_of(update) >= offset);
        }
    }

    /// Opens a long poll, which ends the one before it; returns its generation.
    fn open_poll(&mut self, params: &Params) -> Result<u64, ApiError> {
        if self.webhook.is_some() {
            return Err(conflict(
                "can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first",
            ));
        }
        self.set_allowed_updates(params)?;
        if let Some(offset) = params.integer("offset").filter(|offset| *offset != 0) {
            self.confirm(offset);
        }
        self.poll_generation += 1;
        Ok(self.poll_generation)
    }

    /// Returns what a waiting long poll gets now: none to wait on.
    fn poll(&mut self, generation: u64, limit: usize) -> Option<Reply> {
        if self.webhook.is_some() {
            return Some(Err(conflict("terminated by setWebhook request")));
        }
        if self.poll_generation != generation {
            return Some(Err(conflict(
                "terminated by other getUpdates request; make sure that only one bot instance is running",
            )));
        }
        self.drop_unwanted();
        let again = std::mem::take(&mut self.again);
        let batch: Vec<Value> = again
            .into_iter()
            .chain(self.pending.iter().take(limit).cloned())
            .collect();
        (!batch.is_empty() || self.stopped).then(|| Ok(json!(batch)))
    }
}

fn conflict(words: &str) -> ApiError {
    ApiError::new(409, format!("Conflict: {words}"))
}

fn kind_of(update: &Value) -> &str {
    let mut keys = update.as_object().into_iter().flat_map(|fields| fields.keys());
    keys.find(|key| *key != "update_id").map_or("", String::as_str)
}

fn id_of(update: &Value) -> i64 {
    update["update_id"].as_i64().unwrap_or_default()
}

/// The code of a call that gets no answer, because its connection is cut.
pub(crate) const CUT: u16 = 0;

/// Counts a long poll while it waits: it is dropped with the connection, at the latest.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn begin(shared: &'a Shared) -> Self {
        let mut state = shared.lock();
        state.polls += 1;
        state.polls_max = state.polls_max.max(state.polls);
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().polls -= 1;
    }
}

/// Carries out `getUpdates`, waiting as long as the bot asked for.
pub(crate) async fn get_updates(shared: &Shared, params: &Params) -> Reply {
    let limit = params.integer("limit").unwrap_or(100).clamp(1, 100);
    let limit = usize::try_from(limit).unwrap_or(100);
    let seconds = params.integer("timeout").unwrap_or(0).clamp(0, POLL_SECONDS_MAX);
    let deadline = Instant::now() + Duration::from_secs(seconds.unsigned_abs());
    let generation = shared.change(|state| state.open_poll(params))?;
    let cut = shared.lock().polls_cut;
    let _waiting = Waiting::begin(shared);
    let mut changed = shared.watch();
    loop {
        if shared.lock().polls_cut != cut {
            return Err(ApiError::new(CUT, "the connection is cut"));
        }
        if let Some(reply) = shared.lock().poll(generation, limit) {
            return reply;
        }
        if tokio::time::timeout_at(deadline, changed.changed()).await.is_err() {
            return Ok(json!([]));
        }
    }
}

/// Hands waiting updates to the webhook, one after the other, each until the bot takes it.
pub(crate) async fn push_webhooks(shared: Arc<Shared>) {
    let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let mut changed = shared.watch();
    loop {
        let due = shared.lock().due_for_webhook();
        match due {
            Due::Stopped => return,
            Due::Nothing => {
                if changed.changed().await.is_err() {
                    return;
                }
            }
            Due::Update(webhook, update) => {
                let status = post(&client, &webhook, &update).await;
                shared.change(|state| state.webhook_answered(&webhook, &update, status));
                if !(200..300).contains(&status) {
                    let pause = shared.lock().options.webhook_retry;
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

enum Due {
    Stopped,
    Nothing,
    Update(Webhook, Value),
}

impl State {
    fn due_for_webhook(&mut self) -> Due {
        if self.stopped {
            return Due::Stopped;
        }
        let Some(webhook) = self.webhook.clone() else {
            return Due::Nothing;
        };
        self.drop_unwanted();
        self.pending
            .front()
            .map_or(Due::Nothing, |update| Due::Update(webhook, update.clone()))
    }

    fn webhook_answered(&mut self, webhook: &Webhook, update: &Value, status: u16) {
        let update_id = id_of(update);
        self.webhook_attempts.push(WebhookAttempt { update_id, status });
        if (200..300).contains(&status) {
            self.pending.retain(|pending| id_of(pending) != update_id);
            return;
        }
        let error = if status == 0 {
            "Connection refused".to_owned()
        } else {
            format!("Wrong response from the webhook: {status}")
        };
        if let Some(current) = self.webhook.as_mut().filter(|current| current.url == webhook.url) {
            current.last_error = Some(error);
        }
    }
}

/// Posts one update; 0 where no answer came.
async fn post(client: &Client<HttpConnector, Body>, webhook: &Webhook, update: &Value) -> u16 {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(&webhook.url)
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(secret) = &webhook.secret {
        request = request.header("X-Telegram-Bot-Api-Secret-Token", secret);
    }
    let Ok(request) = request.body(Body::from(update.to_string())) else {
        return 0;
    };
    match tokio::time::timeout(WEBHOOK_PATIENCE, client.request(request)).await {
        Ok(Ok(response)) => response.status().as_u16(),
        _ => 0,
    }
}
