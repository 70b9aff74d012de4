//! What stands beside the gateway, each in a process of its own, as it would be: a server that answers as the gateway
//! does but does no work, and a model server. This program starts itself for them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::Context as _;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use axum::serve::ListenerExt as _;
use clap::ValueEnum;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, Command};

/// The largest request body: what the gateway takes on its webhooks.
const BODY_BYTES_MAX: usize = sluicegate::limit::WEBHOOK_BODY_BYTES_MAX;
/// What the model says, a piece an event.
const ANSWER: [&str; 8] = [
    "A gateway ",
    "keeps each ",
    "message on ",
    "disk until ",
    "the platform ",
    "has it, ",
    "and then ",
    "forgets it.",
];

/// Between two pieces of the body that never ends: slow, so that the server itself takes nothing from the machine.
const DRIP: std::time::Duration = std::time::Duration::from_millis(20);

/// What a peer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Answers webhooks at once: the route and nothing behind it.
    Floor,
    /// Answers chat completions at once, streamed.
    Model,
    /// Answers every request with a body that never ends.
    Endless,
}

/// A running peer. Dropping it ends it.
pub(crate) struct Peer {
    address: SocketAddr,
    _child: Child,
    /// It ends when its input does.
    _stdin: ChildStdin,
}

impl Peer {
    pub(crate) async fn start(kind: Kind) -> anyhow::Result<Self> {
        let name = kind.to_possible_value().context("every kind has a name")?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["--serve", name.get_name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().context("a peer could not be started")?;
        let stdout = child.stdout.take().context("the peer has an output")?;
        let stdin = child.stdin.take().context("the peer has an input")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        let address = line.trim().parse().context("the peer says where it listens")?;
        Ok(Self {
            address,
            _child: child,
            _stdin: stdin,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Is a peer: says on standard output where it listens, and serves until its standard input ends.
#[expect(
    clippy::print_stdout,
    reason = "the process that started this one reads the address from it"
)]
pub(crate) async fn serve(kind: Kind) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?);
    let routes = match kind {
        Kind::Floor => Router::new().route("/hooks/{channel}", any(answer_webhook)),
        Kind::Endless => Router::new().fallback(drip),
        Kind::Model => Router::new().route("/v1/chat/completions", post(complete)),
    };
    let listener = listener.tap_io(|stream| {
        // Without it a small write may wait 40 ms for the acknowledgement of the last one; then the figure is that.
        let _best_effort = stream.set_nodelay(true);
    });
    let ended = async {
        let mut rest = Vec::new();
        // Its end and its failure mean the same.
        let _end = tokio::io::stdin().read_to_end(&mut rest).await;
    };
    tokio::select! {
        served = axum::serve(listener, routes).into_future() => served.context("the peer's listener"),
        () = ended => Ok(()),
    }
}

async fn answer_webhook(Path(_channel): Path<String>, request: Request) -> Response {
    match axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX).await {
        Ok(_) => ([(header::CONTENT_TYPE, "application/json")], r#"{"status":"accepted"}"#).into_response(),
        Err(_) => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
    }
}

/// Answers as OpenAI's API does with `stream` set: server-sent events, then `[DONE]`.
async fn complete(_request: Bytes) -> Response {
    let delta = |delta: serde_json::Value, finished: Option<&str>| {
        json!({ "object": "chat.completion.chunk", "choices": [{ "index": 0, "delta": delta, "finish_reason": finished }] })
            .to_string()
    };
    let mut events: Vec<String> = ANSWER
        .iter()
        .map(|piece| delta(json!({ "content": piece }), None))
        .collect();
    events.push(delta(json!({}), Some("stop")));
    events.push("[DONE]".to_owned());
    let frames = events
        .into_iter()
        .map(|event| Ok::<_, Infallible>(format!("data: {event}\n\n")));
    let body = Body::from_stream(futures_util::stream::iter(frames));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

/// Sends a piece of a body every now and then, for as long as somebody reads.
async fn drip() -> Response {
    let pieces = futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(DRIP).await;
        Some((Ok::<_, Infallible>(Bytes::from_static(&[b'.'; 1024])), ()))
    });
    Body::from_stream(pieces).into_response()
}
