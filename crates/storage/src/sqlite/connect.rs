//! Opening: the file and its lock, connections with their settings, migrations.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::statement::{self, Texts};
use crate::{
    Engine, OpenError, OpenMode, StoreError, StoreOptions,
    migrate::{self, Applied},
    options::SqliteAddress,
};

/// How long one process waits for the other one that writes to the same file. It asks every
/// millisecond: a server under load leaves the file free for moments only, and SQLite's own waits
/// of up to 100 ms would miss them.
const BUSY_WAIT: Duration = Duration::from_millis(1);
const BUSY_TRIES: i32 = 10_000;
/// A log that grew beyond this (16 MiB) is cut when it starts over.
const LOG_KEPT_BYTES: i64 = 16 * 1024 * 1024;

/// Opens connections to one file.
#[derive(Clone)]
pub(super) struct Connector {
    path: PathBuf,
    vfs: Option<String>,
    synchronous: &'static str,
}

impl Connector {
    /// Creates the file (mode 0600) and its directory where they are missing.
    pub(super) fn new(address: &SqliteAddress) -> Result<Self, OpenError> {
        let mut path = address.path.clone();
        if address.vfs.is_none() {
            path = prepare(&path).map_err(|cause| OpenError::File { path, cause })?;
        }
        let synchronous = if address.synchronous_normal { "normal" } else { "full" };
        Ok(Connector { path, vfs: address.vfs.clone(), synchronous })
    }

    /// Takes the lock that only one server process may have. Not on a file system of a test.
    pub(super) fn lock(&self) -> Result<Option<File>, OpenError> {
        if self.vfs.is_some() {
            return Ok(None);
        }
        let lock = self.lock_path();
        let failed = |cause| OpenError::File { path: lock.clone(), cause };
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(&lock);
        let file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: self.path.clone(), lock }),
            Err(TryLockError::Error(cause)) => Err(failed(cause)),
        }
    }

    fn lock_path(&self) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".lock");
        name.into()
    }

    /// The connection that commits: every commit waits for the disk, none of them checkpoints.
    pub(super) fn writer(&self) -> Result<Connection, StoreError> {
        let connection = self.open()?;
        enter_wal(&connection)?;
        let settings = format!(
            "pragma synchronous = {}; pragma fullfsync = on; pragma wal_autocheckpoint = 0;
             pragma journal_size_limit = {LOG_KEPT_BYTES}; pragma secure_delete = fast;
             pragma foreign_keys = off",
            self.synchronous
        );
        connection.execute_batch(&settings).map_err(statement::failed)?;
        Ok(connection)
    }

    /// A connection that cannot write.
    pub(super) fn reader(&self) -> Result<Connection, StoreError> {
        let connection = self.open()?;
        connection
            .execute_batch("pragma query_only = on; pragma wal_autocheckpoint = 0")
            .map_err(statement::failed)?;
        Ok(connection)
    }

    /// The connection that moves the log into the database.
    pub(super) fn checkpointer(&self) -> Result<Connection, StoreError> {
        let connection = self.open()?;
        let settings = format!(
            "pragma synchronous = {}; pragma fullfsync = on; pragma wal_autocheckpoint = 0;
             pragma busy_timeout = 100",
            self.synchronous
        );
        connection.execute_batch(&settings).map_err(statement::failed)?;
        Ok(connection)
    }

    fn open(&self) -> Result<Connection, StoreError> {
        // Connections are used by one thread at a time, so SQLite need not lock them. The file was
        // created with its mode: one that has vanished since must not be replaced by an empty one.
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if self.vfs.is_some() {
            flags |= OpenFlags::SQLITE_OPEN_CREATE;
        }
        let connection = match &self.vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(&self.path, flags, vfs.as_str()),
            None => Connection::open_with_flags(&self.path, flags),
        };
        let mut connection = connection.map_err(statement::failed)?;
        connection.busy_handler(Some(wait_for_writer)).map_err(statement::failed)?;
        connection.set_prepared_statement_cache_capacity(statement::PREPARED_MAX);
        Ok(connection)
    }

    /// Refuses a schema that is not ours, then brings it up to date, all in one transaction. A
    /// command may create a database, but not change the schema under a running server.
    pub(super) fn migrate(
        &self,
        connection: &mut Connection,
        options: &StoreOptions,
    ) -> Result<(), OpenError> {
        // Without a lock first, so that a command does not hold up a busy server.
        let pending = migrate::pending(&applied(connection)?, Engine::Sqlite)?;
        if pending.is_empty() || !options.migrate {
            return Ok(());
        }
        let failed = |error| OpenError::Store(statement::failed(error));
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Exclusive).map_err(failed)?;
        transaction.execute_batch(migrate::CREATE_RECORD).map_err(failed)?;
        let pending = migrate::pending(&applied(&transaction)?, Engine::Sqlite)?;
        // Held until the migrations are in.
        let _lock = match options.mode {
            OpenMode::Server => None,
            OpenMode::Tool => self.lock().map_err(|error| match error {
                OpenError::InUse { path, .. } => OpenError::MigrationBesideServer(path),
                error => error,
            })?,
        };
        for migration in pending {
            apply(&transaction, migration).map_err(|error| OpenError::Migration {
                number: migration.number,
                name: migration.name,
                cause: statement::failed(error),
            })?;
        }
        transaction.commit().map_err(failed)
    }
}

fn wait_for_writer(tries: i32) -> bool {
    std::thread::sleep(BUSY_WAIT);
    tries < BUSY_TRIES
}

/// The record of applied migrations; none where there is no record yet.
fn applied(connection: &Connection) -> Result<Vec<Applied>, OpenError> {
    let query = |sql| {
        statement::run(connection, &mut Texts::default(), sql, &[])
            .map_err(|error| OpenError::Store(statement::failed(error)))
    };
    if query("select 1 from sqlite_schema where name = 'migrations'")?.rows.is_empty() {
        return Ok(Vec::new());
    }
    let rows = query(migrate::READ_RECORD)?.rows;
    Ok(rows.iter().map(Applied::from_row).collect::<Result<_, _>>()?)
}

fn apply(connection: &Connection, migration: &migrate::Migration) -> rusqlite::Result<()> {
    connection.execute_batch(migration.sql(Engine::Sqlite))?;
    connection.execute(
        "insert into migrations (number, name, checksum, applied_at)
         values (?1, ?2, ?3, cast(unixepoch('subsec') * 1000 as integer))",
        rusqlite::params![migration.number, migration.name, migration.checksum(Engine::Sqlite)],
    )?;
    Ok(())
}

/// Write-ahead logging is a property of the file, so this matters once. The switch does not wait
/// for another process that is just doing the same, so it is repeated.
fn enter_wal(connection: &Connection) -> Result<(), StoreError> {
    for _ in 0..100 {
        let mode = connection
            .query_row("pragma journal_mode = wal", [], |row| row.get::<_, String>(0))
            .map_err(statement::failed);
        match mode {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                return Err(StoreError::unavailable(format!(
                    "the file system offers no write-ahead log (journal_mode {mode})"
                )));
            }
            Err(StoreError::Unavailable(_)) => std::thread::sleep(Duration::from_millis(100)),
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::unavailable("another process holds the database file"))
}

/// Creates what is missing and gives the path without links in it, so that one file has one lock.
fn prepare(path: &Path) -> io::Result<PathBuf> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    match create_private(path) {
        Ok(()) => sync_parent(path)?,
        // Not opened here: closing any descriptor of the file would drop SQLite's locks on it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => warn_of_others(path)?,
        Err(error) => return Err(error),
    }
    path.canonicalize()
}

fn warn_of_others(path: &Path) -> io::Result<()> {
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(
            path = %path.display(),
            mode = %format_args!("{:o}", mode & 0o777),
            "others may read the database file; chmod 600 it and what is beside it"
        );
    }
    Ok(())
}

/// A new, empty file that only its owner may read.
pub(super) fn create_private(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
}

/// Makes the name of a new file durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
