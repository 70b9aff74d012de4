//! Guests that fill the store, or reach for what belongs to another channel in it.

use sluicegate::delivery::Failure;
use sluicegate::event::{Receipt, SentPart};
use sluicegate::id::{ChannelName, DeliveryKey};
use sluicegate::limit;
use sluicegate::store::EventStore as _;

use crate::support::{Hostile, Rig, outbound};

#[tokio::test]
async fn the_state_of_a_channel_ends_at_its_quota_and_goes_on_after_a_deletion() {
    let rig = Rig::new().ample_cpu().up().await;
    let reported = rig.report("state_quota").await;
    let most = limit::STATE_BYTES_DEFAULT / (256 * 1024);
    assert_eq!(
        reported,
        format!("{} kept, after a deletion true", most - 1),
        "keys count as well"
    );
    rig.survived().await;
}

#[tokio::test]
async fn keys_and_values_that_are_too_large_are_refused() {
    let rig = Rig::new().ample_cpu().up().await;
    assert_eq!(rig.report("state_huge").await, "key false, value false, kept 0");
    rig.survived().await;
}

#[tokio::test]
async fn a_blob_has_a_short_kind_and_no_path_leads_out_of_the_blobs() {
    let rig = Rig::new().ample_cpu().up().await;
    let reported = rig.report("blob_flood").await;
    assert!(reported.starts_with("long kind false, foreign false, "), "{reported}");
    rig.survived().await;
}

#[tokio::test]
async fn frames_to_clients_that_are_not_there_go_nowhere() {
    let rig = Rig::new().ample_cpu().up().await;
    assert_eq!(rig.report("clients_flood").await, "sent 0");
    rig.survived().await;
}

#[tokio::test]
async fn saying_without_end_that_a_conversation_is_reachable_ends_at_a_bound() {
    let rig = Rig::new().up().await;
    match rig.deliver("reachable_flood").await.result {
        Ok(receipt) => assert_eq!(receipt.message_ids, ["reachable"]),
        Err(failure) => assert!(
            matches!(failure, Failure::DeadlineExceeded | Failure::Trapped(_)),
            "{failure:?}"
        ),
    }
    rig.survived().await;
}

/// Puts a message of another channel into the store, handed over and waiting for its confirmation.
async fn awaiting(rig: &Hostile) -> DeliveryKey {
    let event = outbound("neighbour", "wait for it");
    let (key, neighbour) = (event.key.clone(), ChannelName::from_trusted("neighbour"));
    rig.store.enqueue(vec![event], 1).await.expect("queued");
    let claimed = rig.store.lazy_claim_heads(&[neighbour], 1, 2).await.expect("claimed");
    let receipt = Receipt {
        message_ids: Vec::new(),
        confirmation: sluicegate::event::Confirmation::Awaited,
    };
    rig.store
        .lazy_await_confirmation(claimed.dispatches[0].claim, receipt, i64::MAX / 2, 3)
        .await
        .expect("handed over");
    key
}

#[tokio::test]
async fn a_guest_can_neither_confirm_nor_refuse_a_delivery_of_another_channel() {
    let rig = Rig::new().ample_cpu().up().await;
    let key = awaiting(&rig).await;
    let before = rig.store.delivery(&key).await.expect("readable");
    assert!(before.is_some(), "the neighbour's delivery is there");
    assert_eq!(rig.report(&format!("confirm {key}")).await, "confirmed");
    assert_eq!(rig.report(&format!("sent {key}")).await, "sent");
    assert_eq!(
        rig.store.delivery(&key).await.expect("readable"),
        before,
        "nothing changed"
    );
    rig.survived().await;
}

#[tokio::test]
async fn a_part_beyond_all_parts_ends_the_guest() {
    let rig = Rig::new().ample_cpu().up().await;
    // A delivery of its own, in flight: only then are parts kept.
    let event = outbound(rig.name(), "parts");
    let key = event.key.clone();
    rig.store.enqueue(vec![event], 1).await.expect("queued");
    let name = ChannelName::from_trusted(rig.name());
    assert_eq!(
        rig.store
            .lazy_claim_heads(std::slice::from_ref(&name), 1, 2)
            .await
            .expect("claimed")
            .dispatches
            .len(),
        1
    );
    let reason = rig.trap(&format!("parts_flood {key}")).await;
    assert!(reason.contains(&limit::PARTS_MAX.to_string()), "{reason}");
    // The parts that fit were kept, and the store still takes them.
    let part = SentPart {
        index: 0,
        message_id: "again".to_owned(),
    };
    rig.store
        .part_sent(&name, &key, part)
        .await
        .expect("the store is sound");
    rig.survived().await;
}
