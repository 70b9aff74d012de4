//! The words of both directions: what happened on the platform, and what to send to it.

pub use crate::bindings::imports::sluicegate::channel::types::{
    Action, Attachment, AttachmentSource, Choice, Confirmation, Conversation, ConversationKind, DeliveryError,
    EventKind, Extra, InboundMessage, OutboundMessage, RateLimit, Reaction, Receipt, Sender, SentPart, WaitScope,
};

impl Conversation {
    /// Makes a conversation of one person with the gateway, without thread and title.
    pub fn direct(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            thread: None,
            kind: ConversationKind::Direct,
            title: None,
        }
    }

    /// Makes a conversation among several, without thread and title.
    pub fn group(id: impl Into<String>) -> Self {
        Self {
            kind: ConversationKind::Group,
            ..Self::direct(id)
        }
    }
}

impl Sender {
    /// Makes a person's account, without a display name. `id` is the platform's stable id.
    pub fn person(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            name: None,
            bot: false,
        }
    }
}

impl InboundMessage {
    /// Makes a new text message that is addressed to the agent. `id` is unique within the channel.
    pub fn text(id: impl Into<String>, conversation: Conversation, sender: Sender, text: impl Into<String>) -> Self {
        Self {
            kind: EventKind::Message,
            id: id.into(),
            conversation,
            sender,
            text: text.into(),
            attachments: Vec::new(),
            in_reply_to: None,
            value: None,
            sent_at_ms: None,
            addressed: true,
            extra: Vec::new(),
        }
    }
}

impl Attachment {
    /// Returns the name under which the file is sent: its own, or one that fits its kind.
    pub fn file_name(&self) -> String {
        let extension = match self.media_type.as_str() {
            "image/jpeg" => ".jpg",
            "image/png" => ".png",
            "image/webp" => ".webp",
            "text/plain" => ".txt",
            "application/pdf" => ".pdf",
            _ => "",
        };
        let name = self.name.clone().filter(|name| !name.is_empty());
        name.unwrap_or_else(|| format!("file{extension}"))
    }

    /// Returns the words that stand for a linked file where the platform takes no link for one; none for a blob.
    pub fn link_text(&self) -> Option<String> {
        match (&self.source, &self.name) {
            (AttachmentSource::Url(url), Some(name)) => Some(format!("{name}: {url}")),
            (AttachmentSource::Url(url), None) => Some(url.clone()),
            (AttachmentSource::Blob(_), _) => None,
        }
    }
}

impl OutboundMessage {
    /// Returns the platform's id of a part that an earlier attempt sent; parts count from 0.
    pub fn sent_part(&self, index: u32) -> Option<&str> {
        self.already_sent
            .iter()
            .find(|part| part.index == index)
            .map(|part| part.message_id.as_str())
    }
}

impl Receipt {
    /// Makes the receipt of a message that the platform has for good: its ids there, one for each part.
    pub fn complete<I: Into<String>>(message_ids: impl IntoIterator<Item = I>) -> Self {
        Self {
            message_ids: message_ids.into_iter().map(Into::into).collect(),
            confirmation: Confirmation::Complete,
        }
    }

    /// Makes the receipt of a message that was handed over; `progress::confirm` will say what became of it.
    pub fn awaited<I: Into<String>>(message_ids: impl IntoIterator<Item = I>) -> Self {
        Self {
            confirmation: Confirmation::Awaited,
            ..Self::complete(message_ids)
        }
    }
}

impl DeliveryError {
    /// Makes the error for a platform that asked this conversation to wait.
    pub fn slow_conversation(retry_after_ms: u64) -> Self {
        Self::RateLimited(RateLimit {
            retry_after_ms,
            scope: WaitScope::Conversation,
        })
    }

    /// Makes the error for a platform that asked the whole channel to wait.
    pub fn slow_channel(retry_after_ms: u64) -> Self {
        Self::RateLimited(RateLimit {
            retry_after_ms,
            scope: WaitScope::Channel,
        })
    }
}
