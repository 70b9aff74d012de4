//! `sluicegate outbox` and `sluicegate dead`: what waits to be delivered, and what was given up.

use std::fmt::Write as _;

use serde_json::json;

use super::args::{DeadCommand, Json, OneOrAll, OutboxCommand};
use super::channel::unknown;
use super::failure::Failure;
use super::json_text;
use super::running::Running;
use super::text::{cell, cell_or_dash, from_now, table, utc};
use crate::admin::{Changed, DeliveryState, DeliveryView};
use crate::clock::{Clock as _, SystemClock, UnixMillis};
use crate::config::Sources;
use crate::shown::printable;
use crate::telemetry::tell;

/// Does what stands after `outbox`.
pub(super) fn outbox(command: OutboxCommand, sources: &Sources) -> Result<String, Failure> {
    let gateway = Running::require(sources)?;
    match command {
        OutboxCommand::List { channel, limit, json } => {
            let query = channel.clone().map(|channel| ("channel", channel));
            let found: Vec<DeliveryView> = gateway.list(&["outbox"], query.as_slice(), limit)?;
            doubt(&gateway, channel.as_deref(), found.is_empty());
            Ok(listed(&found, json, outbox_table))
        }
        OutboxCommand::Show { key, json } => {
            let letter: DeliveryView = gateway.get(&["outbox", &key], &[])?;
            Ok(shown(&letter, json, "message"))
        }
        OutboxCommand::Hold { key, json } => {
            let changed = gateway.post(&["outbox", &key, "hold"], None)?;
            let words = format!("{key} is held back; `sluicegate outbox release {key}` lets it go");
            Ok(changed_text(changed, json, &words))
        }
        OutboxCommand::Release { key, json } => {
            let changed = gateway.post(&["outbox", &key, "release"], None)?;
            let words = format!("{key} is due; `sluicegate trace {key}` shows what becomes of it");
            Ok(changed_text(changed, json, &words))
        }
        OutboxCommand::Drop { key, json } => {
            let changed = gateway.delete(&["outbox", &key])?;
            Ok(changed_text(changed, json, &format!("{key} is dropped")))
        }
    }
}

/// Does what stands after `dead`.
pub(super) fn dead(command: DeadCommand, sources: &Sources) -> Result<String, Failure> {
    let gateway = Running::require(sources)?;
    match command {
        DeadCommand::List { which, limit, json } => {
            let mut query: Vec<(&str, String)> = Vec::new();
            query.extend(which.channel.clone().map(|channel| ("channel", channel)));
            query.extend(which.reason.map(|reason| ("reason", reason)));
            let found: Vec<DeliveryView> = gateway.list(&["dead"], &query, limit)?;
            doubt(&gateway, which.channel.as_deref(), found.is_empty());
            Ok(listed(&found, json, dead_table))
        }
        DeadCommand::Show { key, json } => {
            let letter: DeliveryView = gateway.get(&["dead", &key], &[])?;
            Ok(shown(&letter, json, "dead letter"))
        }
        DeadCommand::Redrive(OneOrAll {
            key: Some(key), json, ..
        }) => {
            let changed = gateway.post(&["dead", &key, "redrive"], None)?;
            let words = format!("{key} is put back; `sluicegate trace {key}` shows what becomes of it");
            Ok(changed_text(changed, json, &words))
        }
        DeadCommand::Drop(OneOrAll {
            key: Some(key), json, ..
        }) => {
            let changed = gateway.delete(&["dead", &key])?;
            Ok(changed_text(changed, json, &format!("{key} is dropped")))
        }
        DeadCommand::Redrive(all) => {
            let changed: Changed = gateway.post(&["dead", "redrive"], Some(filter(&all)))?;
            doubt(&gateway, all.channel.as_deref(), changed.count == 0);
            Ok(changed_text(changed, all.json, &format!("put back: {}", changed.count)))
        }
        DeadCommand::Drop(all) => {
            let changed: Changed = gateway.post(&["dead", "drop"], Some(filter(&all)))?;
            doubt(&gateway, all.channel.as_deref(), changed.count == 0);
            Ok(changed_text(changed, all.json, &format!("dropped: {}", changed.count)))
        }
    }
}

/// Returns what a change came to: in words, or for a program the number of messages.
pub(super) fn changed_text(changed: Changed, json: Json, words: &str) -> String {
    if json.json {
        json_text(&json!(changed))
    } else {
        format!("{words}\n")
    }
}

/// Warns where nothing was found of a channel that is not there: that is rather a slip of the finger than an empty list.
/// What is left of a channel that was removed is found all the same.
fn doubt(gateway: &Running, channel: Option<&str>, found_nothing: bool) {
    let Some(name) = channel.filter(|_| found_nothing) else {
        return;
    };
    if let Ok(known) = gateway.channels()
        && !known.iter().any(|view| view.name.as_str() == name)
    {
        tell(unknown(name, known.iter().map(|view| view.name.as_str())).as_warning());
    }
}

fn filter(all: &OneOrAll) -> serde_json::Value {
    json!({ "channel": all.channel, "reason": all.reason })
}

fn listed(letters: &[DeliveryView], json: Json, table: fn(&[DeliveryView]) -> String) -> String {
    if json.json {
        json_text(&json!(letters))
    } else {
        table(letters)
    }
}

fn shown(letter: &DeliveryView, json: Json, what: &str) -> String {
    if json.json {
        json_text(&json!(letter))
    } else {
        letter_text(letter, what)
    }
}

fn outbox_table(letters: &[DeliveryView]) -> String {
    if letters.is_empty() {
        return "Nothing waits to be delivered.\n".to_owned();
    }
    let now = SystemClock.now_ms();
    let head = [
        "KEY",
        "STATE",
        "CHANNEL",
        "CONVERSATION",
        "ATTEMPTS",
        "DUE",
        "LAST FAILURE",
    ]
    .map(str::to_owned);
    let rows = letters.iter().map(|one| {
        [
            one.delivery_key.to_string(),
            state_word(one.state).to_owned(),
            place(one).0,
            place(one).1,
            one.attempts.to_string(),
            due_cell(one, now),
            cell_or_dash(one.reason.as_deref()),
        ]
    });
    table(std::iter::once(head).chain(rows))
}

fn due_cell(letter: &DeliveryView, now: UnixMillis) -> String {
    if let Some(why) = &letter.channel_waits {
        // The reason behind the colon is shown by `outbox show`.
        let word = why.split(':').next().unwrap_or(why);
        return format!("channel {}", printable(word));
    }
    match letter.due_at_ms {
        _ if letter.behind.is_some() => "behind another".to_owned(),
        Some(due) => from_now(due, now),
        None => "-".to_owned(),
    }
}

fn dead_table(letters: &[DeliveryView]) -> String {
    if letters.is_empty() {
        return "There are no dead letters.\n".to_owned();
    }
    let now = SystemClock.now_ms();
    let head = ["KEY", "CHANNEL", "CONVERSATION", "ATTEMPTS", "DIED", "WHY", "TEXT"].map(str::to_owned);
    let rows = letters.iter().map(|one| {
        [
            one.delivery_key.to_string(),
            place(one).0,
            place(one).1,
            one.attempts.to_string(),
            one.finished_at_ms
                .map_or_else(|| "-".to_owned(), |at| from_now(at, now)),
            cell_or_dash(one.reason.as_deref()),
            cell_or_dash(one.text.as_deref()),
        ]
    });
    table(std::iter::once(head).chain(rows))
}

fn letter_text(letter: &DeliveryView, what: &str) -> String {
    let mut text = format!("{what} {}\n", letter.delivery_key);
    let mut line = |key: &str, value: String| {
        // Writing to a String can't fail.
        let _ = writeln!(text, "  {key:<14} {value}");
    };
    let (channel, conversation) = place(letter);
    line("state", state_word(letter.state).to_owned());
    line("channel", channel);
    line("conversation", conversation);
    line("in reply to", cell_or_dash(letter.in_reply_to.as_deref()));
    line(
        "attempts",
        format!(
            "{}, of which {} without a known outcome",
            letter.attempts, letter.ambiguous
        ),
    );
    let stored = if letter.was_redriven { "put back" } else { "stored" };
    for (key, at) in [
        (stored, letter.created_at_ms),
        ("last attempt", letter.attempt_at_ms),
        ("due", letter.due_at_ms),
        ("expires", letter.expires_at_ms),
        ("died", letter.finished_at_ms),
    ] {
        if let Some(at) = at {
            line(key, format!("{} UTC", utc(at)));
        }
    }
    if let Some(head) = &letter.behind {
        line("behind", head.to_string());
    }
    if let Some(why) = &letter.channel_waits {
        line("its channel is", printable(why));
    }
    line("parts sent", letter.parts_sent.to_string());
    line(
        "why",
        letter.reason.as_deref().map_or_else(|| "-".to_owned(), printable),
    );
    text.push('\n');
    for line in letter.text.as_deref().unwrap_or_default().lines() {
        let _ = writeln!(text, "  {}", printable(line));
    }
    text
}

/// Returns the channel, and the conversation with its thread.
fn place(letter: &DeliveryView) -> (String, String) {
    let channel = cell_or_dash(letter.channel.as_ref().map(|channel| channel.as_str()));
    let conversation = cell_or_dash(letter.conversation.as_deref());
    match &letter.thread {
        Some(thread) => (channel, format!("{conversation}#{}", cell(thread))),
        None => (channel, conversation),
    }
}

/// Returns a state as people read it.
pub(super) fn state_word(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Pending => "pending",
        DeliveryState::Retrying => "retrying",
        DeliveryState::Held => "held",
        DeliveryState::Sending => "sending",
        DeliveryState::Awaiting => "awaiting confirmation",
        DeliveryState::Delivered => "delivered",
        DeliveryState::Dead => "dead",
        DeliveryState::Dropped => "dropped",
    }
}
