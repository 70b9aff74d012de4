//! Publishes messages of someone who may not talk, each of which the host would like to tell the operator about.

use sluicegate_sdk::{Conversation, InboundMessage, Sender, inbox};

pub(crate) fn run() -> String {
    let message = |n: usize| {
        let stranger = Sender::person(format!("stranger\n\u{1b}[2J{n}"));
        InboundMessage::text(format!("m{n}"), Conversation::direct("c1"), stranger, "hi")
    };
    let messages: Vec<_> = (0..200).map(message).collect();
    let refused = (0..50)
        .map(|_| inbox::publish(&messages, None).map_or(0, |outcomes| outcomes.len()))
        .sum::<usize>();
    format!("{refused} answered")
}
