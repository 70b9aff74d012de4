//! The agent behind an OpenAI-compatible server: `POST {base_url}/chat/completions`, streamed.
//!
//! Its address is the operator's own choice, so loopback and private addresses are allowed; this is not the gate that
//! components go through. Redirects are not followed: they could take the key and the conversation elsewhere.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use tokio::time::timeout;
use url::{Host, Url};

use super::{Agent, AgentError, Growing, Turn};
use crate::limit;
use crate::secret::{Redactor, Secret};

mod sse;
mod wire;

use sse::Parser;
use wire::{Answer, Request};

/// A key for a model server. `Debug` prints nothing of it.
#[derive(Clone)]
pub struct ApiKey(Arc<str>);

impl ApiKey {
    /// Takes a key; white space around it is cut off, since files end with a line feed.
    pub fn new(key: &str) -> Self {
        Self(key.trim().into())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// Which model, and where.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address before `/chat/completions`, such as `http://127.0.0.1:11434/v1`.
    pub base_url: String,
    /// The model's name there.
    pub model: String,
    /// The key, where the server wants one.
    pub api_key: Option<ApiKey>,
    /// What the model is told before every conversation.
    pub system: Option<String>,
    /// The longest answer time; at most [`limit::TURN_TIMEOUT`] counts.
    pub timeout: Duration,
}

/// Why settings make no agent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The address is none.
    #[error("base_url is not an http or https address: {0}")]
    BaseUrl(String),
    /// The key can't stand in a header.
    #[error("the API key contains characters that no header may have")]
    ApiKey,
    /// The HTTP client could not be made.
    #[error("no HTTP client could be made")]
    Client(#[source] reqwest::Error),
}

/// A model behind an OpenAI-compatible server.
pub struct OpenAi {
    /// Keeps connections to the server open between turns.
    http: reqwest::Client,
    completions: Url,
    base_url: String,
    model: String,
    system: Option<String>,
    /// The whole header, marked as sensitive so that it prints nothing.
    authorization: Option<HeaderValue>,
    /// Takes the key out of what the server says: it goes to people, into the log and into the store.
    redactor: Redactor,
    timeout: Duration,
}

impl OpenAi {
    /// Makes the agent. Nothing is asked of the server yet.
    ///
    /// # Errors
    /// When the address or the key can't be used.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        let (base, completions) = endpoint(&settings.base_url, "chat/completions")?;
        let authorization = settings.api_key.as_ref().map(bearer).transpose()?;
        let key = settings.api_key.map(|key| Secret::new(key.0.to_string()));
        Ok(Self {
            http: client(&completions).map_err(SettingsError::Client)?,
            completions,
            base_url: base,
            model: settings.model,
            system: settings.system,
            authorization,
            redactor: Redactor::new(&key),
            timeout: settings.timeout.min(limit::TURN_TIMEOUT),
        })
    }

    async fn request(&self, turn: Turn<'_>) -> Result<reqwest::Response, AgentError> {
        let said = turn.said();
        let body = serde_json::to_vec(&Request::new(&self.model, self.system.as_deref(), turn, &said))
            .map_err(|fault| AgentError::Refused(format!("the request can't be written: {fault}")))?;
        let mut request = self
            .http
            .post(self.completions.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "text/event-stream, application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        request.body(body).send().await.map_err(|fault| transport(&fault))
    }

    async fn converse(&self, turn: Turn<'_>, growing: &Growing<'_>) -> Result<String, AgentError> {
        let response = self.request(turn).await?;
        let status = response.status();
        if !status.is_success() {
            let retry_after = response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned);
            // An error body that can't be read is an error without words.
            let body = read_up_to(response, limit::MODEL_ERROR_BYTES_MAX)
                .await
                .unwrap_or_default();
            let body = self.redactor.bytes(&body);
            return Err(wire::failure(status.as_u16(), retry_after.as_deref(), &body));
        }
        if is_event_stream(&response) {
            let answer = self.read_stream(response, growing).await?;
            // Of the pieces each was looked at alone.
            return Ok(self.redactor.text(&answer).into_owned());
        }
        let body = read_up_to(response, limit::MODEL_BODY_BYTES_MAX + 1).await?;
        if body.len() > limit::MODEL_BODY_BYTES_MAX {
            return Err(AgentError::Refused("the server's answer is too large".to_owned()));
        }
        wire::whole_answer(&self.redactor.bytes(&body))
    }

    async fn read_stream(&self, response: reqwest::Response, growing: &Growing<'_>) -> Result<String, AgentError> {
        let mut chunks = response.bytes_stream();
        let mut parser = Parser::default();
        let mut answer = Answer::default();
        while let Some(chunk) = next_chunk(&mut chunks).await? {
            let events = parser
                .push(&chunk)
                .map_err(|fault| AgentError::Unreachable(fault.to_string()))?;
            let mut grew = false;
            for data in events {
                grew |= answer.take(&self.redactor.text(&data))?;
            }
            if grew {
                growing(answer.text());
            }
            if answer.is_done() {
                drain(chunks);
                break;
            }
        }
        answer.finish()
    }
}

#[async_trait]
impl Agent for OpenAi {
    fn describe(&self) -> String {
        format!("openai: {} at {}", self.model, self.base_url)
    }

    async fn answer(&self, turn: Turn<'_>, growing: &Growing<'_>) -> Result<String, AgentError> {
        timeout(self.timeout, self.converse(turn, growing))
            .await
            .unwrap_or(Err(AgentError::TimedOut(self.timeout)))
    }
}

/// Returns the base address without user, password and query, for people to see, and the address of `path` below it.
pub(super) fn endpoint(base_url: &str, path: &str) -> Result<(String, Url), SettingsError> {
    let wrong = |why: &str| SettingsError::BaseUrl(why.to_owned());
    let mut base = Url::parse(base_url.trim_end_matches('/')).map_err(|fault| wrong(&fault.to_string()))?;
    if !matches!(base.scheme(), "http" | "https") {
        return Err(wrong("another scheme"));
    }
    if !base.username().is_empty() || base.password().is_some() {
        return Err(wrong("it has a user or password in it; use api_key"));
    }
    base.set_fragment(None);
    let mut target = base.clone();
    target
        .path_segments_mut()
        .map_err(|()| wrong("it has no path"))?
        .pop_if_empty()
        .extend(path.split('/'));
    base.set_query(None);
    Ok((base.as_str().trim_end_matches('/').to_owned(), target))
}

fn bearer(key: &ApiKey) -> Result<HeaderValue, SettingsError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", key.0)).map_err(|_| SettingsError::ApiKey)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Makes a client for one server. A proxy of the environment is used, but not towards this machine.
pub(super) fn client(target: &Url) -> Result<reqwest::Client, reqwest::Error> {
    // Another part of the process may have chosen the provider already: then that one counts.
    let _chosen_before = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .connect_timeout(limit::MODEL_CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true);
    if is_loopback(target) {
        builder = builder.no_proxy();
    }
    if target.scheme() == "http" {
        // Without TLS the system's certificates need not be read.
        builder = builder.tls_certs_only([]);
    }
    builder.build()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn is_event_stream(response: &reqwest::Response) -> bool {
    let content_type = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| value.trim_start().to_ascii_lowercase().starts_with("text/event-stream"))
}

/// Describes a failure of the transport with its cause, but without the address, which may hold a key.
fn transport(fault: &reqwest::Error) -> AgentError {
    let mut cause: &dyn std::error::Error = fault;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let stage = if fault.is_connect() {
        "no connection"
    } else {
        "the connection failed"
    };
    let why = cause.to_string();
    AgentError::Unreachable(if std::ptr::eq(cause, std::ptr::from_ref(fault)) {
        stage.to_owned()
    } else {
        format!("{stage}: {why}")
    })
}

async fn next_chunk<T>(
    chunks: &mut (impl StreamExt<Item = Result<T, reqwest::Error>> + Unpin),
) -> Result<Option<T>, AgentError> {
    let silent = |_| AgentError::Unreachable(format!("silent for {} s", limit::MODEL_IDLE_TIMEOUT.as_secs()));
    let chunk = timeout(limit::MODEL_IDLE_TIMEOUT, chunks.next())
        .await
        .map_err(silent)?;
    chunk.transpose().map_err(|fault| transport(&fault))
}

/// Reads the little that follows the end of an answer (usage, `[DONE]`), so that the connection can be used again: in a
/// task of its own, since the answer is whole and nothing may stand between it and the store.
fn drain<T: Send>(mut chunks: impl StreamExt<Item = Result<T, reqwest::Error>> + Unpin + Send + 'static) {
    let rest = async move { while let Some(Ok(_)) = chunks.next().await {} };
    // A server that goes on is cut off.
    tokio::spawn(timeout(limit::MODEL_DRAIN_TIMEOUT, rest));
}

/// Reads a body, at most `bytes_max` of it.
async fn read_up_to(response: reqwest::Response, bytes_max: usize) -> Result<Vec<u8>, AgentError> {
    let mut chunks = response.bytes_stream();
    let mut body = Vec::new();
    while body.len() < bytes_max {
        let Some(chunk) = next_chunk(&mut chunks).await? else {
            break;
        };
        let room = bytes_max - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(base_url: &str) -> Settings {
        Settings {
            base_url: base_url.to_owned(),
            model: "qwen3".to_owned(),
            api_key: Some(ApiKey::new("sk-very-secret\n")),
            system: None,
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn the_endpoint_is_below_the_base() {
        let (base, target) = endpoint("http://127.0.0.1:11434/v1/", "chat/completions").unwrap();
        assert_eq!(
            (base.as_str(), target.as_str()),
            (
                "http://127.0.0.1:11434/v1",
                "http://127.0.0.1:11434/v1/chat/completions"
            )
        );
        let (base, target) = endpoint("https://model.example", "models").unwrap();
        assert_eq!(
            (base.as_str(), target.as_str()),
            ("https://model.example", "https://model.example/models")
        );
        let (base, target) = endpoint("https://m.example/a?api-version=1", "models").unwrap();
        assert_eq!(
            (base.as_str(), target.as_str()),
            ("https://m.example/a", "https://m.example/a/models?api-version=1")
        );
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        for wrong in [
            "",
            "127.0.0.1:11434",
            "ftp://a/v1",
            "http://user:pass@a/v1",
            "mailto:a@b",
        ] {
            assert!(
                matches!(OpenAi::new(settings(wrong)), Err(SettingsError::BaseUrl(_))),
                "{wrong:?} was accepted"
            );
        }
    }

    #[test]
    fn nothing_prints_the_key() {
        let key = ApiKey::new("sk-very-secret");
        let agent = OpenAi::new(settings("http://127.0.0.1:1/v1")).unwrap();
        let printed = format!(
            "{key:?} {:?} {:?} {}",
            settings("x"),
            agent.authorization,
            agent.describe()
        );
        assert!(!printed.contains("secret"), "{printed}");
        assert!(printed.contains("openai: qwen3 at http://127.0.0.1:1/v1"));
        let broken = Settings {
            api_key: Some(ApiKey::new("a\nb")),
            ..settings("http://127.0.0.1:1/v1")
        };
        assert!(matches!(OpenAi::new(broken), Err(SettingsError::ApiKey)));
    }
}
