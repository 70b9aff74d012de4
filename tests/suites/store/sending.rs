//! What counts as sent: the mark, and what the end of the process makes of it.

use sluicegate::store::{DeliveryState, Dispatch, Error, EventStore};

use crate::Open;
use crate::fixtures::{NOW, ack, channel, claim, claim_one, enqueue, key, names, send_one};
use crate::outbox::retry_at;

pub(crate) async fn an_attempt_cut_short_is_ambiguous(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada")], NOW).await;
    send_one(&*store, NOW + 1).await;
    drop(store);
    let store = open();
    let second = send_one(&*store, NOW + 2).await;
    assert_eq!(
        (second.claim.attempt, second.ambiguous, second.ambiguous_at_ms),
        (2, 1, Some(NOW + 1))
    );
    drop(store);
    let third = claim_one(&*open(), NOW + 3).await;
    assert_eq!(
        (third.claim.attempt, third.ambiguous, third.ambiguous_at_ms),
        (3, 2, Some(NOW + 2))
    );
}

pub(crate) async fn a_claim_of_which_nothing_left_never_was(open: Open<'_>) {
    let counted = |one: &Dispatch| (one.claim.attempt, one.ambiguous, one.ambiguous_at_ms);
    let store = open();
    enqueue(&*store, &[("1", "ada")], NOW).await;
    drop(store);
    // The second round is about a lane in which something was tried.
    for expected in [(1, 0, None), (3, 1, Some(NOW + 2))] {
        for now in [NOW + 1, NOW + 1, NOW + 1] {
            let store = open();
            assert_eq!(counted(&claim_one(&*store, now).await), expected);
            let shown = store.delivery(&key("1")).await.expect("read").expect("it is there");
            assert_eq!(
                (
                    shown.attempts + 1,
                    shown.ambiguous,
                    shown.state == DeliveryState::Sending
                ),
                (expected.0, expected.1, false)
            );
        }
        if expected.0 == 1 {
            let store = open();
            retry_at(&*store, &send_one(&*store, NOW + 1).await, NOW + 1).await;
            send_one(&*store, NOW + 2).await;
        }
    }
}

pub(crate) async fn a_mark_changes_only_the_attempt_that_it_is_of(open: Open<'_>) {
    let store = open();
    let family = channel("family");
    let state = async |store: &dyn EventStore| {
        let shown = store.delivery(&key("1")).await.expect("read").expect("it is there");
        (shown.state, shown.attempts, shown.attempt_at_ms)
    };
    enqueue(&*store, &[("1", "ada"), ("2", "ada")], NOW).await;
    let first = claim_one(&*store, NOW).await;
    assert_eq!(state(&*store).await, (DeliveryState::Pending, 0, None));
    for at in [NOW + 1, NOW + 2] {
        store.lazy_mark_sending(first.claim, at).await.expect("mark");
        assert_eq!(
            state(&*store).await,
            (DeliveryState::Sending, 1, Some(NOW + 1)),
            "made once"
        );
    }
    retry_at(&*store, &first, NOW + 3).await;
    let stale = store.lazy_mark_sending(first.claim, NOW + 3).await;
    assert!(matches!(stale, Err(Error::Stale)), "{stale:?}");
    let second = claim_one(&*store, NOW + 3).await;
    assert_eq!(state(&*store).await, (DeliveryState::Retrying, 1, Some(NOW + 1)));
    // The first attempt has arrived after all, and the platform says so before anything of the second has left.
    assert!(
        store
            .confirm(&family, &key("1"), Ok(()), NOW + 4)
            .await
            .expect("confirm")
    );
    store
        .lazy_mark_sending(second.claim, NOW + 5)
        .await
        .expect("nothing to mark");
    assert_eq!(state(&*store).await.0, DeliveryState::Delivered);
    ack(&*store, &second).await;
    assert_eq!(names(&claim(&*store, NOW + 5).await), ["2"]);
}
