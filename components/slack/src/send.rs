//! Sending: messages in parts, drafts, edits, deletions, reactions.

use sluicegate_sdk::parts::{self, Place, Slot, Target};
use sluicegate_sdk::serde_json::{Value, json};
use sluicegate_sdk::{
    Action, Attachment, Conversation, DeliveryError, Finding, OutboundMessage, Reaction, Receipt, debug, warn,
};

use crate::api::Api;
use crate::failure::Failure;
use crate::plan;
use crate::trace::{self, Found};
use crate::uploads::{self, Uploads};

/// What people see while an answer is being made, where Slack shows that.
const STATUS: &str = "is thinking…";

/// Delivers a message: see [`sluicegate_sdk::Channel::deliver`].
///
/// # Errors
/// As the host's contract says; parts that were accepted before the error stay accepted, and are reported as such.
pub fn deliver(message: &OutboundMessage) -> Result<Receipt, DeliveryError> {
    let mut room = Room::of(&message.conversation);
    match &message.action {
        Action::Send => parts::send(&mut room, message, &plan::parts(message), Target::of(message)),
        Action::Edit(id) => {
            let target = Some(Target::Own(own_message(id)?));
            parts::send(&mut room, message, &plan::parts(message), target)
        }
        Action::Delete(id) => delete(&room, own_message(id)?),
        Action::React(reaction) => react(&room, reaction),
    }
}

/// Says what became of a message: see [`sluicegate_sdk::Reconciliation::reconcile`].
pub fn reconcile(message: &OutboundMessage, since_ms: u64) -> Finding {
    if trace::is_repeatable(message) {
        return Finding::NotDelivered(Vec::new());
    }
    let uploads = uploads::of(message);
    match find(message, since_ms, &uploads) {
        Ok(Some(found)) => {
            let finding = trace::finding(message, &plan::parts(message), &found, &uploads);
            if matches!(finding, Finding::Delivered(_)) {
                uploads::forget(message);
            }
            finding
        }
        Ok(None) => {
            debug!("more was written since than is searched");
            Finding::Unknown
        }
        Err(failure) => {
            warn!("the message was not searched for: {failure}");
            Finding::Unknown
        }
    }
}

/// Searches for the parts of a message; none where the search did not come to an end.
fn find(message: &OutboundMessage, since_ms: u64, uploads: &Uploads) -> Result<Option<Found>, Failure> {
    let api = Api::from_settings();
    let me = api.me()?;
    let (method, mut params) = trace::search(&message.conversation, since_ms);
    let mut found = Found::new();
    for _ in 0..trace::PAGES_MAX {
        let page = api.call_with_form(method, &params)?;
        let messages = page["messages"]
            .as_array()
            .ok_or_else(|| Failure::Unreadable(format!("{method} gave no messages")))?;
        trace::add_found(&mut found, messages, &me, &message.delivery_key, uploads);
        match page["response_metadata"]["next_cursor"].as_str() {
            Some(next) if !next.is_empty() => {
                params.retain(|(name, _)| *name != "cursor");
                params.push(("cursor", next.to_owned()));
            }
            _ => return Ok(Some(found)),
        }
    }
    Ok(None)
}

/// Creates or edits the draft of an answer and returns its id.
///
/// # Errors
/// As [`deliver`].
pub fn draft(message: &OutboundMessage) -> Result<String, DeliveryError> {
    let room = Room::of(&message.conversation);
    let parts = plan::text_parts(&message.text);
    let text = parts
        .first()
        .ok_or_else(|| DeliveryError::Rejected("there is nothing to show yet".to_owned()))?;
    match &message.draft_id {
        Some(id) => {
            room.update(id, text, None)?;
            Ok(id.clone())
        }
        None => Ok(room.post(text, None)?),
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

fn delete(room: &Room, id: &str) -> Result<Receipt, DeliveryError> {
    room.delete(id)?;
    Ok(Receipt::complete([id]))
}

fn react(room: &Room, reaction: &Reaction) -> Result<Receipt, DeliveryError> {
    let id = own_message(&reaction.message_id)?;
    let name = plan::emoji_name(&reaction.emoji)
        .ok_or_else(|| DeliveryError::Rejected(format!("Slack has no name for {:?}", reaction.emoji)))?;
    let params = json!({"channel": room.conversation.id, "timestamp": id, "name": name});
    match room.api.call("reactions.add", &params) {
        Err(failure) if !failure.is_one_of(&["already_reacted"]) => Err(failure.into()),
        _ => Ok(Receipt::complete([id])),
    }
}

fn own_message(id: &str) -> Result<&str, DeliveryError> {
    plan::message_ts(id).ok_or_else(|| DeliveryError::Rejected(format!("{id:?} is no message of Slack's")))
}

/// The conversation that calls go to.
struct Room {
    api: Api,
    conversation: Conversation,
}

impl Room {
    fn of(conversation: &Conversation) -> Self {
        Self {
            api: Api::from_settings(),
            conversation: conversation.clone(),
        }
    }

    /// Posts a text and returns the message's name. A draft has no slot: it is no part yet.
    fn post(&self, text: &str, slot: Option<Slot<'_>>) -> Result<String, Failure> {
        let params = marked(plan::new_message(&self.conversation, text), slot);
        sent_ts(&self.api.call("chat.postMessage", &params)?)
    }

    fn update(&self, id: &str, text: &str, slot: Option<Slot<'_>>) -> Result<(), Failure> {
        let params = json!({"channel": self.conversation.id, "ts": id, "text": text});
        self.api.call("chat.update", &marked(params, slot))?;
        Ok(())
    }

    fn delete(&self, id: &str) -> Result<(), Failure> {
        let params = json!({"channel": self.conversation.id, "ts": id});
        match self.api.call("chat.delete", &params) {
            // What is gone already needs no deleting.
            Err(failure) if !failure.is_one_of(&["message_not_found"]) => Err(failure),
            _ => Ok(()),
        }
    }
}

impl Place for Room {
    type Failure = Failure;

    fn send_text(&mut self, text: &str, slot: Slot<'_>) -> Result<String, Failure> {
        self.post(text, Some(slot))
    }

    fn send_file(&mut self, file: &Attachment, slot: Slot<'_>) -> Result<String, Failure> {
        match file.link_text() {
            Some(link) => self.post(&crate::markup::to_mrkdwn(&link), Some(slot)),
            None => {
                let id = self.api.upload(file)?;
                uploads::begin(slot, &id).map_err(Failure::NotKept)?;
                self.api.share(&id, file, &self.conversation)?;
                uploads::end(slot);
                Ok(id)
            }
        }
    }

    fn edit(&mut self, id: &str, text: &str, slot: Slot<'_>) -> Result<(), Failure> {
        self.update(id, text, Some(slot))
    }

    fn remove(&mut self, id: &str, _: &OutboundMessage) -> Result<(), Failure> {
        self.delete(id)
    }

    fn is_gone(failure: &Failure) -> bool {
        failure.is_not_editable()
    }
}

/// Adds the mark by which a part is found again.
fn marked(mut params: Value, slot: Option<Slot<'_>>) -> Value {
    if let Some(slot) = slot {
        params["metadata"] = trace::mark(&slot.message.delivery_key, slot.index);
    }
    params
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
