//! What a channel keeps (state, blobs), and the sweep of what is past its retention.

use rusqlite::{OptionalExtension as _, params};

use super::outbox::count;
use super::work::Work;
use super::writer::Failure;
use crate::clock::{UnixMillis, millis};
use crate::limit;
use crate::store::{Error, Quota};

/// What a sweep dropped.
pub(super) struct Sweepings {
    pub(super) rows: u64,
    /// Blobs whose files are to be removed now.
    pub(super) blobs: Vec<String>,
}

/// How one table is swept: a window of rows at a time, from the oldest to the first that is too young.
struct Sweep {
    /// The highest id of the window after `?1`, and whether that row is past its retention at `?2`.
    window: &'static str,
    /// What goes before it, with the same values.
    before: Option<&'static str>,
    /// Deletes what is past its retention (`?3`) in the window from `?1` to `?2`.
    delete: &'static str,
}

const SWEEP_INBOX: Sweep = Sweep {
    window: "SELECT seq, received_at <= ?2 FROM inbox WHERE seq > ?1 ORDER BY seq LIMIT ?3",
    before: None,
    delete: "DELETE FROM inbox WHERE seq > ?1 AND seq <= ?2 AND state = 1 AND received_at <= ?3",
};
const SWEEP_OUTBOX: Sweep = Sweep {
    window: "SELECT seq, created_at <= ?2 FROM outbox WHERE seq > ?1 ORDER BY seq LIMIT ?3",
    before: Some(
        "DELETE FROM sent WHERE (message_id, seq) IN (SELECT value, outbox.seq FROM outbox, json_each(receipt)
            WHERE outbox.seq > ?1 AND outbox.seq <= ?2 AND state IN (4, 6) AND finished_at <= ?3
                AND receipt IS NOT NULL AND json_valid(receipt))",
    ),
    delete: "DELETE FROM outbox WHERE seq > ?1 AND seq <= ?2 AND state IN (4, 6) AND finished_at <= ?3",
};
const SWEEP_LANES: Sweep = Sweep {
    window: "SELECT id, ?2 = ?2 FROM lane WHERE id > ?1 ORDER BY id LIMIT ?3",
    before: None,
    delete: "DELETE FROM lane WHERE id > ?1 AND id <= ?2 AND due_at IS NULL AND floor_at <= ?3",
};

impl Work<'_> {
    // ---- state

    /// Sets or deletes a value, within the channel's quota.
    pub(super) fn state_set(
        &mut self,
        channel: &str,
        key: &str,
        value: Option<&[u8]>,
        quota: Quota,
    ) -> Result<(), Failure> {
        let id = self.channel_id(channel)?;
        let old: Option<i64> = self
            .sql("SELECT length(value) FROM state WHERE channel = ?1 AND key = ?2")?
            .query_row(params![id, key], |row| row.get(0))
            .optional()?;
        let size = |value: i64| value + count(key.len());
        let keys = i64::from(value.is_some()) - i64::from(old.is_some());
        let bytes = value.map_or(0, |value| size(count(value.len()))) - old.map_or(0, size);
        self.book_state(id, keys, bytes, quota)?;
        self.memory.is_state_touched = true;
        match value {
            Some(value) => self
                .sql(
                    "INSERT INTO state (channel, key, value) VALUES (?1, ?2, ?3)
                    ON CONFLICT (channel, key) DO UPDATE SET value = excluded.value",
                )?
                .execute(params![id, key, value])?,
            None => self
                .sql("DELETE FROM state WHERE channel = ?1 AND key = ?2")?
                .execute(params![id, key])?,
        };
        Ok(())
    }

    /// Books a change of the channel's state; refuses one that grows it past its quota.
    fn book_state(&mut self, channel: i64, keys: i64, bytes: i64, quota: Quota) -> Result<(), Failure> {
        let (keys_now, bytes_now): (i64, i64) = self
            .sql("SELECT state_keys, state_bytes FROM channel WHERE id = ?1")?
            .query_row([channel], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if keys > 0 && is_past(keys_now + keys, quota.state_keys) {
            return Err(Error::Quota(format!("at most {} keys of state", quota.state_keys)).into());
        }
        if bytes > 0 && is_past(bytes_now + bytes, quota.state_bytes) {
            return Err(Error::Quota(format!("at most {} bytes of state", quota.state_bytes)).into());
        }
        if keys != 0 || bytes != 0 {
            let sql = "UPDATE channel SET state_keys = state_keys + ?2, state_bytes = state_bytes + ?3 WHERE id = ?1";
            self.sql(sql)?.execute(params![channel, keys, bytes])?;
        }
        Ok(())
    }

    /// Sets or deletes a value where the present one is as expected.
    pub(super) fn state_swap(
        &mut self,
        channel: &str,
        key: &str,
        expected: Option<&[u8]>,
        value: Option<&[u8]>,
        quota: Quota,
    ) -> Result<bool, Failure> {
        let id = self.channel_id(channel)?;
        let present: Option<Vec<u8>> = self
            .sql("SELECT value FROM state WHERE channel = ?1 AND key = ?2")?
            .query_row(params![id, key], |row| row.get(0))
            .optional()?;
        let is_expected = present.as_deref() == expected;
        if is_expected {
            self.state_set(channel, key, value, quota)?;
        }
        Ok(is_expected)
    }

    // ---- blobs

    /// Books a blob whose file is written.
    pub(super) fn add_blob(
        &mut self,
        channel: &str,
        blob: &str,
        media_type: &str,
        size: usize,
        quota: Quota,
        now: UnixMillis,
    ) -> Result<(), Failure> {
        let id = self.channel_id(channel)?;
        let sql = "SELECT blob_bytes FROM channel WHERE id = ?1";
        let bytes: i64 = self.sql(sql)?.query_row([id], |row| row.get(0))?;
        if is_past(bytes + charged(count(size)), quota.blob_bytes) {
            return Err(past_blobs(quota).into());
        }
        self.sql("INSERT INTO blob (id, channel, media_type, size, created_at) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![blob, id, media_type, count(size), now])?;
        self.sql("UPDATE channel SET blob_bytes = blob_bytes + ?2 WHERE id = ?1")?
            .execute(params![id, charged(count(size))])?;
        Ok(())
    }

    /// Moves all times that something waits for.
    pub(super) fn shift(&mut self, jump: i64) -> Result<(), Failure> {
        self.settle_all()?;
        self.memory.fresh.forget_idle();
        for sql in [
            "UPDATE outbox INDEXED BY outbox_lane SET due_at = due_at + ?1, expires_at = expires_at + ?1 WHERE state <= 2",
            "UPDATE outbox INDEXED BY outbox_wait SET due_at = due_at + ?1, expires_at = expires_at + ?1
                WHERE (state = 1 OR state = 3) AND state = 3",
            "UPDATE lane SET due_at = due_at + ?1, floor_at = CASE WHEN floor_at > 0 THEN floor_at + ?1 ELSE 0 END",
            "UPDATE inbox INDEXED BY inbox_waiting SET due_at = due_at + ?1 WHERE state = 0",
            "UPDATE session SET due_at = due_at + ?1, floor_at = CASE WHEN floor_at > 0 THEN floor_at + ?1 ELSE 0 END",
            "UPDATE gateway SET seen_at = seen_at + ?1",
        ] {
            self.sql(sql)?.execute([jump])?;
        }
        Ok(())
    }

    /// Notes the time, and moves what waits where it went back since it was noted last.
    pub(super) fn note_time(&mut self, now: UnixMillis) -> Result<Option<i64>, Failure> {
        let noted: Option<UnixMillis> = self
            .sql("SELECT seen_at FROM gateway")?
            .query_row([], |row| row.get(0))?;
        let jump = noted
            .map(|noted| now.saturating_sub(noted))
            .filter(|jump| *jump <= -millis(limit::CLOCK_JUMP_MIN));
        if let Some(jump) = jump {
            self.shift(jump)?;
        }
        self.sql("UPDATE gateway SET seen_at = ?1")?.execute([now])?;
        Ok(jump)
    }

    /// Notes until when a channel listened.
    pub(super) fn seen(&mut self, channel: &str, now: UnixMillis) -> Result<(), Failure> {
        let id = self.channel_id(channel)?;
        self.sql("UPDATE channel SET seen_at = ?2 WHERE id = ?1")?
            .execute(params![id, now])?;
        Ok(())
    }

    // ---- sweep

    /// Drops what is past its retention, within bounds.
    pub(super) fn sweep(&mut self, now: UnixMillis) -> Result<Sweepings, Failure> {
        let mut swept = self.memory.swept;
        let mut rows = 0;
        rows += self.sweep_table(&SWEEP_INBOX, &mut swept.inbox, now - millis(limit::INBOX_RETENTION))?;
        self.index_all_sent()?;
        rows += self.sweep_table(&SWEEP_OUTBOX, &mut swept.outbox, now - millis(limit::RECEIPT_RETENTION))?;
        // A fresh lane looks idle.
        self.settle_all()?;
        // An idle lane is made again by its next message; it is no one's data, so it does not count.
        self.sweep_table(&SWEEP_LANES, &mut swept.lane, now)?;
        self.memory.swept = swept;
        self.memory.forget_names();
        let blobs = self.sweep_blobs(now - millis(limit::BLOB_RETENTION))?;
        Ok(Sweepings {
            rows: rows + blobs.len() as u64,
            blobs,
        })
    }

    fn sweep_table(&mut self, sweep: &Sweep, from: &mut i64, until: UnixMillis) -> Result<u64, Failure> {
        let limit = count(limit::SWEEP_ROWS_MAX);
        let window: Vec<(i64, bool)> = self
            .sql(sweep.window)?
            .query_map(params![*from, until, limit], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let Some(&(last, is_old)) = window.last() else {
            *from = 0;
            return Ok(0);
        };
        if let Some(before) = sweep.before {
            self.sql(before)?.execute(params![*from, last, until])?;
        }
        let dropped = self.sql(sweep.delete)?.execute(params![*from, last, until])?;
        *from = if is_old && window.len() == limit::SWEEP_ROWS_MAX {
            last
        } else {
            0
        };
        Ok(dropped as u64)
    }

    /// Puts the receipts of the next rows into `sent`, a bounded number. Those of rows that are still on their way follow
    /// when they come: [`Work::index_sent`].
    fn index_all_sent(&mut self) -> Result<(), Failure> {
        let (from, next) = (self.memory.counts.sent_until, self.memory.next_seq());
        let until = next.min(from.saturating_add(count(limit::SENT_INDEXED_MAX)));
        if from < until {
            self.insert_sent(from, until)?;
            self.memory.counts.sent_until = until;
        }
        Ok(())
    }

    /// Puts the receipt of a row into `sent`, where the sweep has passed it already.
    pub(super) fn index_sent(&mut self, seq: i64) -> Result<(), Failure> {
        if seq < self.memory.counts.sent_until {
            self.insert_sent(seq, seq + 1)?;
        }
        Ok(())
    }

    /// Takes the receipt of a row out of `sent`, where the row gets another number: it is found there again once the sweep
    /// has come to that.
    pub(super) fn unindex_sent(&mut self, seq: i64) -> Result<(), Failure> {
        let sql =
            "DELETE FROM sent WHERE (message_id, seq) IN (SELECT value, outbox.seq FROM outbox, json_each(receipt)
            WHERE outbox.seq = ?1 AND receipt IS NOT NULL AND json_valid(receipt))";
        self.sql(sql)?.execute([seq])?;
        Ok(())
    }

    fn insert_sent(&mut self, from: i64, until: i64) -> Result<(), Failure> {
        let sql =
            "INSERT OR IGNORE INTO sent (message_id, seq) SELECT value, outbox.seq FROM outbox, json_each(receipt)
            WHERE outbox.seq >= ?1 AND outbox.seq < ?2 AND receipt IS NOT NULL AND json_valid(receipt)
                AND json_each.type = 'text'";
        self.sql(sql)?.execute([from, until])?;
        Ok(())
    }

    fn sweep_blobs(&mut self, until: UnixMillis) -> Result<Vec<String>, Failure> {
        let old: Vec<(String, i64, i64)> = self
            .sql("SELECT id, channel, size FROM blob WHERE created_at <= ?1 ORDER BY created_at LIMIT ?2")?
            .query_map(params![until, count(limit::SWEEP_ROWS_MAX)], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?
            .collect::<Result<_, _>>()?;
        for (id, channel, size) in &old {
            self.sql("DELETE FROM blob WHERE id = ?1")?.execute([id])?;
            self.sql("UPDATE channel SET blob_bytes = blob_bytes - ?2 WHERE id = ?1")?
                .execute(params![channel, charged(*size)])?;
        }
        Ok(old.into_iter().map(|(id, ..)| id).collect())
    }
}

/// Returns what a blob of a size takes of its channel's bytes: a file takes a whole block of the disk, and a row.
pub(super) fn charged(size: i64) -> i64 {
    size.max(count(limit::BLOB_BYTES_CHARGED_MIN))
}

/// Returns what a full blob store answers.
pub(super) fn past_blobs(quota: Quota) -> Error {
    Error::Quota(format!("at most {} bytes of blobs", quota.blob_bytes))
}

/// Returns whether an amount is past its bound.
pub(super) fn is_past(amount: i64, bound: u64) -> bool {
    u64::try_from(amount).is_ok_and(|amount| amount > bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_blob_takes_a_block_of_the_disk_and_a_large_one_its_size() {
        assert_eq!((charged(0), charged(4096), charged(4097)), (4096, 4096, 4097));
    }
}
