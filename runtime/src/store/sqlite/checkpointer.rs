//! Checkpoints: moving pages from the WAL into the database, beside the writer.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rusqlite::{Connection, ErrorCode};

use super::flusher::Durability;
use crate::limit;

/// How many commits pass between two looks at the size of the WAL.
const LOOK_EVERY: u32 = 32;
/// Pages in the WAL from which it is moved: 16 MiB, so that a page that changes often is moved once for many changes.
const PAGES_MIN: i64 = 4096;
const PAGE_BYTES: i64 = 4096;

/// The writer's side: looks at the WAL, and wakes the thread or, at the bound, moves everything itself.
pub(super) struct Checkpoints {
    wake: SyncSender<()>,
    commits: u32,
}

/// Makes the writer's side and what wakes the thread.
pub(super) fn pair() -> (Checkpoints, Receiver<()>) {
    let (wake, woken) = sync_channel(1);
    (Checkpoints { wake, commits: 0 }, woken)
}

impl Checkpoints {
    /// Called after each commit.
    pub(super) fn after_commit(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.commits += 1;
        if self.commits < LOOK_EVERY {
            return Ok(());
        }
        self.commits = 0;
        let unmoved = pages(db, "NOOP")?;
        if unmoved * PAGE_BYTES > limit::WAL_BYTES_MAX {
            // The thread can't get ahead of a writer that never pauses. So the writer pauses.
            tolerate(pages(db, "RESTART"))
        } else {
            if unmoved > PAGES_MIN {
                // A full channel means that the thread is about to look anyway.
                let _ = self.wake.try_send(());
            }
            Ok(())
        }
    }
}

/// The thread's loop: ends with the writer.
pub(super) fn run(db: &Connection, woken: &Receiver<()>, durability: &Durability) {
    while woken.recv().is_ok() {
        if let Err(error) = tolerate(pages(db, "PASSIVE")) {
            return durability.poison(format!("a checkpoint failed: {error}"));
        }
    }
}

/// Moves everything and cuts the WAL to nothing: at the end.
pub(super) fn finish(db: &Connection) -> rusqlite::Result<()> {
    tolerate(pages(db, "TRUNCATE"))
}

/// Checkpoints, and returns how many pages the WAL holds.
fn pages(db: &Connection, mode: &str) -> rusqlite::Result<i64> {
    db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(1))
}

/// A checkpoint that found no room or no moment is repeated later; the WAL still has everything.
fn tolerate(result: rusqlite::Result<i64>) -> rusqlite::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                tracing::warn!(%error, "the write-ahead log could not be moved into the database now");
                Ok(())
            }
            _ => Err(error),
        },
    }
}
