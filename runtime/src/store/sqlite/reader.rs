//! Reads: a few read-only connections, used from the runtime's threads for blocking work.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension as _};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::clock::UnixMillis;
use crate::limit;
use crate::store::{Error, HistoryEntry, Role, Usage};

/// The read-only connections.
pub(super) struct Readers {
    idle: Mutex<Vec<Connection>>,
    /// One permit for each connection.
    permits: Semaphore,
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>) -> Arc<Self> {
        Arc::new(Self {
            permits: Semaphore::new(connections.len()),
            idle: Mutex::new(connections),
        })
    }

    /// Runs a query on a free connection.
    pub(super) async fn read<T, F>(self: &Arc<Self>, query: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let _permit = self.permits.acquire().await.map_err(|_| closed())?;
        let readers = Arc::clone(self);
        let read = spawn_blocking(move || {
            let connection = readers.lock().pop().ok_or_else(closed)?;
            let result = query(&connection);
            readers.lock().push(connection);
            result.map_err(|error| Error::Refused(error.to_string()))
        });
        read.await.map_err(|error| Error::Refused(error.to_string()))?
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> Error {
    Error::Refused("no connection is left to read with".to_owned())
}

pub(super) fn cursor(db: &Connection, channel: &str) -> rusqlite::Result<Option<String>> {
    let found = db
        .prepare_cached("SELECT cursor FROM channel WHERE name = ?1")?
        .query_row([channel], |row| row.get(0));
    Ok(found.optional()?.flatten())
}

pub(super) fn last_seen(db: &Connection, channel: &str) -> rusqlite::Result<Option<UnixMillis>> {
    let found = db
        .prepare_cached("SELECT seen_at FROM channel WHERE name = ?1")?
        .query_row([channel], |row| row.get(0));
    Ok(found.optional()?.flatten())
}

/// Reads how many bytes are in use in the database and by blobs, and asks the file system how many are free.
pub(super) fn usage(db: &Connection, blobs: &Path) -> rusqlite::Result<Usage> {
    let sql = "SELECT (page_count - freelist_count) * page_size
            + (SELECT coalesce(sum(blob_bytes), 0) FROM channel)
        FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
    let bytes: i64 = db.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    // A file system that does not say is not taken for a full one: writing shows.
    let free = rustix::fs::statvfs(blobs).map_or(u64::MAX, |it| it.f_bavail.saturating_mul(it.f_frsize));
    Ok(Usage {
        store_bytes: bytes.unsigned_abs(),
        disk_free_bytes: free,
    })
}

/// Reads the newest lines, oldest first.
pub(super) fn history(
    db: &Connection,
    session: &str,
    entries_max: usize,
    bytes_max: usize,
) -> rusqlite::Result<Vec<HistoryEntry>> {
    // One transaction for all lines: each takes and gives back locks of the file, which costs more than reading a line.
    let transaction = db.unchecked_transaction()?;
    let newest = transaction
        .prepare_cached("SELECT last_line FROM session WHERE key = ?1")?
        .query_row([session], |row| row.get(0));
    let mut next: Option<i64> = newest.optional()?.flatten();
    let mut line = transaction.prepare_cached("SELECT before, role, text FROM history WHERE seq = ?1")?;
    let mut lines = Vec::new();
    let mut bytes = 0;
    while let Some(seq) = next.filter(|_| lines.len() < entries_max) {
        let (before, is_assistant, text): (_, bool, String) =
            line.query_row([seq], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        bytes += text.len();
        if bytes > bytes_max {
            break;
        }
        let role = if is_assistant { Role::Assistant } else { Role::User };
        lines.push(HistoryEntry { role, text });
        next = before;
    }
    lines.reverse();
    Ok(lines)
}

pub(super) fn state_get(db: &Connection, channel: &str, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    let sql = "SELECT value FROM state WHERE channel = (SELECT id FROM channel WHERE name = ?1) AND key = ?2";
    db.prepare_cached(sql)?
        .query_row([channel, key], |row| row.get(0))
        .optional()
}

/// Reads the keys that start with `prefix`: from the first that could, up to the first that does not. None where they are
/// more than [`limit::STATE_LIST_BYTES_MAX`].
pub(super) fn state_keys(db: &Connection, channel: &str, prefix: &str) -> rusqlite::Result<Option<Vec<String>>> {
    let sql = "SELECT key FROM state WHERE channel = (SELECT id FROM channel WHERE name = ?1) AND key >= ?2
        ORDER BY key";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([channel, prefix])?;
    let (mut keys, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        if !key.starts_with(prefix) {
            break;
        }
        bytes += size_of::<String>() + key.len();
        if bytes > limit::STATE_LIST_BYTES_MAX {
            return Ok(None);
        }
        keys.push(key);
    }
    Ok(Some(keys))
}

/// Reads how many bytes a channel's blobs have.
pub(super) fn blob_bytes(db: &Connection, channel: &str) -> rusqlite::Result<i64> {
    let sql = "SELECT blob_bytes FROM channel WHERE name = ?1";
    Ok(db
        .prepare_cached(sql)?
        .query_row([channel], |row| row.get(0))
        .optional()?
        .unwrap_or(0))
}

/// Reads a blob's media type and size.
pub(super) fn blob(db: &Connection, channel: &str, blob: &str) -> rusqlite::Result<Option<(String, u64)>> {
    let sql = "SELECT media_type, size FROM blob WHERE id = ?2 AND channel = (SELECT id FROM channel WHERE name = ?1)";
    let found = db
        .prepare_cached(sql)?
        .query_row([channel, blob], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)));
    Ok(found
        .optional()?
        .map(|(media_type, size)| (media_type, size.unsigned_abs())))
}
