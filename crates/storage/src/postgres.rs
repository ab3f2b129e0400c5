//! PostgreSQL: two small pools, prepared statements, one pipelined transaction per batch.
//!
//! A batch of one statement runs in autocommit; a longer one sends BEGIN and all its statements at
//! once, looks at the row counts, then sends COMMIT or ROLLBACK. Commits run in tasks of their own,
//! so a caller that goes away cannot cut one short. `connect` opens and checks connections, `tls`
//! reads the address, `listen` keeps the connection that hears NOTIFY, `statement` runs one
//! statement, `batch` runs a batch.
//!
//! The address is a libpq url. Besides what `tokio_postgres` documents (`user`, `password`,
//! `dbname`, `host`, `port`, `connect_timeout`, `keepalives…`, `target_session_attrs`, …) it takes
//! `sslmode` and `sslrootcert`; see `tls` for what they mean, and for the default, which is safe.

mod batch;
mod connect;
mod listen;
mod statement;
mod tls;

use std::{sync::Arc, time::Duration};

use deadpool_postgres::{Object, Pool, PoolError};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::{Committed, OpenError, Row, StoreError, StoreOptions, Touched, Value, Write, options::Hooks};
use connect::Connector;
use listen::Listener;

/// A statement that takes longer is given up, and its connection with it.
const STATEMENT_TIME_MAX: Duration = Duration::from_secs(10);

/// An open PostgreSQL database.
pub(crate) struct Postgres {
    shared: Arc<Shared>,
    connector: Connector,
    listener: Mutex<Option<Arc<Listener>>>,
}

/// What a commit task needs beyond the life of a request.
pub(super) struct Shared {
    /// For single statements that write, in autocommit.
    writing: Pool,
    /// For reads and for transactions: read-only by default, so that a statement of a batch whose
    /// BEGIN failed is refused instead of standing alone.
    guarded: Pool,
    hooks: Arc<Hooks>,
    announce: listen::Announce,
    under_way: UnderWay,
}

impl Postgres {
    pub(crate) async fn open(
        url: &str,
        options: &StoreOptions,
        hooks: Arc<Hooks>,
    ) -> Result<Self, OpenError> {
        let connector = Connector::new(url, options)?;
        connector.check_and_migrate(options).await?;
        // Commits that wait for the disk together share its time, so every connection that refreshes
        // lack makes all of them slower: the others come on top.
        let writing_size = options.pool_size.max(1);
        let guarded_size = options.pool_size.div_ceil(2).max(1);
        let shared = Arc::new(Shared {
            writing: connector.pool(writing_size, options.pool_wait, connect::Default::ReadWrite)?,
            guarded: connector.pool(guarded_size, options.pool_wait, connect::Default::ReadOnly)?,
            hooks,
            announce: listen::Announce::default(),
            under_way: UnderWay::default(),
        });
        Ok(Postgres { shared, connector, listener: Mutex::new(None) })
    }

    pub(crate) async fn read(&self, sql: &'static str, params: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let client = take(&self.shared.guarded).await?;
        let read = async {
            let prepared = statement::prepare(&client, sql).await?;
            Ok(statement::run(&client, &prepared, &params).await?.rows)
        };
        let answer = tokio::time::timeout(STATEMENT_TIME_MAX, read).await;
        let answer = answer.unwrap_or(Err(statement::Failure::TimedOut));
        answer.map_err(|failure| {
            give_up(client);
            failure.into_error()
        })
    }

    pub(crate) async fn commit(
        &self,
        writes: Vec<Write>,
        touched: Vec<Touched>,
        notify: bool,
    ) -> Result<Committed, StoreError> {
        if writes.is_empty() {
            return Ok(Committed::Done(Vec::new()));
        }
        let (reply, answer) = oneshot::channel();
        let shared = self.shared.clone();
        let ticket = shared.under_way.enter()?;
        tokio::spawn(async move {
            let _ticket = ticket;
            shared.hooks.live.hold(&touched);
            let outcome = batch::commit(&shared, &writes).await;
            shared.hooks.live.release(&touched);
            if matches!(outcome, Ok(Committed::Done(_)) | Err(StoreError::Unknown)) {
                shared.hooks.committed(&touched);
            }
            let done = matches!(outcome, Ok(Committed::Done(_)));
            let _ = reply.send(outcome);
            if notify && done {
                shared.announce.announce(&shared.writing).await;
            }
        });
        // A task that dies has not said whether it committed.
        answer.await.map_err(|_| StoreError::Unknown)?
    }

    pub(crate) async fn healthy(&self) -> bool {
        let ping = self.read("select 1", Vec::new());
        matches!(tokio::time::timeout(Duration::from_secs(2), ping).await, Ok(Ok(_)))
    }

    pub(crate) fn queue_depth(&self) -> usize {
        self.shared.under_way.count()
    }

    /// Waits for NOTIFY; the listening connection is opened by the first call.
    pub(crate) async fn wait_for_notify(&self, timeout: Duration) -> bool {
        let listener = self
            .listener
            .lock()
            .get_or_insert_with(|| Arc::new(Listener::start(self.connector.clone())))
            .clone();
        tokio::time::timeout(timeout, listener.heard()).await.is_ok()
    }

    /// Indexes that PostgreSQL itself holds for invalid, and constraints it has not checked. What
    /// lies deeper is for `pg_amcheck`.
    pub(crate) async fn integrity_check(&self) -> Result<Vec<String>, StoreError> {
        let rows = self
            .read(
                "select 'index ' || indexrelid::regclass::text || ' is not valid'
                   from pg_index where not indisvalid
                 union all
                 select 'constraint ' || conname || ' is not validated'
                   from pg_constraint where not convalidated",
                Vec::new(),
            )
            .await?;
        rows.iter().map(|row| row.text(0).map(str::to_owned)).collect()
    }

    /// Lets what is under way finish, then closes all connections.
    pub(crate) async fn close(&self) {
        self.shared.under_way.close().await;
        self.listener.lock().take();
        self.shared.writing.close();
        self.shared.guarded.close();
    }
}

/// A connection from the pool.
async fn take(pool: &Pool) -> Result<Object, StoreError> {
    pool.get().await.map_err(|error| match error {
        PoolError::Timeout(_) => StoreError::unavailable("no connection to PostgreSQL in time"),
        PoolError::Backend(error) => StoreError::Unavailable(statement::cause(&error)),
        PoolError::Closed => StoreError::unavailable("the store is closed"),
        PoolError::PostCreateHook(error) => StoreError::unavailable(error.to_string()),
        PoolError::NoRuntimeSpecified => StoreError::unavailable("no runtime"),
    })
}

/// Closes a connection instead of giving it back: it may be in the middle of something.
fn give_up(client: Object) {
    drop(Object::take(client));
}

/// Commits under way, so that closing can wait for them.
#[derive(Default)]
pub(super) struct UnderWay(Arc<Tickets>);

#[derive(Default)]
struct Tickets {
    state: Mutex<TicketState>,
    left: Notify,
}

#[derive(Default)]
struct TicketState {
    count: usize,
    closed: bool,
}

/// More commits under way are refused; the pool would let them wait in vain.
const UNDER_WAY_MAX: usize = 8_192;

impl UnderWay {
    fn enter(&self) -> Result<Ticket, StoreError> {
        let mut state = self.0.state.lock();
        if state.closed {
            return Err(StoreError::unavailable("the store is closed"));
        }
        if state.count >= UNDER_WAY_MAX {
            return Err(StoreError::unavailable("too many requests wait for the database"));
        }
        state.count += 1;
        Ok(Ticket(self.0.clone()))
    }

    fn count(&self) -> usize {
        self.0.state.lock().count
    }

    async fn close(&self) {
        self.0.state.lock().closed = true;
        loop {
            let left = self.0.left.notified();
            tokio::pin!(left);
            // Registered before looking, so that the last one to leave is not missed.
            left.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            left.await;
        }
    }
}

struct Ticket(Arc<Tickets>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.state.lock().count -= 1;
        self.0.left.notify_waiters();
    }
}
