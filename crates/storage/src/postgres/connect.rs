//! Opening: connections with their settings and checks, pools, migrations.

use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::{Client, Config, Socket, tls::MakeTlsConnect};

use super::{
    statement::{Failure, cause},
    tls::{self, MakeTls},
};
use crate::{
    Engine, OpenError, StoreError, StoreOptions,
    migrate::{self, Applied, Migration},
};

/// Where the url does not say: how long one address may take to answer a connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent peer is asked for a sign of life after this long, not after the usual two hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Sent bytes that nobody acknowledges for this long mean that the connection is gone.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(15);
/// The advisory lock under which migrations run: the letters of "ligand".
const MIGRATION_LOCK: &str = "select pg_advisory_lock(118999041765988)";

/// What a connection may do outside an explicit transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Default {
    ReadWrite,
    ReadOnly,
}

/// Opens connections to one database.
#[derive(Clone)]
pub(super) struct Connector {
    config: Config,
    tls: MakeTls,
}

pub(super) type Connection = tokio_postgres::Connection<Socket, <MakeTls as MakeTlsConnect<Socket>>::Stream>;

impl Connector {
    pub(super) fn new(url: &str, options: &StoreOptions) -> Result<Self, OpenError> {
        let (mut config, tls) = tls::parse(url)?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_keepalives_idle() >= Duration::from_secs(7_200) {
            config.keepalives_idle(KEEPALIVE_IDLE);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(UNACKNOWLEDGED_MAX);
        }
        if config.get_application_name().is_none() {
            config.application_name(&options.application_name);
        }
        Ok(Connector { config, tls })
    }

    /// A connection apart from the pools.
    pub(super) async fn connect(&self) -> Result<(Client, Connection), tokio_postgres::Error> {
        self.config.connect(self.tls.clone()).await
    }

    /// A pool whose every new connection is checked and set up.
    pub(super) fn pool(&self, size: usize, wait: Duration, default: Default) -> Result<Pool, StoreError> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(self.config.clone(), self.tls.clone(), recycling);
        Pool::builder(manager)
            .max_size(size)
            .wait_timeout(Some(wait))
            .create_timeout(Some(wait))
            .recycle_timeout(Some(wait))
            .runtime(Runtime::Tokio1)
            .post_create(Hook::async_fn(move |client, _| {
                Box::pin(async move {
                    set_up(client, default).await.map_err(|error| match error {
                        SetUp::Unfit(error) => HookError::message(error.to_string()),
                        SetUp::Failed(error) => HookError::Backend(error),
                    })
                })
            }))
            .build()
            .map_err(|error| StoreError::unavailable(error.to_string()))
    }

    /// Checks the server with a first connection, then brings the schema up to date under a lock.
    pub(super) async fn check_and_migrate(&self, options: &StoreOptions) -> Result<(), OpenError> {
        let (client, connection) = self.connect().await.map_err(unavailable)?;
        let driver = tokio::spawn(connection);
        let migrated = async {
            set_up(&client, Default::ReadWrite).await.map_err(|error| match error {
                SetUp::Unfit(error) => error,
                SetUp::Failed(error) => unavailable(error),
            })?;
            migrate_schema(&client, options.migrate).await
        }
        .await;
        drop(client);
        let _ = driver.await;
        migrated
    }
}

enum SetUp {
    Unfit(OpenError),
    Failed(tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for SetUp {
    fn from(error: tokio_postgres::Error) -> Self {
        SetUp::Failed(error)
    }
}

/// Refuses a server that would forget what it confirmed, or that cannot write. After a failover the
/// next connection may reach another server, so each connection is asked.
async fn set_up(client: &Client, default: Default) -> Result<(), SetUp> {
    let settings = client
        .query_one(
            "select current_setting('synchronous_commit'), pg_is_in_recovery(),
                    current_setting('transaction_read_only')::boolean,
                    current_setting('server_encoding')",
            &[],
        )
        .await?;
    let synchronous: &str = settings.try_get(0)?;
    if !matches!(synchronous, "on" | "remote_apply" | "remote_write" | "local") {
        return Err(SetUp::Unfit(OpenError::SynchronousCommit(synchronous.to_owned())));
    }
    if settings.try_get(1)? || settings.try_get(2)? {
        return Err(SetUp::Unfit(OpenError::Standby));
    }
    let encoding: &str = settings.try_get(3)?;
    if encoding != "UTF8" {
        return Err(SetUp::Unfit(OpenError::Encoding(encoding.to_owned())));
    }
    let access = match default {
        Default::ReadWrite => "read write",
        Default::ReadOnly => "read only",
    };
    client
        .batch_execute(&format!(
            "set session characteristics as transaction isolation level read committed, {access}"
        ))
        .await?;
    Ok(())
}

/// The lock is released with the connection.
async fn migrate_schema(client: &Client, apply_pending: bool) -> Result<(), OpenError> {
    // Without the lock first: most starts have nothing to do.
    let pending = migrate::pending(&applied(client).await?, Engine::Postgres)?;
    if pending.is_empty() || !apply_pending {
        return Ok(());
    }
    client.batch_execute("set lock_timeout = '60s'").await.map_err(unavailable)?;
    client.batch_execute(MIGRATION_LOCK).await.map_err(unavailable)?;
    client.batch_execute("set client_min_messages = warning").await.map_err(unavailable)?;
    client.batch_execute(migrate::CREATE_RECORD).await.map_err(unavailable)?;
    for migration in migrate::pending(&applied(client).await?, Engine::Postgres)? {
        apply(client, migration).await.map_err(|error| OpenError::Migration {
            number: migration.number,
            name: migration.name,
            cause: Failure::from(error).into_error(),
        })?;
    }
    Ok(())
}

async fn applied(client: &Client) -> Result<Vec<Applied>, OpenError> {
    let known = client
        .query_one("select to_regclass('migrations') is not null", &[])
        .await
        .and_then(|row| row.try_get::<_, bool>(0));
    if !known.map_err(unavailable)? {
        return Ok(Vec::new());
    }
    let rows = client.query(migrate::READ_RECORD, &[]).await.map_err(unavailable)?;
    let applied = rows.iter().map(|row| {
        Ok(Applied {
            number: row.try_get(0)?,
            name: row.try_get(1)?,
            checksum: row.try_get(2)?,
            applied_at: row.try_get(3)?,
        })
    });
    applied.collect::<Result<_, tokio_postgres::Error>>().map_err(unavailable)
}

/// One migration and its record, in one transaction.
async fn apply(client: &Client, migration: &Migration) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("begin").await?;
    client.batch_execute(migration.sql(Engine::Postgres)).await?;
    client
        .execute(
            "insert into migrations (number, name, checksum, applied_at) values
             ($1, $2, $3, (extract(epoch from clock_timestamp()) * 1000)::bigint)",
            &[&migration.number, &migration.name, &migration.checksum(Engine::Postgres)],
        )
        .await?;
    client.batch_execute("commit").await
}

fn unavailable(error: tokio_postgres::Error) -> OpenError {
    OpenError::Store(StoreError::Unavailable(cause(&error)))
}
