//! How a store is opened: the address, the mode, the hooks. Engines read this; nothing here does IO.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;

use crate::{Touched, error::OpenError, live::Live};

/// Which database is behind a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// Who opens a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// The one server process of a SQLite file: takes a lock, and refuses when another has it.
    Server,
    /// A command beside a running server: takes no lock, waits longer for the other writer.
    Tool,
}

/// Told what a committed batch has touched.
pub type OnCommitted = Arc<dyn Fn(&[Touched]) + Send + Sync>;
/// Told the size and the duration of a commit.
pub type OnCommit = Arc<dyn Fn(CommitObservation) + Send + Sync>;
/// Told, in words, that the disk failed to sync; expected not to return.
pub type OnSyncFailure = Arc<dyn Fn(&str) + Send + Sync>;

/// One commit, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitObservation {
    /// Batches that shared it; always 1 on PostgreSQL.
    pub batches: usize,
    /// Statements in all those batches.
    pub writes: usize,
    /// From the first statement until the disk (or the server) confirmed.
    pub microseconds: u64,
}

/// What [`crate::Store::open`] needs to know.
#[derive(Clone)]
pub struct StoreOptions {
    /// `sqlite:PATH`, `postgres://…` or `postgresql://…`; `postgres.rs` documents the parameters.
    pub url: String,
    pub mode: OpenMode,
    /// Shown by PostgreSQL in `pg_stat_activity`.
    pub application_name: String,
    /// Apply missing migrations. Without it, a store may be opened to look at their status only.
    pub migrate: bool,
    /// Reader threads (SQLite).
    pub readers: usize,
    /// Connections for single writes, as refreshes are (PostgreSQL). Half as many again serve reads and
    /// transactions, and one listens.
    pub pool_size: usize,
    /// How long a request waits for a connection (PostgreSQL).
    pub pool_wait: Duration,
    /// Called when the disk fails to sync: what is on it is unknown, so the process must end and
    /// recover at its next start. By default it logs the fact and exits with code 1.
    pub on_sync_failure: OnSyncFailure,
}

impl StoreOptions {
    /// A server's options with the defaults of this crate.
    pub fn new(url: impl Into<String>) -> Self {
        StoreOptions {
            url: url.into(),
            mode: OpenMode::Server,
            application_name: "ligand".into(),
            migrate: true,
            readers: 3,
            pool_size: 16,
            pool_wait: Duration::from_secs(5),
            on_sync_failure: Arc::new(|cause| {
                tracing::error!(cause, "the disk failed to sync; ending, to recover at start");
                std::process::exit(1);
            }),
        }
    }

    #[must_use]
    pub fn mode(mut self, mode: OpenMode) -> Self {
        self.mode = mode;
        self
    }
}

impl std::fmt::Debug for StoreOptions {
    /// The url may hold a password, so it is left out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreOptions").field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// A parsed database url.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Sqlite(SqliteAddress),
    Postgres(String),
}

/// `sqlite:PATH`, with parameters that only tests of faults use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SqliteAddress {
    pub(crate) path: PathBuf,
    /// The name of a registered file system of SQLite's (`?vfs=NAME`).
    pub(crate) vfs: Option<String>,
    /// `?synchronous=normal`, accepted only beside `vfs`: the negative control of the power-cut
    /// tests.
    pub(crate) synchronous_normal: bool,
}

impl Address {
    pub(crate) fn parse(url: &str) -> Result<Self, OpenError> {
        if let Some(rest) = url.strip_prefix("sqlite:") {
            return Ok(Address::Sqlite(SqliteAddress::parse(rest)?));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Address::Postgres(url.to_owned()));
        }
        Err(refused("has to begin with sqlite: or postgres://"))
    }
}

impl SqliteAddress {
    fn parse(rest: &str) -> Result<Self, OpenError> {
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        if path.is_empty() || path == ":memory:" {
            return Err(refused("names no file; write sqlite:PATH"));
        }
        if path.starts_with("//") && !path.starts_with("///") {
            return Err(refused("write sqlite:PATH, without the two slashes"));
        }
        let mut address = SqliteAddress { path: path.into(), vfs: None, synchronous_normal: false };
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("vfs", name)) => address.vfs = Some(name.to_owned()),
                Some(("synchronous", "normal")) => address.synchronous_normal = true,
                _ => return Err(refused("has a parameter that sqlite: does not take")),
            }
        }
        if address.synchronous_normal && address.vfs.is_none() {
            return Err(refused("has a parameter that sqlite: does not take"));
        }
        Ok(address)
    }
}

fn refused(why: &str) -> OpenError {
    OpenError::Url(why.to_owned())
}

/// What both engines tell of their commits, and to whom.
pub(crate) struct Hooks {
    /// Told before a commit and after it, whatever became of it.
    pub(crate) live: Arc<Live>,
    committed: RwLock<Vec<OnCommitted>>,
    observer: RwLock<Option<OnCommit>>,
    pub(crate) sync_failure: OnSyncFailure,
    commits: AtomicU64,
    batches: AtomicU64,
}

impl Hooks {
    pub(crate) fn new(options: &StoreOptions, live: Arc<Live>) -> Self {
        Hooks {
            live,
            committed: RwLock::default(),
            observer: RwLock::new(None),
            sync_failure: options.on_sync_failure.clone(),
            commits: AtomicU64::new(0),
            batches: AtomicU64::new(0),
        }
    }

    pub(crate) fn add_committed(&self, hook: OnCommitted) {
        self.committed.write().push(hook);
    }

    pub(crate) fn set_observer(&self, observer: OnCommit) {
        *self.observer.write() = Some(observer);
    }

    pub(crate) fn committed(&self, touched: &[Touched]) {
        if touched.is_empty() {
            return;
        }
        for hook in &*self.committed.read() {
            hook(touched);
        }
    }

    pub(crate) fn observed(&self, observation: CommitObservation) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.batches.fetch_add(observation.batches as u64, Ordering::Relaxed);
        if let Some(observer) = self.observer.read().clone() {
            observer(observation);
        }
    }

    /// Commits and batches so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.commits.load(Ordering::Relaxed), self.batches.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_apart() {
        let Ok(Address::Sqlite(plain)) = Address::parse("sqlite:./a/b.db") else { panic!() };
        assert_eq!((plain.path, plain.vfs), (PathBuf::from("./a/b.db"), None));
        let Ok(Address::Sqlite(fault)) = Address::parse("sqlite:/a?vfs=crash&synchronous=normal") else {
            panic!()
        };
        assert_eq!(fault.vfs.as_deref(), Some("crash"));
        assert!(fault.synchronous_normal);
        assert!(matches!(Address::parse("postgresql://h/d"), Ok(Address::Postgres(_))));
        for wrong in [
            "mysql://x",
            "sqlite:",
            "sqlite::memory:",
            "sqlite://relative",
            "sqlite:a?synchronous=normal",
            "sqlite:a?cache=shared",
        ] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
