//! Calls of the Bot API through the host's HTTP. The token stands as `{{bot-token}}` in each URL: only the host knows it.

use serde::{Deserialize, Serialize};
use sluicegate_sdk::http::{self, FormPart, Request};
use sluicegate_sdk::serde_json::{self, Value, json};
use sluicegate_sdk::{clock, debug, settings, state, warn};

use crate::failure::Failure;
use crate::map::Migration;
use crate::wire::{File, User};

/// Telegram's own server.
pub const API_BASE: &str = "https://api.telegram.org";
/// Longer than any answer of Telegram takes but that of a long poll, milliseconds.
const CALL_TIMEOUT_MS: u32 = 30_000;
/// For files of up to 50 MB, milliseconds.
const UPLOAD_TIMEOUT_MS: u32 = 120_000;
/// Where the bot's own account is kept.
const ME_KEY: &str = "me";

/// The bot, as this channel's settings describe it.
#[derive(Debug, Clone)]
pub struct Bot {
    base: String,
}

/// The part of the bot's account that addressing needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredMe {
    id: i64,
    username: Option<String>,
}

impl Bot {
    /// Reads the settings.
    pub fn from_settings() -> Self {
        let base = settings::get("api-base").unwrap_or_default();
        let base = base.trim().trim_end_matches('/');
        Self {
            base: if base.is_empty() {
                API_BASE.to_owned()
            } else {
                base.to_owned()
            },
        }
    }

    /// Calls a method and returns its result.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn call(&self, method: &str, params: &Value) -> Result<Value, Failure> {
        self.call_within(CALL_TIMEOUT_MS, method, params)
    }

    /// Calls a method that may take `timeout_ms`, and returns its result.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn call_within(&self, timeout_ms: u32, method: &str, params: &Value) -> Result<Value, Failure> {
        let response = Request::post(self.url(method))
            .json(params)
            .timeout_ms(timeout_ms)
            .send()?;
        Failure::or_result(response.status, &response.body)
    }

    /// Calls a method whose parameters hold placeholders for secrets, and nothing that a person wrote.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn call_with_secrets(&self, method: &str, params: &Value) -> Result<Value, Failure> {
        let request = Request::post(self.url(method)).json_with_secrets(params);
        let response = request.timeout_ms(CALL_TIMEOUT_MS).send()?;
        Failure::or_result(response.status, &response.body)
    }

    /// Calls a method with a file, and returns its result.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn upload(&self, method: &str, form: Vec<FormPart>) -> Result<Value, Failure> {
        let request = Request::post(self.url(method))
            .multipart(form)
            .timeout_ms(UPLOAD_TIMEOUT_MS);
        let response = request.send()?;
        Failure::or_result(response.status, &response.body)
    }

    /// Fetches a file that a person sent by `end_ms`, Unix milliseconds, and returns the handle of its blob.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn download(&self, file_id: &str, end_ms: u64) -> Result<String, Failure> {
        let left_ms = || u32::try_from(end_ms.saturating_sub(clock::now_ms()).max(1)).unwrap_or(u32::MAX);
        let within_ms = left_ms().min(CALL_TIMEOUT_MS);
        let found = self.call_within(within_ms, "getFile", &json!({"file_id": file_id}))?;
        let file: File = read(found)?;
        let path = file
            .file_path
            .ok_or_else(|| Failure::Unreadable("the file has no path".to_owned()))?;
        let url = format!("{}/file/bot{{{{bot-token}}}}/{}", self.base, http::path_escaped(&path));
        let (response, blob) = Request::get(url).timeout_ms(left_ms()).download()?;
        if response.is_success() {
            Ok(blob)
        } else {
            Err(Failure::Gateway(response.status))
        }
    }

    /// Returns the bot's account as it was last seen, or else asks for it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn me(&self) -> Result<User, Failure> {
        match state::get_json::<StoredMe>(ME_KEY) {
            Ok(Some(me)) => Ok(User {
                id: me.id,
                is_bot: true,
                username: me.username,
                ..User::default()
            }),
            Ok(None) => self.fresh_me(),
            Err(error) => {
                warn!("the bot's account is asked for again: {error}");
                self.fresh_me()
            }
        }
    }

    /// Asks for the bot's account and keeps it for [`Self::me`].
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn fresh_me(&self) -> Result<User, Failure> {
        let me: User = read(self.call("getMe", &json!({}))?)?;
        let seen = StoredMe {
            id: me.id,
            username: me.username.clone(),
        };
        // Writes wait for the disk, so an unchanged account is not written again.
        if state::get_json(ME_KEY).ok().flatten().as_ref() != Some(&seen)
            && let Err(error) = state::set_json(ME_KEY, &seen)
        {
            warn!("the bot's account was not kept: {error}");
        }
        Ok(me)
    }

    fn url(&self, method: &str) -> String {
        format!("{}/bot{{{{bot-token}}}}/{method}", self.base)
    }
}

/// Reads a method's result.
///
/// # Errors
/// [`Failure::Unreadable`].
pub fn read<T: serde::de::DeserializeOwned>(result: Value) -> Result<T, Failure> {
    serde_json::from_value(result).map_err(|error| Failure::Unreadable(error.to_string()))
}

/// Remembers that a group has moved: later sends go to the new id at once.
pub fn remember_migration(migration: Migration) {
    let (key, to) = (migration_key(migration.from), migration.to.to_string());
    if state::get(&key).as_deref() == Some(to.as_bytes()) {
        return;
    }
    match state::set(&key, to.as_bytes()) {
        Ok(()) => debug!("a group moved from {} to {}", migration.from, migration.to),
        Err(error) => warn!("the move of a group was not kept: {error}"),
    }
}

/// Returns the id that a chat has now.
pub fn present_chat(chat: i64) -> i64 {
    let moved = state::get(&migration_key(chat)).and_then(|bytes| String::from_utf8(bytes).ok());
    moved.and_then(|id| id.parse().ok()).unwrap_or(chat)
}

fn migration_key(chat: i64) -> String {
    format!("migrated/{chat}")
}
