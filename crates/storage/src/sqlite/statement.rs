//! Running one statement on one connection: parameters, rows, errors.

use std::collections::HashMap;

use rusqlite::{
    Connection, ErrorCode, ffi,
    types::{ToSql, ToSqlOutput, ValueRef},
};

use crate::{Row, StoreError, Value};

/// Prepared statements kept per connection; the whole program has fewer.
pub(super) const PREPARED_MAX: usize = 256;

/// The texts of the program in SQLite's spelling. SQLite takes `$1` for a name and binds names in
/// order of appearance, so `$n` becomes `?n`. Kept by address: the texts are constants.
#[derive(Default)]
pub(super) struct Texts(HashMap<(usize, usize), Box<str>>);

impl Texts {
    pub(super) fn of(&mut self, sql: &'static str) -> &str {
        self.0.entry((sql.as_ptr() as usize, sql.len())).or_insert_with(|| numbered(sql).into_boxed_str())
    }
}

/// `$n` outside quotes and comments becomes `?n`.
fn numbered(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(at) = rest.find(['$', '\'', '"', '-']) {
        let (before, here) = rest.split_at(at);
        out.push_str(before);
        let end = match here.as_bytes()[0] {
            b'$' if here[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                out.push('?');
                rest = &here[1..];
                continue;
            }
            b'-' if here.starts_with("--") => here.find('\n').unwrap_or(here.len()),
            quote @ (b'\'' | b'"') => here[1..].find(quote as char).map_or(here.len(), |close| close + 2),
            _ => 1,
        };
        out.push_str(&here[..end]);
        rest = &here[end..];
    }
    out.push_str(rest);
    out
}

/// What a statement did.
pub(super) struct Ran {
    pub(super) rows: Vec<Row>,
    /// Rows given back by a query or `returning`, else rows changed.
    pub(super) count: u64,
}

/// Runs a statement to its end.
pub(super) fn run(
    connection: &Connection,
    texts: &mut Texts,
    sql: &'static str,
    params: &[Value],
) -> Result<Ran, rusqlite::Error> {
    let mut statement = connection.prepare_cached(texts.of(sql))?;
    let columns = statement.column_count();
    let mut rows = Vec::new();
    let mut answers = statement.query(rusqlite::params_from_iter(params))?;
    while let Some(answer) = answers.next()? {
        let values = (0..columns).map(|column| value(answer.get_ref(column)?));
        rows.push(Row::new(values.collect::<Result<_, _>>()?));
    }
    let count = if columns > 0 { rows.len() as u64 } else { connection.changes() };
    Ok(Ran { rows, count })
}

fn value(raw: ValueRef<'_>) -> Result<Value, rusqlite::Error> {
    Ok(match raw {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Text(text) => Value::Text(std::str::from_utf8(text)?.to_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_owned()),
        ValueRef::Real(_) => {
            return Err(rusqlite::Error::FromSqlConversionFailure(
                0,
                rusqlite::types::Type::Real,
                "a fraction, which no column of ours holds".into(),
            ));
        }
    })
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Int(value) => ValueRef::Integer(*value),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// An engine error in the words of storage. The messages name tables and columns, never values.
pub(super) fn failed(error: rusqlite::Error) -> StoreError {
    let cause = error.to_string();
    match error {
        rusqlite::Error::Utf8Error(..)
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::InvalidColumnType(..) => StoreError::Corrupt(cause.into()),
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DiskFull => StoreError::Full,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreError::Corrupt(cause.into()),
            ErrorCode::ConstraintViolation
            | ErrorCode::TypeMismatch
            | ErrorCode::ParameterOutOfRange
            | ErrorCode::ApiMisuse
            | ErrorCode::TooBig
            | ErrorCode::Unknown => StoreError::rejected(cause),
            _ => StoreError::unavailable(cause),
        },
        // The text of a statement is ours: harmless in a log.
        _ => StoreError::rejected(cause),
    }
}

/// A key that is taken: a state of the data, which the caller is told as a conflict.
pub(super) fn is_taken_key(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_extended_error_code(),
        Some(
            ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID
        )
    )
}

/// The disk did not confirm: nobody knows what is on it.
pub(super) fn is_sync_failure(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_extended_error_code(), Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC))
}

/// An error after which a connection is not used again: what it holds of the file is in doubt.
pub(super) fn spoils_connection(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::CannotOpen
                | ErrorCode::OutOfMemory
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::ReadOnly
        )
    )
}

#[cfg(test)]
mod tests {
    use super::numbered;

    #[test]
    fn parameters_are_numbered_outside_quotes_and_comments() {
        assert_eq!(numbered("a=$2 and b=$1"), "a=?2 and b=?1");
        assert_eq!(numbered("x='$1' and \"$2\"=$3 - $4"), "x='$1' and \"$2\"=?3 - ?4");
        assert_eq!(numbered("a -- $1 isn't\n, $10"), "a -- $1 isn't\n, ?10");
        assert_eq!(numbered("'it''s $1', $1"), "'it''s $1', ?1");
        assert_eq!(numbered("cost $"), "cost $");
    }
}
