//! The OpenAI-compatible agent against servers that behave, fail, stall and lie.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response, Uri};
use futures_util::StreamExt;
use sluicegate::agent::local::{Found, detect_local};
use sluicegate::agent::openai::{ApiKey, OpenAi, Settings};
use sluicegate::agent::{Agent, AgentError, Disposition, Turn};
use sluicegate::limit;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::{history, message};

/// A request as the server saw it: path, headers, body.
type Seen = Arc<Mutex<Vec<(String, HeaderMap, serde_json::Value)>>>;

/// A server that answers every request by a rule.
struct Server {
    base_url: String,
    seen: Seen,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(rule: impl Fn() -> Response<Body> + Clone + Send + Sync + 'static) -> Self {
        let seen: Seen = Arc::default();
        let notes = Arc::clone(&seen);
        let app = Router::new().fallback(move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let json = serde_json::from_slice(&body).unwrap_or_default();
            notes.lock().unwrap().push((uri.path().to_owned(), headers, json));
            std::future::ready(rule())
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, app).await }).abort_handle();
        Self { base_url, seen, task }
    }

    fn agent(&self) -> OpenAi {
        self.agent_with(Duration::from_secs(20))
    }

    fn agent_with(&self, timeout: Duration) -> OpenAi {
        OpenAi::new(Settings {
            base_url: self.base_url.clone(),
            model: "qwen3".to_owned(),
            api_key: Some(ApiKey::new("sk-test")),
            system: Some("be brief".to_owned()),
            timeout,
        })
        .unwrap()
    }
}

fn stream(chunks: Vec<&'static str>) -> Response<Body> {
    let chunks = futures_util::stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>));
    Response::builder()
        .header("content-type", "text/event-stream; charset=utf-8")
        .body(Body::from_stream(chunks))
        .unwrap()
}

fn status(code: u16, body: &'static str) -> Response<Body> {
    Response::builder()
        .status(code)
        .header("retry-after", "7")
        .body(Body::from(body))
        .unwrap()
}

async fn ask(agent: &OpenAi) -> (Result<String, AgentError>, Vec<String>) {
    let grown = Mutex::new(Vec::new());
    let event = message("who am I?");
    let growing = |text: &str| grown.lock().unwrap().push(text.to_owned());
    let answer = agent
        .answer(
            Turn {
                event: &event,
                history: &history(),
            },
            &growing,
        )
        .await;
    (answer, grown.into_inner().unwrap())
}

#[tokio::test]
async fn the_conversation_goes_out_and_the_answer_grows_in() {
    let server = Server::start(|| {
        stream(vec![
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"cont",
            "ent\":\"You are \"}}]}\n\n",
            ": keep-alive\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"Ada\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
        ])
    })
    .await;
    let (answer, grown) = ask(&server.agent()).await;
    assert_eq!(answer.unwrap(), "You are Ada");
    assert_eq!(grown.last().map(String::as_str), Some("You are Ada"));
    assert!(grown.iter().all(|text| "You are Ada".starts_with(text.as_str())));
    let seen = server.seen.lock().unwrap();
    let (path, headers, body) = &seen[0];
    assert_eq!(path, "/v1/chat/completions");
    assert_eq!(headers["authorization"], "Bearer sk-test");
    let expected = serde_json::json!({
        "model": "qwen3",
        "stream": true,
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "my name is Ada"},
            {"role": "assistant", "content": "hello Ada"},
            {"role": "user", "content": "who am I?"},
        ],
    });
    assert_eq!(*body, expected);
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood_and_no_key_is_made_up() {
    let server = Server::start(|| {
        let body = r#"{"choices":[{"message":{"role":"assistant","content":"Ada"},"finish_reason":"stop"}]}"#;
        Response::builder()
            .header("content-type", "application/json")
            .body(Body::from(body))
            .unwrap()
    })
    .await;
    let agent = OpenAi::new(Settings {
        base_url: format!("{}/", server.base_url),
        model: "m".to_owned(),
        api_key: None,
        system: None,
        timeout: Duration::from_secs(20),
    });
    assert_eq!(ask(&agent.unwrap()).await.0.unwrap(), "Ada");
    assert!(!server.seen.lock().unwrap()[0].1.contains_key("authorization"));
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_never_taken_for_a_whole_one() {
    let half = "data: {\"choices\":[{\"delta\":{\"content\":\"You are\"}}]}\n\n";
    // Once the stream just ends, once the connection breaks in the middle.
    let ends = Server::start(move || stream(vec![half])).await;
    let breaks = Server::start(move || {
        let chunks = futures_util::stream::iter([Ok(half), Err(std::io::Error::other("gone"))]);
        Response::builder()
            .header("content-type", "text/event-stream")
            .body(Body::from_stream(chunks))
            .unwrap()
    })
    .await;
    for server in [ends, breaks] {
        let (answer, grown) = ask(&server.agent()).await;
        assert!(grown.iter().all(|text| text == "You are"), "{grown:?}");
        assert_eq!(answer.unwrap_err().disposition(), Disposition::Retry);
    }
}

#[tokio::test]
async fn each_refusal_is_understood_and_none_shows_the_key() {
    let rows = [
        (401, Disposition::Misconfigured),
        (404, Disposition::Misconfigured),
        (307, Disposition::Misconfigured),
        (400, Disposition::GiveUp),
        (422, Disposition::GiveUp),
        (429, Disposition::RetryAfter(Duration::from_secs(7))),
        (500, Disposition::Retry),
        // It says for how long: all of these answers do.
        (503, Disposition::RetryAfter(Duration::from_secs(7))),
    ];
    for (code, expected) in rows {
        let server = Server::start(move || status(code, r#"{"error":{"message":"it says why"}}"#)).await;
        let failed = ask(&server.agent()).await.0.unwrap_err();
        assert_eq!(failed.disposition(), expected, "{code}: {failed}");
        let words = format!("{failed} {failed:?}");
        assert!(words.contains("it says why") && !words.contains("sk-test"), "{words}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let settings = Settings {
        base_url,
        model: "m".to_owned(),
        api_key: None,
        system: None,
        timeout: Duration::from_secs(20),
    };
    let failed = ask(&OpenAi::new(settings).unwrap()).await.0.unwrap_err();
    assert_eq!(failed.disposition(), Disposition::Retry);
    assert!(failed.to_string().contains("no connection"), "{failed}");
}

#[tokio::test]
async fn a_server_that_stalls_or_floods_is_bounded() {
    let stalls = Server::start(|| {
        let first = futures_util::stream::iter([Ok::<_, std::io::Error>(": hello\n\n")]);
        let body = Body::from_stream(first.chain(futures_util::stream::pending()));
        Response::builder()
            .header("content-type", "text/event-stream")
            .body(body)
            .unwrap()
    })
    .await;
    let failed = ask(&stalls.agent_with(Duration::from_millis(300))).await.0.unwrap_err();
    assert!(matches!(failed, AgentError::TimedOut(_)), "{failed}");

    let floods = Server::start(|| {
        let line = Bytes::from(vec![b'x'; 64 * 1024]);
        let body = Body::from_stream(futures_util::stream::repeat_with(move || {
            Ok::<_, std::io::Error>(line.clone())
        }));
        Response::builder()
            .header("content-type", "text/event-stream")
            .body(body)
            .unwrap()
    })
    .await;
    assert_eq!(
        ask(&floods.agent()).await.0.unwrap_err().disposition(),
        Disposition::Retry
    );

    let talks = Server::start(|| {
        let event = format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
            "x".repeat(1000)
        );
        let event = Bytes::from(event);
        let body = Body::from_stream(futures_util::stream::repeat_with(move || {
            Ok::<_, std::io::Error>(event.clone())
        }));
        Response::builder()
            .header("content-type", "text/event-stream")
            .body(body)
            .unwrap()
    })
    .await;
    let answer = ask(&talks.agent()).await.0.unwrap();
    assert!(
        answer.len() > limit::ANSWER_BYTES_MAX && answer.len() < 4 * limit::ANSWER_BYTES_MAX,
        "{}",
        answer.len()
    );
}

#[tokio::test]
async fn a_local_server_is_found_with_a_model_that_chats() {
    let models = |body: &'static str| move || Response::new(Body::from(body));
    let first = Server::start(models(
        r#"{"object":"list","data":[{"id":"nomic-embed-text"},{"id":"qwen3:8b"}]}"#,
    ))
    .await;
    let second = Server::start(models(r#"{"data":[{"id":"llama3"}]}"#)).await;
    let other = Server::start(models("<html>another service</html>")).await;
    let empty = Server::start(models(r#"{"data":[]}"#)).await;
    let refusing = Server::start(|| status(401, "{}")).await;
    let closed = "http://127.0.0.1:1/v1";
    let urls = [
        closed,
        &other.base_url,
        &empty.base_url,
        &refusing.base_url,
        &first.base_url,
        &second.base_url,
    ];
    let expected = Found {
        base_url: first.base_url.clone(),
        model: "qwen3:8b".to_owned(),
    };
    assert_eq!(detect_local(&urls).await, Some(expected));
    assert_eq!(first.seen.lock().unwrap()[0].0, "/v1/models");
    assert_eq!(detect_local(&urls[..4]).await, None);
    assert_eq!(detect_local(&[]).await, None);
}

#[tokio::test]
async fn a_silent_port_does_not_hold_up_the_start() {
    // Takes the connection and never says a word.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let began = std::time::Instant::now();
    assert_eq!(detect_local(&[&url]).await, None);
    assert!(
        began.elapsed() < limit::MODEL_DETECT_TIMEOUT * 8,
        "{:?}",
        began.elapsed()
    );
}
