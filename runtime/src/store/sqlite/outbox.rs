//! The outbox: lanes, their heads, and what becomes of an attempt.
//!
//! A lane's head is its lowest row in states 0 to 2; rows that await a confirmation stand aside until they fall due,
//! and then go first. `lane.due_at` always says when the lane next has something to do, so that claiming reads one
//! index however much is waiting.

use std::sync::Arc;

use rusqlite::{OptionalExtension as _, Row, params};

use super::fresh::{FRESH, NewRow};
use super::standing::Proven;
use super::work::Work;
use super::writer::Failure;
use crate::clock::{UnixMillis, millis};
use crate::event::OutboundEvent;
use crate::limit;
use crate::store::{Ask, DeliveryClaim, Error, Places, Standing};

/// An outbound event as it is stored: made by the caller, so that the writer does not spend its time on JSON.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    key: String,
    channel: String,
    conversation: String,
    thread: String,
    /// How long it is tried, ms.
    expiry_ms: i64,
    body: Arc<str>,
}

impl Outgoing {
    pub(super) fn of(event: &OutboundEvent) -> Result<Self, Error> {
        Ok(Self {
            key: event.key.as_str().to_owned(),
            channel: event.channel.as_str().to_owned(),
            conversation: event.conversation.id.clone(),
            thread: event.conversation.thread.clone().unwrap_or_default(),
            expiry_ms: millis(event.purpose.expiry()),
            body: to_json(event)?.into(),
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.body.len()
    }

    pub(super) fn body(&self) -> &Arc<str> {
        &self.body
    }
}

/// Writes a value as JSON.
pub(super) fn to_json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Refused(error.to_string()))
}

/// Cuts a reason to its bound.
pub(super) fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(limit::REASON_BYTES_MAX)]
}

/// A claimed row, its JSON not yet read.
pub(super) struct Claimed {
    pub(super) claim: DeliveryClaim,
    pub(super) ambiguous: u32,
    pub(super) ambiguous_at_ms: Option<UnixMillis>,
    pub(super) created_at_ms: UnixMillis,
    pub(super) parts: Option<String>,
    pub(super) standing: Standing,
    pub(super) body: Arc<str>,
}

/// A row that had expired, its JSON not yet read.
pub(super) struct Expired {
    pub(super) attempts: u32,
    pub(super) body: Arc<str>,
}

/// What a claim came to.
#[derive(Default)]
pub(super) struct Heads {
    pub(super) claimed: Vec<Claimed>,
    pub(super) expired: Vec<Expired>,
    pub(super) next_due: Option<UnixMillis>,
    /// Bytes of what expired.
    expired_bytes: usize,
}

impl Heads {
    /// Returns whether the claim has buried as much as one may: the rest waits for the next.
    fn has_buried_enough(&self) -> bool {
        self.expired.len() >= limit::SWEEP_ROWS_MAX || self.expired_bytes >= limit::STORE_BATCH_BYTES_MAX
    }
}

/// Why an expired row is dead.
pub(super) const EXPIRED: &str = "it expired before it could be delivered";

/// What a claim may still take of one channel.
struct Queue {
    channel: i64,
    lanes: std::vec::IntoIter<DueLane>,
    places: Places,
}

/// A lane with something to do.
#[derive(Clone, Copy)]
struct DueLane {
    id: i64,
    /// Whether its floor lies ahead: then only what has expired is dealt with.
    is_held: bool,
    due_at: UnixMillis,
}

/// What a lane would send next, as it is before the claim.
struct Candidate {
    seq: i64,
    state: i64,
    due_at: UnixMillis,
    expires_at: UnixMillis,
    attempt_at: Option<UnixMillis>,
    claimed: Claimed,
}

/// The state of a row that waits for its next attempt.
const TRIED: i64 = 1;
/// The state of a row of which something may have left the host.
pub(super) const SENDING: i64 = 2;
/// The state of a row that was handed over and awaits its confirmation.
pub(super) const AWAITING: i64 = 3;

impl Work<'_> {
    // ---- in

    /// Stores an event, unless its key is known. `turn` is the inbox row whose turn made it.
    pub(super) fn enqueue(&mut self, event: &Outgoing, turn: Option<i64>, now: UnixMillis) -> Result<(), Failure> {
        let channel = self.channel_id(&event.channel)?;
        let lane = self.lane_id(channel, &event.conversation, &event.thread)?;
        let state = if self.takes_fresh(lane, now)? { FRESH } else { 0 };
        let seq = self.next_seq();
        let sql = "INSERT INTO outbox (seq, key, lane, state, due_at, expires_at, created_at, turn)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?5, ?7) ON CONFLICT (key) DO NOTHING";
        let expires_at = now.saturating_add(event.expiry_ms);
        if self
            .sql(sql)?
            .execute(params![seq, event.key, lane, state, now, expires_at, turn])?
            == 0
        {
            self.unuse_seq();
            return Ok(());
        }
        self.sql("INSERT INTO outbox_body (seq, body) VALUES (?1, ?2)")?
            .execute(params![seq, event.body])?;
        self.memory.counts.outbox += 1;
        if state == 0 {
            return self.wake_lane(lane, seq, now, expires_at);
        }
        let new = NewRow {
            channel,
            lane,
            seq,
            expires_at,
            event,
        };
        self.push_fresh(&new, now)
    }

    /// Drops, at the end of the transaction, the text of a row that needs it no longer.
    pub(super) fn drop_text(&mut self, seq: i64) {
        self.memory.texts.outbox.push(seq);
    }

    /// Returns the lane that an event belongs to.
    pub(super) fn lane_for(&mut self, event: &Outgoing) -> Result<i64, Failure> {
        let channel = self.channel_id(&event.channel)?;
        Ok(self.lane_id(channel, &event.conversation, &event.thread)?)
    }

    /// Makes a settled lane due for its new last row `seq`, unless it has a head already.
    pub(super) fn wake_lane(
        &mut self,
        lane: i64,
        seq: i64,
        now: UnixMillis,
        expires_at: UnixMillis,
    ) -> Result<(), Failure> {
        self.memory.fresh.is_busy(lane);
        let idle = "UPDATE lane SET due_at = min(?3, max(floor_at, ?2)), tried = 0 WHERE id = ?1 AND due_at IS NULL";
        if self.sql(idle)?.execute(params![lane, now, expires_at])? == 0 && self.memory.counts.awaiting > 0 {
            // All its other rows may be awaiting confirmations: those do not hold up a new one.
            let headless = "UPDATE lane SET due_at = min(?3, max(floor_at, ?2)), tried = 0
                WHERE id = ?1 AND due_at > min(?3, max(floor_at, ?2)) AND NOT EXISTS
                (SELECT 1 FROM outbox WHERE lane = ?1 AND state <= 2 AND seq < ?4)";
            self.sql(headless)?.execute(params![lane, now, expires_at, seq])?;
        }
        Ok(())
    }

    /// Sets when a settled lane next has something to do, from its rows.
    pub(super) fn refresh_lane(&mut self, lane: i64) -> Result<(), Failure> {
        self.memory.fresh.is_busy(lane);
        // An expired head is buried at its expiry, floor or not.
        let of_head = "UPDATE lane SET (due_at, tried) =
                (SELECT min(outbox.expires_at, max(lane.floor_at, outbox.due_at)), state = 1
                FROM outbox WHERE lane = ?1 AND state <= 2 ORDER BY seq LIMIT 1)
            WHERE id = ?1";
        self.sql(of_head)?.execute([lane])?;
        if self.memory.counts.awaiting > 0 {
            let of_awaiting = "UPDATE lane SET due_at = first.at, tried = 1
                FROM (SELECT max(lane.floor_at, outbox.due_at) AS at FROM outbox JOIN lane ON lane.id = outbox.lane
                    WHERE outbox.lane = ?1 AND state = 3 ORDER BY outbox.due_at LIMIT 1) AS first
                WHERE id = ?1 AND (lane.due_at IS NULL OR lane.due_at > first.at)";
            self.sql(of_awaiting)?.execute([lane])?;
        }
        Ok(())
    }

    // ---- claims

    /// Claims up to `max` heads, as far as there are places: of each channel the longest due first, the channels taking
    /// turns.
    pub(super) fn claim_heads(&mut self, asks: &[Ask], max: usize, now: UnixMillis) -> Result<Heads, Failure> {
        let mut queues = Vec::with_capacity(asks.len());
        for ask in asks {
            let channel = self.channel_id(ask.channel.as_str())?;
            queues.push(Queue {
                channel,
                lanes: self.due_lanes(channel, ask.places, max, now)?.into_iter(),
                places: ask.places,
            });
        }
        self.memory.rotation = self.memory.rotation.wrapping_add(1);
        let first = self.memory.rotation % queues.len().max(1);
        queues.rotate_left(first);
        let mut heads = Heads::default();
        let mut has_more = true;
        while has_more && heads.claimed.len() < max {
            has_more = false;
            for queue in &mut queues {
                if let Some(lane) = queue.lanes.next() {
                    self.claim_lane(lane, now, &mut queue.places, &mut heads)?;
                    has_more = true;
                }
                if heads.claimed.len() == max {
                    heads.next_due = Some(now);
                    return Ok(heads);
                }
            }
        }
        for queue in queues {
            let due = self.next_due_within(queue.channel, queue.places)?;
            heads.next_due = heads.next_due.into_iter().chain(due).min();
        }
        Ok(heads)
    }

    /// Returns lanes of a channel with something to do, the longest due first: at least `max` for which there are places,
    /// where there are so many.
    fn due_lanes(
        &mut self,
        channel: i64,
        places: Places,
        max: usize,
        now: UnixMillis,
    ) -> Result<Vec<DueLane>, Failure> {
        let mut lanes = self.due_settled_lanes(channel, false, places.all.min(max), now)?;
        if places.has(Standing::Tried) {
            lanes.extend(self.due_settled_lanes(channel, true, places.tried.min(max), now)?);
        }
        for (is_proven, places) in [(true, places.all), (false, places.unproven)] {
            let fresh = self.memory.fresh.due(channel, is_proven, now).take(places.min(max));
            lanes.extend(fresh.map(|(due_at, id)| DueLane {
                id,
                is_held: false,
                due_at,
            }));
        }
        lanes.sort_by_key(|lane| lane.due_at);
        Ok(lanes)
    }

    fn due_settled_lanes(
        &self,
        channel: i64,
        tried: bool,
        max: usize,
        now: UnixMillis,
    ) -> Result<Vec<DueLane>, Failure> {
        let sql = "SELECT id, floor_at > ?3, due_at FROM lane
            WHERE channel = ?1 AND tried = ?2 AND due_at <= ?3 ORDER BY due_at LIMIT ?4";
        let looked_at = max.saturating_add(self.memory.in_flight());
        let mut statement = self.sql(sql)?;
        let mut rows = statement.query(params![channel, tried, now, count(looked_at)])?;
        let mut lanes = Vec::new();
        while let Some(row) = rows.next()? {
            let lane = DueLane {
                id: row.get(0)?,
                is_held: row.get(1)?,
                due_at: row.get(2)?,
            };
            if !self.memory.is_in_flight(lane.id) && lanes.len() < max {
                lanes.push(lane);
            }
        }
        Ok(lanes)
    }

    /// Claims what a due lane would send next, after burying what has expired, where there is a place for it.
    fn claim_lane(
        &mut self,
        lane: DueLane,
        now: UnixMillis,
        places: &mut Places,
        heads: &mut Heads,
    ) -> Result<(), Failure> {
        if self
            .memory
            .fresh
            .standing(lane.id)
            .is_some_and(|standing| !places.has(standing))
        {
            return Ok(());
        }
        if let Some(claimed) = self.claim_fresh(lane.id, now)? {
            places.take(claimed.standing);
            heads.claimed.push(claimed);
            return Ok(());
        }
        let expired_before = heads.expired.len();
        while let Some(next) = self.candidate(lane.id, now)? {
            if next.expires_at > now {
                if lane.is_held {
                    break;
                }
                if places.has(next.claimed.standing) {
                    places.take(next.claimed.standing);
                    heads.claimed.push(self.take(lane.id, next)?);
                    return Ok(());
                }
                if heads.expired.len() == expired_before {
                    return Ok(());
                }
                break;
            }
            if heads.has_buried_enough() {
                return Ok(());
            }
            self.make_dead(next.seq, next.state, EXPIRED, now)?;
            heads.expired_bytes += next.claimed.body.len();
            heads.expired.push(Expired {
                attempts: next.claimed.claim.attempt,
                body: next.claimed.body,
            });
        }
        self.refresh_lane(lane.id)
    }

    /// Finds what a lane would send next: of its due rows (its head, and what awaits a confirmation past the deadline)
    /// the first.
    fn candidate(&self, lane: i64, now: UnixMillis) -> Result<Option<Candidate>, Failure> {
        let head = "SELECT seq, state, due_at, expires_at, created_at, attempts, attempt_at, ambiguous, ambiguous_at,
                parts, body
            FROM outbox LEFT JOIN outbox_body USING (seq) WHERE lane = ?1 AND state <= 2 ORDER BY seq LIMIT 1";
        let of_lane = |row: &Row<'_>| candidate(row, lane, &self.memory.proven);
        let found = self.sql(head)?.query_row([lane], of_lane).optional()?;
        let head = found.filter(|head| head.due_at <= now);
        if self.memory.counts.awaiting == 0 {
            return Ok(head);
        }
        let awaiting =
            "SELECT seq, state, due_at, expires_at, created_at, attempts, attempt_at, ambiguous, ambiguous_at,
                parts, body
            FROM outbox INDEXED BY outbox_wait LEFT JOIN outbox_body USING (seq)
            WHERE lane = ?1 AND state = 3 AND due_at <= ?2 ORDER BY seq LIMIT 1";
        let awaiting = self.sql(awaiting)?.query_row(params![lane, now], of_lane).optional()?;
        Ok(head.into_iter().chain(awaiting).min_by_key(|row| row.seq))
    }

    /// Takes a row into flight, which only the process knows of: nothing of it has left the host. One that is marked as
    /// being sent was cut short by the end of an earlier process; one that awaits a confirmation did not get it in time.
    /// Nobody knows what became of either of them, and that is written down once.
    fn take(&mut self, lane: i64, next: Candidate) -> Result<Claimed, Failure> {
        let Candidate {
            seq,
            state,
            mut claimed,
            ..
        } = next;
        if state == SENDING || state == AWAITING {
            claimed.ambiguous += 1;
            claimed.ambiguous_at_ms = next.attempt_at;
            let sql = "UPDATE outbox SET state = 1, ambiguous = ?2, ambiguous_at = ?3 WHERE seq = ?1";
            self.sql(sql)?
                .execute(params![seq, claimed.ambiguous, claimed.ambiguous_at_ms])?;
        }
        claimed.claim.attempt += 1;
        self.memory.take_lane(claimed.claim, lane);
        self.memory.counts.awaiting -= i64::from(state == AWAITING);
        self.seen_seq = self.seen_seq.max(seq);
        Ok(claimed)
    }

    /// Returns when the next lane of these channels falls due, leaving out those in flight.
    pub(super) fn next_head_due(&mut self, channels: &[String]) -> Result<Option<UnixMillis>, Failure> {
        let mut next = None;
        for channel in channels {
            let channel = self.channel_id(channel)?;
            let due = self.next_due_within(channel, Places::UNBOUNDED)?;
            next = next.into_iter().chain(due).min();
        }
        Ok(next)
    }

    /// Returns when the next lane of a channel falls due for which there is a place, leaving out those in flight.
    fn next_due_within(&self, channel: i64, places: Places) -> Result<Option<UnixMillis>, Failure> {
        let fresh = &self.memory.fresh;
        let of = |standing, due: Option<UnixMillis>| due.filter(|_| places.has(standing));
        let mut dues = [
            of(Standing::Proven, fresh.next_due(channel, true)),
            of(Standing::New, fresh.next_due(channel, false)),
            None,
            None,
        ];
        for (tried, next) in [false, true].into_iter().zip(&mut dues[2..]) {
            let sql = "SELECT due_at, id FROM lane WHERE channel = ?1 AND tried = ?2 AND due_at IS NOT NULL
                ORDER BY due_at LIMIT ?3";
            let looked_at = places.all.saturating_add(self.memory.in_flight());
            let mut statement = self.sql(sql)?;
            let mut rows = statement.query(params![channel, tried, count(looked_at)])?;
            while let Some(row) = rows.next()? {
                let lane = row.get(1)?;
                if !self.memory.is_in_flight(lane) && places.has(self.memory.proven.standing(lane, tried)) {
                    *next = row.get(0)?;
                    break;
                }
            }
        }
        Ok(dues.into_iter().flatten().min())
    }
}

fn candidate(row: &Row<'_>, lane: i64, proven: &Proven) -> rusqlite::Result<Candidate> {
    let (seq, state) = (row.get(0)?, row.get(1)?);
    let claimed = Claimed {
        claim: DeliveryClaim {
            row: seq,
            attempt: row.get(5)?,
        },
        ambiguous: row.get(7)?,
        ambiguous_at_ms: row.get(8)?,
        created_at_ms: row.get(4)?,
        parts: row.get(9)?,
        standing: proven.standing(lane, state == TRIED || state == AWAITING),
        body: row.get::<_, Option<Arc<str>>>(10)?.unwrap_or_default(),
    };
    let (due_at, expires_at, attempt_at) = (row.get(2)?, row.get(3)?, row.get(6)?);
    Ok(Candidate {
        seq,
        state,
        due_at,
        expires_at,
        attempt_at,
        claimed,
    })
}

/// Makes an SQL limit of a count.
pub(super) fn count(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}
