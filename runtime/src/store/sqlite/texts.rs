//! Texts that are needed no longer, dropped at the end of the transaction in which that comes out.
//!
//! Most texts go soon after they came, in about the order in which they came. One statement for each would cost as much as
//! the end of the delivery itself.

use rusqlite::Connection;

/// Rows whose texts are to go with the present transaction. Nothing looks at the text of a row that is done or
/// delivered, so it can wait for its end, where texts that were stored one after the other go together.
#[derive(Default)]
pub(super) struct Texts {
    pub(super) inbox: Vec<i64>,
    pub(super) outbox: Vec<i64>,
}

impl Texts {
    /// Returns a point to roll back to.
    pub(super) fn mark(&self) -> (usize, usize) {
        (self.inbox.len(), self.outbox.len())
    }

    /// Forgets what was added since a mark.
    pub(super) fn roll_back_to(&mut self, (inbox, outbox): (usize, usize)) {
        self.inbox.truncate(inbox);
        self.outbox.truncate(outbox);
    }

    /// Drops them.
    pub(super) fn drop_from(&mut self, db: &Connection) -> rusqlite::Result<()> {
        for (rows, sql) in [
            (&mut self.inbox, "DELETE FROM inbox_body WHERE seq BETWEEN ?1 AND ?2"),
            (&mut self.outbox, "DELETE FROM outbox_body WHERE seq BETWEEN ?1 AND ?2"),
        ] {
            rows.sort_unstable();
            for run in runs(rows) {
                db.prepare_cached(sql)?.execute(<[i64; 2]>::from(run))?;
            }
            rows.clear();
        }
        Ok(())
    }
}

/// Returns the first and last of each run of numbers without a gap. `sorted` is.
pub(super) fn runs(sorted: &[i64]) -> impl Iterator<Item = (i64, i64)> {
    let runs = sorted.chunk_by(|one, next| one + 1 == *next);
    runs.filter_map(|run| run.first().copied().zip(run.last().copied()))
}
