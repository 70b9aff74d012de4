//! Sending: messages in parts, drafts, edits, deletions, reactions.

use sluicegate_sdk::http::segment_escaped;
use sluicegate_sdk::serde_json::Value;
use sluicegate_sdk::{
    Action, Attachment, Conversation, DeliveryError, OutboundMessage, Reaction, Receipt, debug, progress,
};

use crate::failure::Failure;
use crate::plan::{self, Part};
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
    let channel = Channel::of(&message.conversation);
    match &message.action {
        Action::Send => send_parts(&channel, message, message.draft_id.as_deref().map(Target::Draft)),
        Action::Edit(id) => send_parts(&channel, message, Some(Target::Own(own_message(id)?))),
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
            channel.edit(id, text)?;
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

/// An earlier message that the first part is written into.
#[derive(Debug, Clone, Copy)]
enum Target<'a> {
    /// The answer's own draft: where it has gone, the answer is sent anew.
    Draft(&'a str),
    /// A message that is to be edited: where it has gone, there is nothing to edit.
    Own(&'a str),
}

fn send_parts(
    channel: &Channel,
    message: &OutboundMessage,
    target: Option<Target<'_>>,
) -> Result<Receipt, DeliveryError> {
    let parts = plan::parts(message);
    if parts.is_empty() {
        return Err(DeliveryError::Rejected(
            "the message has neither text nor files nor choices".to_owned(),
        ));
    }
    let mut sent = Vec::with_capacity(parts.len());
    for (index, part) in (0_u32..).zip(&parts) {
        if let Some(id) = message.sent_part(index) {
            sent.push(id.to_owned());
            continue;
        }
        let nonce = plan::nonce(&message.delivery_key, Some(index));
        let (answers, target) = if index == 0 {
            (answered(message), target)
        } else {
            (None, None)
        };
        let id = send_part(channel, part, target, &nonce, answers)?;
        progress::sent(&message.delivery_key, index, &id);
        sent.push(id);
    }
    Ok(Receipt::complete(sent))
}

fn send_part(
    channel: &Channel,
    part: &Part<'_>,
    target: Option<Target<'_>>,
    nonce: &str,
    answers: Option<&str>,
) -> Result<String, DeliveryError> {
    match (part, target) {
        (Part::Text(text), None) => Ok(channel.create(text, nonce, answers)?),
        (Part::Text(text), Some(Target::Own(id))) => {
            channel.edit(id, text)?;
            Ok(id.to_owned())
        }
        (Part::Text(text), Some(Target::Draft(id))) => match channel.edit(id, text) {
            Ok(()) => Ok(id.to_owned()),
            Err(failure) if failure.is_unknown_message() => Ok(channel.create(text, nonce, answers)?),
            Err(failure) => Err(failure.into()),
        },
        (Part::File(_), Some(Target::Own(_))) => Err(DeliveryError::Rejected(
            "a message can't be edited into a file".to_owned(),
        )),
        (Part::File(file), target) => {
            let id = channel.create_with_file(file, nonce, answers)?;
            if let Some(Target::Draft(draft)) = target {
                channel.remove_draft(draft);
            }
            Ok(id)
        }
    }
}

fn delete(channel: &Channel, id: &str) -> Result<Receipt, DeliveryError> {
    match channel.remove(id) {
        // What is gone already needs no deleting.
        Err(failure) if !failure.is_unknown_message() => Err(failure.into()),
        _ => Ok(Receipt::complete([id])),
    }
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

    /// Sends a file and returns the message's id.
    fn create_with_file(&self, file: &Attachment, nonce: &str, answers: Option<&str>) -> Result<String, Failure> {
        match (file_part(file), file.link_text()) {
            (Some(part), _) => {
                let body = plan::new_message("", nonce, answers);
                sent_id(&self.rest.upload(&self.id, CREATE, &body, part)?)
            }
            (None, link) => self.create(&link.unwrap_or_default(), nonce, answers),
        }
    }

    fn edit(&self, id: &str, text: &str) -> Result<(), Failure> {
        let path = format!("/messages/{id}");
        self.rest
            .in_channel("PATCH", &self.id, &path, EDIT, Some(&plan::edit(text)))?;
        Ok(())
    }

    fn remove(&self, id: &str) -> Result<(), Failure> {
        let path = format!("/messages/{id}");
        self.rest.in_channel("DELETE", &self.id, &path, DELETE, None)?;
        Ok(())
    }

    /// Removes a draft that no part of the answer replaces.
    fn remove_draft(&self, id: &str) {
        if let Err(failure) = self.remove(id) {
            debug!("a draft stays behind: {failure}");
        }
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
