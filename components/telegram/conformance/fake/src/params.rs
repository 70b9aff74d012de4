//! Reading a call's parameters, which may come as query, form, multipart or JSON.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Multipart};
use axum::http::{Request, header};
use serde_json::{Map, Value, json};

/// How many bytes a call may have: the Bot API takes files of 50 MB.
pub(crate) const CALL_BYTES_MAX: usize = 52 * 1024 * 1024;

/// A file that the bot uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The form field's name.
    pub field: String,
    /// The file name, empty where none was given.
    pub file_name: String,
    /// The media type, empty where none was given.
    pub media_type: String,
    /// The contents.
    pub bytes: Vec<u8>,
}

/// A call's parameters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params {
    pub(crate) values: Map<String, Value>,
    pub(crate) files: Vec<Upload>,
}

impl Params {
    /// Reads them from a request with its whole body; errors are Telegram's descriptions.
    pub(crate) async fn read(request: Request<Bytes>) -> Result<Self, String> {
        let mut params = Self::default();
        params.add_form(request.uri().query().unwrap_or_default().as_bytes());
        let media_type = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let media_type = media_type.unwrap_or_default().to_ascii_lowercase();
        if media_type.starts_with("multipart/form-data") {
            params.add_multipart(request.map(Body::from)).await?;
        } else if media_type.starts_with("application/json") {
            params.add_json(request.body())?;
        } else {
            params.add_form(request.body());
        }
        Ok(params)
    }

    fn add_form(&mut self, encoded: &[u8]) {
        for (key, value) in url::form_urlencoded::parse(encoded) {
            self.values.insert(key.into_owned(), Value::String(value.into_owned()));
        }
    }

    fn add_json(&mut self, body: &Bytes) -> Result<(), String> {
        if body.is_empty() {
            return Ok(());
        }
        let parsed: Value =
            serde_json::from_slice(body).map_err(|_| "Bad Request: can't parse JSON object".to_owned())?;
        let Value::Object(fields) = parsed else {
            return Err("Bad Request: JSON object expected".to_owned());
        };
        self.values.extend(fields);
        Ok(())
    }

    async fn add_multipart(&mut self, request: Request<Body>) -> Result<(), String> {
        let refused = |_| "Bad Request: can't parse multipart body".to_owned();
        let mut form = Multipart::from_request(request, &())
            .await
            .map_err(|_| "Bad Request: can't find multipart boundary".to_owned())?;
        while let Some(field) = form.next_field().await.map_err(refused)? {
            let name = field.name().unwrap_or_default().to_owned();
            let file_name = field.file_name().map(str::to_owned);
            let media_type = field.content_type().unwrap_or_default().to_owned();
            let bytes = field.bytes().await.map_err(refused)?;
            match file_name {
                Some(file_name) => {
                    self.files.push(Upload {
                        field: name,
                        file_name,
                        media_type,
                        bytes: bytes.to_vec(),
                    });
                }
                None => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    self.values.insert(name, Value::String(text));
                }
            }
        }
        Ok(())
    }

    /// Returns the parameters for a call's record: files by name and size only.
    pub(crate) fn to_record(&self) -> Value {
        let mut record = self.values.clone();
        for file in &self.files {
            let described = json!({
                "file_name": file.file_name, "media_type": file.media_type, "size": file.bytes.len(),
            });
            record.insert(file.field.clone(), described);
        }
        Value::Object(record)
    }

    /// Returns the names of all parameters.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.values
            .keys()
            .map(String::as_str)
            .chain(self.files.iter().map(|file| file.field.as_str()))
    }

    /// Returns whether this is a file that a parameter refers to as `attach://name`.
    pub(crate) fn is_attached(&self, name: &str) -> bool {
        let reference = format!("attach://{name}");
        self.values.values().any(|value| value.as_str() == Some(&reference))
    }

    /// Returns a text; numbers and booleans count as their text.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        match self.values.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    /// Returns a whole number, also from a text.
    pub(crate) fn integer(&self, name: &str) -> Option<i64> {
        match self.values.get(name)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// Returns a boolean, also from a text.
    pub(crate) fn boolean(&self, name: &str) -> bool {
        match self.values.get(name) {
            Some(Value::Bool(flag)) => *flag,
            Some(Value::String(text)) => matches!(text.to_ascii_lowercase().as_str(), "true" | "1" | "yes"),
            Some(Value::Number(number)) => number.as_i64() == Some(1),
            _ => false,
        }
    }

    /// Returns an object or a list, also from its JSON text; the error is Telegram's description.
    pub(crate) fn structure(&self, name: &str) -> Result<Option<Value>, String> {
        match self.values.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => {
                let parsed = serde_json::from_str(text);
                parsed
                    .map(Some)
                    .map_err(|_| format!("Bad Request: can't parse {} JSON object", name.replace('_', " ")))
            }
            Some(other) => Ok(Some(other.clone())),
        }
    }
}

/// What every sending method takes (Bot API 9, core.telegram.org/bots/api).
const SENDING: &[&str] = &[
    "business_connection_id",
    "chat_id",
    "message_thread_id",
    "direct_messages_topic_id",
    "disable_notification",
    "protect_content",
    "allow_paid_broadcast",
    "message_effect_id",
    "suggested_post_parameters",
    "reply_parameters",
    "reply_markup",
];

/// The methods of the fake: the name, whether it takes [`SENDING`], and what else it takes.
const METHODS: &[(&str, bool, &[&str])] = &[
    ("getMe", false, &[]),
    ("getUpdates", false, &["offset", "limit", "timeout", "allowed_updates"]),
    (
        "setWebhook",
        false,
        &[
            "url",
            "certificate",
            "ip_address",
            "max_connections",
            "allowed_updates",
            "drop_pending_updates",
            "secret_token",
        ],
    ),
    ("deleteWebhook", false, &["drop_pending_updates"]),
    ("getWebhookInfo", false, &[]),
    (
        "sendMessage",
        true,
        &["text", "parse_mode", "entities", "link_preview_options"],
    ),
    (
        "sendPhoto",
        true,
        &[
            "photo",
            "caption",
            "parse_mode",
            "caption_entities",
            "show_caption_above_media",
            "has_spoiler",
        ],
    ),
    (
        "sendDocument",
        true,
        &[
            "document",
            "thumbnail",
            "caption",
            "parse_mode",
            "caption_entities",
            "disable_content_type_detection",
        ],
    ),
    (
        "editMessageText",
        false,
        &[
            "business_connection_id",
            "chat_id",
            "message_id",
            "inline_message_id",
            "text",
            "parse_mode",
            "entities",
            "link_preview_options",
            "reply_markup",
        ],
    ),
    ("deleteMessage", false, &["chat_id", "message_id"]),
    (
        "setMessageReaction",
        false,
        &["chat_id", "message_id", "reaction", "is_big"],
    ),
    (
        "sendChatAction",
        false,
        &["business_connection_id", "chat_id", "message_thread_id", "action"],
    ),
    ("getFile", false, &["file_id"]),
    (
        "answerCallbackQuery",
        false,
        &["callback_query_id", "text", "show_alert", "url", "cache_time"],
    ),
];

/// Returns the method's proper name: Telegram takes any case.
pub(crate) fn method_named(name: &str) -> Option<&'static str> {
    METHODS
        .iter()
        .map(|(method, ..)| *method)
        .find(|method| method.eq_ignore_ascii_case(name))
}

/// Returns whether Telegram documents this parameter for the method.
pub(crate) fn is_documented(method: &str, parameter: &str) -> bool {
    let Some((_, sending, own)) = METHODS.iter().find(|(name, ..)| *name == method) else {
        return false;
    };
    own.contains(&parameter) || (*sending && SENDING.contains(&parameter))
}
