//! `/ws`: clients of a serving channel, and the stream of all events for who holds the admin token.
//!
//! Each connection has a reader (one client frame at a time goes to the component) and a writer (the answers to the
//! client's own frames first, then frames that others send it, then events). A frame counts as sent when the operating
//! system has it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::unfinished::Inflow;
use super::{Surface, origin};
use crate::bus::{Received, Subscription};
use crate::ingress::{Answer, CloseReason, Connection, OutgoingFrame, Refusal};
use crate::{limit, process};

/// Connects to the default serving channel.
pub(super) async fn default_channel(
    State(surface): State<Surface>,
    RawQuery(query): RawQuery,
    inflow: Option<Extension<Arc<Inflow>>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    connect(&surface, None, query.as_deref(), &headers, inflow, upgrade)
}

/// Connects to a serving channel by name.
pub(super) async fn named_channel(
    State(surface): State<Surface>,
    Path(channel): Path<String>,
    RawQuery(query): RawQuery,
    inflow: Option<Extension<Arc<Inflow>>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    connect(&surface, Some(&channel), query.as_deref(), &headers, inflow, upgrade)
}

fn connect(
    surface: &Surface,
    channel: Option<&str>,
    query: Option<&str>,
    headers: &HeaderMap,
    inflow: Option<Extension<Arc<Inflow>>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    if !origin::is_permitted(headers, surface.public_host.as_deref()) {
        return (StatusCode::FORBIDDEN, "web pages from elsewhere may not connect\n").into_response();
    }
    let holds_token = surface.token.offered_in(headers, query);
    let wants_events = wants_all_events(query);
    if holds_token == Some(false) || (wants_events && holds_token.is_none()) {
        return (StatusCode::UNAUTHORIZED, "the admin token is missing or wrong\n").into_response();
    }
    let principal = holds_token.map(|_| "admin");
    let path = channel.map_or_else(|| "/".to_owned(), |channel| format!("/{channel}"));
    // The token must not reach the guest.
    let query = query.map(without_token);
    if surface.clients.len() >= clients_max() {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many clients\n").into_response();
    }
    let connected = match surface.ingress.connect(channel, &path, query.as_deref(), principal) {
        Ok(connected) => connected,
        Err(Refusal::NotFound) => return (StatusCode::NOT_FOUND, "no such channel\n").into_response(),
        Err(_) => return (StatusCode::SERVICE_UNAVAILABLE, "too many clients, or going down\n").into_response(),
    };
    // Counted from here on, also while it is not yet what it asks to be.
    let counted = surface.clients.token();
    let events = wants_events.then(|| surface.bus.subscribe());
    let surface = surface.clone();
    let inflow = inflow.map_or_else(|| Inflow::new(&Arc::default()), |Extension(inflow)| inflow);
    upgrade
        .read_buffer_size(limit::UNFINISHED_BYTES_FREE)
        .max_message_size(limit::CLIENT_FRAME_READ_BYTES_MAX)
        .max_frame_size(limit::CLIENT_FRAME_READ_BYTES_MAX)
        .max_write_buffer_size(limit::CLIENT_UNREAD_BYTES_MAX)
        .on_upgrade(move |socket| {
            if principal.is_some() {
                inflow.trust();
            }
            async move {
                converse(surface, socket, inflow, connected, events).await;
                drop(counted);
            }
        })
}

/// Returns how many clients may be connected, whatever their channels take: the files and connections that everything else
/// needs are left.
fn clients_max() -> usize {
    let besides = limit::CONNECTIONS_ASKING_MAX + limit::OPEN_FILES_BESIDES;
    process::open_files_max()
        .saturating_sub(besides)
        .max(limit::CLIENTS_MIN)
}

fn wants_all_events(query: Option<&str>) -> bool {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.into_iter().any(|(key, value)| key == "events" && value == "all")
}

fn without_token(query: &str) -> String {
    let kept = url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key != "token");
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(kept)
        .finish()
}

/// What the reader hands to the writer.
enum Said {
    Answer(Answer),
    /// The connection ends for this reason.
    Close(CloseFrame),
    /// The client closes the connection, and waits for the confirmation (RFC 6455, 5.5.1).
    Goodbye,
}

async fn converse(
    surface: Surface,
    socket: WebSocket,
    inflow: Arc<Inflow>,
    (connection, frames): (Arc<dyn Connection>, mpsc::Receiver<OutgoingFrame>),
    events: Option<Subscription>,
) {
    let (sink, stream) = socket.split();
    let (said_tx, said_rx) = mpsc::channel(1);
    let heard = Arc::new(std::sync::Mutex::new(Instant::now()));
    let reading = read(stream, inflow, connection.clone(), said_tx, heard.clone());
    let writing = write(sink, said_rx, frames, events, surface.shutdown.clone(), heard);
    // Whichever ends first ends the connection; a call of the component that runs is dropped with its instance.
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
    connection.closed().await;
}

async fn read(
    mut stream: SplitStream<WebSocket>,
    inflow: Arc<Inflow>,
    connection: Arc<dyn Connection>,
    said: mpsc::Sender<Said>,
    heard: Arc<std::sync::Mutex<Instant>>,
) {
    let first = connection.opened().await.map(|frames| Answer { frames, hold: None });
    if !tell(&said, first).await {
        return;
    }
    loop {
        let message = tokio::select! {
            biased;
            () = inflow.given_up() => return end(&said, Said::Close(farewell(CloseReason::Crowded))).await,
            message = stream.next() => message,
        };
        let message = match message {
            None => return,
            Some(Ok(message)) => message,
            Some(Err(error)) => match complaint(error) {
                Some(frame) => return end(&said, Said::Close(frame)).await,
                None => return,
            },
        };
        if let Ok(mut heard) = heard.lock() {
            *heard = Instant::now();
        }
        let answer = match message {
            Message::Text(frame) if frame.len() > limit::CLIENT_FRAME_BYTES_MAX => Err(CloseReason::TooLarge),
            // It may have to wait for its turn, and until then is kept whole.
            Message::Text(frame) => tokio::select! {
                biased;
                answer = connection.received(frame.as_str().to_owned()) => answer,
                () = inflow.given_up() => Err(CloseReason::Crowded),
            },
            Message::Binary(_) => Err(CloseReason::Policy("only text frames are taken".into())),
            Message::Ping(frame) | Message::Pong(frame) => {
                // It may stand between the parts of a message, of which it is none.
                inflow.dropped(CONTROL_HEAD_BYTES + frame.len());
                continue;
            }
            Message::Close(_) => return end(&said, Said::Goodbye).await,
        };
        inflow.took_frame();
        if !tell(&said, answer).await {
            return;
        }
    }
}

/// The head of a client's control frame, mask included (RFC 6455, 5.2).
const CONTROL_HEAD_BYTES: usize = 6;

/// Hands an answer to the writer. Returns whether the conversation goes on.
async fn tell(said: &mpsc::Sender<Said>, answer: Result<Answer, CloseReason>) -> bool {
    match answer {
        Ok(answer) => said.send(Said::Answer(answer)).await.is_ok(),
        Err(reason) => {
            end(said, Said::Close(farewell(reason))).await;
            false
        }
    }
}

/// Hands the end of the conversation to the writer.
async fn end(said: &mpsc::Sender<Said>, last: Said) {
    if said.send(last).await.is_ok() {
        // The writer ends the connection; waiting here keeps the reader from ending it first.
        said.closed().await;
    }
}

/// Returns how a connection ends on which something came that is against the protocol; none where it broke off.
fn complaint(error: axum::Error) -> Option<CloseFrame> {
    use tokio_tungstenite::tungstenite::Error;
    let (code, words) = match error.into_inner().downcast_ref::<Error>()? {
        Error::Capacity(_) => return Some(farewell(CloseReason::TooLarge)),
        Error::Utf8(_) => (close_code::INVALID, "a text frame is UTF-8"),
        Error::Protocol(_) => (close_code::PROTOCOL, "that is no frame of RFC 6455"),
        _ => return None,
    };
    Some(close_frame(code, words))
}

async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut said: mpsc::Receiver<Said>,
    mut frames: mpsc::Receiver<OutgoingFrame>,
    mut events: Option<Subscription>,
    shutdown: tokio_util::sync::CancellationToken,
    heard: Arc<std::sync::Mutex<Instant>>,
) {
    let mut pings = tokio::time::interval(limit::CLIENT_IDLE_MAX / 2);
    loop {
        let written = tokio::select! {
            biased;
            Some(said) = said.recv() => match said {
                Said::Answer(answer) => write_answer(&mut sink, answer).await,
                Said::Close(frame) => return close_with(&mut sink, frame).await,
                Said::Goodbye => return confirm_close(&mut sink).await,
            },
            frame = frames.recv() => match frame {
                Some(frame) => write_frame(&mut sink, frame).await,
                // The channel forgot its clients: it was removed or replaced.
                None => return go_away(&mut sink, "the channel was stopped").await,
            },
            Some(event) = next_event(&mut events) => write_text(&mut sink, event).await,
            _ = pings.tick() => {
                if silent_for(&heard) > limit::CLIENT_IDLE_MAX {
                    return;
                }
                put(&mut sink, Message::Ping(axum::body::Bytes::new())).await
            }
            () = shutdown.cancelled() => return go_away(&mut sink, "the gateway is going down").await,
            else => return,
        };
        match written {
            Ok(()) => {}
            // Where it said goodbye meanwhile, that is still answered.
            Err(Unwritable::Closed) => return confirm_close(&mut sink).await,
            Err(Unwritable::Unread) => return,
        }
    }
}

fn silent_for(heard: &std::sync::Mutex<Instant>) -> Duration {
    heard.lock().map_or(Duration::ZERO, |heard| heard.elapsed())
}

/// Why nothing can be written to a client.
enum Unwritable {
    /// It is gone, or going.
    Closed,
    /// It does not read.
    Unread,
}

async fn put(sink: &mut SplitSink<WebSocket, Message>, message: Message) -> Result<(), Unwritable> {
    match tokio::time::timeout(limit::CLIENT_WRITE_TIMEOUT, sink.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Unwritable::Closed),
        Err(_elapsed) => Err(Unwritable::Unread),
    }
}

async fn write_text(sink: &mut SplitSink<WebSocket, Message>, text: String) -> Result<(), Unwritable> {
    put(sink, Message::Text(text.into())).await
}

async fn write_answer(sink: &mut SplitSink<WebSocket, Message>, answer: Answer) -> Result<(), Unwritable> {
    for frame in answer.frames {
        write_text(sink, frame).await?;
    }
    drop(answer.hold);
    Ok(())
}

async fn write_frame(sink: &mut SplitSink<WebSocket, Message>, frame: OutgoingFrame) -> Result<(), Unwritable> {
    write_text(sink, frame.text).await?;
    // The sender may have given up waiting; the frame is out all the same.
    let _ = frame.written.send(());
    Ok(())
}

async fn next_event(events: &mut Option<Subscription>) -> Option<String> {
    let event = match events.as_mut()?.recv().await? {
        Received::Event(event) => serde_json::json!({ "type": "event", "event": &*event }),
        Received::Lost(count) => serde_json::json!({ "type": "event", "event": { "kind": "lost", "count": count } }),
    };
    Some(event.to_string())
}

fn farewell(reason: CloseReason) -> CloseFrame {
    match reason {
        CloseReason::Normal => close_frame(close_code::NORMAL, ""),
        CloseReason::Policy(words) => close_frame(close_code::POLICY, &words),
        CloseReason::TooLarge => close_frame(close_code::SIZE, "the frame is too large"),
        CloseReason::Crowded => close_frame(
            close_code::AGAIN,
            "too much is under way that is not whole; connect and send it again",
        ),
        CloseReason::Internal => close_frame(close_code::ERROR, "the channel failed"),
    }
}

fn close_frame(code: u16, words: &str) -> CloseFrame {
    // RFC 6455, 5.5: a control frame has at most 125 bytes, two of which are the code.
    let reason = Utf8Bytes::from(&words[..words.floor_char_boundary(123)]);
    CloseFrame { code, reason }
}

async fn go_away(sink: &mut SplitSink<WebSocket, Message>, why: &str) {
    close_with(sink, close_frame(close_code::AWAY, why)).await;
}

async fn close_with(sink: &mut SplitSink<WebSocket, Message>, frame: CloseFrame) {
    // The client may be gone already; then there is nobody to tell.
    let _ = put(sink, Message::Close(Some(frame))).await;
}

async fn confirm_close(sink: &mut SplitSink<WebSocket, Message>) {
    // As above. The confirmation itself was made where the client's frame was read.
    let _ = tokio::time::timeout(limit::CLIENT_WRITE_TIMEOUT, sink.close()).await;
}
