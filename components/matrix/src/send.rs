//! Sending: messages in parts, drafts, edits, redactions, reactions.

use sluicegate_sdk::parts::{self, Place, Slot, Target};
use sluicegate_sdk::serde_json::{Map, Value, json};
use sluicegate_sdk::{
    Action, Attachment, AttachmentSource, Conversation, DeliveryError, OutboundMessage, Reaction, Receipt, clock,
    debug, settings, state,
};

use crate::failure::Failure;
use crate::homeserver::{Homeserver, room_path};
use crate::plan;
use crate::wire::{Event, Page};

/// How long "typing" is shown, milliseconds: a little longer than the gateway takes to say it again.
const TYPING_MS: u32 = 6_000;
/// Our own reactions to one message that are looked for, to take one back.
const REACTIONS_MAX: u32 = 100;

/// Returns the key under which a room is known as encrypted: nothing readable may be sent there any more.
pub fn encrypted_key(room: &str) -> String {
    format!("encrypted/{room}")
}

/// Delivers a message: see [`sluicegate_sdk::Channel::deliver`].
///
/// # Errors
/// As the host's contract says; parts that were accepted before the error stay accepted, and are reported as such.
pub fn deliver(message: &OutboundMessage) -> Result<Receipt, DeliveryError> {
    let mut room = Room::of(&message.conversation)?;
    match &message.action {
        Action::Send | Action::Edit(_) => {
            let target = match Target::of(message) {
                // Clients ignore an edit of what is gone: the answer would never be seen.
                Some(Target::Draft(draft)) if !room.has(draft)? => None,
                other => other,
            };
            parts::send(&mut room, message, &plan::parts(message), target)
        }
        Action::Delete(id) => {
            room.redact(id, &plan::transaction(message, 0))?;
            Ok(Receipt::complete([id]))
        }
        Action::React(reaction) => room.react(message, reaction),
    }
}

/// Creates or edits the draft of an answer and returns its id.
///
/// # Errors
/// As [`deliver`].
pub fn draft(message: &OutboundMessage) -> Result<String, DeliveryError> {
    let room = Room::of(&message.conversation)?;
    let parts = plan::text_parts(&message.text);
    let text = parts
        .first()
        .ok_or_else(|| DeliveryError::Rejected("there is nothing to show yet".to_owned()))?;
    let content = plan::text_content(text, &room.message_type);
    match &message.draft_id {
        Some(id) => {
            // Each edit is another one, so each has a transaction of its own.
            let transaction = format!("{}-draft-{}", message.delivery_key, clock::now_ms());
            room.put(&transaction, &plan::edit_content(id, content))?;
            Ok(id.clone())
        }
        None => {
            let transaction = format!("{}-draft", message.delivery_key);
            Ok(room.put(&transaction, &answer(message, content, None))?)
        }
    }
}

/// Shows that an answer is being made. It is not worth an error.
pub fn typing(conversation: &Conversation) {
    let server = Homeserver::from_settings();
    let shown = server.me().and_then(|me| {
        let path = room_path(&conversation.id, &["typing", &me.user_id]);
        server.put(&path, &json!({"typing": true, "timeout": TYPING_MS}))
    });
    if let Err(failure) = shown {
        debug!("typing was not shown: {failure}");
    }
}

/// Returns the content of a part of an answer, with what it relates to.
fn answer(message: &OutboundMessage, mut content: Map<String, Value>, previous: Option<&str>) -> Value {
    if let Some(relation) = plan::relation(message, previous) {
        content.insert("m.relates_to".to_owned(), relation);
    }
    if previous.is_none() {
        content.insert("m.mentions".to_owned(), plan::mentions(message));
    }
    Value::Object(content)
}

/// The room that calls go to.
struct Room<'a> {
    server: Homeserver,
    id: &'a str,
    message_type: String,
}

impl<'a> Room<'a> {
    fn of(conversation: &'a Conversation) -> Result<Self, DeliveryError> {
        if state::get(&encrypted_key(&conversation.id)).is_some() {
            return Err(DeliveryError::NoSuchConversation(
                "the room is encrypted, and this channel would write into it for all to read".to_owned(),
            ));
        }
        let is_notice = settings::get("notices").as_deref() == Some("true");
        Ok(Self {
            server: Homeserver::from_settings(),
            id: &conversation.id,
            message_type: if is_notice { "m.notice" } else { "m.text" }.to_owned(),
        })
    }

    /// Sends a content and returns the id of its event.
    fn put(&self, transaction: &str, content: &Value) -> Result<String, Failure> {
        self.put_event("m.room.message", transaction, content)
    }

    fn put_event(&self, kind: &str, transaction: &str, content: &Value) -> Result<String, Failure> {
        let sent = self
            .server
            .put(&room_path(self.id, &["send", kind, transaction]), content)?;
        sent["event_id"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| Failure::Unreadable("the sent event has no id".to_owned()))
    }

    /// Returns whether an event of ours is there and was not redacted.
    fn has(&self, event: &str) -> Result<bool, Failure> {
        let found: Option<Event> = self.server.find(&room_path(self.id, &["event", event]))?;
        Ok(found.is_some_and(|event| !event.unsigned["redacted_because"].is_object()))
    }

    fn redact(&self, event: &str, transaction: &str) -> Result<(), Failure> {
        match self
            .server
            .put(&room_path(self.id, &["redact", event, transaction]), &json!({}))
        {
            // What is gone already needs no redacting.
            Err(failure) if !failure.is_code("M_NOT_FOUND") => Err(failure),
            _ => Ok(()),
        }
    }

    fn react(&self, message: &OutboundMessage, reaction: &Reaction) -> Result<Receipt, DeliveryError> {
        let named = plan::named(&reaction.message_id, &message.extra);
        let event = named.map_or(reaction.message_id.as_str(), |named| named.message);
        if reaction.emoji.is_empty() {
            self.take_reactions_back(message, event)?;
        } else {
            let content = json!({
                "m.relates_to": {"rel_type": "m.annotation", "event_id": event, "key": reaction.emoji},
            });
            match self.put_event("m.reaction", &plan::transaction(message, 0), &content) {
                Err(failure) if !failure.is_code("M_DUPLICATE_ANNOTATION") => return Err(failure.into()),
                _ => {}
            }
        }
        Ok(Receipt::complete([reaction.message_id.clone()]))
    }

    fn take_reactions_back(&self, message: &OutboundMessage, event: &str) -> Result<(), Failure> {
        let me = self.server.me()?;
        let relations = room_path(self.id, &["relations", event, "m.annotation", "m.reaction"]);
        let path = format!("{relations}?limit={REACTIONS_MAX}");
        let page: Page = crate::homeserver::read(self.server.get_v1(&path)?)?;
        let mine = page.chunk.iter().filter(|event| event["sender"] == me.user_id);
        for (index, own) in (0_u32..).zip(mine.filter_map(|event| event["event_id"].as_str())) {
            self.redact(own, &plan::transaction(message, index))?;
        }
        Ok(())
    }
}

impl Place for Room<'_> {
    type Failure = DeliveryError;

    fn send_text(&mut self, text: &str, slot: Slot<'_>) -> Result<String, DeliveryError> {
        let content = plan::text_content(text, &self.message_type);
        Ok(self.put(
            &plan::transaction(slot.message, slot.index),
            &answer(slot.message, content, slot.previous),
        )?)
    }

    fn send_file(&mut self, file: &Attachment, slot: Slot<'_>) -> Result<String, DeliveryError> {
        let content = match &file.source {
            AttachmentSource::Url(_) => {
                let words = file.link_text().unwrap_or_default();
                plan::text_content(&words, &self.message_type)
            }
            AttachmentSource::Blob(blob) => {
                let uploaded = self.server.upload(&plan::file_name(file), &file.media_type, blob);
                // A file that was uploaded twice shows once.
                let address = uploaded.map_err(|failure| match DeliveryError::from(failure) {
                    DeliveryError::Ambiguous(why) => DeliveryError::Unavailable(why),
                    other => other,
                })?;
                plan::file_content(file, &address)
            }
        };
        Ok(self.put(
            &plan::transaction(slot.message, slot.index),
            &answer(slot.message, content, slot.previous),
        )?)
    }

    fn edit(&mut self, id: &str, text: &str, slot: Slot<'_>) -> Result<(), DeliveryError> {
        let content = plan::text_content(text, &self.message_type);
        self.put(
            &plan::transaction(slot.message, slot.index),
            &plan::edit_content(id, content),
        )?;
        Ok(())
    }

    fn remove(&mut self, id: &str, message: &OutboundMessage) -> Result<(), DeliveryError> {
        Ok(self.redact(id, &format!("{}-undraft", message.delivery_key))?)
    }

    /// The homeserver takes an edit of anything: what is gone was asked for before.
    fn is_gone(_: &DeliveryError) -> bool {
        false
    }
}
