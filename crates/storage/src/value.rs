//! What goes into a statement and what comes out of one: values, rows, writes, answers.
//!
//! Both engines speak exactly four kinds: null, 64-bit integers, text, bytes. Flags are 0 and 1,
//! instants are milliseconds since 1970. Nothing here prints a stored value: `Debug` shows kinds
//! and lengths only, so that no row can leak into a log line. Errors are in `error.rs`.

use std::fmt;

use ligand_protocol::ids::{SessionId, UserKey};

use crate::error::StoreError;

/// One SQL value.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    Null,
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Int(_) => "integer",
            Value::Text(_) => "text",
            Value::Blob(_) => "bytes",
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null | Value::Int(_) => f.write_str(self.kind()),
            Value::Text(text) => write!(f, "text({})", text.len()),
            Value::Blob(bytes) => write!(f, "bytes({})", bytes.len()),
        }
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Value::Int(value.into())
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Value::Int(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Int(value.into())
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::Text(value)
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Value::Text(value.clone())
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Value::Blob(value.to_vec())
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(value: [u8; N]) -> Self {
        Value::Blob(value.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(value: &[u8; N]) -> Self {
        Value::Blob(value.to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Value::Blob(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// The parameters of a statement, in the order of `$1`, `$2`, …: anything that is `Into<Value>`.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => { ::std::vec![$($crate::Value::from($value)),*] };
}

/// One row of an answer, read by column position. A column of another kind than asked for means
/// that the schema and the program disagree: [`StoreError::Corrupt`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(Vec<Value>);

impl Row {
    pub fn new(values: Vec<Value>) -> Self {
        Row(values)
    }

    pub fn int(&self, column: usize) -> Result<i64, StoreError> {
        self.opt_int(column)?.ok_or_else(|| self.wrong(column, "integer"))
    }

    pub fn opt_int(&self, column: usize) -> Result<Option<i64>, StoreError> {
        match self.0.get(column) {
            Some(Value::Int(value)) => Ok(Some(*value)),
            Some(Value::Null) => Ok(None),
            _ => Err(self.wrong(column, "integer")),
        }
    }

    /// A 0/1 column.
    pub fn flag(&self, column: usize) -> Result<bool, StoreError> {
        match self.int(column)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.wrong(column, "flag")),
        }
    }

    pub fn text(&self, column: usize) -> Result<&str, StoreError> {
        self.opt_text(column)?.ok_or_else(|| self.wrong(column, "text"))
    }

    pub fn opt_text(&self, column: usize) -> Result<Option<&str>, StoreError> {
        match self.0.get(column) {
            Some(Value::Text(value)) => Ok(Some(value)),
            Some(Value::Null) => Ok(None),
            _ => Err(self.wrong(column, "text")),
        }
    }

    pub fn blob(&self, column: usize) -> Result<&[u8], StoreError> {
        self.opt_blob(column)?.ok_or_else(|| self.wrong(column, "bytes"))
    }

    pub fn opt_blob(&self, column: usize) -> Result<Option<&[u8]>, StoreError> {
        match self.0.get(column) {
            Some(Value::Blob(value)) => Ok(Some(value)),
            Some(Value::Null) => Ok(None),
            _ => Err(self.wrong(column, "bytes")),
        }
    }

    /// A column of exactly `N` bytes, such as an id or a hash.
    pub fn bytes<const N: usize>(&self, column: usize) -> Result<[u8; N], StoreError> {
        self.blob(column)?.try_into().map_err(|_| self.wrong(column, "bytes of a fixed length"))
    }

    /// As [`Row::bytes`], or nothing where the column is null.
    pub fn opt_bytes<const N: usize>(&self, column: usize) -> Result<Option<[u8; N]>, StoreError> {
        let Some(bytes) = self.opt_blob(column)? else {
            return Ok(None);
        };
        let bytes = bytes.try_into().map_err(|_| self.wrong(column, "bytes of a fixed length"))?;
        Ok(Some(bytes))
    }

    fn wrong(&self, column: usize, wanted: &str) -> StoreError {
        let found = self.0.get(column).map_or("no such column", Value::kind);
        StoreError::Corrupt(format!("column {column}: wanted {wanted}, found {found}").into())
    }
}

/// One SQL text with its parameters. The text is the same for both engines: parameters are written
/// `$1`, `$2`, …, and cast where PostgreSQL cannot infer their type.
#[derive(Clone, Debug)]
pub struct Statement {
    pub sql: &'static str,
    pub params: Vec<Value>,
}

/// How many rows a write must touch (or, for a query or `RETURNING`, give back).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Exactly one; anything else is a conflict, and nothing of the batch stays.
    One,
    /// Any number, none included.
    Any,
}

/// One write of a batch.
#[derive(Clone, Debug)]
pub struct Write {
    pub statement: Statement,
    pub expect: Expect,
}

impl Write {
    /// A write that must touch exactly one row.
    pub fn one(sql: &'static str, params: Vec<Value>) -> Self {
        Write { statement: Statement { sql, params }, expect: Expect::One }
    }

    /// A write that may touch any number of rows.
    pub fn any(sql: &'static str, params: Vec<Value>) -> Self {
        Write { statement: Statement { sql, params }, expect: Expect::Any }
    }
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// All writes are durable. The rows that each one returned, in the order of the writes.
    Done(Vec<Vec<Row>>),
    /// Nothing was changed: the write at this position (from 0) met another number of rows than it
    /// expected, or a key that is taken. Load again and decide again.
    Conflict { at: usize },
}

/// What a batch changes, for whoever keeps a copy in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Touched {
    /// A session, by its id.
    Session(SessionId),
    /// A user and with it all sessions of that user.
    User(UserKey),
}
