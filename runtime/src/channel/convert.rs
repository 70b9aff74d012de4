//! Between the contract's types and the host's own, both ways. Pure; checking is done where messages enter.

use crate::delivery::{DeliveryRequest, Finding};
use crate::event;
use crate::guest::bindings::exports::sluicegate::channel::{connections, reconciliation};
use crate::guest::bindings::sluicegate::channel::types as wit;
use crate::ingress::CloseReason;
use crate::limit;

impl From<wit::Sender> for event::Sender {
    fn from(sender: wit::Sender) -> Self {
        Self {
            id: sender.id,
            name: sender.name,
            bot: sender.bot,
        }
    }
}

impl From<wit::Conversation> for event::Conversation {
    fn from(conversation: wit::Conversation) -> Self {
        let kind = match conversation.kind {
            wit::ConversationKind::Direct => event::ConversationKind::Direct,
            wit::ConversationKind::Group => event::ConversationKind::Group,
        };
        Self {
            id: conversation.id,
            thread: conversation.thread,
            kind,
            title: conversation.title,
        }
    }
}

impl From<event::Conversation> for wit::Conversation {
    fn from(conversation: event::Conversation) -> Self {
        let kind = match conversation.kind {
            event::ConversationKind::Direct => wit::ConversationKind::Direct,
            event::ConversationKind::Group => wit::ConversationKind::Group,
        };
        Self {
            id: conversation.id,
            thread: conversation.thread,
            kind,
            title: conversation.title,
        }
    }
}

impl From<wit::Attachment> for event::Attachment {
    fn from(attachment: wit::Attachment) -> Self {
        let source = match attachment.source {
            wit::AttachmentSource::Blob(blob) => event::AttachmentSource::Blob(blob),
            wit::AttachmentSource::Url(url) => event::AttachmentSource::Url(url),
        };
        Self {
            name: attachment.name,
            media_type: attachment.media_type,
            source,
        }
    }
}

impl From<event::Attachment> for wit::Attachment {
    fn from(attachment: event::Attachment) -> Self {
        let source = match attachment.source {
            event::AttachmentSource::Blob(blob) => wit::AttachmentSource::Blob(blob),
            event::AttachmentSource::Url(url) => wit::AttachmentSource::Url(url),
        };
        Self {
            name: attachment.name,
            media_type: attachment.media_type,
            source,
        }
    }
}

impl From<wit::EventKind> for event::EventKind {
    fn from(kind: wit::EventKind) -> Self {
        match kind {
            wit::EventKind::Message => Self::Message,
            wit::EventKind::Edit => Self::Edit,
            wit::EventKind::Choice => Self::Choice,
            wit::EventKind::Deletion => Self::Deletion,
            wit::EventKind::Reaction => Self::Reaction,
            wit::EventKind::Other => Self::Other,
        }
    }
}

impl From<wit::InboundMessage> for event::InboundMessage {
    fn from(message: wit::InboundMessage) -> Self {
        Self {
            kind: message.kind.into(),
            id: message.id,
            conversation: message.conversation.into(),
            sender: message.sender.into(),
            text: message.text,
            attachments: message.attachments.into_iter().map(Into::into).collect(),
            in_reply_to: message.in_reply_to,
            value: message.value,
            sent_at_ms: message.sent_at_ms,
            addressed: message.addressed,
            extra: message.extra,
        }
    }
}

impl From<event::Action> for wit::Action {
    fn from(action: event::Action) -> Self {
        match action {
            event::Action::Send => Self::Send,
            event::Action::Edit(id) => Self::Edit(id),
            event::Action::Delete(id) => Self::Delete(id),
            event::Action::React { message_id, emoji } => Self::React(wit::Reaction { message_id, emoji }),
        }
    }
}

impl From<DeliveryRequest> for wit::OutboundMessage {
    fn from(request: DeliveryRequest) -> Self {
        let event = request.event;
        let sent = request.already_sent.into_iter();
        Self {
            action: event.action.into(),
            delivery_key: event.key.to_string(),
            attempt: request.attempt,
            conversation: event.conversation.into(),
            in_reply_to: event.in_reply_to,
            text: event.text,
            attachments: event.attachments.into_iter().map(Into::into).collect(),
            choices: event
                .choices
                .into_iter()
                .map(|choice| wit::Choice {
                    id: choice.id,
                    label: choice.label,
                })
                .collect(),
            draft_id: request.draft_id,
            already_sent: sent
                .map(|part| wit::SentPart {
                    index: part.index,
                    message_id: part.message_id,
                })
                .collect(),
            extra: event.extra,
        }
    }
}

/// Cuts a guest's receipt to what is stored with the delivery. What it says was sent was sent: refusing the receipt would
/// send it again.
impl From<wit::Receipt> for event::Receipt {
    fn from(receipt: wit::Receipt) -> Self {
        let confirmation = match receipt.confirmation {
            wit::Confirmation::Complete => event::Confirmation::Complete,
            wit::Confirmation::Awaited => event::Confirmation::Awaited,
        };
        let ids = receipt.message_ids.into_iter().take(limit::RECEIPT_IDS_MAX);
        Self {
            message_ids: ids.map(platform_id).collect(),
            confirmation,
        }
    }
}

/// Leaves out the parts that no delivery has, and cuts their ids, as in a receipt.
impl From<reconciliation::Finding> for Finding {
    fn from(finding: reconciliation::Finding) -> Self {
        match finding {
            reconciliation::Finding::Delivered(receipt) => Self::Delivered(receipt.into()),
            reconciliation::Finding::NotDelivered(parts) => {
                let parts = parts.into_iter().filter(|part| part.index < limit::PARTS_MAX);
                let kept = parts.map(|part| event::SentPart {
                    index: part.index,
                    message_id: platform_id(part.message_id),
                });
                Self::NotDelivered(kept.take(limit::PARTS_MAX as usize).collect())
            }
            reconciliation::Finding::Unknown => Self::Unknown,
        }
    }
}

/// Cuts a platform's id to what is stored.
fn platform_id(mut id: String) -> String {
    id.truncate(id.floor_char_boundary(limit::PLATFORM_ID_BYTES_MAX));
    id
}

impl From<wit::DeliveryError> for event::DeliveryError {
    fn from(error: wit::DeliveryError) -> Self {
        match error {
            wit::DeliveryError::RateLimited(limit) => Self::RateLimited {
                retry_after_ms: limit.retry_after_ms,
                scope: match limit.scope {
                    wit::WaitScope::Conversation => event::WaitScope::Conversation,
                    wit::WaitScope::Channel => event::WaitScope::Channel,
                },
            },
            wit::DeliveryError::Unavailable(text) => Self::Unavailable(text),
            wit::DeliveryError::Ambiguous(text) => Self::Ambiguous(text),
            wit::DeliveryError::Rejected(text) => Self::Rejected(text),
            wit::DeliveryError::NoSuchConversation(text) => Self::NoSuchConversation(text),
            wit::DeliveryError::Unauthorized(text) => Self::Unauthorized(text),
        }
    }
}

impl From<connections::CloseReason> for CloseReason {
    fn from(reason: connections::CloseReason) -> Self {
        match reason {
            connections::CloseReason::Normal => Self::Normal,
            connections::CloseReason::Policy(text) => Self::Policy(text),
            connections::CloseReason::TooLarge => Self::TooLarge,
            connections::CloseReason::Internal => Self::Internal,
        }
    }
}
