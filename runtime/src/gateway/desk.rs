//! The operator's desk: what the admin surface asks for, answered from the store and the channels. Each change wakes
//! the workers, is kept in the store's list of changes, logged, and told on the bus.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::components::Review;
use super::roster::{Altered, Roster};
use super::switchboard::Line;
use crate::admin::{
    Admin, Change, ChangeView, Changed, ChannelChanged, ChannelEdit, ChannelView, Dead, DeadFilter, DeliveryView, Done,
    EgressView, List, Outgoing, Part, Refusal, ReviewView, Sent, TraceView, TurnView, UsageView,
};
use crate::bus::{Bus, Event};
use crate::channel::Status;
use crate::clock::Clock;
use crate::config::Staged;
use crate::egress::Entry;
use crate::id::{ChannelName, DeliveryKey};
use crate::limit;
use crate::store::{self, ChangeRecord, DeliveryRecord, DeliveryState, EventStore, Page, Trace, TurnRecord};

/// Answers the operator.
pub(super) struct Desk {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) roster: Arc<Roster>,
    pub(super) bus: Bus,
    pub(super) clock: Arc<dyn Clock>,
}

impl Desk {
    /// Tells of a change, after it was made and stored.
    fn tell(&self, verb: &str, subject: &str, count: u64) {
        let at_ms = self.clock.now_ms();
        tracing::info!(verb, subject, count, "the operator made a change");
        self.bus.publish(|| Event::Operator {
            verb: verb.to_owned(),
            subject: subject.to_owned(),
            count,
            at_ms,
        });
    }

    /// Keeps and tells a change of a channel, which is made already.
    async fn altered(&self, channel: &str, altered: Altered) -> Result<ChannelChanged, Refusal> {
        let Altered { done, notes } = altered;
        let verb = match done {
            Done::Added => "add",
            Done::Replaced => "replace",
            Done::Granted => "grant",
            Done::Paused => "pause",
            Done::Resumed => "resume",
            Done::Removed => "remove",
            Done::Unchanged => "reload",
        };
        let noted = Change::Noted {
            verb,
            subject: channel.to_owned(),
        };
        self.store.change(noted, self.clock.now_ms()).await.map_err(failed)?;
        self.tell(verb, channel, 1);
        let channel = self.channels().into_iter().find(|view| view.name.as_str() == channel);
        Ok(ChannelChanged { done, notes, channel })
    }

    /// Makes a change of one message, or says that there is no such message.
    async fn change_one(&self, change: Change) -> Result<Changed, Refusal> {
        let (verb, subject, what) = (change.verb(), change.subject(), what(&change));
        let count = self.store.change(change, self.clock.now_ms()).await.map_err(failed)?;
        if count == 0 {
            return Err(Refusal::NotFound(format!("{what} {subject:?}")));
        }
        self.tell(verb, &subject, count);
        Ok(Changed { count })
    }

    /// Changes the dead letters that a filter lets through, some at a time: one transaction must not hold up the others.
    async fn change_dead(&self, filter: &DeadFilter, make: fn(Dead) -> Change) -> Result<Changed, Refusal> {
        // One that dies again meanwhile must not be put back for ever.
        let there = self.store.depth().dead;
        let mut count = 0;
        while count < there {
            let max = usize::try_from(there - count)
                .unwrap_or(usize::MAX)
                .min(limit::OPERATOR_DEAD_CHANGED_MAX);
            let filter = filter.clone();
            let change = make(Dead::Matching { filter, max });
            let (verb, subject) = (change.verb(), change.subject());
            let changed = self.store.change(change, self.clock.now_ms()).await.map_err(failed)?;
            if changed > 0 {
                self.tell(verb, &subject, changed);
                self.bus.deliveries_due().wake();
            }
            count += changed;
            if changed < max as u64 {
                break;
            }
        }
        Ok(Changed { count })
    }

    /// Notes why the channel of a message that waits sends nothing, if it does not.
    fn look_at_channel(&self, view: &mut DeliveryView) {
        let Some(name) = view.channel.as_ref().filter(|_| view.state.is_live()) else {
            return;
        };
        view.channel_waits = match self.roster.switchboard.find(name.as_str()) {
            None => Some("not there".to_owned()),
            Some(line) => why_it_waits(&line.channel.status()),
        };
    }

    async fn found(&self, key: &str) -> Result<Option<DeliveryRecord>, Refusal> {
        let key = DeliveryKey::from_trusted(key);
        self.store.delivery(&key).await.map_err(failed)
    }
}

/// Returns what a change of one message looks for, in words.
fn what(change: &Change) -> &'static str {
    match change {
        Change::Hold(_) => "message that waits to be delivered and is not held,",
        Change::Release(_) => "message that is held,",
        Change::Drop(_) => "message that waits to be delivered,",
        Change::Redrive(_) | Change::DropDead(_) => "dead letter",
        Change::Resubmit(_) | Change::DropInbound(_) => "inbound message that was given up,",
        Change::Noted { .. } => "change",
    }
}

#[async_trait]
impl Admin for Desk {
    fn channels(&self) -> Vec<ChannelView> {
        let mut reviews = self.roster.switchboard.reviews();
        let mut views: Vec<ChannelView> = self
            .roster
            .switchboard
            .all()
            .iter()
            .map(|line| channel_view(line, reviews.remove(&line.channel.services().name)))
            .collect();
        views.extend(reviews.into_iter().map(|(name, review)| waiting_view(name, &review)));
        views.sort_by(|one, other| one.name.cmp(&other.name));
        views
    }

    fn egress(&self, channel: &str, max: usize) -> Result<Vec<EgressView>, Refusal> {
        let line = self.roster.switchboard.find(channel);
        let line = line.ok_or_else(|| Refusal::NotFound(format!("channel {channel:?}")))?;
        let entries = line.channel.services().egress.log(max);
        Ok(entries.into_iter().map(egress_view).collect())
    }

    async fn pause(&self, channel: &str) -> Result<ChannelChanged, Refusal> {
        let altered = self.roster.pause(channel).await?;
        self.altered(channel, altered).await
    }

    async fn resume(&self, channel: &str) -> Result<ChannelChanged, Refusal> {
        let altered = self.roster.resume(channel).await?;
        self.altered(channel, altered).await
    }

    async fn apply(&self, channel: &str, edit: ChannelEdit) -> Result<ChannelChanged, Refusal> {
        let own = &self.roster.file;
        if Path::new(&edit.file) != own.as_path() {
            let words = format!(
                "the gateway that runs here reads {}: name that file with --config",
                own.display()
            );
            return Err(Refusal::NotNow(words));
        }
        let staged = Staged::adopt(own, &edit.ticket, edit.base);
        let staged = staged.ok_or_else(|| Refusal::Wrong("the ticket is none".to_owned()))?;
        let altered = self.roster.apply(channel, staged).await?;
        self.altered(channel, altered).await
    }

    async fn send(&self, message: Outgoing) -> Result<Sent, Refusal> {
        self.enqueue(message).await
    }

    async fn outbox(&self, channel: Option<&str>, part: Part) -> Result<List<DeliveryView>, Refusal> {
        let channel = channel.map(ChannelName::from_trusted);
        let after = part.after.as_deref().map(|after| number(after, after)).transpose()?;
        let page = self.store.outbox(channel.as_ref(), after, part.max).await;
        let mut list = listed(page.map_err(failed)?, |last| last.row.to_string());
        list.items.iter_mut().for_each(|view| self.look_at_channel(view));
        Ok(list)
    }

    async fn waiting(&self, key: &str) -> Result<DeliveryView, Refusal> {
        let found = self.found(key).await?;
        let waiting = found.filter(|record| record.state.is_live());
        let waiting =
            waiting.ok_or_else(|| Refusal::NotFound(format!("message that waits to be delivered, {key:?}")))?;
        let mut view = delivery_view(waiting, usize::MAX);
        self.look_at_channel(&mut view);
        Ok(view)
    }

    async fn dead(&self, filter: &DeadFilter, part: Part) -> Result<List<DeliveryView>, Refusal> {
        let after = part.after.as_deref().map(died_and_row).transpose()?;
        let page = self.store.dead_letters(filter, after, part.max).await;
        Ok(listed(page.map_err(failed)?, |last| {
            format!("{}.{}", last.finished_at_ms.unwrap_or_default(), last.row)
        }))
    }

    async fn dead_letter(&self, key: &str) -> Result<DeliveryView, Refusal> {
        let found = self.found(key).await?;
        let dead = found.filter(|record| record.state == DeliveryState::Dead);
        let dead = dead.ok_or_else(|| Refusal::NotFound(format!("dead letter {key:?}")))?;
        Ok(delivery_view(dead, usize::MAX))
    }

    async fn dead_inbound(&self, max: usize) -> Result<Vec<TurnView>, Refusal> {
        let found = self.store.dead_inbound(max).await.map_err(failed)?;
        Ok(found.into_iter().map(turn_view).collect())
    }

    async fn change(&self, change: Change) -> Result<Changed, Refusal> {
        let changed = match change {
            Change::Redrive(Dead::Matching { filter, .. }) => self.change_dead(&filter, Change::Redrive).await,
            Change::DropDead(Dead::Matching { filter, .. }) => self.change_dead(&filter, Change::DropDead).await,
            one => self.change_one(one).await,
        }?;
        // What comes behind a dropped or held message may be due as well.
        self.bus.deliveries_due().wake();
        self.bus.turns_due().wake();
        Ok(changed)
    }

    async fn changes(&self, max: usize) -> Result<Vec<ChangeView>, Refusal> {
        let found = self.store.changes(max).await.map_err(failed)?;
        Ok(found.into_iter().map(change_view).collect())
    }

    async fn trace(&self, id: &str) -> Result<Vec<TraceView>, Refusal> {
        if id.len() > limit::OPERATOR_ID_BYTES_MAX {
            return Err(Refusal::NotFound(format!(
                "message known as {:?}",
                excerpt(id.to_owned(), limit::OPERATOR_ID_BYTES_MAX)
            )));
        }
        let mut found = self.store.trace(id).await.map_err(failed)?;
        // The key that an operator gave: it is hashed with the channel's name.
        for channel in self.roster.switchboard.channels() {
            let key = DeliveryKey::of_operator(&channel.services().name, id);
            for own in self.store.trace(key.as_str()).await.map_err(failed)? {
                if !found.contains(&own) {
                    found.push(own);
                }
            }
        }
        if found.is_empty() {
            return Err(Refusal::NotFound(format!("message known as {id:?}")));
        }
        let mut views: Vec<TraceView> = found.into_iter().map(trace_view).collect();
        let outbound = views.iter_mut().flat_map(|view| &mut view.outbound);
        outbound.for_each(|view| self.look_at_channel(view));
        Ok(views)
    }
}

/// Reads a number of an `after` that an earlier answer gave.
fn number(text: &str, after: &str) -> Result<i64, Refusal> {
    text.parse().map_err(|_| {
        Refusal::Misunderstood(format!(
            "after is {after:?}: it must be the `next` of an earlier answer"
        ))
    })
}

fn died_and_row(after: &str) -> Result<(i64, i64), Refusal> {
    let (died_at, row) = after.split_once('.').unwrap_or((after, ""));
    Ok((number(died_at, after)?, number(row, after)?))
}

/// Makes a list of a page; `place` says where its last message stands.
fn listed(page: Page<DeliveryRecord>, place: impl FnOnce(&DeliveryRecord) -> String) -> List<DeliveryView> {
    let next = page.items.last().filter(|_| page.has_more).map(place);
    let views = page.items.into_iter();
    List {
        items: views
            .map(|record| delivery_view(record, limit::OPERATOR_EXCERPT_BYTES_MAX))
            .collect(),
        next,
    }
}

pub(super) fn failed(error: store::Error) -> Refusal {
    match error {
        store::Error::InFlight => Refusal::NotNow("it is being sent just now; try again in a moment".to_owned()),
        other => Refusal::StoreFailed(other.to_string()),
    }
}

fn egress_view(entry: Entry) -> EgressView {
    EgressView {
        at_ms: entry.at_ms,
        method: entry.method,
        place: entry.place,
        path: entry.path,
        outcome: entry.outcome.to_owned(),
        status: entry.status,
        bytes_out: entry.bytes_out,
        bytes_in: entry.bytes_in,
        secrets: entry.secrets,
    }
}

fn waiting_view(name: ChannelName, review: &Review) -> ChannelView {
    ChannelView {
        component: String::new(),
        status: "waiting".to_owned(),
        reason: Some(review.words(&name)),
        review: Some(review_view(&name, review)),
        webhook: None,
        usage: UsageView::default(),
        name,
    }
}

fn review_view(name: &ChannelName, review: &Review) -> ReviewView {
    ReviewView {
        reviewed: review.reviewed.clone(),
        found: review.found.clone(),
        words: review.words(name),
    }
}

fn channel_view(line: &Line, review: Option<Review>) -> ChannelView {
    let channel = &line.channel;
    let status = channel.status();
    let services = channel.services();
    let (usage, egress) = (&services.usage, services.egress.counters());
    let denials = egress.denials.named();
    ChannelView {
        name: services.name.clone(),
        component: channel.inspection().name.clone(),
        status: status.word().to_owned(),
        reason: status.reason().map(str::to_owned),
        review: review.map(|review| review_view(&services.name, &review)),
        webhook: line.webhook_path(),
        usage: UsageView {
            calls: usage.calls.get(),
            traps: usage.traps.get(),
            deadlines: usage.deadlines.get(),
            cpu_ms: usage.cpu().as_millis() as u64,
            memory_bytes_high: usage.memory_bytes_high.get(),
            restarts: usage.restarts.get(),
            inbound_accepted: usage.inbound_accepted.get(),
            inbound_duplicates: usage.inbound_duplicates.get(),
            inbound_refused: usage.inbound_refused.get(),
            log_lines_dropped: usage.log_lines_dropped.get(),
            egress_requests: egress.requests,
            egress_sockets: egress.sockets,
            bytes_out: egress.bytes_out,
            bytes_in: egress.bytes_in,
            denials: denials
                .iter()
                .map(|(reason, count)| ((*reason).to_owned(), *count))
                .collect(),
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
        was_redriven: record.was_redriven,
        due_at_ms: record.due_at_ms,
        behind: record.behind,
        channel_waits: None,
        expires_at_ms: record.state.is_live().then_some(record.expires_at_ms),
        attempt_at_ms: record.attempt_at_ms,
        finished_at_ms: record.finished_at_ms,
        parts_sent: record.parts_sent,
        message_ids: record.message_ids,
        reason: record.reason,
    }
}

fn why_it_waits(status: &Status) -> Option<String> {
    if matches!(status, Status::Up | Status::Degraded(_)) {
        return None;
    }
    let word = status.word();
    Some(
        status
            .reason()
            .map_or_else(|| word.to_owned(), |reason| format!("{word}: {reason}")),
    )
}

fn change_view(record: ChangeRecord) -> ChangeView {
    ChangeView {
        at_ms: record.at_ms,
        verb: record.verb,
        subject: record.subject,
        count: record.count,
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
