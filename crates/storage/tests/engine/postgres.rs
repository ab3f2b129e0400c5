//! What belongs to PostgreSQL alone: its settings, lost connections, notifications.

use std::time::Duration;

use ligand_storage::{
    BackupError, Committed, Engine, OpenError, Store, StoreError, StoreOptions, Write, params,
    testing::{self, TestStore},
};

use crate::{BUMP, add, get, postgres_is_tested};

async fn fresh() -> Option<TestStore> {
    match postgres_is_tested() {
        true => Some(testing::fresh(Engine::Postgres).await),
        false => None,
    }
}

async fn execute(store: &Store, sql: &'static str) {
    store.commit(vec![Write::any(sql, Vec::new())], Vec::new()).await.unwrap();
}

const SET: &str = "do $$ begin execute format('alter database %I set ', current_database()) || ";

#[tokio::test]
async fn a_server_that_forgets_commits_is_refused() {
    let Some(store) = fresh().await else { return };
    let set = format!("{SET}'synchronous_commit = off'; end $$");
    execute(&store, set.leak()).await;
    let refused = Store::open(&StoreOptions::new(&store.url)).await;
    assert!(matches!(refused, Err(OpenError::SynchronousCommit(_))), "{refused:?}");
}

#[tokio::test]
async fn a_server_that_cannot_write_is_refused() {
    let Some(store) = fresh().await else { return };
    let set = format!("{SET}'default_transaction_read_only = on'; end $$");
    execute(&store, set.leak()).await;
    let refused = Store::open(&StoreOptions::new(&store.url)).await;
    assert!(matches!(refused, Err(OpenError::Standby)), "{refused:?}");
}

#[tokio::test]
async fn other_defaults_of_the_database_do_not_matter() {
    let Some(store) = fresh().await else { return };
    let set = format!("{SET}'default_transaction_isolation = serializable'; end $$");
    execute(&store, set.leak()).await;
    let again = Store::open(&StoreOptions::new(&store.url)).await.unwrap();
    let level = "select current_setting('transaction_isolation')";
    let rows = again.read(level, Vec::new()).await.unwrap();
    assert_eq!(rows[0].text(0), Ok("read committed"));
    let batch = vec![Write::any(level, Vec::new()), Write::any(level, Vec::new())];
    let Ok(Committed::Done(rows)) = again.commit(batch, Vec::new()).await else { panic!() };
    assert_eq!(rows[1][0].text(0), Ok("read committed"));
}

const KILL_OTHERS: &str = "select pg_terminate_backend(pid) from pg_stat_activity
                           where datname = current_database() and pid <> pg_backend_pid()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_connections_lose_no_answer_and_come_back() {
    let Some(store) = fresh().await else { return };
    for key in ["a", "b"] {
        add(&store, key, 0).await;
    }
    let killer = Store::open(&StoreOptions::new(&store.url)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let store = store.store.clone();
        tasks.spawn(async move {
            let (mut done, mut unknown) = (0, 0);
            for _ in 0..150 {
                // Half of them in autocommit, half in a transaction.
                let mut batch = vec![Write::one(BUMP, params!["a"])];
                if task % 2 == 0 {
                    batch.push(Write::one(BUMP, params!["b"]));
                }
                match store.commit(batch, Vec::new()).await {
                    Ok(Committed::Done(_)) => done += 1,
                    Err(StoreError::Unknown) => unknown += 1,
                    Err(StoreError::Unavailable(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
            (done, unknown)
        });
    }
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let _ = killer.read(KILL_OTHERS, Vec::new()).await;
    }
    let counts = tasks.join_all().await;
    let (done, unknown) = counts.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    // `a` counts every commit: all that were confirmed, and at most the unknown ones besides.
    let counted = get(&store, "a").await.unwrap();
    println!("confirmed {done}, unknown {unknown}, counted {counted}");
    assert!((done..=done + unknown).contains(&counted), "{done} {unknown} {counted}");
    assert!(unknown > 0, "nothing was killed in flight");
    assert!(matches!(
        store.commit(vec![Write::one(BUMP, params!["a"])], Vec::new()).await,
        Ok(Committed::Done(_))
    ));
}

#[tokio::test]
async fn a_statement_after_a_failed_begin_is_refused() {
    let Some(store) = fresh().await else { return };
    add(&store, "a", 0).await;
    // The first statement ends the transaction, as if its BEGIN had not been; what follows must
    // not stand alone.
    let batch = vec![Write::any("rollback", Vec::new()), Write::one(BUMP, params!["a"])];
    let refused = store.commit(batch, Vec::new()).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(get(&store, "a").await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notifying_commit_wakes_other_processes() {
    let Some(store) = fresh().await else { return };
    add(&store, "a", 0).await;
    let other = Store::open(&StoreOptions::new(&store.url)).await.unwrap();
    // The first wake-up says that listening has begun.
    assert!(other.wait_for_notify(Duration::from_secs(5)).await);
    assert!(!other.wait_for_notify(Duration::from_millis(50)).await);
    for _ in 0..3 {
        let batch = vec![Write::one(BUMP, params!["a"])];
        store.commit_notifying(batch, Vec::new()).await.unwrap();
        assert!(other.wait_for_notify(Duration::from_secs(5)).await);
    }
    store.commit(vec![Write::one(BUMP, params!["a"])], Vec::new()).await.unwrap();
    assert!(!other.wait_for_notify(Duration::from_millis(50)).await);
    let conflict = vec![Write::one(BUMP, params!["nobody"])];
    store.commit_notifying(conflict, Vec::new()).await.unwrap();
    assert!(!other.wait_for_notify(Duration::from_millis(50)).await);
    // A lost listener says so by waking, then hears again.
    let _ = store.read(KILL_OTHERS, Vec::new()).await;
    assert!(other.wait_for_notify(Duration::from_secs(5)).await);
    store.commit_notifying(vec![Write::one(BUMP, params!["a"])], Vec::new()).await.unwrap();
    assert!(other.wait_for_notify(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_type_without_a_place_is_refused_before_it_is_run() {
    let Some(store) = fresh().await else { return };
    add(&store, "a", 0).await;
    let numeric = "update meta set value = 9 where key = 'a' returning value::numeric";
    let refused = store.commit(vec![Write::one(numeric, Vec::new())], Vec::new()).await;
    assert!(matches!(refused, Err(StoreError::Rejected(_))), "{refused:?}");
    assert_eq!(get(&store, "a").await, Some(0));
}

#[tokio::test]
async fn backups_are_left_to_its_own_tools() {
    let Some(store) = fresh().await else { return };
    let refused = store.backup(std::path::Path::new("unused"), |_, _| ()).await;
    assert!(matches!(refused, Err(BackupError::UsePgDump)), "{refused:?}");
}

#[tokio::test]
async fn nobody_waits_forever_for_a_connection() {
    let Some(store) = fresh().await else { return };
    let mut options = StoreOptions::new(&store.url);
    options.pool_size = 2;
    options.pool_wait = Duration::from_millis(100);
    let small = Store::open(&options).await.unwrap();
    let slow = small.read("select pg_sleep(1)::text", Vec::new());
    let second = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        small.read("select 1", Vec::new()).await
    };
    let (slow, second) = tokio::join!(slow, second);
    assert!(slow.is_ok(), "{slow:?}");
    assert!(matches!(second, Err(StoreError::Unavailable(_))), "{second:?}");
}
