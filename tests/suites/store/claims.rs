//! Which lane heads a claim hands out, and which of them first.

use sluicegate::store::{Ask, EventStore, Places, Standing};

use crate::Open;
use crate::fixtures::{NOW, ack, channel, claim, claim_one, enqueue, names, outbound};
use crate::outbox::{await_until, retry_at};

pub(crate) async fn channels_take_turns(open: Open<'_>) {
    let store = open();
    let channels = [channel("family"), channel("work")];
    let flood = (0..20)
        .map(|n| outbound(&format!("f{n}"), &format!("place{n}")))
        .collect();
    store.enqueue(flood, NOW).await.expect("enqueue");
    let other = (0..2).map(|n| {
        let mut event = outbound(&format!("w{n}"), &format!("place{n}"));
        event.channel = channel("work");
        event
    });
    store.enqueue(other.collect(), NOW + 5).await.expect("enqueue");
    let claimed = store
        .lazy_claim_heads(&channels.map(Ask::unbounded), 4, NOW + 5)
        .await
        .expect("claim")
        .dispatches;
    let of_work = claimed
        .iter()
        .filter(|one| one.event.channel == channel("work"))
        .count();
    assert_eq!(
        (claimed.len(), of_work),
        (4, 2),
        "a flood in one channel leaves room for the other"
    );
}

pub(crate) async fn the_longest_due_lane_comes_first(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("late", "ada")], NOW + 5).await;
    enqueue(&*store, &[("early", "bob")], NOW).await;
    let family = [Ask::unbounded(channel("family"))];
    for expected in ["early", "late"] {
        let heads = store.lazy_claim_heads(&family, 1, NOW + 9).await.expect("claim");
        assert_eq!(names(&heads.dispatches), [expected]);
        assert_eq!(heads.next_due, Some(NOW + 9), "there may be more");
    }
}

pub(crate) async fn only_the_named_channels_are_served(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada")], NOW).await;
    let work = [channel("work")];
    for asks in [vec![Ask::unbounded(channel("work"))], Vec::new()] {
        let heads = store.lazy_claim_heads(&asks, 9, NOW).await.expect("claim");
        assert!(heads.dispatches.is_empty());
    }
    assert_eq!(store.next_head_due(&work).await.expect("next"), None);
    assert_eq!(names(&claim(&*store, NOW).await), ["1"]);
}

pub(crate) async fn the_next_due_head_is_known(open: Open<'_>) {
    let store = open();
    let family = [channel("family")];
    assert_eq!(store.next_head_due(&family).await.expect("next"), None);
    enqueue(&*store, &[("1", "ada")], NOW).await;
    enqueue(&*store, &[("2", "bob")], NOW + 7).await;
    assert_eq!(store.next_head_due(&family).await.expect("next"), Some(NOW));
    let heads = store
        .lazy_claim_heads(&[Ask::unbounded(channel("family"))], 9, NOW)
        .await
        .expect("claim");
    let next = store.next_head_due(&family).await.expect("next");
    assert_eq!(next, Some(NOW + 7), "lanes in flight do not count");
    assert_eq!(heads.next_due, next, "a claim of all that is due says when more is");
    let first = heads.dispatches.into_iter().next().expect("one is due");
    await_until(&*store, &first, NOW + 3).await;
    assert_eq!(store.next_head_due(&family).await.expect("next"), Some(NOW + 3));
}

/// Claims within these places what is due in channel `family`, and says when more is due.
async fn claim_within(store: &dyn EventStore, places: Places, now: i64) -> (Vec<String>, Option<i64>) {
    let family = Ask {
        channel: channel("family"),
        places,
    };
    let heads = store.lazy_claim_heads(&[family], 100, now).await.expect("claim");
    let mut claimed: Vec<String> = names(&heads.dispatches).into_iter().map(str::to_owned).collect();
    claimed.sort();
    (claimed, heads.next_due)
}

pub(crate) async fn a_claim_stays_within_the_places_for_each_standing(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("proof", "good"), ("t1", "bad"), ("t2", "worse")], NOW).await;
    for dispatch in claim(&*store, NOW).await {
        assert_eq!(dispatch.standing, Standing::New, "{}", dispatch.event.conversation.id);
        match dispatch.event.conversation.id.as_str() {
            "good" => ack(&*store, &dispatch).await,
            _ => retry_at(&*store, &dispatch, NOW + 1).await,
        }
    }
    enqueue(&*store, &[("n1", "one"), ("n2", "two"), ("p1", "good")], NOW + 2).await;
    let proven_only = Places {
        all: 9,
        ..Places::default()
    };
    assert_eq!(
        claim_within(&*store, proven_only, NOW + 9).await,
        (vec!["p1".to_owned()], None)
    );
    let none_tried = Places {
        all: 9,
        unproven: 1,
        tried: 0,
    };
    let (claimed, next) = claim_within(&*store, none_tried, NOW + 9).await;
    assert_eq!(
        (claimed.len(), next),
        (1, None),
        "{claimed:?}: for the others there is no place"
    );
    let one_tried = Places {
        all: 9,
        unproven: 9,
        tried: 1,
    };
    let (claimed, next) = claim_within(&*store, one_tried, NOW + 9).await;
    assert_eq!(
        (claimed.len(), next),
        (2, None),
        "{claimed:?}: the new one, and one that was tried"
    );
    let (last, next) = claim_within(&*store, Places::UNBOUNDED, NOW + 9).await;
    assert_eq!((last.len(), next), (1, None), "{last:?}");
}

pub(crate) async fn a_lane_that_fails_is_no_longer_known_to_deliver(open: Open<'_>) {
    let store = open();
    let standing = async |name: &str| {
        enqueue(&*store, &[(name, "ada")], NOW).await;
        claim_one(&*store, NOW).await
    };
    let first = standing("1").await;
    assert_eq!(first.standing, Standing::New);
    ack(&*store, &first).await;
    let second = standing("2").await;
    assert_eq!(second.standing, Standing::Proven);
    retry_at(&*store, &second, NOW + 5).await;
    let again = claim_one(&*store, NOW + 5).await;
    assert_eq!(again.standing, Standing::Tried);
    store.bury(again.claim, "gone", NOW + 5).await.expect("bury");
    assert_eq!(standing("3").await.standing, Standing::New);
}
