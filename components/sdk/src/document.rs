//! A message as one JSON document, for whoever takes it whole: a URL, a folder.

use serde::Serialize;

use crate::{Action, OutboundMessage, text};

/// What an outbound message says, in the gateway's own JSON; `F` is how files stand in it.
#[derive(Debug, Serialize)]
pub struct Document<'a, F> {
    /// `message.sent`, `message.edited`, `message.deleted` or `message.reacted`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The same in every attempt.
    pub delivery_key: &'a str,
    /// Where it is addressed to.
    pub conversation: &'a str,
    /// The thread there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<&'a str>,
    /// The message that it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<&'a str>,
    /// The message that is edited, deleted or reacted to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<&'a str>,
    /// The reaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emoji: Option<&'a str>,
    /// CommonMark, with the choices as numbered lines.
    pub text: String,
    /// The files, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<F>,
    /// Which attempt this is, from 1; none where the document is the same in all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

impl<'a, F> Document<'a, F> {
    /// Writes a message down, without the number of the attempt.
    pub fn of(message: &'a OutboundMessage, files: Vec<F>) -> Self {
        let (kind, changed, emoji) = match &message.action {
            Action::Send => ("message.sent", None, None),
            Action::Edit(id) => ("message.edited", Some(id.as_str()), None),
            Action::Delete(id) => ("message.deleted", Some(id.as_str()), None),
            Action::React(reaction) => {
                let emoji = Some(reaction.emoji.as_str());
                ("message.reacted", Some(reaction.message_id.as_str()), emoji)
            }
        };
        Self {
            kind,
            delivery_key: &message.delivery_key,
            conversation: &message.conversation.id,
            thread: message.conversation.thread.as_deref(),
            in_reply_to: message.in_reply_to.as_deref(),
            message: changed,
            emoji,
            text: text::with_numbered(&message.text, &message.choices),
            files,
            attempt: None,
        }
    }

    /// Adds the number of the attempt.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = Some(attempt);
        self
    }
}
