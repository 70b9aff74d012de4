//! What a guest publishes: checked whole, deduplicated, and stamped by the host.

use sluicegate::limit;
use sluicegate::store::EventStore as _;

use crate::support::Rig;

#[tokio::test]
async fn messages_out_of_bounds_are_refused_whole_and_nothing_of_them_is_stored() {
    let rig = Rig::new().ample_cpu().up().await;
    for what in [
        "text",
        "id",
        "no-id",
        "conversation",
        "no-conversation",
        "thread",
        "sender",
        "no-sender",
        "value",
        "extra",
        "extras",
        "attachments",
        "attachment",
        "cursor",
        "many",
    ] {
        let reported = rig.report(&format!("publish {what}")).await;
        assert!(reported.starts_with("Err(PublishError::Invalid("), "{what}: {reported}");
        assert!(reported.len() < 300, "{what}: {reported}");
    }
    assert_eq!(rig.store.depth().inbox, 0);
    assert_eq!(rig.usage().inbound_accepted.get(), 0);
    rig.survived().await;
}

#[tokio::test]
async fn names_that_are_only_shown_are_cut() {
    let rig = Rig::new().ample_cpu().up().await;
    assert_eq!(rig.report("publish name").await, "Ok([Outcome::Accepted])");
    let turns = rig
        .store
        .claim_turns(1, usize::MAX, i64::MAX / 2)
        .await
        .expect("claimed")
        .turns;
    let name = turns[0].event.message.sender.name.as_deref().expect("a name");
    assert_eq!(name.len(), limit::DISPLAY_NAME_BYTES_MAX);
    rig.survived().await;
}

#[tokio::test]
async fn a_flood_of_the_same_messages_is_stored_once() {
    let rig = Rig::new().ample_cpu().up().await;
    assert_eq!(rig.report("publish_flood").await, "50 accepted, 3950 duplicates");
    assert_eq!(rig.store.depth().inbox, 50);
    rig.survived().await;
}

#[tokio::test]
async fn the_host_stamps_channel_and_session_whatever_the_conversation_is_called() {
    for (what, conversation, session) in [
        ("foreign", "websocket/c1", "websocket/c1"),
        ("separators", "c1#thread%23/../x", "c1%23thread%2523/../x"),
    ] {
        let rig = Rig::new().ample_cpu().up().await;
        assert_eq!(rig.report(&format!("publish {what}")).await, "Ok([Outcome::Accepted])");
        let turns = rig
            .store
            .claim_turns(1, usize::MAX, i64::MAX / 2)
            .await
            .expect("claimed")
            .turns;
        let event = &turns[0].event;
        assert_eq!(
            (event.channel.as_str(), event.message.conversation.id.as_str()),
            (rig.name(), conversation)
        );
        assert_eq!(event.session.as_str(), format!("{}/{session}", rig.name()));
        rig.survived().await;
    }
}

#[tokio::test]
async fn the_longest_messages_do_not_come_in_as_fast_as_the_disk_takes_them() {
    const TIME_MS: usize = 3000;
    const BATCH_BYTES: usize = 8 * limit::INBOUND_TEXT_BYTES_MAX;
    const CALLERS: usize = 4;
    let rig = Rig::new().ample_cpu().up().await;
    let began = std::time::Instant::now();
    let attack = format!("hammer publish {TIME_MS}");
    let reported = futures_util::future::join_all((0..CALLERS).map(|_| rig.report(&attack))).await;
    let seconds = began.elapsed().as_secs() as usize + 1;
    let written = rig.store.depth().inbox as usize * limit::INBOUND_TEXT_BYTES_MAX;
    let allowed = limit::INBOUND_BYTES_BURST as usize + seconds * limit::INBOUND_BYTES_PER_SECOND as usize;
    // Each may have asked while there was still some left.
    let most = allowed + CALLERS * BATCH_BYTES;
    assert!(written <= most, "{written} of {most} bytes: {reported:?}");
    assert!(written >= BATCH_BYTES, "{reported:?}");
    rig.survived().await;
}
