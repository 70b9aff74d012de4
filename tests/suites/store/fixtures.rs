//! Events, and short ways to say what the behaviours do over and over.

use sluicegate::clock::UnixMillis;
use sluicegate::event::{
    Action, Confirmation, Conversation, ConversationKind, EventKind, InboundEvent, InboundMessage, OutboundEvent,
    Purpose, Receipt, Sender,
};
use sluicegate::id::{ChannelName, DeliveryKey, EventId, SessionKey};
use sluicegate::store::{Ask, Change, ClaimedTurn, Dead, DeadFilter, DeadLetter, Dispatch, EventStore, TurnCommit};

pub(crate) const NOW: UnixMillis = 1_800_000_000_000;

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts")
        .block_on(future)
}

pub(crate) fn channel(name: &str) -> ChannelName {
    ChannelName::from_trusted(name)
}

pub(crate) fn key(name: &str) -> DeliveryKey {
    DeliveryKey::from_trusted(format!("dlv_{name}"))
}

pub(crate) fn conversation(id: &str, thread: Option<&str>) -> Conversation {
    Conversation {
        id: id.to_owned(),
        thread: thread.map(str::to_owned),
        kind: ConversationKind::Direct,
        title: None,
    }
}

/// An event of channel `family`, from and to conversation `place`, for the session of the same name.
pub(crate) fn inbound(id: &str, place: &str) -> InboundEvent {
    InboundEvent {
        id: EventId::generate(NOW),
        channel: channel("family"),
        session: SessionKey::from_trusted(format!("family/{place}")),
        received_at_ms: NOW,
        message: InboundMessage {
            kind: EventKind::Message,
            id: id.to_owned(),
            conversation: conversation(place, None),
            sender: Sender {
                id: "ada".to_owned(),
                name: None,
                bot: false,
            },
            text: format!("text of {id}"),
            attachments: Vec::new(),
            in_reply_to: None,
            value: None,
            sent_at_ms: None,
            addressed: true,
            extra: Vec::new(),
        },
    }
}

/// A message of channel `family` to conversation `place`.
pub(crate) fn outbound(name: &str, place: &str) -> OutboundEvent {
    OutboundEvent {
        key: key(name),
        channel: channel("family"),
        conversation: conversation(place, None),
        action: Action::Send,
        purpose: Purpose::Answer,
        in_reply_to: None,
        text: format!("text of {name}"),
        attachments: Vec::new(),
        choices: Vec::new(),
        cause: None,
        extra: Vec::new(),
    }
}

pub(crate) fn receipt(ids: &[&str]) -> Receipt {
    Receipt {
        message_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        confirmation: Confirmation::Complete,
    }
}

pub(crate) fn end_of(turn: &ClaimedTurn, outbound: Vec<OutboundEvent>) -> TurnCommit {
    TurnCommit {
        event: turn.event.id.clone(),
        session: turn.event.session.clone(),
        history: Vec::new(),
        outbound,
    }
}

pub(crate) async fn enqueue(store: &dyn EventStore, events: &[(&str, &str)], now: UnixMillis) {
    let events = events.iter().map(|(name, place)| outbound(name, place)).collect();
    store.enqueue(events, now).await.expect("enqueue");
}

pub(crate) async fn accept(store: &dyn EventStore, events: &[(&str, &str)], now: UnixMillis) {
    let events = events.iter().map(|(id, place)| inbound(id, place)).collect();
    store
        .accept(&channel("family"), events, None, now)
        .await
        .expect("accept");
}

/// Claims what is due in channel `family`.
pub(crate) async fn claim(store: &dyn EventStore, now: UnixMillis) -> Vec<Dispatch> {
    store
        .lazy_claim_heads(&[Ask::unbounded(channel("family"))], 100, now)
        .await
        .expect("claim")
        .dispatches
}

/// Claims the only due head.
pub(crate) async fn claim_one(store: &dyn EventStore, now: UnixMillis) -> Dispatch {
    let mut claimed = claim(store, now).await;
    assert_eq!(claimed.len(), 1, "one head is due, not {:?}", names(&claimed));
    claimed.remove(0)
}

/// Claims the only due head, of which something is about to leave.
pub(crate) async fn send_one(store: &dyn EventStore, now: UnixMillis) -> Dispatch {
    let dispatch = claim_one(store, now).await;
    store.lazy_mark_sending(dispatch.claim, now).await.expect("mark");
    dispatch
}

pub(crate) async fn ack(store: &dyn EventStore, dispatch: &Dispatch) {
    store.lazy_ack(dispatch.claim, receipt(&["m"]), NOW).await.expect("ack");
}

/// The names that [`key`] was given.
pub(crate) fn names(claimed: &[Dispatch]) -> Vec<&str> {
    claimed
        .iter()
        .map(|one| one.event.key.as_str().trim_start_matches("dlv_"))
        .collect()
}

pub(crate) async fn claim_turns(store: &dyn EventStore, now: UnixMillis) -> Vec<ClaimedTurn> {
    store
        .claim_turns(100, usize::MAX, now)
        .await
        .expect("claim turns")
        .turns
}

/// The platform's ids of claimed events.
pub(crate) fn ids(turns: &[ClaimedTurn]) -> Vec<&str> {
    turns.iter().map(|turn| turn.event.message.id.as_str()).collect()
}

/// Makes a change, and returns how many messages it changed.
pub(crate) async fn change(store: &dyn EventStore, change: Change, now: UnixMillis) -> u64 {
    store.change(change, now).await.expect("change")
}

pub(crate) async fn redrive(store: &dyn EventStore, name: &str, now: UnixMillis) -> bool {
    change(store, Change::Redrive(Dead::One(key(name))), now).await == 1
}

pub(crate) async fn drop_dead(store: &dyn EventStore, name: &str) -> bool {
    change(store, Change::DropDead(Dead::One(key(name))), NOW).await == 1
}

/// The dead letters of all channels, newest first.
pub(crate) async fn dead_letters(store: &dyn EventStore, max: usize) -> Vec<DeadLetter> {
    let page = store.dead_letters(&DeadFilter::default(), None, max).await;
    let letters = page.expect("dead letters").items.into_iter();
    letters
        .map(|record| DeadLetter {
            event: record.event.expect("a dead letter is whole"),
            reason: record.reason.expect("a dead letter has a reason"),
            attempts: record.attempts,
            died_at_ms: record.finished_at_ms.expect("it died"),
        })
        .collect()
}
