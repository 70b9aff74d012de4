//! Sending a message in parts, so that an attempt goes on after the last part that the platform took.

use crate::bindings::imports::sluicegate::channel::progress;
use crate::{Action, Attachment, DeliveryError, OutboundMessage, Receipt, debug};

/// One message on the platform.
#[derive(Debug, Clone, PartialEq)]
pub enum Part<'a> {
    /// A text that fits.
    Text(String),
    /// A file.
    File(&'a Attachment),
}

/// Returns the parts in the order of sending: the texts, without those that show nothing, and then the files.
pub fn of(texts: Vec<String>, message: &OutboundMessage) -> Vec<Part<'_>> {
    let texts = texts.into_iter().filter(|text| !text.trim().is_empty()).map(Part::Text);
    texts.chain(message.attachments.iter().map(Part::File)).collect()
}

/// Which part is to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Slot<'a> {
    /// The whole message.
    pub message: &'a OutboundMessage,
    /// The part's number, from 0.
    pub index: u32,
    /// Whether no part follows.
    pub is_last: bool,
    /// The platform's id of the part before it.
    pub previous: Option<&'a str>,
}

/// Sends the parts that no earlier attempt sent, in order, and reports each to the host. `send` returns the platform's id.
///
/// # Errors
/// The first of `send`'s, and [`DeliveryError::Rejected`] where there is no part at all.
pub fn each<P>(
    message: &OutboundMessage,
    parts: &[P],
    mut send: impl FnMut(&P, Slot<'_>) -> Result<String, DeliveryError>,
) -> Result<Receipt, DeliveryError> {
    if parts.is_empty() {
        return Err(DeliveryError::Rejected(
            "the message has nothing that can be sent".to_owned(),
        ));
    }
    let mut sent: Vec<String> = Vec::with_capacity(parts.len());
    for (index, part) in (0_u32..).zip(parts) {
        if let Some(id) = message.sent_part(index) {
            sent.push(id.to_owned());
            continue;
        }
        let slot = Slot {
            message,
            index,
            is_last: sent.len() + 1 == parts.len(),
            previous: sent.last().map(String::as_str),
        };
        let id = send(part, slot)?;
        progress::sent(&message.delivery_key, index, &id);
        sent.push(id);
    }
    Ok(Receipt::complete(sent))
}

/// A place on a platform whose messages can be changed.
pub trait Place {
    /// Why a call had no result.
    type Failure: Into<DeliveryError> + std::fmt::Display;

    /// Sends a text as a message of its own, and returns the platform's id.
    ///
    /// # Errors
    /// Why not.
    fn send_text(&mut self, text: &str, slot: Slot<'_>) -> Result<String, Self::Failure>;

    /// Sends a file, or the words for one that lies elsewhere, and returns the platform's id.
    ///
    /// # Errors
    /// Why not.
    fn send_file(&mut self, file: &Attachment, slot: Slot<'_>) -> Result<String, Self::Failure>;

    /// Writes a text into an earlier message of ours.
    ///
    /// # Errors
    /// Why not.
    fn edit(&mut self, id: &str, text: &str, slot: Slot<'_>) -> Result<(), Self::Failure>;

    /// Removes an earlier message of ours; one that is gone already is no failure.
    ///
    /// # Errors
    /// Why not.
    fn remove(&mut self, id: &str, message: &OutboundMessage) -> Result<(), Self::Failure>;

    /// Returns whether an edit failed because the message is not there, or can't be changed (any more).
    fn is_gone(failure: &Self::Failure) -> bool;
}

/// An earlier message that the first part is written into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// The answer's own draft: where it has gone, the answer is sent anew.
    Draft(&'a str),
    /// A message that is to be edited: where it has gone, there is nothing to edit.
    Own(&'a str),
}

impl<'a> Target<'a> {
    /// Returns what a message is written into.
    pub fn of(message: &'a OutboundMessage) -> Option<Self> {
        match &message.action {
            Action::Edit(id) => Some(Self::Own(id)),
            _ => message.draft_id.as_deref().map(Self::Draft),
        }
    }
}

/// Sends the parts of a message, the first of them into its target.
///
/// # Errors
/// As [`each`].
pub fn send<P: Place>(
    place: &mut P,
    message: &OutboundMessage,
    parts: &[Part<'_>],
    target: Option<Target<'_>>,
) -> Result<Receipt, DeliveryError> {
    each(message, parts, |part, slot| {
        send_part(place, part, target.filter(|_| slot.index == 0), slot)
    })
}

fn send_part<P: Place>(
    place: &mut P,
    part: &Part<'_>,
    target: Option<Target<'_>>,
    slot: Slot<'_>,
) -> Result<String, DeliveryError> {
    match (part, target) {
        (Part::Text(text), None) => place.send_text(text, slot).map_err(Into::into),
        (Part::Text(text), Some(Target::Own(id))) => {
            place.edit(id, text, slot).map_err(Into::into)?;
            Ok(id.to_owned())
        }
        (Part::Text(text), Some(Target::Draft(id))) => match place.edit(id, text, slot) {
            Ok(()) => Ok(id.to_owned()),
            Err(failure) if P::is_gone(&failure) => place.send_text(text, slot).map_err(Into::into),
            Err(failure) => Err(failure.into()),
        },
        (Part::File(_), Some(Target::Own(_))) => Err(DeliveryError::Rejected(
            "a message can't be edited into a file".to_owned(),
        )),
        (Part::File(file), target) => {
            let id = place.send_file(file, slot).map_err(Into::into)?;
            if let Some(Target::Draft(draft)) = target
                && let Err(failure) = place.remove(draft, slot.message)
            {
                debug!("a draft stays behind: {failure}");
            }
            Ok(id)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AttachmentSource, Conversation};

    /// A platform on which messages called `gone` can't be changed; it writes down what it is asked.
    struct Board(Vec<String>);

    impl Place for Board {
        type Failure = String;

        fn send_text(&mut self, text: &str, slot: Slot<'_>) -> Result<String, String> {
            self.0.push(format!("text {text} at {}", slot.index));
            Ok("new".to_owned())
        }

        fn send_file(&mut self, _: &Attachment, _: Slot<'_>) -> Result<String, String> {
            self.0.push("file".to_owned());
            Ok("new".to_owned())
        }

        fn edit(&mut self, id: &str, text: &str, _: Slot<'_>) -> Result<(), String> {
            self.0.push(format!("edit {id} {text}"));
            if id == "there" { Ok(()) } else { Err(id.to_owned()) }
        }

        fn remove(&mut self, id: &str, _: &OutboundMessage) -> Result<(), String> {
            self.0.push(format!("remove {id}"));
            Ok(())
        }

        fn is_gone(failure: &String) -> bool {
            failure == "gone"
        }
    }

    impl From<String> for DeliveryError {
        fn from(words: String) -> Self {
            Self::Unavailable(words)
        }
    }

    fn message() -> OutboundMessage {
        OutboundMessage {
            action: Action::Send,
            delivery_key: "dlv_1".to_owned(),
            attempt: 1,
            conversation: Conversation::direct("c1"),
            in_reply_to: None,
            text: String::new(),
            attachments: vec![Attachment {
                name: None,
                media_type: "text/plain".to_owned(),
                source: AttachmentSource::Blob("b".to_owned()),
            }],
            choices: Vec::new(),
            draft_id: None,
            already_sent: Vec::new(),
            extra: Vec::new(),
        }
    }

    fn sent(part: usize, target: Option<Target<'_>>) -> (Result<String, DeliveryError>, Vec<String>) {
        let (mut board, message) = (Board(Vec::new()), message());
        let parts = of(vec!["hi".to_owned(), " \n".to_owned()], &message);
        let slot = Slot {
            message: &message,
            index: 0,
            is_last: true,
            previous: None,
        };
        let sent = send_part(&mut board, &parts[part], target, slot);
        (sent, board.0)
    }

    #[test]
    fn a_draft_becomes_the_answer_or_gives_way_to_it() {
        let (draft, asked) = sent(0, Some(Target::Draft("there")));
        assert_eq!(
            (draft, asked),
            (Ok("there".to_owned()), vec!["edit there hi".to_owned()])
        );
        let (draft, asked) = sent(0, Some(Target::Draft("gone")));
        assert_eq!(draft, Ok("new".to_owned()));
        assert_eq!(asked, ["edit gone hi", "text hi at 0"]);
        let (draft, asked) = sent(1, Some(Target::Draft("there")));
        assert_eq!(
            (draft, asked),
            (Ok("new".to_owned()), vec!["file".to_owned(), "remove there".to_owned()])
        );
        let (draft, asked) = sent(0, Some(Target::Draft("broken")));
        assert!(
            draft.is_err() && asked.len() == 1,
            "a failed edit may have worked: {asked:?}"
        );
    }

    #[test]
    fn an_edit_never_becomes_another_message() {
        let (edited, _) = sent(0, Some(Target::Own("there")));
        assert_eq!(edited, Ok("there".to_owned()));
        let (edited, asked) = sent(0, Some(Target::Own("gone")));
        assert!(edited.is_err());
        assert_eq!(asked, ["edit gone hi"]);
        let (edited, asked) = sent(1, Some(Target::Own("there")));
        assert!(matches!(edited, Err(DeliveryError::Rejected(_))) && asked.is_empty());
    }
}
