//! Fresh stores for tests, of this crate and of those above it. Not part of the interface.
//!
//! `LIGAND_TEST_POSTGRES` is an administrator's url of a PostgreSQL server on which databases may
//! be created (`postgres://postgres@127.0.0.1:5432/postgres`). Without it every PostgreSQL test
//! fails, unless `LIGAND_TEST_SQLITE_ONLY=1` says that this is meant.

use std::{
    path::PathBuf,
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio_postgres::NoTls;

use crate::{Engine, Store, StoreOptions};

/// The statement of a refresh, for whoever measures the engine beside us.
pub const ROTATE: &str = crate::sessions::ROTATE;

/// A store that disappears with this value.
pub struct TestStore {
    pub store: Store,
    /// Opens the same database again.
    pub url: String,
    _place: Place,
}

impl std::ops::Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

enum Place {
    Directory(PathBuf),
    Database(String),
}

/// The engines that a test runs on.
pub fn engines() -> Vec<Engine> {
    let sqlite_only = std::env::var("LIGAND_TEST_SQLITE_ONLY").is_ok_and(|value| value == "1");
    if sqlite_only { vec![Engine::Sqlite] } else { vec![Engine::Sqlite, Engine::Postgres] }
}

/// A new, empty, migrated store.
pub async fn fresh(engine: Engine) -> TestStore {
    let (place, url) = fresh_place(engine).await;
    let store = Store::open(&StoreOptions::new(&url)).await.expect("a fresh store opens");
    TestStore { store, url, _place: place }
}

/// The url of a database that does not exist yet (SQLite) or is empty (PostgreSQL), and what
/// removes it when dropped.
pub async fn fresh_url(engine: Engine) -> (impl Drop + Send, String) {
    fresh_place(engine).await
}

async fn fresh_place(engine: Engine) -> (Place, String) {
    let name = unique_name();
    match engine {
        Engine::Sqlite => {
            let directory = std::env::temp_dir().join(name);
            let url = format!("sqlite:{}", directory.join("ligand.db").display());
            (Place::Directory(directory), url)
        }
        Engine::Postgres => {
            let admin = admin_url();
            administrate(&admin, &format!("create database {name}")).await;
            let url = with_database(&admin, &name);
            (Place::Database(name), url)
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match self {
            Place::Directory(directory) => {
                let _ = std::fs::remove_dir_all(directory);
            }
            Place::Database(name) => {
                let drop = format!("drop database if exists {name} with (force)");
                // Dropping happens inside a runtime, which must not be blocked on itself.
                let _ = std::thread::spawn(move || {
                    let mut runtime = tokio::runtime::Builder::new_current_thread();
                    let runtime = runtime.enable_all().build().expect("a runtime");
                    runtime.block_on(administrate(&admin_url(), &drop));
                })
                .join();
            }
        }
    }
}

/// Every statement that carries a guard: its module, its name, its text.
#[must_use]
pub fn guarded_statements() -> Vec<(&'static str, &'static str, &'static str)> {
    [
        ("sessions", crate::sessions::GUARDED),
        ("users", crate::users::GUARDED),
        ("devices", crate::devices::GUARDED),
        ("uia", crate::uia::GUARDED),
        ("registration_tokens", crate::registration_tokens::GUARDED),
        ("login_tokens", crate::login_tokens::GUARDED),
        ("openid_tokens", crate::openid_tokens::GUARDED),
        ("expired", crate::expired::GUARDED),
        ("changes", crate::changes::GUARDED),
        ("validations", crate::validations::GUARDED),
        ("threepids", crate::threepids::GUARDED),
        ("outbox", crate::outbox::GUARDED),
    ]
    .into_iter()
    .flat_map(|(module, guarded)| guarded.iter().map(move |(name, sql)| (module, *name, *sql)))
    .collect()
}

fn admin_url() -> String {
    std::env::var("LIGAND_TEST_POSTGRES").expect(
        "LIGAND_TEST_POSTGRES is not set: give the url of a PostgreSQL server for tests, or set \
         LIGAND_TEST_SQLITE_ONLY=1 to leave PostgreSQL untested",
    )
}

async fn administrate(admin: &str, sql: &str) {
    let (client, connection) =
        tokio_postgres::connect(admin, NoTls).await.expect("LIGAND_TEST_POSTGRES is reachable");
    let driver = tokio::spawn(connection);
    client.batch_execute(sql).await.expect("LIGAND_TEST_POSTGRES may create databases");
    drop(client);
    let _ = driver.await;
}

/// The url with another database: the path is replaced, the rest stays.
fn with_database(admin: &str, name: &str) -> String {
    let (address, query) = admin.split_once('?').unwrap_or((admin, ""));
    let host_end = address.find("://").map_or(0, |at| at + 3);
    let path = address[host_end..].find('/').map_or(address.len(), |at| host_end + at);
    let separator = if query.is_empty() { "" } else { "?" };
    format!("{}/{name}{separator}{query}", &address[..path])
}

/// Unique on this machine and on the server, over processes and runs.
fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("ligand_test_{}_{count}_{now:x}", process::id())
}
