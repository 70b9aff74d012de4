//! Sending: messages in parts, drafts, edits, deletions, reactions.

use sluicegate_sdk::serde_json::{Value, json};
use sluicegate_sdk::{
    Action, Attachment, Conversation, DeliveryError, OutboundMessage, Reaction, Receipt, debug, progress,
};

use crate::api::Api;
use crate::failure::Failure;
use crate::plan::{self, Part};

/// What people see while an answer is being made, where Slack shows that.
const STATUS: &str = "is thinking…";

/// Delivers a message: see [`sluicegate_sdk::Channel::deliver`].
///
/// # Errors
/// As the host's contract says; parts that were accepted before the error stay accepted, and are reported as such.
pub fn deliver(message: &OutboundMessage) -> Result<Receipt, DeliveryError> {
    let place = Place::of(&message.conversation);
    match &message.action {
        Action::Send => send_parts(&place, message, message.draft_id.as_deref().map(Target::Draft)),
        Action::Edit(id) => send_parts(&place, message, Some(Target::Own(own_message(id)?))),
        Action::Delete(id) => delete(&place, own_message(id)?),
        Action::React(reaction) => react(&place, reaction),
    }
}

/// Creates or edits the draft of an answer and returns its id.
///
/// # Errors
/// As [`deliver`].
pub fn draft(message: &OutboundMessage) -> Result<String, DeliveryError> {
    let place = Place::of(&message.conversation);
    let parts = plan::text_parts(&message.text);
    let text = parts
        .first()
        .ok_or_else(|| DeliveryError::Rejected("there is nothing to show yet".to_owned()))?;
    match &message.draft_id {
        Some(id) => {
            place.update(id, text)?;
            Ok(id.clone())
        }
        None => Ok(place.post(text)?),
    }
}

/// Shows that an answer is being made, where Slack can: in a thread of a direct conversation with an app that is an
/// assistant. It is not worth an error.
pub fn typing(conversation: &Conversation) {
    let Some(thread) = conversation
        .thread
        .as_deref()
        .filter(|_| conversation.id.starts_with('D'))
    else {
        return;
    };
    let params = json!({"channel_id": conversation.id, "thread_ts": thread, "status": STATUS});
    if let Err(failure) = Api::from_settings().call("assistant.threads.setStatus", &params) {
        debug!("the status was not shown: {failure}");
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

fn send_parts(place: &Place, message: &OutboundMessage, target: Option<Target<'_>>) -> Result<Receipt, DeliveryError> {
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
        let target = if index == 0 { target } else { None };
        let id = send_part(place, part, target)?;
        progress::sent(&message.delivery_key, index, &id);
        sent.push(id);
    }
    Ok(Receipt::complete(sent))
}

fn send_part(place: &Place, part: &Part<'_>, target: Option<Target<'_>>) -> Result<String, DeliveryError> {
    match (part, target) {
        (Part::Text(text), None) => Ok(place.post(text)?),
        (Part::Text(text), Some(Target::Own(id))) => {
            place.update(id, text)?;
            Ok(id.to_owned())
        }
        (Part::Text(text), Some(Target::Draft(id))) => match place.update(id, text) {
            Ok(()) => Ok(id.to_owned()),
            Err(failure) if failure.is_not_editable() => Ok(place.post(text)?),
            Err(failure) => Err(failure.into()),
        },
        (Part::File(_), Some(Target::Own(_))) => Err(DeliveryError::Rejected(
            "a message can't be edited into a file".to_owned(),
        )),
        (Part::File(file), target) => {
            let id = place.send_file(file)?;
            if let Some(Target::Draft(draft)) = target {
                place.remove_draft(draft);
            }
            Ok(id)
        }
    }
}

fn delete(place: &Place, id: &str) -> Result<Receipt, DeliveryError> {
    match place.remove(id) {
        // What is gone already needs no deleting.
        Err(failure) if !failure.is_one_of(&["message_not_found"]) => Err(failure.into()),
        _ => Ok(Receipt::complete([id])),
    }
}

fn react(place: &Place, reaction: &Reaction) -> Result<Receipt, DeliveryError> {
    let id = own_message(&reaction.message_id)?;
    let name = plan::emoji_name(&reaction.emoji)
        .ok_or_else(|| DeliveryError::Rejected(format!("Slack has no name for {:?}", reaction.emoji)))?;
    let params = json!({"channel": place.conversation.id, "timestamp": id, "name": name});
    match place.api.call("reactions.add", &params) {
        Err(failure) if !failure.is_one_of(&["already_reacted"]) => Err(failure.into()),
        _ => Ok(Receipt::complete([id])),
    }
}

fn own_message(id: &str) -> Result<&str, DeliveryError> {
    plan::message_ts(id).ok_or_else(|| DeliveryError::Rejected(format!("{id:?} is no message of Slack's")))
}

/// The conversation that calls go to.
struct Place {
    api: Api,
    conversation: Conversation,
}

impl Place {
    fn of(conversation: &Conversation) -> Self {
        Self {
            api: Api::from_settings(),
            conversation: conversation.clone(),
        }
    }

    /// Posts a text and returns the message's name.
    fn post(&self, text: &str) -> Result<String, Failure> {
        sent_ts(
            &self
                .api
                .call("chat.postMessage", &plan::new_message(&self.conversation, text))?,
        )
    }

    fn update(&self, id: &str, text: &str) -> Result<(), Failure> {
        let params = json!({"channel": self.conversation.id, "ts": id, "text": text});
        self.api.call("chat.update", &params)?;
        Ok(())
    }

    fn remove(&self, id: &str) -> Result<(), Failure> {
        self.api
            .call("chat.delete", &json!({"channel": self.conversation.id, "ts": id}))?;
        Ok(())
    }

    /// Sends a file, or the words of a link, and returns its id.
    fn send_file(&self, file: &Attachment) -> Result<String, Failure> {
        match file.link_text() {
            Some(link) => self.post(&crate::markup::to_mrkdwn(&link)),
            None => self
                .api
                .upload(file, &self.conversation.id, self.conversation.thread.as_deref()),
        }
    }

    /// Removes a draft that no part of the answer replaces.
    fn remove_draft(&self, id: &str) {
        if let Err(failure) = self.remove(id) {
            debug!("a draft stays behind: {failure}");
        }
    }
}

fn sent_ts(posted: &Value) -> Result<String, Failure> {
    let ts = posted["ts"].as_str().and_then(plan::message_ts);
    ts.map(str::to_owned)
        .ok_or_else(|| Failure::Unreadable("the posted message has no ts".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_posted_message_has_a_ts_in_text() {
        assert_eq!(sent_ts(&json!({"ok": true, "ts": "1.2"})), Ok("1.2".to_owned()));
        assert!(matches!(sent_ts(&json!({"ts": 1.2})), Err(Failure::Unreadable(_))));
    }
}
