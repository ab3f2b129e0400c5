//! Running one statement on one connection: parameters, rows, errors.

use std::error::Error as StdError;

use bytes::BytesMut;
use deadpool_postgres::Client;
use futures_util::TryStreamExt;
use tokio_postgres::{
    Statement,
    error::{Severity, SqlState},
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};

use crate::{Cause, Row, StoreError, Value};

/// Why a statement did not run to its end.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server, or the connection to it.
    Database(tokio_postgres::Error),
    /// It gives a column of a type that has no place in a [`Value`]; found before it is run.
    ColumnType(String),
    TimedOut,
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Failure::Database(error)
    }
}

/// What a failure means for the statement that met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The server says that it failed: nothing of it stays.
    Failed,
    /// A key that is taken.
    TakenKey,
    /// It met another transaction; the same again may succeed.
    Again,
    /// The server's disk is full.
    Full,
    /// No answer came: whether it took effect is unknown.
    Lost,
}

impl Failure {
    pub(super) fn meaning(&self) -> Meaning {
        let error = match self {
            Failure::Database(error) => error,
            Failure::ColumnType(_) => return Meaning::Failed,
            Failure::TimedOut => return Meaning::Lost,
        };
        let Some(answer) = error.as_db_error() else {
            // Parameters that cannot be sent fail here, before anything is.
            let unsent = error.source().is_some_and(|source| source.is::<WrongParameter>());
            return if unsent { Meaning::Failed } else { Meaning::Lost };
        };
        // A backend that is killed may say so after it has committed.
        if answer.parsed_severity() != Some(Severity::Error) {
            return Meaning::Lost;
        }
        match *answer.code() {
            SqlState::UNIQUE_VIOLATION => Meaning::TakenKey,
            SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => Meaning::Again,
            SqlState::DISK_FULL => Meaning::Full,
            _ => Meaning::Failed,
        }
    }

    /// The error for a statement of which nothing stays.
    pub(super) fn into_error(self) -> StoreError {
        let error = match self {
            Failure::Database(error) => error,
            Failure::ColumnType(cause) => return StoreError::rejected(cause),
            Failure::TimedOut => {
                return StoreError::unavailable("PostgreSQL did not answer in time");
            }
        };
        match error.code() {
            Some(code) if *code == SqlState::DISK_FULL => StoreError::Full,
            Some(code) if is_ours(code) => StoreError::Rejected(cause(&error)),
            Some(_) => StoreError::Unavailable(cause(&error)),
            None if error.is_closed() || is_io(&error) => StoreError::Unavailable(cause(&error)),
            None => StoreError::Rejected(cause(&error)),
        }
    }
}

/// The classes of errors that lie in a statement or its values, not in the state of the server.
fn is_ours(code: &SqlState) -> bool {
    ["21", "22", "23", "2F", "42", "P0"].iter().any(|class| code.code().starts_with(class))
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(|source| source.is::<std::io::Error>())
}

/// An error in words: class and message of the server, without the detail, which quotes values.
pub(super) fn cause(error: &tokio_postgres::Error) -> Cause {
    match error.as_db_error() {
        Some(answer) => {
            format!("{} {}: {}", answer.severity(), answer.code().code(), answer.message()).into()
        }
        None => match error.source() {
            Some(source) => format!("{error}: {source}").into(),
            None => error.to_string().into(),
        },
    }
}

/// Prepared once per connection.
pub(super) async fn prepare(client: &Client, sql: &'static str) -> Result<Statement, Failure> {
    let prepared = client.prepare_cached(sql).await?;
    for column in prepared.columns() {
        if !Cell::accepts(column.type_()) {
            return Err(Failure::ColumnType(format!(
                "column {} has type {}; cast it to bigint, text or bytea",
                column.name(),
                column.type_()
            )));
        }
    }
    Ok(prepared)
}

/// What a statement did.
pub(super) struct Ran {
    pub(super) rows: Vec<Row>,
    /// Rows given back or changed, as the server counts them.
    pub(super) count: u64,
}

/// Sends a statement when first polled, and reads its answer to the end.
pub(super) async fn run(client: &Client, prepared: &Statement, params: &[Value]) -> Result<Ran, Failure> {
    if prepared.params().len() != params.len() {
        let wanted = prepared.params().len();
        return Err(Failure::ColumnType(format!("{wanted} parameters, {} given", params.len())));
    }
    let answers = client.query_raw(prepared, params).await?;
    let mut answers = std::pin::pin!(answers);
    let mut rows = Vec::new();
    while let Some(answer) = answers.try_next().await? {
        let values = (0..answer.len()).map(|column| answer.try_get::<_, Cell>(column));
        let values = values.map(|cell| cell.map(|cell| cell.0));
        rows.push(Row::new(values.collect::<Result<_, _>>()?));
    }
    Ok(Ran { rows, count: answers.rows_affected().unwrap_or(0) })
}

/// A value as PostgreSQL gives it, in binary.
struct Cell(Value);

impl<'a> FromSql<'a> for Cell {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Cell(match *kind {
            Type::INT8 => Value::Int(i64::from_sql(kind, raw)?),
            Type::INT4 => Value::Int(i32::from_sql(kind, raw)?.into()),
            Type::INT2 => Value::Int(i16::from_sql(kind, raw)?.into()),
            Type::BOOL => Value::Int(bool::from_sql(kind, raw)?.into()),
            Type::BYTEA => Value::Blob(raw.to_owned()),
            _ => Value::Text(String::from_sql(kind, raw)?),
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Cell(Value::Null))
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::INT8 | Type::INT4 | Type::INT2 | Type::BOOL | Type::BYTEA) || is_text(kind)
    }
}

fn is_text(kind: &Type) -> bool {
    matches!(*kind, Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN)
}

/// A parameter of another kind than the statement takes.
#[derive(Debug, thiserror::Error)]
#[error("a parameter of type {wanted} was given {given:?}")]
struct WrongParameter {
    wanted: String,
    given: Value,
}

impl ToSql for Value {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match (self, kind) {
            (Value::Null, _) => Ok(IsNull::Yes),
            (Value::Int(value), &Type::INT8) => value.to_sql(kind, out),
            (Value::Int(value), &Type::INT4) => i32::try_from(*value)?.to_sql(kind, out),
            (Value::Int(value), &Type::INT2) => i16::try_from(*value)?.to_sql(kind, out),
            (Value::Text(text), kind) if is_text(kind) => text.to_sql(kind, out),
            (Value::Blob(bytes), &Type::BYTEA) => bytes.to_sql(kind, out),
            (given, wanted) => {
                Err(WrongParameter { wanted: wanted.to_string(), given: given.clone() }.into())
            }
        }
    }

    /// Whether a value fits depends on the value, so it is decided when it is written.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
