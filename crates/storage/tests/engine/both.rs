//! What both engines must do alike.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use ligand_protocol::ids::UserKey;
use ligand_storage::{Committed, Store, StoreError, StoreOptions, Touched, Value, Write, params};

use crate::{ADD, BUMP, GET, STEP, add, get, on_both, session};

const AUDIT: &str = "insert into audit (at, action, user_id, session_id, detail)
                     values ($1, $2, $3, $4, $5)";

fn record(store: &Store) -> Arc<Mutex<Vec<Touched>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hook = seen.clone();
    store.on_committed(Arc::new(move |touched| hook.lock().unwrap().extend_from_slice(touched)));
    seen
}

on_both! {
    values_come_back_as_they_went_in(store) {
        let text = "ünï' \" $1 ?1 \u{1F511}";
        let blob: Vec<u8> = (0..=255).collect();
        for (at, action, user, session, detail) in [
            (i64::MIN, "", Some(i64::MAX), Some(blob), Some(text)),
            (-1, text, None, None, None),
            (i64::MAX, "x", Some(0), Some(Vec::new()), Some("")),
        ] {
            let write = Write::one(AUDIT, params![at, action, user, session.clone(), detail]);
            store.commit(vec![write], Vec::new()).await.unwrap();
            let rows = store.read(
                "select at, action, user_id, session_id, detail from audit order by id desc limit 1",
                Vec::new(),
            ).await.unwrap();
            assert_eq!(rows[0].int(0), Ok(at));
            assert_eq!(rows[0].text(1), Ok(action));
            assert_eq!(rows[0].opt_int(2), Ok(user));
            assert_eq!(rows[0].opt_blob(3), Ok(session.as_deref()));
            assert_eq!(rows[0].opt_text(4), Ok(detail));
            assert!(matches!(rows[0].int(1), Err(StoreError::Corrupt(_))));
            assert!(matches!(rows[0].int(9), Err(StoreError::Corrupt(_))));
        }
    }

    a_batch_is_all_or_nothing(store) {
        add(&store, "a", 1).await;
        let batch = |guard: i64| vec![
            Write::any(BUMP, params!["nobody"]),
            Write::one(ADD, params!["b", 7]),
            Write::one(STEP, params!["a", guard]),
            Write::one(GET, params!["b"]),
        ];
        let seen = record(&store);
        let stale = store.commit(batch(5), vec![session(1)]).await;
        assert_eq!(stale, Ok(Committed::Conflict { at: 2 }));
        assert_eq!((get(&store, "a").await, get(&store, "b").await), (Some(1), None));
        assert!(seen.lock().unwrap().is_empty(), "a conflict is not published");

        let done = store.commit(batch(1), vec![session(1), Touched::User(UserKey(3))]).await.unwrap();
        let Committed::Done(rows) = done else { panic!("{done:?}") };
        assert_eq!(rows.len(), 4);
        assert_eq!((rows[2][0].int(0), rows[3][0].int(0)), (Ok(2), Ok(7)));
        assert_eq!((get(&store, "a").await, get(&store, "b").await), (Some(2), Some(7)));
        assert_eq!(*seen.lock().unwrap(), [session(1), Touched::User(UserKey(3))]);
    }

    one_statement_that_meets_no_row_is_a_conflict(store) {
        add(&store, "a", 1).await;
        let write = |guard: i64| vec![Write::one(STEP, params!["a", guard])];
        assert_eq!(store.commit(write(2), Vec::new()).await, Ok(Committed::Conflict { at: 0 }));
        let done = store.commit(write(1), Vec::new()).await;
        assert_eq!(done, Ok(Committed::Done(vec![vec![ligand_storage::Row::new(vec![Value::Int(2)])]])));
    }

    a_taken_key_is_a_conflict(store) {
        add(&store, "a", 1).await;
        let alone = store.commit(vec![Write::one(ADD, params!["a", 2])], Vec::new()).await;
        assert_eq!(alone, Ok(Committed::Conflict { at: 0 }));
        let batch = vec![Write::one(BUMP, params!["a"]), Write::any(ADD, params!["a", 2])];
        let among = store.commit(batch, Vec::new()).await;
        assert_eq!(among, Ok(Committed::Conflict { at: 1 }));
        assert_eq!(get(&store, "a").await, Some(1));
    }

    several_rows_where_one_is_expected_stay_unchanged_in_a_batch(store) {
        add(&store, "a", 1).await;
        add(&store, "b", 1).await;
        const ALL: &str = "update meta set value = value + 1";
        let batch = vec![Write::one(BUMP, params!["a"]), Write::one(ALL, Vec::new())];
        assert_eq!(store.commit(batch, Vec::new()).await, Ok(Committed::Conflict { at: 1 }));
        assert_eq!((get(&store, "a").await, get(&store, "b").await), (Some(1), Some(1)));
    }

    an_empty_batch_is_done(store) {
        assert_eq!(store.commit(Vec::new(), Vec::new()).await, Ok(Committed::Done(Vec::new())));
    }

    a_refused_statement_fails_its_own_batch_only(store) {
        add(&store, "a", 1).await;
        let wrong = [
            vec![Write::one("update no_such_table set x = 1", Vec::new())],
            vec![Write::one(BUMP, params!["a"]), Write::one("insert into meta (key) values ($1)", params!["z"])],
            vec![Write::one("insert into meta (key) values ($1)", params!["z"])],
            vec![Write::one(BUMP, params!["a", "one too many"])],
            vec![Write::one(ADD, params!["z", "not a number"])],
        ];
        for batch in wrong {
            let good = store.commit(vec![Write::one(BUMP, params!["a"])], Vec::new());
            let bad = store.commit(batch.clone(), Vec::new());
            let (good, bad) = tokio::join!(good, bad);
            assert!(matches!(good, Ok(Committed::Done(_))), "{good:?}");
            assert!(matches!(bad, Err(StoreError::Rejected(_))), "{batch:?}: {bad:?}");
        }
        assert_eq!(get(&store, "a").await, Some(6));
        assert!(matches!(store.read("select nothing", Vec::new()).await, Err(StoreError::Rejected(_))));
        assert_eq!(get(&store, "a").await, Some(6));
    }

    a_read_cannot_write(store) {
        add(&store, "a", 1).await;
        let written = store.read(STEP, params!["a", 1]).await;
        assert!(written.is_err(), "{written:?}");
        assert_eq!(get(&store, "a").await, Some(1));
    }

    a_caller_that_goes_away_does_not_stop_its_commit(store) {
        add(&store, "a", 0).await;
        let seen = record(&store);
        for _ in 0..50 {
            let commit = store.commit(vec![Write::one(BUMP, params!["a"])], vec![session(2)]);
            // Polled once, then dropped.
            let _ = tokio::time::timeout(Duration::ZERO, commit).await;
        }
        store.close().await;
        let again = Store::open(&StoreOptions::new(&store.url)).await.unwrap();
        assert_eq!(get(&again, "a").await, Some(50));
        assert_eq!(seen.lock().unwrap().len(), 50);
    }

    the_hook_has_seen_what_is_answered(store) {
        add(&store, "a", 0).await;
        let seen = record(&store);
        for _ in 0..20 {
            let before = seen.lock().unwrap().len();
            let batch = vec![Write::one(BUMP, params!["a"]), Write::one(BUMP, params!["a"])];
            store.commit(batch, vec![session(3)]).await.unwrap();
            assert_eq!(seen.lock().unwrap().len(), before + 1);
        }
    }

    a_guard_lets_one_of_many_pass(store) {
        add(&store, "a", 0).await;
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..16 {
            let store = store.store.clone();
            tasks.spawn(async move {
                let mut won = 0;
                for value in 0..20_i64 {
                    // Half of them as one statement, half as a batch.
                    let mut batch = vec![Write::one(STEP, params!["a", value])];
                    if task % 2 == 0 {
                        batch.push(Write::any(BUMP, params!["nobody"]));
                    }
                    won += i64::from(matches!(
                        store.commit(batch, Vec::new()).await.unwrap(),
                        Committed::Done(_)
                    ));
                    while get(&store, "a").await.unwrap() <= value {}
                }
                won
            });
        }
        let won: i64 = tasks.join_all().await.into_iter().sum();
        assert_eq!((won, get(&store, "a").await), (20, Some(20)));
    }

    opposite_lock_orders_are_settled_inside(store) {
        for key in ["a", "b"] {
            add(&store, key, 0).await;
        }
        let mut tasks = tokio::task::JoinSet::new();
        // Few: PostgreSQL looks for a deadlock after a second only.
        for task in 0..4 {
            let store = store.store.clone();
            let keys = if task % 2 == 0 { ["a", "b"] } else { ["b", "a"] };
            tasks.spawn(async move {
                for _ in 0..3 {
                    let batch = keys.map(|key| Write::one(BUMP, params![key])).to_vec();
                    let done = store.commit(batch, Vec::new()).await;
                    assert!(matches!(done, Ok(Committed::Done(_))), "{done:?}");
                }
            });
        }
        tasks.join_all().await;
        assert_eq!((get(&store, "a").await, get(&store, "b").await), (Some(12), Some(12)));
    }

    a_closed_store_refuses(store) {
        add(&store, "a", 1).await;
        assert!(store.healthy().await);
        store.close().await;
        store.close().await;
        assert!(!store.healthy().await);
        let commit = store.commit(vec![Write::one(BUMP, params!["a"])], Vec::new()).await;
        assert!(matches!(commit, Err(StoreError::Unavailable(_))), "{commit:?}");
        let read = store.read(GET, params!["a"]).await;
        assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
    }

    commits_are_counted_and_observed(store) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let observer = seen.clone();
        store.observe_commits(Arc::new(move |commit| observer.lock().unwrap().push(commit)));
        add(&store, "a", 1).await;
        let batch = vec![Write::one(BUMP, params!["a"]), Write::one(BUMP, params!["a"])];
        store.commit(batch, Vec::new()).await.unwrap();
        store.close().await;
        let seen = seen.lock().unwrap();
        let counts: Vec<_> = seen.iter().map(|commit| (commit.batches, commit.writes)).collect();
        assert_eq!(counts, [(1, 1), (1, 2)]);
        assert!(seen.iter().all(|commit| commit.microseconds > 0));
        let stats = store.stats();
        assert_eq!((stats.commits, stats.batches, stats.queue_depth), (2, 2, 0));
    }

    a_sound_database_has_no_problems(store) {
        add(&store, "a", 1).await;
        assert_eq!(store.integrity_check().await, Ok(Vec::new()));
    }

    waiting_for_news_ends_in_time(store) {
        let waited = tokio::time::timeout(Duration::from_secs(5), async {
            while store.wait_for_notify(Duration::from_millis(10)).await {}
        });
        assert!(waited.await.is_ok());
    }
}

#[test]
fn debug_shows_no_contents() {
    let values = params!["secret", vec![7_u8; 3], 123_456, None::<i64>];
    assert_eq!(format!("{values:?}"), "[text(6), bytes(3), integer, null]");
    let options = StoreOptions::new("postgres://u:secret@h/d");
    assert!(!format!("{options:?}").contains("secret"));
}

#[tokio::test]
async fn an_address_that_is_none_is_refused() {
    for url in ["", "mysql://h/d", "sqlite:", "sqlite::memory:", "postgres://h/d?sslmode=never"] {
        assert!(Store::open(&StoreOptions::new(url)).await.is_err(), "{url}");
    }
}
