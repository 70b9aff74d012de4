//! Publishes the same messages over and over.

use sluicegate_sdk::inbox::{self, Outcome};
use sluicegate_sdk::{Conversation, InboundMessage, Sender};

pub(crate) fn run() -> String {
    let message = |n: usize| {
        InboundMessage::text(
            format!("flood-{}", n % 50),
            Conversation::direct("flood"),
            Sender::person("ada"),
            "hi",
        )
    };
    let messages: Vec<_> = (0..200).map(message).collect();
    let (mut accepted, mut duplicates) = (0, 0);
    for _ in 0..20 {
        for outcome in inbox::publish(&messages, None).unwrap_or_default() {
            match outcome {
                Outcome::Accepted => accepted += 1,
                Outcome::Duplicate => duplicates += 1,
                Outcome::Refused => {}
            }
        }
    }
    format!("{accepted} accepted, {duplicates} duplicates")
}
