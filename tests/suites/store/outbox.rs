//! Lanes, attempts, confirmations and dead letters.

use sluicegate::clock::millis;
use sluicegate::event::{DeliveryError, SentPart};
use sluicegate::limit;
use sluicegate::store::{Ask, Attempted, DeliveryClaim, Dispatch, Error, EventStore};

use crate::Open;
use crate::fixtures::{
    NOW, accept, ack, channel, claim, claim_one, conversation, dead_letters, drop_dead, enqueue, key, names, outbound,
    receipt, redrive, send_one,
};

pub(crate) async fn retry_at(store: &dyn EventStore, dispatch: &Dispatch, due: i64) {
    store
        .lazy_reschedule(dispatch.claim, due, false, Attempted::Failed, "down", NOW)
        .await
        .expect("reschedule");
}

pub(crate) async fn await_until(store: &dyn EventStore, dispatch: &Dispatch, deadline: i64) {
    let handed_over = receipt(&["m"]);
    store
        .lazy_await_confirmation(dispatch.claim, handed_over, deadline, NOW)
        .await
        .expect("await");
}

pub(crate) async fn a_lane_is_sent_in_order_one_at_a_time(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada"), ("2", "ada"), ("3", "bob")], NOW).await;
    let mut thread = outbound("4", "ada");
    thread.conversation = conversation("ada", Some("thread"));
    store.enqueue(vec![thread], NOW).await.expect("enqueue");
    let first = claim(&*store, NOW).await;
    let mut heads = names(&first);
    heads.sort_unstable();
    assert_eq!(heads, ["1", "3", "4"], "a thread is a lane of its own");
    assert!(claim(&*store, NOW).await.is_empty(), "a lane in flight has no head");
    let ada = first
        .iter()
        .find(|one| names(std::slice::from_ref(one)) == ["1"])
        .expect("head 1");
    assert_eq!((ada.claim.attempt, ada.ambiguous, ada.created_at_ms), (1, 0, NOW));
    assert_eq!(ada.event, outbound("1", "ada"), "it comes out as it went in");
    ack(&*store, ada).await;
    assert_eq!(names(&claim(&*store, NOW).await), ["2"]);
}

pub(crate) async fn a_stuck_lane_delays_no_other(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada"), ("2", "ada"), ("3", "bob"), ("4", "bob")], NOW).await;
    for dispatch in claim(&*store, NOW).await {
        match dispatch.event.conversation.id.as_str() {
            "ada" => retry_at(&*store, &dispatch, NOW + 50).await,
            _ => ack(&*store, &dispatch).await,
        }
    }
    assert_eq!(
        names(&claim(&*store, NOW + 49).await),
        ["4"],
        "the head blocks its own lane only"
    );
    assert_eq!(names(&claim(&*store, NOW + 50).await), ["1"]);
}

pub(crate) async fn a_known_key_is_never_stored_again(open: Open<'_>) {
    let store = open();
    for name in ["waiting", "delivered", "dead", "dropped"] {
        enqueue(&*store, &[(name, name)], NOW).await;
    }
    for dispatch in claim(&*store, NOW).await {
        match names(std::slice::from_ref(&dispatch))[0] {
            "delivered" => ack(&*store, &dispatch).await,
            "waiting" => retry_at(&*store, &dispatch, NOW + 99).await,
            _ => store.bury(dispatch.claim, "no", NOW).await.expect("bury"),
        }
    }
    assert!(drop_dead(&*store, "dropped").await);
    drop(store);
    let store = open();
    let before = store.depth();
    enqueue(
        &*store,
        &[
            ("waiting", "x"),
            ("delivered", "x"),
            ("dead", "x"),
            ("dropped", "x"),
            ("new", "x"),
        ],
        NOW,
    )
    .await;
    assert_eq!(names(&claim(&*store, NOW).await), ["new"]);
    assert_eq!(store.depth().outbox, before.outbox + 1);
}

pub(crate) async fn an_old_claim_is_stale(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada")], NOW).await;
    let old = claim_one(&*store, NOW).await;
    retry_at(&*store, &old, NOW).await;
    let new = claim_one(&*store, NOW).await;
    for claim in [
        old.claim,
        DeliveryClaim {
            row: new.claim.row + 1,
            attempt: 1,
        },
    ] {
        let results = [
            store.lazy_ack(claim, receipt(&[]), NOW).await,
            store.lazy_await_confirmation(claim, receipt(&[]), NOW, NOW).await,
            store
                .lazy_reschedule(claim, NOW, true, Attempted::Failed, "", NOW)
                .await,
            store.bury(claim, "", NOW).await,
        ];
        assert!(
            results.iter().all(|result| matches!(result, Err(Error::Stale))),
            "{results:?}"
        );
    }
    assert_eq!((store.depth().outbox, store.depth().dead), (1, 0));
    ack(&*store, &new).await;
    let twice = store.lazy_ack(new.claim, receipt(&[]), NOW).await;
    assert!(matches!(twice, Err(Error::Stale)), "{twice:?}");
}

pub(crate) async fn attempts_count_as_they_ended(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada")], NOW).await;
    let mut expected = (1, 0, None);
    for (at, attempted) in [
        Attempted::Failed,
        Attempted::Ambiguous,
        Attempted::NotAtAll,
        Attempted::Ambiguous,
    ]
    .into_iter()
    .enumerate()
    {
        let began = NOW + i64::try_from(at).expect("small");
        let dispatch = claim_one(&*store, began).await;
        assert_eq!(
            (dispatch.claim.attempt, dispatch.ambiguous, dispatch.ambiguous_at_ms),
            expected
        );
        store
            .lazy_reschedule(dispatch.claim, began, false, attempted, "why", began)
            .await
            .expect("reschedule");
        match attempted {
            Attempted::NotAtAll => {}
            Attempted::Failed => expected.0 += 1,
            Attempted::Ambiguous => expected = (expected.0 + 1, expected.1 + 1, Some(began)),
        }
    }
    drop(store);
    let last = claim_one(&*open(), NOW + 9).await;
    assert_eq!((last.claim.attempt, last.ambiguous, last.ambiguous_at_ms), expected);
}

pub(crate) async fn a_retry_waits_for_its_time_or_for_a_sign_of_life(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada"), ("2", "bob")], NOW).await;
    for dispatch in claim(&*store, NOW).await {
        retry_at(&*store, &dispatch, NOW + 1_000).await;
    }
    accept(&*store, &[("m1", "ada")], NOW + 1).await;
    let early = claim_one(&*store, NOW + 1).await;
    assert_eq!(
        names(std::slice::from_ref(&early)),
        ["1"],
        "only the conversation that spoke"
    );
    retry_at(&*store, &early, NOW + 1_000).await;
    accept(&*store, &[("m1", "ada")], NOW + 2).await;
    assert!(
        claim(&*store, NOW + 2).await.is_empty(),
        "a duplicate is no sign of life"
    );
    assert_eq!(claim(&*store, NOW + 1_000).await.len(), 2);
}

pub(crate) async fn a_rate_limit_is_a_floor(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada")], NOW).await;
    let dispatch = claim_one(&*store, NOW).await;
    let wait = store
        .lazy_reschedule(dispatch.claim, NOW + 100, true, Attempted::NotAtAll, "429", NOW)
        .await;
    wait.expect("reschedule");
    drop(store);
    let store = open();
    accept(&*store, &[("m1", "ada")], NOW + 1).await;
    store
        .reachable(&channel("family"), "ada", None, NOW + 1)
        .await
        .expect("reachable");
    enqueue(&*store, &[("2", "ada")], NOW + 1).await;
    assert!(claim(&*store, NOW + 99).await.is_empty());
    assert_eq!(
        store.next_head_due(&[channel("family")]).await.expect("next"),
        Some(NOW + 100)
    );
    assert_eq!(names(&claim(&*store, NOW + 100).await), ["1"]);
}

pub(crate) async fn an_expired_head_is_buried_and_its_lane_goes_on(open: Open<'_>) {
    let store = open();
    let expiry = NOW + millis(limit::DELIVERY_EXPIRY);
    enqueue(&*store, &[("1", "ada")], NOW).await;
    enqueue(&*store, &[("2", "ada")], NOW + 10).await;
    let heads = store
        .lazy_claim_heads(&[Ask::unbounded(channel("family"))], 9, expiry)
        .await
        .expect("claim");
    assert_eq!(names(&heads.dispatches), ["2"]);
    let expired = heads.expired.first().expect("the claim tells of what it buries");
    assert_eq!(
        (&expired.event, expired.attempts, expired.died_at_ms),
        (&outbound("1", "ada"), 0, expiry)
    );
    let dead = dead_letters(&*store, 9).await;
    assert_eq!((dead.len(), dead[0].attempts, dead[0].died_at_ms), (1, 0, expiry));
    assert_eq!(dead[0].event, outbound("1", "ada"));
    assert!(dead[0].reason.contains("expired"), "{}", dead[0].reason);
    assert_eq!((store.depth().outbox, store.depth().dead), (1, 1));
}

pub(crate) async fn a_retry_is_never_put_past_the_expiry(open: Open<'_>) {
    let store = open();
    let expiry = NOW + millis(limit::DELIVERY_EXPIRY);
    for (name, floor) in [("plain", false), ("floor", true)] {
        enqueue(&*store, &[(name, name)], NOW).await;
        let dispatch = claim_one(&*store, NOW).await;
        let failed = Attempted::Failed;
        store
            .lazy_reschedule(dispatch.claim, i64::MAX, floor, failed, "down", NOW)
            .await
            .expect("reschedule");
        assert_eq!(
            store.next_head_due(&[channel("family")]).await.expect("next"),
            Some(expiry)
        );
    }
    assert!(claim(&*store, expiry).await.is_empty());
    assert_eq!(store.depth().dead, 2);
}

pub(crate) async fn an_awaited_confirmation_does_not_block_the_lane(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada"), ("2", "ada")], NOW).await;
    await_until(&*store, &claim_one(&*store, NOW).await, NOW + 30).await;
    assert_eq!(store.depth().outbox, 2, "it is not delivered yet");
    ack(&*store, &claim_one(&*store, NOW).await).await;
    enqueue(&*store, &[("3", "ada")], NOW).await;
    assert_eq!(names(&claim(&*store, NOW).await), ["3"]);
}

pub(crate) async fn an_unconfirmed_delivery_goes_before_later_ones(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada"), ("2", "ada"), ("3", "ada")], NOW).await;
    await_until(&*store, &claim_one(&*store, NOW).await, NOW + 30).await;
    retry_at(&*store, &claim_one(&*store, NOW).await, NOW + 20).await;
    drop(store);
    let store = open();
    assert!(claim(&*store, NOW + 19).await.is_empty());
    let again = claim_one(&*store, NOW + 30).await;
    assert_eq!(names(std::slice::from_ref(&again)), ["1"]);
    assert_eq!(
        (again.claim.attempt, again.ambiguous, again.ambiguous_at_ms),
        (2, 1, Some(NOW)),
        "nobody knows what became of the first attempt"
    );
    retry_at(&*store, &again, NOW + 40).await;
    assert!(claim(&*store, NOW + 39).await.is_empty(), "now it is the head again");
    let third = claim_one(&*store, NOW + 40).await;
    assert_eq!(
        third.ambiguous, 1,
        "the second failed for certain, so the first alone counts"
    );
    ack(&*store, &third).await;
    let second = claim_one(&*store, NOW + 40).await;
    assert_eq!((names(std::slice::from_ref(&second)), second.ambiguous), (vec!["2"], 0));
}

pub(crate) async fn a_confirmation_settles_once_and_only_its_channel(open: Open<'_>) {
    let store = open();
    let family = channel("family");
    enqueue(&*store, &[("1", "ada"), ("2", "ada")], NOW).await;
    assert!(
        !store.confirm(&family, &key("1"), Ok(()), NOW).await.expect("confirm"),
        "it was never sent"
    );
    await_until(&*store, &claim_one(&*store, NOW).await, NOW + 30).await;
    assert!(
        !store
            .confirm(&channel("work"), &key("1"), Ok(()), NOW)
            .await
            .expect("confirm")
    );
    assert!(
        !store
            .confirm(&family, &key("nobody"), Ok(()), NOW)
            .await
            .expect("confirm")
    );
    drop(store);
    let store = open();
    assert!(store.confirm(&family, &key("1"), Ok(()), NOW).await.expect("confirm"));
    assert!(!store.confirm(&family, &key("1"), Ok(()), NOW).await.expect("confirm"));
    assert_eq!(store.depth().outbox, 1);
    assert_eq!(names(&claim(&*store, NOW + 1_000).await), ["2"]);
}

pub(crate) async fn a_confirmation_may_come_before_the_attempt_ends(open: Open<'_>) {
    let store = open();
    let family = channel("family");
    enqueue(&*store, &[("1", "ada"), ("2", "ada")], NOW).await;
    let dispatch = send_one(&*store, NOW).await;
    assert!(store.confirm(&family, &key("1"), Ok(()), NOW).await.expect("confirm"));
    assert!(claim(&*store, NOW).await.is_empty(), "the attempt still holds the lane");
    await_until(&*store, &dispatch, NOW + 30).await;
    assert_eq!(store.depth().outbox, 1);
    assert_eq!(
        names(&claim(&*store, NOW + 30).await),
        ["2"],
        "the first is not sent again"
    );
}

pub(crate) async fn a_refused_confirmation_makes_a_dead_letter(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada")], NOW).await;
    await_until(&*store, &claim_one(&*store, NOW).await, NOW + 30).await;
    let bounced = Err(DeliveryError::Rejected("mailbox full".into()));
    assert!(
        store
            .confirm(&channel("family"), &key("1"), bounced, NOW + 1)
            .await
            .expect("confirm")
    );
    let dead = dead_letters(&*store, 9).await;
    assert_eq!((dead.len(), dead[0].attempts, dead[0].died_at_ms), (1, 1, NOW + 1));
    assert!(dead[0].reason.contains("mailbox full"), "{}", dead[0].reason);
    assert!(claim(&*store, NOW + 30).await.is_empty());
}

pub(crate) async fn reachable_ends_every_wait_of_the_conversation(open: Open<'_>) {
    let store = open();
    let family = channel("family");
    let mut thread = outbound("thread", "ada");
    thread.conversation = conversation("ada", Some("t"));
    enqueue(&*store, &[("awaiting", "ada"), ("retry", "ada"), ("other", "bob")], NOW).await;
    store.enqueue(vec![thread], NOW).await.expect("enqueue");
    for dispatch in claim(&*store, NOW).await {
        await_until(&*store, &dispatch, NOW + 1_000).await;
    }
    retry_at(&*store, &claim_one(&*store, NOW).await, NOW + 1_000).await;
    store
        .reachable(&family, "ada", Some("t"), NOW + 1)
        .await
        .expect("reachable");
    let only = claim_one(&*store, NOW + 1).await;
    assert_eq!(
        (names(std::slice::from_ref(&only)), only.ambiguous),
        (vec!["thread"], 1)
    );
    await_until(&*store, &only, NOW + 1_000).await;
    store.reachable(&family, "ada", None, NOW + 2).await.expect("reachable");
    let both = claim(&*store, NOW + 2).await;
    let mut heads = names(&both);
    heads.sort_unstable();
    assert_eq!(heads, ["awaiting", "thread"], "what was sent first goes first");
    for dispatch in &both {
        ack(&*store, dispatch).await;
    }
    assert_eq!(names(&claim(&*store, NOW + 2).await), ["retry"]);
}

pub(crate) async fn parts_survive_a_restart(open: Open<'_>) {
    let store = open();
    let part = |index, id: &str| SentPart {
        index,
        message_id: id.to_owned(),
    };
    enqueue(&*store, &[("1", "ada")], NOW).await;
    assert!(claim_one(&*store, NOW).await.already_sent.is_empty());
    for sent in [part(1, "m1"), part(0, "m0"), part(1, "m1b")] {
        store
            .part_sent(&channel("family"), &key("1"), sent)
            .await
            .expect("part");
    }
    drop(store);
    let again = claim_one(&*open(), NOW).await;
    assert_eq!(again.already_sent, [part(0, "m0"), part(1, "m1b")]);
}

pub(crate) async fn a_part_of_nothing_in_flight_changes_nothing(open: Open<'_>) {
    let store = open();
    let family = channel("family");
    let part = SentPart {
        index: 0,
        message_id: "m0".into(),
    };
    enqueue(&*store, &[("1", "ada")], NOW).await;
    store.part_sent(&family, &key("1"), part.clone()).await.expect("part");
    let dispatch = claim_one(&*store, NOW).await;
    assert!(dispatch.already_sent.is_empty());
    store
        .part_sent(&channel("work"), &key("1"), part.clone())
        .await
        .expect("part");
    store.part_sent(&family, &key("nobody"), part).await.expect("part");
    retry_at(&*store, &dispatch, NOW).await;
    assert!(claim_one(&*store, NOW).await.already_sent.is_empty());
}

pub(crate) async fn a_dead_letter_can_be_redriven(open: Open<'_>) {
    let store = open();
    let later = NOW + millis(limit::DELIVERY_EXPIRY) * 3;
    enqueue(&*store, &[("1", "ada")], NOW).await;
    let dispatch = claim_one(&*store, NOW).await;
    let part = SentPart {
        index: 0,
        message_id: "m0".into(),
    };
    store
        .part_sent(&channel("family"), &key("1"), part.clone())
        .await
        .expect("part");
    store.bury(dispatch.claim, "no", NOW).await.expect("bury");
    assert!(!redrive(&*store, "nobody", later).await);
    drop(store);
    let store = open();
    assert!(redrive(&*store, "1", later).await);
    assert!(!redrive(&*store, "1", later).await, "it is no dead letter any more");
    assert_eq!((store.depth().outbox, store.depth().dead), (1, 0));
    let again = claim_one(&*store, later).await;
    assert_eq!(
        (again.claim.attempt, again.ambiguous, again.created_at_ms),
        (1, 0, later)
    );
    assert_eq!(again.already_sent, [part], "what the platform has is not sent again");
    ack(&*store, &again).await;
    assert_eq!(store.depth().outbox, 0);
}

pub(crate) async fn a_dropped_dead_letter_stays_dropped(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada")], NOW).await;
    assert!(!drop_dead(&*store, "1").await, "it is not dead");
    store
        .bury(claim_one(&*store, NOW).await.claim, "no", NOW)
        .await
        .expect("bury");
    assert!(drop_dead(&*store, "1").await);
    assert!(!drop_dead(&*store, "1").await);
    assert!(!redrive(&*store, "1", NOW).await);
    assert!(dead_letters(&*store, 9).await.is_empty());
    assert_eq!(store.depth().dead, 0);
}

pub(crate) async fn dead_letters_come_newest_first(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada"), ("2", "bob"), ("3", "eve")], NOW).await;
    let mut claimed = claim(&*store, NOW).await;
    claimed.sort_by_key(|one| one.event.key.clone());
    for (after, which) in [(1, 2), (2, 0), (3, 1)] {
        store
            .bury(claimed[which].claim, &format!("reason {which}"), NOW + after)
            .await
            .expect("bury");
    }
    let dead = dead_letters(&*store, 2).await;
    let reasons: Vec<_> = dead.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(reasons, ["reason 1", "reason 0"]);
}
