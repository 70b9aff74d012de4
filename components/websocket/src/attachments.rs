//! Which clients are attached to which conversations, kept in the channel's state.

use sluicegate_sdk::clients::{self, SendError};
use sluicegate_sdk::state;

use crate::map::{self, Tally};
use crate::wire::{Code, Fault};

/// The value of an attachment whose client confirms each reply, and of one whose client does not.
const WITH_ACKS: &[u8] = b"acks";
const WITHOUT_ACKS: &[u8] = b"plain";

/// Attaches a client as it asks, with or without confirmations.
pub(crate) fn attach(client_id: &str, conversation: &str, acks: bool) -> Result<(), Fault> {
    let key = map::attachment_key(conversation, client_id);
    let wanted = if acks { WITH_ACKS } else { WITHOUT_ACKS };
    match state::get(&key) {
        Some(value) if value == wanted => Ok(()),
        Some(_) => store(&key, wanted),
        None => {
            // First the key by which the attachment is found when the client leaves.
            store(&map::client_key(client_id, conversation), b"")?;
            store(&key, wanted)
        }
    }
}

/// Attaches a client that sent a message, unless it is attached already; returns whether it was not.
pub(crate) fn attach_sender(client_id: &str, conversation: &str) -> Result<bool, Fault> {
    if state::get(&map::attachment_key(conversation, client_id)).is_some() {
        return Ok(false);
    }
    attach(client_id, conversation, false).map(|()| true)
}

/// Returns whether a client is attached to the conversation, and said that it confirms each reply.
pub(crate) fn confirms(client_id: &str, conversation: &str) -> bool {
    state::get(&map::attachment_key(conversation, client_id)).is_some_and(|value| value == WITH_ACKS)
}

/// Detaches a client from one conversation.
pub(crate) fn detach(client_id: &str, conversation: &str) {
    state::delete(&map::attachment_key(conversation, client_id));
    state::delete(&map::client_key(client_id, conversation));
}

/// Remembers who a client is; nothing is kept for one that did not say.
pub(crate) fn remember(client_id: &str, principal: Option<&str>) -> Result<(), Fault> {
    principal.map_or(Ok(()), |principal| {
        store(&map::principal_key(client_id), principal.as_bytes())
    })
}

/// Returns who a client is.
pub(crate) fn principal(client_id: &str) -> Option<String> {
    String::from_utf8(state::get(&map::principal_key(client_id))?).ok()
}

/// Forgets a client that has gone.
pub(crate) fn forget(client_id: &str) {
    for key in state::keys(&map::client_prefix(client_id)) {
        if let Some(attachment) = map::attachment_of_client_key(&key, client_id) {
            state::delete(&attachment);
        }
        state::delete(&key);
    }
    let principal = map::principal_key(client_id);
    // Most clients have none, and deleting waits for the disk.
    if state::get(&principal).is_some() {
        state::delete(&principal);
    }
}

/// Forgets every client: none is connected when the channel starts, whatever a killed gateway left behind.
pub(crate) fn forget_all() {
    for key in state::keys("") {
        state::delete(&key);
    }
}

/// Sends a frame to every client attached to the conversation, and says how many took it.
pub(crate) fn send(conversation: &str, frame: &str) -> Tally {
    let mut tally = Tally::default();
    for key in state::keys(&map::attachments_prefix(conversation)) {
        let Some(client_id) = map::client_of_attachment(&key, conversation) else {
            continue;
        };
        // Read before the frame is sent: a client that leaves right after it takes its choice along.
        let with_acks = state::get(&key).is_some_and(|value| value == WITH_ACKS);
        match clients::send(&client_id, frame) {
            Ok(()) if with_acks => tally.to_be_confirmed += 1,
            Ok(()) => tally.taken += 1,
            Err(SendError::Slow) => tally.slow += 1,
            Err(SendError::TooLarge) => tally.too_large += 1,
            // Its ids never come back, such as after the gateway was killed.
            Err(SendError::Gone) => forget(&client_id),
        }
    }
    tally
}

fn store(key: &str, value: &[u8]) -> Result<(), Fault> {
    state::set(key, value).map_err(|why| {
        sluicegate_sdk::error!("an attachment was not stored: {why}");
        Fault::new(
            Code::Unavailable,
            "the gateway could not store the attachment: try again later",
        )
    })
}
