//! Receiving: Socket Mode, the Events API, and what both do with an event.
//!
//! Slack is told that an event was taken only after the host has stored it; what is not taken comes again.

use sluicegate_sdk::files::{Unfetched, until_room};
use sluicegate_sdk::http::HttpError;
use sluicegate_sdk::inbox::{self, PublishError, Published};
use sluicegate_sdk::net::{Frame, NetError, Websocket};
use sluicegate_sdk::recovery::{Backoff, Remedy};
use sluicegate_sdk::serde_json::{self, Value, json};
use sluicegate_sdk::webhook::{Request, Response};
use sluicegate_sdk::{
    Attachment, AttachmentSource, InboundMessage, ListenerError, clock, debug, error, info, secrets, settings, warn,
};

use crate::api::Api;
use crate::failure::Failure;
use crate::map::{self, Threading};
use crate::wire::{Callback, Envelope, File, Me};

/// The first and the longest wait after a failed connection, milliseconds.
const BACKOFF_MS: (u64, u64) = (1_000, 60_000);
/// How long Slack may take to say hello, milliseconds.
const HELLO_WAIT_MS: u64 = 20_000;
/// After how long without an event the connection is renewed, milliseconds: Slack may be silent for hours, its pings end
/// in the host, and a dead connection looks the same.
const SILENCE_MS_MAX: u64 = 300_000;
/// How long the files of one event may take in Socket Mode, milliseconds: Slack sends an event again that is not taken
/// within seconds, and the copy changes nothing.
const SOCKET_FILES_MS: u64 = 20_000;
/// How long they may take in a webhook, milliseconds: Slack wants its answer within three seconds.
const WEBHOOK_FILES_MS: u64 = 2_000;
/// The largest file that is fetched, bytes: the most that the host keeps as one.
const DOWNLOAD_BYTES_MAX: u64 = 50 * 1024 * 1024;

/// How the files of an event are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fetching {
    /// In Socket Mode: one for which the gateway has no room is waited for.
    Listening,
    /// In a webhook: Slack comes again.
    Answering,
}

/// Why a connection is over.
enum End {
    /// Slack asked for another one.
    Again,
    /// Connect again after a wait that grows.
    Failed(String),
    /// Do what the failed call asks for.
    Refused(Failure),
    Shutdown,
    /// Stop with these words.
    Stop(ListenerError),
}

impl From<NetError> for End {
    fn from(error: NetError) -> Self {
        match error {
            NetError::ShuttingDown => Self::Shutdown,
            NetError::Denied(why) => Self::Stop(format!("the connection to Slack was denied: {why}").into()),
            NetError::Timeout => Self::Failed("the connection to Slack timed out".to_owned()),
            NetError::Closed => Self::Failed("the connection to Slack was lost".to_owned()),
            NetError::Failed(why) => Self::Failed(format!("the connection to Slack failed: {why}")),
        }
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

/// Receives over Socket Mode until the channel is shut down.
///
/// # Errors
/// Words for the operator where connecting again is of no use.
pub fn receive_until_shutdown() -> Result<(), ListenerError> {
    let mut receiver = Receiver {
        api: Api::from_settings(),
        me: None,
        backoff: Backoff::new(BACKOFF_MS.0, BACKOFF_MS.1),
    };
    loop {
        let go_on = match receiver.connect().unwrap_or_else(|end| end) {
            End::Shutdown => false,
            End::Stop(error) => return Err(error),
            End::Again => true,
            End::Failed(why) => Remedy::BackOff.follow(&mut receiver.backoff, &why)?,
            End::Refused(failure) => failure
                .remedy("connecting to Slack")
                .follow(&mut receiver.backoff, &failure)?,
        };
        if !go_on {
            return Ok(());
        }
    }
}

struct Receiver {
    api: Api,
    /// The app's account: asked for at the start, since the token may be another one than last time.
    me: Option<Me>,
    backoff: Backoff,
}

impl Receiver {
    /// Connects, and receives until the connection is over.
    fn connect(&mut self) -> Result<End, End> {
        let me = match self.me.take() {
            Some(me) => me,
            None => self.api.fresh_me()?,
        };
        let me = self.me.insert(me).clone();
        let url = self.api.open_connection()?;
        let socket = Websocket::connect(&url, &[])?;
        let mut wait_ms = HELLO_WAIT_MS;
        loop {
            let text = match socket.receive(wait_ms)? {
                Some(Frame::Text(text)) => text,
                Some(Frame::Binary(_)) => continue,
                Some(Frame::Closed((code, reason))) => {
                    return Ok(End::Failed(format!(
                        "Slack closed the connection with {code} ({reason})"
                    )));
                }
                None if wait_ms == HELLO_WAIT_MS => return Ok(End::Failed("Slack did not say hello".to_owned())),
                None => {
                    debug!("nothing came for a while, so the connection is renewed");
                    return Ok(End::Again);
                }
            };
            let envelope: Envelope = match serde_json::from_str(&text) {
                Ok(envelope) => envelope,
                Err(why) => {
                    error!("a frame is passed over, it can't be read: {why}");
                    continue;
                }
            };
            match envelope.kind.as_str() {
                "hello" => {
                    wait_ms = SILENCE_MS_MAX;
                    self.backoff.reset();
                    info!("the connection to Slack is up");
                }
                "disconnect" => return Ok(farewell(envelope.reason.as_deref().unwrap_or_default())),
                _ => {
                    if !self.take(&envelope, &me) {
                        return Ok(End::Shutdown);
                    }
                    if let Some(id) = &envelope.envelope_id {
                        socket.send_text(&json!({ "envelope_id": id }).to_string())?;
                    }
                }
            }
        }
    }

    /// Stores what an envelope means. False at shutdown: it is not to be taken then.
    fn take(&self, envelope: &Envelope, me: &Me) -> bool {
        if envelope.kind != "events_api" {
            debug!("an envelope {:?} is taken and passed over", envelope.kind);
            return true;
        }
        match message_of(&self.api, &envelope.payload["event"], me, Fetching::Listening) {
            Ok(Some(message)) => inbox::publish_all(&[message], None) == Published::Durable,
            Ok(None) => true,
            // Nothing else ends the wait for a file: the event is not to be taken without it.
            Err(_shutting_down) => false,
        }
    }
}

/// Says what follows from Slack's farewell.
fn farewell(reason: &str) -> End {
    match reason {
        "link_disabled" => End::Stop(ListenerError::Refused(
            "Socket Mode is turned off: turn it on in the app's settings".to_owned(),
        )),
        "warning" | "refresh_requested" => End::Again,
        // Another connection at once would get the same answer: `too_many_websockets`, or what we don't know.
        other => End::Failed(format!("Slack ended the connection: {other}")),
    }
}

/// Reads an event, with its files fetched; none where it concerns no agent, or can't be read.
///
/// # Errors
/// As [`with_files`].
fn message_of(api: &Api, event: &Value, me: &Me, fetching: Fetching) -> Result<Option<InboundMessage>, HttpError> {
    let threading = Threading {
        answers_in_thread: settings::get("answer-in-thread").as_deref() != Some("false"),
    };
    match map::mapped(event.clone(), me, threading) {
        Ok(mapped) => mapped.map(|mapped| with_files(api, mapped, fetching)).transpose(),
        Err(why) => {
            error!("an event is passed over, it can't be read: {why}");
            Ok(None)
        }
    }
}

/// Fetches the files of a message within a time; one that can't be fetched becomes a note in the text.
///
/// # Errors
/// [`HttpError::Busy`] (not while listening) or [`HttpError::ShuttingDown`]: the event is not to be taken, since a file of it
/// was not fetched.
fn with_files(api: &Api, mapped: map::Mapped, fetching: Fetching) -> Result<InboundMessage, HttpError> {
    let mut message = mapped.message;
    let mut left_ms = match fetching {
        Fetching::Listening => SOCKET_FILES_MS,
        Fetching::Answering => WEBHOOK_FILES_MS,
    };
    for file in &mapped.files {
        // A wait for room takes nothing of the time for the files.
        let mut took_ms = 0;
        let mut attempt = || {
            let began_ms = clock::now_ms();
            let fetched = fetch(api, file, left_ms);
            took_ms = clock::now_ms().saturating_sub(began_ms);
            fetched
        };
        let fetched = match fetching {
            Fetching::Listening => until_room(attempt),
            Fetching::Answering => attempt(),
        };
        left_ms = left_ms.saturating_sub(took_ms);
        match fetched {
            Ok(attachment) => message.attachments.push(attachment),
            Err(Unfetched::Later(why)) => return Err(why),
            Err(Unfetched::Lost(why)) => {
                let name = file.name.as_deref().unwrap_or("without a name");
                if !message.text.is_empty() {
                    message.text.push('\n');
                }
                message
                    .text
                    .push_str(&format!("[the file {name} could not be fetched: {why}]"));
            }
        }
    }
    Ok(message)
}

/// Fetches a file.
fn fetch(api: &Api, file: &File, left_ms: u64) -> Result<Attachment, Unfetched> {
    let lost = |words: &str| Unfetched::Lost(words.to_owned());
    let url = file.url_private_download.as_ref().or(file.url_private.as_ref());
    let url = url.ok_or_else(|| lost("Slack gives it to nobody"))?;
    if file.size.is_some_and(|size| size > DOWNLOAD_BYTES_MAX) {
        return Err(lost("it is larger than 50 MB"));
    }
    if left_ms == 0 {
        return Err(lost("there was no time for it"));
    }
    let timeout_ms = u32::try_from(left_ms).unwrap_or(u32::MAX);
    match api.download(url, timeout_ms) {
        Ok(blob) => Ok(Attachment {
            name: file.name.clone(),
            media_type: file
                .mimetype
                .clone()
                .unwrap_or_else(|| "application/octet-stream".to_owned()),
            source: AttachmentSource::Blob(blob),
        }),
        Err(Failure::Status(status)) => Err(Unfetched::Lost(format!("status {status}"))),
        Err(failure) => {
            debug!("a file was not fetched: {failure}");
            Err(match failure {
                Failure::Http(error) => error.into(),
                _ => lost("no answer"),
            })
        }
    }
}

/// Answers one call of Slack's. The host has checked its signature before.
pub fn handle_event(request: &Request) -> Response {
    if request.method != "POST" {
        return refusal(405, "events come by POST").header("allow", "POST");
    }
    // Without a secret anyone could write as anyone.
    if !secrets::available("signing-secret") {
        return refusal(401, "the channel has no signing-secret, so no call can be trusted");
    }
    // Read by way of a value: reading straight from bytes would double this component's code.
    let callback = serde_json::from_slice::<Value>(&request.body).and_then(serde_json::from_value::<Callback>);
    match callback {
        Ok(callback) if callback.kind == "url_verification" => {
            let challenge = callback.challenge.unwrap_or_default();
            Response {
                body: challenge.into_bytes(),
                ..Response::empty(200)
            }
            .header("content-type", "text/plain")
        }
        Ok(callback) => store(&callback.event),
        Err(why) => refusal(400, &format!("this is no event: {why}")),
    }
}

/// Stores the event of a webhook call; anything but success makes Slack send it again.
fn store(event: &Value) -> Response {
    let api = Api::from_settings();
    let me = match api.me() {
        Ok(me) => me,
        // Without its name the app can't tell whether it is addressed.
        Err(failure) => {
            warn!("an event has to wait, auth.test failed: {failure}");
            return refusal(503, "the app's account is not known yet").header("retry-after", "5");
        }
    };
    let message = match message_of(&api, event, &me, Fetching::Answering) {
        Ok(Some(message)) => message,
        Ok(None) => return Response::empty(200),
        Err(why) => {
            warn!("an event has to wait for its file: {}", why.words());
            return refusal(503, "there is no room for the file now").header("retry-after", "5");
        }
    };
    match inbox::publish(&[message], None) {
        Ok(_) => Response::empty(200),
        Err(PublishError::Busy(wait_ms)) => {
            let seconds = wait_ms.div_ceil(1000).max(1).to_string();
            refusal(429, "too many messages are waiting").header("retry-after", &seconds)
        }
        // The same event would be as invalid the next time.
        Err(PublishError::Invalid(why)) => {
            error!("an event is dropped, the gateway refuses it: {why}");
            Response::empty(200)
        }
        Err(PublishError::ShuttingDown) => refusal(503, "the channel is shutting down").header("retry-after", "5"),
    }
}

fn refusal(status: u16, why: &str) -> Response {
    Response::json(status, &json!({"error": why}))
}

/// Waits until the channel is shut down: in events mode there is nothing to fetch.
pub fn wait_for_shutdown() {
    // Any number would do: the host ends the wait at shutdown.
    while clock::sleep_ms(3_600_000) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_farewell_means_another_connection_unless_socket_mode_is_off() {
        for reason in ["warning", "refresh_requested"] {
            assert!(matches!(farewell(reason), End::Again), "{reason:?}");
        }
        for reason in ["too_many_websockets", "something_new", ""] {
            assert!(matches!(farewell(reason), End::Failed(_)), "{reason:?}");
        }
        assert!(
            matches!(farewell("link_disabled"), End::Stop(ListenerError::Refused(words)) if words.contains("Socket Mode"))
        );
    }
}
