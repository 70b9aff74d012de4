//! `inbox`: the way in. Checks and stamps messages, and stores them with the cursor before the guest hears success.

use crate::clock::millis;
use crate::event::{self, InboundEvent};
use crate::guest::bindings::sluicegate::channel::inbox::{Host, InboundMessage, Outcome, PublishError};
use crate::guest::{Errand, Guest, Held, Level, Services};
use crate::id::EventId;
use crate::limit;
use crate::store::{Accepted, Error};
use crate::{bus, clock};

impl Host for Guest {
    async fn publish(
        &mut self,
        messages: Vec<InboundMessage>,
        cursor: Option<String>,
    ) -> wasmtime::Result<Result<Vec<Outcome>, PublishError>> {
        let Some(services) = self.services.clone() else {
            return Ok(Err(PublishError::Invalid(super::NO_CAPABILITY.into())));
        };
        if self.shutdown.is_cancelled() {
            return Ok(Err(PublishError::ShuttingDown));
        }
        let room = room(&services);
        tokio::select! {
            held = room => if let Some(held) = held {
                services.note_held(held);
                return Ok(Err(busy(held)));
            },
            () = self.shutdown.cancelled() => return Ok(Err(PublishError::ShuttingDown)),
        }
        if messages.is_empty() {
            // Of messages so many may come in a minute; a cursor alone is written as state is.
            self.turn_to_write().await;
            services.share.book_write(cursor.as_ref().map_or(0, String::len));
        }
        let checked = check_batch(messages.len(), cursor.as_deref());
        let messages: Result<Vec<_>, _> = checked.and_then(|()| messages.into_iter().map(checked_message).collect());
        match messages {
            Ok(messages) => Ok(publish(&services, messages, cursor).await),
            Err(reason) => Ok(Err(PublishError::Invalid(reason))),
        }
    }

    async fn cursor(&mut self) -> wasmtime::Result<Option<String>> {
        let Some(services) = &self.services else {
            return Ok(None);
        };
        // A store that can't be read is going down; without its cursor the guest must not go on.
        let cursor = services.store.cursor(&services.name).await;
        services.pay(Errand::call()).await;
        cursor.map_err(wasmtime::Error::msg)
    }
}

/// Waits until something of this channel is taken in. Returns why it still is not after [`limit::PUBLISH_BUSY_WAIT`].
async fn room(services: &Services) -> Option<Held> {
    let mut looks = tokio::time::interval(limit::PUBLISH_LOOK_PERIOD);
    let patience = tokio::time::sleep(limit::PUBLISH_BUSY_WAIT);
    tokio::pin!(patience);
    loop {
        let held = services.held()?;
        tokio::select! {
            _ = looks.tick() => {}
            () = &mut patience => return Some(held),
        }
    }
}

fn busy(held: Held) -> PublishError {
    let wait = match held {
        Held::Full(_) => limit::PUBLISH_BUSY_WAIT,
        Held::TooFast(wait) => wait,
    };
    PublishError::Busy(millis(wait).unsigned_abs())
}

/// Stores the messages of permitted senders and the cursor in one transaction, then wakes what follows.
async fn publish(
    services: &Services,
    messages: Vec<event::InboundMessage>,
    cursor: Option<String>,
) -> Result<Vec<Outcome>, PublishError> {
    let now = services.clock.now_ms();
    services.inbound.spend_and_owe(messages.len() as f64);
    services.share.book_inbound(messages.iter().map(size).sum());
    let permitted: Vec<bool> = messages
        .iter()
        .map(|message| services.access.permits(&message.sender.id))
        .collect();
    report_refused(services, &messages, &permitted);
    let events: Vec<InboundEvent> = messages
        .into_iter()
        .zip(&permitted)
        .filter(|(_, permitted)| **permitted)
        .map(|(message, _)| stamp(services, message, now))
        .collect();
    if events.is_empty() && cursor.is_none() {
        return Ok(vec![Outcome::Refused; permitted.len()]);
    }
    let accepted = services
        .store
        .accept(&services.name, events.clone(), cursor, now)
        .await
        .map_err(|error| match error {
            Error::Busy => PublishError::Busy(millis(limit::PUBLISH_BUSY_WAIT).unsigned_abs()),
            Error::Refused(reason) => PublishError::Invalid(reason),
            _ => PublishError::ShuttingDown,
        })?;
    announce(services, &events, &accepted);
    let mut accepted = accepted.into_iter();
    Ok(permitted
        .into_iter()
        .map(|permitted| match permitted.then(|| accepted.next()).flatten() {
            Some(Accepted::New) => Outcome::Accepted,
            Some(Accepted::Duplicate) => Outcome::Duplicate,
            Some(Accepted::OverCap) | None => Outcome::Refused,
        })
        .collect())
}

/// Returns what a message takes in the store, more or less.
fn size(message: &event::InboundMessage) -> usize {
    let extra = message.extra.iter().map(|(key, value)| key.len() + value.len());
    let attachments = message.attachments.iter().map(|attachment| match &attachment.source {
        event::AttachmentSource::Blob(source) | event::AttachmentSource::Url(source) => source.len(),
    });
    message.text.len() + extra.sum::<usize>() + attachments.sum::<usize>()
}

/// The host alone says which channel, session and time an event has.
fn stamp(services: &Services, message: event::InboundMessage, now: clock::UnixMillis) -> InboundEvent {
    InboundEvent {
        id: EventId::generate(now),
        channel: services.name.clone(),
        session: services.session(&message.conversation),
        received_at_ms: now,
        message,
    }
}

fn report_refused(services: &Services, messages: &[event::InboundMessage], permitted: &[bool]) {
    for message in messages
        .iter()
        .zip(permitted)
        .filter(|(_, permitted)| !**permitted)
        .map(|(message, _)| message)
    {
        services.usage.inbound_refused.add(1);
        let now = services.clock.now_ms();
        services
            .bus
            .publish(|| bus::Event::refused(&services.name, message, "the sender may not talk to the agent", now));
        // Through the channel's own log, which is bounded: a guest can make up as many strangers as it likes.
        let line = format!(
            "a message was refused: its sender `{}` may not talk to the agent; to let them, add the id to `access`",
            message.sender.id
        );
        services.log(Level::Warn, &line);
    }
}

fn announce(services: &Services, events: &[InboundEvent], accepted: &[Accepted]) {
    let mut due = false;
    for (event, accepted) in events.iter().zip(accepted) {
        match accepted {
            Accepted::New => {
                services.usage.inbound_accepted.add(1);
                services.bus.publish(|| bus::Event::inbound(event));
                due |= event.message.starts_turn();
            }
            Accepted::Duplicate => services.usage.inbound_duplicates.add(1),
            Accepted::OverCap => report_over_cap(services, event),
        }
    }
    if due {
        services.bus.turns_due().wake();
        services.bus.deliveries_due().wake();
    }
}

fn report_over_cap(services: &Services, event: &InboundEvent) {
    services.usage.inbound_over_cap.add(1);
    let why = "as much waits in its conversation as may";
    let message = &event.message;
    services
        .bus
        .publish(|| bus::Event::refused(&services.name, message, why, event.received_at_ms));
    let conversation = &message.conversation.id;
    services.log(
        Level::Warn,
        &format!("a message was refused: {why}, `{conversation}`; see conversation_rows in [gateway.pressure]"),
    );
}

fn check_batch(messages: usize, cursor: Option<&str>) -> Result<(), String> {
    if messages > limit::PUBLISH_MESSAGES_MAX {
        return Err(format!(
            "{messages} messages at once; {} are allowed",
            limit::PUBLISH_MESSAGES_MAX
        ));
    }
    match cursor {
        Some(cursor) if cursor.len() > limit::CURSOR_BYTES_MAX => Err(format!("a cursor of {} bytes", cursor.len())),
        _ => Ok(()),
    }
}

/// Refuses what nothing may depend on, and cuts what is only shown.
fn checked_message(message: InboundMessage) -> Result<event::InboundMessage, String> {
    let mut message = event::InboundMessage::from(message);
    require_id("message id", &message.id)?;
    require_id("conversation id", &message.conversation.id)?;
    require_id("sender id", &message.sender.id)?;
    if let Some(thread) = &message.conversation.thread {
        require_id("thread", thread)?;
    }
    for (what, optional) in [("in-reply-to", &message.in_reply_to), ("value", &message.value)] {
        if optional
            .as_ref()
            .is_some_and(|text| text.len() > limit::EXTRA_BYTES_MAX)
        {
            return Err(format!("the {what} is too long"));
        }
    }
    if message.text.len() > limit::INBOUND_TEXT_BYTES_MAX {
        return Err(format!(
            "a text of {} bytes; {} are allowed",
            message.text.len(),
            limit::INBOUND_TEXT_BYTES_MAX
        ));
    }
    if message.attachments.len() > limit::ATTACHMENTS_MAX || message.extra.len() > limit::EXTRA_ENTRIES_MAX {
        return Err("too many attachments or extra entries".into());
    }
    if message
        .extra
        .iter()
        .any(|(key, value)| key.len().max(value.len()) > limit::EXTRA_BYTES_MAX)
    {
        return Err("an extra entry is too long".into());
    }
    cut(&mut message.sender.name);
    cut(&mut message.conversation.title);
    for attachment in &mut message.attachments {
        check_attachment(attachment)?;
        cut(&mut attachment.name);
    }
    Ok(message)
}

fn check_attachment(attachment: &event::Attachment) -> Result<(), String> {
    let (event::AttachmentSource::Blob(source) | event::AttachmentSource::Url(source)) = &attachment.source;
    if source.len() > limit::EXTRA_BYTES_MAX || attachment.media_type.len() > limit::PLATFORM_ID_BYTES_MAX {
        return Err("an attachment's source or media type is too long".into());
    }
    Ok(())
}

fn require_id(what: &str, id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err(format!("the {what} is empty"));
    }
    if id.len() > limit::PLATFORM_ID_BYTES_MAX {
        return Err(format!(
            "the {what} has {} bytes; {} are allowed",
            id.len(),
            limit::PLATFORM_ID_BYTES_MAX
        ));
    }
    Ok(())
}

fn cut(text: &mut Option<String>) {
    if let Some(text) = text {
        text.truncate(text.floor_char_boundary(limit::DISPLAY_NAME_BYTES_MAX));
    }
}
