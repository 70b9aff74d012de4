//! `sluicegate trace`: the way of one message, so that "where is my reply?" is one command.

use std::fmt::Write as _;

use serde_json::json;

use super::failure::Failure;
use super::json_text;
use super::letters::state_word;
use super::running::Running;
use super::text::{cell, from_now, utc};
use crate::admin::{DeliveryState, DeliveryView, List, TraceView, TurnState, TurnView};
use crate::clock::{Clock as _, SystemClock, UnixMillis};
use crate::config::Sources;
use crate::shown::printable;

/// Traces a message by any of its ids.
pub(super) fn trace(sources: &Sources, id: &str, as_json: bool) -> Result<String, Failure> {
    let found: List<TraceView> = Running::require(sources)?.get(&["trace", id], &[])?;
    if as_json {
        return Ok(json_text(&json!(found.items)));
    }
    let now = SystemClock.now_ms();
    let texts: Vec<String> = found.items.iter().map(|one| trace_text(one, now)).collect();
    Ok(texts.join("\n"))
}

fn trace_text(trace: &TraceView, now: UnixMillis) -> String {
    let mut text = String::new();
    if let Some(turn) = &trace.inbound {
        turn_text(&mut text, turn, now);
    }
    for delivery in &trace.outbound {
        delivery_text(&mut text, delivery, now);
    }
    if trace.outbound.is_empty() {
        let is_done = trace.inbound.as_ref().is_some_and(|turn| turn.state == TurnState::Done);
        let words = if is_done {
            "Nothing goes out for it.\n"
        } else {
            "Nothing goes out for it so far.\n"
        };
        text.push_str(words);
    }
    text
}

/// Writes one step. Writing to a String can't fail.
fn step(text: &mut String, at: UnixMillis, what: &str) {
    let _ = writeln!(text, "  {}  {what}", utc(at));
}

/// Writes a step that has no time of its own.
fn remark(text: &mut String, what: &str) {
    let _ = writeln!(text, "  {:23}  {what}", "");
}

fn turn_text(text: &mut String, turn: &TurnView, now: UnixMillis) {
    let (message, channel) = (cell(&turn.message_id), &turn.channel);
    let _ = writeln!(
        text,
        "message {message} in channel {channel}: {}, session {}",
        turn.event,
        cell(turn.session.as_str())
    );
    step(text, turn.received_at_ms, "accepted, and stored");
    if turn.failures > 0 {
        remark(
            text,
            &format!(
                "failed runs of the agent: {}{}",
                turn.failures,
                because(turn.reason.as_deref())
            ),
        );
    }
    match (turn.state, turn.finished_at_ms, turn.due_at_ms) {
        (TurnState::Done, Some(at), _) => step(text, at, "done: what goes out for it is stored"),
        (TurnState::Dead, Some(at), _) => {
            step(
                text,
                at,
                "given up; to run it again: sluicegate inbox resubmit with its event",
            );
        }
        (TurnState::Waiting, _, Some(due)) if due > now => {
            remark(text, &format!("waits for the agent: runs {}", from_now(due, now)));
        }
        _ => remark(text, "waits for the agent, or is with it"),
    }
}

fn delivery_text(text: &mut String, delivery: &DeliveryView, now: UnixMillis) {
    let _ = writeln!(
        text,
        "delivery {}: {}",
        delivery.delivery_key,
        state_word(delivery.state)
    );
    if let Some(at) = delivery.created_at_ms {
        let what = if delivery.was_redriven {
            "put back by the operator"
        } else {
            "stored"
        };
        step(text, at, what);
    }
    if let Some(at) = delivery.attempt_at_ms {
        // One that ended with a request to wait, or found its channel down, is not counted.
        let what = match delivery.attempts {
            0 => "an attempt began, which does not count".to_owned(),
            attempts => format!("attempt {attempts} began"),
        };
        step(text, at, &what);
    }
    if delivery.parts_sent > 0 {
        remark(text, &format!("parts that the platform has: {}", delivery.parts_sent));
    }
    if delivery.ambiguous > 0 {
        remark(
            text,
            &format!("attempts without a known outcome: {}", delivery.ambiguous),
        );
    }
    match (delivery.state, delivery.finished_at_ms) {
        (DeliveryState::Delivered, Some(at)) => step(text, at, &format!("delivered{}", ids(&delivery.message_ids))),
        (DeliveryState::Dead | DeliveryState::Dropped, Some(at)) => {
            step(text, at, &format!("given up{}", because(delivery.reason.as_deref())));
            if delivery.state == DeliveryState::Dead {
                remark(
                    text,
                    &format!("to send it again: sluicegate dead redrive {}", delivery.delivery_key),
                );
            }
        }
        _ => waiting_text(text, delivery, now),
    }
}

/// Says what a message that is not delivered waits for.
fn waiting_text(text: &mut String, delivery: &DeliveryView, now: UnixMillis) {
    if let Some(reason) = &delivery.reason {
        remark(text, &format!("the last attempt failed{}", because(Some(reason))));
    }
    if delivery.state == DeliveryState::Held {
        let key = &delivery.delivery_key;
        remark(
            text,
            &format!("held back; to let it go: sluicegate outbox release {key}"),
        );
    }
    if let Some(why) = &delivery.channel_waits {
        remark(text, &format!("its channel is {}", printable(why)));
    }
    if let Some(head) = &delivery.behind {
        remark(
            text,
            &format!("waits for {head}, which goes before it in its conversation"),
        );
    } else if let Some(due) = delivery.due_at_ms.filter(|due| *due > now) {
        let due = from_now(due, now);
        let words = match delivery.state {
            DeliveryState::Awaiting => format!("handed over; without a confirmation its outcome is unknown {due}"),
            _ => format!("due {due}"),
        };
        remark(text, &words);
    }
}

fn because(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!(": {}", printable(reason)))
}

fn ids(message_ids: &[String]) -> String {
    if message_ids.is_empty() {
        return String::new();
    }
    let ids: Vec<String> = message_ids.iter().map(|id| cell(id)).collect();
    format!(", as the platform's {}", ids.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ChannelName, DeliveryKey, EventId, SessionKey};

    #[test]
    fn a_trace_reads_from_top_to_bottom() {
        let inbound = TurnView {
            event: EventId::from_trusted("evt_1"),
            channel: ChannelName::from_trusted("family"),
            message_id: "m1".into(),
            session: SessionKey::from_trusted("family/c1"),
            state: TurnState::Done,
            sender: None,
            text: None,
            received_at_ms: 0,
            due_at_ms: None,
            finished_at_ms: Some(1_500),
            failures: 1,
            reason: None,
        };
        let delivery: DeliveryView = serde_json::from_value(json!({
            "delivery_key": DeliveryKey::from_trusted("dlv_1"), "state": "retrying", "attempts": 2, "ambiguous": 1,
            "created_at_ms": 1_500, "attempt_at_ms": 61_000, "due_at_ms": 70_000, "reason": "no\u{1b}[2J answer",
        }))
        .expect("a delivery");
        let delivered = DeliveryView {
            state: DeliveryState::Delivered,
            reason: None,
            due_at_ms: None,
            finished_at_ms: Some(61_250),
            message_ids: vec!["41".into(), "42".into()],
            ..delivery.clone()
        };
        let trace = TraceView {
            inbound: Some(inbound),
            outbound: vec![delivered, delivery],
        };
        let expected = "message m1 in channel family: evt_1, session family/c1
  1970-01-01 00:00:00.000  accepted, and stored
                           failed runs of the agent: 1
  1970-01-01 00:00:01.500  done: what goes out for it is stored
delivery dlv_1: delivered
  1970-01-01 00:00:01.500  stored
  1970-01-01 00:01:01.000  attempt 2 began
                           attempts without a known outcome: 1
  1970-01-01 00:01:01.250  delivered, as the platform's 41, 42
delivery dlv_1: retrying
  1970-01-01 00:00:01.500  stored
  1970-01-01 00:01:01.000  attempt 2 began
                           attempts without a known outcome: 1
                           the last attempt failed: ";
        let text = trace_text(&trace, 62_000);
        assert!(text.starts_with(expected), "{text}");
        assert!(text.ends_with("due in 8 s\n") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_trace_says_what_a_message_waits_for() {
        let waiting = |more: serde_json::Value| {
            let mut delivery = json!({"delivery_key": "dlv_1", "state": "pending", "attempts": 0, "due_at_ms": 9_000});
            let more = more.as_object().cloned().unwrap_or_default();
            delivery.as_object_mut().expect("an object").extend(more);
            let mut text = String::new();
            delivery_text(&mut text, &serde_json::from_value(delivery).expect("a delivery"), 1_000);
            text
        };
        let behind = waiting(json!({"behind": "dlv_0"}));
        assert!(
            behind.contains("waits for dlv_0, which goes before it") && !behind.contains("due"),
            "{behind}"
        );
        let held = waiting(json!({"state": "held"}));
        assert!(held.contains("to let it go: sluicegate outbox release dlv_1"), "{held}");
        let paused = waiting(json!({"channel_waits": "paused: by the operator"}));
        assert!(
            paused.contains("its channel is paused: by the operator") && paused.contains("due in 8 s"),
            "{paused}"
        );
        let awaiting = waiting(json!({"state": "awaiting"}));
        assert!(
            awaiting.ends_with("handed over; without a confirmation its outcome is unknown in 8 s\n"),
            "{awaiting}"
        );
        let dead = waiting(json!({"state": "dead", "finished_at_ms": 500}));
        assert!(
            dead.ends_with("to send it again: sluicegate dead redrive dlv_1\n"),
            "{dead}"
        );
    }
}
