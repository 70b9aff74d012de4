//! The trait's methods: each intent becomes a command for the writer or a query for a reader.
//!
//! JSON is written and read here, on the caller's thread: the writer has all clients' work to do.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use tokio::task::spawn_blocking;

use super::claims::open_expired;
use super::inbox::{Incoming, PutOff, TurnEnd};
use super::operate::{Operation, Order};
use super::outbox::Outgoing;
use super::writer::Answer;
use super::{SqliteStore, attempt, blob, keep, lock, outbox, reader, records};
use crate::clock::UnixMillis;
use crate::event::{DeliveryError, InboundEvent, OutboundEvent, Receipt, SentPart};
use crate::id::{ChannelName, DeliveryKey, EventId, SessionKey, random_hex};
use crate::limit;
use crate::store::{
    Accepted, Ask, Attempted, Change, ChangeRecord, ClaimedHeads, ClaimedTurns, Dead, DeadFilter, DeliveryClaim,
    DeliveryRecord, Depth, Error, EventStore, Full, HistoryEntry, Page, Pressure, Quota, Trace, TurnCommit, TurnFence,
    TurnRecord, Usage,
};

impl SqliteStore {
    /// Finds what a change is about where that takes reading texts: here, not in the writer.
    async fn operation(&self, change: Change) -> Result<Operation, Error> {
        let text = |key: DeliveryKey| key.as_str().to_owned();
        Ok(match change {
            Change::Hold(key) => Operation::Hold(text(key)),
            Change::Release(key) => Operation::Release(text(key)),
            Change::Drop(key) => Operation::Drop(text(key)),
            Change::Redrive(dead) => Operation::Redrive(self.dead_keys(dead).await?),
            Change::DropDead(dead) => Operation::DropDead(self.dead_keys(dead).await?),
            Change::Resubmit(event) => Operation::Resubmit(event.as_str().to_owned()),
            Change::DropInbound(event) => Operation::DropInbound(event.as_str().to_owned()),
            Change::Noted { .. } => Operation::Note,
        })
    }

    async fn dead_keys(&self, dead: Dead) -> Result<Vec<String>, Error> {
        match dead {
            Dead::One(key) => Ok(vec![key.as_str().to_owned()]),
            Dead::Matching { filter, max } => self.readers.read(move |db| records::dead_keys(db, &filter, max)).await,
        }
    }
}

#[async_trait]
impl EventStore for SqliteStore {
    async fn accept(
        &self,
        channel: &ChannelName,
        events: Vec<InboundEvent>,
        cursor: Option<String>,
        now: UnixMillis,
    ) -> Result<Vec<Accepted>, Error> {
        let channel = channel.as_str().to_owned();
        let events = events.iter().map(Incoming::of).collect::<Result<Vec<_>, _>>()?;
        let bytes = events.iter().map(Incoming::bytes).sum();
        self.write(Answer::Durable, bytes, move |work| {
            work.accept(&channel, &events, cursor.as_deref(), now)
        })
        .await
    }

    async fn cursor(&self, channel: &ChannelName) -> Result<Option<String>, Error> {
        let channel = channel.as_str().to_owned();
        let found = self.readers.read(move |db| reader::cursor(db, &channel)).await?;
        // A guest confirms its cursor to the platform, which then forgets what came before it.
        self.durability
            .wait_for(self.board.cursor_lsn.load(Ordering::Acquire))
            .await?;
        Ok(found)
    }

    async fn claim_turns(&self, max: usize, of_channel: usize, now: UnixMillis) -> Result<ClaimedTurns, Error> {
        let claimed = self
            .write(Answer::Claim, 0, move |work| work.claim_turns(max, of_channel, now))
            .await?;
        let mut turns = Vec::with_capacity(claimed.rows.len());
        for row in claimed.rows {
            turns.extend(self.open_turn(row, now).await?);
        }
        Ok(ClaimedTurns {
            turns,
            next_due: claimed.next_due,
        })
    }

    async fn lazy_record_answer(&self, fence: TurnFence, event: &EventId, answer: &str) -> Result<(), Error> {
        let (event, answer) = (event.clone(), answer.to_owned());
        self.write(Answer::Lazy, answer.len(), move |work| {
            work.record_answer(fence, &event, &answer)
        })
        .await
    }

    async fn commit_turn(&self, fence: TurnFence, commit: TurnCommit, now: UnixMillis) -> Result<(), Error> {
        let outbound = commit.outbound.iter().map(Outgoing::of).collect::<Result<_, _>>()?;
        let session = commit.session.as_str().to_owned();
        let end = TurnEnd {
            event: commit.event,
            session,
            history: commit.history,
            outbound,
        };
        self.write(Answer::Durable, end.bytes(), move |work| {
            work.commit_turn(fence, &end, now)
        })
        .await
    }

    async fn postpone_turn(
        &self,
        fence: TurnFence,
        event: &EventId,
        due: UnixMillis,
        floor: bool,
        reason: &str,
        notice: Option<OutboundEvent>,
        now: UnixMillis,
    ) -> Result<(), Error> {
        let event = event.clone();
        let put_off = PutOff {
            due,
            is_floor: floor,
            reason: reason.to_owned(),
            notice: notice.as_ref().map(Outgoing::of).transpose()?,
        };
        self.write(Answer::Durable, 0, move |work| {
            work.postpone_turn(fence, &event, &put_off, now)
        })
        .await
    }

    async fn bury_turn(
        &self,
        fence: TurnFence,
        event: &EventId,
        reason: &str,
        notice: Option<OutboundEvent>,
        now: UnixMillis,
    ) -> Result<(), Error> {
        let (event, reason) = (event.clone(), reason.to_owned());
        let notice = notice.as_ref().map(Outgoing::of).transpose()?;
        self.write(Answer::Durable, 0, move |work| {
            work.bury_turn(fence, &event, &reason, notice.as_ref(), now)
        })
        .await
    }

    async fn dead_inbound(&self, max: usize) -> Result<Vec<TurnRecord>, Error> {
        self.readers.read(move |db| records::dead_inbound(db, max)).await
    }

    async fn release_turn(&self, fence: TurnFence, event: &EventId) -> Result<(), Error> {
        let event = event.clone();
        self.write(Answer::Durable, 0, move |work| work.release_turn(fence, &event))
            .await
    }

    async fn history(
        &self,
        session: &SessionKey,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<HistoryEntry>, Error> {
        let session = session.as_str().to_owned();
        self.readers
            .read(move |db| reader::history(db, &session, entries_max, bytes_max))
            .await
    }

    async fn next_turn_due(&self) -> Result<Option<UnixMillis>, Error> {
        self.write(Answer::Lazy, 0, |work| work.next_turn_due(usize::MAX)).await
    }

    async fn enqueue(&self, events: Vec<OutboundEvent>, now: UnixMillis) -> Result<(), Error> {
        let events = events.iter().map(Outgoing::of).collect::<Result<Vec<_>, _>>()?;
        let bytes = events.iter().map(Outgoing::bytes).sum();
        self.write(Answer::Durable, bytes, move |work| {
            events.iter().try_for_each(|event| work.enqueue(event, None, now))
        })
        .await
    }

    async fn lazy_claim_heads(&self, asks: &[Ask], max: usize, now: UnixMillis) -> Result<ClaimedHeads, Error> {
        let asks = asks.to_vec();
        let heads = self
            .write(Answer::Claim, 0, move |work| work.claim_heads(&asks, max, now))
            .await?;
        let mut dispatches = Vec::with_capacity(heads.claimed.len());
        for row in heads.claimed {
            dispatches.extend(self.open_dispatch(row, now).await?);
        }
        let expired = heads.expired.into_iter().filter_map(|row| open_expired(row, now));
        Ok(ClaimedHeads {
            dispatches,
            expired: expired.collect(),
            next_due: heads.next_due,
        })
    }

    async fn lazy_mark_sending(&self, claim: DeliveryClaim, now: UnixMillis) -> Result<(), Error> {
        self.write(Answer::Lazy, 0, move |work| work.mark_sending(claim, now))
            .await
    }

    async fn part_sent(&self, channel: &ChannelName, key: &DeliveryKey, part: SentPart) -> Result<(), Error> {
        let (channel, key) = (channel.as_str().to_owned(), key.as_str().to_owned());
        self.write(Answer::Durable, 0, move |work| work.part_sent(&channel, &key, &part))
            .await
    }

    async fn lazy_ack(&self, claim: DeliveryClaim, receipt: Receipt, now: UnixMillis) -> Result<(), Error> {
        let receipt = attempt::receipt_json(&receipt)?;
        self.write(Answer::Lazy, 0, move |work| work.ack(claim, &receipt, now))
            .await
    }

    async fn lazy_await_confirmation(
        &self,
        claim: DeliveryClaim,
        receipt: Receipt,
        deadline: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), Error> {
        let receipt = attempt::receipt_json(&receipt)?;
        self.write(Answer::Lazy, 0, move |work| {
            work.await_confirmation(claim, &receipt, deadline, now)
        })
        .await
    }

    async fn confirm(
        &self,
        channel: &ChannelName,
        key: &DeliveryKey,
        outcome: Result<(), DeliveryError>,
        now: UnixMillis,
    ) -> Result<bool, Error> {
        let (channel, key) = (channel.as_str().to_owned(), key.as_str().to_owned());
        let refused = outcome.err().map(|error| error.to_string());
        self.write(Answer::Durable, 0, move |work| {
            work.confirm(&channel, &key, refused.as_deref(), now)
        })
        .await
    }

    async fn lazy_reschedule(
        &self,
        claim: DeliveryClaim,
        due: UnixMillis,
        floor: bool,
        attempted: Attempted,
        reason: &str,
        now: UnixMillis,
    ) -> Result<(), Error> {
        let reason = reason.to_owned();
        self.write(Answer::Lazy, 0, move |work| {
            work.reschedule(claim, due, floor, attempted, &reason, now)
        })
        .await
    }

    async fn bury(&self, claim: DeliveryClaim, reason: &str, now: UnixMillis) -> Result<(), Error> {
        let reason = reason.to_owned();
        self.write(Answer::Durable, 0, move |work| work.bury(claim, &reason, now))
            .await
    }

    async fn reachable(
        &self,
        channel: &ChannelName,
        conversation: &str,
        thread: Option<&str>,
        now: UnixMillis,
    ) -> Result<(), Error> {
        let (channel, conversation) = (channel.as_str().to_owned(), conversation.to_owned());
        let thread = thread.map(str::to_owned);
        self.write(Answer::Durable, 0, move |work| {
            work.hasten(&channel, &conversation, thread.as_deref(), true, now)
        })
        .await
    }

    async fn next_head_due(&self, channels: &[ChannelName]) -> Result<Option<UnixMillis>, Error> {
        let channels = names(channels);
        self.write(Answer::Lazy, 0, move |work| work.next_head_due(&channels))
            .await
    }

    async fn outbox(
        &self,
        channel: Option<&ChannelName>,
        after: Option<i64>,
        max: usize,
    ) -> Result<Page<DeliveryRecord>, Error> {
        let channel = channel.map(|channel| channel.as_str().to_owned());
        self.readers
            .read(move |db| records::outbox(db, channel.as_deref(), after, max))
            .await
    }

    async fn delivery(&self, key: &DeliveryKey) -> Result<Option<DeliveryRecord>, Error> {
        let key = key.as_str().to_owned();
        self.readers.read(move |db| records::delivery(db, &key)).await
    }

    async fn dead_letters(
        &self,
        filter: &DeadFilter,
        after: Option<(UnixMillis, i64)>,
        max: usize,
    ) -> Result<Page<DeliveryRecord>, Error> {
        let filter = filter.clone();
        self.readers
            .read(move |db| records::dead_letters(db, &filter, after, max))
            .await
    }

    async fn change(&self, change: Change, now: UnixMillis) -> Result<u64, Error> {
        let (verb, subject) = (change.verb(), change.subject());
        let operation = self.operation(change).await?;
        let order = Order {
            operation,
            verb,
            subject,
        };
        self.write(Answer::Durable, 0, move |work| work.operate(&order, now))
            .await
    }

    async fn changes(&self, max: usize) -> Result<Vec<ChangeRecord>, Error> {
        self.readers.read(move |db| records::changes(db, max)).await
    }

    async fn trace(&self, id: &str) -> Result<Vec<Trace>, Error> {
        let id = id.to_owned();
        self.readers.read(move |db| records::trace(db, &id)).await
    }

    async fn state_get(&self, channel: &ChannelName, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let (channel, key) = (channel.as_str().to_owned(), key.to_owned());
        let found = self
            .readers
            .read(move |db| reader::state_get(db, &channel, &key))
            .await?;
        self.durability
            .wait_for(self.board.state_lsn.load(Ordering::Acquire))
            .await?;
        Ok(found)
    }

    async fn state_set(
        &self,
        channel: &ChannelName,
        key: &str,
        value: Option<Vec<u8>>,
        quota: Quota,
    ) -> Result<(), Error> {
        check_state(key, value.as_deref())?;
        let (channel, key) = (channel.as_str().to_owned(), key.to_owned());
        let bytes = value.as_ref().map_or(0, Vec::len);
        self.write(Answer::Durable, bytes, move |work| {
            work.state_set(&channel, &key, value.as_deref(), quota)
        })
        .await
    }

    async fn state_swap(
        &self,
        channel: &ChannelName,
        key: &str,
        expected: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
        quota: Quota,
    ) -> Result<bool, Error> {
        check_state(key, value.as_deref())?;
        let (channel, key) = (channel.as_str().to_owned(), key.to_owned());
        let bytes = value.as_ref().map_or(0, Vec::len);
        self.write(Answer::Durable, bytes, move |work| {
            work.state_swap(&channel, &key, expected.as_deref(), value.as_deref(), quota)
        })
        .await
    }

    async fn state_keys(&self, channel: &ChannelName, prefix: &str) -> Result<Vec<String>, Error> {
        let (channel, prefix) = (channel.as_str().to_owned(), prefix.to_owned());
        let found = self
            .readers
            .read(move |db| reader::state_keys(db, &channel, &prefix))
            .await?;
        self.durability
            .wait_for(self.board.state_lsn.load(Ordering::Acquire))
            .await?;
        found.ok_or_else(|| {
            let bytes = limit::STATE_LIST_BYTES_MAX;
            Error::Quota(format!(
                "at most {bytes} bytes of keys in one list: list them by longer prefixes"
            ))
        })
    }

    async fn blob_put(
        &self,
        channel: &ChannelName,
        media_type: &str,
        bytes: Vec<u8>,
        quota: Quota,
        now: UnixMillis,
    ) -> Result<String, Error> {
        self.durability.check()?;
        let size = bytes.len();
        if size > limit::BLOB_BYTES_MAX {
            return Err(Error::Quota(format!("at most {} bytes a blob", limit::BLOB_BYTES_MAX)));
        }
        let (channel, media_type) = (channel.as_str().to_owned(), media_type.to_owned());
        let name = channel.clone();
        let kept = self.readers.read(move |db| reader::blob_bytes(db, &name)).await?;
        // Asked again with the row; here it only saves writing a file for nothing.
        if keep::is_past(
            kept.saturating_add(keep::charged(outbox::count(size))),
            quota.blob_bytes,
        ) {
            return Err(keep::past_blobs(quota));
        }
        let blob = format!("blob_{}", random_hex::<16>());
        let (dir, file) = (self.blobs.clone(), blob.clone());
        let written = spawn_blocking(move || blob::write(&dir, &file, &bytes)).await;
        let unstored = self.written(size, written.map_err(refused)?)?;
        // From here on the command may be carried out even if this future is dropped: the file must stay.
        unstored.keep();
        let row = blob.clone();
        let added = self
            .write(Answer::Durable, 0, move |work| {
                work.add_blob(&channel, &row, &media_type, size, quota, now)
            })
            .await;
        if let Err(Error::Quota(_) | Error::Busy | Error::Refused(_)) = added {
            blob::remove(&self.blobs.join(&blob));
        }
        added.map(|()| blob)
    }

    async fn blob_get(&self, channel: &ChannelName, blob: &str) -> Result<Option<(String, Vec<u8>)>, Error> {
        let (channel, name) = (channel.as_str().to_owned(), blob.to_owned());
        let found = self.readers.read(move |db| reader::blob(db, &channel, &name)).await?;
        let Some((media_type, size)) = found else {
            return Ok(None);
        };
        // The name is one that this store made: it is in the table.
        let path = self.blobs.join(blob);
        let bytes = spawn_blocking(move || blob::read(&path, size))
            .await
            .map_err(refused)?
            .map_err(refused)?;
        Ok(Some((media_type, bytes)))
    }

    fn depth(&self) -> Depth {
        self.board.depth()
    }

    fn pressure(&self) -> Pressure {
        let marked = self.gauges.pressure(self.board.depth());
        let turns = marked
            .turns
            .or_else(|| self.durability.is_full().then_some(Full::Refused));
        // What has a file with it is not told from the rest before it is taken in. A turn needs no room for a file.
        let files = self.durability.unroomed().map(|_| Full::Files);
        Pressure {
            intake: files.or(marked.intake).or(turns),
            turns,
        }
    }

    fn intake(&self, channel: &ChannelName) -> Option<Full> {
        let waiting = || {
            let shown = self.board.waiting.read().unwrap_or_else(PoisonError::into_inner);
            shown.get(channel.as_str()).copied().unwrap_or_default()
        };
        self.pressure().intake.or_else(|| self.gauges.share_of(waiting()))
    }

    fn usage(&self) -> Usage {
        self.gauges.usage()
    }

    async fn measure(&self) -> Result<Usage, Error> {
        let (blobs, place) = (self.blobs.clone(), Arc::clone(&self.place));
        let look = move |db: &_| Ok((reader::usage(db, &blobs)?, place.lost().map(Path::to_owned)));
        let (measured, lost) = self.readers.read(look).await?;
        if let Some(file) = lost {
            self.durability.poison(format!(
                "{} was removed or replaced while the gateway ran, so nothing more would be kept; start again with the \
                 data directory in its place",
                file.display()
            ));
            return Err(self.durability.error());
        }
        self.gauges.measured(measured);
        self.look_for_room(measured.disk_free_bytes).await;
        Ok(measured)
    }

    async fn flush(&self) -> Result<(), Error> {
        self.durability.flush().await
    }

    async fn shift(&self, jump: i64) -> Result<(), Error> {
        self.write(Answer::Durable, 0, move |work| work.shift(jump)).await
    }

    async fn lazy_note_time(&self, now: UnixMillis) -> Result<Option<i64>, Error> {
        self.write(Answer::Lazy, 0, move |work| work.note_time(now)).await
    }

    async fn lazy_seen(&self, channel: &ChannelName, now: UnixMillis) -> Result<(), Error> {
        let channel = channel.as_str().to_owned();
        self.write(Answer::Lazy, 0, move |work| work.seen(&channel, now)).await
    }

    async fn last_seen(&self, channel: &ChannelName) -> Result<Option<UnixMillis>, Error> {
        let channel = channel.as_str().to_owned();
        self.readers.read(move |db| reader::last_seen(db, &channel)).await
    }

    fn is_sound(&self) -> bool {
        !self.durability.is_poisoned() && lock(&self.queue).is_some()
    }

    async fn sweep(&self, now: UnixMillis) -> Result<u64, Error> {
        let swept = self.write(Answer::Durable, 0, move |work| work.sweep(now)).await?;
        let dir = self.blobs.clone();
        let removed = spawn_blocking(move || swept.blobs.iter().for_each(|name| blob::remove(&dir.join(name))));
        removed.await.map_err(refused)?;
        Ok(swept.rows)
    }

    async fn close(&self) -> Result<(), Error> {
        if let Some(thread) = self.end_queue() {
            let joined = spawn_blocking(move || thread.join()).await.map_err(refused)?;
            if joined.is_err() {
                self.durability.poison("the writer panicked".to_owned());
            }
        }
        self.durability.check()
    }
}

fn names(channels: &[ChannelName]) -> Vec<String> {
    channels.iter().map(|channel| channel.as_str().to_owned()).collect()
}

fn refused(error: impl std::fmt::Display) -> Error {
    Error::Refused(error.to_string())
}

fn check_state(key: &str, value: Option<&[u8]>) -> Result<(), Error> {
    if key.len() > limit::STATE_KEY_BYTES_MAX {
        return Err(Error::Quota(format!(
            "at most {} bytes a key of state",
            limit::STATE_KEY_BYTES_MAX
        )));
    }
    if value.is_some_and(|value| value.len() > limit::STATE_VALUE_BYTES_MAX) {
        return Err(Error::Quota(format!(
            "at most {} bytes a value of state",
            limit::STATE_VALUE_BYTES_MAX
        )));
    }
    Ok(())
}
