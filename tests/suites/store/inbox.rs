//! Events in, and their turns.

use sluicegate::event::EventKind;
use sluicegate::id::{EventId, SessionKey};
use sluicegate::store::{Accepted, Change, ClaimedTurn, Error, EventStore, HistoryEntry, Role, TurnState};

use crate::Open;
use crate::fixtures::{
    NOW, accept, change, channel, claim, claim_turns, end_of, enqueue, ids, inbound, names, outbound,
};

pub(crate) async fn a_repeated_event_changes_nothing(open: Open<'_>) {
    let store = open();
    let family = channel("family");
    let twice = vec![inbound("1", "ada"), inbound("1", "ada"), inbound("2", "ada")];
    let answers = store.accept(&family, twice, None, NOW).await.expect("accept");
    assert_eq!(answers, [Accepted::New, Accepted::Duplicate, Accepted::New]);
    drop(store);

    let store = open();
    let again = store
        .accept(&family, vec![inbound("2", "ada")], None, NOW + 1)
        .await
        .expect("accept");
    assert_eq!(again, [Accepted::Duplicate]);
    let elsewhere = store
        .accept(&channel("work"), vec![inbound("2", "ada")], None, NOW)
        .await
        .expect("accept");
    assert_eq!(elsewhere, [Accepted::New], "ids are the channel's own");
    assert_eq!(store.depth().inbox, 3);
}

pub(crate) async fn a_cursor_is_kept_with_its_events(open: Open<'_>) {
    let store = open();
    let family = channel("family");
    assert_eq!(store.cursor(&family).await.expect("cursor"), None);
    store
        .accept(&family, vec![inbound("1", "ada")], Some("41".into()), NOW)
        .await
        .expect("accept");
    store
        .accept(&family, vec![inbound("2", "ada")], None, NOW)
        .await
        .expect("accept");
    store
        .accept(&family, vec![inbound("2", "ada")], Some("42".into()), NOW)
        .await
        .expect("accept");
    drop(store);

    let store = open();
    assert_eq!(store.cursor(&family).await.expect("cursor").as_deref(), Some("42"));
    assert_eq!(store.cursor(&channel("work")).await.expect("cursor"), None);
    assert_eq!(store.depth().inbox, 2);
}

pub(crate) async fn an_event_that_starts_no_turn_is_only_remembered(open: Open<'_>) {
    let store = open();
    let mut reaction = inbound("1", "ada");
    reaction.message.kind = EventKind::Reaction;
    let mut unaddressed = inbound("2", "ada");
    unaddressed.message.addressed = false;
    let answers = store
        .accept(&channel("family"), vec![reaction, unaddressed], None, NOW)
        .await
        .expect("accept");
    assert_eq!(answers, [Accepted::New, Accepted::New]);
    assert!(claim_turns(&*store, NOW).await.is_empty());
    assert_eq!(store.depth().inbox, 0);
    let again = store
        .accept(&channel("family"), vec![inbound("1", "ada")], None, NOW)
        .await
        .expect("accept");
    assert_eq!(again, [Accepted::Duplicate]);
}

pub(crate) async fn a_session_runs_one_turn_at_a_time(open: Open<'_>) {
    let store = open();
    accept(&*store, &[("1", "ada"), ("2", "ada"), ("3", "bob"), ("4", "eve")], NOW).await;
    let first = store.claim_turns(2, usize::MAX, NOW).await.expect("claim");
    assert_eq!(first.next_due, Some(NOW), "there may be more");
    let first = first.turns;
    assert_eq!(first.len(), 2, "no more than asked for");
    let rest = claim_turns(&*store, NOW).await;
    assert_eq!(rest.len(), 1);
    let all: Vec<_> = ids(&first).into_iter().chain(ids(&rest)).collect();
    assert!(
        ["1", "3", "4"].iter().all(|id| all.contains(id)),
        "the oldest of each session, not {all:?}"
    );

    let ada = first
        .iter()
        .chain(&rest)
        .find(|turn| turn.event.message.id == "1")
        .expect("turn 1");
    store
        .commit_turn(ada.fence, end_of(ada, Vec::new()), NOW)
        .await
        .expect("commit");
    assert_eq!(ids(&claim_turns(&*store, NOW).await), ["2"]);
}

pub(crate) async fn the_longest_due_turn_comes_first(open: Open<'_>) {
    let store = open();
    accept(&*store, &[("late", "ada")], NOW + 5).await;
    accept(&*store, &[("early", "bob")], NOW).await;
    assert_eq!(
        ids(&store.claim_turns(1, usize::MAX, NOW + 9).await.expect("claim").turns),
        ["early"]
    );
    assert_eq!(
        ids(&store.claim_turns(1, usize::MAX, NOW + 9).await.expect("claim").turns),
        ["late"]
    );
}

pub(crate) async fn channels_take_turns_at_the_agent(open: Open<'_>) {
    let store = open();
    let flood: Vec<_> = (0..20)
        .map(|n| inbound(&format!("f{n}"), &format!("place{n}")))
        .collect();
    store
        .accept(&channel("family"), flood, None, NOW)
        .await
        .expect("accept");
    let other = (0..2).map(|n| {
        let mut event = inbound(&format!("w{n}"), &format!("place{n}"));
        event.channel = channel("work");
        event.session = SessionKey::from_trusted(format!("work/place{n}"));
        event
    });
    store
        .accept(&channel("work"), other.collect(), None, NOW + 5)
        .await
        .expect("accept");
    let claimed = store.claim_turns(4, usize::MAX, NOW + 5).await.expect("claim").turns;
    let of = |name: &str| claimed.iter().filter(|one| one.event.channel == channel(name)).count();
    assert_eq!(
        (of("family"), of("work")),
        (2, 2),
        "a flood in one channel leaves room for the other"
    );
    let more = store.claim_turns(9, 3, NOW + 5).await.expect("claim");
    assert_eq!(more.turns.len(), 1, "with those that run, three of a channel");
    assert_eq!(more.next_due, None, "for the others there is no room");
    for turn in claimed.iter().chain(&more.turns) {
        store
            .commit_turn(turn.fence, end_of(turn, Vec::new()), NOW + 5)
            .await
            .expect("commit");
    }
    assert_eq!(store.claim_turns(99, 9, NOW + 5).await.expect("claim").turns.len(), 9);
    assert_eq!(
        store.next_turn_due().await.expect("next"),
        Some(NOW),
        "whatever the room"
    );
}

pub(crate) async fn a_turn_ends_in_one_transaction(open: Open<'_>) {
    let store = open();
    accept(&*store, &[("1", "ada")], NOW).await;
    let turn = claim_turns(&*store, NOW).await.remove(0);
    let said = |role, text: &str| HistoryEntry {
        role,
        text: text.to_owned(),
    };
    let mut end = end_of(
        &turn,
        vec![outbound("a", "ada"), outbound("b", "ada"), outbound("a", "ada")],
    );
    end.history = vec![said(Role::User, "hi"), said(Role::Assistant, "hello")];
    store.commit_turn(turn.fence, end.clone(), NOW).await.expect("commit");

    let again = store.commit_turn(turn.fence, end.clone(), NOW).await;
    assert!(matches!(again, Err(Error::Stale)), "{again:?}");
    drop(store);
    let store = open();
    assert_eq!(
        store.history(&turn.event.session, 9, 999).await.expect("history"),
        end.history
    );
    assert_eq!(
        (store.depth().inbox, store.depth().outbox),
        (0, 2),
        "a key that is known is left as it is"
    );
    assert!(claim_turns(&*store, NOW).await.is_empty());
    assert_eq!(names(&claim(&*store, NOW).await), ["a"]);
}

pub(crate) async fn a_turn_of_an_earlier_process_is_stale(open: Open<'_>) {
    let store = open();
    accept(&*store, &[("1", "ada")], NOW).await;
    let old = claim_turns(&*store, NOW).await.remove(0);
    drop(store);

    let store = open();
    let new = claim_turns(&*store, NOW).await.remove(0);
    assert_eq!((new.event.id.clone(), new.failures), (old.event.id.clone(), 0));
    let mut end = end_of(&old, vec![outbound("a", "ada")]);
    end.history = vec![HistoryEntry {
        role: Role::User,
        text: "hi".into(),
    }];
    let id = &old.event.id;
    let stale = [
        store.commit_turn(old.fence, end, NOW).await,
        store.lazy_record_answer(old.fence, id, "an answer").await,
        store
            .postpone_turn(old.fence, id, NOW, false, "late", Some(outbound("b", "ada")), NOW)
            .await,
        store
            .bury_turn(old.fence, id, "late", Some(outbound("c", "ada")), NOW)
            .await,
        store.release_turn(old.fence, id).await,
    ];
    assert!(
        stale.iter().all(|result| matches!(result, Err(Error::Stale))),
        "{stale:?}"
    );
    assert_eq!(
        (store.depth().inbox, store.depth().outbox),
        (1, 0),
        "nothing was written"
    );
    assert!(
        store
            .history(&old.event.session, 9, 999)
            .await
            .expect("history")
            .is_empty()
    );
    store
        .commit_turn(new.fence, end_of(&new, Vec::new()), NOW)
        .await
        .expect("the new claim holds");
}

pub(crate) async fn a_recorded_answer_comes_back_after_a_restart(open: Open<'_>) {
    let store = open();
    accept(&*store, &[("1", "ada")], NOW).await;
    let turn = claim_turns(&*store, NOW).await.remove(0);
    assert_eq!(turn.answer, None);
    store
        .lazy_record_answer(turn.fence, &turn.event.id, "forty-two")
        .await
        .expect("record");
    drop(store);
    assert_eq!(claim_turns(&*open(), NOW).await[0].answer.as_deref(), Some("forty-two"));
}

async fn postpone(store: &dyn EventStore, turn: &ClaimedTurn, due: i64, floor: bool) {
    let notice = Some(outbound("sorry", "ada"));
    store
        .postpone_turn(turn.fence, &turn.event.id, due, floor, "no model", notice, NOW)
        .await
        .expect("postpone");
}

pub(crate) async fn a_postponed_turn_waits_and_tells_once(open: Open<'_>) {
    let store = open();
    accept(&*store, &[("1", "ada")], NOW).await;
    for failures in 0..3 {
        let turn = claim_turns(&*store, NOW + 10).await.remove(0);
        assert_eq!(turn.failures, failures);
        postpone(&*store, &turn, NOW + 10, false).await;
    }
    assert!(claim_turns(&*store, NOW + 9).await.is_empty(), "not before it is due");
    assert_eq!(store.depth().outbox, 1, "one notice, however often");
    drop(store);
    assert_eq!(claim_turns(&*open(), NOW + 10).await[0].failures, 3);
}

pub(crate) async fn a_postponed_turn_holds_up_its_session_and_no_other(open: Open<'_>) {
    let store = open();
    accept(&*store, &[("1", "ada"), ("2", "ada"), ("3", "bob")], NOW).await;
    for turn in claim_turns(&*store, NOW).await {
        postpone(&*store, &turn, NOW + 10, false).await;
    }
    accept(&*store, &[("4", "eve")], NOW + 1).await;
    assert_eq!(
        ids(&claim_turns(&*store, NOW + 9).await),
        ["4"],
        "what was said first is answered first"
    );
    assert_eq!(store.next_turn_due().await.expect("next"), Some(NOW + 10));
    drop(store);
    let store = open();
    let mut due = claim_turns(&*store, NOW + 10).await;
    due.retain(|turn| turn.event.session.as_str() == "family/ada");
    assert_eq!(ids(&due), ["1"]);
    let end = end_of(&due[0], Vec::new());
    store.commit_turn(due[0].fence, end, NOW).await.expect("commit");
    assert_eq!(ids(&claim_turns(&*store, NOW + 10).await), ["2"]);
}

pub(crate) async fn a_new_message_brings_a_postponed_turn_forward(open: Open<'_>) {
    let store = open();
    accept(&*store, &[("1", "ada")], NOW).await;
    for said in ["2", "3", "4"] {
        let turn = claim_turns(&*store, NOW).await.remove(0);
        assert_eq!(
            (turn.event.message.id.as_str(), turn.failures),
            ("1", 0),
            "who writes often does not use up the turn's runs"
        );
        postpone(&*store, &turn, NOW + 1_000, false).await;
        assert!(claim_turns(&*store, NOW).await.is_empty());
        accept(&*store, &[(said, "ada")], NOW).await;
    }
    let turn = claim_turns(&*store, NOW).await.remove(0);
    postpone(&*store, &turn, NOW + 1_000, false).await;
    accept(&*store, &[("4", "ada"), ("5", "bob")], NOW).await;
    assert_eq!(
        ids(&claim_turns(&*store, NOW).await),
        ["5"],
        "neither a duplicate nor another session is a reason"
    );
    let turn = claim_turns(&*store, NOW + 1_000).await.remove(0);
    assert_eq!((turn.event.message.id.as_str(), turn.failures), ("1", 1));
}

pub(crate) async fn a_rate_limit_of_the_agent_is_a_floor(open: Open<'_>) {
    let store = open();
    accept(&*store, &[("1", "ada")], NOW).await;
    let turn = claim_turns(&*store, NOW).await.remove(0);
    postpone(&*store, &turn, NOW + 100, true).await;
    drop(store);
    let store = open();
    accept(&*store, &[("2", "ada")], NOW + 1).await;
    assert!(claim_turns(&*store, NOW + 99).await.is_empty());
    assert_eq!(store.next_turn_due().await.expect("next"), Some(NOW + 100));
    let turn = claim_turns(&*store, NOW + 100).await.remove(0);
    assert_eq!((turn.event.message.id.as_str(), turn.failures), ("1", 1));
}

pub(crate) async fn a_dead_turn_is_listed_and_runs_again_when_resubmitted(open: Open<'_>) {
    let store = open();
    accept(&*store, &[("1", "ada"), ("2", "ada"), ("3", "bob")], NOW).await;
    let turns = claim_turns(&*store, NOW).await;
    for (turn, at) in turns.iter().zip([NOW + 1, NOW + 2]) {
        store
            .bury_turn(turn.fence, &turn.event.id, "no model", None, at)
            .await
            .expect("bury");
    }
    drop(store);
    let store = open();
    let dead = store.dead_inbound(9).await.expect("dead");
    let known: Vec<_> = dead
        .iter()
        .map(|one| (one.message_id.as_str(), one.finished_at_ms))
        .collect();
    assert_eq!(known, [("3", Some(NOW + 2)), ("1", Some(NOW + 1))], "newest first");
    let first = &dead[1];
    assert_eq!(
        (first.state, first.failures, first.reason.as_deref()),
        (TurnState::Dead, 1, Some("no model"))
    );
    assert_eq!(
        first.event.as_ref().map(|event| event.message.text.as_str()),
        Some("text of 1")
    );
    assert_eq!(store.dead_inbound(1).await.expect("dead").len(), 1);

    let resubmit = async |event: EventId| change(&*store, Change::Resubmit(event), NOW + 5).await;
    assert_eq!(resubmit(EventId::from_trusted("evt_none")).await, 0);
    assert_eq!(resubmit(first.id.clone()).await, 1);
    assert_eq!(resubmit(first.id.clone()).await, 0, "it is not dead any more");
    assert_eq!(
        (store.depth().inbox, store.dead_inbound(9).await.expect("dead").len()),
        (2, 1)
    );
    let again = claim_turns(&*store, NOW + 5).await;
    assert_eq!(
        (ids(&again), again[0].failures),
        (vec!["1"], 0),
        "in its old place, before the later one"
    );
    let end = end_of(&again[0], vec![outbound("a", "ada")]);
    store.commit_turn(again[0].fence, end, NOW + 6).await.expect("commit");
    assert_eq!(ids(&claim_turns(&*store, NOW + 6).await), ["2"]);
}

pub(crate) async fn a_buried_turn_is_gone_but_known(open: Open<'_>) {
    let store = open();
    accept(&*store, &[("1", "ada")], NOW).await;
    let turn = claim_turns(&*store, NOW).await.remove(0);
    let notice = Some(outbound("given-up", "ada"));
    store
        .bury_turn(turn.fence, &turn.event.id, "no model", notice, NOW)
        .await
        .expect("bury");
    drop(store);

    let store = open();
    assert!(claim_turns(&*store, NOW + 1_000_000).await.is_empty());
    assert_eq!((store.depth().inbox, store.depth().outbox), (0, 1));
    let again = store
        .accept(&channel("family"), vec![inbound("1", "ada")], None, NOW)
        .await
        .expect("accept");
    assert_eq!(again, [Accepted::Duplicate]);
}

pub(crate) async fn a_released_turn_is_as_before(open: Open<'_>) {
    let store = open();
    accept(&*store, &[("1", "ada")], NOW).await;
    let turn = claim_turns(&*store, NOW).await.remove(0);
    store.release_turn(turn.fence, &turn.event.id).await.expect("release");
    let late = store
        .commit_turn(turn.fence, end_of(&turn, vec![outbound("a", "ada")]), NOW)
        .await;
    assert!(matches!(late, Err(Error::Stale)), "{late:?}");
    assert_eq!(store.depth().outbox, 0);
    let again = claim_turns(&*store, NOW).await;
    assert_eq!((ids(&again), again[0].failures), (vec!["1"], 0));
}

pub(crate) async fn history_is_cut_from_the_old_end(open: Open<'_>) {
    let store = open();
    accept(&*store, &[("1", "ada")], NOW).await;
    let turn = claim_turns(&*store, NOW).await.remove(0);
    let mut end = end_of(&turn, Vec::new());
    end.history = (0..4)
        .map(|n| HistoryEntry {
            role: Role::User,
            text: format!("line{n}"),
        })
        .collect();
    store.commit_turn(turn.fence, end, NOW).await.expect("commit");
    let texts = async |entries, bytes| -> Vec<String> {
        let lines = store
            .history(&turn.event.session, entries, bytes)
            .await
            .expect("history");
        lines.into_iter().map(|line| line.text).collect()
    };
    assert_eq!(texts(9, 999).await, ["line0", "line1", "line2", "line3"]);
    assert_eq!(texts(2, 999).await, ["line2", "line3"]);
    assert_eq!(texts(9, 14).await, ["line2", "line3"], "whole lines within the bytes");
    assert!(texts(9, 4).await.is_empty());
    let nobody = SessionKey::from_trusted("nobody");
    assert!(store.history(&nobody, 9, 999).await.expect("history").is_empty());
}

pub(crate) async fn each_session_has_its_own_history(open: Open<'_>) {
    let mut store = open();
    for round in 0..3 {
        accept(
            &*store,
            &[(&format!("{round}a"), "ada"), (&format!("{round}b"), "bob")],
            NOW,
        )
        .await;
        for turn in claim_turns(&*store, NOW).await {
            let mut end = end_of(&turn, Vec::new());
            let said = |role, text| HistoryEntry { role, text };
            end.history = vec![
                said(Role::User, turn.event.message.id.clone()),
                said(Role::Assistant, format!("to {}", turn.event.message.id)),
            ];
            store.commit_turn(turn.fence, end, NOW).await.expect("commit");
        }
        // What a line follows is known after a restart as before it.
        drop(store);
        store = open();
    }
    for (place, name) in [("ada", "a"), ("bob", "b")] {
        let session = SessionKey::from_trusted(format!("family/{place}"));
        let lines = store.history(&session, 5, 999).await.expect("history");
        let texts: Vec<_> = lines.iter().map(|line| line.text.clone()).collect();
        let expected = ["to 0", "1", "to 1", "2", "to 2"].map(|line| format!("{line}{name}"));
        assert_eq!(texts, expected);
    }
}

pub(crate) async fn the_next_due_turn_is_known(open: Open<'_>) {
    let store = open();
    assert_eq!(store.next_turn_due().await.expect("next"), None);
    accept(&*store, &[("1", "ada")], NOW).await;
    accept(&*store, &[("2", "bob")], NOW + 3).await;
    assert_eq!(store.next_turn_due().await.expect("next"), Some(NOW));
    let claimed = store.claim_turns(9, usize::MAX, NOW).await.expect("claim");
    let next = store.next_turn_due().await.expect("next");
    assert_eq!(next, Some(NOW + 3), "running turns do not count");
    assert_eq!(claimed.next_due, next, "a claim of all that is due says when more is");
    let turn = claimed.turns.into_iter().next().expect("one is due");
    store
        .postpone_turn(turn.fence, &turn.event.id, NOW + 9, false, "later", None, NOW)
        .await
        .expect("postpone");
    let turn = claim_turns(&*store, NOW + 3).await.remove(0);
    store
        .commit_turn(turn.fence, end_of(&turn, Vec::new()), NOW)
        .await
        .expect("commit");
    assert_eq!(store.next_turn_due().await.expect("next"), Some(NOW + 9));
    enqueue(&*store, &[("a", "ada")], NOW).await;
    assert_eq!(
        store.next_turn_due().await.expect("next"),
        Some(NOW + 9),
        "the outbox is another matter"
    );
}
