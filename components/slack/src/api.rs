//! Calls of the Web API through the host's HTTP. The tokens stand as placeholders in a header: only the host knows them.

use serde::de::DeserializeOwned;
use sluicegate_sdk::http::{Request, segment_escaped};
use sluicegate_sdk::serde_json::{self, Value, json};
use sluicegate_sdk::{Attachment, AttachmentSource, Conversation, blobs, clock, settings, state, warn};

use crate::failure::Failure;
use crate::wire::Me;

/// Slack's own server.
pub const API_BASE: &str = "https://slack.com/api";
/// Longer than any answer of Slack takes, milliseconds.
const CALL_TIMEOUT_MS: u32 = 20_000;
/// For files, milliseconds.
const UPLOAD_TIMEOUT_MS: u32 = 50_000;
/// Where the app's own account is kept.
const ME_KEY: &str = "me";

/// The Web API, as this channel's settings describe it.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
}

impl Api {
    /// Reads the settings.
    pub fn from_settings() -> Self {
        let base = settings::get("api-base").unwrap_or_default();
        let base = base.trim().trim_end_matches('/');
        Self {
            base: if base.is_empty() { API_BASE } else { base }.to_owned(),
        }
    }

    /// Calls a method with JSON parameters and returns its result.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn call(&self, method: &str, params: &Value) -> Result<Value, Failure> {
        let request = Request::post(format!("{}/{method}", self.base)).header("authorization", "Bearer {{bot-token}}");
        settle(request.json(params).timeout_ms(CALL_TIMEOUT_MS))
    }

    /// Calls a method with its parameters as a form, which is what methods that read take.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn call_with_form<V: AsRef<str>>(&self, method: &str, params: &[(&str, V)]) -> Result<Value, Failure> {
        let fields = params
            .iter()
            .map(|(name, value)| format!("{name}={}", segment_escaped(value.as_ref())));
        let request = Request::post(format!("{}/{method}", self.base))
            .header("authorization", "Bearer {{bot-token}}")
            .header("content-type", "application/x-www-form-urlencoded")
            .bytes(fields.collect::<Vec<_>>().join("&"));
        settle(request.timeout_ms(CALL_TIMEOUT_MS))
    }

    /// Asks for the address of a Socket Mode connection, which can be used once.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn open_connection(&self) -> Result<String, Failure> {
        let request = Request::post(format!("{}/apps.connections.open", self.base))
            .header("authorization", "Bearer {{app-token}}")
            .header("content-type", "application/x-www-form-urlencoded");
        let opened = settle(request.timeout_ms(CALL_TIMEOUT_MS))?;
        let url = opened["url"].as_str().map(str::to_owned);
        url.ok_or_else(|| Failure::Unreadable("apps.connections.open gave no address".to_owned()))
    }

    /// Returns the app's account as it was last seen, or else asks for it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn me(&self) -> Result<Me, Failure> {
        match state::get_json::<Me>(ME_KEY) {
            Ok(Some(me)) => Ok(me),
            Ok(None) => self.fresh_me(),
            Err(error) => {
                warn!("the app's account is asked for again: {error}");
                self.fresh_me()
            }
        }
    }

    /// Asks for the app's account and keeps it for [`Self::me`].
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn fresh_me(&self) -> Result<Me, Failure> {
        let me: Me = read(self.call("auth.test", &json!({}))?)?;
        // Writes wait for the disk, so an unchanged account is not written again.
        if state::get_json(ME_KEY).ok().flatten().as_ref() != Some(&me)
            && let Err(error) = state::set_json(ME_KEY, &me)
        {
            warn!("the app's account was not kept: {error}");
        }
        Ok(me)
    }

    /// Uploads a file, which nobody sees yet: asks where to, and sends it there. Returns the file's id.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn upload(&self, file: &Attachment) -> Result<String, Failure> {
        let AttachmentSource::Blob(blob) = &file.source else {
            return Err(Failure::Unreadable("a link is no file".to_owned()));
        };
        let name = file.file_name();
        // Slack wants to know the size before it sees the file.
        let length = blobs::get(blob).map_err(Failure::Unreadable)?.len().to_string();
        let place = self.call_with_form(
            "files.getUploadURLExternal",
            &[("filename", name.as_str()), ("length", length.as_str())],
        )?;
        let (Some(url), Some(id)) = (place["upload_url"].as_str(), place["file_id"].as_str()) else {
            return Err(Failure::Unreadable(
                "files.getUploadURLExternal gave no address".to_owned(),
            ));
        };
        let request = Request::post(url)
            .header("content-type", file.media_type.as_str())
            .blob(blob.as_str());
        let uploaded = request.timeout_ms(UPLOAD_TIMEOUT_MS).send()?;
        if !uploaded.is_success() {
            return Err(Failure::Status(uploaded.status));
        }
        Ok(id.to_owned())
    }

    /// Shares a file that was uploaded.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn share(&self, id: &str, file: &Attachment, conversation: &Conversation) -> Result<(), Failure> {
        let files = json!([{"id": id, "title": file.file_name()}]);
        let mut params = json!({"files": files, "channel_id": conversation.id});
        if let Some(thread) = &conversation.thread {
            params["thread_ts"] = json!(thread);
        }
        self.call("files.completeUploadExternal", &params)?;
        Ok(())
    }

    /// Fetches a file that a person sent, and returns the handle of its blob.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn download(&self, url: &str, timeout_ms: u32) -> Result<String, Failure> {
        let request = Request::get(url)
            .header("authorization", "Bearer {{bot-token}}")
            .timeout_ms(timeout_ms);
        let (response, blob) = request.download()?;
        // Without the scope to read files Slack answers with its page for logging in.
        let is_page = response
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("text/html"));
        if response.is_success() && !is_page {
            Ok(blob)
        } else {
            Err(Failure::Status(if is_page { 403 } else { response.status }))
        }
    }
}

fn settle(request: Request) -> Result<Value, Failure> {
    let response = request.send()?;
    Failure::or_result(&response, clock::now_ms())
}

fn read<T: DeserializeOwned>(result: Value) -> Result<T, Failure> {
    serde_json::from_value(result).map_err(|error| Failure::Unreadable(error.to_string()))
}
