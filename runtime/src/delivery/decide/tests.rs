//! The table of what follows from what.

use super::*;
use crate::event::{Action, Conversation, ConversationKind, OutboundEvent, Purpose};
use crate::id::{ChannelName, DeliveryKey};
use crate::store::{DeliveryClaim, Standing};

const NOW: UnixMillis = 1_000_000_000;
const BEGAN: UnixMillis = NOW - 400;
const MINUTE: UnixMillis = 60_000;

const NOTHING: Guarantees = Guarantees {
    deduplicates_for: None,
    reconciles: false,
    ambiguous_resends: 1,
    at_most_once: false,
};
const HOLDS: Guarantees = Guarantees {
    ambiguous_resends: 0,
    ..NOTHING
};
const RECONCILES: Guarantees = Guarantees {
    reconciles: true,
    ..HOLDS
};
const FIVE_MINUTES: Guarantees = Guarantees {
    deduplicates_for: Some(Duration::from_secs(300)),
    ..HOLDS
};
const TRIED: Tried = Tried {
    began_at: BEGAN,
    now: NOW,
    jitter: 0.0,
};

fn asked_since(since: UnixMillis) -> Preparation {
    Preparation::AskFirst { since }
}

fn dispatch(attempt: u32, ambiguous: u32, age_ms: i64) -> Dispatch {
    Dispatch {
        claim: DeliveryClaim { row: 1, attempt },
        standing: Standing::New,
        event: OutboundEvent {
            key: DeliveryKey::from_trusted("dlv_1"),
            channel: ChannelName::from_trusted("family"),
            conversation: Conversation {
                id: "c1".to_owned(),
                thread: None,
                kind: ConversationKind::Direct,
                title: None,
            },
            action: Action::Send,
            purpose: Purpose::Answer,
            in_reply_to: None,
            text: "hi".to_owned(),
            attachments: Vec::new(),
            choices: Vec::new(),
            cause: None,
            extra: Vec::new(),
        },
        already_sent: Vec::new(),
        ambiguous,
        ambiguous_at_ms: (ambiguous > 0).then_some(NOW - age_ms),
        created_at_ms: NOW - 2 * age_ms,
    }
}

fn failed(failure: Failure, bytes_left: bool) -> Attempt {
    Attempt {
        result: Err(failure),
        bytes_left,
    }
}

fn reported(error: DeliveryError, bytes_left: bool) -> Attempt {
    failed(Failure::Reported(error), bytes_left)
}

fn receipt(confirmation: Confirmation) -> Receipt {
    Receipt {
        message_ids: vec!["m7".to_owned()],
        confirmation,
    }
}

fn unavailable() -> DeliveryError {
    DeliveryError::Unavailable("503".to_owned())
}

fn ambiguous() -> DeliveryError {
    DeliveryError::Ambiguous("cut".to_owned())
}

fn limited(retry_after_ms: u64, scope: WaitScope) -> DeliveryError {
    DeliveryError::RateLimited { retry_after_ms, scope }
}

/// Writes a decision in a few words, so that a table of them can be read.
fn words(decision: &Decision) -> String {
    match decision {
        Decision::Ack(_) => "ack".to_owned(),
        Decision::Await { deadline, .. } => format!("await +{}", deadline - NOW),
        Decision::Again(again) => {
            let floor = if again.floor { " floor" } else { "" };
            let channel = match again.channel {
                ChannelEffect::None => String::new(),
                ChannelEffect::HoldUntil(until) => format!(" hold +{}", until - NOW),
                ChannelEffect::Pause => " pause".to_owned(),
            };
            format!("{:?} +{}{floor}{channel}", again.attempted, again.due - NOW)
        }
        Decision::Bury(reason) if reason.starts_with("outcome unknown") => "bury unknown".to_owned(),
        Decision::Bury(_) => "bury".to_owned(),
    }
}

#[track_caller]
fn check(attempt: Attempt, dispatch: &Dispatch, guarantees: &Guarantees, expected: &str) {
    assert_eq!(words(&after_attempt(attempt, dispatch, guarantees, TRIED)), expected);
}

#[test]
fn a_receipt_ends_it_or_starts_the_wait_for_the_confirmation() {
    let done = Attempt {
        result: Ok(receipt(Confirmation::Complete)),
        bytes_left: false,
    };
    check(done, &dispatch(1, 0, 0), &NOTHING, "ack");
    for (attempt, expected) in [
        (1, "await +30000"),
        (3, "await +60000"),
        (4, "await +300000"),
        (99, "await +21600000"),
    ] {
        let handed = Attempt {
            result: Ok(receipt(Confirmation::Awaited)),
            bytes_left: false,
        };
        check(handed, &dispatch(attempt, 0, 0), &NOTHING, expected);
    }
}

#[test]
fn what_the_host_saw_overrules_what_the_guest_says() {
    let first = dispatch(1, 0, 0);
    let failures = [
        Failure::Reported(unavailable()),
        Failure::Reported(ambiguous()),
        Failure::Trapped("unreachable".to_owned()),
        Failure::DeadlineExceeded,
    ];
    for failure in failures {
        check(failed(failure.clone(), false), &first, &NOTHING, "Failed +2000");
        check(failed(failure.clone(), false), &first, &HOLDS, "Failed +2000");
        check(failed(failure.clone(), true), &first, &NOTHING, "Ambiguous +2000");
        check(failed(failure, true), &first, &HOLDS, "bury unknown");
    }
}

#[test]
fn failures_follow_the_schedule_and_its_last_wait_repeats() {
    let waits = [
        (1, 2),
        (2, 10),
        (3, 60),
        (4, 300),
        (5, 1800),
        (6, 7200),
        (7, 21_600),
        (8, 21_600),
        (1000, 21_600),
    ];
    for (attempt, seconds) in waits {
        let expected = format!("Failed +{}", seconds * 1000);
        check(
            reported(unavailable(), false),
            &dispatch(attempt, 0, 0),
            &NOTHING,
            &expected,
        );
    }
    let late = after_attempt(
        reported(unavailable(), false),
        &dispatch(2, 0, 0),
        &NOTHING,
        Tried { jitter: -1.0, ..TRIED },
    );
    assert_eq!(words(&late), "Failed +8000");
}

#[test]
fn what_can_never_be_delivered_dies_at_once() {
    for bytes_left in [false, true] {
        check(
            reported(DeliveryError::Rejected("too long".to_owned()), bytes_left),
            &dispatch(1, 0, 0),
            &NOTHING,
            "bury",
        );
        let gone = DeliveryError::NoSuchConversation("blocked".to_owned());
        check(
            reported(gone, bytes_left),
            &dispatch(3, 1, MINUTE),
            &FIVE_MINUTES,
            "bury",
        );
    }
}

#[test]
fn a_rate_limit_is_a_clamped_floor_that_costs_no_attempt() {
    let first = dispatch(1, 0, 0);
    check(
        reported(limited(7000, WaitScope::Conversation), false),
        &first,
        &NOTHING,
        "NotAtAll +7000 floor",
    );
    check(
        reported(limited(7000, WaitScope::Channel), false),
        &first,
        &NOTHING,
        "NotAtAll +7000 floor hold +7000",
    );
    check(
        reported(limited(0, WaitScope::Conversation), false),
        &first,
        &NOTHING,
        "NotAtAll +500 floor",
    );
    check(
        reported(limited(u64::MAX, WaitScope::Conversation), false),
        &first,
        &NOTHING,
        "NotAtAll +3600000 floor",
    );
    check(
        reported(limited(7000, WaitScope::Conversation), true),
        &first,
        &NOTHING,
        "Ambiguous +7000 floor",
    );
}

#[test]
fn refused_credentials_pause_the_channel_and_cost_no_attempt() {
    let refused = || DeliveryError::Unauthorized("401".to_owned());
    check(
        reported(refused(), false),
        &dispatch(1, 0, 0),
        &NOTHING,
        "NotAtAll +1000 pause",
    );
    check(
        reported(refused(), true),
        &dispatch(1, 0, 0),
        &NOTHING,
        "Ambiguous +1000 pause",
    );
}

#[test]
fn a_channel_that_is_not_up_costs_no_attempt() {
    check(
        failed(Failure::NotUp, false),
        &dispatch(4, 0, 0),
        &NOTHING,
        "NotAtAll +1000",
    );
    check(
        failed(Failure::NotUp, true),
        &dispatch(4, 0, 0),
        &NOTHING,
        "NotAtAll +1000",
    );
}

#[test]
fn a_request_that_the_gateway_had_no_place_for_costs_no_attempt() {
    let first = dispatch(4, 0, 0);
    check(failed(Failure::NoPlace, false), &first, &NOTHING, "NotAtAll +1000");
    check(
        failed(Failure::NoPlace, true),
        &dispatch(1, 0, 0),
        &NOTHING,
        "Ambiguous +2000",
    );
}

#[test]
fn unknown_outcomes_are_repeated_as_far_as_copies_are_removed_found_or_allowed() {
    let cut = || reported(ambiguous(), true);
    // Attempt, earlier unknown ones, age of the last; what the channel promises; what follows.
    let rows: [(u32, u32, i64, Guarantees, &str); 13] = [
        (1, 0, 0, NOTHING, "Ambiguous +2000"),
        (2, 1, MINUTE, NOTHING, "bury unknown"),
        (
            2,
            1,
            MINUTE,
            Guarantees {
                ambiguous_resends: 2,
                ..NOTHING
            },
            "Ambiguous +10000",
        ),
        (
            3,
            2,
            MINUTE,
            Guarantees {
                ambiguous_resends: 2,
                ..NOTHING
            },
            "bury unknown",
        ),
        (1, 0, 0, HOLDS, "bury unknown"),
        (1, 0, 0, FIVE_MINUTES, "Ambiguous +2000"),
        (2, 1, MINUTE, FIVE_MINUTES, "Ambiguous +10000"),
        // The next wait would be five minutes: the key is used once more before the platform forgets it.
        (4, 1, MINUTE, FIVE_MINUTES, "Ambiguous +239999"),
        (2, 1, 5 * MINUTE, FIVE_MINUTES, "bury unknown"),
        (
            2,
            1,
            5 * MINUTE,
            Guarantees {
                ambiguous_resends: 2,
                ..FIVE_MINUTES
            },
            "Ambiguous +10000",
        ),
        (
            2,
            1,
            5 * MINUTE,
            Guarantees {
                reconciles: true,
                ..FIVE_MINUTES
            },
            "Ambiguous +10000",
        ),
        (9, 8, 5 * MINUTE, RECONCILES, "Ambiguous +21600000"),
        // The window is counted from the creation when the first unknown attempt is not known: 2 x 3 minutes here.
        (3, 2, 3 * MINUTE, FIVE_MINUTES, "bury unknown"),
    ];
    for (attempt, unknown, age_ms, guarantees, expected) in rows {
        let claimed = dispatch(attempt, unknown, age_ms);
        let decision = after_attempt(cut(), &claimed, &guarantees, TRIED);
        assert_eq!(
            words(&decision),
            expected,
            "attempt {attempt}, {unknown} unknown, {age_ms} ms, {guarantees:?}"
        );
    }
}

#[test]
fn nothing_with_an_unknown_outcome_goes_out_again_unless_allowed() {
    let rows: [(u32, i64, Guarantees, Preparation); 9] = [
        (0, 0, HOLDS, Preparation::Send),
        (1, MINUTE, NOTHING, Preparation::Send),
        (1, MINUTE, FIVE_MINUTES, Preparation::Send),
        (1, MINUTE, RECONCILES, asked_since(NOW - MINUTE)),
        (5, MINUTE, RECONCILES, asked_since(NOW - 2 * MINUTE)),
        (
            1,
            5 * MINUTE,
            Guarantees {
                reconciles: true,
                ..FIVE_MINUTES
            },
            asked_since(NOW - 5 * MINUTE),
        ),
        (2, MINUTE, NOTHING, Preparation::Bury(String::new())),
        (1, MINUTE, HOLDS, Preparation::Bury(String::new())),
        (1, 5 * MINUTE, FIVE_MINUTES, Preparation::Bury(String::new())),
    ];
    for (unknown, age_ms, guarantees, expected) in rows {
        let prepared = match prepare(&dispatch(unknown + 1, unknown, age_ms), &guarantees, NOW) {
            Preparation::Bury(reason) => {
                assert!(reason.starts_with("outcome unknown"), "{reason}");
                Preparation::Bury(String::new())
            }
            other => other,
        };
        assert_eq!(prepared, expected, "{unknown} unknown, {age_ms} ms, {guarantees:?}");
    }
}

#[test]
fn a_confirmation_that_did_not_come_is_an_unknown_outcome() {
    // The store counts each attempt that was handed over and not confirmed.
    let unconfirmed = |attempt, times| dispatch(attempt, times, 30_000);
    assert_eq!(prepare(&unconfirmed(2, 1), &FIVE_MINUTES, NOW), Preparation::Send);
    assert_eq!(prepare(&unconfirmed(2, 1), &RECONCILES, NOW), asked_since(NOW - 30_000));
    assert_eq!(prepare(&unconfirmed(2, 1), &NOTHING, NOW), Preparation::Send);
    assert_eq!(
        prepare(&unconfirmed(4, 1), &NOTHING, NOW),
        Preparation::Send,
        "attempts that failed for certain use up no resends"
    );
    assert!(
        matches!(prepare(&unconfirmed(3, 2), &NOTHING, NOW), Preparation::Bury(_)),
        "copies are bounded"
    );
    assert!(matches!(prepare(&unconfirmed(2, 1), &HOLDS, NOW), Preparation::Bury(_)));
}

#[test]
fn what_the_component_finds_out_decides() {
    let claimed = |unknown| dispatch(unknown + 1, unknown, MINUTE);
    let found = |finding, unknown, guarantees: &Guarantees| {
        after_finding(finding, &claimed(unknown), guarantees, NOW).map(|decision| words(&decision))
    };
    let complete = || Finding::Delivered(receipt(Confirmation::Complete));
    assert_eq!(found(complete(), 1, &RECONCILES).as_deref(), Some("ack"));
    let awaited = Finding::Delivered(receipt(Confirmation::Awaited));
    assert_eq!(found(awaited, 1, &RECONCILES).as_deref(), Some("await +30000"));
    assert_eq!(
        found(Finding::NotDelivered(Vec::new()), 7, &RECONCILES),
        None,
        "it may be sent"
    );
    let one = Guarantees {
        ambiguous_resends: 1,
        ..RECONCILES
    };
    assert_eq!(found(Finding::Unknown, 1, &one), None, "one copy may be risked");
    assert_eq!(found(Finding::Unknown, 2, &one).as_deref(), Some("bury unknown"));
    assert_eq!(found(Finding::Unknown, 1, &RECONCILES).as_deref(), Some("bury unknown"));
}

#[test]
fn a_reason_is_cut_at_a_character() {
    let long = "é".repeat(limit::REASON_BYTES_MAX);
    let decision = after_attempt(
        reported(DeliveryError::Unavailable(long), false),
        &dispatch(1, 0, 0),
        &NOTHING,
        TRIED,
    );
    let Decision::Again(again) = decision else {
        panic!("{decision:?}")
    };
    assert!((limit::REASON_BYTES_MAX - 1..=limit::REASON_BYTES_MAX).contains(&again.reason.len()));
}
