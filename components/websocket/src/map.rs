//! Between frames and messages, and the keys under which attachments are kept.
//!
//! Each call runs in an instance of its own, so who is attached to what is in the channel's state:
//! `conv/{conversation}/{client}` holds how the client is attached, `client/{client}/{conversation}` finds it again when
//! the client leaves, `who/{client}` holds its principal. Names are escaped: clients choose conversations freely.

use sluicegate_sdk::inbox::{Outcome, PublishError};
use sluicegate_sdk::{Conversation, DeliveryError, InboundMessage, OutboundMessage, Receipt, Sender};

use crate::wire::{Answer, Code, Fault, Outgoing};

/// Who a client is to the gateway where it did not say.
const ANONYMOUS: &str = "anonymous";

/// Writes a name so that it has no `/` and no two names become one.
fn escape(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F")
}

/// Returns what all attachments to a conversation begin with; the escaped client follows.
pub(crate) fn attachments_prefix(conversation: &str) -> String {
    format!("conv/{}/", escape(conversation))
}

/// Returns the key of one attachment.
pub(crate) fn attachment_key(conversation: &str, client_id: &str) -> String {
    attachments_prefix(conversation) + &escape(client_id)
}

/// Returns what all conversations of a client begin with; the escaped conversation follows.
pub(crate) fn client_prefix(client_id: &str) -> String {
    format!("client/{}/", escape(client_id))
}

/// Returns the key that finds one attachment again when its client leaves.
pub(crate) fn client_key(client_id: &str, conversation: &str) -> String {
    client_prefix(client_id) + &escape(conversation)
}

/// Returns the key of the attachment that a client key stands for.
pub(crate) fn attachment_of_client_key(key: &str, client_id: &str) -> Option<String> {
    let conversation = key.strip_prefix(&client_prefix(client_id))?;
    Some(format!("conv/{conversation}/{}", escape(client_id)))
}

/// Returns the client of an attachment to the conversation.
pub(crate) fn client_of_attachment(key: &str, conversation: &str) -> Option<String> {
    let client_id = key.strip_prefix(&attachments_prefix(conversation))?;
    Some(client_id.replace("%2F", "/").replace("%25", "%"))
}

/// Returns the key of a client's principal.
pub(crate) fn principal_key(client_id: &str) -> String {
    format!("who/{}", escape(client_id))
}

/// What of a client's message becomes an inbound one.
pub(crate) struct Said<'a> {
    pub(crate) id: &'a str,
    pub(crate) conversation: &'a str,
    pub(crate) thread: Option<&'a str>,
    pub(crate) text: &'a str,
    pub(crate) principal: Option<&'a str>,
}

/// Makes the inbound message. Clients choose their ids, so only with the conversation are they unique in the channel.
pub(crate) fn message(said: &Said<'_>) -> InboundMessage {
    let id = message_id_prefix(said.conversation) + said.id;
    let thread = said.thread.map(str::to_owned);
    let conversation = Conversation {
        thread,
        ..Conversation::direct(said.conversation)
    };
    InboundMessage::text(
        id,
        conversation,
        Sender::person(said.principal.unwrap_or(ANONYMOUS)),
        said.text,
    )
}

fn message_id_prefix(conversation: &str) -> String {
    escape(conversation) + "/"
}

/// Returns what a frame about an outbound message carries.
pub(crate) fn answer(message: &OutboundMessage) -> Answer<'_> {
    let conversation = &message.conversation;
    let prefix = message_id_prefix(&conversation.id);
    let in_reply_to = message.in_reply_to.as_deref();
    Answer {
        conversation: &conversation.id,
        thread: conversation.thread.as_deref(),
        in_reply_to: in_reply_to.map(|id| id.strip_prefix(&prefix).unwrap_or(id)),
        delivery_key: &message.delivery_key,
        text: &message.text,
    }
}

/// Returns the frame that answers a published message.
pub(crate) fn published(id: &str, outcome: Result<Option<&Outcome>, PublishError>) -> Result<String, Fault> {
    let fault = match outcome {
        Ok(Some(Outcome::Accepted | Outcome::Duplicate)) => return Ok(Outgoing::Accepted { id }.frame()),
        Ok(Some(Outcome::Refused)) => Fault::new(
            Code::Refused,
            "this client may not talk to the agent, or too much waits in its conversation",
        ),
        Ok(None) => Fault::new(Code::Unavailable, "the gateway did not say what became of the message"),
        Err(PublishError::Busy(wait_ms)) => Fault::new(Code::Busy, format!("too many messages: wait {wait_ms} ms")),
        Err(PublishError::Invalid(why)) => Fault::new(Code::Invalid, why),
        Err(PublishError::ShuttingDown) => Fault::new(Code::ShuttingDown, "the gateway is shutting down"),
    };
    Err(fault.about(id))
}

/// What became of a reply at the clients attached to its conversation.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Clients that took it and confirm nothing.
    pub(crate) taken: u32,
    /// Clients that took it and will confirm it.
    pub(crate) to_be_confirmed: u32,
    /// Clients that do not keep up.
    pub(crate) slow: u32,
    /// Clients for which it is too large.
    pub(crate) too_large: u32,
}

impl Tally {
    /// Returns the receipt of the delivery with this key, or why there is none.
    pub(crate) fn receipt(self, delivery_key: &str) -> Result<Receipt, DeliveryError> {
        match self {
            Self {
                to_be_confirmed: 1.., ..
            } => Ok(Receipt::awaited([delivery_key])),
            Self { taken: 1.., .. } => Ok(Receipt::complete([delivery_key])),
            Self { slow: 1.., .. } => Err(DeliveryError::Unavailable("every attached client is slow".to_owned())),
            Self { too_large: 1.., .. } => {
                Err(DeliveryError::Rejected("the reply is too large for a frame".to_owned()))
            }
            _ => Err(DeliveryError::Unavailable("no client is attached".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_sdk::{Action, Confirmation};

    use super::*;

    const NASTY: [&str; 6] = ["a", "a/b", "a%2Fb", "a%252Fb", "%", "/"];

    fn said<'a>(id: &'a str, conversation: &'a str) -> Said<'a> {
        Said {
            id,
            conversation,
            thread: Some("t1"),
            text: "hi",
            principal: None,
        }
    }

    fn reply_to(message: InboundMessage) -> OutboundMessage {
        OutboundMessage {
            action: Action::Send,
            delivery_key: "dlv_1".to_owned(),
            attempt: 1,
            conversation: message.conversation,
            in_reply_to: Some(message.id),
            text: "ho".to_owned(),
            attachments: Vec::new(),
            choices: Vec::new(),
            draft_id: None,
            already_sent: Vec::new(),
            extra: Vec::new(),
        }
    }

    #[test]
    fn keys_lead_back_to_their_names_whatever_those_are() {
        for conversation in NASTY {
            for client in NASTY {
                let attachment = attachment_key(conversation, client);
                assert_eq!(client_of_attachment(&attachment, conversation).as_deref(), Some(client));
                let key = client_key(client, conversation);
                assert_eq!(attachment_of_client_key(&key, client), Some(attachment));
            }
        }
    }

    #[test]
    fn no_conversation_has_an_attachment_of_another() {
        for (at, conversation) in NASTY.iter().enumerate() {
            for other in NASTY
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != at)
                .map(|(_, name)| name)
            {
                let key = attachment_key(other, "client");
                assert!(
                    !key.starts_with(&attachments_prefix(conversation)),
                    "{key} belongs to {conversation}"
                );
            }
        }
    }

    #[test]
    fn the_same_id_in_two_conversations_is_two_messages() {
        assert_ne!(message(&said("b/c", "a")).id, message(&said("c", "a/b")).id);
        assert_eq!(message(&said("m1", "c1")).id, "c1/m1");
    }

    #[test]
    fn a_client_gets_its_own_id_and_thread_back() {
        for conversation in NASTY {
            let reply = reply_to(message(&said("m/1", conversation)));
            let answer = answer(&reply);
            assert_eq!(answer.in_reply_to, Some("m/1"));
            assert_eq!((answer.conversation, answer.thread), (conversation, Some("t1")));
        }
    }

    #[test]
    fn the_sender_is_the_principal_where_there_is_one() {
        assert_eq!(message(&said("m1", "c1")).sender.id, "anonymous");
        assert_eq!(
            message(&Said {
                principal: Some("ada"),
                ..said("m1", "c1")
            })
            .sender
            .id,
            "ada"
        );
    }

    #[test]
    fn a_duplicate_is_accepted_like_the_first() {
        let accepted = r#"{"type":"accepted","id":"m1"}"#;
        for outcome in [Outcome::Accepted, Outcome::Duplicate] {
            assert_eq!(published("m1", Ok(Some(&outcome))).as_deref(), Ok(accepted));
        }
    }

    #[test]
    fn each_failed_publish_has_its_code() {
        let cases = [
            (Ok(Some(&Outcome::Refused)), Code::Refused),
            (Ok(None), Code::Unavailable),
            (Err(PublishError::Busy(250)), Code::Busy),
            (Err(PublishError::Invalid("no".to_owned())), Code::Invalid),
            (Err(PublishError::ShuttingDown), Code::ShuttingDown),
        ];
        for (outcome, code) in cases {
            let fault = published("m1", outcome).expect_err("it was not published");
            assert_eq!((fault.code, fault.id.as_deref()), (code, Some("m1")));
            assert!(code != Code::Busy || fault.message.contains("250 ms"));
        }
    }

    #[test]
    fn one_client_that_took_the_reply_is_enough() {
        let confirmation = |tally: Tally| tally.receipt("k").map(|receipt| receipt.confirmation);
        let slow = Tally {
            slow: 1,
            too_large: 1,
            ..Tally::default()
        };
        assert_eq!(confirmation(Tally { taken: 1, ..slow }), Ok(Confirmation::Complete));
        assert_eq!(
            confirmation(Tally {
                taken: 1,
                to_be_confirmed: 1,
                ..slow
            }),
            Ok(Confirmation::Awaited)
        );
        assert!(matches!(confirmation(slow), Err(DeliveryError::Unavailable(_))));
        assert!(matches!(
            confirmation(Tally { slow: 0, ..slow }),
            Err(DeliveryError::Rejected(_))
        ));
        assert!(matches!(
            confirmation(Tally::default()),
            Err(DeliveryError::Unavailable(_))
        ));
    }
}
