//! What follows from an attempt: a pure function of what was promised, what was reported and what the host saw.
//!
//! The order of precedence, first match wins:
//!
//! | seen | follows |
//! | --- | --- |
//! | a receipt | done, or wait for the confirmation |
//! | `rejected`, `no-such-conversation` | dead at once |
//! | `unauthorized` | the channel pauses; the message waits |
//! | anything else, and what left got no answer, or none that the guest could read | the outcome is unknown: [`Repeat`] |
//! | `rate-limited` | the conversation or the channel waits; costs no attempt |
//! | the channel was not up, or the gateway had no place for its request | tried again soon; costs no attempt |
//! | anything else, and nothing left unanswered | failed: tried again by the schedule, until the store lets it expire |

use std::time::Duration;

use super::{Attempt, Failure, Finding, Guarantees};
use crate::clock::{UnixMillis, millis};
use crate::event::{Confirmation, DeliveryError, Receipt, WaitScope};
use crate::limit;
use crate::retry;
use crate::store::{Attempted, Dispatch};

/// What to do before a message may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preparation {
    /// Send it.
    Send,
    /// Ask the component first what became of the earlier attempts.
    AskFirst {
        /// No attempt without a known outcome began before.
        since: UnixMillis,
    },
    /// Give it up, for this reason.
    Bury(String),
}

/// What becomes of a message after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is delivered.
    Ack(Receipt),
    /// It was handed over; the confirmation is awaited until the deadline.
    Await {
        /// What the platform gave so far.
        receipt: Receipt,
        /// When it is due again without one.
        deadline: UnixMillis,
    },
    /// It is tried again.
    Again(Again),
    /// It is given up, for this reason.
    Bury(String),
}

/// When and why a message is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// When.
    pub due: UnixMillis,
    /// Whether nothing may make it due earlier.
    pub floor: bool,
    /// How the attempt counts.
    pub attempted: Attempted,
    /// Why it is needed, in words for the operator.
    pub reason: String,
    /// What it means for the whole channel.
    pub channel: ChannelEffect,
}

/// What an attempt means for the other messages of its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelEffect {
    /// Nothing.
    None,
    /// None of them is sent before this time.
    HoldUntil(UnixMillis),
    /// None of them is sent until the operator resumes the channel.
    Pause,
}

/// How a message whose outcome is unknown may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// With the same key: the platform drops the copy until this time.
    SameKey { until: UnixMillis },
    /// After the component was asked.
    AskFirst,
    /// Though it may make a copy: the channel allows so many.
    AtRisk,
    /// Not at all.
    Never,
}

/// Returns how a message may be tried again after `unknown` attempts (at least 1) without a known outcome, the first of
/// which began at `since` or later.
fn repeat(unknown: u32, since: UnixMillis, guarantees: &Guarantees, now: UnixMillis) -> Repeat {
    let window_end = guarantees
        .deduplicates_for
        .map(|window| since.saturating_add(millis(window)));
    match window_end {
        Some(until) if now < until => Repeat::SameKey { until },
        _ if guarantees.reconciles => Repeat::AskFirst,
        _ => repeat_unasked(unknown, guarantees),
    }
}

/// As [`repeat`], where neither the platform nor the component can help.
fn repeat_unasked(unknown: u32, guarantees: &Guarantees) -> Repeat {
    if unknown <= guarantees.ambiguous_resends {
        Repeat::AtRisk
    } else {
        Repeat::Never
    }
}

/// Returns a time before which no attempt without a known outcome began.
fn unknown_since(dispatch: &Dispatch) -> UnixMillis {
    match dispatch.ambiguous_at_ms {
        // The store keeps when the last one began: with a single one, that is the first.
        Some(at) if dispatch.ambiguous == 1 => at,
        _ => dispatch.created_at_ms,
    }
}

/// Decides whether a claimed message may be sent.
pub fn prepare(dispatch: &Dispatch, guarantees: &Guarantees, now: UnixMillis) -> Preparation {
    let unknown = dispatch.ambiguous;
    if unknown == 0 {
        return Preparation::Send;
    }
    let since = unknown_since(dispatch);
    match repeat(unknown, since, guarantees, now) {
        Repeat::SameKey { .. } | Repeat::AtRisk => Preparation::Send,
        Repeat::AskFirst => Preparation::AskFirst { since },
        Repeat::Never => Preparation::Bury(unknown_outcome(unknown, "not sent again")),
    }
}

/// Decides what follows from the component's finding: a decision, or none when the message may be sent.
pub fn after_finding(
    finding: Finding,
    dispatch: &Dispatch,
    guarantees: &Guarantees,
    now: UnixMillis,
) -> Option<Decision> {
    let unknown = dispatch.ambiguous;
    match finding {
        Finding::Delivered(receipt) => Some(after_receipt(receipt, dispatch, now)),
        Finding::NotDelivered(_) => None,
        Finding::Unknown => match repeat_unasked(unknown, guarantees) {
            Repeat::AtRisk => None,
            _ => Some(Decision::Bury(unknown_outcome(
                unknown,
                "the component could not find out",
            ))),
        },
    }
}

/// An attempt that is over.
#[derive(Debug, Clone, Copy)]
pub struct Tried {
    /// When it began.
    pub began_at: UnixMillis,
    /// When it ended.
    pub now: UnixMillis,
    /// Moves the wait before the next one, from -1 to 1: see [`retry::jittered`].
    pub jitter: f64,
}

/// Decides what follows from an attempt.
pub fn after_attempt(attempt: Attempt, dispatch: &Dispatch, guarantees: &Guarantees, tried: Tried) -> Decision {
    let failure = match attempt.result {
        Ok(receipt) => return after_receipt(receipt, dispatch, tried.now),
        Err(failure) => failure,
    };
    let unanswered = attempt.bytes_left;
    match failure {
        Failure::Reported(error @ (DeliveryError::Rejected(_) | DeliveryError::NoSuchConversation(_))) => {
            Decision::Bury(bounded(error.to_string()))
        }
        Failure::Reported(error @ DeliveryError::Unauthorized(_)) => not_tried(
            retry::after(tried.now, limit::NOT_UP_WAIT),
            false,
            error.to_string(),
            ChannelEffect::Pause,
            unanswered,
        ),
        Failure::Reported(DeliveryError::RateLimited { retry_after_ms, scope }) => {
            after_rate_limit(retry_after_ms, scope, unanswered, tried.now)
        }
        Failure::NotUp => not_tried(
            retry::after(tried.now, limit::NOT_UP_WAIT),
            false,
            "the channel is not up".to_owned(),
            ChannelEffect::None,
            false,
        ),
        failed @ Failure::NoPlace if !unanswered => not_tried(
            retry::after(tried.now, limit::NOT_UP_WAIT),
            false,
            failure_reason(&failed),
            ChannelEffect::None,
            false,
        ),
        failed => {
            let reason = failure_reason(&failed);
            if unanswered {
                after_unknown(reason, dispatch, guarantees, tried)
            } else {
                again(next_due(dispatch, tried), Attempted::Failed, reason)
            }
        }
    }
}

/// Decides what follows where an attempt could not begin.
pub fn not_begun(now: UnixMillis, reason: String) -> Decision {
    not_tried(
        retry::after(now, limit::NOT_UP_WAIT),
        false,
        reason,
        ChannelEffect::None,
        false,
    )
}

fn after_receipt(receipt: Receipt, dispatch: &Dispatch, now: UnixMillis) -> Decision {
    match receipt.confirmation {
        Confirmation::Complete => Decision::Ack(receipt),
        Confirmation::Awaited => {
            // Grows with the attempts, so that a client that never confirms is not sent the same thing all day.
            let planned = retry::planned_wait(&limit::RETRY_SCHEDULE, dispatch.claim.attempt);
            let wait = planned.max(limit::CONFIRMATION_TIMEOUT);
            Decision::Await {
                receipt,
                deadline: retry::after(now, wait),
            }
        }
    }
}

fn after_rate_limit(retry_after_ms: u64, scope: WaitScope, unanswered: bool, now: UnixMillis) -> Decision {
    let wait = Duration::from_millis(retry_after_ms).clamp(limit::RATE_LIMIT_WAIT_MIN, limit::RATE_LIMIT_WAIT_MAX);
    let due = retry::after(now, wait);
    let effect = match scope {
        WaitScope::Conversation => ChannelEffect::None,
        WaitScope::Channel => ChannelEffect::HoldUntil(due),
    };
    let reason = format!("the platform asked to wait {} ms", wait.as_millis());
    not_tried(due, true, reason, effect, unanswered)
}

/// An attempt that was turned away as a whole. Where another request of it is unanswered, its outcome is unknown all
/// the same; whether it may be repeated is then decided when it is claimed.
fn not_tried(due: UnixMillis, floor: bool, reason: String, channel: ChannelEffect, unanswered: bool) -> Decision {
    let attempted = if unanswered {
        Attempted::Ambiguous
    } else {
        Attempted::NotAtAll
    };
    Decision::Again(Again {
        due,
        floor,
        attempted,
        reason: bounded(reason),
        channel,
    })
}

fn after_unknown(reason: String, dispatch: &Dispatch, guarantees: &Guarantees, tried: Tried) -> Decision {
    let before = dispatch.ambiguous;
    let since = if before == 0 {
        tried.began_at
    } else {
        unknown_since(dispatch)
    };
    let unknown = before.saturating_add(1);
    let due = next_due(dispatch, tried);
    match repeat(unknown, since, guarantees, tried.now) {
        // Rather early than after the platform has forgotten the key.
        Repeat::SameKey { until } => again(
            due.min(until.saturating_sub(1)).max(tried.now),
            Attempted::Ambiguous,
            reason,
        ),
        Repeat::AskFirst | Repeat::AtRisk => again(due, Attempted::Ambiguous, reason),
        Repeat::Never => Decision::Bury(unknown_outcome(unknown, &reason)),
    }
}

fn again(due: UnixMillis, attempted: Attempted, reason: String) -> Decision {
    Decision::Again(Again {
        due,
        floor: false,
        attempted,
        reason: bounded(reason),
        channel: ChannelEffect::None,
    })
}

fn next_due(dispatch: &Dispatch, tried: Tried) -> UnixMillis {
    let planned = retry::planned_wait(&limit::RETRY_SCHEDULE, dispatch.claim.attempt);
    retry::after(tried.now, retry::jittered(planned, tried.jitter))
}

fn failure_reason(failure: &Failure) -> String {
    match failure {
        Failure::Reported(error) => error.to_string(),
        Failure::Trapped(why) => format!("the component trapped: {why}"),
        Failure::DeadlineExceeded => "the component took too long".to_owned(),
        Failure::NotUp => "the channel is not up".to_owned(),
        Failure::NoPlace => "too many other requests of the channel wait for their answers".to_owned(),
    }
}

fn unknown_outcome(unknown: u32, detail: &str) -> String {
    let attempts = if unknown == 1 {
        "1 attempt".to_owned()
    } else {
        format!("{unknown} attempts")
    };
    bounded(format!(
        "outcome unknown: {attempts} left the host, and may have arrived; {detail}"
    ))
}

/// Cuts a reason to what the store keeps of it.
fn bounded(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(limit::REASON_BYTES_MAX));
    reason
}

#[cfg(test)]
mod tests;
