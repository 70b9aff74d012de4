//! The HTTP side: routing, the token check, ordered faults, the record of calls.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State as Held};
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::control;
use crate::fault::{Answer, Fault};
use crate::methods::{ApiError, Reply};
use crate::params::{CALL_BYTES_MAX, Params, is_documented, method_named};
use crate::state::{Call, Shared};
use crate::updates;

/// Binds the port and serves until the fake is stopped.
pub(crate) async fn start(shared: Arc<Shared>, listen: SocketAddr) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let app = Router::new()
        .merge(control::routes())
        .fallback(bot_api)
        .layer(DefaultBodyLimit::max(CALL_BYTES_MAX))
        .with_state(Arc::clone(&shared));
    let service = app.into_make_service_with_connect_info::<Severable>();
    tokio::spawn(async move {
        let stopped = async move { shared.stopped().await };
        // The listener never fails for good, and a test sees a dead server soon enough.
        let _ = axum::serve(SeverableListener(listener), service)
            .with_graceful_shutdown(stopped)
            .await;
    });
    Ok(address)
}

/// Routes `/bot<token>/<method>` and `/file/bot<token>/<path>`.
async fn bot_api(
    Held(shared): Held<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Severable>,
    request: Request<Body>,
) -> Response {
    // Read to the end whatever the answer is: a server that answers before closes the connection under the next call.
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, CALL_BYTES_MAX).await else {
        return envelope(&Err(ApiError::new(413, "Request Entity Too Large")));
    };
    let request = Request::from_parts(head, body);
    let path = percent_decoded(request.uri().path());
    if let Some((token, file)) = path.strip_prefix("/file/bot").and_then(|rest| rest.split_once('/')) {
        return file_response(&shared, token, file);
    }
    let Some((token, name)) = path.strip_prefix("/bot").and_then(|rest| rest.split_once('/')) else {
        return envelope(&Err(ApiError::new(404, "Not Found")));
    };
    if let Err(error) = check_token(&shared, token) {
        return envelope(&Err(error));
    }
    let Some(method) = method_named(name.trim_end_matches('/')) else {
        shared.change(|state| state.violation(format!("called the unknown method {name}")));
        return envelope(&Err(ApiError::new(404, "Not Found")));
    };
    let params = match Params::read(request).await {
        Ok(params) => params,
        Err(description) => return envelope(&Err(ApiError::new(400, description))),
    };
    call(&shared, &connection, method, params).await
}

fn check_token(shared: &Shared, token: &str) -> Result<(), ApiError> {
    let well_formed = token
        .split_once(':')
        .is_some_and(|(id, secret)| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) && !secret.is_empty());
    if !well_formed {
        return Err(ApiError::new(404, "Not Found"));
    }
    if token == shared.lock().options.token {
        Ok(())
    } else {
        Err(ApiError::new(401, "Unauthorized"))
    }
}

/// Carries out one call, with the fault that was ordered for it.
async fn call(shared: &Shared, connection: &Severable, method: &'static str, params: Params) -> Response {
    let fault = shared.change(|state| {
        // A file may stand under any name that another parameter refers to.
        let known = |name: &str| is_documented(method, name) || params.is_attached(name);
        for name in params.names().filter(|name| !known(name)) {
            state.violation(format!("{method} has no parameter {name}"));
        }
        state.take_fault(method, params.integer("chat_id"))
    });
    let takes_effect = fault.as_ref().is_none_or(|fault| fault.accepted);
    let reply = if takes_effect {
        Some(perform(shared, method, &params).await)
    } else {
        None
    };
    let accepted = matches!(reply, Some(Ok(_)));
    let outcome = match (fault, reply) {
        (Some(fault), _) => Outcome::of_fault(fault),
        (None, Some(Err(cut))) if cut.code == updates::CUT => Outcome::Close,
        (None, Some(reply)) => Outcome::Reply(reply),
        (None, None) => Outcome::Close,
    };
    let record = Call {
        method: method.to_owned(),
        params: params.to_record(),
        files: params.files,
        at_ms: 0,
        status: outcome.status(),
        accepted,
    };
    shared.change(|state| {
        let at_ms = u64::try_from(state.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        state.calls.push(Call { at_ms, ..record });
    });
    outcome.respond(shared, connection).await
}

async fn perform(shared: &Shared, method: &str, params: &Params) -> Reply {
    if method == "getUpdates" {
        updates::get_updates(shared, params).await
    } else {
        shared.change(|state| state.perform(method, params))
    }
}

/// What the bot will see.
enum Outcome {
    Reply(Reply),
    Gateway(u16),
    Hang,
    Close,
}

impl Outcome {
    fn of_fault(fault: Fault) -> Self {
        match fault.answer {
            Answer::Api {
                code,
                description,
                retry_after,
            } => {
                let parameters = retry_after.map(|seconds| json!({"retry_after": seconds}));
                Self::Reply(Err(ApiError {
                    code,
                    description,
                    parameters,
                }))
            }
            Answer::Gateway(status) => Self::Gateway(status),
            Answer::Hang => Self::Hang,
            Answer::Close => Self::Close,
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::Reply(Ok(_)) => 200,
            Self::Reply(Err(error)) => error.code,
            Self::Gateway(status) => *status,
            Self::Hang | Self::Close => 0,
        }
    }

    async fn respond(self, shared: &Shared, connection: &Severable) -> Response {
        match self {
            Self::Reply(reply) => envelope(&reply),
            Self::Gateway(status) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                let page = format!("<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>");
                (status, [(header::CONTENT_TYPE, "text/html")], page).into_response()
            }
            Self::Hang => {
                shared.stopped().await;
                connection.sever()
            }
            Self::Close => connection.sever(),
        }
    }
}

/// Writes a reply in Telegram's envelope.
fn envelope(reply: &Reply) -> Response {
    let (status, body) = match reply {
        Ok(result) => (200, json!({"ok": true, "result": result})),
        Err(error) => {
            let mut body = json!({"ok": false, "error_code": error.code, "description": error.description});
            if let Some(parameters) = &error.parameters {
                body["parameters"] = parameters.clone();
            }
            (error.code, body)
        }
    };
    json_response(status, &body)
}

/// Makes a JSON response.
pub(crate) fn json_response(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn file_response(shared: &Shared, token: &str, path: &str) -> Response {
    if let Err(error) = check_token(shared, token) {
        return envelope(&Err(error));
    }
    match shared.lock().file_at(path) {
        Some(bytes) => ([(header::CONTENT_TYPE, "application/octet-stream")], Body::from(bytes)).into_response(),
        None => envelope(&Err(ApiError::new(404, "Not Found"))),
    }
}

fn percent_decoded(path: &str) -> String {
    // A plus sign stands for itself in a path, unlike in a form.
    let protected = path.replace('+', "%2B");
    let mut decoded = String::new();
    for (key, value) in url::form_urlencoded::parse(protected.replace('=', "%3D").replace('&', "%26").as_bytes()) {
        decoded.push_str(&key);
        decoded.push_str(&value);
    }
    decoded
}

/// A connection that a fault can cut: after [`Self::sever`], nothing more is written to it.
#[derive(Debug, Clone, Default)]
struct Severable(Arc<AtomicBool>);

impl Severable {
    /// Cuts the connection; the response is what hyper will fail to write.
    fn sever(&self) -> Response {
        self.0.store(true, Ordering::Release);
        StatusCode::NO_CONTENT.into_response()
    }

    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Acquire) {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else {
            Ok(())
        }
    }
}

struct SeverableListener(TcpListener);

impl axum::serve::Listener for SeverableListener {
    type Io = SeverableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = axum::serve::Listener::accept(&mut self.0).await;
        (
            SeverableStream {
                stream,
                severable: Severable::default(),
            },
            address,
        )
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

impl Connected<IncomingStream<'_, SeverableListener>> for Severable {
    fn connect_info(stream: IncomingStream<'_, SeverableListener>) -> Self {
        stream.io().severable.clone()
    }
}

struct SeverableStream {
    stream: TcpStream,
    severable: Severable,
}

impl AsyncRead for SeverableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for SeverableStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.severable.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
