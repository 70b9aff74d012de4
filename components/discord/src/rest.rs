//! Calls of the REST API through the host's HTTP. The token stands as `{{bot-token}}` in a header: only the host knows it.

use serde::de::DeserializeOwned;
use sluicegate_sdk::http::{FormPart, PartData, Request};
use sluicegate_sdk::serde_json::{self, Value};
use sluicegate_sdk::{AttachmentSource, clock, settings};

use crate::buckets::Route;
use crate::failure::Failure;
use crate::plan;
use crate::wire::{Channel, GatewayBot, User};

/// Discord's own server.
pub const API_BASE: &str = "https://discord.com/api/v10";
/// Longer than any answer of Discord takes, milliseconds.
const CALL_TIMEOUT_MS: u32 = 20_000;
/// For files, milliseconds.
const UPLOAD_TIMEOUT_MS: u32 = 50_000;
/// Discord asks for this form (Discord: API Reference, User Agent).
const USER_AGENT: &str = concat!("DiscordBot (sluicegate, ", env!("CARGO_PKG_VERSION"), ")");

/// The API, as this channel's settings describe it.
#[derive(Debug, Clone)]
pub struct Rest {
    base: String,
}

impl Rest {
    /// Reads the settings.
    pub fn from_settings() -> Self {
        let base = settings::get("api-base").unwrap_or_default();
        let base = base.trim().trim_end_matches('/');
        Self {
            base: if base.is_empty() { API_BASE } else { base }.to_owned(),
        }
    }

    /// Asks who the bot is.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn me(&self) -> Result<User, Failure> {
        read(self.call("GET", "/users/@me", "GET /users/@me", "", None)?)
    }

    /// Asks where to connect.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn gateway(&self) -> Result<GatewayBot, Failure> {
        read(self.call("GET", "/gateway/bot", "GET /gateway/bot", "", None)?)
    }

    /// Asks what a channel is.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn channel(&self, channel: &str) -> Result<Channel, Failure> {
        read(self.in_channel("GET", channel, "", "GET /channels", None)?)
    }

    /// Calls `path` below a channel. `route` is the call with its ids left out.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn in_channel(
        &self,
        method: &str,
        channel: &str,
        path: &str,
        route: &'static str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        if plan::message_id(channel) != Some(channel) {
            return Err(Failure::Api {
                status: 404,
                // Unknown Channel, as Discord would say.
                code: 10003,
                message: format!("{channel:?} is no id of Discord's"),
            });
        }
        self.call(method, &format!("/channels/{channel}{path}"), route, channel, body)
    }

    /// Sends a message with a file.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn upload(&self, channel: &str, route: &'static str, body: &Value, file: FormPart) -> Result<Value, Failure> {
        let payload = FormPart {
            media_type: Some("application/json".to_owned()),
            ..FormPart::text("payload_json", body.to_string())
        };
        let request = self.request("POST", &format!("/channels/{channel}/messages"));
        let request = request.multipart(vec![payload, file]).timeout_ms(UPLOAD_TIMEOUT_MS);
        self.settle(request, route, channel)
    }

    fn call(
        &self,
        method: &str,
        path: &str,
        route: &'static str,
        channel: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let request = self.request(method, path).timeout_ms(CALL_TIMEOUT_MS);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        self.settle(request, route, channel)
    }

    fn request(&self, method: &str, path: &str) -> Request {
        Request::new(method, format!("{}{path}", self.base))
            .header("authorization", "Bot {{bot-token}}")
            .header("user-agent", USER_AGENT)
    }

    /// Sends a request where no limit forbids it, and learns what the answer says of limits.
    fn settle(&self, request: Request, name: &'static str, channel: &str) -> Result<Value, Failure> {
        let route = Route {
            name,
            channel: channel.to_owned(),
        };
        route.check()?;
        let response = request.send()?;
        let failure = (!response.is_success()).then(|| Failure::of(&response, clock::now_ms()));
        route.learn(&response, failure.as_ref());
        match failure {
            Some(failure) => Err(failure),
            None if response.body.is_empty() => Ok(Value::Null),
            None => response.json().map_err(|error| Failure::Unreadable(error.to_string())),
        }
    }
}

/// Makes the form part of a file; none where it is only linked.
pub fn file_part(file: &sluicegate_sdk::Attachment) -> Option<FormPart> {
    match &file.source {
        AttachmentSource::Blob(blob) => Some(FormPart::file(
            "files[0]",
            file.file_name(),
            file.media_type.clone(),
            PartData::Blob(blob.clone()),
        )),
        AttachmentSource::Url(_) => None,
    }
}

fn read<T: DeserializeOwned>(result: Value) -> Result<T, Failure> {
    serde_json::from_value(result).map_err(|error| Failure::Unreadable(error.to_string()))
}
