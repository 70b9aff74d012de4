//! Checkpoints: moving pages from the WAL into the database, beside the writer.
//!
//! And room in the WAL: a flush that also has to record a longer file takes about twice as long as one that has not, so
//! the file grows ahead of its use.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rusqlite::{Connection, ErrorCode};

use super::flusher::Durability;
use crate::limit;

/// How many commits pass between two looks at the size of the WAL.
const LOOK_EVERY: u32 = 32;
/// Pages in the WAL from which it is moved: 8 MiB, so that a page that changes often is moved once for many changes.
const PAGES_MIN: i64 = 2048;
const PAGE_BYTES: i64 = 4096;
/// A frame's header, before each page in the WAL.
const FRAME_HEADER_BYTES: i64 = 24;
/// How far the WAL grows at a time.
const ROOM_BYTES: usize = 1024 * 1024;

/// The writer's side: looks at the WAL, and wakes the thread or, at the bound, moves everything itself.
pub(super) struct Checkpoints {
    wake: SyncSender<()>,
    commits: u32,
    wal: File,
}

/// Makes the writer's side and what wakes the thread. Makes room in the WAL, which nothing is writing to yet.
pub(super) fn pair(wal: File) -> io::Result<(Checkpoints, Receiver<()>)> {
    let (wake, woken) = sync_channel(1);
    let checkpoints = Checkpoints { wake, commits: 0, wal };
    checkpoints.make_room(0)?;
    checkpoints.wal.sync_all()?;
    Ok((checkpoints, woken))
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
        if let Err(error) = self.make_room(unmoved) {
            // It only makes flushes quicker; a disk that is full shows itself where it matters.
            tracing::debug!(%error, "the write-ahead log could not grow ahead of its use");
        }
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

impl Checkpoints {
    /// Grows the WAL where its frames come near its end.
    fn make_room(&self, frames: i64) -> io::Result<()> {
        let used = frames.saturating_mul(PAGE_BYTES + FRAME_HEADER_BYTES);
        let length = i64::try_from(self.wal.metadata()?.len()).unwrap_or(i64::MAX);
        let is_near = length.saturating_sub(used) < PAGE_BYTES * 128;
        if is_near && length < limit::WAL_BYTES_MAX {
            self.grow()
        } else {
            Ok(())
        }
    }

    /// Appends zeros. They are past the end of the file, so no frame is where they go, and SQLite's recovery stops at the
    /// first of them; and they are written by the thread that also writes the frames.
    fn grow(&self) -> io::Result<()> {
        self.wal.write_all_at(&vec![0; ROOM_BYTES], self.wal.metadata()?.len())
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
