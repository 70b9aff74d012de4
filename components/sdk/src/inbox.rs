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
