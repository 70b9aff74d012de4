//! Sending: messages in parts, drafts, edits, deletions, reactions.

use sluicegate_sdk::http::segment_escaped;
use sluicegate_sdk::parts::{self, Place, Slot, Target};
use sluicegate_sdk::serde_json::Value;
use sluicegate_sdk::{Action, Attachment, Conversation, DeliveryError, OutboundMessage, Reaction, Receipt, debug};

use crate::failure::Failure;
use crate::plan;
use crate::rest::{Rest, file_part};

/// The calls, with their ids left out.
const CREATE: &str = "POST /channels/messages";
const EDIT: &str = "PATCH /channels/messages";
const DELETE: &str = "DELETE /channels/messages";
const REACT: &str = "PUT /channels/messages/reactions";
const TYPING: &str = "POST /channels/typing";

/// Delivers a message: see [`sluicegate_sdk::Channel::deliver`].
///
/// # Errors
/// As the host's contract says; parts that were accepted before the error stay accepted, and are reported as such.
pub fn deliver(message: &OutboundMessage) -> Result<Receipt, DeliveryError> {
    let mut channel = Channel::of(&message.conversation);
    match &message.action {
        Action::Send => parts::send(&mut channel, message, &plan::parts(message), Target::of(message)),
        Action::Edit(id) => {
            let target = Some(Target::Own(own_message(id)?));
            parts::send(&mut channel, message, &plan::parts(message), target)
        }
        Action::Delete(id) => delete(&channel, own_message(id)?),
        Action::React(reaction) => react(&channel, reaction),
    }
}

/// Creates or edits the draft of an answer and returns its id.
///
/// # Errors
/// As [`deliver`].
pub fn draft(message: &OutboundMessage) -> Result<String, DeliveryError> {
    let channel = Channel::of(&message.conversation);
    let parts = plan::text_parts(&message.text);
    let text = parts
        .first()
        .ok_or_else(|| DeliveryError::Rejected("there is nothing to show yet".to_owned()))?;
    match &message.draft_id {
        Some(id) => {
            channel.update(id, text)?;
            Ok(id.clone())
        }
        None => Ok(channel.create(text, &plan::nonce(&message.delivery_key, None), answered(message))?),
    }
}

/// Shows that an answer is being made. It is not worth an error.
pub fn typing(conversation: &Conversation) {
    let channel = Channel::of(conversation);
    if let Err(failure) = channel.rest.in_channel("POST", &channel.id, "/typing", TYPING, None) {
        debug!("typing was not shown: {failure}");
    }
}

fn delete(channel: &Channel, id: &str) -> Result<Receipt, DeliveryError> {
    channel.delete(id)?;
    Ok(Receipt::complete([id]))
}

fn react(channel: &Channel, reaction: &Reaction) -> Result<Receipt, DeliveryError> {
    let message = own_message(&reaction.message_id)?;
    let emoji = segment_escaped(reaction.emoji.trim_matches([':', '<', '>']));
    if emoji.is_empty() {
        return Err(DeliveryError::Rejected("there is no emoji to react with".to_owned()));
    }
    let path = format!("/messages/{message}/reactions/{emoji}/@me");
    channel.rest.in_channel("PUT", &channel.id, &path, REACT, None)?;
    Ok(Receipt::complete([message]))
}

/// Returns the message that this one answers: better to answer nobody than the wrong message.
fn answered(message: &OutboundMessage) -> Option<&str> {
    message.in_reply_to.as_deref().and_then(plan::message_id)
}

fn own_message(id: &str) -> Result<&str, DeliveryError> {
    plan::message_id(id).ok_or_else(|| DeliveryError::Rejected(format!("{id:?} is no message id of Discord's")))
}

/// The channel or thread that calls go to.
struct Channel {
    rest: Rest,
    id: String,
}

impl Channel {
    fn of(conversation: &Conversation) -> Self {
        Self {
            rest: Rest::from_settings(),
            id: plan::channel(conversation).to_owned(),
        }
    }

    /// Sends a text and returns the message's id. Discord returns the first one where the nonce was used before.
    fn create(&self, text: &str, nonce: &str, answers: Option<&str>) -> Result<String, Failure> {
        let body = plan::new_message(text, nonce, answers);
        sent_id(
            &self
                .rest
                .in_channel("POST", &self.id, "/messages", CREATE, Some(&body))?,
        )
    }

    fn update(&self, id: &str, text: &str) -> Result<(), Failure> {
        let path = format!("/messages/{id}");
        self.rest
            .in_channel("PATCH", &self.id, &path, EDIT, Some(&plan::edit(text)))?;
        Ok(())
    }

    fn delete(&self, id: &str) -> Result<(), Failure> {
        let path = format!("/messages/{id}");
        match self.rest.in_channel("DELETE", &self.id, &path, DELETE, None) {
            // What is gone already needs no deleting.
            Err(failure) if !failure.is_unknown_message() => Err(failure),
            _ => Ok(()),
        }
    }
}

/// Returns the message that a part answers: the first one only.
fn answers(slot: Slot<'_>) -> Option<&str> {
    answered(slot.message).filter(|_| slot.index == 0)
}

impl Place for Channel {
    type Failure = Failure;

    fn send_text(&mut self, text: &str, slot: Slot<'_>) -> Result<String, Failure> {
        let nonce = plan::nonce(&slot.message.delivery_key, Some(slot.index));
        self.create(text, &nonce, answers(slot))
    }

    fn send_file(&mut self, file: &Attachment, slot: Slot<'_>) -> Result<String, Failure> {
        match (file_part(file), file.link_text()) {
            (Some(part), _) => {
                let nonce = plan::nonce(&slot.message.delivery_key, Some(slot.index));
                let body = plan::new_message("", &nonce, answers(slot));
                sent_id(&self.rest.upload(&self.id, CREATE, &body, part)?)
            }
            (None, link) => self.send_text(&link.unwrap_or_default(), slot),
        }
    }

    fn edit(&mut self, id: &str, text: &str, _: Slot<'_>) -> Result<(), Failure> {
        self.update(id, text)
    }

    fn remove(&mut self, id: &str, _: &OutboundMessage) -> Result<(), Failure> {
        self.delete(id)
    }

    fn is_gone(failure: &Failure) -> bool {
        failure.is_unknown_message()
    }
}

fn sent_id(message: &Value) -> Result<String, Failure> {
    let id = message["id"].as_str().and_then(plan::message_id);
    id.map(str::to_owned)
        .ok_or_else(|| Failure::Unreadable("the sent message has no id".to_owned()))
}

#[cfg(test)]
mod tests {
    use sluicegate_sdk::serde_json::json;

    use super::*;

    #[test]
    fn a_sent_message_has_an_id() {
        assert_eq!(sent_id(&json!({"id": "12"})), Ok("12".to_owned()));
        assert!(matches!(sent_id(&json!({"id": 12})), Err(Failure::Unreadable(_))));
    }
}
