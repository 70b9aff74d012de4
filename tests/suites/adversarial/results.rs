//! Results that are out of all bounds: cut where the rest is of use, refused where it is not.

use sluicegate::channel::CallError;
use sluicegate::delivery::{Failure, Finding};
use sluicegate::event::DeliveryError;
use sluicegate::ingress::{ClientId, CloseReason};
use sluicegate::limit;

use crate::support::{Rig, SECRET, request};

#[tokio::test]
async fn a_receipt_with_a_hundred_thousand_ids_is_cut_and_still_a_receipt() {
    let rig = Rig::new().ample_cpu().up().await;
    let receipt = rig
        .deliver("receipt 100000")
        .await
        .result
        .expect("what was sent was sent");
    assert_eq!(receipt.message_ids.len(), limit::RECEIPT_IDS_MAX);
    assert!(
        receipt
            .message_ids
            .iter()
            .all(|id| id.len() <= limit::PLATFORM_ID_BYTES_MAX)
    );
    let Finding::Delivered(found) = rig.channel.reconcile(request(rig.name(), "receipt 1000"), 0).await else {
        panic!("a finding is cut in the same way");
    };
    assert_eq!(found.message_ids.len(), limit::RECEIPT_IDS_MAX);
    let Finding::NotDelivered(parts) = rig.channel.reconcile(request(rig.name(), "parts 1000"), 0).await else {
        panic!("and the parts that were found are as well");
    };
    let indexes: Vec<u32> = parts.iter().map(|part| part.index).collect();
    assert_eq!(indexes, (0..limit::PARTS_MAX).collect::<Vec<_>>());
    assert!(
        parts
            .iter()
            .all(|part| part.message_id.len() <= limit::PLATFORM_ID_BYTES_MAX)
    );
    rig.survived().await;
}

#[tokio::test]
async fn the_words_of_an_error_are_cut_redacted_and_made_printable() {
    let rig = Rig::new().ample_cpu().up().await;
    let Failure::Reported(DeliveryError::Rejected(words)) = rig.failure("error rejected 5000000").await else {
        panic!("the kind of an error is the guest's to say");
    };
    assert!(
        words.len() <= limit::REASON_BYTES_MAX && !words.contains(['\u{1b}', '\n', '\u{202e}']),
        "{words}"
    );
    let echoed = rig
        .failure(&format!("error unavailable the server said {SECRET}"))
        .await;
    assert_eq!(
        echoed,
        Failure::Reported(DeliveryError::Unavailable("the server said [redacted]".into()))
    );
    rig.survived().await;
}

#[tokio::test]
async fn a_webhook_answer_out_of_bounds_is_a_trap_and_counted() {
    let rig = Rig::new().ample_cpu().up().await;
    for (reply, why) in [
        ("status=9999", "the status 9999"),
        ("status=0", "the status 0"),
        ("status=101", "the status 101"),
        ("body=5000000", "5000000 bytes of body"),
        ("headers=10000", "10000 headers"),
    ] {
        let refused = rig.webhook(&format!("reply {reply}")).await;
        assert!(
            matches!(&refused, Err(CallError::Trapped(said)) if said.contains(why)),
            "{reply}: {refused:?}"
        );
    }
    assert_eq!(rig.usage().traps.get(), 5);
    assert_eq!(rig.webhook("reply status=204").await.expect("in bounds").status, 204);
    rig.survived().await;
}

#[tokio::test]
async fn frames_out_of_bounds_close_the_connection_and_reach_nobody() {
    let rig = Rig::new().ample_cpu().up().await;
    let client = ClientId::generate();
    for frames in ["frames 100000", "frame 5000000", "frames 65", "large_frames 3"] {
        let received = rig.channel.client_received(&client, frames.into()).await;
        assert_eq!(received, Err(CloseReason::Internal), "{frames}");
        let opened = rig
            .channel
            .client_opened(&client, "/".into(), Some(frames.into()), None)
            .await;
        assert_eq!(opened, Err(CloseReason::Internal), "{frames}");
    }
    assert_eq!(rig.usage().traps.get(), 8);
    assert_eq!(
        rig.channel
            .client_received(&client, "frames 64".into())
            .await
            .map(|frames| frames.len()),
        Ok(64)
    );
    rig.survived().await;
}

#[tokio::test]
async fn the_reason_for_closing_is_redacted_and_made_printable() {
    let rig = Rig::new().ample_cpu().up().await;
    let client = ClientId::generate();
    let closed = rig.channel.client_received(&client, format!("close {SECRET}")).await;
    assert_eq!(closed, Err(CloseReason::Policy("[redacted]".into())));
    let closed = rig.channel.client_received(&client, "close 5000000".into()).await;
    let Err(CloseReason::Policy(words)) = closed else {
        panic!("{closed:?}")
    };
    assert!(
        words.len() <= limit::REASON_BYTES_MAX && !words.contains('\u{1b}'),
        "{words}"
    );
    rig.survived().await;
}

#[tokio::test]
async fn the_id_of_a_draft_is_short_or_none() {
    let rig = Rig::new().ample_cpu().up().await;
    assert_eq!(rig.channel.draft(request(rig.name(), "draft-id 5000000")).await, None);
    assert_eq!(
        rig.channel.draft(request(rig.name(), "draft-id 3")).await.as_deref(),
        Some("xxx")
    );
    rig.survived().await;
}

#[tokio::test]
async fn a_panic_in_any_export_costs_that_call_only() {
    let rig = Rig::new()
        .setting("start", "panic a")
        .setting("stop", "panic b")
        .setting("closed", "panic c")
        .up()
        .await;
    let client = ClientId::generate();
    let panicked = "it panicked (unreachable code)";
    assert_eq!(rig.trap("panic d").await, panicked);
    assert!(
        !rig.deliver("panic e").await.bytes_left,
        "nothing left the host, so the attempt's outcome is known"
    );
    assert_eq!(
        rig.webhook("panic f").await.err(),
        Some(CallError::Trapped(panicked.into()))
    );
    assert_eq!(
        rig.channel.client_received(&client, "panic g".into()).await,
        Err(CloseReason::Internal)
    );
    rig.channel.client_closed(&client).await;
    assert_eq!(rig.channel.draft(request(rig.name(), "panic h")).await, None);
    assert_eq!(
        rig.channel.reconcile(request(rig.name(), "panic i"), 0).await,
        Finding::Unknown
    );
    assert!(rig.channel.start(None).await.is_err());
    rig.channel.stop().await;
    assert_eq!((rig.usage().traps.get(), rig.usage().calls.get()), (9, 9));
    rig.survived().await;
}
