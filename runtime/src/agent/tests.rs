//! What an agent is told, and what follows from its failures.

use super::*;
use crate::event::{Attachment, AttachmentSource, EventKind, InboundMessage, Sender};
use crate::id::{EventId, SessionKey};

fn message(text: &str, kind: ConversationKind) -> InboundEvent {
    InboundEvent {
        id: EventId::from_trusted("evt_1"),
        channel: ChannelName::from_trusted("family"),
        session: SessionKey::from_trusted("family/c1"),
        received_at_ms: 0,
        message: InboundMessage {
            kind: EventKind::Message,
            id: "m1".to_owned(),
            conversation: Conversation {
                id: "c1".to_owned(),
                thread: None,
                kind,
                title: None,
            },
            sender: Sender {
                id: "42".to_owned(),
                name: Some("Ada".to_owned()),
                bot: false,
            },
            text: text.to_owned(),
            attachments: Vec::new(),
            in_reply_to: None,
            value: None,
            sent_at_ms: None,
            addressed: true,
            extra: Vec::new(),
        },
    }
}

#[test]
fn an_agent_is_told_who_speaks_where_several_do() {
    assert_eq!(said(&message("hi", ConversationKind::Direct)), "hi");
    assert_eq!(said(&message("hi", ConversationKind::Group)), "Ada: hi");
}

#[test]
fn an_agent_is_told_of_choices_and_files() {
    let mut event = message("", ConversationKind::Direct);
    event.message.value = Some("yes".to_owned());
    assert_eq!(said(&event), "yes");
    event.message.value = None;
    let source = AttachmentSource::Url("https://files.example/1".to_owned());
    let file = |name: Option<&str>| Attachment {
        name: name.map(str::to_owned),
        media_type: "image/png".to_owned(),
        source: source.clone(),
    };
    event.message.attachments = vec![file(Some("a.png")), file(None)];
    assert_eq!(
        said(&event),
        "[attached file: a.png, image/png]\n[attached file: without a name, image/png]"
    );
}

#[test]
fn an_agent_can_be_replaced_while_it_serves() {
    let table = AgentTable::new();
    let channel = ChannelName::from_trusted("family");
    assert!(table.get(&channel).is_none());
    let clone = table.clone();
    clone.set(channel.clone(), Arc::new(echo::Echo));
    assert_eq!(
        table.get(&channel).map(|agent| agent.describe()).as_deref(),
        Some("echo")
    );
    assert_eq!(format!("{table:?}"), r#"{"family": "echo"}"#);
    table.remove(&channel);
    assert!(clone.get(&channel).is_none());
}
