//! The writer thread: everything that waits becomes one commit, so that many requests share one
//! disk sync; while the disk works, the next group gathers.
//!
//! Each batch stands for itself: its conflict or error undoes that batch alone. A failed commit
//! fails the whole group. The order of an answer: durable, published to memory, sent.

use std::{sync::Arc, time::Instant};

use rusqlite::{Connection, hooks::Wal};
use tokio::sync::oneshot;

use super::{
    checkpoint::Checkpoints,
    connect::Connector,
    queue::Queue,
    statement::{self, Texts},
};
use crate::{CommitObservation, Committed, Expect, StoreError, Touched, Write, options::Hooks};

/// Batches in one commit at most, so that nobody waits for an endless group.
const GROUP_MAX: usize = 256;

/// One batch that waits.
pub(super) struct Batch {
    pub(super) writes: Vec<Write>,
    pub(super) touched: Vec<Touched>,
    pub(super) reply: oneshot::Sender<Result<Committed, StoreError>>,
}

pub(super) struct Writer {
    connector: Connector,
    /// Absent after an error that spoiled it; opened again for the next group.
    connection: Option<Connection>,
    texts: Texts,
    checkpoints: Arc<Checkpoints>,
    hooks: Arc<Hooks>,
}

type Outcome = Result<Committed, StoreError>;

/// Which batches get a savepoint to fall back to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Savepoints {
    /// Those of several statements: one that touches no row, or fails, has changed nothing.
    WhereNeeded,
    Always,
}

/// Why a whole group did not become a commit.
enum Undone {
    /// A statement that may touch one row touched several and had no savepoint.
    SeveralRows,
    Failed(rusqlite::Error),
    NoConnection(StoreError),
}

impl From<Stopped> for Undone {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::SeveralRows(_) => Undone::SeveralRows,
            Stopped::Failed(error) => Undone::Failed(error),
        }
    }
}

impl From<rusqlite::Error> for Undone {
    fn from(error: rusqlite::Error) -> Self {
        Undone::Failed(error)
    }
}

impl Writer {
    pub(super) fn new(
        connector: Connector,
        connection: Connection,
        checkpoints: Arc<Checkpoints>,
        hooks: Arc<Hooks>,
    ) -> Result<Self, StoreError> {
        let connection = Some(watched(connection, &checkpoints)?);
        Ok(Writer { connector, connection, texts: Texts::default(), checkpoints, hooks })
    }

    /// Commits until the queue is closed and empty.
    pub(super) fn run(mut self, queue: &Queue<Batch>) {
        let _close = queue.close_on_drop();
        while let Some(group) = queue.take(GROUP_MAX) {
            self.checkpoints.wait_for_room();
            self.settle(group);
            self.checkpoints.after_commit();
        }
    }

    /// Commits a group, publishes it, answers it.
    fn settle(&mut self, group: Vec<Batch>) {
        let started = Instant::now();
        for batch in &group {
            self.hooks.live.hold(&batch.touched);
        }
        let outcomes = self.commit(&group);
        self.hooks.observed(CommitObservation {
            batches: group.len(),
            writes: group.iter().map(|batch| batch.writes.len()).sum(),
            microseconds: started.elapsed().as_micros().try_into().unwrap_or(u64::MAX),
        });
        for (batch, outcome) in group.into_iter().zip(outcomes) {
            self.hooks.live.release(&batch.touched);
            if matches!(outcome, Ok(Committed::Done(_)) | Err(StoreError::Unknown)) {
                self.hooks.committed(&batch.touched);
            }
            // Whoever asked may have gone away; the batch is committed all the same.
            let _ = batch.reply.send(outcome);
        }
    }

    fn commit(&mut self, group: &[Batch]) -> Vec<Outcome> {
        let mut outcomes = self.attempt(group, Savepoints::WhereNeeded);
        if matches!(outcomes, Err(Undone::SeveralRows)) {
            outcomes = self.attempt(group, Savepoints::Always);
        }
        outcomes.unwrap_or_else(|undone| {
            let error = self.undone(undone);
            group.iter().map(|_| Err(error.clone())).collect()
        })
    }

    /// One transaction over the whole group.
    fn attempt(&mut self, group: &[Batch], savepoints: Savepoints) -> Result<Vec<Outcome>, Undone> {
        let checkpoints = self.checkpoints.clone();
        let _turn = checkpoints.writing();
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.reopen().map_err(Undone::NoConnection)?,
        };
        let connection = self.connection.insert(connection);
        let outcomes = transaction(connection, &mut self.texts, group, savepoints);
        if outcomes.is_err() && !connection.is_autocommit() {
            let rolled_back = connection.execute_batch("rollback");
            if rolled_back.is_err() {
                self.connection = None;
            }
        }
        outcomes
    }

    fn reopen(&self) -> Result<Connection, StoreError> {
        watched(self.connector.writer()?, &self.checkpoints)
    }

    /// The error that everybody in the group is told; the connection is given up where it is in
    /// doubt, and the process where the disk is.
    fn undone(&mut self, undone: Undone) -> StoreError {
        let error = match undone {
            Undone::NoConnection(error) => return error,
            Undone::SeveralRows => return StoreError::rejected("a write touched several rows"),
            Undone::Failed(error) => error,
        };
        if statement::spoils_connection(&error) {
            self.connection = None;
        }
        if statement::is_sync_failure(&error) {
            (self.hooks.sync_failure)(&error.to_string());
            return StoreError::Unknown;
        }
        tracing::warn!(%error, "a commit failed and was undone");
        statement::failed(error)
    }
}

/// Tells the checkpointer how long the log is after every commit of this connection.
fn watched(mut connection: Connection, checkpoints: &Arc<Checkpoints>) -> Result<Connection, StoreError> {
    let checkpoints = checkpoints.clone();
    let hook = move |_: &mut Wal, pages: i32| {
        checkpoints.log_is(pages);
        Ok(())
    };
    connection.wal_hook(Some(hook)).map_err(statement::failed)?;
    Ok(connection)
}

fn transaction(
    connection: &Connection,
    texts: &mut Texts,
    group: &[Batch],
    savepoints: Savepoints,
) -> Result<Vec<Outcome>, Undone> {
    simple(connection, "begin immediate")?;
    let mut outcomes = Vec::with_capacity(group.len());
    for batch in group {
        outcomes.push(apply(connection, texts, &batch.writes, savepoints)?);
    }
    simple(connection, "commit")?;
    Ok(outcomes)
}

/// One batch inside the transaction. An inner error is the batch's own; an outer one has taken the
/// transaction with it.
fn apply(
    connection: &Connection,
    texts: &mut Texts,
    writes: &[Write],
    savepoints: Savepoints,
) -> Result<Outcome, Undone> {
    let savepoint = writes.len() > 1 || savepoints == Savepoints::Always;
    if savepoint {
        simple(connection, "savepoint batch")?;
    }
    let outcome = run_all(connection, texts, writes);
    match &outcome {
        Err(Stopped::SeveralRows(_)) if !savepoint => return Err(Undone::SeveralRows),
        Err(Stopped::Failed(error)) if takes_all(connection, error) => {
            return outcome.map(Ok).map_err(Undone::from);
        }
        _ => {}
    }
    if savepoint {
        if !matches!(outcome, Ok(Committed::Done(_))) {
            simple(connection, "rollback to batch")?;
        }
        simple(connection, "release batch")?;
    }
    Ok(outcome.or_else(|stopped| match stopped {
        Stopped::SeveralRows(at) => Ok(Committed::Conflict { at }),
        Stopped::Failed(error) => Err(statement::failed(error)),
    }))
}

/// Whether an error has ended the transaction, or must end it.
fn takes_all(connection: &Connection, error: &rusqlite::Error) -> bool {
    connection.is_autocommit() || statement::spoils_connection(error) || statement::is_sync_failure(error)
}

/// Why a batch did not run to its end.
enum Stopped {
    SeveralRows(usize),
    Failed(rusqlite::Error),
}

fn run_all(connection: &Connection, texts: &mut Texts, writes: &[Write]) -> Result<Committed, Stopped> {
    let mut answers = Vec::with_capacity(writes.len());
    for (at, write) in writes.iter().enumerate() {
        let statement = &write.statement;
        match statement::run(connection, texts, statement.sql, &statement.params) {
            Ok(ran) => match (write.expect, ran.count) {
                (Expect::Any, _) | (Expect::One, 1) => answers.push(ran.rows),
                (Expect::One, 0) => return Ok(Committed::Conflict { at }),
                (Expect::One, _) => return Err(Stopped::SeveralRows(at)),
            },
            Err(error) if statement::is_taken_key(&error) => {
                return Ok(Committed::Conflict { at });
            }
            Err(error) => return Err(Stopped::Failed(error)),
        }
    }
    Ok(Committed::Done(answers))
}

/// A statement without parameters or answer, prepared once per connection.
fn simple(connection: &Connection, sql: &str) -> Result<(), rusqlite::Error> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}
