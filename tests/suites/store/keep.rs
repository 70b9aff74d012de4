//! What channels keep, what is swept, and the store as a whole.

use sluicegate::clock::millis;
use sluicegate::limit;
use sluicegate::store::{Accepted, Error};

use crate::Open;
use crate::fixtures::{
    NOW, accept, ack, channel, claim, claim_one, claim_turns, dead_letters, end_of, enqueue, inbound, outbound,
};

pub(crate) async fn state_is_kept_for_each_channel(open: Open<'_>) {
    let store = open();
    let (family, work) = (channel("family"), channel("work"));
    store.state_set(&family, "k", Some(b"one".to_vec())).await.expect("set");
    store.state_set(&family, "k", Some(b"two".to_vec())).await.expect("set");
    store.state_set(&family, "gone", Some(Vec::new())).await.expect("set");
    assert_eq!(
        store.state_get(&family, "gone").await.expect("get"),
        Some(Vec::new()),
        "empty is a value"
    );
    store.state_set(&family, "gone", None).await.expect("set");
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
            .state_swap(&family, "k", value("a"), value("b"))
            .await
            .expect("swap")
    );
    assert!(store.state_swap(&family, "k", None, value("a")).await.expect("swap"));
    assert!(!store.state_swap(&family, "k", None, value("b")).await.expect("swap"));
    assert!(
        store
            .state_swap(&family, "k", value("a"), value("b"))
            .await
            .expect("swap")
    );
    assert_eq!(store.state_get(&family, "k").await.expect("get"), value("b"));
    assert!(store.state_swap(&family, "k", value("b"), None).await.expect("swap"));
    assert_eq!(store.state_get(&family, "k").await.expect("get"), None);
}

pub(crate) async fn keys_are_listed_by_prefix(open: Open<'_>) {
    let store = open();
    let family = channel("family");
    for key in ["b", "a/2", "a/1", "a", "a0", "ä"] {
        store.state_set(&family, key, Some(vec![1])).await.expect("set");
    }
    store
        .state_set(&channel("work"), "a/3", Some(vec![1]))
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
    is_quota(store.state_set(&family, &long_key, Some(vec![1])).await);
    is_quota(
        store
            .state_set(&family, "k", Some(vec![0; limit::STATE_VALUE_BYTES_MAX + 1]))
            .await,
    );

    let value = vec![0; limit::STATE_VALUE_BYTES_MAX];
    let fitting = usize::try_from(limit::STATE_BYTES_MAX).expect("small") / (value.len() + 3);
    for n in 0..fitting {
        store
            .state_set(&family, &format!("{n:03}"), Some(value.clone()))
            .await
            .expect("within the quota");
    }
    is_quota(store.state_set(&family, "more", Some(value.clone())).await);
    assert_eq!(store.state_get(&family, "more").await.expect("get"), None);
    store
        .state_set(&family, "000", Some(value.clone()))
        .await
        .expect("replacing takes no more");
    store
        .state_set(&channel("work"), "more", Some(value.clone()))
        .await
        .expect("the quota is the channel's own");
    store.state_set(&family, "000", None).await.expect("delete");
    drop(store);
    let store = open();
    store
        .state_set(&family, "new", Some(value.clone()))
        .await
        .expect("what was deleted is free again");
    is_quota(store.state_set(&family, "more", Some(value)).await);
}

pub(crate) async fn a_blob_is_read_by_its_channel_only(open: Open<'_>) {
    let store = open();
    let family = channel("family");
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let blob = store
        .blob_put(&family, "image/png", bytes.clone(), NOW)
        .await
        .expect("put");
    let empty = store
        .blob_put(&family, "text/plain", Vec::new(), NOW)
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
        .blob_put(&channel("family"), "x/y", vec![0; limit::BLOB_BYTES_MAX + 1], NOW)
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
    let blob = store.blob_put(&family, "x/y", vec![1], NOW).await.expect("put");

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
