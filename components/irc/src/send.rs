//! Sending: lines, each handed to the listener, which has the connection and knows what became of it.

use sluicegate_sdk::relay::{self, RelayError};
use sluicegate_sdk::{Action, DeliveryError, OutboundMessage, Receipt, clock, parts, serde_json};

use crate::map::{self, Answer, Order};

/// How long a line waits for its turn and its answer, milliseconds: less than the host's deadline for a delivery.
const LINE_MS_MAX: u64 = 35_000;
/// How long one attempt goes on to the next line, milliseconds: a long text takes several attempts, each going on after
/// the last line that was sent.
const ATTEMPT_MS_MAX: u64 = 20_000;
/// When a delivery is tried again whose line found no session or no turn, milliseconds.
const NO_TURN_MS: u64 = 5_000;
/// When an attempt goes on that stopped for the time it took, milliseconds.
const NEXT_ATTEMPT_MS: u64 = 500;

/// Delivers a message: see [`sluicegate_sdk::Channel::deliver`].
///
/// # Errors
/// As the host's contract says; lines that were accepted before the error stay accepted, and are reported as such.
pub fn deliver(message: &OutboundMessage) -> Result<Receipt, DeliveryError> {
    if message.action != Action::Send {
        return Err(DeliveryError::Rejected(
            "IRC has no edits, deletions or reactions".to_owned(),
        ));
    }
    let began_ms = clock::now_ms();
    parts::each(message, &map::lines(message), |text, _| {
        if clock::now_ms().saturating_sub(began_ms) > ATTEMPT_MS_MAX {
            return Err(DeliveryError::slow_conversation(NEXT_ATTEMPT_MS));
        }
        send_line(&message.conversation.id, text.clone())
    })
}

fn send_line(target: &str, text: String) -> Result<String, DeliveryError> {
    let order = Order {
        target: target.to_owned(),
        text,
    };
    let order = serde_json::to_vec(&order).map_err(|error| DeliveryError::Rejected(error.to_string()))?;
    let answer = match relay::ask(&order, LINE_MS_MAX) {
        Ok(answer) => answer,
        Err(RelayError::NotTaken | RelayError::Busy | RelayError::ShuttingDown) => {
            return Err(DeliveryError::slow_conversation(NO_TURN_MS));
        }
        Err(RelayError::TooLarge) => return Err(DeliveryError::Rejected("the line is too long".to_owned())),
        Err(RelayError::Unanswered) => {
            let why = "the connection was lost before the server had answered";
            return Err(DeliveryError::Ambiguous(why.to_owned()));
        }
    };
    let answer: Answer =
        serde_json::from_slice(&answer).map_err(|error| DeliveryError::Ambiguous(error.to_string()))?;
    answer.into_result()
}
