//! The checkpointer thread: moves the write-ahead log into the database file off the commit path,
//! and keeps the log short.
//!
//! Most checkpoints are passive: they disturb nobody, but under steady writing the log never starts
//! over by them alone. When it has grown long all the same, the writer is held between two groups
//! for the little that a passive pass has left, after which the log starts over; and if the disk
//! cannot keep up, the writer waits. A backup pins a snapshot in the log; while one runs, the log
//! may grow.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rusqlite::Connection;

use super::{connect::Connector, statement};
use crate::{StoreError, options::Hooks};

/// Pages (of 4 KiB) that the log gains before a passive checkpoint: 16 MiB. A page that changed
/// often since the last one is moved once, and every checkpoint makes commits wait for its syncs.
const PASSIVE_PAGES: u32 = 4_096;
/// Pages from which the log is made to start over, which holds the writer: 48 MiB. At a third of
/// both, the slowest hundredth of refreshes took half as long again.
const RESTART_PAGES: u32 = 12_288;
/// Pages from which the writer waits for the checkpointer: 56 MiB, so that with one more group the
/// log stays below 64.
const LOG_PAGES_MAX: u32 = 14_336;
/// It does not wait longer than this for one group: checkpoints may be failing.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(2);
/// A log that nobody adds to for this long is moved to the database, so that a start after a crash
/// has little to read.
const IDLE: Duration = Duration::from_secs(2);
/// Between two attempts after a failure, such as a full disk.
const RETRY: Duration = Duration::from_secs(1);

/// What the writer and the checkpointer tell each other.
#[derive(Default)]
pub(super) struct Checkpoints {
    /// Pages in the log after the last commit.
    log: AtomicU32,
    /// Of these, pages that the database file has already.
    moved: AtomicU32,
    /// Backups under way.
    pinned: AtomicUsize,
    /// Held by the writer during a group, and by the checkpointer to let the log start over.
    turn: Mutex<()>,
    state: Mutex<State>,
    wake: Condvar,
    /// Signalled after every checkpoint.
    room: Condvar,
}

#[derive(Default)]
struct State {
    due: bool,
    stop: bool,
}

impl Checkpoints {
    /// Waits while the log is too long; for the writer, before it takes its turn.
    pub(super) fn wait_for_room(&self) {
        let until = Instant::now() + ROOM_WAIT_MAX;
        let mut state = self.state.lock();
        while self.is_too_long() && !state.stop {
            state.due = true;
            self.wake.notify_one();
            if self.room.wait_until(&mut state, until).timed_out() {
                tracing::warn!("the disk cannot keep up with the write-ahead log");
                return;
            }
        }
    }

    /// A log that is moved altogether starts over with the next commit, however long it is.
    fn is_too_long(&self) -> bool {
        let pinned = self.pinned.load(Ordering::Relaxed) > 0;
        self.log.load(Ordering::Relaxed) >= LOG_PAGES_MAX && self.waiting() > 0 && !pinned
    }

    pub(super) fn writing(&self) -> MutexGuard<'_, ()> {
        self.turn.lock()
    }

    pub(super) fn log_is(&self, pages: i32) {
        let pages = u32::try_from(pages).unwrap_or(0);
        if pages < self.moved.load(Ordering::Relaxed) {
            // The log has started over.
            self.moved.store(0, Ordering::Relaxed);
        }
        self.log.store(pages, Ordering::Relaxed);
    }

    /// Wakes the checkpointer when enough has gathered.
    pub(super) fn after_commit(&self) {
        if self.waiting() >= PASSIVE_PAGES {
            self.state.lock().due = true;
            self.wake.notify_one();
        }
    }

    pub(super) fn stop(&self) {
        self.state.lock().stop = true;
        self.wake.notify_one();
        self.room.notify_all();
    }

    /// Says that a long read pins the log until the answer is dropped.
    pub(super) fn snapshot_pinned(self: &Arc<Self>) -> Pinned {
        self.pinned.fetch_add(1, Ordering::Relaxed);
        Pinned(self.clone())
    }

    fn moved_is(&self, pages: u32) {
        let _state = self.state.lock();
        self.moved.store(pages, Ordering::Relaxed);
        self.room.notify_all();
    }

    fn waiting(&self) -> u32 {
        self.log.load(Ordering::Relaxed).saturating_sub(self.moved.load(Ordering::Relaxed))
    }
}

pub(super) struct Pinned(Arc<Checkpoints>);

impl Drop for Pinned {
    fn drop(&mut self) {
        self.0.pinned.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) struct Checkpointer {
    connector: Connector,
    connection: Option<Connection>,
    shared: Arc<Checkpoints>,
    hooks: Arc<Hooks>,
}

/// What the engine says of a checkpoint, in pages.
struct Report {
    log: u32,
    moved: u32,
}

impl Checkpointer {
    pub(super) fn new(
        connector: Connector,
        shared: Arc<Checkpoints>,
        hooks: Arc<Hooks>,
    ) -> Result<Self, StoreError> {
        let connection = Some(connector.checkpointer()?);
        Ok(Checkpointer { connector, connection, shared, hooks })
    }

    /// Works until stopped.
    pub(super) fn run(mut self) {
        let mut seen = 0;
        loop {
            let mut state = self.shared.state.lock();
            if !state.stop && !state.due {
                self.shared.wake.wait_for(&mut state, IDLE);
            }
            let (stop, due) = (state.stop, std::mem::take(&mut state.due));
            drop(state);
            if stop {
                return;
            }
            let log = self.shared.log.load(Ordering::Relaxed);
            let idle = log == std::mem::replace(&mut seen, log) && self.shared.waiting() > 0;
            if (due || idle) && !self.shorten() {
                self.rest();
            }
        }
    }

    /// One passive checkpoint, and a start over where the log is long. False after a failure.
    fn shorten(&mut self) -> bool {
        let Some(report) = self.checkpoint("pragma wal_checkpoint(passive)") else {
            return false;
        };
        self.shared.moved_is(report.moved);
        let pinned = self.shared.pinned.load(Ordering::Relaxed) > 0;
        if report.log < RESTART_PAGES || pinned {
            return true;
        }
        let shared = self.shared.clone();
        let _turn = shared.writing();
        let Some(report) = self.checkpoint("pragma wal_checkpoint(restart)") else {
            return false;
        };
        self.shared.moved_is(report.moved);
        true
    }

    /// Waits a little, unless the store is being closed.
    fn rest(&self) {
        let until = Instant::now() + RETRY;
        let mut state = self.shared.state.lock();
        while !state.stop && !self.shared.wake.wait_until(&mut state, until).timed_out() {}
    }

    fn checkpoint(&mut self, sql: &str) -> Option<Report> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connector.checkpointer().ok()?,
        };
        let report = connection.query_row(sql, [], |row| {
            let pages = |column| row.get(column).map(|pages: i64| pages.try_into().unwrap_or(0));
            Ok(Report { log: pages(1)?, moved: pages(2)? })
        });
        match report {
            Ok(report) => {
                self.connection = Some(connection);
                Some(report)
            }
            Err(error) => {
                if statement::is_sync_failure(&error) {
                    (self.hooks.sync_failure)(&error.to_string());
                }
                tracing::warn!(%error, "a checkpoint failed; the log grows until one succeeds");
                None
            }
        }
    }
}
