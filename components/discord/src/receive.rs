//! Receiving: the connection to the gateway, and what is done with each event.
//!
//! The cursor is the session with the number of its last event. It moves on in the transaction that stores the event, so
//! a gateway that was killed resumes where it has stored, and Discord sends the rest again.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use sluicegate_sdk::files::{Unfetched, until_room};
use sluicegate_sdk::http::{HttpError, Request};
use sluicegate_sdk::inbox::{self, Published};
use sluicegate_sdk::net::{Frame as SocketFrame, NetError, Websocket};
use sluicegate_sdk::recovery::Backoff;
use sluicegate_sdk::serde_json::{self, Value};
use sluicegate_sdk::{
    Attachment, AttachmentSource, Conversation, InboundMessage, ListenerError, clock, debug, error, info, settings,
    warn,
};

use crate::failure::Failure;
use crate::map::{self, Mapped, Place};
use crate::rest::Rest;
use crate::session::{Saved, Session, Step};
use crate::wire::{self, Channel, Frame, User};

/// The first and the longest wait after a failed connection, milliseconds.
const BACKOFF_MS: (u64, u64) = (1_000, 60_000);
/// How long the gateway may take to say hello, milliseconds.
const HELLO_WAIT_MS: u64 = 20_000;
/// The time between two new sessions, milliseconds (Discord: Gateway, Identifying).
const IDENTIFY_PERIOD_MS: u64 = 5_000;
/// Where the time of the last new session is kept.
const IDENTIFIED_KEY: &str = "identified-at";
/// How long one file may take, milliseconds: half of the time between two heartbeats.
const DOWNLOAD_TIMEOUT_MS: u32 = 20_000;
/// The largest file that is fetched, bytes: the most that the host keeps as one.
const DOWNLOAD_BYTES_MAX: u64 = 50 * 1024 * 1024;
/// Connections in a row that may fail at the address of a session before it is looked for where new ones are started.
const RESUME_FAILURES_MAX: u32 = 3;
/// Channels whose kind is remembered.
const CHANNELS_MAX: usize = 4_096;
/// The close code that leaves the session alive (any but 1000 and 1001 does).
const CLOSE_AND_RESUME: u16 = 4_000;

/// Servers, messages and reactions in them, direct messages and reactions (Discord: Gateway Intents).
const INTENTS: u64 = 1 << 0 | 1 << 9 | 1 << 10 | 1 << 12 | 1 << 13;
/// The contents of messages that do not name the bot: a privileged intent.
const MESSAGE_CONTENT: u64 = 1 << 15;

/// Receives until the channel is shut down.
///
/// # Errors
/// Words for the operator where connecting again is of no use.
pub fn receive_until_shutdown() -> Result<(), ListenerError> {
    let rest = Rest::from_settings();
    let mut backoff = Backoff::new(BACKOFF_MS.0, BACKOFF_MS.1);
    let me = loop {
        match rest.me() {
            Ok(me) => break me,
            Err(failure) => {
                if !failure.remedy("asking who the bot is").follow(&mut backoff, &failure)? {
                    return Ok(());
                }
            }
        }
    };
    Receiver::new(rest, me).run()
}

/// Returns any number: each hasher of the standard library starts from the host's randomness.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

struct Receiver {
    rest: Rest,
    me: User,
    session: Session,
    /// What Discord said of channels: whether they are threads, and their names.
    channels: HashMap<String, Channel>,
    backoff: Backoff,
    /// Connections in a row that failed.
    failures: u32,
}

/// Why a connection is over.
enum End {
    /// Connect again after this wait, milliseconds.
    Again(u64),
    /// Connect again after a wait that grows.
    Failed(String),
    Shutdown,
    /// Stop with these words.
    Stop(ListenerError),
}

impl From<NetError> for End {
    fn from(error: NetError) -> Self {
        match error {
            NetError::ShuttingDown => Self::Shutdown,
            NetError::Denied(why) => Self::Stop(format!("the connection to the gateway was denied: {why}").into()),
            NetError::Timeout => Self::Failed("the connection to the gateway timed out".to_owned()),
            NetError::Closed => Self::Failed("the connection to the gateway was lost".to_owned()),
            NetError::Failed(why) => Self::Failed(format!("the connection to the gateway failed: {why}")),
        }
    }
}

impl Receiver {
    fn new(rest: Rest, me: User) -> Self {
        let saved = inbox::cursor().and_then(|cursor| Saved::of_cursor(&cursor, &me.id));
        let all = settings::get("message-content").as_deref() != Some("false");
        let intents = if all { INTENTS | MESSAGE_CONTENT } else { INTENTS };
        Self {
            session: Session::new(&me.id, intents, saved),
            rest,
            me,
            channels: HashMap::new(),
            backoff: Backoff::new(BACKOFF_MS.0, BACKOFF_MS.1),
            failures: 0,
        }
    }

    fn run(&mut self) -> Result<(), ListenerError> {
        loop {
            let end = self.connect().unwrap_or_else(|end| end);
            self.session.disconnected();
            let wait_ms = match end {
                End::Shutdown => return Ok(()),
                End::Stop(error) => return Err(error),
                End::Again(wait_ms) => wait_ms,
                End::Failed(why) => {
                    self.failures = self.failures.saturating_add(1);
                    let wait_ms = self.backoff.next();
                    warn!("{why}; the next try comes in {wait_ms} ms");
                    wait_ms
                }
            };
            if wait_ms > 0 && !clock::sleep_ms(wait_ms) {
                return Ok(());
            }
        }
    }

    /// Connects, and receives until the connection is over.
    fn connect(&mut self) -> Result<End, End> {
        let url = match self.session.saved().and_then(|saved| saved.url.clone()) {
            Some(url) if self.failures < RESUME_FAILURES_MAX => url,
            _ => self.address()?,
        };
        if self.session.saved().is_none() && !identify_in_time() {
            return Err(End::Shutdown);
        }
        let url = format!("{}/?v=10&encoding=json", url.trim_end_matches('/'));
        let socket = Websocket::connect(&url, &[])?;
        let started_ms = clock::now_ms();
        loop {
            let now_ms = clock::now_ms();
            let due_ms = self.session.beat_due_ms();
            if due_ms.is_none() && now_ms.saturating_sub(started_ms) > HELLO_WAIT_MS {
                return Ok(End::Failed("the gateway did not say hello".to_owned()));
            }
            if let Some(step) = self.session.beat(now_ms)
                && let Some(end) = self.follow(&socket, step)?
            {
                return Ok(end);
            }
            let until_ms = self
                .session
                .beat_due_ms()
                .map_or(HELLO_WAIT_MS, |due| due.saturating_sub(now_ms));
            let step = match socket.receive(until_ms.max(1))? {
                Some(SocketFrame::Text(text)) => self.take(&text),
                Some(SocketFrame::Closed((code, reason))) => Some(self.session.closed(code, &reason)),
                // Discord sends text only, as it was asked to.
                Some(SocketFrame::Binary(_)) | None => None,
            };
            if let Some(step) = step
                && let Some(end) = self.follow(&socket, step)?
            {
                return Ok(end);
            }
        }
    }

    fn take(&mut self, text: &str) -> Option<Step> {
        match serde_json::from_str::<Frame>(text) {
            Ok(frame) => self.session.frame(frame, clock::now_ms(), random()),
            Err(why) => {
                error!("a frame of the gateway is passed over, it can't be read: {why}");
                None
            }
        }
    }

    /// Does a step; returns why the connection is over, where it is.
    fn follow(&mut self, socket: &Websocket, step: Step) -> Result<Option<End>, End> {
        match step {
            // Nothing in these frames was written by a person.
            Step::Send(frame) => {
                let is_heartbeat = frame["op"] == wire::op::HEARTBEAT;
                socket.send_text(&frame.to_string())?;
                if is_heartbeat && !self.save() {
                    return Ok(Some(End::Shutdown));
                }
            }
            Step::Up => {
                self.backoff.reset();
                self.failures = 0;
                info!("the gateway's session is up");
                if !self.save() {
                    return Ok(Some(End::Shutdown));
                }
            }
            Step::Event { name, data } => {
                if !self.event(&name, data) {
                    return Ok(Some(End::Shutdown));
                }
            }
            Step::Again(wait_ms) => {
                socket.close(CLOSE_AND_RESUME, "connecting again");
                return Ok(Some(End::Again(wait_ms)));
            }
            Step::Stop(words) => return Ok(Some(End::Stop(ListenerError::Refused(words)))),
        }
        Ok(None)
    }

    /// Asks where a new session is started.
    fn address(&mut self) -> Result<String, End> {
        let own = settings::get("gateway-base").filter(|url| !url.trim().is_empty());
        if let Some(url) = own {
            return Ok(url.trim().to_owned());
        }
        loop {
            let failure = match self.rest.gateway() {
                Ok(found) => match found.session_start_limit {
                    Some(limit) if limit.remaining == 0 => {
                        let wait_ms = limit.reset_after.max(BACKOFF_MS.0);
                        Failure::RateLimited { wait_ms, global: true }
                    }
                    _ => return Ok(found.url),
                },
                Err(failure) => failure,
            };
            let remedy = failure.remedy("asking for the gateway's address");
            match remedy.follow(&mut self.backoff, &failure) {
                Ok(true) => {}
                Ok(false) => return Err(End::Shutdown),
                Err(error) => return Err(End::Stop(error)),
            }
        }
    }

    /// Stores how far the session is, without a message. False at shutdown.
    fn save(&self) -> bool {
        match self.session.saved() {
            Some(saved) => inbox::publish_all(&[], Some(&saved.cursor())) == Published::Durable,
            None => true,
        }
    }

    /// Stores what an event means, with the cursor. False at shutdown.
    fn event(&mut self, name: &str, data: Value) -> bool {
        let mapped = match self.mapped(name, data) {
            Ok(mapped) => mapped,
            Err(why) => {
                error!("an event {name} is passed over, it can't be read: {why}");
                None
            }
        };
        let (Some(mapped), Some(saved)) = (mapped, self.session.saved()) else {
            return true;
        };
        match with_files(mapped) {
            Ok(message) => inbox::publish_all(&[message], Some(&saved.cursor())) == Published::Durable,
            // Nothing else ends the wait for a file: the event is not to be taken without it.
            Err(_shutting_down) => false,
        }
    }

    fn mapped(&mut self, name: &str, data: Value) -> Result<Option<Mapped>, serde_json::Error> {
        Ok(match name {
            "MESSAGE_CREATE" | "MESSAGE_UPDATE" => {
                let message: wire::Message = serde_json::from_value(data)?;
                // The bot's own messages are many while a draft grows, and are not worth a look at their channel.
                if message.author.as_ref().is_none_or(|author| author.id == self.me.id) {
                    return Ok(None);
                }
                let conversation = self.conversation(map::place_of(&message));
                if name == "MESSAGE_CREATE" {
                    map::created(&message, conversation, &self.me)
                } else {
                    map::updated(&message, conversation, &self.me)
                }
            }
            "MESSAGE_DELETE" => {
                let deletion: wire::MessageDelete = serde_json::from_value(data)?;
                let place = Place {
                    channel: &deletion.channel_id,
                    in_guild: deletion.guild_id.is_some(),
                };
                Some(map::deleted(&deletion, self.conversation(place)).into())
            }
            "MESSAGE_REACTION_ADD" | "MESSAGE_REACTION_REMOVE" => {
                let change: wire::ReactionChange = serde_json::from_value(data)?;
                let place = Place {
                    channel: &change.channel_id,
                    in_guild: change.guild_id.is_some(),
                };
                let is_added = name == "MESSAGE_REACTION_ADD";
                let event = self.event_name();
                map::reacted(&change, is_added, &event, self.conversation(place), &self.me).map(Into::into)
            }
            _ => None,
        })
    }

    /// Names the present event: the same when the session is resumed and Discord sends it again.
    fn event_name(&self) -> String {
        let saved = self.session.saved();
        saved
            .map(|saved| format!("{}:{}", saved.session, saved.seq))
            .unwrap_or_default()
    }

    fn conversation(&mut self, place: Place<'_>) -> Conversation {
        if !place.in_guild {
            return place.conversation(None);
        }
        if !self.channels.contains_key(place.channel) {
            match self.rest.channel(place.channel) {
                Ok(channel) => {
                    if self.channels.len() >= CHANNELS_MAX {
                        self.channels.clear();
                    }
                    self.channels.insert(place.channel.to_owned(), channel);
                }
                // An answer still finds the way: on Discord a thread is addressed by its own id.
                Err(failure) => debug!("a channel could not be looked up, so it counts as no thread: {failure}"),
            }
        }
        place.conversation(self.channels.get(place.channel))
    }
}

/// Waits until a new session may be started. False at shutdown.
fn identify_in_time() -> bool {
    let last_ms = sluicegate_sdk::state::get(IDENTIFIED_KEY)
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.parse::<u64>().ok())
        .unwrap_or_default();
    let now_ms = clock::now_ms();
    let wait_ms = last_ms
        .saturating_add(IDENTIFY_PERIOD_MS)
        .saturating_sub(now_ms)
        .min(IDENTIFY_PERIOD_MS);
    if wait_ms > 0 && !clock::sleep_ms(wait_ms) {
        return false;
    }
    if let Err(why) = sluicegate_sdk::state::set(IDENTIFIED_KEY, clock::now_ms().to_string().as_bytes()) {
        debug!("the time of the new session was not kept: {why}");
    }
    true
}

/// Fetches the files of a message, and waits where the gateway has no room for one; one that can't be fetched becomes a note
/// in the text.
///
/// # Errors
/// [`HttpError::ShuttingDown`], in the middle of such a wait or of a file.
fn with_files(mapped: Mapped) -> Result<InboundMessage, HttpError> {
    let mut message = mapped.message;
    for file in &mapped.files {
        match until_room(|| fetch(file)) {
            Ok(attachment) => message.attachments.push(attachment),
            Err(Unfetched::Later(why)) => return Err(why),
            Err(Unfetched::Lost(why)) => {
                debug!("a file of message {} was not fetched: {why}", message.id);
                if !message.text.is_empty() {
                    message.text.push('\n');
                }
                message
                    .text
                    .push_str(&format!("[the file {} could not be fetched: {why}]", file.filename));
            }
        }
    }
    Ok(message)
}

/// Fetches a file, which Discord serves to anyone with its address.
fn fetch(file: &wire::Attachment) -> Result<Attachment, Unfetched> {
    if file.size.is_some_and(|size| size > DOWNLOAD_BYTES_MAX) {
        return Err(Unfetched::Lost("it is larger than 50 MB".to_owned()));
    }
    match Request::get(&file.url).timeout_ms(DOWNLOAD_TIMEOUT_MS).download() {
        Ok((response, blob)) if response.is_success() => Ok(Attachment {
            name: Some(file.filename.clone()).filter(|name| !name.is_empty()),
            media_type: media_type(file),
            source: AttachmentSource::Blob(blob),
        }),
        Ok((response, _)) => Err(Unfetched::Lost(format!("status {}", response.status))),
        Err(why) => {
            debug!("a file was not fetched: {}", why.words());
            Err(why.into())
        }
    }
}

fn media_type(file: &wire::Attachment) -> String {
    let named = file.content_type.as_deref().and_then(|value| value.split(';').next());
    named.map_or_else(
        || "application/octet-stream".to_owned(),
        |value| value.trim().to_owned(),
    )
}
