//! WebSocket clients of the gateway: JSON frames in and out, replies to every client attached to their conversation.
//!
//! A client that sent a message may be gone when the answer is ready. The reply then waits in the outbox, and goes out
//! when the next client attaches to the conversation.

mod attachments;
mod map;
mod wire;

use sluicegate_sdk::connections::{Client, CloseReason};
use sluicegate_sdk::{
    Action, Channel, Connections, Conversation, DeliveryError, Description, Features, Lifecycle, OutboundMessage,
    Presence, Receipt, inbox, progress,
};
use wire::{Code, Fault, Incoming, Outgoing};

/// For how long clients are asked to remember delivery keys, seconds: as long as the gateway tries to deliver.
const DEDUPLICATES_FOR_S: u32 = 24 * 60 * 60;

struct WebSocket;

impl Channel for WebSocket {
    fn describe() -> Description {
        Description::new(
            "websocket",
            env!("CARGO_PKG_VERSION"),
            "Serves WebSocket clients of the gateway",
        )
        .features(Features::THREADS)
        .deduplicates_for_s(DEDUPLICATES_FOR_S)
    }

    fn deliver(message: OutboundMessage) -> Result<Receipt, DeliveryError> {
        if message.action != Action::Send {
            return Err(DeliveryError::Rejected(
                "a frame that was sent can't be changed".to_owned(),
            ));
        }
        let frame = Outgoing::Reply(map::answer(&message)).frame();
        attachments::send(&message.conversation.id, &frame).receipt(&message.delivery_key)
    }
}

impl Connections for WebSocket {
    fn opened(client: Client) -> Result<Vec<String>, CloseReason> {
        attachments::remember(&client.id, client.principal.as_deref()).map_err(|_| CloseReason::Internal)?;
        Ok(Vec::new())
    }

    fn received(client_id: String, frame: String) -> Result<Vec<String>, CloseReason> {
        let answer = match wire::parse(&frame) {
            Ok(incoming) => answer(&client_id, &incoming),
            Err(fault) => Err(fault),
        };
        Ok(answer.unwrap_or_else(|fault| Some(fault.frame())).into_iter().collect())
    }

    fn closed(client_id: String) {
        attachments::forget(&client_id);
    }
}

impl Lifecycle for WebSocket {
    fn start(_webhook_url: Option<String>) -> Result<(), String> {
        attachments::forget_all();
        Ok(())
    }

    fn stop() {}
}

impl Presence for WebSocket {
    fn typing(conversation: Conversation) {
        let frame = Outgoing::Typing {
            conversation: &conversation.id,
            thread: conversation.thread.as_deref(),
        }
        .frame();
        attachments::send(&conversation.id, &frame);
    }

    fn draft(message: OutboundMessage) -> Result<String, DeliveryError> {
        // The reply itself waits for a client; a draft that nobody saw is no loss.
        attachments::send(
            &message.conversation.id,
            &Outgoing::Draft(map::answer(&message)).frame(),
        );
        Ok(message.delivery_key)
    }
}

/// Does what a client's frame asks for and returns the frame that answers it.
fn answer(client_id: &str, incoming: &Incoming) -> Result<Option<String>, Fault> {
    match incoming {
        Incoming::Message {
            id,
            conversation,
            thread,
            text,
        } => {
            let principal = attachments::principal(client_id);
            let thread = thread.as_deref();
            let said = map::Said {
                id,
                conversation,
                thread,
                text,
                principal: principal.as_deref(),
            };
            publish(client_id, &said).map(Some)
        }
        Incoming::Attach { conversation, acks } => {
            attachments::attach(client_id, conversation, *acks)?;
            // Only now: a reply that waits must find the client attached.
            progress::reachable(conversation, None);
            Ok(Some(Outgoing::Attached { conversation }.frame()))
        }
        Incoming::Ack { delivery_key } => {
            // A key may have been read elsewhere: what counts is who was to be sent the reply, and said that it confirms.
            let conversation = progress::conversation_of(delivery_key);
            if conversation.is_some_and(|conversation| attachments::confirms(client_id, &conversation)) {
                progress::confirm(delivery_key, Ok(()));
            }
            Ok(None)
        }
    }
}

/// Publishes a message with its client attached before, so that even the quickest answer finds it.
fn publish(client_id: &str, said: &map::Said<'_>) -> Result<String, Fault> {
    let is_new = attachments::attach_sender(client_id, said.conversation).map_err(|fault| fault.about(said.id))?;
    let outcomes = inbox::publish(&[map::message(said)], None);
    let answer = map::published(said.id, outcomes.as_ref().map(|all| all.first()).map_err(Clone::clone));
    match &answer {
        Err(fault) if fault.code == Code::Refused && is_new => attachments::detach(client_id, said.conversation),
        _ if is_new => progress::reachable(said.conversation, None),
        _ => {}
    }
    answer
}

sluicegate_sdk::export!(WebSocket: connections, lifecycle, presence);
