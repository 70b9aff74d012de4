//! The store as someone sees it who is not its gateway: to check it, to copy it, to read it out.
//!
//! Nothing here writes to the store or takes its lock, so all of it works while a gateway runs, and each reads one state
//! of the whole, whatever is written meanwhile.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::backup::Backup;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use serde_json::json;

use super::open::{DataDir, OpenError, private};
use super::records;
use crate::id::random_hex;

/// Faults that a check reports at most: after so many it is no question any more.
const FAULTS_MAX: usize = 100;

/// How often it is tried to remove an unfinished copy while files are still put into it: few are at a time.
const DISCARD_TRIES_MAX: usize = 100;

/// What must not be found, and the words for it with the number of rows.
const MUST_BE_NONE: [(&str, &str); 8] = [
    (
        "waiting inbound messages without their text",
        "SELECT count(*) FROM inbox WHERE state = 0 AND seq NOT IN (SELECT seq FROM inbox_body)",
    ),
    (
        "inbound messages whose text is damaged",
        "SELECT count(*) FROM inbox_body WHERE NOT json_valid(body)",
    ),
    (
        "undelivered messages or dead letters without their text",
        "SELECT count(*) FROM outbox
            WHERE (state <= 3 OR state = 5 OR state >= 10) AND seq NOT IN (SELECT seq FROM outbox_body)",
    ),
    (
        "outbound messages whose text is damaged",
        "SELECT count(*) FROM outbox_body WHERE NOT json_valid(body)",
    ),
    (
        "undelivered messages that nothing will send",
        // Fresh ones have no entry in their lane: the next opening finds them behind `fresh_from`.
        "SELECT count(*) FROM outbox LEFT JOIN lane ON lane.id = outbox.lane
            WHERE (state <= 3 AND lane.due_at IS NULL)
                OR (state >= 10 AND (lane.id IS NULL OR outbox.seq < (SELECT fresh_from FROM gateway)))",
    ),
    (
        "waiting inbound messages that nothing will answer",
        "SELECT count(*) FROM inbox LEFT JOIN session ON session.id = inbox.session
            WHERE state = 0 AND session.due_at IS NULL",
    ),
    (
        "lines of a history that are cut off from those before them",
        "SELECT count(*) FROM history AS line WHERE before IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM history WHERE seq = line.before AND session = line.session)",
    ),
    (
        "sessions that do not know the last line of their history",
        "SELECT count(*) FROM session LEFT JOIN (SELECT session, max(seq) AS seq FROM history GROUP BY session) AS newest
            ON newest.session = session.id WHERE last_line IS NOT newest.seq",
    ),
];

/// The counts that are kept, and what they count.
const COUNTS: [(&str, &str); 5] = [
    ("inbox", "SELECT count(*) FROM inbox WHERE state = 0"),
    ("dead_inbound", "SELECT count(*) FROM inbox WHERE state = 2"),
    ("outbox", "SELECT count(*) FROM outbox WHERE state <= 3 OR state >= 10"),
    ("dead", "SELECT count(*) FROM outbox WHERE state = 5"),
    ("awaiting", "SELECT count(*) FROM outbox WHERE state = 3"),
];

/// Why a store could not be checked, copied or read out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// It can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Reading it failed: it is damaged, or another program holds it.
    #[error("the database can't be read: {0}")]
    Read(#[from] rusqlite::Error),
    /// Writing the copy failed.
    #[error("can't write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is something where the copy should go.
    #[error("{} is there already", .0.display())]
    InTheWay(PathBuf),
    /// The copy is not sound, because the original is not.
    #[error("the copy is not sound: {0}")]
    Unsound(String),
}

/// A copy that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupReport {
    /// Bytes of the database.
    pub database_bytes: u64,
    /// Blobs that were copied.
    pub blobs: u64,
    /// Blobs that were past their retention and went while the copy was made.
    pub blobs_gone: u64,
}

/// Where a copy goes.
#[derive(Debug, Clone)]
pub struct CopyPlace {
    /// The folder that is to have it.
    folder: PathBuf,
    /// The folder beside it that has it until it is whole, and that no other copy uses.
    unready: PathBuf,
    /// What became of it: whoever finishes it and whoever cuts it short agree on it here.
    fate: Arc<Mutex<Fate>>,
}

/// What became of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Fate {
    /// It is being made.
    #[default]
    Open,
    /// It is whole, and in its place.
    Whole,
    /// It was cut short.
    Discarded,
}

impl CopyPlace {
    /// Names the place; nothing is made.
    pub fn at(folder: &Path) -> Self {
        // Without a slash at the end, which would put the one folder into the other.
        let folder: PathBuf = folder.components().collect();
        let mut unready = folder.clone().into_os_string();
        unready.push(format!(".unready-{}", random_hex::<4>()));
        let unready = unready.into();
        let fate = Arc::default();
        Self { folder, unready, fate }
    }

    /// Removes what there is of a copy that is not whole, also while it is still being written. Returns whether nothing of
    /// it is left: one that is whole stays in its place.
    pub fn discard(&self) -> bool {
        let mut fate = self.fate();
        if *fate == Fate::Whole {
            return false;
        }
        *fate = Fate::Discarded;
        drop(fate);
        self.remove_unready();
        true
    }

    /// Puts the copy that was made in its place.
    fn finish(&self) -> Result<(), ArchiveError> {
        let mut fate = self.fate();
        if *fate == Fate::Discarded {
            return Err(at(&self.folder)(io::ErrorKind::Interrupted.into()));
        }
        fs::rename(&self.unready, &self.folder).map_err(|source| match source.kind() {
            // Somebody else's came first.
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory => {
                ArchiveError::InTheWay(self.folder.clone())
            }
            _ => at(&self.folder)(source),
        })?;
        *fate = Fate::Whole;
        drop(fate);
        sync_parent(&self.folder)
    }

    fn fate(&self) -> MutexGuard<'_, Fate> {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove_unready(&self) {
        for _ in 0..DISCARD_TRIES_MAX {
            match fs::remove_dir_all(&self.unready) {
                Ok(()) => return,
                // Nothing was made.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return,
                // Something was put into it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                Err(error) => {
                    tracing::warn!(%error, folder = %self.unready.display(), "what was left of the copy could not be removed");
                    return;
                }
            }
        }
    }
}

/// A store that is looked at.
pub struct Archive {
    data: DataDir,
    db: Connection,
}

impl Archive {
    /// Opens the store of a data directory for reading. Nothing is made or changed.
    ///
    /// # Errors
    /// [`OpenError`]: there is no store, or it is foreign, from a newer release, damaged, or can't be read.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let data = DataDir::look_at(dir)?;
        let db = data.reader()?;
        data.check_owner(&db)?;
        Ok(Self { data, db })
    }

    /// Checks everything that can be checked, which reads the whole database. Returns what is wrong, in words; nothing
    /// where it is sound.
    ///
    /// # Errors
    /// [`ArchiveError::Read`] where it can't even be read.
    pub fn check(&mut self) -> Result<Vec<String>, ArchiveError> {
        let state = self.db.transaction()?;
        let mut faults = integrity(&state)?;
        if !faults.is_empty() {
            // What follows would only repeat it in other words.
            return Ok(faults);
        }
        for (what, sql) in MUST_BE_NONE {
            let rows: i64 = state.query_row(sql, [], |row| row.get(0))?;
            if rows > 0 {
                faults.push(format!("{rows} {what}"));
            }
        }
        for (name, sql) in COUNTS {
            let counted: i64 = state.query_row(sql, [], |row| row.get(0))?;
            let kept: i64 = state.query_row(&format!("SELECT {name} FROM gateway"), [], |row| row.get(0))?;
            if counted != kept {
                faults.push(format!("the count `{name}` is {kept}, but there are {counted}"));
            }
        }
        let blobs = &self.data.blobs;
        each_blob(&state, |id, size| {
            let length = fs::metadata(blobs.join(id)).map(|file| file.len());
            if !length.as_ref().is_ok_and(|length| *length == size) && faults.len() < FAULTS_MAX {
                faults.push(match length {
                    Ok(length) => format!("the blob {id} has {length} of {size} bytes"),
                    Err(error) => format!("the blob {id} can't be read: {error}"),
                });
            }
            Ok(())
        })?;
        Ok(faults)
    }

    /// Copies the store into a new folder, which can be used as a data directory. It appears whole or not at all, and is
    /// checked and on the disk when this returns.
    ///
    /// # Errors
    /// [`ArchiveError`]; what was written is removed then.
    pub fn backup(&self, to: &CopyPlace) -> Result<BackupReport, ArchiveError> {
        // A link that leads nowhere is in the way as well.
        if to.folder.symlink_metadata().is_ok() {
            return Err(ArchiveError::InTheWay(to.folder.clone()));
        }
        let made = self.copy_into(&to.unready);
        let made = made.and_then(|report| to.finish().map(|()| report));
        if made.is_err() {
            to.discard();
        }
        made
    }

    fn copy_into(&self, folder: &Path) -> Result<BackupReport, ArchiveError> {
        let blobs = folder.join("blobs");
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&blobs).map_err(at(&blobs))?;
        let file = folder.join("sluicegate.db");
        private().open(&file).map_err(at(&file))?;
        let mut copy = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let copied = Backup::new(&self.db, &mut copy).and_then(|backup| backup.step(-1));
        copied.map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => at(&file)(io::ErrorKind::StorageFull.into()),
            _ => ArchiveError::Read(error),
        })?;
        let (mut copied, mut gone) = (0, 0);
        each_blob(&copy, |id, _| {
            let target = blobs.join(id);
            match fs::copy(self.data.blobs.join(id), &target) {
                Ok(_) => copied += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => gone += 1,
                Err(source) => return Err(ArchiveError::Write { path: target, source }),
            }
            File::open(&target)
                .and_then(|file| file.sync_all())
                .or_else(missing)
                .map_err(at(&target))
        })?;
        if let Some(fault) = integrity(&copy)?.into_iter().next() {
            return Err(ArchiveError::Unsound(fault));
        }
        copy.close().map_err(|(_, error)| error)?;
        for path in [&file, &blobs, &folder.to_owned()] {
            File::open(path).and_then(|file| file.sync_all()).map_err(at(path))?;
        }
        let database_bytes = fs::metadata(&file).map_err(at(&file))?.len();
        Ok(BackupReport {
            database_bytes,
            blobs: copied,
            blobs_gone: gone,
        })
    }

    /// Writes the history, what came in, what goes or went out, and what operators changed: one JSON object a line, each
    /// with its `kind`. Holds one line in memory at a time. Returns how many lines there were.
    ///
    /// # Errors
    /// [`ArchiveError::Read`], or [`ArchiveError::Write`] without a path where `out` takes no more.
    pub fn export(&mut self, out: &mut dyn Write) -> Result<u64, ArchiveError> {
        let state = self.db.transaction()?;
        let mut lines = 0;
        let mut write = |line: serde_json::Value| {
            lines += 1;
            writeln!(out, "{line}").map_err(at(Path::new("the output")))
        };
        let sql = "SELECT session.key, role, text FROM history JOIN session ON session.id = history.session
            ORDER BY history.seq";
        let mut history = state.prepare(sql)?;
        let mut rows = history.query([])?;
        while let Some(row) = rows.next()? {
            let role = if row.get(1)? { "assistant" } else { "user" };
            let (session, text): (String, String) = (row.get(0)?, row.get(2)?);
            write(json!({ "kind": "history", "session": session, "role": role, "text": text }))?;
        }
        records::each_turn(&state, |turn| write(json!({ "kind": "inbound", "message": turn })))?;
        records::each_delivery(&state, |one| write(json!({ "kind": "outbound", "message": one })))?;
        for change in records::changes(&state, usize::MAX)? {
            write(json!({ "kind": "change", "change": change }))?;
        }
        Ok(lines)
    }
}

/// Asks SQLite for what is wrong with pages, indexes and constraints.
fn integrity(db: &Connection) -> Result<Vec<String>, ArchiveError> {
    let mut statement = db.prepare(&format!("PRAGMA integrity_check({FAULTS_MAX})"))?;
    let found = statement.query_map([], |row| row.get::<_, String>(0))?;
    let mut faults = found.collect::<Result<Vec<_>, _>>()?;
    faults.retain(|fault| fault != "ok");
    Ok(faults)
}

fn each_blob(
    db: &Connection,
    mut visit: impl FnMut(&str, u64) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let mut statement = db.prepare("SELECT id, size FROM blob")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        visit(&row.get::<_, String>(0)?, row.get::<_, i64>(1)?.unsigned_abs())?;
    }
    Ok(())
}

fn missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}

fn sync_parent(path: &Path) -> Result<(), ArchiveError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    File::open(parent)
        .and_then(|folder| folder.sync_all())
        .map_err(at(parent))
}

fn at(path: &Path) -> impl Fn(io::Error) -> ArchiveError + '_ {
    |source| ArchiveError::Write {
        path: path.to_owned(),
        source,
    }
}
