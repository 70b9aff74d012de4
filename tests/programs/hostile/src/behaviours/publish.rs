//! Publishes a message that is out of bounds in the way that the argument says.

use sluicegate_sdk::{Attachment, AttachmentSource, Conversation, InboundMessage, Sender, inbox};

pub(crate) fn run(argument: &str) -> String {
    let mut message = InboundMessage::text("m1", Conversation::direct("c1"), Sender::person("ada"), "hi");
    let long = || "x".repeat(5 * 1024 * 1024);
    let (mut count, mut cursor) = (1, None);
    match argument {
        "text" => message.text = long(),
        "id" => message.id = long(),
        "no-id" => message.id = String::new(),
        "conversation" => message.conversation.id = long(),
        "no-conversation" => message.conversation.id = String::new(),
        "thread" => message.conversation.thread = Some(String::new()),
        "sender" => message.sender.id = long(),
        "no-sender" => message.sender.id = String::new(),
        "value" => message.value = Some(long()),
        "extra" => message.extra = vec![("key".to_owned(), long())],
        "extras" => message.extra = vec![("key".to_owned(), "value".to_owned()); 10_000],
        "attachments" => message.attachments = vec![attachment("https://example.org/"); 10_000],
        "attachment" => message.attachments = vec![attachment(&long())],
        "name" => message.sender.name = Some(long()),
        "foreign" => message.conversation.id = "websocket/c1".to_owned(),
        "separators" => message.conversation.id = "c1#thread%23/../x".to_owned(),
        "cursor" => cursor = Some(long()),
        "many" => count = 10_000,
        other => {
            // The answer of an agent that echoes is an order for the delivery that it becomes.
            if let Some(order) = other.strip_prefix("order=") {
                message.text = order.to_owned();
            }
        }
    }
    let messages = vec![message; count];
    format!("{:?}", inbox::publish(&messages, cursor.as_deref()))
}

fn attachment(url: &str) -> Attachment {
    Attachment {
        name: None,
        media_type: "text/plain".to_owned(),
        source: AttachmentSource::Url(url.to_owned()),
    }
}
