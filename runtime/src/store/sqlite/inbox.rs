//! The inbox: events in, deduplicated, and the turns that they start.

use rusqlite::{OptionalExtension as _, params};

use super::outbox::{Outgoing, count, cut, to_json};
use super::work::{RunningTurn, Work};
use super::writer::Failure;
use crate::clock::UnixMillis;
use crate::event::InboundEvent;
use crate::id::EventId;
use crate::store::{Accepted, Error, HistoryEntry, Role, TurnFence};

/// An inbound event as it is stored.
pub(super) struct Incoming {
    ext_id: String,
    event_id: String,
    session: String,
    conversation: String,
    thread: String,
    /// None where it starts no turn.
    body: Option<String>,
}

impl Incoming {
    pub(super) fn of(event: &InboundEvent) -> Result<Self, Error> {
        let body = if event.message.starts_turn() {
            Some(to_json(event)?)
        } else {
            None
        };
        Ok(Self {
            ext_id: event.message.id.clone(),
            event_id: event.id.as_str().to_owned(),
            session: event.session.as_str().to_owned(),
            conversation: event.message.conversation.id.clone(),
            thread: event.message.conversation.thread.clone().unwrap_or_default(),
            body,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.body.as_ref().map_or(0, String::len)
    }
}

/// A claimed turn, its JSON not yet read.
pub(super) struct ClaimedRow {
    pub(super) event_id: EventId,
    pub(super) body: String,
    pub(super) answer: Option<String>,
    pub(super) failures: u32,
}

/// What a claim came to.
#[derive(Default)]
pub(super) struct ClaimedRows {
    pub(super) rows: Vec<ClaimedRow>,
    pub(super) next_due: Option<UnixMillis>,
}

/// How a turn is put off, as it is stored.
pub(super) struct PutOff {
    pub(super) due: UnixMillis,
    /// Whether nothing may make it due earlier.
    pub(super) is_floor: bool,
    pub(super) reason: String,
    pub(super) notice: Option<Outgoing>,
}

/// What a turn leaves behind, as it is stored.
pub(super) struct TurnEnd {
    pub(super) event: EventId,
    pub(super) session: String,
    pub(super) history: Vec<HistoryEntry>,
    pub(super) outbound: Vec<Outgoing>,
}

impl TurnEnd {
    pub(super) fn bytes(&self) -> usize {
        let history: usize = self.history.iter().map(|line| line.text.len()).sum();
        history + self.outbound.iter().map(Outgoing::bytes).sum::<usize>()
    }
}

impl Work<'_> {
    // ---- in

    /// Stores events and the cursor.
    pub(super) fn accept(
        &mut self,
        channel: &str,
        events: &[Incoming],
        cursor: Option<&str>,
        now: UnixMillis,
    ) -> Result<Vec<Accepted>, Failure> {
        let id = self.channel_id(channel)?;
        let mut answers = Vec::with_capacity(events.len());
        for event in events {
            answers.push(self.accept_one(id, channel, event, now)?);
        }
        if let Some(cursor) = cursor {
            self.memory.is_cursor_touched = true;
            self.sql("UPDATE channel SET cursor = ?2 WHERE id = ?1 AND cursor IS NOT ?2")?
                .execute(params![id, cursor])?;
        }
        Ok(answers)
    }

    fn accept_one(&mut self, id: i64, channel: &str, event: &Incoming, now: UnixMillis) -> Result<Accepted, Failure> {
        let session = self.session_id(&event.session)?;
        if self.is_over_cap(id, session, event)? {
            return Ok(Accepted::OverCap);
        }
        let seq = self.next_seq();
        let sql = "INSERT INTO inbox (seq, channel, ext_id, event_id, session, state, due_at, received_at, finished_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, CASE WHEN ?6 THEN ?7 END) ON CONFLICT (channel, ext_id) DO NOTHING";
        let is_done = event.body.is_none();
        let values = params![seq, id, event.ext_id, event.event_id, session, is_done, now];
        if self.sql(sql)?.execute(values)? == 0 {
            self.unuse_seq();
            return Ok(Accepted::Duplicate);
        }
        if let Some(body) = &event.body {
            self.sql("INSERT INTO inbox_body (seq, body) VALUES (?1, ?2)")?
                .execute(params![seq, body])?;
            self.memory.inbox_changes(id, 1);
            let idle = "UPDATE session SET channel = ?3, due_at = max(floor_at, ?2) WHERE id = ?1 AND due_at IS NULL";
            if self.sql(idle)?.execute(params![session, now, id])? == 0 {
                self.hasten_turn(session, now)?;
            }
        }
        self.hasten(channel, &event.conversation, None, false, now)?;
        Ok(Accepted::New)
    }

    /// Returns whether an event is new and its conversation has as much waiting as it may. While less than that waits in
    /// all, nobody looks.
    fn is_over_cap(&self, channel: i64, session: i64, event: &Incoming) -> Result<bool, Failure> {
        let (max, counts) = (self.memory.conversation_rows_max, self.memory.counts);
        if event.body.is_none() || counts.inbox.max(counts.outbox) < max {
            return Ok(false);
        }
        let unanswered = "SELECT count(*) >= ?2 FROM
            (SELECT 1 FROM inbox INDEXED BY inbox_waiting WHERE session = ?1 AND state = 0 LIMIT ?2)";
        let is_full = self
            .sql(unanswered)?
            .query_row(params![session, max], |row| row.get(0))?
            || self.undelivered_to(channel, event, max)? >= max;
        let known = "SELECT 1 FROM inbox WHERE channel = ?1 AND ext_id = ?2";
        Ok(is_full && !self.sql(known)?.exists(params![channel, event.ext_id])?)
    }

    /// Counts what waits to be delivered to the place that an event came from, up to `max`.
    fn undelivered_to(&self, channel: i64, event: &Incoming, max: i64) -> Result<i64, Failure> {
        let place = "SELECT id FROM lane WHERE channel = ?1 AND conversation = ?2 AND thread = ?3";
        let values = params![channel, event.conversation, event.thread];
        let lane: Option<i64> = self.sql(place)?.query_row(values, |row| row.get(0)).optional()?;
        let Some(lane) = lane else { return Ok(0) };
        // What waits in a lane is all fresh or all in the index.
        let settled = "SELECT count(*) FROM
            (SELECT 1 FROM outbox INDEXED BY outbox_lane WHERE state <= 2 AND lane = ?1 LIMIT ?2)";
        let settled: i64 = self.sql(settled)?.query_row([lane, max], |row| row.get(0))?;
        Ok(settled.max(count(self.memory.fresh.rows_in(lane))))
    }

    /// Makes a postponed turn at the head of a session due now, unless a floor lies ahead. Its last failure is not
    /// counted any more: someone who writes often must not use up the turn's runs.
    fn hasten_turn(&mut self, session: i64, now: UnixMillis) -> Result<(), Failure> {
        let sql = "UPDATE inbox SET due_at = ?2, failures = max(failures - 1, 0)
            WHERE seq = (SELECT seq FROM inbox WHERE session = ?1 AND state = 0 ORDER BY seq LIMIT 1) AND due_at > ?2
                AND (SELECT floor_at FROM session WHERE id = ?1) <= ?2";
        if self.sql(sql)?.execute(params![session, now])? > 0 {
            self.refresh_session(session)?;
        }
        Ok(())
    }

    /// Sets when a session next has a turn to run, from its first one that waits.
    pub(super) fn refresh_session(&mut self, session: i64) -> Result<(), Failure> {
        let sql = "UPDATE session SET (channel, due_at) = (SELECT inbox.channel, max(session.floor_at, inbox.due_at)
                FROM inbox WHERE inbox.session = ?1 AND state = 0 ORDER BY seq LIMIT 1)
            WHERE id = ?1";
        self.sql(sql)?.execute([session])?;
        Ok(())
    }

    // ---- turns

    /// Claims due turns, one for each session that has none running: of each channel the longest due first, the channels
    /// taking turns.
    pub(super) fn claim_turns(
        &mut self,
        max: usize,
        of_channel: usize,
        now: UnixMillis,
    ) -> Result<ClaimedRows, Failure> {
        let mut queues = Vec::new();
        for (channel, left) in self.memory.channels_with_turns(of_channel) {
            queues.push(self.due_sessions(channel, left.min(max), now)?.into_iter());
        }
        self.memory.turn_rotation = self.memory.turn_rotation.wrapping_add(1);
        let first = self.memory.turn_rotation % queues.len().max(1);
        queues.rotate_left(first);
        let mut rows = Vec::new();
        let mut has_more = true;
        while has_more {
            has_more = false;
            for queue in &mut queues {
                if rows.len() == max {
                    return Ok(ClaimedRows {
                        rows,
                        next_due: Some(now),
                    });
                }
                if let Some(session) = queue.next() {
                    rows.extend(self.claim_turn_of(session)?);
                    has_more = true;
                }
            }
        }
        let next_due = self.next_turn_due(of_channel)?;
        Ok(ClaimedRows { rows, next_due })
    }

    /// Claims the first turn that waits in a session.
    fn claim_turn_of(&mut self, session: i64) -> Result<Option<ClaimedRow>, Failure> {
        let sql = "SELECT seq, event_id, failures, body, answer, channel FROM inbox INDEXED BY inbox_waiting
            JOIN inbox_body USING (seq) WHERE session = ?1 AND state = 0 ORDER BY seq LIMIT 1";
        let found = self.sql(sql)?.query_row([session], |row| {
            let turn = ClaimedRow {
                event_id: EventId::from_trusted(row.get::<_, String>(1)?),
                failures: row.get(2)?,
                body: row.get(3)?,
                answer: row.get(4)?,
            };
            let running = RunningTurn {
                seq: row.get(0)?,
                session,
                channel: row.get(5)?,
            };
            Ok((turn, running))
        });
        let Some((turn, running)) = found.optional()? else {
            return Ok(None);
        };
        self.memory.take_turn(turn.event_id.clone(), running);
        self.seen_seq = self.seen_seq.max(running.seq);
        Ok(Some(turn))
    }

    fn due_sessions(&self, channel: i64, max: usize, now: UnixMillis) -> Result<Vec<i64>, Failure> {
        let sql = "SELECT id FROM session WHERE channel = ?1 AND due_at <= ?2 ORDER BY due_at LIMIT ?3";
        let looked_at = max.saturating_add(self.memory.running());
        let mut statement = self.sql(sql)?;
        let mut rows = statement.query(params![channel, now, count(looked_at)])?;
        let mut sessions = Vec::new();
        while let Some(row) = rows.next()? {
            let session = row.get(0)?;
            if !self.memory.is_running(session) && sessions.len() < max {
                sessions.push(session);
            }
        }
        Ok(sessions)
    }

    /// Returns when the next turn falls due that does not run, of a channel of which fewer than `of_channel` do.
    pub(super) fn next_turn_due(&self, of_channel: usize) -> Result<Option<UnixMillis>, Failure> {
        let mut next: Option<UnixMillis> = None;
        for (channel, _) in self.memory.channels_with_turns(of_channel) {
            let sql = "SELECT due_at, id FROM session WHERE channel = ?1 AND due_at IS NOT NULL ORDER BY due_at";
            let mut statement = self.sql(sql)?;
            let mut rows = statement.query([channel])?;
            while let Some(row) = rows.next()? {
                if !self.memory.is_running(row.get(1)?) {
                    let due = row.get(0)?;
                    next = Some(next.map_or(due, |other| other.min(due)));
                    break;
                }
            }
        }
        Ok(next)
    }

    pub(super) fn record_answer(&mut self, fence: TurnFence, event: &EventId, answer: &str) -> Result<(), Failure> {
        let turn = self.held_turn(fence, event)?;
        self.sql("UPDATE inbox_body SET answer = ?2 WHERE seq = ?1")?
            .execute(params![turn.seq, answer])?;
        Ok(())
    }

    /// Ends a turn: the one transaction.
    pub(super) fn commit_turn(&mut self, fence: TurnFence, end: &TurnEnd, now: UnixMillis) -> Result<(), Failure> {
        let turn = self.held_turn(fence, &end.event)?;
        if !end.history.is_empty() {
            self.append_history(&end.session, &end.history)?;
        }
        for event in &end.outbound {
            self.enqueue(event, Some(turn.seq), now)?;
        }
        let channel = self
            .sql("UPDATE inbox SET state = 1, note = NULL, finished_at = ?2 WHERE seq = ?1 RETURNING channel")?
            .query_row(params![turn.seq, now], |row| row.get(0))?;
        self.memory.texts.inbox.push(turn.seq);
        self.memory.inbox_changes(channel, -1);
        self.end_turn(&end.event, turn)
    }

    fn append_history(&mut self, session: &str, lines: &[HistoryEntry]) -> Result<(), Failure> {
        let id = self.session_id(session)?;
        let mut last = self.last_line(id)?;
        for line in lines {
            let is_assistant = line.role == Role::Assistant;
            let sql = "INSERT INTO history (session, before, role, text) VALUES (?1, ?2, ?3, ?4)";
            last = Some(self.sql(sql)?.insert(params![id, last, is_assistant, line.text])?);
        }
        self.set_last_line(id, last)
    }

    pub(super) fn postpone_turn(
        &mut self,
        fence: TurnFence,
        event: &EventId,
        put_off: &PutOff,
        now: UnixMillis,
    ) -> Result<(), Failure> {
        let turn = self.held_turn(fence, event)?;
        self.sql("UPDATE inbox SET due_at = ?2, failures = failures + 1, note = ?3 WHERE seq = ?1")?
            .execute(params![turn.seq, put_off.due, cut(&put_off.reason)])?;
        if put_off.is_floor {
            self.sql("UPDATE session SET floor_at = max(floor_at, ?2) WHERE id = ?1")?
                .execute(params![turn.session, put_off.due])?;
        }
        if let Some(notice) = &put_off.notice {
            self.enqueue(notice, Some(turn.seq), now)?;
        }
        self.end_turn(event, turn)
    }

    pub(super) fn bury_turn(
        &mut self,
        fence: TurnFence,
        event: &EventId,
        reason: &str,
        notice: Option<&Outgoing>,
        now: UnixMillis,
    ) -> Result<(), Failure> {
        let turn = self.held_turn(fence, event)?;
        let sql = "UPDATE inbox SET state = 2, failures = failures + 1, note = ?2, finished_at = ?3 WHERE seq = ?1
            RETURNING channel";
        let values = params![turn.seq, cut(reason), now];
        let channel = self.sql(sql)?.query_row(values, |row| row.get(0))?;
        self.memory.inbox_changes(channel, -1);
        self.memory.counts.dead_inbound += 1;
        if let Some(notice) = notice {
            self.enqueue(notice, Some(turn.seq), now)?;
        }
        self.end_turn(event, turn)
    }

    /// Gives a turn back: it is as if it had not been claimed.
    pub(super) fn release_turn(&mut self, fence: TurnFence, event: &EventId) -> Result<(), Failure> {
        self.held_turn(fence, event)?;
        self.memory.give_turn(event);
        Ok(())
    }

    fn held_turn(&self, fence: TurnFence, event: &EventId) -> Result<RunningTurn, Failure> {
        let turn = self.memory.turn(event).filter(|_| fence.0 == self.memory.boot);
        turn.ok_or_else(|| Error::Stale.into())
    }

    fn end_turn(&mut self, event: &EventId, turn: RunningTurn) -> Result<(), Failure> {
        self.memory.give_turn(event);
        self.refresh_session(turn.session)
    }
}
