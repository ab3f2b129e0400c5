//! SQLite: one writer thread that commits in groups, a few reader threads, a checkpointer.
//!
//! `connect` opens connections and migrates, `writer` turns the queue into grouped commits,
//! `reader` answers reads, `checkpoint` moves the log into the database off the commit path,
//! `statement` runs one statement, `queue` is the channel between callers and threads. This file
//! holds them together: start, stop, backup, examination.

mod checkpoint;
mod connect;
mod queue;
mod reader;
mod statement;
mod writer;

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::Mutex;
use rusqlite::backup::{Backup, StepResult};
use tokio::sync::oneshot;

use crate::{
    BackupError, Committed, OpenError, OpenMode, Row, StoreError, StoreOptions, Touched, Value, Write,
    options::{Hooks, SqliteAddress},
};
use checkpoint::Checkpoints;
use connect::Connector;
use queue::Queue;

/// Pages per step of a backup; between steps the progress is told.
const BACKUP_STEP_PAGES: i32 = 1_024;

/// An open SQLite database and its threads.
pub(crate) struct Sqlite {
    connector: Connector,
    writes: Arc<Queue<writer::Batch>>,
    reads: Arc<Queue<reader::Read>>,
    checkpoints: Arc<Checkpoints>,
    /// A connection that only asks `data_version`, and what it said last.
    version: Mutex<Option<(rusqlite::Connection, i64)>>,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    writer: Option<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
}

impl Sqlite {
    pub(crate) async fn open(
        address: SqliteAddress,
        options: &StoreOptions,
        hooks: Arc<Hooks>,
    ) -> Result<Self, OpenError> {
        let options = options.clone();
        blocking(move || Self::start(address, &options, hooks)).await?
    }

    fn start(address: SqliteAddress, options: &StoreOptions, hooks: Arc<Hooks>) -> Result<Self, OpenError> {
        let connector = Connector::new(&address)?;
        let lock = match options.mode {
            OpenMode::Server => connector.lock()?,
            OpenMode::Tool => None,
        };
        let mut writer = connector.writer()?;
        connector.migrate(&mut writer, options)?;
        let checkpoints = Arc::new(Checkpoints::default());
        let writer = writer::Writer::new(connector.clone(), writer, checkpoints.clone(), hooks.clone())?;
        let checkpointer = checkpoint::Checkpointer::new(connector.clone(), checkpoints.clone(), hooks)?;
        let readers = (0..options.readers.max(1))
            .map(|_| Ok(reader::Reader::new(connector.clone(), connector.reader()?)))
            .collect::<Result<Vec<_>, StoreError>>()?;
        let version = connector.reader()?;
        let seen = data_version(&version)?;
        let sqlite = Sqlite {
            connector,
            writes: Arc::default(),
            reads: Arc::default(),
            checkpoints,
            version: Mutex::new(Some((version, seen))),
            threads: Mutex::default(),
        };
        sqlite.run(writer, checkpointer, readers, lock)?;
        Ok(sqlite)
    }

    /// Starts the threads. They end when the queues are closed, which dropping `self` does.
    fn run(
        &self,
        writer: writer::Writer,
        checkpointer: checkpoint::Checkpointer,
        readers: Vec<reader::Reader>,
        lock: Option<File>,
    ) -> Result<(), StoreError> {
        let mut threads = self.threads.lock();
        let lock = Arc::new(lock);
        let writes = self.writes.clone();
        threads.writer = Some(spawn("ligand-writer", &lock, move || writer.run(&writes))?);
        threads.others.push(spawn("ligand-checkpoint", &lock, move || checkpointer.run())?);
        for reader in readers {
            let reads = self.reads.clone();
            threads.others.push(spawn("ligand-reader", &lock, move || reader.run(&reads))?);
        }
        Ok(())
    }

    pub(crate) async fn read(&self, sql: &'static str, params: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.reads.push(reader::Read { sql, params, reply })?;
        answer.await.map_err(|_| StoreError::unavailable("the reader thread has ended"))?
    }

    pub(crate) async fn commit(
        &self,
        writes: Vec<Write>,
        touched: Vec<Touched>,
    ) -> Result<Committed, StoreError> {
        if writes.is_empty() {
            return Ok(Committed::Done(Vec::new()));
        }
        let (reply, answer) = oneshot::channel();
        self.writes.push(writer::Batch { writes, touched, reply })?;
        // The writer answers everything it takes; only its death in between leaves us here.
        answer.await.map_err(|_| StoreError::Unknown)?
    }

    pub(crate) async fn healthy(&self) -> bool {
        self.writes.is_open() && self.read("select seq from feed", Vec::new()).await.is_ok()
    }

    pub(crate) fn queue_depth(&self) -> usize {
        self.writes.len()
    }

    /// Whether any connection but the asking one has committed since the last call. An error
    /// counts as a change.
    pub(crate) fn changed(&self) -> bool {
        let mut version = self.version.lock();
        let Some((connection, seen)) = version.as_mut() else {
            return true;
        };
        let Ok(now) = data_version(connection) else {
            return true;
        };
        std::mem::replace(seen, now) != now
    }

    pub(crate) async fn integrity_check(&self) -> Result<Vec<String>, StoreError> {
        let connector = self.connector.clone();
        blocking(move || {
            let connection = connector.reader()?;
            let mut statement = connection.prepare("pragma integrity_check").map_err(statement::failed)?;
            let lines = statement
                .query_map([], |row| row.get::<_, String>(0))
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(statement::failed)?;
            Ok(lines.into_iter().filter(|line| line != "ok").collect())
        })
        .await?
    }

    pub(crate) async fn backup(
        &self,
        target: PathBuf,
        mut progress: Box<dyn FnMut(u64, u64) + Send>,
    ) -> Result<(), BackupError> {
        let connector = self.connector.clone();
        let checkpoints = self.checkpoints.clone();
        blocking(move || {
            let partial = partial_name(&target);
            if target.exists() {
                return Err(BackupError::Exists(target));
            }
            connect::create_private(&partial)
                .map_err(|cause| BackupError::File { path: partial.clone(), cause })?;
            let _pinned = checkpoints.snapshot_pinned();
            let copied = copy(&connector, &partial, &mut *progress).and_then(|()| publish(&partial, &target));
            if copied.is_err() {
                let _ = std::fs::remove_file(&partial);
            }
            copied
        })
        .await?
    }

    /// Drains the writer and joins every thread. Closing the last connection to the file moves the
    /// log into it.
    pub(crate) async fn close(&self) {
        self.writes.close();
        self.reads.close();
        let threads = std::mem::take(&mut *self.threads.lock());
        let version = self.version.lock().take();
        let checkpoints = self.checkpoints.clone();
        let _ = blocking(move || {
            drop(version);
            if let Some(writer) = threads.writer {
                let _ = writer.join();
            }
            checkpoints.stop();
            for thread in threads.others {
                let _ = thread.join();
            }
        })
        .await;
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.writes.close();
        self.reads.close();
        self.checkpoints.stop();
    }
}

/// A thread that keeps the lock of the database file until it has ended.
fn spawn(
    name: &str,
    lock: &Arc<Option<File>>,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StoreError> {
    let lock = lock.clone();
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            let _lock = lock;
            work();
        })
        .map_err(|error| StoreError::unavailable(format!("cannot start a thread: {error}")))
}

/// Runs blocking work off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::unavailable("a storage thread has ended"))
}

fn data_version(connection: &rusqlite::Connection) -> Result<i64, StoreError> {
    connection
        .prepare_cached("pragma data_version")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(statement::failed)
}

fn partial_name(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn copy(
    connector: &Connector,
    partial: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), BackupError> {
    let source = connector.reader()?;
    // One read transaction over all steps: the copy is one snapshot, and commits beside it do not
    // make SQLite begin again.
    source.execute_batch("begin; select count(*) from sqlite_schema").map_err(statement::failed)?;
    let mut copy = rusqlite::Connection::open(partial).map_err(statement::failed)?;
    let backup = Backup::new(&source, &mut copy).map_err(statement::failed)?;
    loop {
        let step = backup.step(BACKUP_STEP_PAGES).map_err(statement::failed)?;
        let pages = backup.progress();
        let total = u64::try_from(pages.pagecount).unwrap_or(0);
        progress(total - u64::try_from(pages.remaining).unwrap_or(0).min(total), total);
        match step {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Makes the finished copy appear under its name, durably.
fn publish(partial: &Path, target: &Path) -> Result<(), BackupError> {
    let publish = || {
        File::open(partial)?.sync_all()?;
        std::fs::rename(partial, target)?;
        connect::sync_parent(target)
    };
    publish().map_err(|cause| BackupError::File { path: target.to_owned(), cause })
}
