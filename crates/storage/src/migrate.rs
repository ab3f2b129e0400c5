//! Which migrations exist, and which of them a database still needs.
//!
//! Migrations are numbered files with the same numbers and names for both engines. What was
//! applied is recorded with a SHA-256 of its text: a changed file is refused, and so is a database
//! that a newer program has migrated. Everything here is values in, values out; the engines read
//! the record, apply what is missing under a lock, and write the record in the same transaction.

use sha2::{Digest, Sha256};

use crate::{Engine, OpenError, Row, StoreError};

/// One numbered change of the schema.
#[derive(Debug)]
pub(crate) struct Migration {
    pub(crate) number: i64,
    pub(crate) name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

macro_rules! migration {
    ($number:literal, $name:literal, $file:literal) => {
        Migration {
            number: $number,
            name: $name,
            sqlite: include_str!(concat!("../migrations/sqlite/", $file)),
            postgres: include_str!(concat!("../migrations/postgres/", $file)),
        }
    };
}

/// Every migration of this program, in order. Released files are never edited: add one.
static MIGRATIONS: &[Migration] = &[
    migration!(1, "init", "0001_init.sql"),
    migration!(2, "threepids", "0002_threepids.sql"),
    migration!(3, "login_openid", "0003_login_openid.sql"),
];

impl Migration {
    pub(crate) fn sql(&self, engine: Engine) -> &'static str {
        match engine {
            Engine::Sqlite => self.sqlite,
            Engine::Postgres => self.postgres,
        }
    }

    /// SHA-256 of the text for this engine, in hexadecimal.
    pub(crate) fn checksum(&self, engine: Engine) -> String {
        data_encoding::HEXLOWER.encode(&Sha256::digest(self.sql(engine)))
    }
}

/// The record of what was applied; the same text on both engines.
pub(crate) const CREATE_RECORD: &str = "create table if not exists migrations (
  number bigint primary key not null, name text not null, checksum text not null,
  applied_at bigint not null)";
pub(crate) const READ_RECORD: &str =
    "select number, name, checksum, applied_at from migrations order by number";

/// One line of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) number: i64,
    pub(crate) name: String,
    pub(crate) checksum: String,
    /// Milliseconds since 1970, by the database's clock.
    pub(crate) applied_at: i64,
}

impl Applied {
    pub(crate) fn from_row(row: &Row) -> Result<Self, StoreError> {
        Ok(Applied {
            number: row.int(0)?,
            name: row.text(1)?.to_owned(),
            checksum: row.text(2)?.to_owned(),
            applied_at: row.int(3)?,
        })
    }
}

/// One migration and whether this database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationStatus {
    pub number: i64,
    pub name: String,
    /// Milliseconds since 1970; nothing while it is pending.
    pub applied_at: Option<i64>,
}

/// The migrations still to be applied, in order; or why this program must not touch the database.
pub(crate) fn pending(applied: &[Applied], engine: Engine) -> Result<Vec<&'static Migration>, OpenError> {
    for line in applied {
        let Some(known) = MIGRATIONS.iter().find(|known| known.number == line.number) else {
            return Err(OpenError::Newer { number: line.number, name: line.name.clone() });
        };
        if known.checksum(engine) != line.checksum {
            return Err(OpenError::Changed { number: line.number, name: line.name.clone() });
        }
    }
    let missing = |migration: &&Migration| !applied.iter().any(|a| a.number == migration.number);
    Ok(MIGRATIONS.iter().filter(missing).collect())
}

/// Every migration of this program with the instant it was applied at.
pub(crate) fn status(applied: &[Applied]) -> Vec<MigrationStatus> {
    let at = |number| applied.iter().find(|a| a.number == number).map(|a| a.applied_at);
    MIGRATIONS
        .iter()
        .map(|migration| MigrationStatus {
            number: migration.number,
            name: migration.name.to_owned(),
            applied_at: at(migration.number),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(number: i64, checksum: String) -> Applied {
        Applied { number, name: "x".into(), checksum, applied_at: 0 }
    }

    #[test]
    fn numbers_rise_by_one_from_one() {
        let numbers: Vec<i64> = MIGRATIONS.iter().map(|m| m.number).collect();
        assert_eq!(numbers, (1..=MIGRATIONS.len() as i64).collect::<Vec<_>>());
    }

    #[test]
    fn an_empty_database_needs_all_and_a_full_one_none() {
        let all = pending(&[], Engine::Sqlite).unwrap();
        assert_eq!(all.len(), MIGRATIONS.len());
        let full: Vec<_> = all.iter().map(|m| applied(m.number, m.checksum(Engine::Sqlite))).collect();
        assert!(pending(&full, Engine::Sqlite).unwrap().is_empty());
    }

    #[test]
    fn a_newer_database_and_a_changed_file_are_refused() {
        let newer = applied(9_999, String::new());
        assert!(matches!(pending(&[newer], Engine::Sqlite), Err(OpenError::Newer { number: 9_999, .. })));
        let changed = applied(1, "00".into());
        assert!(matches!(pending(&[changed], Engine::Postgres), Err(OpenError::Changed { number: 1, .. })));
    }
}
