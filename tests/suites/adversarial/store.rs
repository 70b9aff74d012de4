//! Guests that fill the store, or reach for what belongs to another channel in it.

use sluicegate::delivery::Failure;
use sluicegate::event::{Receipt, SentPart};
use sluicegate::id::{ChannelName, DeliveryKey};
use sluicegate::limit;
use sluicegate::store::{Ask, EventStore as _};

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
    let claimed = rig
        .store
        .lazy_claim_heads(&[Ask::unbounded(neighbour)], 1, 2)
        .await
        .expect("claimed");
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
            .lazy_claim_heads(&[Ask::unbounded(name.clone())], 1, 2)
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

#[tokio::test]
async fn a_form_of_one_file_many_times_is_refused_before_the_host_has_read_it_so_often() {
    let rig = Rig::new().ample_cpu().up().await;
    for (parts, size_mib, said) in [
        (12, 4, "denied"),
        (20, 4, "too large"),
        (limit::HTTP_FORM_PARTS_MAX + 1, 0, "too large"),
        // As many as a guest can name in one call: each is read for nothing, and together they are more than any machine has.
        (20_000, 4, "too large"),
    ] {
        let reported = rig.report(&format!("form_of_blobs {parts} {size_mib}")).await;
        assert_eq!(reported, said, "{parts} parts of {size_mib} MiB");
    }
    rig.survived().await;
}

#[tokio::test]
async fn who_writes_over_and_over_in_the_same_place_waits_for_the_disk() {
    const TIME_MS: usize = 3000;
    let rig = Rig::new().ample_cpu().up().await;
    let began = std::time::Instant::now();
    let attacks =
        ["state", "swap", "cursor", "cursor", "cursor", "cursor"].map(|what| format!("hammer {what} {TIME_MS}"));
    let reported = futures_util::future::join_all(attacks.iter().map(|attack| rig.report(attack))).await;
    let seconds = began.elapsed().as_secs() as usize + 1;
    let times = |what: usize| {
        let words = reported[what].split(' ').next();
        words.and_then(|number| number.parse::<usize>().ok()).expect("a number")
    };
    let value = 250 * 1024 + limit::STATE_WRITE_BYTES_MIN;
    let small: usize = (2..attacks.len()).map(times).sum();
    let written = (times(0) + times(1)) * value + small * limit::STATE_WRITE_BYTES_MIN;
    let allowed = limit::STATE_WRITE_BYTES_BURST as usize + seconds * limit::STATE_WRITE_BYTES_PER_SECOND as usize;
    // Each may have asked while there was still some left.
    let most = allowed + attacks.len() * value;
    assert!(written <= most, "{written} of {most} bytes: {reported:?}");
    assert!(written > most / 8, "{written} of {most} bytes: {reported:?}");
    rig.survived().await;
}
