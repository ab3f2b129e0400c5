//! What can go wrong in storage, by who reads it: [`StoreError`] is for the code that asked (our
//! own trouble, to be answered with 503, never a state of the data), [`OpenError`] and
//! [`BackupError`] are for the operator and name the mend.

use std::{borrow::Cow, fmt, path::PathBuf};

/// The cause of a storage error in words, for the log. Never shown to a client; holds no values.
#[derive(Clone, PartialEq, Eq)]
pub struct Cause(Cow<'static, str>);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Cause {
    fn from(text: String) -> Self {
        Cause(text.into())
    }
}

impl From<&'static str> for Cause {
    fn from(text: &'static str) -> Self {
        Cause(text.into())
    }
}

/// Storage did not do what it was asked. Every variant but [`StoreError::Unknown`] means that
/// nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Not reachable, overloaded or closed; worth another try later.
    #[error("the database is unavailable: {0}")]
    Unavailable(Cause),
    /// The commit may or may not have happened: read back, or let the caller repeat.
    #[error("the outcome of the commit is unknown")]
    Unknown,
    /// The disk is full. Heals by itself when there is space again.
    #[error("the database's disk is full")]
    Full,
    /// What is stored cannot be what was written.
    #[error("the database holds what it cannot hold: {0}")]
    Corrupt(Cause),
    /// The engine refused a statement as such: a defect of this program or of the schema.
    #[error("the database refused a statement: {0}")]
    Rejected(Cause),
}

impl StoreError {
    /// True when the commit may have happened although an error is reported.
    pub fn is_unknown(&self) -> bool {
        matches!(self, StoreError::Unknown)
    }

    pub(crate) fn unavailable(cause: impl Into<Cause>) -> Self {
        StoreError::Unavailable(cause.into())
    }

    pub(crate) fn corrupt(cause: impl Into<Cause>) -> Self {
        StoreError::Corrupt(cause.into())
    }

    pub(crate) fn rejected(cause: impl Into<Cause>) -> Self {
        StoreError::Rejected(cause.into())
    }
}

/// Why a database could not be opened. The text names the mend.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("database url: {0}")]
    Url(String),
    #[error("{}: {cause}", path.display())]
    File { path: PathBuf, cause: std::io::Error },
    #[error(
        "{} is in use by another server process (lock file {}); stop that one first, or give this one another [database] url",
        path.display(), lock.display()
    )]
    InUse { path: PathBuf, lock: PathBuf },
    #[error(
        "the database at {} has to be migrated, but a server is running on it; stop the server, then start the new version",
        .0.display()
    )]
    MigrationBesideServer(PathBuf),
    #[error(
        "the database was migrated by a newer version of this program (migration {number} `{name}` is not known here); start that version or a later one, or restore a backup made before the upgrade"
    )]
    Newer { number: i64, name: String },
    #[error(
        "migration {number} `{name}` is recorded in the database with another checksum than this program has; it was changed after it was applied. Use the released program, or restore a backup"
    )]
    Changed { number: i64, name: String },
    #[error(
        "migration {number} `{name}` failed and was undone: {cause}. An installation needs a database of its own: if this one holds other tables, give an empty one in [database] url"
    )]
    Migration { number: i64, name: &'static str, cause: StoreError },
    #[error(
        "PostgreSQL answers with synchronous_commit = {0}: it would confirm sign-ins that a crash forgets. Set synchronous_commit = on for this database or role: ALTER ROLE … SET synchronous_commit = on"
    )]
    SynchronousCommit(String),
    #[error(
        "PostgreSQL at this address is a read-only standby; name the primary in [database] url, or all servers with target_session_attrs=read-write"
    )]
    Standby,
    #[error("PostgreSQL's database has encoding {0}; create it with ENCODING 'UTF8'")]
    Encoding(String),
    #[error("TLS to PostgreSQL: {0}")]
    Tls(String),
    #[error("cannot open the database: {0}")]
    Store(#[from] StoreError),
}

/// Why a backup was not made. No file is left behind.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(
        "this installation uses PostgreSQL, which has its own tools: run pg_dump --format=custom --file=FILE with the address in [database] url"
    )]
    UsePgDump,
    #[error("{} exists already; give a new name", .0.display())]
    Exists(PathBuf),
    #[error("{}: {cause}", path.display())]
    File { path: PathBuf, cause: std::io::Error },
    #[error("backup failed: {0}")]
    Store(#[from] StoreError),
}
