//! The event bus: typed publish/subscribe for the live view and the broadcaster, and the wake-ups between stages.
//!
//! It stands beside the path of a message, never in it. It may drop everything at any moment: a subscriber that lags
//! loses events and is told how many, and a worker that misses a wake-up reads the store within
//! [`limit::RECHECK_PERIOD`]. So publishing never waits, and costs one atomic load while nobody listens.
//!
//! * Takes: what the stages did.
//! * Gives: the same to every subscriber, in order; wake-ups to the workers.
//! * Durable when: never. Nothing lives only here.
//! * On failure: loses events and counts them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, broadcast};

use crate::clock::UnixMillis;
use crate::event::{Conversation, InboundEvent, InboundMessage, OutboundEvent, Receipt};
use crate::id::{ChannelName, DeliveryKey, EventId};
use crate::limit;

/// Where something happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The channel.
    pub channel: ChannelName,
    /// The platform's id of the conversation.
    pub conversation: String,
    /// The thread in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
}

impl Place {
    /// Names a conversation of a channel.
    pub fn new(channel: &ChannelName, conversation: &Conversation) -> Self {
        Self {
            channel: channel.clone(),
            conversation: conversation.id.clone(),
            thread: conversation.thread.clone(),
        }
    }
}

/// An outbound message, as events name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Where it goes.
    #[serde(flatten)]
    pub place: Place,
    /// Its key, the same in every attempt.
    pub delivery_key: DeliveryKey,
    /// The inbound event that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventId>,
    /// The platform id of the message that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<String>,
}

impl From<&OutboundEvent> for Letter {
    fn from(event: &OutboundEvent) -> Self {
        Self {
            place: Place::new(&event.channel, &event.conversation),
            delivery_key: event.key.clone(),
            event: event.cause.clone(),
            in_reply_to: event.in_reply_to.clone(),
        }
    }
}

/// Something that happened, as the live view shows it: one flat JSON object with its `kind`. All times are in Unix
/// milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// A message came in and is durable.
    Inbound {
        /// Where.
        #[serde(flatten)]
        place: Place,
        /// The host's id of it.
        event: EventId,
        /// The platform's id of it.
        message_id: String,
        /// The platform's id of who wrote it.
        sender: String,
        /// The platform's id of the message that it answers, edits, deletes, reacts to or chooses from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        in_reply_to: Option<String>,
        /// What was written.
        text: String,
        /// When it was accepted.
        at_ms: UnixMillis,
    },
    /// A message came in and was not taken.
    Refused {
        /// Where.
        #[serde(flatten)]
        place: Place,
        /// The platform's id of it.
        message_id: String,
        /// The platform's id of who wrote it.
        sender: String,
        /// Why, in words for the operator.
        reason: String,
        /// When.
        at_ms: UnixMillis,
    },
    /// Messages may have been missed: nobody listened for longer than the platform keeps them.
    Gap {
        /// The channel.
        channel: ChannelName,
        /// When the time began of which nothing is known.
        from_ms: UnixMillis,
        /// When it ended.
        until_ms: UnixMillis,
        /// When it was noticed.
        at_ms: UnixMillis,
    },
    /// The machine's clock was set. What waits has moved along.
    ClockSet {
        /// By how much, forward if it is positive.
        jump_ms: i64,
        /// When, by the new time.
        at_ms: UnixMillis,
    },
    /// A mark on rows, bytes or free disk is reached, or there is room again.
    Pressure {
        /// The only channel that it concerns; none where it concerns all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        channel: Option<ChannelName>,
        /// Why nothing is taken in; none where there is room.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        intake: Option<String>,
        /// Why no turn is begun; none where turns are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        turns: Option<String>,
        /// When.
        at_ms: UnixMillis,
    },
    /// A message is stored and will be delivered.
    Outbound {
        /// Which one.
        #[serde(flatten)]
        letter: Letter,
        /// What it says.
        text: String,
        /// When it was stored.
        at_ms: UnixMillis,
    },
    /// The platform has a message for good.
    Delivered {
        /// Which one.
        #[serde(flatten)]
        letter: Letter,
        /// The platform's ids of its parts, in order.
        message_ids: Vec<String>,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// When.
        at_ms: UnixMillis,
    },
    /// An attempt to deliver failed; there will be another.
    Failed {
        /// Which one.
        #[serde(flatten)]
        letter: Letter,
        /// Why, in words for the operator.
        reason: String,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// When the next attempt is due.
        retry_at_ms: UnixMillis,
        /// When.
        at_ms: UnixMillis,
    },
    /// A message was given up: it is a dead letter now.
    Dead {
        /// Which one.
        #[serde(flatten)]
        letter: Letter,
        /// Why, in words for the operator.
        reason: String,
        /// The number of the last attempt, from 1; 0 where it expired before it was tried.
        attempt: u32,
        /// When.
        at_ms: UnixMillis,
    },
    /// An answer grows.
    Draft {
        /// The answer that it becomes.
        #[serde(flatten)]
        letter: Letter,
        /// What there is of it.
        text: String,
        /// When.
        at_ms: UnixMillis,
    },
    /// A run of the agent failed.
    TurnFailed {
        /// Where.
        #[serde(flatten)]
        place: Place,
        /// The inbound event that was to be answered.
        event: EventId,
        /// The platform's id of it.
        in_reply_to: String,
        /// Why, in words for the operator.
        reason: String,
        /// The number of the run, from 1.
        attempt: u32,
        /// When the next run is due; none when the turn was given up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_at_ms: Option<UnixMillis>,
        /// When.
        at_ms: UnixMillis,
    },
    /// The operator changed something.
    Operator {
        /// What was done: see [`crate::admin::ChangeView::verb`].
        verb: String,
        /// What it was done to: a delivery key, an event, a channel, or a choice of dead letters in words.
        subject: String,
        /// How many messages it changed; 1 for a channel.
        count: u64,
        /// When.
        at_ms: UnixMillis,
    },
    /// A channel changed its state.
    Channel {
        /// Which one.
        channel: ChannelName,
        /// What it is now, such as `up`, `down` or `paused`.
        state: String,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// When.
        at_ms: UnixMillis,
    },
}

impl Event {
    /// Tells of an accepted inbound event.
    pub fn inbound(event: &InboundEvent) -> Self {
        Self::Inbound {
            place: Place::new(&event.channel, &event.message.conversation),
            event: event.id.clone(),
            message_id: event.message.id.clone(),
            sender: event.message.sender.id.clone(),
            in_reply_to: event.message.in_reply_to.clone(),
            text: event.message.text.clone(),
            at_ms: event.received_at_ms,
        }
    }

    /// Tells of a message that was not taken.
    pub fn refused(channel: &ChannelName, message: &InboundMessage, reason: &str, at_ms: UnixMillis) -> Self {
        Self::Refused {
            place: Place::new(channel, &message.conversation),
            message_id: message.id.clone(),
            sender: message.sender.id.clone(),
            reason: reason.to_owned(),
            at_ms,
        }
    }

    /// Tells of a stored outbound event.
    pub fn outbound(event: &OutboundEvent, at_ms: UnixMillis) -> Self {
        Self::Outbound {
            letter: event.into(),
            text: event.text.clone(),
            at_ms,
        }
    }

    /// Tells of a delivered outbound event.
    pub fn delivered(event: &OutboundEvent, receipt: &Receipt, attempt: u32, at_ms: UnixMillis) -> Self {
        Self::Delivered {
            letter: event.into(),
            message_ids: receipt.message_ids.clone(),
            attempt,
            at_ms,
        }
    }
}

/// What a subscriber got.
#[derive(Debug, Clone)]
pub enum Received {
    /// The next event.
    Event(Arc<Event>),
    /// It was too slow: this many events are lost to it.
    Lost(u64),
}

/// A subscriber's end: sees what is published after it was made.
#[derive(Debug)]
pub struct Subscription {
    events: broadcast::Receiver<Arc<Event>>,
    /// Holds the count of the lost, without keeping the sender alive.
    counts: Arc<Counts>,
}

impl Subscription {
    /// Waits for the next event, or for the news that some are lost. None when the bus is gone.
    ///
    /// # Cancel safety
    /// A dropped future loses nothing.
    pub async fn recv(&mut self) -> Option<Received> {
        match self.events.recv().await {
            Ok(event) => Some(Received::Event(event)),
            Err(broadcast::error::RecvError::Lagged(count)) => {
                self.counts.lost.fetch_add(count, Ordering::Relaxed);
                Some(Received::Lost(count))
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// A wake-up for one waiting worker: any number of calls while it works become one.
#[derive(Debug, Default)]
pub struct Wakeup(Notify);

impl Wakeup {
    /// Wakes the worker now, or lets its next wait end at once.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Waits for a wake-up.
    ///
    /// # Cancel safety
    /// A dropped future may lose a wake-up: the worker reads the store in any case.
    pub async fn woken(&self) {
        self.0.notified().await;
    }
}

#[derive(Debug, Default)]
struct Counts {
    /// Events that subscribers lost, over all of them and for good.
    lost: AtomicU64,
}

#[derive(Debug)]
struct Shared {
    events: broadcast::Sender<Arc<Event>>,
    counts: Arc<Counts>,
    turns: Wakeup,
    deliveries: Wakeup,
}

/// The bus. Clones are the same bus.
#[derive(Debug, Clone)]
pub struct Bus {
    shared: Arc<Shared>,
}

impl Default for Bus {
    fn default() -> Self {
        Self::new()
    }
}

impl Bus {
    /// Makes a bus without subscribers.
    pub fn new() -> Self {
        let (events, _) = broadcast::channel(limit::BUS_EVENTS_MAX);
        Self {
            shared: Arc::new(Shared {
                events,
                counts: Arc::default(),
                turns: Wakeup::default(),
                deliveries: Wakeup::default(),
            }),
        }
    }

    /// Gives an event to every subscriber. Never waits; `event` is only called when there is one.
    pub fn publish(&self, event: impl FnOnce() -> Event) {
        if self.shared.events.receiver_count() > 0 {
            // It fails when the last subscriber has just gone: then nobody misses the event.
            let _nobody_left = self.shared.events.send(Arc::new(event()));
        }
    }

    /// Adds a subscriber.
    pub fn subscribe(&self) -> Subscription {
        Subscription {
            events: self.shared.events.subscribe(),
            counts: Arc::clone(&self.shared.counts),
        }
    }

    /// Returns how many subscribers there are.
    pub fn subscribers(&self) -> usize {
        self.shared.events.receiver_count()
    }

    /// Returns how many events slow subscribers lost so far, over all of them.
    pub fn events_lost(&self) -> u64 {
        self.shared.counts.lost.load(Ordering::Relaxed)
    }

    /// Returns the wake-up of the agent worker: a turn may be due.
    pub fn turns_due(&self) -> &Wakeup {
        &self.shared.turns
    }

    /// Returns the wake-up of the delivery worker: a delivery may be due, or a channel is up.
    pub fn deliveries_due(&self) -> &Wakeup {
        &self.shared.deliveries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel_event(at_ms: UnixMillis) -> Event {
        Event::Channel {
            channel: ChannelName::from_trusted("family"),
            state: "up".to_owned(),
            reason: None,
            at_ms,
        }
    }

    #[tokio::test]
    async fn every_subscriber_gets_every_event_in_order() {
        let bus = Bus::new();
        let mut subscribers = [bus.subscribe(), bus.subscribe()];
        (0..3).for_each(|n| bus.publish(|| channel_event(n)));
        for subscriber in &mut subscribers {
            for n in 0..3 {
                match subscriber.recv().await {
                    Some(Received::Event(event)) => assert_eq!(*event, channel_event(n)),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(bus.events_lost(), 0);
    }

    #[test]
    fn an_event_is_not_even_made_without_a_subscriber() {
        let bus = Bus::new();
        bus.publish(|| panic!("nobody listens"));
        drop(bus.subscribe());
        bus.publish(|| panic!("nobody listens any more"));
    }

    #[tokio::test]
    async fn a_slow_subscriber_loses_the_oldest_and_is_told_how_many() {
        let bus = Bus::new();
        let mut slow = bus.subscribe();
        let published = limit::BUS_EVENTS_MAX as i64 + 10;
        (0..published).for_each(|n| bus.publish(|| channel_event(n)));
        assert!(matches!(slow.recv().await, Some(Received::Lost(10))));
        assert!(matches!(slow.recv().await, Some(Received::Event(event)) if *event == channel_event(10)));
        assert_eq!(bus.events_lost(), 10);
    }

    #[tokio::test]
    async fn a_subscription_ends_with_the_bus() {
        let bus = Bus::new();
        let mut subscriber = bus.subscribe();
        bus.publish(|| channel_event(1));
        drop(bus);
        assert!(subscriber.recv().await.is_some());
        assert!(subscriber.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_wakeup_before_the_wait_is_kept_and_many_are_one() {
        let bus = Bus::new();
        bus.turns_due().wake();
        bus.clone().turns_due().wake();
        bus.turns_due().woken().await;
        assert!(futures_util::FutureExt::now_or_never(bus.turns_due().woken()).is_none());
        assert!(futures_util::FutureExt::now_or_never(bus.deliveries_due().woken()).is_none());
    }

    #[test]
    fn an_event_is_one_flat_object() {
        let event = Event::Failed {
            letter: Letter {
                place: Place {
                    channel: ChannelName::from_trusted("family"),
                    conversation: "c1".to_owned(),
                    thread: None,
                },
                delivery_key: DeliveryKey::from_trusted("dlv_1"),
                event: Some(EventId::from_trusted("evt_1")),
                in_reply_to: Some("m1".to_owned()),
            },
            reason: "no answer".to_owned(),
            attempt: 2,
            retry_at_ms: 20,
            at_ms: 10,
        };
        let json = serde_json::to_value(&event).unwrap();
        let expected = serde_json::json!({
            "kind": "failed", "channel": "family", "conversation": "c1", "delivery_key": "dlv_1", "event": "evt_1",
            "in_reply_to": "m1", "reason": "no answer", "attempt": 2, "retry_at_ms": 20, "at_ms": 10,
        });
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
    }
}
