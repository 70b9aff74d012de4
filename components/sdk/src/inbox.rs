//! The way in: a message is durable, together with the cursor, when [`publish`] returns.

pub use crate::bindings::imports::sluicegate::channel::inbox::{Outcome, PublishError, cursor, publish};
use crate::clock;
use crate::message::InboundMessage;

/// The longest wait between two tries of [`publish_waiting`], milliseconds. Chosen because a longer one would leave an
/// inbox idle that has long been free again.
const WAIT_MS_MAX: u64 = 30_000;

/// Publishes like [`publish`], and while the host says `busy` waits as long as it asks and tries again.
///
/// For listeners, which have nothing better to do. A webhook says `busy` to the platform in place of waiting.
///
/// # Errors
/// [`PublishError::Invalid`] where trying again is of no use, [`PublishError::ShuttingDown`] when the channel is being
/// shut down, also during a wait; never [`PublishError::Busy`].
pub fn publish_waiting(messages: &[InboundMessage], cursor: Option<&str>) -> Result<Vec<Outcome>, PublishError> {
    loop {
        match publish(messages, cursor) {
            Err(PublishError::Busy(wait_ms)) => {
                if !clock::sleep_ms(wait_ms.clamp(1, WAIT_MS_MAX)) {
                    return Err(PublishError::ShuttingDown);
                }
            }
            settled => return settled,
        }
    }
}

/// Messages in one `publish` of [`publish_all`]: half of what the host takes at once.
const BATCH_MESSAGES_MAX: usize = 100;

/// What became of the messages of [`publish_all`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// Everything that the host takes is durable, and so is the cursor.
    Durable,
    /// The channel is being shut down, and the cursor is where it was: the same messages will come again.
    ShuttingDown,
}

/// Publishes any number of messages in their order, and the cursor with the last of them.
///
/// A message that the host refuses as invalid is dropped with a line in the log: it would be as invalid the next time,
/// and must not hold up the others.
pub fn publish_all(messages: &[InboundMessage], cursor: Option<&str>) -> Published {
    let mut batches = messages.chunks(BATCH_MESSAGES_MAX).peekable();
    loop {
        let batch = batches.next().unwrap_or_default();
        let cursor = if batches.peek().is_none() { cursor } else { None };
        let published = match publish_waiting(batch, cursor) {
            Ok(_) => Published::Durable,
            Err(PublishError::Invalid(why)) => {
                crate::warn!("messages are stored one by one, because one is invalid: {why}");
                publish_singly(batch, cursor)
            }
            Err(PublishError::ShuttingDown | PublishError::Busy(_)) => Published::ShuttingDown,
        };
        if published == Published::ShuttingDown || batches.peek().is_none() {
            return published;
        }
    }
}

fn publish_singly(messages: &[InboundMessage], cursor: Option<&str>) -> Published {
    for message in messages {
        match publish_waiting(std::slice::from_ref(message), None) {
            Ok(_) => {}
            Err(PublishError::Invalid(why)) => {
                crate::error!("event {} is dropped, the gateway refuses it: {why}", message.id);
            }
            Err(PublishError::ShuttingDown | PublishError::Busy(_)) => return Published::ShuttingDown,
        }
    }
    if cursor.is_none() {
        return Published::Durable;
    }
    match publish_waiting(&[], cursor) {
        Ok(_) => Published::Durable,
        Err(PublishError::Invalid(why)) => {
            crate::error!("the cursor was refused: {why}");
            Published::Durable
        }
        Err(PublishError::ShuttingDown | PublishError::Busy(_)) => Published::ShuttingDown,
    }
}
