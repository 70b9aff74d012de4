//! The operator's desk: what the admin surface asks for, answered from the store and the channels. Each change wakes
//! the workers, is logged, and told on the bus.

use std::sync::Arc;

use async_trait::async_trait;

use super::switchboard::{Switchboard, described};
use crate::admin::{Admin, Changed, ChannelView, DeliveryView, Refusal, TraceView, TurnView, UsageView};
use crate::bus::{Bus, Event};
use crate::channel::Channel;
use crate::clock::Clock;
use crate::id::{ChannelName, DeliveryKey, EventId};
use crate::limit;
use crate::store::{self, DeadLetter, DeliveryRecord, DeliveryState, EventStore, Trace, TurnRecord};

/// Answers the operator.
pub(super) struct Desk {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) switchboard: Arc<Switchboard>,
    pub(super) bus: Bus,
    pub(super) clock: Arc<dyn Clock>,
}

impl Desk {
    /// Tells of a change, after it was made.
    fn audit(&self, verb: &str, subject: &str) {
        let at_ms = self.clock.now_ms();
        tracing::info!(verb, subject, "the operator made a change");
        self.bus.publish(|| Event::Operator {
            verb: verb.to_owned(),
            subject: subject.to_owned(),
            at_ms,
        });
    }

    /// Tells of a change of one message, or says that there is no such message.
    fn changed(&self, did: bool, verb: &str, what: &str, id: &str) -> Result<Changed, Refusal> {
        if !did {
            return Err(Refusal::NotFound(format!("{what} {id:?}")));
        }
        self.audit(verb, id);
        Ok(Changed { count: 1 })
    }
}

#[async_trait]
impl Admin for Desk {
    fn channels(&self) -> Vec<ChannelView> {
        self.switchboard
            .channels()
            .iter()
            .map(|channel| channel_view(channel))
            .collect()
    }

    fn pause(&self, channel: &str) -> Result<ChannelView, Refusal> {
        let paused = self.switchboard.pause_for_operator(channel)?;
        self.audit("pause", channel);
        Ok(channel_view(&paused))
    }

    fn resume(&self, channel: &str) -> Result<ChannelView, Refusal> {
        let resumed = self.switchboard.resume_for_operator(channel)?;
        self.audit("resume", channel);
        Ok(channel_view(&resumed))
    }

    async fn outbox(&self, channel: Option<&str>, max: usize) -> Result<Vec<DeliveryView>, Refusal> {
        let channel = channel.map(ChannelName::from_trusted);
        let found = self.store.outbox(channel.as_ref(), max).await.map_err(failed)?;
        Ok(found
            .into_iter()
            .map(|record| delivery_view(record, limit::OPERATOR_EXCERPT_BYTES_MAX))
            .collect())
    }

    async fn dead(&self, max: usize) -> Result<Vec<DeliveryView>, Refusal> {
        let found = self.store.dead_letters(max).await.map_err(failed)?;
        Ok(found.into_iter().map(dead_view).collect())
    }

    async fn dead_letter(&self, key: &str) -> Result<DeliveryView, Refusal> {
        let found = self
            .store
            .delivery(&DeliveryKey::from_trusted(key))
            .await
            .map_err(failed)?;
        let dead = found.filter(|record| record.state == DeliveryState::Dead);
        let dead = dead.ok_or_else(|| Refusal::NotFound(format!("dead letter {key:?}")))?;
        Ok(delivery_view(dead, usize::MAX))
    }

    async fn redrive(&self, key: &str) -> Result<Changed, Refusal> {
        let did = self
            .store
            .redrive(&DeliveryKey::from_trusted(key), self.clock.now_ms())
            .await;
        let changed = self.changed(did.map_err(failed)?, "redrive", "dead letter", key)?;
        self.bus.deliveries_due().wake();
        Ok(changed)
    }

    async fn redrive_all(&self, channel: Option<&str>) -> Result<Changed, Refusal> {
        let name = channel.map(ChannelName::from_trusted);
        // One that dies again meanwhile must not be put back for ever.
        let there = self.store.depth().dead;
        let mut count = 0;
        while count < there {
            let max = usize::try_from(there - count)
                .unwrap_or(usize::MAX)
                .min(limit::OPERATOR_REDRIVEN_MAX);
            let now = self.clock.now_ms();
            let redriven = self.store.redrive_all(name.as_ref(), max, now).await.map_err(failed)?;
            count += redriven;
            self.bus.deliveries_due().wake();
            if redriven < max as u64 {
                break;
            }
        }
        if count > 0 {
            self.audit("redrive-all", channel.unwrap_or("all channels"));
        }
        Ok(Changed { count })
    }

    async fn drop_dead(&self, key: &str) -> Result<Changed, Refusal> {
        let did = self
            .store
            .drop_dead(&DeliveryKey::from_trusted(key))
            .await
            .map_err(failed)?;
        self.changed(did, "drop", "dead letter", key)
    }

    async fn dead_inbound(&self, max: usize) -> Result<Vec<TurnView>, Refusal> {
        let found = self.store.dead_inbound(max).await.map_err(failed)?;
        Ok(found.into_iter().map(turn_view).collect())
    }

    async fn resubmit(&self, event: &str) -> Result<Changed, Refusal> {
        let did = self
            .store
            .resubmit(&EventId::from_trusted(event), self.clock.now_ms())
            .await;
        let changed = self.changed(
            did.map_err(failed)?,
            "resubmit",
            "inbound message that was given up,",
            event,
        )?;
        self.bus.turns_due().wake();
        Ok(changed)
    }

    async fn trace(&self, id: &str) -> Result<Vec<TraceView>, Refusal> {
        let found = match id.len() {
            0..=limit::OPERATOR_ID_BYTES_MAX => self.store.trace(id).await.map_err(failed)?,
            _ => Vec::new(),
        };
        if found.is_empty() {
            return Err(Refusal::NotFound(format!("message known as {id:?}")));
        }
        Ok(found.into_iter().map(trace_view).collect())
    }
}

fn failed(error: store::Error) -> Refusal {
    Refusal::StoreFailed(error.to_string())
}

fn channel_view(channel: &Channel) -> ChannelView {
    let (status, reason) = described(&channel.status());
    let services = channel.services();
    let usage = &services.usage;
    ChannelView {
        name: services.name.clone(),
        component: channel.inspection().name.clone(),
        status: status.to_owned(),
        reason,
        usage: UsageView {
            calls: usage.calls.get(),
            traps: usage.traps.get(),
            deadlines: usage.deadlines.get(),
            cpu_ms: usage.cpu_ms.get(),
            memory_bytes_high: usage.memory_bytes_high.get(),
            restarts: usage.restarts.get(),
            inbound_accepted: usage.inbound_accepted.get(),
            inbound_duplicates: usage.inbound_duplicates.get(),
            inbound_refused: usage.inbound_refused.get(),
            log_lines_dropped: usage.log_lines_dropped.get(),
            egress_requests: services.egress.counters().requests,
            clients: services.clients.len() as u64,
        },
    }
}

fn delivery_view(record: DeliveryRecord, text_bytes_max: usize) -> DeliveryView {
    let event = record.event;
    let conversation = event.as_ref().map(|event| &event.conversation);
    DeliveryView {
        delivery_key: record.key,
        state: record.state,
        channel: event.as_ref().map(|event| event.channel.clone()),
        conversation: conversation.map(|place| place.id.clone()),
        thread: conversation.and_then(|place| place.thread.clone()),
        event: event.as_ref().and_then(|event| event.cause.clone()),
        in_reply_to: event.as_ref().and_then(|event| event.in_reply_to.clone()),
        text: event.map(|event| excerpt(event.text, text_bytes_max)),
        attempts: record.attempts,
        ambiguous: record.ambiguous,
        created_at_ms: Some(record.created_at_ms),
        due_at_ms: record.due_at_ms,
        expires_at_ms: record.due_at_ms.map(|_| record.expires_at_ms),
        attempt_at_ms: record.attempt_at_ms,
        finished_at_ms: record.finished_at_ms,
        parts_sent: record.parts_sent,
        message_ids: record.message_ids,
        reason: record.reason,
    }
}

fn dead_view(letter: DeadLetter) -> DeliveryView {
    let event = letter.event;
    DeliveryView {
        delivery_key: event.key,
        state: DeliveryState::Dead,
        channel: Some(event.channel),
        conversation: Some(event.conversation.id),
        thread: event.conversation.thread,
        event: event.cause,
        in_reply_to: event.in_reply_to,
        text: Some(excerpt(event.text, limit::OPERATOR_EXCERPT_BYTES_MAX)),
        attempts: letter.attempts,
        ambiguous: 0,
        created_at_ms: None,
        due_at_ms: None,
        expires_at_ms: None,
        attempt_at_ms: None,
        finished_at_ms: Some(letter.died_at_ms),
        parts_sent: 0,
        message_ids: Vec::new(),
        reason: Some(letter.reason),
    }
}

fn turn_view(record: TurnRecord) -> TurnView {
    let message = record.event.map(|event| event.message);
    TurnView {
        event: record.id,
        channel: record.channel,
        message_id: record.message_id,
        session: record.session,
        state: record.state,
        sender: message.as_ref().map(|message| message.sender.id.clone()),
        text: message.map(|message| excerpt(message.text, limit::OPERATOR_EXCERPT_BYTES_MAX)),
        received_at_ms: record.received_at_ms,
        due_at_ms: record.due_at_ms,
        finished_at_ms: record.finished_at_ms,
        failures: record.failures,
        reason: record.reason,
    }
}

fn trace_view(trace: Trace) -> TraceView {
    let outbound = trace.deliveries.into_iter();
    TraceView {
        inbound: trace.turn.map(turn_view),
        outbound: outbound
            .map(|record| delivery_view(record, limit::OPERATOR_EXCERPT_BYTES_MAX))
            .collect(),
    }
}

/// Cuts a text, and shows that.
fn excerpt(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_ends_at_a_character_and_shows_that_it_is_one() {
        assert_eq!(excerpt("short".into(), 5), "short");
        assert_eq!(excerpt("ééé".into(), 3), "é…");
    }
}
