//! Fresh lanes: those in which everything that waits is new.
//!
//! Most events are delivered moments after they are stored. So the writer keeps the queue of such a lane in memory: its
//! rows are stored, durable like all others, but in states of their own ([`FRESH`] and up) that stand in no index, and
//! the lane's own row does not change. What is delivered at once costs its row, its key and its text, and never the
//! upkeep of an order that is over already.
//!
//! Only an enqueue, a claim, a mark, a part and an acknowledgement know of fresh lanes. **Every other command settles the lane
//! first** ([`Work::settle_lane`]): its rows get the states and index entries that they would have had. The table is
//! always the truth: at the opening the fresh rows are found behind `gateway.fresh_from` and settled, and after a
//! rollback they are read again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::outbox::{Claimed, Outgoing};
use super::standing::Proven;
use super::texts::runs;
use super::work::Work;
use super::writer::Failure;
use crate::clock::UnixMillis;
use crate::limit;
use crate::store::{DeliveryClaim, Standing};

/// What is added to the state of a row as long as its lane is fresh.
pub(super) const FRESH: i64 = 10;

/// A row of a fresh lane, not yet sent.
struct FreshRow {
    lane: i64,
    due_at: UnixMillis,
    expires_at: UnixMillis,
    body: Arc<str>,
}

struct FreshLane {
    channel: i64,
    /// Whether it is known to deliver.
    is_proven: bool,
    /// Its rows in order; the first is in flight where the lane is.
    rows: VecDeque<i64>,
}

/// Where a lane stands in the order of a claim: its channel, whether it is known to deliver, when it is due, itself.
type Place = (i64, bool, UnixMillis, i64);

/// The fresh lanes and their rows, as the table has them.
#[derive(Default)]
pub(super) struct Fresh {
    rows: BTreeMap<i64, FreshRow>,
    lanes: HashMap<i64, FreshLane>,
    /// Those not in flight.
    due: BTreeSet<Place>,
    bytes: usize,
    /// Lanes in which nothing waits and no floor lies ahead, as far as is known without a look.
    idle: HashSet<i64>,
}

impl FreshLane {
    fn standing(&self) -> Standing {
        match self.is_proven {
            true => Standing::Proven,
            false => Standing::New,
        }
    }
}

impl Fresh {
    /// Returns whether a lane is fresh.
    pub(super) fn has(&self, lane: i64) -> bool {
        self.lanes.contains_key(&lane)
    }

    /// Returns how many rows of a lane are fresh.
    pub(super) fn rows_in(&self, lane: i64) -> usize {
        self.lanes.get(&lane).map_or(0, |lane| lane.rows.len())
    }

    /// Returns the lowest fresh row.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.rows.first_key_value().map(|(seq, _)| *seq)
    }

    /// Returns fresh lanes of a channel that are due and not in flight, the longest due first: those that are known to
    /// deliver, or the others.
    pub(super) fn due(
        &self,
        channel: i64,
        is_proven: bool,
        now: UnixMillis,
    ) -> impl Iterator<Item = (UnixMillis, i64)> {
        let (first, last) = (
            (channel, is_proven, i64::MIN, i64::MIN),
            (channel, is_proven, now, i64::MAX),
        );
        self.due.range(first..=last).map(|(_, _, due, lane)| (*due, *lane))
    }

    /// Returns when the next of them falls due.
    pub(super) fn next_due(&self, channel: i64, is_proven: bool) -> Option<UnixMillis> {
        self.due(channel, is_proven, UnixMillis::MAX).next().map(|(due, _)| due)
    }

    /// Returns what is known of a lane, where it is fresh.
    pub(super) fn standing(&self, lane: i64) -> Option<Standing> {
        self.lanes.get(&lane).map(FreshLane::standing)
    }

    /// Forgets which lanes are idle: their rows may be gone.
    pub(super) fn forget_idle(&mut self) {
        self.idle.clear();
    }

    /// Says that a lane may no longer be idle.
    pub(super) fn is_busy(&mut self, lane: i64) {
        self.idle.remove(&lane);
    }

    fn push(&mut self, channel: i64, seq: i64, row: FreshRow, proven: &Proven) {
        let lane = self.lanes.entry(row.lane).or_insert_with(|| FreshLane {
            channel,
            is_proven: proven.has(row.lane),
            rows: VecDeque::new(),
        });
        if lane.rows.is_empty() {
            self.due.insert((channel, lane.is_proven, row.due_at, row.lane));
        }
        lane.rows.push_back(seq);
        self.bytes += row.body.len();
        self.idle.remove(&row.lane);
        self.rows.insert(seq, row);
    }

    /// Takes a lane's head into flight: it is no longer due.
    fn take(&mut self, lane: i64) {
        if let Some(place) = self.place(lane) {
            self.due.remove(&place);
        }
    }

    fn place(&self, id: i64) -> Option<Place> {
        let lane = self.lanes.get(&id)?;
        Some((lane.channel, lane.is_proven, self.head(id)?.due_at, id))
    }

    fn head(&self, lane: i64) -> Option<&FreshRow> {
        self.rows.get(&self.head_seq(lane)?)
    }

    fn head_seq(&self, lane: i64) -> Option<i64> {
        self.lanes.get(&lane)?.rows.front().copied()
    }

    /// Drops a lane's delivered head; the next is due.
    fn pop(&mut self, lane: i64) {
        let Some(queue) = self.lanes.get_mut(&lane) else { return };
        queue.is_proven = true;
        if let Some(row) = queue.rows.pop_front().and_then(|seq| self.rows.remove(&seq)) {
            self.bytes -= row.body.len();
        }
        if let Some(place) = self.place(lane) {
            self.due.insert(place);
            return;
        }
        self.lanes.remove(&lane);
        if self.idle.len() >= limit::FRESH_ROWS_MAX {
            self.idle.clear();
        }
        self.idle.insert(lane);
    }

    /// Drops a lane that is settled, and returns its rows.
    fn remove(&mut self, lane: i64) -> VecDeque<i64> {
        self.take(lane);
        let rows = self.lanes.remove(&lane).map(|lane| lane.rows).unwrap_or_default();
        for seq in &rows {
            if let Some(row) = self.rows.remove(seq) {
                self.bytes -= row.body.len();
            }
        }
        rows
    }

    fn is_too_much(&self, next_seq: i64) -> bool {
        self.rows.len() > limit::FRESH_ROWS_MAX
            || self.bytes > limit::FRESH_BYTES_MAX
            || self
                .oldest()
                .is_some_and(|oldest| next_seq - oldest > limit::FRESH_SPAN_MAX)
    }

    /// Reads the fresh rows again. `is_in_flight` says of a row whether its attempt is under way.
    pub(super) fn load(db: &Connection, proven: &Proven, is_in_flight: impl Fn(i64) -> bool) -> rusqlite::Result<Self> {
        let sql = "SELECT outbox.seq, lane.channel, lane.id, outbox.due_at, expires_at, coalesce(body, '')
            FROM outbox JOIN lane ON lane.id = outbox.lane LEFT JOIN outbox_body ON outbox_body.seq = outbox.seq
            WHERE outbox.seq >= (SELECT fresh_from FROM gateway) AND state >= 10 ORDER BY outbox.seq";
        let mut statement = db.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        let mut fresh = Self::default();
        while let Some(row) = rows.next()? {
            let seq = row.get(0)?;
            let found = FreshRow {
                lane: row.get(2)?,
                due_at: row.get(3)?,
                expires_at: row.get(4)?,
                body: row.get(5)?,
            };
            let lane = found.lane;
            fresh.push(row.get(1)?, seq, found, proven);
            if is_in_flight(seq) {
                fresh.take(lane);
            }
        }
        Ok(fresh)
    }
}

/// Fresh rows that are marked as being sent with the present transaction, and when: those stored one after the other are
/// often sent together.
#[derive(Default)]
pub(super) struct Marks(Vec<(i64, UnixMillis)>);

impl Marks {
    /// Returns a point to roll back to.
    pub(super) fn mark(&self) -> usize {
        self.0.len()
    }

    /// Forgets what was added since a point.
    pub(super) fn roll_back_to(&mut self, point: usize) {
        self.0.truncate(point);
    }

    /// Writes them, all with the time of the first. A row that was settled since is marked as one; one whose attempt has
    /// ended since is left as it is.
    pub(super) fn write_to(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let Some(first_at) = self.0.iter().map(|(_, at)| *at).min() else {
            return Ok(());
        };
        let mut rows: Vec<i64> = self.0.drain(..).map(|(row, _)| row).collect();
        rows.sort_unstable();
        let sql = "UPDATE outbox SET state = state + 2, attempts = 1, attempt_at = ?3
            WHERE seq BETWEEN ?1 AND ?2 AND (state = 10 OR state = 0)";
        for (first, last) in runs(&rows) {
            db.prepare_cached(sql)?.execute([first, last, first_at])?;
        }
        Ok(())
    }
}

/// A row that was stored for a fresh lane.
pub(super) struct NewRow<'a> {
    pub(super) channel: i64,
    pub(super) lane: i64,
    pub(super) seq: i64,
    pub(super) expires_at: UnixMillis,
    pub(super) event: &'a Outgoing,
}

impl Work<'_> {
    /// Returns whether a new row of a lane may be kept as fresh: all that waits there is, and no floor lies ahead.
    pub(super) fn takes_fresh(&mut self, lane: i64, now: UnixMillis) -> Result<bool, Failure> {
        if self.memory.fresh.has(lane) || self.memory.fresh.idle.contains(&lane) {
            return Ok(true);
        }
        if self.memory.is_in_flight(lane) {
            // Its row was settled by a confirmation while the attempt is still under way.
            return Ok(false);
        }
        let sql = "SELECT due_at IS NULL AND floor_at <= ?2 FROM lane WHERE id = ?1";
        Ok(self.sql(sql)?.query_row(params![lane, now], |row| row.get(0))?)
    }

    /// Queues a row that was stored as fresh. Settles the oldest lanes where there are too many rows.
    pub(super) fn push_fresh(&mut self, new: &NewRow<'_>, now: UnixMillis) -> Result<(), Failure> {
        let row = FreshRow {
            lane: new.lane,
            due_at: now,
            expires_at: new.expires_at,
            body: Arc::clone(new.event.body()),
        };
        self.memory.fresh.push(new.channel, new.seq, row, &self.memory.proven);
        while self.memory.fresh.is_too_much(self.memory.next_seq()) {
            self.settle_oldest()?;
        }
        Ok(())
    }

    /// Claims the head of a fresh lane. None where the lane is not fresh, or was settled because its head has expired.
    pub(super) fn claim_fresh(&mut self, lane: i64, now: UnixMillis) -> Result<Option<Claimed>, Failure> {
        let fresh = &self.memory.fresh;
        let (Some(seq), Some(head), Some(standing)) = (fresh.head_seq(lane), fresh.head(lane), fresh.standing(lane))
        else {
            return Ok(None);
        };
        if head.expires_at <= now {
            self.settle_lane(lane)?;
            return Ok(None);
        }
        let claimed = Claimed {
            claim: DeliveryClaim { row: seq, attempt: 1 },
            ambiguous: 0,
            ambiguous_at_ms: None,
            created_at_ms: head.due_at,
            parts: None,
            standing,
            body: Arc::clone(&head.body),
        };
        self.memory.fresh.take(lane);
        self.memory.take_lane(claimed.claim, lane);
        self.seen_seq = self.seen_seq.max(seq);
        Ok(Some(claimed))
    }

    /// Marks a fresh lane's head as being sent, with the end of the transaction. Returns whether the claim was for one.
    pub(super) fn marks_fresh(&mut self, claim: DeliveryClaim, lane: i64, now: UnixMillis) -> bool {
        let is_head = self.memory.fresh.head_seq(lane) == Some(claim.row);
        if is_head {
            self.memory.marks.0.push((claim.row, now));
        }
        is_head
    }

    /// Ends the delivery of a fresh lane's head. Returns whether the claim was for one.
    pub(super) fn ack_fresh(
        &mut self,
        claim: DeliveryClaim,
        lane: i64,
        receipt: &str,
        now: UnixMillis,
    ) -> Result<bool, Failure> {
        if self.memory.fresh.head_seq(lane) != Some(claim.row) {
            return Ok(false);
        }
        let sql = "UPDATE outbox SET state = 4, finished_at = ?2, receipt = ?3, parts = NULL,
            attempts = 1, attempt_at = coalesce(attempt_at, ?2) WHERE seq = ?1";
        self.sql(sql)?.execute(params![claim.row, now, receipt])?;
        self.drop_text(claim.row);
        self.memory.counts.outbox -= 1;
        self.index_sent(claim.row)?;
        self.memory.give_lane(claim.row);
        self.memory.fresh.pop(lane);
        Ok(true)
    }

    /// Makes a fresh lane one like all others; one that is not fresh stays as it is.
    pub(super) fn settle_lane(&mut self, lane: i64) -> Result<(), Failure> {
        if !self.memory.fresh.has(lane) {
            return Ok(());
        }
        for seq in self.memory.fresh.remove(lane) {
            self.sql("UPDATE outbox SET state = state - 10 WHERE seq = ?1")?
                .execute([seq])?;
        }
        self.refresh_lane(lane)
    }

    /// Settles the lane of a row, if it is fresh.
    pub(super) fn settle_lane_of(&mut self, key: &str) -> Result<(), Failure> {
        let sql = "SELECT lane FROM outbox WHERE key = ?1 AND state >= 10";
        let lane = self.sql(sql)?.query_row([key], |row| row.get(0)).optional()?;
        lane.map_or(Ok(()), |lane| self.settle_lane(lane))
    }

    /// Settles every fresh lane.
    pub(super) fn settle_all(&mut self) -> Result<(), Failure> {
        while !self.memory.fresh.rows.is_empty() {
            self.settle_oldest()?;
        }
        Ok(())
    }

    fn settle_oldest(&mut self) -> Result<(), Failure> {
        let oldest = self.memory.fresh.rows.first_key_value().map(|(_, row)| row.lane);
        oldest.map_or(Ok(()), |lane| self.settle_lane(lane))
    }
}
