//! What an operator asks for: what waits, what was given up, and the way of one message.

use sluicegate::clock::millis;
use sluicegate::event::{InboundEvent, Notice, OutboundEvent, SentPart};
use sluicegate::limit;
use sluicegate::store::{Attempted, DeliveryRecord, DeliveryState, Dispatch, EventStore, TurnState};

use crate::Open;
use crate::fixtures::{
    NOW, ack, channel, claim, claim_one, claim_turns, end_of, enqueue, inbound, key, names, outbound, receipt,
};

fn keys(records: &[DeliveryRecord]) -> Vec<&str> {
    records
        .iter()
        .map(|one| one.key.as_str().trim_start_matches("dlv_"))
        .collect()
}

async fn fail(store: &dyn EventStore, dispatch: &Dispatch, due: i64, floor: bool) {
    store
        .lazy_reschedule(dispatch.claim, due, floor, Attempted::Failed, "down", NOW)
        .await
        .expect("reschedule");
}

pub(crate) async fn the_outbox_lists_what_waits_oldest_first(open: Open<'_>) {
    let store = open();
    let all = [
        ("1", "ada"),
        ("2", "bob"),
        ("3", "ada"),
        ("4", "eve"),
        ("5", "kim"),
        ("6", "joe"),
        ("7", "joe"),
    ];
    enqueue(&*store, &all, NOW).await;
    for dispatch in claim(&*store, NOW).await {
        match names(std::slice::from_ref(&dispatch))[0] {
            "1" => fail(&*store, &dispatch, NOW + 50, true).await,
            "2" => ack(&*store, &dispatch).await,
            "4" => store.bury(dispatch.claim, "no", NOW).await.expect("bury"),
            "6" => {
                let wait = store
                    .lazy_await_confirmation(dispatch.claim, receipt(&["m6"]), NOW + 30, NOW)
                    .await;
                wait.expect("await");
            }
            _ => {}
        }
    }
    let listed = store.outbox(None, 9).await.expect("outbox");
    assert_eq!(
        keys(&listed),
        ["1", "3", "5", "6", "7"],
        "neither what is delivered nor what is dead"
    );
    let states: Vec<_> = listed.iter().map(|one| one.state).collect();
    let expected = [
        DeliveryState::Retrying,
        DeliveryState::Pending,
        DeliveryState::Sending,
        DeliveryState::Awaiting,
        DeliveryState::Pending,
    ];
    assert_eq!(states, expected);
    let first = &listed[0];
    assert_eq!(
        (first.attempts, first.reason.as_deref(), first.due_at_ms),
        (1, Some("down"), Some(NOW + 50))
    );
    assert_eq!(
        (first.created_at_ms, first.expires_at_ms),
        (NOW, NOW + millis(limit::DELIVERY_EXPIRY))
    );
    assert_eq!(first.event, Some(outbound("1", "ada")));
    assert_eq!(listed[1].due_at_ms, Some(NOW + 50), "a rate limit holds the whole lane");
    assert_eq!(listed[3].message_ids, ["m6"]);
    assert_eq!(keys(&store.outbox(None, 2).await.expect("outbox")), ["1", "3"]);
    assert!(store.outbox(None, 0).await.expect("outbox").is_empty());
}

pub(crate) async fn the_outbox_lists_one_channel(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada")], NOW).await;
    let mut of_work = outbound("2", "ada");
    of_work.channel = channel("work");
    store.enqueue(vec![of_work], NOW).await.expect("enqueue");
    for (name, expected) in [("family", vec!["1"]), ("work", vec!["2"]), ("nobody", vec![])] {
        let listed = store.outbox(Some(&channel(name)), 9).await.expect("outbox");
        assert_eq!(keys(&listed), expected, "{name}");
    }
}

pub(crate) async fn a_delivery_tells_how_far_it_is(open: Open<'_>) {
    let store = open();
    assert_eq!(store.delivery(&key("1")).await.expect("delivery"), None);
    enqueue(&*store, &[("1", "ada")], NOW).await;
    let dispatch = claim_one(&*store, NOW + 3).await;
    let part = SentPart {
        index: 0,
        message_id: "m0".into(),
    };
    store
        .part_sent(&channel("family"), &key("1"), part)
        .await
        .expect("part");
    let record = async || store.delivery(&key("1")).await.expect("delivery").expect("it is known");
    let sending = record().await;
    assert_eq!(
        (sending.state, sending.attempt_at_ms, sending.parts_sent),
        (DeliveryState::Sending, Some(NOW + 3), 1)
    );
    store.bury(dispatch.claim, "no", NOW + 4).await.expect("bury");
    let dead = record().await;
    assert_eq!(
        (dead.state, dead.due_at_ms, dead.finished_at_ms),
        (DeliveryState::Dead, None, Some(NOW + 4))
    );
    assert_eq!(
        (dead.reason.as_deref(), dead.event),
        (Some("no"), Some(outbound("1", "ada")))
    );
    assert!(store.drop_dead(&key("1")).await.expect("drop"));
    let dropped = record().await;
    assert_eq!((dropped.state, dropped.event), (DeliveryState::Dropped, None));
}

pub(crate) async fn all_dead_letters_of_a_channel_are_redriven_in_their_order(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada"), ("2", "ada"), ("3", "ada")], NOW).await;
    let mut of_work = outbound("4", "ada");
    of_work.channel = channel("work");
    store.enqueue(vec![of_work], NOW).await.expect("enqueue");
    let both = [channel("family"), channel("work")];
    // They die in an order of their own.
    let later = NOW + millis(limit::DELIVERY_EXPIRY);
    let expired = store.lazy_claim_heads(&both, 9, later).await.expect("claim").expired;
    assert_eq!(expired.len(), 4);
    // Idle lanes go; the dead letters stay.
    store.sweep(later + 1).await.expect("sweep");
    drop(store);
    let store = open();
    let family = channel("family");
    assert_eq!(
        store
            .redrive_all(Some(&channel("nobody")), 9, later)
            .await
            .expect("redrive"),
        0
    );
    assert_eq!(store.redrive_all(Some(&family), 2, later).await.expect("redrive"), 2);
    assert_eq!(store.redrive_all(Some(&family), 2, later).await.expect("redrive"), 1);
    assert_eq!((store.depth().outbox, store.depth().dead), (3, 1));
    for expected in ["1", "2", "3"] {
        let dispatch = claim_one(&*store, later).await;
        assert_eq!(names(std::slice::from_ref(&dispatch)), [expected]);
        ack(&*store, &dispatch).await;
    }
    assert_eq!(store.redrive_all(None, 9, later).await.expect("redrive"), 1);
    assert_eq!(store.depth().dead, 0);
}

/// Takes a message in and answers it; the answer is in flight then.
async fn answered(store: &dyn EventStore) -> (InboundEvent, OutboundEvent, Dispatch) {
    let event = inbound("m1", "ada");
    store
        .accept(&event.channel, vec![event.clone()], None, NOW)
        .await
        .expect("accept");
    let turn = claim_turns(store, NOW).await.remove(0);
    let notice = OutboundEvent::notice(&event, Notice::Delayed, "later".into());
    let put_off = store
        .postpone_turn(turn.fence, &event.id, NOW + 5, false, "busy", Some(notice.clone()), NOW)
        .await;
    put_off.expect("postpone");
    let dispatch = claim_one(store, NOW).await;
    assert_eq!(dispatch.event.key, notice.key);
    store
        .lazy_ack(dispatch.claim, receipt(&["p0"]), NOW + 1)
        .await
        .expect("ack");
    let turn = claim_turns(store, NOW + 5).await.remove(0);
    let reply = OutboundEvent::reply(&event, 0, "hello".into());
    store
        .commit_turn(turn.fence, end_of(&turn, vec![reply.clone()]), NOW + 6)
        .await
        .expect("commit");
    let dispatch = claim_one(store, NOW + 7).await;
    (event, reply, dispatch)
}

pub(crate) async fn a_message_is_traced_by_each_of_its_names(open: Open<'_>) {
    let store = open();
    let (event, reply, _in_flight) = answered(&*store).await;
    for id in [
        event.id.as_str(),
        reply.key.as_str(),
        Notice::Delayed.key(&event.id).as_str(),
        "m1",
    ] {
        let traces = store.trace(id).await.expect("trace");
        assert_eq!(traces.len(), 1, "{id}");
        let turn = traces[0].turn.as_ref().expect("the event is stored");
        assert_eq!(
            (&turn.id, turn.message_id.as_str(), turn.session.as_str()),
            (&event.id, "m1", "family/ada")
        );
        assert_eq!(
            (turn.state, turn.received_at_ms, turn.finished_at_ms),
            (TurnState::Done, NOW, Some(NOW + 6))
        );
        assert_eq!(turn.failures, 1);
        let states: Vec<_> = traces[0]
            .deliveries
            .iter()
            .map(|one| (one.state, one.attempts))
            .collect();
        assert_eq!(
            states,
            [(DeliveryState::Delivered, 1), (DeliveryState::Sending, 1)],
            "{id}, in the order made"
        );
        assert_eq!(traces[0].deliveries[0].message_ids, ["p0"]);
        assert_eq!(traces[0].deliveries[1].event.as_ref(), Some(&reply));
    }
    for unknown in ["m2", "", "evt_", "evt_00000000000000000000000000000000", "dlv_1"] {
        assert!(store.trace(unknown).await.expect("trace").is_empty(), "{unknown:?}");
    }
    let silent = inbound("m9", "eve");
    store
        .accept(&silent.channel, vec![silent.clone()], None, NOW + 9)
        .await
        .expect("accept");
    let waiting = store.trace(silent.id.as_str()).await.expect("trace").remove(0);
    let turn = waiting.turn.expect("the event is stored");
    assert_eq!(
        (turn.state, turn.due_at_ms, turn.event),
        (TurnState::Waiting, Some(NOW + 9), Some(silent))
    );
    assert!(waiting.deliveries.is_empty());
}

pub(crate) async fn a_trace_outlives_the_texts(open: Open<'_>) {
    let store = open();
    let (event, reply, dispatch) = answered(&*store).await;
    store
        .lazy_ack(dispatch.claim, receipt(&["p1", "p2"]), NOW + 8)
        .await
        .expect("ack");
    store.sweep(NOW + 9).await.expect("sweep");
    drop(store);
    let store = open();
    let trace = store.trace(reply.key.as_str()).await.expect("trace").remove(0);
    assert_eq!(
        trace.turn.as_ref().map(|turn| (&turn.id, &turn.event)),
        Some((&event.id, &None))
    );
    let delivered = &trace.deliveries[1];
    assert_eq!((delivered.state, &delivered.event), (DeliveryState::Delivered, &None));
    assert_eq!((delivered.finished_at_ms, delivered.due_at_ms), (Some(NOW + 8), None));
    assert_eq!(delivered.message_ids, ["p1", "p2"]);
    // The event is swept before its receipts.
    store
        .sweep(NOW + millis(limit::INBOX_RETENTION) + 1)
        .await
        .expect("sweep");
    let trace = store.trace(reply.key.as_str()).await.expect("trace").remove(0);
    assert_eq!((trace.turn, trace.deliveries.len()), (None, 1));
}

pub(crate) async fn the_same_platform_id_in_two_channels_is_two_traces(open: Open<'_>) {
    let store = open();
    for name in ["family", "work"] {
        let mut event = inbound("m1", "ada");
        event.channel = channel(name);
        store
            .accept(&event.channel, vec![event.clone()], None, NOW)
            .await
            .expect("accept");
    }
    let traces = store.trace("m1").await.expect("trace");
    let channels: Vec<_> = traces
        .iter()
        .filter_map(|one| one.turn.as_ref())
        .map(|turn| turn.channel.as_str())
        .collect();
    assert_eq!(channels, ["work", "family"], "the newest first");
}
