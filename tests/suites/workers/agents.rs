//! The agents, each against the real other side: an HTTP server, a program.

mod command;
mod openai;

use sluicegate::event::InboundEvent;
use sluicegate::store::{HistoryEntry, Role};

/// A session in which something was said before.
fn history() -> Vec<HistoryEntry> {
    let line = |role, text: &str| HistoryEntry {
        role,
        text: text.to_owned(),
    };
    vec![line(Role::User, "my name is Ada"), line(Role::Assistant, "hello Ada")]
}

fn message(text: &str) -> InboundEvent {
    crate::support::inbound("c1", text)
}
