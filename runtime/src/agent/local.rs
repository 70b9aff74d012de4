//! Looks for a model server on this machine, for a gateway that has no agent configured.

use futures_util::future::join_all;
use serde::Deserialize;
use tokio::time::timeout;

use super::openai;
use crate::limit;

/// Where local model servers listen by default, the likeliest first: Ollama, LM Studio, llama.cpp's server.
pub const LOCAL_SERVERS: [&str; 3] = [
    "http://127.0.0.1:11434/v1",
    "http://127.0.0.1:1234/v1",
    "http://127.0.0.1:8080/v1",
];

/// A model server that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its address, as it was given.
    pub base_url: String,
    /// The first of its models that can chat.
    pub model: String,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

/// Asks all candidates at once for their models; returns the first of them, in the order given, that has one. Takes at
/// most [`limit::MODEL_DETECT_TIMEOUT`].
pub async fn detect_local(candidates: &[&str]) -> Option<Found> {
    let answers = join_all(candidates.iter().map(|base_url| async move {
        timeout(limit::MODEL_DETECT_TIMEOUT, first_model(base_url))
            .await
            .ok()
            .flatten()
    }));
    answers.await.into_iter().flatten().next()
}

async fn first_model(base_url: &str) -> Option<Found> {
    let (_, url) = openai::endpoint(base_url, "models").ok()?;
    let http = openai::client(&url).ok()?;
    let mut response = http.get(url).send().await.ok()?.error_for_status().ok()?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        body.extend_from_slice(&chunk);
        if body.len() > limit::MODEL_LIST_BYTES_MAX {
            return None;
        }
    }
    let models: Models = serde_json::from_slice(&body).ok()?;
    let model = models.data.into_iter().map(|model| model.id).find(|id| can_chat(id))?;
    Some(Found {
        base_url: base_url.to_owned(),
        model,
    })
}

/// Guesses by a model's name: the list says no more about it.
fn can_chat(model: &str) -> bool {
    let name = model.to_ascii_lowercase();
    !name.is_empty()
        && !["embed", "rerank", "whisper", "bge-", "minilm"]
            .iter()
            .any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_that_do_not_chat_are_left_out() {
        assert!(can_chat("qwen3:8b") && can_chat("llama3.2"));
        assert!(
            !can_chat("nomic-embed-text:latest") && !can_chat("BGE-m3") && !can_chat("") && !can_chat("all-minilm")
        );
    }
}
