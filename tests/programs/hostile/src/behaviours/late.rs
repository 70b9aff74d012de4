//! Takes no notice of the time: sleeps through its deadline, and then does what a call may do.

use sluicegate_sdk::{Conversation, InboundMessage, Sender, clock, inbox, log};

pub(crate) fn run(sleep_ms: &str) -> String {
    clock::sleep_ms(crate::results::number(sleep_ms) as u64);
    log::write(log::Level::Info, "after its time");
    let message = InboundMessage::text("late", Conversation::direct("c1"), Sender::person("ada"), "hi");
    format!("{:?}", inbox::publish(&[message], None))
}
