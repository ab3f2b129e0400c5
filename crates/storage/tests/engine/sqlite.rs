//! What belongs to SQLite alone: the file, its lock, its log, its copies.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use ligand_storage::{BackupError, Engine, OpenError, OpenMode, Store, StoreOptions, Write, params, testing};

use crate::{BUMP, add, get};

fn path_of(store: &testing::TestStore) -> PathBuf {
    store.url.strip_prefix("sqlite:").expect("a SQLite store").into()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

async fn tool(url: &str) -> Result<Store, OpenError> {
    Store::open(&StoreOptions::new(url).mode(OpenMode::Tool)).await
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let store = testing::fresh(Engine::Sqlite).await;
    add(&store, "a", 1).await;
    let path = path_of(&store);
    for file in ["", "-wal", "-shm", ".lock"] {
        let mode = std::fs::metadata(beside(&path, file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let directory = std::fs::metadata(path.parent().unwrap()).unwrap();
    assert_eq!(directory.permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_second_server_is_refused_until_the_first_has_closed() {
    let store = testing::fresh(Engine::Sqlite).await;
    let second = Store::open(&StoreOptions::new(&store.url)).await;
    assert!(matches!(second, Err(OpenError::InUse { .. })), "{second:?}");
    store.close().await;
    Store::open(&StoreOptions::new(&store.url)).await.unwrap();
}

#[tokio::test]
async fn a_tool_writes_beside_a_server_and_is_noticed() {
    let store = testing::fresh(Engine::Sqlite).await;
    assert!(!store.changed_by_others());
    let tool = tool(&store.url).await.unwrap();
    add(&tool, "a", 1).await;
    assert!(store.changed_by_others());
    assert!(!store.changed_by_others());
    assert_eq!(get(&store, "a").await, Some(1));
    tool.close().await;
    add(&store, "b", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_gets_its_turn_beside_a_busy_server() {
    let store = testing::fresh(Engine::Sqlite).await;
    add(&store, "a", 0).await;
    let tool = tool(&store.url).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.store.clone();
        tasks.spawn(async move {
            for _ in 0..100 {
                store.commit(vec![Write::one(BUMP, params!["a"])], Vec::new()).await.unwrap();
            }
        });
    }
    for key in ["x", "y", "z"] {
        add(&tool, key, 1).await;
    }
    tasks.join_all().await;
    assert_eq!(get(&store, "a").await, Some(800));
}

#[tokio::test]
async fn a_tool_does_not_migrate_under_a_server() {
    let (_place, url) = testing::fresh_url(Engine::Sqlite).await;
    let mut options = StoreOptions::new(&url);
    options.migrate = false;
    let server = Store::open(&options).await.unwrap();
    assert!(server.migrations_status().await.unwrap().iter().all(|m| m.applied_at.is_none()));
    let refused = tool(&url).await;
    assert!(matches!(refused, Err(OpenError::MigrationBesideServer(_))), "{refused:?}");
    server.close().await;
    tool(&url).await.unwrap();
}

#[tokio::test]
async fn a_database_of_something_else_is_left_alone() {
    let (_place, url) = testing::fresh_url(Engine::Sqlite).await;
    let mut options = StoreOptions::new(&url);
    options.migrate = false;
    let store = Store::open(&options).await.unwrap();
    let create = Write::any("create table users (name text)", Vec::new());
    store.commit(vec![create], Vec::new()).await.unwrap();
    store.close().await;
    let refused = Store::open(&StoreOptions::new(&url)).await;
    assert!(matches!(refused, Err(OpenError::Migration { number: 1, .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_batches_shares_one_commit() {
    let store = testing::fresh(Engine::Sqlite).await;
    add(&store, "a", 0).await;
    let before = store.stats();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let store = store.store.clone();
        tasks.spawn(async move {
            store.commit(vec![Write::one(BUMP, params!["a"])], Vec::new()).await.unwrap();
        });
    }
    tasks.join_all().await;
    let after = store.stats();
    assert_eq!(after.batches - before.batches, 200);
    assert!(after.commits - before.commits < 100, "{after:?}");
    assert_eq!(get(&store, "a").await, Some(200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_write_that_hits_several_rows_is_undone_alone() {
    let store = testing::fresh(Engine::Sqlite).await;
    add(&store, "a", 0).await;
    add(&store, "b", 0).await;
    let all = Write::one("update meta set value = value + 100", Vec::new());
    let wrong = store.commit(vec![all], Vec::new());
    let right = store.commit(vec![Write::one(BUMP, params!["a"])], Vec::new());
    let (wrong, right) = tokio::join!(wrong, right);
    assert_eq!(wrong, Ok(ligand_storage::Committed::Conflict { at: 0 }));
    assert!(right.is_ok());
    assert_eq!((get(&store, "a").await, get(&store, "b").await), (Some(1), Some(0)));
}

/// Writes some 100 MiB and watches the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_stays_short_under_steady_writing() {
    let store = testing::fresh(Engine::Sqlite).await;
    let log = beside(&path_of(&store), "-wal");
    let longest = Arc::new(Mutex::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16 {
        let (store, log, longest) = (store.store.clone(), log.clone(), longest.clone());
        tasks.spawn(async move {
            for round in 0..24 {
                let insert = "insert into audit (at, action, detail) values ($1, 'x', $2)";
                let detail = "x".repeat(256 * 1024);
                let write = Write::one(insert, params![task * 1_000 + round, detail]);
                store.commit(vec![write], Vec::new()).await.unwrap();
                let length = std::fs::metadata(&log).unwrap().len();
                let mut longest = longest.lock().unwrap();
                *longest = length.max(*longest);
            }
        });
    }
    tasks.join_all().await;
    let longest = *longest.lock().unwrap();
    assert!(longest <= 64 * 1024 * 1024, "{longest}");
    store.close().await;
    assert!(!log.exists(), "closing moves the log into the database");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_one_snapshot_while_others_write() {
    let store = testing::fresh(Engine::Sqlite).await;
    add(&store, "a", 0).await;
    add(&store, "b", 0).await;
    for filler in 0..50 {
        let insert = "insert into audit (at, action, detail) values ($1, 'x', $2)";
        let write = Write::one(insert, params![filler, "x".repeat(200_000)]);
        store.commit(vec![write], Vec::new()).await.unwrap();
    }
    let writing = {
        let store = store.store.clone();
        tokio::spawn(async move {
            for _ in 0..300 {
                let batch = ["a", "b"].map(|key| Write::one(BUMP, params![key])).to_vec();
                store.commit(batch, Vec::new()).await.unwrap();
            }
        })
    };
    let target = path_of(&store).with_file_name("copy.db");
    let told = Arc::new(Mutex::new(Vec::new()));
    let progress = told.clone();
    let copied = store.backup(&target, move |done, total| progress.lock().unwrap().push((done, total)));
    copied.await.unwrap();
    writing.await.unwrap();

    let told = std::mem::take(&mut *told.lock().unwrap());
    let (done, total) = *told.last().unwrap();
    assert!(told.len() > 1 && done == total && total > 2_000, "{told:?}");
    assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!beside(&target, ".partial").exists());
    let again = store.backup(&target, |_, _| ()).await;
    assert!(matches!(again, Err(BackupError::Exists(_))), "{again:?}");

    let copy = tool(&format!("sqlite:{}", target.display())).await.unwrap();
    assert_eq!(copy.integrity_check().await, Ok(Vec::new()));
    assert_eq!(get(&copy, "a").await, get(&copy, "b").await);
}

#[tokio::test]
async fn an_unknown_file_system_is_refused() {
    let unknown = Store::open(&StoreOptions::new("sqlite:/nowhere?vfs=no_such_vfs")).await;
    assert!(matches!(unknown, Err(OpenError::Store(_))), "{unknown:?}");
}

#[tokio::test]
async fn a_path_that_cannot_be_is_named() {
    let refused = Store::open(&StoreOptions::new("sqlite:/proc/none/ligand.db")).await;
    let Err(OpenError::File { path, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(path, Path::new("/proc/none/ligand.db"));
}
