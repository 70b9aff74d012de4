//! The writer: one thread through which every change goes, many commands to a transaction.
//!
//! Commands run one after the other in one transaction, without savepoints as long as none of them fails half done;
//! when one does, the transaction is rolled back and its commands run again, each under a savepoint. So commands are
//! functions that can be run twice, and what they know in memory ([`Memory`]) is rolled back with the database.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::checkpointer::Checkpoints;
use super::flusher::{Durability, Lsn, Withheld};
use super::work::{Memory, Work};
use crate::limit;
use crate::store::Error;

/// When a command's answer may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Once what it wrote is durable; if it wrote nothing, once what it saw is.
    Durable,
    /// Once it is committed.
    Lazy,
    /// Once it is committed and the rows that it hands out are durable: what leaves the gateway must not be unwritten
    /// by a power cut.
    Claim,
}

/// Why a command failed.
pub(super) enum Failure {
    /// For a reason of its own.
    Answer(Error),
    /// Because SQLite refused.
    Sqlite(rusqlite::Error),
}

impl Failure {
    /// Returns it as an error of the database, where there is no caller to answer.
    pub(super) fn into_sqlite(self) -> rusqlite::Error {
        match self {
            Self::Answer(error) => rusqlite::Error::ToSqlConversionFailure(Box::new(error)),
            Self::Sqlite(error) => error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Answer(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// A command, seen by the writer.
pub(super) trait Job: Send {
    /// Carries it out inside the transaction. May be called again after a rollback.
    fn run(&mut self, work: &mut Work<'_>) -> Result<(), Failure>;
    /// Answers the caller: with the command's result, or with why there is none.
    fn answer(self: Box<Self>, verdict: Result<(), Error>);
}

struct TypedJob<T, F> {
    work: F,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<T, F> Job for TypedJob<T, F>
where
    T: Send,
    F: FnMut(&mut Work<'_>) -> Result<T, Failure> + Send,
{
    fn run(&mut self, work: &mut Work<'_>) -> Result<(), Failure> {
        self.value = Some((self.work)(work)?);
        Ok(())
    }

    fn answer(self: Box<Self>, verdict: Result<(), Error>) {
        let Self { value, reply, .. } = *self;
        let result = verdict.and_then(|()| value.ok_or_else(|| Error::Refused("it was not carried out".into())));
        // The caller may have given up waiting; the command is carried out all the same.
        let _ = reply.send(result);
    }
}

/// A command in the queue.
pub(super) struct Entry {
    job: Box<dyn Job>,
    answer: Answer,
    /// Bytes of text and values, for the bound of a transaction.
    bytes: usize,
}

impl Entry {
    /// Makes an entry of a function and the place where its result is awaited.
    pub(super) fn new<T, F>(answer: Answer, bytes: usize, work: F) -> (Self, oneshot::Receiver<Result<T, Error>>)
    where
        T: Send + 'static,
        F: FnMut(&mut Work<'_>) -> Result<T, Failure> + Send + 'static,
    {
        let (reply, result) = oneshot::channel();
        (
            Self {
                job: Box::new(TypedJob {
                    work,
                    value: None,
                    reply,
                }),
                answer,
                bytes,
            },
            result,
        )
    }
}

/// What the writer thread owns.
pub(super) struct Writer {
    db: Connection,
    memory: Memory,
    durability: Arc<Durability>,
    checkpoints: Checkpoints,
    queue: mpsc::Receiver<Entry>,
    /// The newest transaction.
    lsn: Lsn,
    /// The newest transaction whose durability somebody waits for.
    promised: Lsn,
    /// Bytes in the present transaction.
    batch_bytes: usize,
    /// A command that did not fit into the last transaction.
    left_over: Option<Entry>,
}

/// How a command of a transaction ended.
struct Outcome {
    verdict: Result<(), Error>,
    wrote: bool,
    /// The highest sequence number it handed out.
    seen_seq: i64,
}

/// Why a transaction was given up.
enum Abort {
    /// A command failed half done: run them again, apart.
    Dirty,
    /// Nothing of it was written; all its commands get this answer.
    Undone(Error),
    /// As `Undone`: the disk is full.
    NoRoom,
    /// It is not known what was written.
    Unknown(String),
}

impl Writer {
    pub(super) fn new(
        db: Connection,
        memory: Memory,
        durability: Arc<Durability>,
        checkpoints: Checkpoints,
        queue: mpsc::Receiver<Entry>,
    ) -> Self {
        Self {
            db,
            memory,
            durability,
            checkpoints,
            queue,
            lsn: 0,
            promised: 0,
            batch_bytes: 0,
            left_over: None,
        }
    }

    /// Works until the last handle is gone or the store is closed.
    pub(super) fn run(mut self) -> Connection {
        while let Some(batch) = self.gather() {
            let attempt = catch_unwind(AssertUnwindSafe(|| self.carry_out(batch)));
            if attempt.is_err() {
                self.durability.poison("the writer panicked".to_owned());
            }
        }
        self.db
    }

    /// Begins the next transaction: waits for its first command. None at the end.
    fn gather(&mut self) -> Option<Vec<Entry>> {
        let first = self.left_over.take().or_else(|| self.queue.blocking_recv())?;
        self.batch_bytes = first.bytes;
        Some(vec![first])
    }

    /// Takes one more command into the transaction, if one waits and the bounds allow. Those that come in while others
    /// are carried out join them: under load a transaction grows until nobody waits.
    fn top_up(&mut self, batch: &mut Vec<Entry>) -> bool {
        if batch.len() >= limit::STORE_BATCH_COMMANDS_MAX || self.left_over.is_some() {
            return false;
        }
        let Ok(next) = self.queue.try_recv() else { return false };
        if self.batch_bytes + next.bytes > limit::STORE_BATCH_BYTES_MAX {
            self.left_over = Some(next);
            return false;
        }
        self.batch_bytes += next.bytes;
        batch.push(next);
        true
    }

    fn carry_out(&mut self, mut batch: Vec<Entry>) {
        if self.durability.is_poisoned() {
            return answer_all(batch, &self.durability.error());
        }
        match self.transact(&mut batch) {
            Ok(outcomes) => self.conclude(batch, outcomes),
            Err(Abort::Undone(error)) => answer_all(batch, &error),
            Err(Abort::NoRoom) => {
                self.durability.note_full();
                answer_all(batch, &Error::Busy);
            }
            Err(Abort::Unknown(reason)) => {
                self.durability.poison(reason);
                answer_all(batch, &self.durability.error());
            }
            Err(Abort::Dirty) => answer_all(batch, &Error::Refused("it could not be taken apart".into())),
        }
    }

    /// Runs the commands in one transaction and commits it.
    fn transact(&mut self, batch: &mut Vec<Entry>) -> Result<Vec<Outcome>, Abort> {
        self.lsn += 1;
        self.memory.begin();
        let result = match self.attempt(batch, false) {
            Err(Abort::Dirty) => {
                self.roll_back();
                self.attempt(batch, true)
            }
            other => other,
        };
        if result.is_err() {
            self.roll_back();
            // Whoever saw this number waits for its flush: let it be reached.
            let _ = self.durability.committed(self.lsn, self.memory.next_seq(), Vec::new());
        }
        result
    }

    fn attempt(&mut self, batch: &mut Vec<Entry>, apart: bool) -> Result<Vec<Outcome>, Abort> {
        self.statement("BEGIN IMMEDIATE").map_err(|e| abort(&e))?;
        let mut outcomes = Vec::with_capacity(batch.len());
        while outcomes.len() < batch.len() || self.top_up(batch) {
            let entry = &mut batch[outcomes.len()];
            outcomes.push(if apart {
                self.run_apart(entry)?
            } else {
                self.run_plain(entry)?
            });
        }
        self.memory.save(&self.db).map_err(|e| abort(&e))?;
        self.memory.announce(self.lsn);
        self.statement("COMMIT").map_err(|e| abort_commit(&e))?;
        self.memory.commit();
        Ok(outcomes)
    }

    fn run_plain(&mut self, entry: &mut Entry) -> Result<Outcome, Abort> {
        let before = self.db.total_changes();
        let mark = self.memory.mark();
        let mut work = Work::new(&self.db, &mut self.memory);
        let result = entry.job.run(&mut work);
        let seen_seq = work.seen_seq;
        let wrote = self.db.total_changes() != before;
        let verdict = match result {
            Ok(()) => Ok(()),
            Err(_) if wrote => return Err(Abort::Dirty),
            Err(failure) => {
                self.memory.roll_back_to(mark);
                Err(refusal(failure)?)
            }
        };
        Ok(Outcome {
            verdict,
            wrote,
            seen_seq,
        })
    }

    fn run_apart(&mut self, entry: &mut Entry) -> Result<Outcome, Abort> {
        self.statement("SAVEPOINT command").map_err(|e| abort(&e))?;
        let before = self.db.total_changes();
        let mark = self.memory.mark();
        let mut work = Work::new(&self.db, &mut self.memory);
        let result = entry.job.run(&mut work);
        let seen_seq = work.seen_seq;
        let wrote = result.is_ok() && self.db.total_changes() != before;
        let verdict = match result {
            Ok(()) => Ok(()),
            Err(failure) => {
                let error = refusal(failure)?;
                self.statement("ROLLBACK TO command").map_err(|e| abort(&e))?;
                self.memory.roll_back_to(mark);
                self.memory.reload_fresh(&self.db).map_err(|e| abort(&e))?;
                Err(error)
            }
        };
        self.statement("RELEASE command").map_err(|e| abort(&e))?;
        Ok(Outcome {
            verdict,
            wrote,
            seen_seq,
        })
    }

    fn roll_back(&mut self) {
        self.memory.roll_back();
        if !self.db.is_autocommit()
            && let Err(error) = self.statement("ROLLBACK")
        {
            self.durability
                .poison(format!("a transaction could not be rolled back: {error}"));
        }
        if let Err(error) = self.memory.reload_fresh(&self.db) {
            self.durability
                .poison(format!("what was rolled back could not be read: {error}"));
        }
    }

    /// Answers the commands of a committed transaction, now or after the flush that they depend on.
    fn conclude(&mut self, batch: Vec<Entry>, outcomes: Vec<Outcome>) {
        if outcomes.iter().any(|outcome| outcome.wrote) {
            self.durability.note_room();
        }
        if batch
            .iter()
            .zip(&outcomes)
            .any(|(entry, outcome)| entry.answer == Answer::Durable && outcome.wrote)
        {
            self.promised = self.lsn;
        }
        let flushed_seq = self.durability.flushed_seq();
        let mut withheld = Vec::with_capacity(batch.len());
        for (entry, outcome) in batch.into_iter().zip(outcomes) {
            let need = match entry.answer {
                _ if outcome.verdict.is_err() => 0,
                Answer::Durable if outcome.wrote => self.lsn,
                Answer::Durable => self.promised,
                Answer::Claim if outcome.seen_seq >= flushed_seq => self.promised,
                Answer::Claim | Answer::Lazy => 0,
            };
            match outcome.verdict {
                Ok(()) => withheld.push(Withheld { need, job: entry.job }),
                Err(error) => entry.job.answer(Err(error)),
            }
        }
        match self.durability.committed(self.lsn, self.memory.next_seq(), withheld) {
            Ok(ready) => ready.into_iter().for_each(|one| one.job.answer(Ok(()))),
            Err(lost) => lost
                .into_iter()
                .for_each(|one| one.job.answer(Err(self.durability.error()))),
        }
        if let Err(error) = self.checkpoints.after_commit(&self.db) {
            self.durability.poison(format!("a checkpoint failed: {error}"));
        }
    }

    fn statement(&self, sql: &str) -> rusqlite::Result<()> {
        self.db.prepare_cached(sql)?.execute([]).map(drop)
    }
}

fn answer_all(batch: Vec<Entry>, error: &Error) {
    for entry in batch {
        entry.job.answer(Err(error.clone()));
    }
}

/// Turns a command's failure into its answer, or into the end of the transaction.
fn refusal(failure: Failure) -> Result<Error, Abort> {
    match failure {
        Failure::Answer(error) => Ok(error),
        Failure::Sqlite(error) => match abort(&error) {
            Abort::Dirty => Ok(Error::Refused(error.to_string())),
            end => Err(end),
        },
    }
}

/// Says what an SQLite error means for the transaction.
///
/// A full disk and a lock held by another program leave the database as it was before the transaction (SQLite rolls it
/// back). A constraint concerns one command. After anything else it is not known what reached the disk.
fn abort(error: &rusqlite::Error) -> Abort {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Abort::NoRoom,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Abort::Undone(Error::Busy),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) | None => Abort::Dirty,
        Some(_) => Abort::Unknown(error.to_string()),
    }
}

/// Says what a failed COMMIT means. Only a full disk is harmless: the transaction's last frame is what could not be
/// written, so no recovery will ever take it for complete.
fn abort_commit(error: &rusqlite::Error) -> Abort {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Abort::NoRoom,
        _ => Abort::Unknown(format!("a commit failed: {error}")),
    }
}
