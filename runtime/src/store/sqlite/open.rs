//! Opening the data directory: one process at a time, the right file, the right schema.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::limit;

/// The file whose lock is held by the one process that works in a data directory.
const LOCK_FILE: &str = "sluicegate.lock";
/// `SLGT`: what stands in the file's header, so that another program's database is never migrated by mistake.
const APPLICATION_ID: i32 = 0x534C_4754;
/// Versions before it can lose commits when two connections checkpoint (the WAL-reset bug, fixed in SQLite 3.51.3).
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// How long a connection waits for a lock of another program that looks into the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The page cache of a writing connection: SQLite reads a negative number as KiB.
const CACHE_KIB_NEGATIVE: i64 = -16_384;
/// The steps from an empty file to the present schema. Released steps never change.
const MIGRATIONS: [&str; 3] = [
    include_str!("migrations/0001_first.sql"),
    include_str!("migrations/0002_time.sql"),
    include_str!("migrations/0003_places.sql"),
];

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process works in the directory.
    #[error("the data directory {} is in use by {holder}; stop it, or choose another directory", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The process that holds it, in words.
        holder: String,
    },
    /// There is no store to look at.
    #[error("there is no store in {}; name the data directory of a gateway with --data", .0.display())]
    Missing(PathBuf),
    /// The database is not one of ours.
    #[error("{} is a database of another program (application id {found:#x}); choose another data directory", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// The application id in its header.
        found: i32,
    },
    /// A newer release wrote it.
    #[error("{} has schema version {found}, and this release knows versions up to {known}; start the newer release", file.display())]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: usize,
        /// The newest version known here.
        known: usize,
    },
    /// The SQLite library in use has a known bug that loses commits.
    #[error("SQLite {found} can lose commits (its WAL-reset bug); link 3.51.3 or newer")]
    Library {
        /// The library's version.
        found: String,
    },
    /// The file system refused.
    #[error("can't use {}: {source}; {}", path.display(), io_remedy(source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// SQLite refused: the file is damaged or is no database.
    #[error("can't open the database {}: {source}{}", file.display(), remedy(source))]
    Database {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
}

/// Says what to do about a file or directory that can't be used.
fn io_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        // What a directory is made in place of.
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => "it is a file: name a directory with --data",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on its disk",
        _ if [libc::EMFILE, libc::ENFILE].map(Some).contains(&error.raw_os_error()) => {
            "allow more open files (`ulimit -n`)"
        }
        _ => "choose another data directory with --data",
    }
}

/// Says what to do about a database that can't be opened, where that is known.
fn remedy(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "; it is damaged: start from a copy that `sluicegate db backup` made, with --data, or move the data directory \
             away to begin anew"
        }
        Some(ErrorCode::DiskFull) => "; make room on its disk",
        _ => "",
    }
}

/// An opened data directory: held as long as this lives.
pub(super) struct DataDir {
    /// The database file.
    pub(super) file: PathBuf,
    /// Where blobs are.
    pub(super) blobs: PathBuf,
    /// Holding it open holds the lock; none for who only looks.
    _lock: Option<File>,
}

impl DataDir {
    /// Makes the directory where it is missing (mode 0700) and takes its lock. What is missing in it is noted in `made`
    /// before it is made.
    pub(super) fn lock(dir: &Path, made: &mut Made) -> Result<Self, OpenError> {
        made.note_missing(dir);
        make(dir).map_err(at(dir))?;
        let lock = take_lock(dir, &dir.join(LOCK_FILE), made)?;
        let (file, blobs) = (dir.join("sluicegate.db"), dir.join("blobs"));
        made.note_missing(&blobs);
        make(&blobs).map_err(at(&blobs))?;
        if made.note_missing(&file) {
            made.paths.extend(["-wal", "-shm"].map(|end| beside(&file, end)));
        }
        // Made here rather than by SQLite, so that nobody else may read it; the WAL takes over its mode.
        private().open(&file).map_err(at(&file))?;
        Ok(Self {
            file,
            blobs,
            _lock: Some(lock),
        })
    }

    /// Names the files of a store that is only looked at, whoever works with it.
    pub(super) fn look_at(dir: &Path) -> Result<Self, OpenError> {
        let file = dir.join("sluicegate.db");
        match std::fs::metadata(&file) {
            Ok(_) => Ok(Self {
                file,
                blobs: dir.join("blobs"),
                _lock: None,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(OpenError::Missing(dir.to_owned())),
            Err(source) => Err(OpenError::Io { path: file, source }),
        }
    }

    /// Opens the connection that writes and brings the schema up to date.
    pub(super) fn writer(&self) -> Result<Connection, OpenError> {
        if rusqlite::version_number() < SQLITE_VERSION_MIN {
            return Err(OpenError::Library {
                found: rusqlite::version().to_owned(),
            });
        }
        let mut db = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let version = self.check_owner(&db)?;
        writable(&db).map_err(self.database())?;
        for (step, sql) in MIGRATIONS.iter().enumerate().skip(version) {
            apply(&mut db, step + 1, sql).map_err(self.database())?;
        }
        // Flushes are the flusher's: it syncs the WAL itself, while the next transaction is being written.
        db.pragma_update(None, "synchronous", "NORMAL")
            .map_err(self.database())?;
        Ok(db)
    }

    /// Opens the connection that moves pages from the WAL into the database.
    pub(super) fn checkpointer(&self) -> Result<Connection, OpenError> {
        let db = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        writable(&db).map_err(self.database())?;
        Ok(db)
    }

    /// Opens a connection that only reads.
    pub(super) fn reader(&self) -> Result<Connection, OpenError> {
        self.connect(OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    /// Returns where SQLite keeps the WAL.
    pub(super) fn wal_file(&self) -> PathBuf {
        beside(&self.file, "-wal")
    }

    /// Opens the WAL for syncing, and syncs it with its directory entry.
    ///
    /// The file stays the same as long as a connection is open: SQLite cuts and rewrites it, but only the last
    /// connection removes it.
    pub(super) fn wal(&self) -> Result<File, OpenError> {
        let path = self.wal_file();
        let wal = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(at(&path))?;
        wal.sync_all().map_err(at(&path))?;
        if let Some(dir) = self.file.parent() {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))?;
        }
        Ok(wal)
    }

    fn connect(&self, mode: OpenFlags) -> Result<Connection, OpenError> {
        let db = Connection::open_with_flags(&self.file, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .and_then(|db| {
                db.busy_timeout(BUSY_TIMEOUT)?;
                // Without it a statement is compiled again whenever a bound value changes that a plan might look at.
                db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
                db.set_prepared_statement_cache_capacity(128);
                db.pragma_update(None, "temp_store", "MEMORY")?;
                Ok(db)
            })
            .map_err(self.database())?;
        Ok(db)
    }

    /// Returns the schema's version, where the file is ours or still empty. Writes nothing.
    pub(super) fn check_owner(&self, db: &Connection) -> Result<usize, OpenError> {
        let (owner, version, tables) = ownership(db).map_err(self.database())?;
        let is_new = owner == 0 && version == 0 && tables == 0;
        if owner != APPLICATION_ID && !is_new {
            return Err(OpenError::Foreign {
                file: self.file.clone(),
                found: owner,
            });
        }
        if version > MIGRATIONS.len() {
            return Err(OpenError::Newer {
                file: self.file.clone(),
                found: version,
                known: MIGRATIONS.len(),
            });
        }
        Ok(version)
    }

    fn database(&self) -> impl Fn(rusqlite::Error) -> OpenError + '_ {
        |source| OpenError::Database {
            file: self.file.clone(),
            source,
        }
    }
}

/// Takes the lock of a data directory, whose file it makes where it is missing.
fn take_lock(dir: &Path, path: &Path, made: &mut Made) -> Result<File, OpenError> {
    let is_missing = path.symlink_metadata().is_err();
    let mut lock = private().open(path).map_err(at(path))?;
    let locked = || OpenError::Locked {
        dir: dir.to_owned(),
        holder: holder(&lock),
    };
    match lock_soon(&lock) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(locked()),
        Err(TryLockError::Error(source)) => return Err(at(path)(source)),
    }
    // An opening that fails takes its lock away before it lets it go: this one then guards nothing.
    if lock.metadata().map_err(at(path))?.nlink() == 0 {
        return Err(locked());
    }
    made.lock = Some(lock.try_clone().map_err(at(path))?);
    if is_missing {
        made.paths.push(path.to_owned());
    }
    lock.set_len(0)
        .and_then(|()| writeln!(lock, "{}", std::process::id()))
        .map_err(at(path))?;
    Ok(lock)
}

/// Takes a lock, also where somebody just looks whether it is held: see [`is_held`].
fn lock_soon(lock: &File) -> Result<(), TryLockError> {
    let until = Instant::now() + limit::DATA_LOCK_WAIT;
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(limit::DATA_LOCK_LOOK_PERIOD);
            }
            taken => return taken,
        }
    }
}

/// Returns whether a process holds a data directory. The lock ends with its process, however that ends, and is the same in
/// every container. Several may look at once; none of them is taken for a holder, since they share the lock for an instant.
///
/// # Errors
/// Any I/O error but a missing file.
pub fn is_held(dir: &Path) -> io::Result<bool> {
    loop {
        let lock = match File::open(dir.join(LOCK_FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        match lock.try_lock_shared() {
            Err(TryLockError::WouldBlock) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            // An opening that failed took its lock away meanwhile: there may be another one by now.
            Ok(()) if lock.metadata()?.nlink() == 0 => {}
            Ok(()) => return Ok(false),
        }
    }
}

/// What an opening makes, and what one that fails takes away again: dropping it does so.
#[derive(Default)]
pub(super) struct Made {
    /// Where it is, in the order of its making.
    paths: Vec<PathBuf>,
    /// Held until all of it is gone, so that nobody works with it meanwhile.
    lock: Option<File>,
}

impl Made {
    /// Notes a path that is about to be made, with the folders above it, where it is missing. Returns whether it is.
    fn note_missing(&mut self, path: &Path) -> bool {
        let named = path.ancestors().filter(|path| !path.as_os_str().is_empty());
        let mut missing: Vec<PathBuf> = named
            .take_while(|path| path.symlink_metadata().is_err())
            .map(Path::to_owned)
            .collect();
        missing.reverse();
        let is_missing = !missing.is_empty();
        self.paths.append(&mut missing);
        is_missing
    }

    /// Leaves everything where it is.
    pub(super) fn keep(mut self) {
        self.paths.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.paths.drain(..).rev() {
            // A folder with something of somebody else's in it stays, and what was not made is not there.
            let _gone = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path));
        }
    }
}

/// Returns the file that SQLite keeps beside its database.
fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name = file.to_owned().into_os_string();
    name.push(end);
    name.into()
}

/// Reads the application id, the schema's version and the number of tables and indexes.
fn ownership(db: &Connection) -> rusqlite::Result<(i32, usize, i64)> {
    let owner = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok((owner, usize::try_from(version).unwrap_or(usize::MAX), tables))
}

fn writable(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    // Checkpoints are the checkpointer's, beside the writer rather than in its way.
    db.pragma_update(None, "wal_autocheckpoint", 0)?;
    db.pragma_update(None, "journal_size_limit", limit::WAL_BYTES_MAX)?;
    db.pragma_update(None, "cache_size", CACHE_KIB_NEGATIVE)
}

/// Carries out one migration: the whole step or nothing.
fn apply(db: &mut Connection, version: usize, sql: &str) -> rusqlite::Result<()> {
    let step = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    step.execute_batch(sql)?;
    step.pragma_update(None, "application_id", APPLICATION_ID)?;
    step.pragma_update(None, "user_version", i64::try_from(version).unwrap_or(i64::MAX))?;
    step.commit()
}

/// Makes a directory with those above it, and their names durable: without them a power cut takes away the whole store,
/// however well its files were synced.
fn make(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|path| !path.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for made in missing {
        match made.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all()?,
            Some(_) => File::open(".")?.sync_all()?,
            None => {}
        }
    }
    Ok(())
}

pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

fn holder(lock: &File) -> String {
    let mut text = String::new();
    let read = lock.take(32).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> OpenError + '_ {
    |source| OpenError::Io {
        path: path.to_owned(),
        source,
    }
}
