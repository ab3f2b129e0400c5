//! One batch: in autocommit when it is one statement, else in one pipelined transaction.
//!
//! What an error means depends on where it hits. Before COMMIT (or, in autocommit, the statement)
//! was sent, nothing has happened; after, an answer that does not come leaves the outcome unknown.
//! READ COMMITTED suffices: each write carries its guard, which PostgreSQL checks again after it
//! has waited for a lock.

use std::time::{Duration, Instant};

use deadpool_postgres::Object;
use futures_util::future::{join, join_all};
use tokio_postgres::Statement;

use super::{
    STATEMENT_TIME_MAX, Shared, give_up,
    statement::{self, Failure, Meaning, Ran},
    take,
};
use crate::{CommitObservation, Committed, Expect, StoreError, Write};

/// Deadlocks and serialization failures are repeated this often, with growing pauses.
const ATTEMPTS_MAX: u32 = 6;

/// Says READ WRITE because the connections of transactions are read-only by default.
const BEGIN: &str = "begin isolation level read committed read write";

/// How one attempt ended.
enum Attempt {
    Settled(Committed),
    Again,
    Failed(StoreError),
}

impl Attempt {
    /// After a failure of which nothing stays.
    fn undone(failure: Failure) -> Self {
        match failure.meaning() {
            Meaning::Again => Attempt::Again,
            _ => Attempt::Failed(failure.into_error()),
        }
    }

    /// After a failure that may have come too late to undo anything.
    fn in_doubt(failure: Failure) -> Self {
        match failure.meaning() {
            Meaning::Lost => {
                let cause = failure.into_error();
                tracing::warn!(%cause, "the outcome of a commit is unknown");
                Attempt::Failed(StoreError::Unknown)
            }
            _ => Attempt::undone(failure),
        }
    }
}

/// Commits a batch, whatever it takes.
pub(super) async fn commit(shared: &Shared, writes: &[Write]) -> Result<Committed, StoreError> {
    for attempt in 0..ATTEMPTS_MAX {
        let started = Instant::now();
        let ended = match writes {
            [write] => single(shared, write).await?,
            writes => transaction(shared, writes).await?,
        };
        match ended {
            Attempt::Settled(committed) => {
                shared.hooks.observed(CommitObservation {
                    batches: 1,
                    writes: writes.len(),
                    microseconds: started.elapsed().as_micros().try_into().unwrap_or(u64::MAX),
                });
                return Ok(committed);
            }
            Attempt::Failed(error) => return Err(error),
            Attempt::Again => tokio::time::sleep(Duration::from_millis(1 << attempt)).await,
        }
    }
    Err(StoreError::unavailable("PostgreSQL kept undoing the batch in favour of others"))
}

async fn single(shared: &Shared, write: &Write) -> Result<Attempt, StoreError> {
    let client = take(&shared.writing).await?;
    let prepared = match in_time(statement::prepare(&client, write.statement.sql)).await {
        Ok(prepared) => prepared,
        Err(failure) => {
            give_up(client);
            return Ok(Attempt::undone(failure));
        }
    };
    match in_time(statement::run(&client, &prepared, &write.statement.params)).await {
        Ok(ran) => match (write.expect, ran.count) {
            (Expect::Any, _) | (Expect::One, 1) => Ok(Attempt::Settled(Committed::Done(vec![ran.rows]))),
            (Expect::One, 0) => Ok(Attempt::Settled(Committed::Conflict { at: 0 })),
            // A defect, and too late to undo: what may touch several rows must not expect one.
            (Expect::One, changed) => {
                tracing::error!(changed, sql = write.statement.sql, "a write touched several rows");
                Ok(Attempt::Failed(StoreError::Unknown))
            }
        },
        Err(failure) if failure.meaning() == Meaning::TakenKey => {
            Ok(Attempt::Settled(Committed::Conflict { at: 0 }))
        }
        Err(failure) => {
            give_up(client);
            Ok(Attempt::in_doubt(failure))
        }
    }
}

async fn transaction(shared: &Shared, writes: &[Write]) -> Result<Attempt, StoreError> {
    let client = take(&shared.guarded).await?;
    let answers = match in_time(pipeline(&client, writes)).await {
        Ok(answers) => answers,
        Err(failure) => {
            give_up(client);
            return Ok(Attempt::undone(failure));
        }
    };
    match judge(writes, answers) {
        Ok(Committed::Done(rows)) => match in_time(simple(&client, "commit")).await {
            Ok(()) => Ok(Attempt::Settled(Committed::Done(rows))),
            Err(failure) => {
                give_up(client);
                Ok(Attempt::in_doubt(failure))
            }
        },
        Ok(conflict) => {
            if in_time(simple(&client, "rollback")).await.is_err() {
                give_up(client);
            }
            Ok(Attempt::Settled(conflict))
        }
        Err(failure) => {
            give_up(client);
            Ok(Attempt::undone(failure))
        }
    }
}

/// BEGIN and all statements go out together; the answers come in their order.
async fn pipeline(client: &Object, writes: &[Write]) -> Result<Vec<Result<Ran, Failure>>, Failure> {
    let mut prepared: Vec<Statement> = Vec::with_capacity(writes.len());
    for write in writes {
        prepared.push(statement::prepare(client, write.statement.sql).await?);
    }
    let statements = writes.iter().zip(&prepared);
    // A future sends when it is first polled, and `join` polls from left to right.
    let statements = join_all(
        statements.map(|(write, prepared)| statement::run(client, prepared, &write.statement.params)),
    );
    let (begun, answers) = join(simple(client, BEGIN), statements).await;
    begun?;
    Ok(answers)
}

/// What the row counts say. The first failure decides: those after it are its consequence.
fn judge(writes: &[Write], answers: Vec<Result<Ran, Failure>>) -> Result<Committed, Failure> {
    let mut rows = Vec::with_capacity(answers.len());
    for (at, (write, answer)) in writes.iter().zip(answers).enumerate() {
        match answer {
            Ok(ran) if write.expect == Expect::Any || ran.count == 1 => rows.push(ran.rows),
            Ok(_) => return Ok(Committed::Conflict { at }),
            Err(failure) if failure.meaning() == Meaning::TakenKey => {
                return Ok(Committed::Conflict { at });
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(Committed::Done(rows))
}

async fn simple(client: &Object, sql: &str) -> Result<(), Failure> {
    Ok(client.batch_execute(sql).await?)
}

async fn in_time<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(STATEMENT_TIME_MAX, work).await.unwrap_or(Err(Failure::TimedOut))
}
