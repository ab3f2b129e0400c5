//! Storage: read, and commit a guarded batch.
//!
//! Two engines (SQLite, PostgreSQL), one interface, one SQL text. [`Store::read`] runs one
//! statement on a consistent snapshot; [`Store::commit`] applies a list of writes all or nothing,
//! each with the number of rows it expects. No transaction is held open for a caller. Typed methods
//! sit in one file per table family, on top of these two; what differs between the engines sits in
//! `sqlite` and `postgres` and nowhere else. No HTTP, no rules: those are left to other crates.

pub mod audit;
pub mod changes;
pub mod devices;
mod error;
pub mod expired;
pub mod live;
mod migrate;
mod options;
pub mod outbox;
mod postgres;
pub mod registration_tokens;
pub mod sessions;
mod sqlite;
#[doc(hidden)]
pub mod testing;
pub mod uia;
pub mod users;
mod value;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use error::{BackupError, Cause, OpenError, StoreError};
pub use migrate::MigrationStatus;
pub use options::{CommitObservation, Engine, OnCommit, OnCommitted, OnSyncFailure, OpenMode, StoreOptions};
pub use value::{Committed, Expect, Row, Statement, Touched, Value, Write};

use live::Live;
use options::{Address, Hooks};
use postgres::Postgres;
use sqlite::Sqlite;

/// One open database. Cheap to clone; the last clone closes it, [`Store::close`] does so in order.
#[derive(Clone)]
pub struct Store {
    backend: Arc<Backend>,
    hooks: Arc<Hooks>,
    live: Arc<Live>,
    writes_feed: bool,
}

enum Backend {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// What storage has done since it was opened, and what waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreStats {
    /// Batches waiting for the writer thread (SQLite), or under way (PostgreSQL).
    pub queue_depth: usize,
    /// Commits that reached the disk; on SQLite one of them may carry many batches.
    pub commits: u64,
    /// Batches asked for, conflicts included.
    pub batches: u64,
}

impl Store {
    /// Opens the database, creates it where it is missing, and migrates it.
    pub async fn open(options: &StoreOptions) -> Result<Store, OpenError> {
        let address = Address::parse(&options.url)?;
        let live = Arc::new(match address {
            Address::Sqlite(_) => Live::alone(),
            Address::Postgres(_) => Live::default(),
        });
        let hooks = Arc::new(Hooks::new(options, Arc::clone(&live)));
        let backend = match address {
            Address::Sqlite(address) => Backend::Sqlite(Sqlite::open(address, options, hooks.clone()).await?),
            Address::Postgres(url) => Backend::Postgres(Postgres::open(&url, options, hooks.clone()).await?),
        };
        let writes_feed = matches!(backend, Backend::Postgres(_)) || options.mode == OpenMode::Tool;
        Ok(Store { backend: Arc::new(backend), hooks, live, writes_feed })
    }

    /// What this process holds in memory for checks.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Whether another process may hold in memory what this one changes.
    pub(crate) fn writes_feed(&self) -> bool {
        self.writes_feed
    }

    /// Runs one statement that changes nothing, on a snapshot of its own.
    pub async fn read(&self, sql: &'static str, params: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.read(sql, params).await,
            Backend::Postgres(postgres) => postgres.read(sql, params).await,
        }
    }

    /// Applies all writes, or none of them. `Done` means durable.
    ///
    /// A write that meets another number of rows than it expects, or a unique key that is taken, is
    /// a conflict. Once this future has been polled the batch runs to its end, dropped or not. The
    /// hook of [`Store::on_committed`] has seen `touched` before this answers `Done` or
    /// [`StoreError::Unknown`].
    pub async fn commit(&self, batch: Vec<Write>, touched: Vec<Touched>) -> Result<Committed, StoreError> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.commit(batch, touched).await,
            Backend::Postgres(postgres) => postgres.commit(batch, touched, false).await,
        }
    }

    /// As [`Store::commit`], and then wakes [`Store::wait_for_notify`] in every process: for
    /// batches that add to the feed of changes.
    pub async fn commit_notifying(
        &self,
        batch: Vec<Write>,
        touched: Vec<Touched>,
    ) -> Result<Committed, StoreError> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.commit(batch, touched).await,
            Backend::Postgres(postgres) => postgres.commit(batch, touched, true).await,
        }
    }

    /// Adds what is told of every batch that was committed, or whose outcome is unknown, before the
    /// caller of [`Store::commit`] has its answer; never skipped when that caller goes away, never
    /// called on a conflict. It runs on the writer thread (SQLite) or in a task: it must be quick
    /// and must not call the store. Hooks are called in the order in which they were added.
    pub fn on_committed(&self, hook: OnCommitted) {
        self.hooks.add_committed(hook);
    }

    /// Sets what is told of the size and duration of every commit, for metrics.
    pub fn observe_commits(&self, observer: OnCommit) {
        self.hooks.set_observer(observer);
    }

    pub fn engine(&self) -> Engine {
        match &*self.backend {
            Backend::Sqlite(_) => Engine::Sqlite,
            Backend::Postgres(_) => Engine::Postgres,
        }
    }

    /// Whether requests can be served now: one tiny read, and a writer that runs.
    pub async fn healthy(&self) -> bool {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.healthy().await,
            Backend::Postgres(postgres) => postgres.healthy().await,
        }
    }

    /// Batches that wait; see [`StoreStats::queue_depth`].
    pub fn queue_depth(&self) -> usize {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.queue_depth(),
            Backend::Postgres(postgres) => postgres.queue_depth(),
        }
    }

    pub fn stats(&self) -> StoreStats {
        let (commits, batches) = self.hooks.counts();
        StoreStats { queue_depth: self.queue_depth(), commits, batches }
    }

    /// Whether the database changed since the last call, for one caller that polls the feed. May
    /// say yes too often (our own commits count on SQLite; PostgreSQL always says yes), never no
    /// when another process has committed.
    pub fn changed_by_others(&self) -> bool {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.changed(),
            Backend::Postgres(_) => true,
        }
    }

    /// Waits until another process has announced a change ([`Store::commit_notifying`]), or until
    /// the time is over: true when woken. A hint only: notifications get lost with a connection,
    /// so poll anyway. One caller at a time. On SQLite this only waits.
    pub async fn wait_for_notify(&self, timeout: Duration) -> bool {
        match &*self.backend {
            Backend::Sqlite(_) => {
                tokio::time::sleep(timeout).await;
                false
            }
            Backend::Postgres(postgres) => postgres.wait_for_notify(timeout).await,
        }
    }

    /// Every migration of this program, with the instant this database was given it.
    pub async fn migrations_status(&self) -> Result<Vec<MigrationStatus>, StoreError> {
        let rows = match self.read(migrate::READ_RECORD, Vec::new()).await {
            Ok(rows) => rows,
            // Opened without migrating, and never migrated: there is no record yet.
            Err(StoreError::Rejected(_)) => Vec::new(),
            Err(error) => return Err(error),
        };
        let applied: Vec<_> = rows.iter().map(migrate::Applied::from_row).collect::<Result<_, _>>()?;
        Ok(migrate::status(&applied))
    }

    /// Asks the engine to examine the whole database; the problems it names, none when sound.
    pub async fn integrity_check(&self) -> Result<Vec<String>, StoreError> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.integrity_check().await,
            Backend::Postgres(postgres) => postgres.integrity_check().await,
        }
    }

    /// Writes a consistent copy of a SQLite database to a new file (mode 0600), while the server
    /// runs. `progress` is told pages copied and pages in all.
    pub async fn backup(
        &self,
        target: &Path,
        progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<(), BackupError> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.backup(PathBuf::from(target), Box::new(progress)).await,
            Backend::Postgres(_) => Err(BackupError::UsePgDump),
        }
    }

    /// Finishes what is queued, then closes. Later calls are refused as unavailable.
    pub async fn close(&self) {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.close().await,
            Backend::Postgres(postgres) => postgres.close().await,
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("engine", &self.engine()).finish_non_exhaustive()
    }
}
