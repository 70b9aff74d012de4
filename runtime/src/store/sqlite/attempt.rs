//! What became of an attempt to deliver, and of what was given up.

use rusqlite::{OptionalExtension as _, params};

use super::outbox::{AWAITING, SENDING, cut, to_json};
use super::work::Work;
use super::writer::Failure;
use crate::clock::UnixMillis;
use crate::event::{Receipt, SentPart};
use crate::store::{Attempted, DeliveryClaim, Error};

/// Finds the lanes of a conversation in which something waits. By their place: left to itself, SQLite goes through all
/// lanes of the channel in which anything waits, for each message that comes in.
pub(super) const WAITING_LANES_OF: &str = "SELECT id FROM lane INDEXED BY lane_place
    WHERE channel = ?1 AND conversation = ?2 AND (?3 IS NULL OR thread = ?3) AND due_at IS NOT NULL";

impl Work<'_> {
    // ---- what became of an attempt

    /// Marks an attempt as being sent. One that a confirmation has settled meanwhile needs no mark.
    pub(super) fn mark_sending(&mut self, claim: DeliveryClaim, now: UnixMillis) -> Result<(), Failure> {
        let lane = self.held_lane(claim)?;
        if self.marks_fresh(claim, lane, now) {
            return Ok(());
        }
        let sql = "UPDATE outbox SET state = 2, attempts = ?2, attempt_at = ?3 WHERE seq = ?1 AND state IN (0, 1)";
        self.sql(sql)?.execute(params![claim.row, claim.attempt, now])?;
        Ok(())
    }

    /// Stores that a part reached the platform, for a row of the channel that is in flight.
    pub(super) fn part_sent(&mut self, channel: &str, key: &str, part: &SentPart) -> Result<(), Failure> {
        let sql = "SELECT seq, parts FROM outbox JOIN lane ON lane.id = outbox.lane
            WHERE key = ?1 AND state IN (0, 1, 2, 10, 12) AND channel = ?2";
        let channel = self.channel_id(channel)?;
        let found: Option<(i64, Option<String>)> = self
            .sql(sql)?
            .query_row(params![key, channel], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((seq, parts)) = found.filter(|(seq, _)| self.memory.is_row_in_flight(*seq)) else {
            return Ok(());
        };
        let mut parts = sent_parts(parts.as_deref())?;
        parts.retain(|known| known.index != part.index);
        parts.push(part.clone());
        parts.sort_by_key(|known| known.index);
        self.sql("UPDATE outbox SET parts = ?2 WHERE seq = ?1")?
            .execute(params![seq, to_json(&parts)?])?;
        Ok(())
    }

    pub(super) fn ack(&mut self, claim: DeliveryClaim, receipt: &str, now: UnixMillis) -> Result<(), Failure> {
        let sql = "UPDATE outbox SET state = 4, finished_at = ?2, receipt = ?3, parts = NULL, note = NULL,
                attempts = ?4, attempt_at = CASE WHEN state = 2 THEN attempt_at ELSE ?2 END
            WHERE seq = ?1 AND state IN (0, 1, 2)";
        let lane = self.held_lane(claim)?;
        self.memory.proven.insert(lane);
        if self.ack_fresh(claim, lane, receipt, now)? {
            return Ok(());
        }
        let values = params![claim.row, now, receipt, claim.attempt];
        if self.sql(sql)?.execute(values)? == 0 {
            return self.keep_settled(claim, lane, Some(receipt));
        }
        self.drop_text(claim.row);
        self.memory.counts.outbox -= 1;
        self.index_sent(claim.row)?;
        self.give_back(claim, lane)
    }

    pub(super) fn await_confirmation(
        &mut self,
        claim: DeliveryClaim,
        receipt: &str,
        deadline: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), Failure> {
        let sql = "UPDATE outbox SET state = 3, due_at = min(?2, expires_at), receipt = ?3,
                attempts = ?4, attempt_at = CASE WHEN state = 2 THEN attempt_at ELSE ?5 END
            WHERE seq = ?1 AND state IN (0, 1, 2)";
        let lane = self.held_and_settled_lane(claim)?;
        self.memory.proven.insert(lane);
        let values = params![claim.row, deadline, receipt, claim.attempt, now];
        if self.sql(sql)?.execute(values)? == 0 {
            return self.keep_settled(claim, lane, Some(receipt));
        }
        self.memory.counts.awaiting += 1;
        self.index_sent(claim.row)?;
        self.give_back(claim, lane)
    }

    pub(super) fn reschedule(
        &mut self,
        claim: DeliveryClaim,
        due: UnixMillis,
        floor: bool,
        attempted: Attempted,
        reason: &str,
        now: UnixMillis,
    ) -> Result<(), Failure> {
        // One that was not marked has sent nothing: it has no time of its own but its end.
        let sql = "UPDATE outbox SET state = 1, due_at = min(?2, expires_at), note = ?3, attempts = ?4 - ?5,
                attempt_at = CASE WHEN state = 2 OR ?5 THEN attempt_at ELSE ?7 END, ambiguous = ambiguous + ?6,
                ambiguous_at = CASE WHEN ?6 THEN iif(state = 2, attempt_at, ?7) ELSE ambiguous_at END
            WHERE seq = ?1 AND state IN (0, 1, 2)";
        let lane = self.held_and_settled_lane(claim)?;
        if attempted != Attempted::NotAtAll {
            self.memory.proven.remove(lane);
        }
        let values = params![
            claim.row,
            due,
            cut(reason),
            claim.attempt,
            attempted == Attempted::NotAtAll,
            attempted == Attempted::Ambiguous,
            now
        ];
        if self.sql(sql)?.execute(values)? == 0 {
            return self.keep_settled(claim, lane, None);
        }
        if floor {
            self.sql("UPDATE lane SET floor_at = max(floor_at, ?2) WHERE id = ?1")?
                .execute(params![lane, due])?;
        }
        self.give_back(claim, lane)
    }

    pub(super) fn bury(&mut self, claim: DeliveryClaim, reason: &str, now: UnixMillis) -> Result<(), Failure> {
        let lane = self.held_and_settled_lane(claim)?;
        self.memory.proven.remove(lane);
        let sql = "UPDATE outbox SET attempts = ?2 WHERE seq = ?1 AND state IN (0, 1, 2)";
        if self.sql(sql)?.execute(params![claim.row, claim.attempt])? == 0 {
            return self.keep_settled(claim, lane, None);
        }
        self.make_dead(claim.row, SENDING, reason, now)?;
        self.give_back(claim, lane)
    }

    /// Returns the lane that a claim holds.
    fn held_lane(&self, claim: DeliveryClaim) -> Result<i64, Failure> {
        self.memory.lane_of(claim).ok_or_else(|| Error::Stale.into())
    }

    fn held_and_settled_lane(&mut self, claim: DeliveryClaim) -> Result<i64, Failure> {
        let lane = self.held_lane(claim)?;
        self.settle_lane(lane)?;
        Ok(lane)
    }

    fn give_back(&mut self, claim: DeliveryClaim, lane: i64) -> Result<(), Failure> {
        self.memory.give_lane(claim.row);
        self.refresh_lane(lane)
    }

    /// Ends a claim whose row was settled by a confirmation while the attempt was still under way.
    fn keep_settled(&mut self, claim: DeliveryClaim, lane: i64, receipt: Option<&str>) -> Result<(), Failure> {
        let sql = "UPDATE outbox SET receipt = coalesce(?2, receipt) WHERE seq = ?1 AND state = 4";
        self.sql(sql)?.execute(params![claim.row, receipt])?;
        self.index_sent(claim.row)?;
        self.give_back(claim, lane)
    }

    // ---- confirmations

    /// Settles a delivery by what the platform said later. It may say so before the attempt itself has ended.
    pub(super) fn confirm(
        &mut self,
        channel: &str,
        key: &str,
        refused: Option<&str>,
        now: UnixMillis,
    ) -> Result<bool, Failure> {
        self.settle_lane_of(key)?;
        let sql = "SELECT seq, outbox.lane, state, attempts FROM outbox
            JOIN lane ON lane.id = outbox.lane JOIN channel ON channel.id = lane.channel
            WHERE key = ?1 AND name = ?2 AND state IN (-1, 1, 2, 3)";
        let found: Option<(i64, i64, i64, u32)> = self
            .sql(sql)?
            .query_row([key, channel], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .optional()?;
        match (found, refused) {
            // Good news about any attempt settles it; bad news only where no further attempt is planned.
            (Some((seq, lane, state, attempts)), None) if attempts > 0 => self.deliver_late(seq, lane, state, now)?,
            (Some((seq, lane, state @ (SENDING | AWAITING), _)), Some(reason)) => {
                self.make_dead(seq, state, reason, now)?;
                self.refresh_lane(lane)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn deliver_late(&mut self, seq: i64, lane: i64, state: i64, now: UnixMillis) -> Result<(), Failure> {
        let sql = "UPDATE outbox SET state = 4, finished_at = ?2, parts = NULL, note = NULL WHERE seq = ?1";
        self.sql(sql)?.execute(params![seq, now])?;
        self.drop_text(seq);
        self.memory.counts.outbox -= 1;
        self.memory.counts.awaiting -= i64::from(state == AWAITING);
        self.refresh_lane(lane)
    }

    // ---- waits cut short

    /// Makes the retries of a conversation due now; with `confirmations`, also what awaits one. `thread` is any where
    /// none. A floor stays.
    pub(super) fn hasten(
        &mut self,
        channel: &str,
        conversation: &str,
        thread: Option<&str>,
        confirmations: bool,
        now: UnixMillis,
    ) -> Result<(), Failure> {
        let channel = self.channel_id(channel)?;
        let lanes = self.sql(WAITING_LANES_OF)?;
        for lane in ids(lanes, params![channel, conversation, thread])? {
            let sql = "UPDATE outbox INDEXED BY outbox_wait SET due_at = ?2
                WHERE lane = ?1 AND (state = 1 OR state = 3) AND due_at > ?2 AND (state = 1 OR ?3)";
            if self.sql(sql)?.execute(params![lane, now, confirmations])? > 0 {
                self.refresh_lane(lane)?;
            }
        }
        Ok(())
    }

    // ---- dead letters

    /// Makes a live row, in `state`, a dead letter. The lane is left to the caller.
    pub(super) fn make_dead(&mut self, seq: i64, state: i64, reason: &str, now: UnixMillis) -> Result<(), Failure> {
        self.sql("UPDATE outbox SET state = 5, finished_at = ?2, note = ?3 WHERE seq = ?1")?
            .execute(params![seq, now, cut(reason)])?;
        self.memory.counts.outbox -= 1;
        self.memory.counts.dead += 1;
        self.memory.counts.awaiting -= i64::from(state == AWAITING);
        Ok(())
    }
}

/// Reads what the platform accepted so far.
pub(super) fn sent_parts(json: Option<&str>) -> Result<Vec<SentPart>, Error> {
    json.map_or(Ok(Vec::new()), |json| {
        serde_json::from_str(json).map_err(|error| Error::Refused(format!("damaged parts: {error}")))
    })
}

/// Writes a receipt's message ids.
pub(super) fn receipt_json(receipt: &Receipt) -> Result<String, Error> {
    to_json(&receipt.message_ids)
}

/// Runs a query whose only column is an id.
fn ids(mut statement: rusqlite::CachedStatement<'_>, values: impl rusqlite::Params) -> rusqlite::Result<Vec<i64>> {
    statement.query_map(values, |row| row.get(0))?.collect()
}
