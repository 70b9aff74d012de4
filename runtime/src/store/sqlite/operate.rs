//! What an operator does to stored messages. Each change is one transaction with its line in the list of changes.

use rusqlite::{OptionalExtension as _, params};

use super::fresh::FRESH;
use super::outbox::{AWAITING, Outgoing, SENDING, cut};
use super::work::Work;
use super::writer::Failure;
use crate::clock::{UnixMillis, millis};
use crate::event::OutboundEvent;
use crate::limit;
use crate::store::Error;

/// The state of a row that an operator holds back. It counts as its lane's head, and is due only when it
/// expires.
const HELD: i64 = -1;
/// Why a row is gone that an operator dropped.
const DROPPED: &str = "dropped by the operator";

/// A change as the writer makes it: what it is about was found before, where that takes reading texts.
pub(super) enum Operation {
    Hold(String),
    Release(String),
    Drop(String),
    Redrive(Vec<String>),
    DropDead(Vec<String>),
    Resubmit(String),
    DropInbound(String),
    Note,
}

/// An operation with what stands in the list of changes.
pub(super) struct Order {
    pub(super) operation: Operation,
    pub(super) verb: &'static str,
    pub(super) subject: String,
}

/// A row of the outbox that a change is about.
struct Target {
    seq: i64,
    lane: i64,
    state: i64,
}

impl Work<'_> {
    /// Carries a change out. Returns how many messages it changed.
    pub(super) fn operate(&mut self, order: &Order, now: UnixMillis) -> Result<u64, Failure> {
        let count = match &order.operation {
            Operation::Hold(key) => self.hold(key)?,
            Operation::Release(key) => self.release(key, now)?,
            Operation::Drop(key) => self.drop_live(key, now)?,
            Operation::Redrive(keys) => self.of_each(keys, |work, key| work.redrive(key, now))?,
            Operation::DropDead(keys) => self.of_each(keys, |work, key| work.drop_dead(key, now))?,
            Operation::Resubmit(event) => u64::from(self.resubmit(event, now)?),
            Operation::DropInbound(event) => u64::from(self.drop_inbound(event)?),
            Operation::Note => 1,
        };
        if count > 0 {
            self.keep_change(order, count, now)?;
        }
        Ok(count)
    }

    fn of_each(
        &mut self,
        keys: &[String],
        mut change: impl FnMut(&mut Self, &str) -> Result<bool, Failure>,
    ) -> Result<u64, Failure> {
        let mut count = 0;
        for key in keys {
            count += u64::from(change(self, key)?);
        }
        Ok(count)
    }

    /// Adds a line to the list of changes, and forgets the oldest past the bound.
    fn keep_change(&mut self, order: &Order, count: u64, now: UnixMillis) -> Result<(), Failure> {
        let sql = "INSERT INTO change (at, verb, subject, count) VALUES (?1, ?2, ?3, ?4) RETURNING id";
        let values = params![
            now,
            order.verb,
            cut(&order.subject),
            i64::try_from(count).unwrap_or(i64::MAX)
        ];
        let id: i64 = self.sql(sql)?.query_row(values, |row| row.get(0))?;
        self.sql("DELETE FROM change WHERE id <= ?1")?
            .execute([id.saturating_sub(limit::CHANGES_KEPT_MAX)])?;
        Ok(())
    }

    // ---- what waits

    /// Holds a row back. One that an earlier process left marked as being sent has an unknown outcome, which stays known.
    fn hold(&mut self, key: &str) -> Result<u64, Failure> {
        let Some(target) = self
            .live_row(key)?
            .filter(|target| (0..=SENDING).contains(&target.state))
        else {
            return Ok(0);
        };
        let sql = "UPDATE outbox SET state = ?2, due_at = expires_at, ambiguous = ambiguous + (state = 2),
                ambiguous_at = CASE WHEN state = 2 THEN attempt_at ELSE ambiguous_at END
            WHERE seq = ?1";
        self.sql(sql)?.execute(params![target.seq, HELD])?;
        self.refresh_lane(target.lane)?;
        Ok(1)
    }

    fn release(&mut self, key: &str, now: UnixMillis) -> Result<u64, Failure> {
        let Some(target) = self.live_row(key)?.filter(|target| target.state == HELD) else {
            return Ok(0);
        };
        self.sql("UPDATE outbox SET state = attempts > 0, due_at = ?2 WHERE seq = ?1")?
            .execute(params![target.seq, now])?;
        self.refresh_lane(target.lane)?;
        Ok(1)
    }

    fn drop_live(&mut self, key: &str, now: UnixMillis) -> Result<u64, Failure> {
        let Some(target) = self.live_row(key)? else {
            return Ok(0);
        };
        let sql = "UPDATE outbox SET state = 6, finished_at = ?2, note = ?3, parts = NULL WHERE seq = ?1";
        self.sql(sql)?.execute(params![target.seq, now, DROPPED])?;
        self.drop_text(target.seq);
        self.memory.counts.outbox -= 1;
        self.memory.counts.awaiting -= i64::from(target.state == AWAITING);
        self.refresh_lane(target.lane)?;
        Ok(1)
    }

    /// Finds a row that is neither delivered nor given up. One whose attempt is under way is left alone: what becomes of
    /// that must be written first.
    fn live_row(&mut self, key: &str) -> Result<Option<Target>, Failure> {
        let sql = "SELECT seq, lane, state FROM outbox WHERE key = ?1 AND (state <= 3 OR state >= 10)";
        let found = self.sql(sql)?.query_row([key], |row| {
            Ok(Target {
                seq: row.get(0)?,
                lane: row.get(1)?,
                state: row.get(2)?,
            })
        });
        match found.optional()? {
            Some(target) if self.memory.is_row_in_flight(target.seq) => Err(Error::InFlight.into()),
            Some(target) => {
                self.settle_lane(target.lane)?;
                let state = target.state % FRESH;
                Ok(Some(Target { state, ..target }))
            }
            None => Ok(None),
        }
    }

    // ---- dead letters

    /// Puts a dead letter back, as the last of its lane.
    fn redrive(&mut self, key: &str, now: UnixMillis) -> Result<bool, Failure> {
        let Some((old, body)) = self.dead_row(key)? else {
            return Ok(false);
        };
        let event: OutboundEvent =
            serde_json::from_str(&body).map_err(|error| Error::Refused(format!("a damaged dead letter: {error}")))?;
        let lane = self.lane_for(&Outgoing::of(&event)?)?;
        self.settle_lane(lane)?;
        let seq = self.next_seq();
        let sql = "UPDATE outbox SET seq = ?2, lane = ?3, state = 0, due_at = ?4, created_at = ?4, expires_at = ?5,
                attempts = 0, attempt_at = NULL, ambiguous = 0, ambiguous_at = NULL, finished_at = NULL, note = NULL
            WHERE seq = ?1";
        let expires_at = now.saturating_add(millis(event.purpose.expiry()));
        self.unindex_sent(old)?;
        self.sql(sql)?.execute(params![old, seq, lane, now, expires_at])?;
        self.sql("UPDATE outbox_body SET seq = ?2 WHERE seq = ?1")?
            .execute([old, seq])?;
        self.memory.counts.dead -= 1;
        self.memory.counts.outbox += 1;
        self.wake_lane(lane, seq, now, expires_at)?;
        Ok(true)
    }

    /// Drops a dead letter. From now on it is as old as its drop, so that its key is known for as long as any other.
    fn drop_dead(&mut self, key: &str, now: UnixMillis) -> Result<bool, Failure> {
        let Some((seq, _)) = self.dead_row(key)? else {
            return Ok(false);
        };
        self.sql("UPDATE outbox SET state = 6, finished_at = ?2, parts = NULL WHERE seq = ?1")?
            .execute(params![seq, now])?;
        self.drop_text(seq);
        self.memory.counts.dead -= 1;
        Ok(true)
    }

    fn dead_row(&self, key: &str) -> Result<Option<(i64, String)>, Failure> {
        let sql = "SELECT seq, body FROM outbox JOIN outbox_body USING (seq) WHERE key = ?1 AND state = 5";
        Ok(self
            .sql(sql)?
            .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?)
    }

    // ---- what came in

    /// Lets a turn that was given up run again.
    fn resubmit(&mut self, event: &str, now: UnixMillis) -> Result<bool, Failure> {
        let sql = "UPDATE inbox INDEXED BY inbox_dead
            SET state = 0, due_at = ?2, failures = 0, note = NULL, finished_at = NULL
            WHERE event_id = ?1 AND state = 2 RETURNING session, channel";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let found = self.sql(sql)?.query_row(params![event, now], row);
        let Some((session, channel)) = found.optional()? else {
            return Ok(false);
        };
        self.memory.inbox_changes(channel, 1);
        self.memory.counts.dead_inbound -= 1;
        self.refresh_session(session)?;
        Ok(true)
    }

    /// Drops an inbound event that was given up: what is left is as of one that is done.
    fn drop_inbound(&mut self, event: &str) -> Result<bool, Failure> {
        let sql = "UPDATE inbox INDEXED BY inbox_dead SET state = 1, note = ?2
            WHERE event_id = ?1 AND state = 2 RETURNING seq";
        let found = self.sql(sql)?.query_row([event, DROPPED], |row| row.get::<_, i64>(0));
        let Some(seq) = found.optional()? else {
            return Ok(false);
        };
        self.memory.texts.inbox.push(seq);
        self.memory.counts.dead_inbound -= 1;
        Ok(true)
    }
}
