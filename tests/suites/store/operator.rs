//! What an operator asks for: what waits, what was given up, and the way of one message.

use sluicegate::clock::millis;
use sluicegate::event::{InboundEvent, Notice, OutboundEvent, SentPart};
use sluicegate::limit;
use sluicegate::store::{
    Ask, Attempted, Change, Dead, DeadFilter, DeliveryRecord, DeliveryState, Dispatch, Error, EventStore, TurnState,
};

use crate::Open;
use crate::fixtures::{
    NOW, accept, ack, change, channel, claim, claim_one, claim_turns, drop_dead, end_of, enqueue, inbound, key, names,
    outbound, receipt, send_one,
};

fn keys(records: &[DeliveryRecord]) -> Vec<&str> {
    records
        .iter()
        .map(|one| one.key.as_str().trim_start_matches("dlv_"))
        .collect()
}

async fn outbox(store: &dyn EventStore, name: Option<&str>, max: usize) -> Vec<DeliveryRecord> {
    let page = store.outbox(name.map(channel).as_ref(), None, max).await;
    page.expect("outbox").items
}

async fn state_of(store: &dyn EventStore, name: &str) -> DeliveryState {
    let found = store.delivery(&key(name)).await.expect("delivery");
    found.expect("it is known").state
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
            "5" => store.lazy_mark_sending(dispatch.claim, NOW).await.expect("mark"),
            _ => {}
        }
    }
    let listed = outbox(&*store, None, 9).await;
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
    assert_eq!(keys(&outbox(&*store, None, 2).await), ["1", "3"]);
    assert!(outbox(&*store, None, 0).await.is_empty());
}

pub(crate) async fn the_outbox_lists_one_channel(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada")], NOW).await;
    let mut of_work = outbound("2", "ada");
    of_work.channel = channel("work");
    store.enqueue(vec![of_work], NOW).await.expect("enqueue");
    for (name, expected) in [("family", vec!["1"]), ("work", vec!["2"]), ("nobody", vec![])] {
        let listed = outbox(&*store, Some(name), 9).await;
        assert_eq!(keys(&listed), expected, "{name}");
    }
}

pub(crate) async fn what_stands_behind_another_names_the_head_of_its_lane(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada"), ("2", "ada"), ("3", "ada"), ("4", "bob")], NOW).await;
    // A lane that fails is no longer kept in memory alone.
    for head in store
        .lazy_claim_heads(&[Ask::unbounded(channel("family"))], 9, NOW)
        .await
        .expect("heads")
        .dispatches
    {
        let again = store.lazy_reschedule(head.claim, NOW + 50, false, Attempted::Failed, "down", NOW);
        again.await.expect("again");
    }
    store.flush().await.expect("flush");
    let behind = async || {
        let listed = outbox(&*store, None, 9).await;
        let heads = listed
            .into_iter()
            .map(|one| one.behind.map(|key| key.as_str().trim_start_matches("dlv_").to_owned()));
        heads.collect::<Vec<_>>()
    };
    let first = || Some("1".to_owned());
    assert_eq!(behind().await, [None, first(), first(), None]);
    store.change(Change::Drop(key("1")), NOW).await.expect("drop");
    assert_eq!(behind().await, [None, Some("2".to_owned()), None]);
}

pub(crate) async fn a_delivery_tells_how_far_it_is(open: Open<'_>) {
    let store = open();
    assert_eq!(store.delivery(&key("1")).await.expect("delivery"), None);
    enqueue(&*store, &[("1", "ada")], NOW).await;
    let dispatch = send_one(&*store, NOW + 3).await;
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
    assert!(drop_dead(&*store, "1").await);
    let dropped = record().await;
    assert_eq!((dropped.state, dropped.event), (DeliveryState::Dropped, None));
}

pub(crate) async fn all_dead_letters_of_a_channel_are_redriven_in_their_order(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada"), ("2", "ada"), ("3", "ada")], NOW).await;
    let mut of_work = outbound("4", "ada");
    of_work.channel = channel("work");
    store.enqueue(vec![of_work], NOW).await.expect("enqueue");
    let both = ["family", "work"].map(|name| Ask::unbounded(channel(name)));
    // They die in an order of their own.
    let later = NOW + millis(limit::DELIVERY_EXPIRY);
    let expired = store.lazy_claim_heads(&both, 9, later).await.expect("claim").expired;
    assert_eq!(expired.len(), 4);
    // Idle lanes go; the dead letters stay.
    store.sweep(later + 1).await.expect("sweep");
    drop(store);
    let store = open();
    let redrive_some = async |name: Option<&str>, max| {
        let filter = DeadFilter {
            channel: name.map(channel),
            reason: None,
        };
        change(&*store, Change::Redrive(Dead::Matching { filter, max }), later).await
    };
    assert_eq!(redrive_some(Some("nobody"), 9).await, 0);
    assert_eq!(redrive_some(Some("family"), 2).await, 2);
    assert_eq!(redrive_some(Some("family"), 2).await, 1);
    assert_eq!((store.depth().outbox, store.depth().dead), (3, 1));
    for expected in ["1", "2", "3"] {
        let dispatch = claim_one(&*store, later).await;
        assert_eq!(names(std::slice::from_ref(&dispatch)), [expected]);
        ack(&*store, &dispatch).await;
    }
    assert_eq!(redrive_some(None, 9).await, 1);
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
    let dispatch = send_one(store, NOW + 7).await;
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

pub(crate) async fn a_list_goes_on_where_it_stopped(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada"), ("2", "bob"), ("3", "eve")], NOW).await;
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.outbox(None, after, 1).await.expect("outbox");
        after = page.items.last().map(|last| last.row);
        seen.extend(page.items);
        if !page.has_more {
            break;
        }
    }
    assert_eq!(keys(&seen), ["1", "2", "3"]);
    for (at, dispatch) in (0..).zip(claim(&*store, NOW).await) {
        // Two of them die in the same moment.
        store.bury(dispatch.claim, "no", NOW + at / 2).await.expect("bury");
    }
    let whole = store
        .dead_letters(&DeadFilter::default(), None, 9)
        .await
        .expect("dead")
        .items;
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store
            .dead_letters(&DeadFilter::default(), after, 1)
            .await
            .expect("dead");
        after = page
            .items
            .last()
            .and_then(|last| Some((last.finished_at_ms?, last.row)));
        seen.extend(page.items);
        if !page.has_more {
            break;
        }
    }
    assert_eq!((keys(&seen), seen.len()), (keys(&whole), 3));
}

pub(crate) async fn a_held_delivery_holds_up_its_lane_until_it_is_released(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada"), ("2", "ada"), ("3", "bob")], NOW).await;
    assert_eq!(change(&*store, Change::Hold(key("1")), NOW).await, 1);
    assert_eq!(
        change(&*store, Change::Hold(key("1")), NOW).await,
        0,
        "it is held already"
    );
    assert_eq!(state_of(&*store, "1").await, DeliveryState::Held);
    // Neither a sign of life nor a restart lets it go.
    accept(&*store, &[("m1", "ada")], NOW + 1).await;
    drop(store);
    let store = open();
    assert_eq!(names(&claim(&*store, NOW + 2).await), ["3"]);
    let listed = outbox(&*store, None, 1).await;
    assert_eq!((keys(&listed), listed[0].due_at_ms), (vec!["1"], None));
    assert_eq!(
        change(&*store, Change::Release(key("2")), NOW).await,
        0,
        "it is not held"
    );
    assert_eq!(change(&*store, Change::Release(key("1")), NOW + 3).await, 1);
    assert_eq!(names(&claim(&*store, NOW + 3).await), ["1"]);
}

pub(crate) async fn a_held_delivery_expires_and_keeps_its_unknown_outcome(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada"), ("2", "ada"), ("3", "bob")], NOW).await;
    for dispatch in claim(&*store, NOW).await {
        store.lazy_mark_sending(dispatch.claim, NOW).await.expect("mark");
    }
    drop(store);
    let store = open();
    for name in ["1", "3"] {
        assert_eq!(change(&*store, Change::Hold(key(name)), NOW).await, 1);
    }
    assert_eq!(change(&*store, Change::Release(key("3")), NOW).await, 1);
    let again = claim_one(&*store, NOW).await;
    assert_eq!(
        (again.ambiguous, again.ambiguous_at_ms),
        (1, Some(NOW)),
        "it may have arrived"
    );
    let later = NOW + millis(limit::DELIVERY_EXPIRY);
    assert_eq!(
        store.next_head_due(&[channel("family")]).await.expect("due"),
        Some(later)
    );
    let found = store
        .lazy_claim_heads(&[Ask::unbounded(channel("family"))], 9, later)
        .await
        .expect("claim");
    assert_eq!((found.expired.len(), found.dispatches.len()), (2, 0));
    assert_eq!(state_of(&*store, "1").await, DeliveryState::Dead);
    assert_eq!(store.next_head_due(&[channel("family")]).await.expect("due"), None);
}

pub(crate) async fn a_dropped_delivery_is_gone_and_its_lane_goes_on(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada"), ("2", "ada"), ("3", "bob")], NOW).await;
    let awaits = claim(&*store, NOW).await.remove(1);
    let wait = store.lazy_await_confirmation(awaits.claim, receipt(&["m3"]), NOW + 30, NOW);
    wait.await.expect("await");
    assert!(
        matches!(store.change(Change::Drop(key("1")), NOW).await, Err(Error::InFlight)),
        "what becomes of its attempt comes first"
    );
    assert!(matches!(
        store.change(Change::Hold(key("1")), NOW).await,
        Err(Error::InFlight)
    ));
    drop(store);
    let store = open();
    for name in ["1", "3"] {
        assert_eq!(change(&*store, Change::Drop(key(name)), NOW + 1).await, 1);
        assert_eq!(change(&*store, Change::Drop(key(name)), NOW + 1).await, 0);
        assert_eq!(state_of(&*store, name).await, DeliveryState::Dropped);
    }
    assert_eq!(store.depth().outbox, 1);
    enqueue(&*store, &[("1", "ada")], NOW + 2).await;
    assert_eq!(names(&claim(&*store, NOW + 60).await), ["2"], "its key stays known");
    let confirmed = store.confirm(&channel("family"), &key("3"), Ok(()), NOW + 61).await;
    assert!(!confirmed.expect("confirm"));
}

pub(crate) async fn dead_letters_are_chosen_by_their_reason(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada"), ("2", "bob"), ("3", "eve")], NOW).await;
    let reasons = ["No Such_conversation", "no such%conversation", "rejected"];
    for (dispatch, reason) in claim(&*store, NOW).await.into_iter().zip(reasons) {
        store.bury(dispatch.claim, reason, NOW).await.expect("bury");
    }
    let with = |reason: &str| DeadFilter {
        channel: Some(channel("family")),
        reason: Some(reason.to_owned()),
    };
    for (reason, count) in [("NO SUCH", 2), ("such_", 1), ("such%", 1), ("", 3), ("\\", 0)] {
        let found = store.dead_letters(&with(reason), None, 9).await.expect("dead").items;
        assert_eq!(found.len(), count, "{reason:?}");
    }
    let drop = |max| {
        Change::DropDead(Dead::Matching {
            filter: with("no such"),
            max,
        })
    };
    assert_eq!(change(&*store, drop(1), NOW + 1).await, 1);
    assert_eq!(change(&*store, drop(9), NOW + 1).await, 1);
    assert_eq!(change(&*store, drop(9), NOW + 1).await, 0);
    assert_eq!(
        (store.depth().dead, state_of(&*store, "3").await),
        (1, DeliveryState::Dead)
    );
}

pub(crate) async fn a_turn_that_was_given_up_can_be_dropped(open: Open<'_>) {
    let store = open();
    accept(&*store, &[("m1", "ada"), ("m2", "ada")], NOW).await;
    let turn = claim_turns(&*store, NOW).await.remove(0);
    let event = turn.event.id.clone();
    assert_eq!(
        change(&*store, Change::DropInbound(event.clone()), NOW).await,
        0,
        "it runs"
    );
    store
        .bury_turn(turn.fence, &event, "no", None, NOW)
        .await
        .expect("bury");
    assert_eq!(store.depth().dead_inbound, 1);
    drop(store);
    let store = open();
    assert_eq!(store.depth().dead_inbound, 1, "a restart keeps the count");
    assert_eq!(change(&*store, Change::DropInbound(event.clone()), NOW + 1).await, 1);
    assert_eq!(
        (
            store.depth().dead_inbound,
            store.dead_inbound(9).await.expect("dead").len()
        ),
        (0, 0)
    );
    assert_eq!(change(&*store, Change::Resubmit(event.clone()), NOW + 1).await, 0);
    let trace = store
        .trace("m1")
        .await
        .expect("trace")
        .remove(0)
        .turn
        .expect("its ids stay known");
    assert_eq!((trace.state, trace.event), (TurnState::Done, None));
}

pub(crate) async fn changes_are_listed_with_their_counts(open: Open<'_>) {
    let store = open();
    enqueue(&*store, &[("1", "ada"), ("2", "bob")], NOW).await;
    change(&*store, Change::Hold(key("1")), NOW + 1).await;
    change(&*store, Change::Hold(key("nobody")), NOW + 2).await;
    change(&*store, Change::Release(key("1")), NOW + 3).await;
    for dispatch in claim(&*store, NOW + 3).await {
        store.bury(dispatch.claim, "no", NOW).await.expect("bury");
    }
    let all = Dead::Matching {
        filter: DeadFilter::default(),
        max: 9,
    };
    change(&*store, Change::Redrive(all), NOW + 4).await;
    let pause = Change::Noted {
        verb: "pause",
        subject: "family".to_owned(),
    };
    change(&*store, pause, NOW + 5).await;
    drop(store);
    let listed = open().changes(3).await.expect("changes");
    let seen: Vec<_> = listed
        .iter()
        .map(|one| (one.at_ms - NOW, one.verb.as_str(), one.subject.as_str(), one.count))
        .collect();
    let expected = [
        (5, "pause", "family", 1),
        (4, "redrive", "dead letters of all channels", 2),
        (3, "release", "dlv_1", 1),
    ];
    assert_eq!(seen, expected, "what changed nothing is not in it");
}

pub(crate) async fn what_was_sent_is_found_by_the_platforms_id(open: Open<'_>) {
    let store = open();
    let (event, reply, dispatch) = answered(&*store).await;
    let is_found = async |id: &str| {
        let traces = store.trace(id).await.expect("trace");
        let first = traces.first().and_then(|one| one.turn.as_ref());
        (
            traces.len(),
            first.map(|turn| turn.id.clone()) == Some(event.id.clone()),
        )
    };
    assert_eq!(is_found("p0").await, (1, true), "before the sweep has come to it");
    store.sweep(NOW + 9).await.expect("sweep");
    assert_eq!(is_found("p0").await, (1, true), "and after it");
    // The sweep has passed this one while it was on its way.
    let acked = store.lazy_ack(dispatch.claim, receipt(&["p1", "p2"]), NOW + 8).await;
    acked.expect("ack");
    for id in ["p1", "p2"] {
        assert_eq!(is_found(id).await, (1, true), "{id}");
    }
    assert_eq!(is_found("p3").await, (0, false));
    enqueue(&*store, &[("x", "eve")], NOW).await;
    let dispatch = claim_one(&*store, NOW + 9).await;
    store
        .lazy_ack(dispatch.claim, receipt(&["p1", "m1"]), NOW + 9)
        .await
        .expect("ack");
    assert_eq!(is_found("p1").await.0, 2, "the same id in another conversation");
    assert_eq!(is_found("m1").await, (2, true), "what came in, and what was sent");
    // It is forgotten with its receipt.
    let later = NOW + millis(limit::RECEIPT_RETENTION) + 10;
    for _ in 0..3 {
        store.sweep(later).await.expect("sweep");
    }
    for id in ["p0", "p1", "p2"] {
        assert_eq!(is_found(id).await, (0, false), "{id}");
    }
    assert_eq!(store.delivery(&reply.key).await.expect("delivery"), None);
}
