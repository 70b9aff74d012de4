//! `sluicegate inbox`: messages that came in and whose turn was given up.

use serde_json::json;

use super::args::InboxCommand;
use super::failure::Failure;
use super::json_text;
use super::letters::changed_text;
use super::running::Running;
use super::text::{cell, cell_or_dash, from_now, table};
use crate::admin::{List, TurnView};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Sources;

/// Does what stands after `inbox`.
pub(super) fn inbox(command: InboxCommand, sources: &Sources) -> Result<String, Failure> {
    let gateway = Running::require(sources)?;
    match command {
        InboxCommand::Dead { limit, json } => {
            let found: List<TurnView> = gateway.get(&["dead-inbound"], &[("limit", limit.to_string())])?;
            Ok(if json.json {
                json_text(&json!(found.items))
            } else {
                dead_table(&found.items)
            })
        }
        InboxCommand::Resubmit { event, json } => {
            let changed = gateway.post(&["dead-inbound", &event, "resubmit"], None)?;
            let words = format!("{event} runs again; `sluicegate trace {event}` shows what becomes of it");
            Ok(changed_text(changed, json, &words))
        }
        InboxCommand::Drop { event, json } => {
            let changed = gateway.delete(&["dead-inbound", &event])?;
            Ok(changed_text(changed, json, &format!("{event} is dropped")))
        }
    }
}

fn dead_table(turns: &[TurnView]) -> String {
    if turns.is_empty() {
        return "No message was given up.\n".to_owned();
    }
    let now = SystemClock.now_ms();
    let head = ["EVENT", "CHANNEL", "SENDER", "FAILURES", "GIVEN UP", "WHY", "TEXT"].map(str::to_owned);
    let rows = turns.iter().map(|one| {
        [
            one.event.to_string(),
            cell(one.channel.as_str()),
            cell_or_dash(one.sender.as_deref()),
            one.failures.to_string(),
            one.finished_at_ms
                .map_or_else(|| "-".to_owned(), |at| from_now(at, now)),
            cell_or_dash(one.reason.as_deref()),
            cell_or_dash(one.text.as_deref()),
        ]
    });
    table(std::iter::once(head).chain(rows))
}
