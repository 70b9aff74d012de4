//! What channels keep, what is swept, and the store as a whole.

use sluicegate::clock::millis;
use sluicegate::event::{Notice, OutboundEvent};
use sluicegate::limit;
use sluicegate::store::{Accepted, Ask, Attempted, Change, Error, Quota};

use crate::Open;
use crate::fixtures::{
    NOW, accept, ack, change, channel, claim, claim_one, claim_turns, dead_letters, end_of, enqueue, inbound, key,
    outbound, receipt,
};

pub(crate) async fn state_is_kept_for_each_channel(open: Open<'_>) {
    let store = open();
    let (family, work) = (channel("family"), channel("work"));
    store
        .state_set(&family, "k", Some(b"one".to_vec()), Quota::default())
        .await
        .expect("set");
    store
        .state_set(&family, "k", Some(b"two".to_vec()), Quota::default())
        .await
        .expect("set");
    store
        .state_set(&family, "gone", Some(Vec::new()), Quota::default())
        .await
        .expect("set");
    assert_eq!(
        store.state_get(&family, "gone").await.expect("get"),
        Some(Vec::new()),
        "empty is a value"
    );
    store
        .state_set(&family, "gone", None, Quota::default())
        .await
        .expect("set");
    drop(store);
    let store = open();
    assert_eq!(
        store.state_get(&family, "k").await.expect("get").as_deref(),
        Some(&b"two"[..])
    );
    assert_eq!(store.state_get(&family, "gone").await.expect("get"), None);
    assert_eq!(store.state_get(&work, "k").await.expect("get"), None);
}

pub(crate) async fn a_swap_needs_the_expected_value(open: Open<'_>) {
    let store = open();
    let family = channel("family");
    let value = |text: &str| Some(text.as_bytes().to_vec());
    assert!(
        !store
            .state_swap(&family, "k", value("a"), value("b"), Quota::default())
            .await
            .expect("swap")
    );
    assert!(
        store
            .state_swap(&family, "k", None, value("a"), Quota::default())
            .await
            .expect("swap")
    );
    assert!(
        !store
            .state_swap(&family, "k", None, value("b"), Quota::default())
            .await
            .expect("swap")
    );
    assert!(
        store
            .state_swap(&family, "k", value("a"), value("b"), Quota::default())
            .await
            .expect("swap")
    );
    assert_eq!(store.state_get(&family, "k").await.expect("get"), value("b"));
    assert!(
        store
            .state_swap(&family, "k", value("b"), None, Quota::default())
            .await
            .expect("swap")
    );
    assert_eq!(store.state_get(&family, "k").await.expect("get"), None);
}

pub(crate) async fn keys_are_listed_by_prefix(open: Open<'_>) {
    let store = open();
    let family = channel("family");
    for key in ["b", "a/2", "a/1", "a", "a0", "ä"] {
        store
            .state_set(&family, key, Some(vec![1]), Quota::default())
            .await
            .expect("set");
    }
    store
        .state_set(&channel("work"), "a/3", Some(vec![1]), Quota::default())
        .await
        .expect("set");
    assert_eq!(store.state_keys(&family, "a/").await.expect("keys"), ["a/1", "a/2"]);
    assert_eq!(
        store.state_keys(&family, "").await.expect("keys"),
        ["a", "a/1", "a/2", "a0", "b", "ä"]
    );
    assert!(store.state_keys(&family, "c").await.expect("keys").is_empty());
}

pub(crate) async fn state_has_quotas(open: Open<'_>) {
    let store = open();
    let family = channel("family");
    let is_quota = |result: Result<(), Error>| assert!(matches!(result, Err(Error::Quota(_))), "{result:?}");
    let long_key = "k".repeat(limit::STATE_KEY_BYTES_MAX + 1);
    is_quota(
        store
            .state_set(&family, &long_key, Some(vec![1]), Quota::default())
            .await,
    );
    is_quota(
        store
            .state_set(
                &family,
                "k",
                Some(vec![0; limit::STATE_VALUE_BYTES_MAX + 1]),
                Quota::default(),
            )
            .await,
    );

    let value = vec![0; limit::STATE_VALUE_BYTES_MAX];
    let fitting = usize::try_from(limit::STATE_BYTES_DEFAULT).expect("small") / (value.len() + 3);
    for n in 0..fitting {
        store
            .state_set(&family, &format!("{n:03}"), Some(value.clone()), Quota::default())
            .await
            .expect("within the quota");
    }
    is_quota(
        store
            .state_set(&family, "more", Some(value.clone()), Quota::default())
            .await,
    );
    assert_eq!(store.state_get(&family, "more").await.expect("get"), None);
    store
        .state_set(&family, "000", Some(value.clone()), Quota::default())
        .await
        .expect("replacing takes no more");
    store
        .state_set(&channel("work"), "more", Some(value.clone()), Quota::default())
        .await
        .expect("the quota is the channel's own");
    store
        .state_set(&family, "000", None, Quota::default())
        .await
        .expect("delete");
    drop(store);
    let store = open();
    store
        .state_set(&family, "new", Some(value.clone()), Quota::default())
        .await
        .expect("what was deleted is free again");
    is_quota(store.state_set(&family, "more", Some(value), Quota::default()).await);

    let narrow = Quota {
        state_keys: 1,
        ..Quota::default()
    };
    let garden = channel("garden");
    let kept = store.state_set(&garden, "first", Some(vec![1]), narrow).await;
    kept.expect("within the quota");
    is_quota(store.state_set(&garden, "second", Some(vec![1]), narrow).await);
    let replaced = store.state_set(&garden, "first", Some(vec![2]), narrow).await;
    replaced.expect("a key that is there is no further one");
}

pub(crate) async fn a_blob_is_read_by_its_channel_only(open: Open<'_>) {
    let store = open();
    let family = channel("family");
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let blob = store
        .blob_put(&family, "image/png", bytes.clone(), Quota::default(), NOW)
        .await
        .expect("put");
    let empty = store
        .blob_put(&family, "text/plain", Vec::new(), Quota::default(), NOW)
        .await
        .expect("put");
    drop(store);
    let store = open();
    assert_eq!(
        store.blob_get(&family, &blob).await.expect("get"),
        Some(("image/png".into(), bytes))
    );
    assert_eq!(
        store.blob_get(&family, &empty).await.expect("get"),
        Some(("text/plain".into(), Vec::new()))
    );
    assert_eq!(store.blob_get(&channel("work"), &blob).await.expect("get"), None);
    for unknown in ["blob_0", "../sluicegate.db", ""] {
        assert_eq!(store.blob_get(&family, unknown).await.expect("get"), None);
    }
}

pub(crate) async fn blobs_have_quotas(open: Open<'_>) {
    let store = open();
    let too_large = store
        .blob_put(
            &channel("family"),
            "x/y",
            vec![0; limit::BLOB_BYTES_MAX + 1],
            Quota::default(),
            NOW,
        )
        .await;
    assert!(matches!(too_large, Err(Error::Quota(_))), "{too_large:?}");
}

pub(crate) async fn what_is_past_its_retention_is_swept(open: Open<'_>) {
    let store = open();
    let family = channel("family");
    accept(&*store, &[("1", "ada")], NOW).await;
    let turn = claim_turns(&*store, NOW).await.remove(0);
    store
        .commit_turn(turn.fence, end_of(&turn, vec![outbound("a", "ada")]), NOW)
        .await
        .expect("commit");
    ack(&*store, &claim_one(&*store, NOW).await).await;
    let blob = store
        .blob_put(&family, "x/y", vec![1], Quota::default(), NOW)
        .await
        .expect("put");

    let long = [limit::INBOX_RETENTION, limit::RECEIPT_RETENTION, limit::BLOB_RETENTION]
        .into_iter()
        .max();
    let later = NOW + millis(long.expect("not empty"));
    let first = [limit::INBOX_RETENTION, limit::RECEIPT_RETENTION, limit::BLOB_RETENTION]
        .into_iter()
        .min();
    assert_eq!(
        store
            .sweep(NOW + millis(first.expect("not empty")) - 1)
            .await
            .expect("sweep"),
        0
    );
    assert_eq!(
        store.sweep(later).await.expect("sweep"),
        3,
        "the event, the receipt and the blob"
    );
    assert_eq!(store.sweep(later).await.expect("sweep"), 0);
    assert_eq!(store.blob_get(&family, &blob).await.expect("get"), None);
    let again = store
        .accept(&family, vec![inbound("1", "ada")], None, later)
        .await
        .expect("accept");
    assert_eq!(again, [Accepted::New], "its id is forgotten");
    enqueue(&*store, &[("a", "ada")], later).await;
    assert_eq!(claim(&*store, later).await.len(), 1, "its key is forgotten");
}

pub(crate) async fn what_is_waiting_is_never_swept(open: Open<'_>) {
    let store = open();
    accept(&*store, &[("1", "ada"), ("2", "bob")], NOW).await;
    enqueue(&*store, &[("a", "ada"), ("dead", "bob")], NOW).await;
    for dispatch in claim(&*store, NOW).await {
        if dispatch.event.conversation.id == "bob" {
            store.bury(dispatch.claim, "no", NOW).await.expect("bury");
        }
    }
    let much_later = NOW + millis(limit::RECEIPT_RETENTION) * 9;
    let before = store.depth();
    assert_eq!(store.sweep(much_later).await.expect("sweep"), 0);
    drop(store);
    let store = open();
    assert_eq!(store.depth(), before);
    assert_eq!(claim_turns(&*store, NOW).await.len(), 2);
    assert_eq!(claim(&*store, NOW).await.len(), 1);
    assert_eq!(dead_letters(&*store, 9).await.len(), 1);
}

pub(crate) async fn depth_survives_a_restart(open: Open<'_>) {
    let store = open();
    accept(&*store, &[("1", "ada"), ("2", "ada"), ("3", "bob")], NOW).await;
    enqueue(&*store, &[("a", "ada"), ("b", "bob"), ("c", "eve")], NOW).await;
    let claimed = claim(&*store, NOW).await;
    ack(&*store, &claimed[0]).await;
    store.bury(claimed[1].claim, "no", NOW).await.expect("bury");
    let turn = claim_turns(&*store, NOW).await.remove(0);
    store
        .commit_turn(turn.fence, end_of(&turn, vec![outbound("d", "ada")]), NOW)
        .await
        .expect("commit");
    let depth = store.depth();
    assert_eq!((depth.inbox, depth.outbox, depth.dead), (2, 2, 1));
    drop(store);
    assert_eq!(open().depth(), depth);
}

pub(crate) async fn a_closed_store_takes_nothing(open: Open<'_>) {
    let store = open();
    assert!(store.is_sound());
    enqueue(&*store, &[("a", "ada")], NOW).await;
    store.close().await.expect("close");
    assert!(!store.is_sound());
    let late = store.enqueue(vec![outbound("b", "ada")], NOW).await;
    assert!(matches!(late, Err(Error::Poisoned(_))), "{late:?}");
    drop(store);
    assert_eq!(open().depth().outbox, 1);
}

pub(crate) async fn a_conversation_has_a_cap_of_its_own(open: Open<'_>) {
    let store = open();
    let max = usize::try_from(limit::CONVERSATION_ROWS_DEFAULT).expect("it fits");
    let family = channel("family");
    let events = (0..max).map(|n| inbound(&format!("m{n}"), "ada")).collect();
    store.accept(&family, events, None, NOW).await.expect("accept");
    let more = vec![inbound("more", "ada"), inbound("m0", "ada"), inbound("o1", "bob")];
    let answers = store
        .accept(&family, more, Some("at 7".into()), NOW)
        .await
        .expect("accept");
    assert_eq!(answers, [Accepted::OverCap, Accepted::Duplicate, Accepted::New]);
    assert_eq!(store.cursor(&family).await.expect("cursor").as_deref(), Some("at 7"));
    let mut silent = inbound("silent", "ada");
    silent.message.addressed = false;
    let answers = store.accept(&family, vec![silent], None, NOW).await.expect("accept");
    assert_eq!(answers, [Accepted::New], "it waits for nothing");

    // The same for what waits to be delivered there.
    let letters = (0..max).map(|n| outbound(&n.to_string(), "eve")).collect();
    store.enqueue(letters, NOW).await.expect("enqueue");
    let to_eve = vec![inbound("e1", "eve")];
    let answers = store.accept(&family, to_eve.clone(), None, NOW).await.expect("accept");
    assert_eq!(answers, [Accepted::OverCap]);
    let first = claim(&*store, NOW).await.remove(0);
    ack(&*store, &first).await;
    let answers = store.accept(&family, to_eve, None, NOW).await.expect("accept");
    assert_eq!(answers, [Accepted::New], "there is room again");
}

pub(crate) async fn it_is_known_until_when_a_channel_listened(open: Open<'_>) {
    let store = open();
    let family = channel("family");
    assert_eq!(store.last_seen(&family).await.expect("seen"), None);
    store.lazy_seen(&family, NOW).await.expect("seen");
    store.lazy_seen(&family, NOW + 5).await.expect("seen");
    store.flush().await.expect("flush");
    drop(store);
    let store = open();
    assert_eq!(store.last_seen(&family).await.expect("seen"), Some(NOW + 5));
    assert_eq!(store.last_seen(&channel("work")).await.expect("seen"), None);
}

pub(crate) async fn what_is_used_is_measured(open: Open<'_>) {
    let store = open();
    let before = store.measure().await.expect("measure");
    assert!(
        before.disk_free_bytes > 0 && before.disk_free_bytes < u64::MAX,
        "{before:?}"
    );
    let blob = vec![1; 100_000];
    store
        .blob_put(&channel("family"), "x/y", blob, Quota::default(), NOW)
        .await
        .expect("put");
    let after = store.measure().await.expect("measure");
    assert!(
        after.store_bytes >= before.store_bytes + 100_000,
        "{before:?} {after:?}"
    );
    assert_eq!(store.usage(), after);
    assert_eq!(store.pressure(), sluicegate::store::Pressure::default());
}

pub(crate) async fn a_notice_expires_before_an_answer(open: Open<'_>) {
    let store = open();
    let event = crate::fixtures::inbound("m1", "ada");
    let late = OutboundEvent::notice(&event, Notice::Delayed, "later".into());
    let given_up = OutboundEvent::notice(&event, Notice::GivenUp, "sorry".into());
    let mut answer = outbound("1", "ada");
    answer.cause = Some(event.id.clone());
    store
        .enqueue(vec![late.clone(), answer, given_up.clone()], NOW)
        .await
        .expect("enqueue");
    let found = store
        .lazy_claim_heads(
            &[Ask::unbounded(channel("family"))],
            9,
            NOW + millis(limit::NOTICE_EXPIRY),
        )
        .await;
    let found = found.expect("claim");
    assert_eq!(found.expired.len(), 1);
    assert_eq!(
        (&found.expired[0].event, crate::fixtures::names(&found.dispatches)),
        (&late, vec!["1"]),
        "the answer goes on"
    );
    let kept = store
        .delivery(&given_up.key)
        .await
        .expect("delivery")
        .expect("it is known");
    assert_eq!(
        kept.expires_at_ms,
        NOW + millis(limit::DELIVERY_EXPIRY),
        "it stands in place of the answer"
    );
}

pub(crate) async fn what_waits_moves_along_with_a_clock_that_is_set(open: Open<'_>) {
    let year = 31_536_000_000;
    for jump in [year, -year] {
        let store = open();
        let family = [Ask::unbounded(channel("family"))];
        let place = jump.to_string();
        let names: Vec<String> = ["fresh", "retry", "held", "awaits"]
            .map(|name| format!("{name}{jump}"))
            .to_vec();
        let letters = names
            .iter()
            .map(|name| outbound(name, &format!("{place}{name}")))
            .collect();
        store.enqueue(letters, NOW).await.expect("enqueue");
        for dispatch in claim(&*store, NOW).await {
            let key = dispatch.event.key.as_str();
            if key.contains("retry") {
                let due = store.lazy_reschedule(dispatch.claim, NOW + 50, true, Attempted::Failed, "down", NOW);
                due.await.expect("reschedule");
            } else if key.contains("awaits") {
                let wait = store.lazy_await_confirmation(dispatch.claim, receipt(&["m"]), NOW + 60, NOW);
                wait.await.expect("await");
            } else {
                let back = store.lazy_reschedule(dispatch.claim, NOW, false, Attempted::NotAtAll, "later", NOW);
                back.await.expect("reschedule");
            }
        }
        change(&*store, Change::Hold(key(&names[2])), NOW).await;
        accept(&*store, &[(&place, &place)], NOW).await;
        let turn = claim_turns(&*store, NOW).await.remove(0);
        let put_off = store.postpone_turn(turn.fence, &turn.event.id, NOW + 70, true, "busy", None, NOW);
        put_off.await.expect("postpone");

        store.shift(jump).await.expect("shift");
        let then = NOW + jump;
        assert_eq!(store.next_turn_due().await.expect("due"), Some(then + 70));
        let due = async |now| claimed(&*store, now).await;
        assert_eq!(due(then).await, [names[0].as_str()]);
        assert_eq!(due(then + 49).await, [""; 0], "a floor moves too");
        assert_eq!(due(then + 50).await, [names[1].as_str()]);
        assert_eq!(due(then + 60).await, [names[3].as_str()]);
        assert!(claim_turns(&*store, then + 69).await.is_empty());
        assert_eq!(claim_turns(&*store, then + 70).await.len(), 1);
        let expiry = then + millis(limit::DELIVERY_EXPIRY);
        let expired = store
            .lazy_claim_heads(&family, 9, expiry - 1)
            .await
            .expect("claim")
            .expired;
        assert!(expired.is_empty(), "nothing expires early");
        let expired = store.lazy_claim_heads(&family, 9, expiry).await.expect("claim").expired;
        assert_eq!(expired.len(), 1, "what is held expires in its time");
    }
}

pub(crate) async fn a_clock_that_was_set_back_meanwhile_moves_what_waits_once(open: Open<'_>) {
    let store = open();
    assert_eq!(store.lazy_note_time(NOW).await.expect("note"), None);
    store.enqueue(vec![outbound("1", "ada")], NOW).await.expect("enqueue");
    let claimed = claim(&*store, NOW).await.remove(0);
    let due = store.lazy_reschedule(claimed.claim, NOW + 5000, true, Attempted::Failed, "down", NOW);
    due.await.expect("reschedule");
    assert_eq!(store.lazy_note_time(NOW + 1000).await.expect("note"), None);
    store.close().await.expect("close");
    drop(store);

    let (store, then) = (open(), NOW - 86_400_000);
    assert_eq!(store.lazy_note_time(then).await.expect("note"), Some(then - NOW - 1000));
    assert_eq!(store.lazy_note_time(then).await.expect("note"), None, "once");
    assert!(
        claim(&*store, then + 3999).await.is_empty(),
        "what is left of its wait is kept"
    );
    assert_eq!(claim(&*store, then + 4000).await.len(), 1);
    // A clock that is followed, and one that is a little off, is nothing to move for.
    store.shift(-1_000_000).await.expect("shift");
    assert_eq!(store.lazy_note_time(then - 1_000_000).await.expect("note"), None);
    assert_eq!(store.lazy_note_time(then - 1_000_400).await.expect("note"), None);
}

/// Claims, and returns the names.
async fn claimed(store: &dyn sluicegate::store::EventStore, now: i64) -> Vec<String> {
    let claimed = claim(store, now).await;
    crate::fixtures::names(&claimed)
        .into_iter()
        .map(str::to_owned)
        .collect()
}
