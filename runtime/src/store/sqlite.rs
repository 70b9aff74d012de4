//! The event store in one SQLite file, for one node.
//!
//! Every change goes through one [`writer`] thread that commits many commands at once; a [`flusher`] thread makes the
//! commits durable while the writer goes on, and only then are their callers answered; a [`checkpointer`] moves pages
//! from the log into the database. Reads have connections of their own. What is delivered soon after it is stored costs no
//! upkeep of an order: see [`fresh`].
//!
//! Invariants: nothing is answered as done before it is durable (but for `lazy_` methods). What a claim or a cursor
//! hands out is durable, so nothing leaves the gateway that a power cut could unwrite. After a failed commit or flush
//! nothing more is written.

mod archive;
mod attempt;
mod blob;
mod checkpointer;
mod claims;
mod flusher;
mod fresh;
mod inbox;
mod intents;
mod keep;
mod open;
mod operate;
mod outbox;
mod place;
mod reader;
mod records;
mod standing;
#[cfg(test)]
mod tests;
mod texts;
mod waiting;
mod work;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

pub use self::archive::{Archive, ArchiveError, BackupReport, CopyPlace};
use self::flusher::Durability;
use self::open::{DataDir, Made};
pub use self::open::{OpenError, is_held};
use self::place::Place;
use self::reader::Readers;
use self::work::{Board, Memory, Work};
use self::writer::{Answer, Entry, Failure, Writer};
use crate::limit;
use crate::store::pressure::Gauges;
use crate::store::{Error, Marks};

/// The event store of one data directory, which it holds until it is dropped.
///
/// Dropping it carries out what was queued and waits for the flush; [`crate::store::EventStore::close`] does the same without
/// blocking, and tells of a failure.
pub struct SqliteStore {
    /// The writer's queue; gone when the store is closed.
    queue: Mutex<Option<mpsc::Sender<Entry>>>,
    durability: Arc<Durability>,
    board: Arc<Board>,
    readers: Arc<Readers>,
    blobs: PathBuf,
    place: Arc<Place>,
    gauges: Gauges,
    /// How often the store was opened: the fence of turns.
    boot: i64,
    /// The writer's thread, to be joined once.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl SqliteStore {
    /// Opens the store in `dir`, which is made where it is missing (mode 0700), and brings its schema up to date.
    ///
    /// The time it takes does not depend on how much is waiting.
    ///
    /// # Errors
    /// [`OpenError`]: the directory is in use by another process, the database is foreign, from a newer release or
    /// damaged, or the file system refuses. Nothing was changed then.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_within(dir, Marks::default())
    }

    /// Opens the store as [`SqliteStore::open`], with other marks.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub fn open_within(dir: &Path, marks: Marks) -> Result<Self, OpenError> {
        Self::open_with(dir, marks, |wal| Box::new(move || wal.sync_data()))
    }

    /// Returns whether this opening was its first, so that nothing can be in it but what came since.
    pub fn is_new(&self) -> bool {
        self.boot == 1
    }

    /// Opens the store with another way to flush, so that a test can make it fail.
    fn open_with(
        dir: &Path,
        marks: Marks,
        sync: impl FnOnce(std::fs::File) -> flusher::Sync,
    ) -> Result<Self, OpenError> {
        let mut made = Made::default();
        let data = DataDir::lock(dir, &mut made)?;
        let store = Self::start(data, marks, sync)?;
        made.keep();
        Ok(store)
    }

    fn start(
        data: DataDir,
        marks: Marks,
        sync: impl FnOnce(std::fs::File) -> flusher::Sync,
    ) -> Result<Self, OpenError> {
        let db = data.writer()?;
        let board = Arc::new(Board::default());
        let at_file = |source| OpenError::Database {
            file: data.file.clone(),
            source,
        };
        let memory = Memory::load(&db, Arc::clone(&board), marks.conversation_rows).map_err(at_file)?;
        let readers = (0..limit::STORE_READERS)
            .map(|_| data.reader())
            .collect::<Result<_, _>>()?;
        blob::remove_strays(&data.blobs, &db).map_err(|source| OpenError::Io {
            path: data.blobs.clone(),
            source,
        })?;
        let (wal, room) = (data.wal()?, data.wal()?);
        let place = Place::of(&[&data.file, &data.wal_file()]).map_err(|source| OpenError::Io {
            path: data.file.clone(),
            source,
        })?;
        let durability = Durability::new(memory.next_seq());
        let (queue, waiting) = mpsc::channel(limit::STORE_QUEUE_MAX);
        let (blobs, boot) = (data.blobs.clone(), memory.boot);
        let parts = Threads {
            data,
            db,
            memory,
            durability: Arc::clone(&durability),
            queue: waiting,
            sync: sync(wal),
            room,
        };
        let thread = parts.start()?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            durability,
            board,
            readers: Readers::new(readers),
            blobs,
            place: Arc::new(place),
            gauges: Gauges::new(marks),
            boot,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Hands a command to the writer and waits for its answer.
    async fn write<T, F>(&self, answer: Answer, bytes: usize, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut Work<'_>) -> Result<T, Failure> + Send + 'static,
    {
        self.durability.check()?;
        let queue = lock(&self.queue).clone().ok_or_else(|| self.durability.error())?;
        let (entry, result) = Entry::new(answer, bytes, work);
        queue.send(entry).await.map_err(|_| self.durability.error())?;
        drop(queue);
        result.await.map_err(|_| self.durability.error())?
    }

    /// Ends the queue, and returns the thread that works off the rest of it.
    fn end_queue(&self) -> Option<JoinHandle<()>> {
        drop(lock(&self.queue).take());
        lock(&self.thread).take()
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        if let Some(thread) = self.end_queue() {
            // A panic of the thread has poisoned the store already, and nobody is left to be told.
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Only whole values are put in and taken out.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the store's threads are made of.
struct Threads {
    data: DataDir,
    db: rusqlite::Connection,
    memory: Memory,
    durability: Arc<Durability>,
    queue: mpsc::Receiver<Entry>,
    sync: flusher::Sync,
    /// The WAL, for making room in it.
    room: std::fs::File,
}

impl Threads {
    /// Starts the threads; the one that is returned ends after the others.
    fn start(self) -> Result<JoinHandle<()>, OpenError> {
        let file = self.data.file.clone();
        let at_file = |source| OpenError::Io {
            path: file.clone(),
            source,
        };
        let moving = self.data.checkpointer()?;
        let (checkpoints, woken) = checkpointer::pair(self.room).map_err(at_file)?;
        let durability = Arc::clone(&self.durability);
        let checkpointer = spawn("store-checkpoint", move || {
            checkpointer::run(&moving, &woken, &durability);
        });
        let checkpointer = checkpointer.map_err(at_file)?;
        let (durability, sync) = (Arc::clone(&self.durability), self.sync);
        let flusher = spawn("store-flush", move || flusher::run(&durability, sync)).map_err(at_file)?;
        let writer = Writer::new(
            self.db,
            self.memory,
            Arc::clone(&self.durability),
            checkpoints,
            self.queue,
        );
        let (durability, data) = (self.durability, self.data);
        let write = move || {
            let db = writer.run();
            durability.close();
            if flusher.join().is_err() || checkpointer.join().is_err() {
                durability.poison("a thread of the store panicked".to_owned());
            }
            if !durability.is_poisoned()
                && let Err(error) = checkpointer::finish(&db)
            {
                durability.poison(format!("the last checkpoint failed: {error}"));
            }
            drop(db);
            // Held until here: the next process must not open what this one still writes.
            drop(data);
        };
        spawn("store-writer", write).map_err(at_file)
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}
