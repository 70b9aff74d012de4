//! What a command works with: the open transaction, and what the writer knows in memory.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};

use super::flusher::Lsn;
use super::fresh::{Fresh, Marks};
use super::standing::Proven;
use super::texts::Texts;
use super::waiting::{self, Waiting};
use super::writer::Failure;
use crate::id::EventId;
use crate::store::{DeliveryClaim, Depth};

/// Names of lanes, channels and sessions that are remembered; above it they are looked up again.
const NAMES_MAX: usize = 16_384;

/// What readers see of the writer without asking it.
#[derive(Default)]
pub(super) struct Board {
    inbox: AtomicU64,
    outbox: AtomicU64,
    dead: AtomicU64,
    dead_inbound: AtomicU64,
    /// The newest transaction that changed a cursor.
    pub(super) cursor_lsn: AtomicU64,
    /// The newest transaction that changed a channel's state.
    pub(super) state_lsn: AtomicU64,
    /// Inbound events whose turn is not done, by channel.
    pub(super) waiting: waiting::Shown,
}

impl Board {
    pub(super) fn depth(&self) -> Depth {
        Depth {
            inbox: self.inbox.load(Ordering::Relaxed),
            outbox: self.outbox.load(Ordering::Relaxed),
            dead: self.dead.load(Ordering::Relaxed),
            dead_inbound: self.dead_inbound.load(Ordering::Relaxed),
        }
    }

    fn show(&self, counts: &Counts) {
        let shown = |count: i64| u64::try_from(count).unwrap_or(0);
        self.inbox.store(shown(counts.inbox), Ordering::Relaxed);
        self.outbox.store(shown(counts.outbox), Ordering::Relaxed);
        self.dead.store(shown(counts.dead), Ordering::Relaxed);
        self.dead_inbound.store(shown(counts.dead_inbound), Ordering::Relaxed);
    }
}

/// The counters of the `gateway` row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    next_seq: i64,
    pub(super) inbox: i64,
    pub(super) outbox: i64,
    pub(super) dead: i64,
    pub(super) dead_inbound: i64,
    /// Outbox rows that await a confirmation: while there are none, nobody looks for them.
    pub(super) awaiting: i64,
    /// No row below it is fresh.
    fresh_from: i64,
    /// Every receipt of an outbox row below it is in `sent`.
    pub(super) sent_until: i64,
}

/// A turn that runs in this process.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunningTurn {
    pub(super) seq: i64,
    pub(super) session: i64,
    pub(super) channel: i64,
}

enum Undo {
    LaneTaken(i64),
    LaneGiven(DeliveryClaim, i64),
    TurnTaken(EventId),
    TurnGiven(EventId, RunningTurn),
    Waits(i64, i64),
}

/// A point to roll back to.
pub(super) struct Mark {
    undo: usize,
    counts: Counts,
    texts: (usize, usize),
    marks: usize,
}

/// What the writer knows besides the database. Which turns and lanes are in work is kept only here: a process that dies
/// takes it along, and what was in work is due again, which is the whole recovery.
pub(super) struct Memory {
    /// How often the store was opened: the fence of turns.
    pub(super) boot: i64,
    pub(super) counts: Counts,
    saved: Counts,
    /// Attempt and lane of each outbox row in flight.
    rows: HashMap<i64, (u32, i64)>,
    lanes: HashSet<i64>,
    turns: HashMap<EventId, RunningTurn>,
    sessions: HashSet<i64>,
    undo: Vec<Undo>,
    pub(super) fresh: Fresh,
    pub(super) proven: Proven,
    pub(super) texts: Texts,
    pub(super) marks: Marks,
    waiting: Waiting,
    channel_ids: HashMap<String, i64>,
    lane_ids: HashMap<(i64, String, String), i64>,
    session_ids: HashMap<String, i64>,
    /// The newest line of sessions' histories.
    last_lines: HashMap<i64, Option<i64>>,
    /// Whose turn it is among the channels, at a claim of lane heads.
    pub(super) rotation: usize,
    /// The same, at a claim of turns.
    pub(super) turn_rotation: usize,
    /// Where the last sweep of each table stopped.
    pub(super) swept: Swept,
    pub(super) is_cursor_touched: bool,
    pub(super) is_state_touched: bool,
    board: Arc<Board>,
    /// What may wait in one conversation, either way.
    pub(super) conversation_rows_max: i64,
}

/// How far the sweep has come in this round.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Swept {
    pub(super) inbox: i64,
    pub(super) outbox: i64,
    pub(super) lane: i64,
}

impl Memory {
    /// Reads the counters and counts this opening. What an earlier process left fresh is settled.
    pub(super) fn load(db: &Connection, board: Arc<Board>, conversation_rows_max: u64) -> rusqlite::Result<Self> {
        let opening = db.unchecked_transaction()?;
        let sql = "UPDATE gateway SET boot = boot + 1 RETURNING boot, next_seq, inbox, outbox, dead,
            dead_inbound, awaiting, fresh_from, sent_until";
        let (boot, counts) = db.query_row(sql, [], |row| {
            let counts = Counts {
                next_seq: row.get(1)?,
                inbox: row.get(2)?,
                outbox: row.get(3)?,
                dead: row.get(4)?,
                dead_inbound: row.get(5)?,
                awaiting: row.get(6)?,
                fresh_from: row.get(7)?,
                sent_until: row.get(8)?,
            };
            Ok((row.get(0)?, counts))
        })?;
        board.show(&counts);
        let mut memory = Self {
            boot,
            counts,
            saved: counts,
            rows: HashMap::new(),
            lanes: HashSet::new(),
            turns: HashMap::new(),
            sessions: HashSet::new(),
            undo: Vec::new(),
            fresh: Fresh::load(db, &Proven::default(), |_| false)?,
            proven: Proven::default(),
            texts: Texts::default(),
            marks: Marks::default(),
            waiting: Waiting::load(db)?,
            channel_ids: HashMap::new(),
            lane_ids: HashMap::new(),
            session_ids: HashMap::new(),
            last_lines: HashMap::new(),
            rotation: 0,
            turn_rotation: 0,
            swept: Swept::default(),
            is_cursor_touched: false,
            is_state_touched: false,
            board,
            conversation_rows_max: i64::try_from(conversation_rows_max).unwrap_or(i64::MAX),
        };
        Work::new(db, &mut memory).settle_all().map_err(Failure::into_sqlite)?;
        memory.save(db)?;
        opening.commit()?;
        memory.commit();
        Ok(memory)
    }

    /// Reads what is fresh again, after a rollback.
    pub(super) fn reload_fresh(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.fresh = Fresh::load(db, &self.proven, |row| self.is_row_in_flight(row))?;
        Ok(())
    }

    pub(super) fn next_seq(&self) -> i64 {
        self.counts.next_seq
    }

    pub(super) fn begin(&mut self) {
        self.undo.clear();
        self.is_cursor_touched = false;
        self.is_state_touched = false;
    }

    /// Writes the counters and marks into the transaction, and drops the texts that go with it.
    pub(super) fn save(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.marks.write_to(db)?;
        self.texts.drop_from(db)?;
        self.counts.fresh_from = self.fresh.oldest().unwrap_or(self.counts.next_seq);
        if self.counts != self.saved {
            let Counts {
                next_seq,
                inbox,
                outbox,
                dead,
                dead_inbound,
                awaiting,
                fresh_from,
                sent_until,
            } = self.counts;
            let sql = "UPDATE gateway SET next_seq = ?1, inbox = ?2, outbox = ?3, dead = ?4, dead_inbound = ?5,
                awaiting = ?6, fresh_from = ?7, sent_until = ?8";
            db.prepare_cached(sql)?.execute(params![
                next_seq,
                inbox,
                outbox,
                dead,
                dead_inbound,
                awaiting,
                fresh_from,
                sent_until
            ])?;
        }
        Ok(())
    }

    /// Tells readers, before the commit shows them anything, which flush what they will see depends on.
    pub(super) fn announce(&self, lsn: Lsn) {
        if self.is_cursor_touched {
            self.board.cursor_lsn.store(lsn, Ordering::Release);
        }
        if self.is_state_touched {
            self.board.state_lsn.store(lsn, Ordering::Release);
        }
    }

    pub(super) fn commit(&mut self) {
        self.saved = self.counts;
        self.undo.clear();
        self.board.show(&self.counts);
        self.waiting.show(&self.board.waiting);
    }

    /// Counts inbound events of a channel that wait from now on, or no longer do.
    pub(super) fn inbox_changes(&mut self, channel: i64, rows: i64) {
        self.counts.inbox += rows;
        self.waiting.add(channel, rows);
        self.undo.push(Undo::Waits(channel, rows));
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            undo: self.undo.len(),
            counts: self.counts,
            texts: self.texts.mark(),
            marks: self.marks.mark(),
        }
    }

    pub(super) fn roll_back_to(&mut self, mark: Mark) {
        self.counts = mark.counts;
        self.texts.roll_back_to(mark.texts);
        self.marks.roll_back_to(mark.marks);
        // They may name rows that are gone with the rollback.
        self.forget_names();
        while self.undo.len() > mark.undo {
            match self.undo.pop() {
                Some(Undo::LaneTaken(row)) => drop(self.drop_row(row)),
                Some(Undo::LaneGiven(claim, lane)) => self.put_row(claim, lane),
                Some(Undo::TurnTaken(event)) => drop(self.drop_turn(&event)),
                Some(Undo::TurnGiven(event, turn)) => self.put_turn(event, turn),
                Some(Undo::Waits(channel, rows)) => self.waiting.add(channel, -rows),
                None => break,
            }
        }
    }

    pub(super) fn roll_back(&mut self) {
        self.roll_back_to(Mark {
            undo: 0,
            counts: self.saved,
            texts: (0, 0),
            marks: 0,
        });
        self.is_cursor_touched = false;
        self.is_state_touched = false;
    }

    pub(super) fn forget_names(&mut self) {
        self.channel_ids.clear();
        self.lane_ids.clear();
        self.session_ids.clear();
        self.last_lines.clear();
        self.fresh.forget_idle();
    }

    // ---- lanes in flight

    pub(super) fn is_in_flight(&self, lane: i64) -> bool {
        self.lanes.contains(&lane)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.lanes.len()
    }

    pub(super) fn is_row_in_flight(&self, row: i64) -> bool {
        self.rows.contains_key(&row)
    }

    /// Returns the lane that an attempt in flight holds.
    pub(super) fn lane_of(&self, claim: DeliveryClaim) -> Option<i64> {
        self.rows
            .get(&claim.row)
            .filter(|(attempt, _)| *attempt == claim.attempt)
            .map(|(_, lane)| *lane)
    }

    pub(super) fn take_lane(&mut self, claim: DeliveryClaim, lane: i64) {
        self.put_row(claim, lane);
        self.undo.push(Undo::LaneTaken(claim.row));
    }

    pub(super) fn give_lane(&mut self, row: i64) {
        if let Some((claim, lane)) = self.drop_row(row) {
            self.undo.push(Undo::LaneGiven(claim, lane));
        }
    }

    fn put_row(&mut self, claim: DeliveryClaim, lane: i64) {
        self.rows.insert(claim.row, (claim.attempt, lane));
        self.lanes.insert(lane);
    }

    fn drop_row(&mut self, row: i64) -> Option<(DeliveryClaim, i64)> {
        let (attempt, lane) = self.rows.remove(&row)?;
        self.lanes.remove(&lane);
        Some((DeliveryClaim { row, attempt }, lane))
    }

    // ---- turns that run

    pub(super) fn is_running(&self, session: i64) -> bool {
        self.sessions.contains(&session)
    }

    pub(super) fn running(&self) -> usize {
        self.sessions.len()
    }

    /// Returns the channels in which turns wait, and how many of each may be claimed where `max` may run at once.
    pub(super) fn channels_with_turns(&self, max: usize) -> Vec<(i64, usize)> {
        let left = |channel| {
            let running = self.turns.values().filter(|turn| turn.channel == channel);
            (channel, max.saturating_sub(running.count()))
        };
        self.waiting
            .channels()
            .map(left)
            .filter(|(_, left)| *left > 0)
            .collect()
    }

    pub(super) fn turn(&self, event: &EventId) -> Option<RunningTurn> {
        self.turns.get(event).copied()
    }

    pub(super) fn take_turn(&mut self, event: EventId, turn: RunningTurn) {
        self.put_turn(event.clone(), turn);
        self.undo.push(Undo::TurnTaken(event));
    }

    pub(super) fn give_turn(&mut self, event: &EventId) {
        if let Some(turn) = self.drop_turn(event) {
            self.undo.push(Undo::TurnGiven(event.clone(), turn));
        }
    }

    fn put_turn(&mut self, event: EventId, turn: RunningTurn) {
        self.sessions.insert(turn.session);
        self.turns.insert(event, turn);
    }

    fn drop_turn(&mut self, event: &EventId) -> Option<RunningTurn> {
        let turn = self.turns.remove(event)?;
        self.sessions.remove(&turn.session);
        Some(turn)
    }
}

/// One command's view of the transaction.
pub(super) struct Work<'a> {
    db: &'a Connection,
    pub(super) memory: &'a mut Memory,
    /// The highest sequence number handed out to the caller.
    pub(super) seen_seq: i64,
}

impl<'a> Work<'a> {
    pub(super) fn new(db: &'a Connection, memory: &'a mut Memory) -> Self {
        Self {
            db,
            memory,
            seen_seq: 0,
        }
    }

    /// Prepares a statement, or takes it from the cache.
    pub(super) fn sql(&self, sql: &str) -> rusqlite::Result<CachedStatement<'a>> {
        self.db.prepare_cached(sql)
    }

    /// Takes the next sequence number.
    pub(super) fn next_seq(&mut self) -> i64 {
        let seq = self.memory.counts.next_seq;
        self.memory.counts.next_seq += 1;
        seq
    }

    /// Gives the newest sequence number back, where nothing was stored under it.
    pub(super) fn unuse_seq(&mut self) {
        self.memory.counts.next_seq -= 1;
    }

    /// Returns the row of a channel, made where it is missing.
    pub(super) fn channel_id(&mut self, name: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.memory.channel_ids.get(name) {
            return Ok(*id);
        }
        let sql = "INSERT INTO channel (name) VALUES (?1) ON CONFLICT (name) DO UPDATE SET name = name RETURNING id";
        let id = self.sql(sql)?.query_row([name], |row| row.get(0))?;
        if self.memory.channel_ids.len() >= NAMES_MAX {
            self.memory.forget_names();
        }
        self.memory.channel_ids.insert(name.to_owned(), id);
        self.memory.waiting.name(id, name);
        Ok(id)
    }

    /// Returns the row of a lane, made where it is missing.
    pub(super) fn lane_id(&mut self, channel: i64, conversation: &str, thread: &str) -> rusqlite::Result<i64> {
        let place = (channel, conversation.to_owned(), thread.to_owned());
        if let Some(id) = self.memory.lane_ids.get(&place) {
            return Ok(*id);
        }
        let found = self
            .sql("SELECT id FROM lane WHERE channel = ?1 AND conversation = ?2 AND thread = ?3")?
            .query_row(params![channel, conversation, thread], |row| row.get(0))
            .optional()?;
        let id = match found {
            Some(id) => id,
            None => self
                .sql("INSERT INTO lane (channel, conversation, thread) VALUES (?1, ?2, ?3) RETURNING id")?
                .query_row(params![channel, conversation, thread], |row| row.get(0))?,
        };
        if self.memory.lane_ids.len() >= NAMES_MAX {
            self.memory.forget_names();
        }
        self.memory.lane_ids.insert(place, id);
        Ok(id)
    }

    /// Returns the row of a session, made where it is missing.
    pub(super) fn session_id(&mut self, key: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.memory.session_ids.get(key) {
            return Ok(*id);
        }
        let found = self
            .sql("SELECT id FROM session WHERE key = ?1")?
            .query_row([key], |row| row.get(0))
            .optional()?;
        let id = match found {
            Some(id) => id,
            None => self.sql("INSERT INTO session (key) VALUES (?1)")?.insert([key])?,
        };
        if self.memory.session_ids.len() >= NAMES_MAX {
            self.memory.forget_names();
        }
        self.memory.session_ids.insert(key.to_owned(), id);
        Ok(id)
    }

    /// Returns the newest line of a session's history.
    pub(super) fn last_line(&self, session: i64) -> rusqlite::Result<Option<i64>> {
        if let Some(line) = self.memory.last_lines.get(&session) {
            return Ok(*line);
        }
        self.sql("SELECT last_line FROM session WHERE id = ?1")?
            .query_row([session], |row| row.get(0))
    }

    /// Sets the newest line of a session's history.
    pub(super) fn set_last_line(&mut self, session: i64, line: Option<i64>) -> Result<(), Failure> {
        self.sql("UPDATE session SET last_line = ?2 WHERE id = ?1")?
            .execute(params![session, line])?;
        if self.memory.last_lines.len() >= NAMES_MAX {
            self.memory.forget_names();
        }
        self.memory.last_lines.insert(session, line);
        Ok(())
    }
}
