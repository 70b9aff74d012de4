//! What an operator asks for: lists of what waits or was given up, and the way of one message.
//!
//! All of it is read on the read-only connections. Damaged JSON hides a message's text, never its row.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::outbox::count;
use crate::clock::{UnixMillis, millis};
use crate::event::{Notice, SentPart};
use crate::id::{ChannelName, DeliveryKey, EventId, SessionKey};
use crate::limit;
use crate::store::{ChangeRecord, DeadFilter, DeliveryRecord, DeliveryState, Page, Trace, TurnRecord, TurnState};

/// What is read of a delivery; a condition follows.
macro_rules! deliveries {
    ($rest:literal) => {
        concat!(
            "SELECT outbox.seq, turn, key, state, attempts, ambiguous, created_at,
                CASE WHEN state BETWEEN 0 AND 3 OR state >= 10 THEN max(outbox.due_at, coalesce(floor_at, 0)) END,
                expires_at, attempt_at,
                finished_at, parts, receipt, note, body,
                CASE WHEN state <= 2 OR state >= 10 THEN
                    (SELECT head.key FROM outbox AS head INDEXED BY outbox_lane
                    WHERE head.state <= 2 AND head.lane = outbox.lane AND head.seq < outbox.seq
                    ORDER BY head.seq LIMIT 1) END
            FROM outbox LEFT JOIN lane ON lane.id = outbox.lane LEFT JOIN outbox_body ON outbox_body.seq = outbox.seq ",
            $rest
        )
    };
}

/// What is read of an inbound event; a condition follows.
macro_rules! turns {
    ($rest:literal) => {
        concat!(
            "SELECT inbox.seq, event_id, channel.name, ext_id, session.key, state, body, received_at, inbox.due_at,
                finished_at, failures, note
            FROM inbox JOIN channel ON channel.id = inbox.channel JOIN session ON session.id = inbox.session
                LEFT JOIN inbox_body ON inbox_body.seq = inbox.seq ",
            $rest
        )
    };
}

/// A row and what only the store knows of it.
struct Stored<T> {
    seq: i64,
    /// The inbox row of a delivery's turn.
    turn: Option<i64>,
    /// Bytes of its text.
    bytes: usize,
    record: T,
}

/// Reads what is neither delivered nor dead, oldest first, from behind row `after` on.
pub(super) fn outbox(
    db: &Connection,
    channel: Option<&str>,
    after: Option<i64>,
    max: usize,
) -> rusqlite::Result<Page<DeliveryRecord>> {
    // Each of the two indexes has only live rows, so this costs nothing for what is delivered; and fresh rows are among
    // the newest. The oldest of all together are among the oldest of each.
    let sql = deliveries!(
        "WHERE outbox.seq IN (
            SELECT seq FROM (SELECT seq FROM outbox INDEXED BY outbox_lane WHERE state <= 2 AND seq > ?3
                AND (?1 IS NULL OR lane IN
                (SELECT lane.id FROM lane JOIN channel ON channel.id = lane.channel WHERE name = ?1))
                ORDER BY seq LIMIT ?2)
            UNION ALL
            SELECT seq FROM (SELECT seq FROM outbox INDEXED BY outbox_wait WHERE (state = 1 OR state = 3) AND state = 3
                AND seq > ?3 AND (?1 IS NULL OR lane IN
                (SELECT lane.id FROM lane JOIN channel ON channel.id = lane.channel WHERE name = ?1))
                ORDER BY seq LIMIT ?2)
            UNION ALL
            SELECT seq FROM (SELECT seq FROM outbox
                WHERE seq >= (SELECT fresh_from FROM gateway) AND seq > ?3 AND state >= 10 AND (?1 IS NULL OR lane IN
                (SELECT lane.id FROM lane JOIN channel ON channel.id = lane.channel WHERE name = ?1))
                ORDER BY seq LIMIT ?2))
        ORDER BY outbox.seq LIMIT ?2"
    );
    let mut statement = db.prepare_cached(sql)?;
    let after = after.unwrap_or(i64::MIN);
    let rows = statement.query_map(params![channel, count(max.saturating_add(1)), after], delivery_row)?;
    page(rows, max)
}

/// Reads one delivery.
pub(super) fn delivery(db: &Connection, key: &str) -> rusqlite::Result<Option<DeliveryRecord>> {
    Ok(delivery_by_key(db, key)?.map(|stored| stored.record))
}

/// Which dead letters are meant: by their texts, not by their lanes, since an idle lane is swept and its number used
/// again. `LIKE` does not see the case of ASCII letters; what is asked for is taken literally.
macro_rules! dead {
    ($columns:literal, $rest:literal) => {
        concat!(
            $columns,
            "WHERE state = 5 AND (?1 IS NULL OR (json_valid(body) AND json_extract(body, '$.channel') = ?1))
                AND (?2 IS NULL OR note LIKE '%' || ?2 || '%' ESCAPE '\\') ",
            $rest
        )
    };
}

/// A filter as the statements take it.
fn bound(filter: &DeadFilter) -> (Option<&str>, Option<String>) {
    let escaped = |text: &String| text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    (
        filter.channel.as_ref().map(ChannelName::as_str),
        filter.reason.as_ref().map(escaped),
    )
}

/// Reads the keys of dead letters, in the order in which they were stored.
pub(super) fn dead_keys(db: &Connection, filter: &DeadFilter, max: usize) -> rusqlite::Result<Vec<String>> {
    let sql = dead!(
        "SELECT key FROM outbox INDEXED BY outbox_dead JOIN outbox_body USING (seq) ",
        "ORDER BY seq LIMIT ?3"
    );
    let (channel, reason) = bound(filter);
    let mut statement = db.prepare_cached(sql)?;
    let keys = statement.query_map(params![channel, reason, count(max)], |row| row.get(0))?;
    keys.collect()
}

/// Reads dead letters, newest first, from behind the one that died at `after.0` in row `after.1` on.
pub(super) fn dead_letters(
    db: &Connection,
    filter: &DeadFilter,
    after: Option<(UnixMillis, i64)>,
    max: usize,
) -> rusqlite::Result<Page<DeliveryRecord>> {
    let sql = dead!(
        "SELECT outbox.seq, turn, key, state, attempts, ambiguous, created_at, NULL, expires_at, attempt_at,
            finished_at, parts, receipt, note, body, NULL
        FROM outbox INDEXED BY outbox_dead JOIN outbox_body USING (seq) ",
        "AND (finished_at, seq) < (?3, ?4) ORDER BY finished_at DESC, seq DESC LIMIT ?5"
    );
    let (channel, reason) = bound(filter);
    let (died_at, row) = after.unwrap_or((UnixMillis::MAX, i64::MAX));
    let mut statement = db.prepare_cached(sql)?;
    let values = params![channel, reason, died_at, row, count(max.saturating_add(1))];
    let rows = statement.query_map(values, delivery_row)?;
    page(rows, max)
}

/// Reads the newest changes of operators, newest first.
pub(super) fn changes(db: &Connection, max: usize) -> rusqlite::Result<Vec<ChangeRecord>> {
    let sql = "SELECT at, verb, subject, count FROM change ORDER BY id DESC LIMIT ?1";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map([count(max)], |row| {
        Ok(ChangeRecord {
            at_ms: row.get(0)?,
            verb: row.get(1)?,
            subject: row.get(2)?,
            count: row.get::<_, i64>(3)?.unsigned_abs(),
        })
    })?;
    rows.collect()
}

/// Reads the turns that were given up, newest first.
pub(super) fn dead_inbound(db: &Connection, max: usize) -> rusqlite::Result<Vec<TurnRecord>> {
    let sql = turns!("WHERE state = 2 ORDER BY finished_at DESC, inbox.seq DESC LIMIT ?1");
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map([count(max)], turn_row)?;
    Ok(page(rows, max)?.items)
}

/// Visits every inbound event, oldest first.
pub(super) fn each_turn<E: From<rusqlite::Error>>(
    db: &Connection,
    visit: impl FnMut(TurnRecord) -> Result<(), E>,
) -> Result<(), E> {
    each(db.prepare(turns!("ORDER BY inbox.seq"))?, turn_row, visit)
}

/// Visits every outbound event, oldest first.
pub(super) fn each_delivery<E: From<rusqlite::Error>>(
    db: &Connection,
    visit: impl FnMut(DeliveryRecord) -> Result<(), E>,
) -> Result<(), E> {
    each(db.prepare(deliveries!("ORDER BY outbox.seq"))?, delivery_row, visit)
}

fn each<T, E: From<rusqlite::Error>>(
    mut statement: rusqlite::Statement<'_>,
    read: fn(&Row<'_>) -> rusqlite::Result<Stored<T>>,
    mut visit: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        visit(read(row)?.record)?;
    }
    Ok(())
}

/// Reads the way of what an id names.
pub(super) fn trace(db: &Connection, id: &str) -> rusqlite::Result<Vec<Trace>> {
    if let Some(stored) = delivery_by_key(db, id)? {
        return Ok(vec![trace_through(db, stored)?]);
    }
    if let Some(turn) = turn_by_event(db, id)? {
        return Ok(vec![trace_of(db, turn)?]);
    }
    let mut traces = traces_of(db, turns_by_message(db, id)?)?;
    for sent in deliveries_by_message(db, id)? {
        let trace = trace_through(db, sent)?;
        // Both the question and its answer may have the id.
        if !traces.contains(&trace) {
            traces.push(trace);
        }
    }
    if traces.is_empty() {
        return traces_of(db, turns_by_ending(db, id)?);
    }
    Ok(traces)
}

fn traces_of(db: &Connection, turns: Vec<Stored<TurnRecord>>) -> rusqlite::Result<Vec<Trace>> {
    turns.into_iter().map(|turn| trace_of(db, turn)).collect()
}

/// Follows a delivery to the turn that made it, and from there to all of its deliveries.
fn trace_through(db: &Connection, delivery: Stored<DeliveryRecord>) -> rusqlite::Result<Trace> {
    match delivery.turn.map(|seq| turn_by_seq(db, seq)).transpose()?.flatten() {
        Some(turn) => trace_of(db, turn),
        None => Ok(Trace {
            turn: None,
            deliveries: vec![delivery.record],
        }),
    }
}

/// Follows a turn to its deliveries, by the keys that it makes: nothing else has to be kept to find them.
fn trace_of(db: &Connection, turn: Stored<TurnRecord>) -> rusqlite::Result<Trace> {
    let event = &turn.record.id;
    let mut deliveries = Vec::new();
    for position in 0.. {
        match delivery_by_key(db, DeliveryKey::of_turn(event, position).as_str())? {
            Some(found) => deliveries.push(found),
            None => break,
        }
    }
    for notice in Notice::ALL {
        deliveries.extend(delivery_by_key(db, notice.key(event).as_str())?);
    }
    deliveries.sort_by_key(|found| found.seq);
    Ok(Trace {
        turn: Some(turn.record),
        deliveries: deliveries.into_iter().map(|found| found.record).collect(),
    })
}

fn delivery_by_key(db: &Connection, key: &str) -> rusqlite::Result<Option<Stored<DeliveryRecord>>> {
    let sql = deliveries!("WHERE key = ?1");
    let mut found = db.prepare_cached(sql)?.query_row([key], delivery_row).optional()?;
    if let Some(Stored { record, .. }) = &mut found {
        // The row and the change were written in one transaction, with one time. A change of many does not name each.
        let sql =
            "SELECT 1 FROM change WHERE at = ?1 AND verb = 'redrive' AND (subject = ?2 OR subject NOT LIKE 'dlv_%')";
        record.was_redriven = db.prepare_cached(sql)?.exists(params![record.created_at_ms, key])?;
    }
    Ok(found)
}

fn turn_by_seq(db: &Connection, seq: i64) -> rusqlite::Result<Option<Stored<TurnRecord>>> {
    let sql = turns!("WHERE inbox.seq = ?1");
    db.prepare_cached(sql)?.query_row([seq], turn_row).optional()
}

/// Finds an event by the host's id of it: through its first delivery, or by the time that stands in the id.
///
/// An index would cost every message a write, for a question that is asked by hand. Rows are stored in the order of their
/// times, so the row is near the place of its time, unless the clock was set: then all are read.
fn turn_by_event(db: &Connection, id: &str) -> rusqlite::Result<Option<Stored<TurnRecord>>> {
    if !id.starts_with(EventId::PREFIX) {
        return Ok(None);
    }
    let event = EventId::from_trusted(id);
    if let Some(Stored { turn: Some(seq), .. }) = delivery_by_key(db, DeliveryKey::of_turn(&event, 0).as_str())? {
        return turn_by_seq(db, seq);
    }
    if let Some(at) = event.made_at_ms()
        && let Some(seq) = near(db, id, at)?
    {
        return turn_by_seq(db, seq);
    }
    let sql = turns!("WHERE event_id = ?1 ORDER BY inbox.seq DESC LIMIT 1");
    db.prepare_cached(sql)?.query_row([id], turn_row).optional()
}

/// Looks for an event's row among those of its time.
fn near(db: &Connection, id: &str, at: UnixMillis) -> rusqlite::Result<Option<i64>> {
    let tolerance = millis(limit::EVENT_ROW_TOLERANCE);
    let from = first_since(db, at.saturating_sub(tolerance))?;
    let sql = "SELECT seq, event_id, received_at FROM inbox WHERE seq >= ?1 ORDER BY seq";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([from])?;
    while let Some(row) = rows.next()? {
        if row.get_ref(1)?.as_str().is_ok_and(|found| found == id) {
            return row.get(0).map(Some);
        }
        if row.get::<_, i64>(2)? > at.saturating_add(tolerance) {
            break;
        }
    }
    Ok(None)
}

/// Returns the first row of the inbox that was received at a time or after it, by halving.
fn first_since(db: &Connection, at: UnixMillis) -> rusqlite::Result<i64> {
    let ends = "SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) FROM inbox";
    let (mut low, mut high): (i64, i64) = db.query_row(ends, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut probe = db.prepare_cached("SELECT received_at FROM inbox WHERE seq >= ?1 ORDER BY seq LIMIT 1")?;
    while low < high {
        let middle = low + (high - low) / 2;
        let is_before = probe.query_row([middle], |row| row.get::<_, i64>(0))? < at;
        if is_before {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// Finds deliveries by a platform's id of what was sent, newest first: in `sent`, and among the rows that the sweep has
/// not come to yet.
fn deliveries_by_message(db: &Connection, id: &str) -> rusqlite::Result<Vec<Stored<DeliveryRecord>>> {
    let sql = deliveries!(
        "WHERE outbox.seq IN (
            SELECT seq FROM sent WHERE message_id = ?1
            UNION
            SELECT seq FROM outbox WHERE seq >= (SELECT sent_until FROM gateway) AND receipt IS NOT NULL
                AND json_valid(receipt) AND EXISTS (SELECT 1 FROM json_each(receipt) WHERE value = ?1))
        ORDER BY outbox.seq DESC LIMIT ?2"
    );
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![id, count(limit::TRACES_MAX)], delivery_row)?;
    rows.collect()
}

/// Finds events by the platform's id: one for each channel at most.
fn turns_by_message(db: &Connection, id: &str) -> rusqlite::Result<Vec<Stored<TurnRecord>>> {
    let sql = turns!("WHERE inbox.channel IN (SELECT id FROM channel) AND ext_id = ?1 ORDER BY inbox.seq DESC");
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map([id], turn_row)?;
    rows.collect()
}

/// Finds events by the last part of the platform's id, newest first: a component whose ids are unique in a conversation
/// only, such as those that clients choose, puts that before them with a `/`, and whoever asks knows only the rest.
///
/// All ids are read, in their index, for the same reason as in [`turn_by_event`].
fn turns_by_ending(db: &Connection, id: &str) -> rusqlite::Result<Vec<Stored<TurnRecord>>> {
    let sql = turns!(
        "WHERE inbox.seq IN (SELECT seq FROM inbox WHERE substr(ext_id, -length(?1)) = ?1)
        ORDER BY inbox.seq DESC LIMIT ?2"
    );
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![format!("/{id}"), count(limit::TRACES_MAX)], turn_row)?;
    rows.collect()
}

/// Takes up to `max` rows, until their texts are together over the bound; the first is always taken.
fn page<T>(rows: impl Iterator<Item = rusqlite::Result<Stored<T>>>, max: usize) -> rusqlite::Result<Page<T>> {
    let (mut items, mut bytes) = (Vec::new(), 0_usize);
    for row in rows {
        let row = row?;
        bytes = bytes.saturating_add(row.bytes);
        if items.len() == max || (bytes > limit::OPERATOR_BYTES_MAX && !items.is_empty()) {
            return Ok(Page { items, has_more: true });
        }
        items.push(row.record);
    }
    Ok(Page { items, has_more: false })
}

fn delivery_row(row: &Row<'_>) -> rusqlite::Result<Stored<DeliveryRecord>> {
    let body: Option<String> = row.get(14)?;
    let parts: Option<Vec<SentPart>> = from_json(row.get(11)?);
    let seq = row.get(0)?;
    Ok(Stored {
        seq,
        turn: row.get(1)?,
        bytes: body.as_ref().map_or(0, String::len),
        record: DeliveryRecord {
            key: DeliveryKey::from_trusted(row.get::<_, String>(2)?),
            row: seq,
            state: delivery_state(row.get(3)?),
            attempts: row.get(4)?,
            ambiguous: row.get(5)?,
            created_at_ms: row.get(6)?,
            was_redriven: false,
            due_at_ms: row.get(7)?,
            behind: row.get::<_, Option<String>>(15)?.map(DeliveryKey::from_trusted),
            expires_at_ms: row.get(8)?,
            attempt_at_ms: row.get(9)?,
            finished_at_ms: row.get(10)?,
            parts_sent: parts.map_or(0, |parts| parts.len()),
            message_ids: from_json(row.get(12)?).unwrap_or_default(),
            reason: row.get(13)?,
            event: from_json(body),
        },
    })
}

fn turn_row(row: &Row<'_>) -> rusqlite::Result<Stored<TurnRecord>> {
    let body: Option<String> = row.get(6)?;
    let state = match row.get(5)? {
        0 => TurnState::Waiting,
        2_i64 => TurnState::Dead,
        _ => TurnState::Done,
    };
    let due_at_ms = row.get(8)?;
    Ok(Stored {
        seq: row.get(0)?,
        turn: None,
        bytes: body.as_ref().map_or(0, String::len),
        record: TurnRecord {
            id: EventId::from_trusted(row.get::<_, String>(1)?),
            channel: ChannelName::from_trusted(row.get::<_, String>(2)?),
            message_id: row.get(3)?,
            session: SessionKey::from_trusted(row.get::<_, String>(4)?),
            state,
            event: from_json(body),
            received_at_ms: row.get(7)?,
            due_at_ms: (state == TurnState::Waiting).then_some(due_at_ms),
            finished_at_ms: row.get(9)?,
            failures: row.get(10)?,
            reason: row.get(11)?,
        },
    })
}

fn delivery_state(stored: i64) -> DeliveryState {
    match stored {
        -1 => DeliveryState::Held,
        0 | 10 => DeliveryState::Pending,
        1 => DeliveryState::Retrying,
        2 | 12 => DeliveryState::Sending,
        3 => DeliveryState::Awaiting,
        4 => DeliveryState::Delivered,
        5 => DeliveryState::Dead,
        _ => DeliveryState::Dropped,
    }
}

fn from_json<T: serde::de::DeserializeOwned>(json: Option<String>) -> Option<T> {
    serde_json::from_str(&json?).ok()
}
