//! What follows from a failed turn: a pure function of the failure and of how often the turn failed before.

use std::time::Duration;

use super::{AgentError, Disposition};
use crate::limit;
use crate::retry;

/// What becomes of a turn that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It runs again.
    Again {
        /// After this long.
        wait: Duration,
        /// Whether it may not run earlier, whatever happens: the model's server asked for the wait.
        floor: bool,
        /// Whether the person is told that the answer will be late.
        tell: bool,
    },
    /// It is given up.
    GiveUp,
}

/// Decides what follows from the failure of a turn that failed `failures_before` times before. `jitter` is from -1 to 1.
pub(super) fn next(error: &AgentError, failures_before: u32, jitter: f64) -> Next {
    let failures = failures_before.saturating_add(1);
    let planned = retry::planned_wait(&limit::TURN_RETRY_SCHEDULE, failures);
    let (wait, failures_max) = match error.disposition() {
        Disposition::GiveUp => return Next::GiveUp,
        Disposition::Retry => (planned, limit::TURN_FAILURES_MAX),
        Disposition::RetryAfter(after) => (
            planned.max(after.min(limit::TURN_RATE_LIMIT_WAIT_MAX)),
            limit::TURN_FAILURES_MAX,
        ),
        Disposition::RetryFewTimes => (planned, limit::TURN_TIMED_OUT_MAX),
        Disposition::Misconfigured => (
            planned.max(limit::TURN_MISCONFIGURED_WAIT_MIN),
            limit::TURN_FAILURES_MAX,
        ),
    };
    if failures >= failures_max {
        return Next::GiveUp;
    }
    // What the server asked for is a floor.
    let floor = matches!(error.disposition(), Disposition::RetryAfter(_));
    let jitter = if floor { jitter.abs() } else { jitter };
    Next::Again {
        wait: retry::jittered(wait, jitter),
        floor,
        tell: wait >= limit::TURN_NOTICE_WAIT_MIN,
    }
}

/// What a person is told when an answer will be late.
pub(super) fn delayed_words(error: &AgentError) -> &'static str {
    match error.disposition() {
        Disposition::Misconfigured => {
            "The agent can't answer at the moment: something in its configuration has to be corrected first. \
             Your message is kept and will be tried again."
        }
        Disposition::RetryAfter(_) => {
            "The agent is very busy at the moment. Your message is kept and will be answered a little later."
        }
        _ => "The agent can't be reached at the moment. Your message is kept and will be tried again.",
    }
}

/// What a person is told when there will be no answer.
pub(super) fn given_up_words(error: &AgentError) -> &'static str {
    match error {
        AgentError::Refused(_) => "The agent could not take this message, and trying again would not help.",
        AgentError::TimedOut(_) => {
            "The agent did not finish an answer to this message in time. Please try a shorter question."
        }
        _ => {
            "The agent could not be reached for a long time, so this message stays without an answer. Please send it again later."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable() -> AgentError {
        AgentError::Unreachable("refused".to_owned())
    }

    fn limited(seconds: u64) -> AgentError {
        AgentError::RateLimited {
            after: Some(Duration::from_secs(seconds)),
            detail: String::new(),
        }
    }

    #[track_caller]
    fn check(error: &AgentError, failures_before: u32, jitter: f64, expected: Option<(u64, bool)>) {
        let actual = match next(error, failures_before, jitter) {
            Next::Again { wait, tell, .. } => Some((wait.as_secs(), tell)),
            Next::GiveUp => None,
        };
        assert_eq!(actual, expected, "{error}, failed {failures_before} times before");
    }

    #[test]
    fn failures_follow_the_schedule_until_the_turn_is_given_up() {
        let waits = [
            (2, false),
            (10, true),
            (60, true),
            (300, true),
            (900, true),
            (1800, true),
            (3600, true),
        ];
        for (before, (seconds, tell)) in (0_u32..).zip(waits) {
            check(&unreachable(), before, 0.0, Some((seconds, tell)));
        }
        check(&unreachable(), limit::TURN_FAILURES_MAX - 1, 0.0, None);
        check(&AgentError::Panicked, 0, 0.0, Some((2, false)));
        check(&unreachable(), 2, -1.0, Some((48, true)));
    }

    #[test]
    fn a_rate_limit_is_a_floor_with_an_upper_bound() {
        check(&limited(30), 0, 0.0, Some((30, true)));
        check(&limited(30), 0, -1.0, Some((36, true)));
        check(&limited(1), 0, 0.0, Some((2, false)));
        assert!(matches!(next(&limited(1), 0, 0.0), Next::Again { floor: true, .. }));
        assert!(matches!(next(&unreachable(), 0, 0.0), Next::Again { floor: false, .. }));
        check(&limited(u64::MAX), 0, 0.0, Some((3600, true)));
        let unsaid = AgentError::RateLimited {
            after: None,
            detail: String::new(),
        };
        check(&unsaid, 0, 0.0, Some((2, false)));
    }

    #[test]
    fn what_only_the_operator_can_correct_is_told_at_once_and_tried_slowly() {
        let wrong_key = AgentError::Misconfigured("401".to_owned());
        check(&wrong_key, 0, 0.0, Some((60, true)));
        check(&wrong_key, 3, 0.0, Some((300, true)));
        check(&wrong_key, limit::TURN_FAILURES_MAX - 1, 0.0, None);
    }

    #[test]
    fn a_refusal_ends_it_and_timeouts_soon() {
        check(&AgentError::Refused("too long".to_owned()), 0, 0.0, None);
        let timed_out = AgentError::TimedOut(limit::TURN_TIMEOUT);
        check(&timed_out, limit::TURN_TIMED_OUT_MAX - 2, 0.0, Some((10, true)));
        check(&timed_out, limit::TURN_TIMED_OUT_MAX - 1, 0.0, None);
    }
}
