//! `sluicegate changes`: what operators changed.

use serde_json::json;

use super::failure::Failure;
use super::json_text;
use super::running::Running;
use super::text::{cell, table, utc};
use crate::admin::{ChangeView, List};
use crate::config::Sources;

/// Lists the newest changes.
pub(super) fn changes(sources: &Sources, limit: usize, as_json: bool) -> Result<String, Failure> {
    let found: List<ChangeView> = Running::require(sources)?.get(&["changes"], &[("limit", limit.to_string())])?;
    if as_json {
        return Ok(json_text(&json!(found.items)));
    }
    if found.items.is_empty() {
        return Ok("Nobody changed anything.\n".to_owned());
    }
    let head = ["WHEN (UTC)", "WHAT", "MESSAGES", "OF"].map(str::to_owned);
    let rows = found.items.iter().map(|one| {
        [
            utc(one.at_ms),
            cell(&one.verb),
            one.count.to_string(),
            cell(&one.subject),
        ]
    });
    Ok(table(std::iter::once(head).chain(rows)))
}
