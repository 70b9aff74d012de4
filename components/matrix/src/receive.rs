//! Receiving: the sync, the gaps between two of them, and what is done with what they bring.
//!
//! The next sync begins only after the host has stored what the last one brought, together with where it ended. What
//! fails on the way there (a file, a question about a room) fails the sync, which then comes again.

mod gap;
mod invite;
mod rooms;

use sluicegate_sdk::files::until_room;
use sluicegate_sdk::http::{HttpError, segment_escaped};
use sluicegate_sdk::inbox::{self, Published};
use sluicegate_sdk::recovery::{Backoff, Remedy};
use sluicegate_sdk::serde_json::{self, Value, json};
use sluicegate_sdk::{
    Attachment, AttachmentSource, InboundMessage, ListenerError, clock, error, settings, state, warn,
};

use crate::failure::Failure;
use crate::homeserver::{Homeserver, read, room_path};
use crate::map::{self, WantedFile};
use crate::send::encrypted_key;
use crate::wire::{Event, Joined, Me, Page, Sync, Timeline};
use gap::arrival;
use invite::Invitations;
use rooms::{InRoom, Rooms};

/// How long a sync waits for events unless the operator says otherwise, seconds.
pub const SYNC_SECONDS: u32 = 30;
/// The longest such wait, seconds: what the gateway allows a request, less the slack.
const SYNC_SECONDS_MAX: u32 = 90;
/// How much longer the host waits than the server was asked to, milliseconds: a server may have much to gather.
const SYNC_SLACK_MS: u32 = 20_000;
/// Events of one room that one sync brings at most; the rest is a gap, and fetched page by page.
const TIMELINE_EVENTS_MAX: u32 = 50;
/// Events in one page of a gap.
const PAGE_EVENTS: u32 = 100;
/// The pause after an empty answer that came at once, milliseconds.
const EMPTY_PAUSE_MS: u64 = 250;
/// The first and the longest wait after a failed sync, milliseconds.
const BACKOFF_MS: (u64, u64) = (1_000, 60_000);
/// What is said once in a room that is encrypted, before the account leaves it.
const ENCRYPTED_WORDS: &str = "This room is encrypted, and I can't read encrypted messages, so I leave. \
    Please invite me to a room without encryption.";

/// What happens in rooms that this channel reads.
const TIMELINE_TYPES: [&str; 8] = [
    "m.room.message",
    "m.sticker",
    "m.reaction",
    "m.room.redaction",
    "m.room.encrypted",
    "m.room.encryption",
    "m.room.member",
    "m.room.name",
];

/// Syncs until the channel is shut down.
///
/// # Errors
/// Words for the operator where syncing again is of no use.
pub fn sync_until_shutdown() -> Result<(), ListenerError> {
    let mut receiver = Receiver::new();
    if receiver.server.is_unset() {
        let words = "the setting homeserver is empty: it takes an address such as https://matrix.example.org";
        return Err(ListenerError::Refused(words.to_owned()));
    }
    loop {
        let go_on = match receiver.sync() {
            Ok(go_on) => go_on,
            Err(failure) => receiver.remedy(&failure)?,
        };
        if !go_on {
            return Ok(());
        }
    }
}

struct Receiver {
    server: Homeserver,
    /// The account: asked for at the start, since the token may be another one than last time.
    me: Option<Me>,
    rooms: Rooms,
    invitations: Invitations,
    seconds: u32,
    timeline_max: u32,
    backoff: Backoff,
}

impl Receiver {
    fn new() -> Self {
        let seconds = settings::get("sync-seconds").and_then(|value| value.trim().parse().ok());
        Self {
            server: Homeserver::from_settings(),
            me: None,
            rooms: Rooms::default(),
            invitations: Invitations::default(),
            seconds: seconds.unwrap_or(SYNC_SECONDS).clamp(1, SYNC_SECONDS_MAX),
            timeline_max: TIMELINE_EVENTS_MAX,
            backoff: Backoff::new(BACKOFF_MS.0, BACKOFF_MS.1),
        }
    }

    /// Fetches and stores what is new. False when the channel is being shut down.
    fn sync(&mut self) -> Result<bool, Failure> {
        let me = match self.me.take() {
            Some(me) => me,
            None => self.server.fresh_me()?,
        };
        let me = self.me.insert(me).clone();
        let stored = inbox::cursor();
        let since = stored.as_deref().and_then(|cursor| since(cursor, &me));
        let started = clock::now_ms();
        let fetched = self.fetch(since);
        let took_ms = clock::now_ms().saturating_sub(started);
        let sync = match fetched {
            // The wait has ended without an answer, as it may.
            Err(Failure::Http(HttpError::Interrupted(_))) if took_ms >= u64::from(self.seconds) * 1000 => {
                return Ok(true);
            }
            fetched => fetched?,
        };
        for (room, invited) in &sync.rooms.invite {
            if !self.invitations.answer(&self.server, &me, room, invited)? {
                return Ok(false);
            }
        }
        let mut messages = Vec::new();
        // What was said before this channel first looked is not for it.
        if let Some(since) = since {
            for (room, joined) in &sync.rooms.join {
                self.collect(&me, room, joined, since, &mut messages)?;
            }
        }
        self.backoff.reset();
        self.timeline_max = TIMELINE_EVENTS_MAX;
        if messages.is_empty() && since == Some(sync.next_batch.as_str()) {
            return Ok(took_ms >= EMPTY_PAUSE_MS || clock::sleep_ms(EMPTY_PAUSE_MS));
        }
        let cursor = cursor_text(&me, &sync.next_batch);
        Ok(inbox::publish_all(&messages, Some(&cursor)) == Published::Durable)
    }

    fn fetch(&self, since: Option<&str>) -> Result<Sync, Failure> {
        let filter = json!({
            "presence": {"not_types": ["*"]},
            "account_data": {"not_types": ["*"]},
            "room": {
                "account_data": {"not_types": ["*"]},
                "ephemeral": {"not_types": ["*"]},
                "state": {"types": ["m.room.encryption"]},
                "timeline": {"types": TIMELINE_TYPES, "limit": self.timeline_max},
            },
        });
        let filter = segment_escaped(&filter.to_string());
        let path = match since {
            Some(since) => {
                let timeout_ms = self.seconds * 1000;
                format!(
                    "sync?timeout={timeout_ms}&since={}&filter={filter}",
                    segment_escaped(since)
                )
            }
            None => format!("sync?timeout=0&filter={filter}"),
        };
        read(self.server.get_within(self.seconds * 1000 + SYNC_SLACK_MS, &path)?)
    }

    /// Reads what happened in a room, oldest first.
    fn collect(
        &mut self,
        me: &Me,
        room: &str,
        joined: &Joined,
        since: &str,
        messages: &mut Vec<InboundMessage>,
    ) -> Result<(), Failure> {
        let newest = readable(&joined.timeline.events);
        // The room may have been encrypted long before the account was invited.
        let state = readable(&joined.state.events);
        if let Some(sign) = state.iter().chain(&newest).find(|event| is_encryption(event, me))
            && self.is_encrypted(room, sign)?
        {
            return self.refuse_encrypted(room, sign);
        }
        let events = self.events(me, room, newest, &joined.timeline, since)?;
        let changed = |event: &Event| matches!(event.kind.as_str(), "m.room.member" | "m.room.name");
        if joined.timeline.limited || events.iter().any(changed) {
            self.rooms.forget(room);
        }
        let concerns = |event: &&Event| event.sender != me.user_id && event.state_key.is_none();
        if !events.iter().any(|event| concerns(&event)) {
            return Ok(());
        }
        let known = self.rooms.get(&self.server, room)?.clone();
        let mut lookup = InRoom {
            server: &self.server,
            room,
            seen: &events,
        };
        for event in events.iter().filter(concerns) {
            if let Some(mapped) = map::mapped(event, room, &known, me, &mut lookup)? {
                let mut message = mapped.message;
                if let Some(file) = &mapped.file {
                    self.attach(file, &mut message)?;
                }
                messages.push(message);
            }
        }
        Ok(())
    }

    /// Returns the events of a room since the last sync, those of a gap included.
    fn events(
        &self,
        me: &Me,
        room: &str,
        newest: Vec<Event>,
        timeline: &Timeline,
        since: &str,
    ) -> Result<Vec<Event>, Failure> {
        let mut newest_first = newest;
        newest_first.reverse();
        if timeline.limited {
            let page = |from: &str| self.page(room, from, since);
            if !gap::fill(&mut newest_first, timeline.prev_batch.clone(), me, page)? {
                error!("room {room}: a gap is too long, and what lies before its newest events is not read");
            }
        }
        // What was said before the account was invited is not for it.
        if let Some(at) = arrival(&newest_first, me) {
            newest_first.truncate(at);
        }
        newest_first.reverse();
        Ok(newest_first)
    }

    fn page(&self, room: &str, from: &str, to: &str) -> Result<Page, Failure> {
        let filter = segment_escaped(&json!({"types": TIMELINE_TYPES}).to_string());
        let query = format!(
            "dir=b&limit={PAGE_EVENTS}&from={}&to={}&filter={filter}",
            segment_escaped(from),
            segment_escaped(to)
        );
        let page = self
            .server
            .find(&format!("{}?{query}", room_path(room, &["messages"])))?;
        Ok(page.unwrap_or_else(|| {
            error!("room {room}: the messages of a gap can't be had, so they are not read");
            Page {
                chunk: Vec::new(),
                end: None,
            }
        }))
    }

    /// Returns whether a room with such a sign is encrypted: anyone may send what looks like an encrypted message into a room
    /// that is not.
    fn is_encrypted(&self, room: &str, sign: &Event) -> Result<bool, Failure> {
        if sign.state_key.is_some() {
            return Ok(true);
        }
        let state: Option<Value> = self.server.find(&room_path(room, &["state", "m.room.encryption"]))?;
        Ok(state.is_some())
    }

    /// Says in an encrypted room that it can't be read, and leaves it.
    fn refuse_encrypted(&mut self, room: &str, sign: &Event) -> Result<(), Failure> {
        error!("room {room} is encrypted, which this channel can't read: the account leaves it");
        if let Err(why) = state::set(&encrypted_key(room), b"") {
            warn!("that room {room} is encrypted was not kept: {why}");
        }
        let content =
            json!({"msgtype": "m.notice", "body": ENCRYPTED_WORDS, map::AUTOMATED_KEY: true, "m.mentions": {}});
        // Derived from the event, so that a sync that comes again says nothing again.
        let transaction = format!("encrypted-{}", sign.event_id);
        let path = room_path(room, &["send", "m.room.message", &transaction]);
        lasting(self.server.put(&path, &content), "the word to an encrypted room")?;
        lasting(
            self.server.post(&room_path(room, &["leave"]), &json!({})),
            "leaving an encrypted room",
        )?;
        self.rooms.forget(room);
        Ok(())
    }

    /// Fetches a file, and waits where the gateway has no room for it: were the sync to come again for that, all files before
    /// this one would be stored once more. One that can't be had becomes a note in the text.
    fn attach(&self, file: &WantedFile, message: &mut InboundMessage) -> Result<(), Failure> {
        let why = match until_room(|| self.server.download(&file.server, &file.id)) {
            Ok(blob) => {
                message.attachments.push(Attachment {
                    name: file.name.clone(),
                    media_type: file.media_type.clone(),
                    source: AttachmentSource::Blob(blob),
                });
                return Ok(());
            }
            Err(Failure::Http(HttpError::TooLarge)) => "it is too large".to_owned(),
            Err(Failure::Gateway(status)) if status != 429 => format!("status {status}"),
            // A file whose answer breaks off each time must not hold up what people say.
            Err(Failure::Http(HttpError::Interrupted(_))) => "the answer broke off".to_owned(),
            Err(failure) if failure.is_lasting() => "the homeserver refused it".to_owned(),
            Err(failure) => return Err(failure),
        };
        let name = file.name.as_deref().unwrap_or(&file.media_type);
        if !message.text.is_empty() {
            message.text.push('\n');
        }
        message
            .text
            .push_str(&format!("[the file {name} could not be fetched: {why}]"));
        Ok(())
    }

    /// Does what a failed sync asks for. False at shutdown.
    fn remedy(&mut self, failure: &Failure) -> Result<bool, ListenerError> {
        match failure.remedy("syncing") {
            Remedy::Smaller if self.timeline_max > 1 => {
                self.timeline_max = (self.timeline_max / 4).max(1);
                Ok(true)
            }
            remedy => remedy.follow(&mut self.backoff, failure),
        }
    }
}

/// Reads events one by one: what is no event must not hide the others.
fn readable(events: &[Value]) -> Vec<Event> {
    let read = events.iter().filter_map(|event| {
        let read = serde_json::from_value(event.clone());
        read.inspect_err(|why| error!("an event is skipped, it can't be read: {why}"))
            .ok()
    });
    read.collect()
}

/// Logs a failure that will not change, and passes on any other.
fn lasting(result: Result<Value, Failure>, doing: &str) -> Result<(), Failure> {
    match result {
        Err(failure) if failure.is_lasting() => {
            warn!("{doing} failed: {failure}");
            Ok(())
        }
        other => other.map(|_| ()),
    }
}

/// Says whether an event shows that its room is encrypted.
fn is_encryption(event: &Event, me: &Me) -> bool {
    let is_sign = matches!(event.kind.as_str(), "m.room.encryption" | "m.room.encrypted");
    is_sign && event.sender != me.user_id && event.unsigned["redacted_because"].is_null()
}

/// The cursor names the account as well: another one's position means nothing.
fn cursor_text(me: &Me, next_batch: &str) -> String {
    format!("{} {next_batch}", me.user_id)
}

/// Returns where this account's last sync ended.
fn since<'a>(cursor: &'a str, me: &Me) -> Option<&'a str> {
    let (owner, next_batch) = cursor.split_once(' ')?;
    (owner == me.user_id).then_some(next_batch)
}

#[cfg(test)]
mod tests;
