//! The schema: alike on both engines, recorded, protected against programs of another version.

use std::collections::BTreeSet;

use ligand_storage::{Engine, OpenError, Store, StoreError, StoreOptions, Write, params, testing};

use crate::{on_both, postgres_is_tested};

const COLUMNS_SQLITE: &str = "select m.name || '.' || c.name || ' ' ||
        case c.type when 'INTEGER' then 'bigint' when 'bigint' then 'bigint'
                    when 'BLOB' then 'bytea' else lower(c.type) end || ' ' ||
        case when c.\"notnull\" = 1 then 'not null' else '' end
   from sqlite_schema m, pragma_table_info(m.name) c
  where m.type = 'table' and m.name not like 'sqlite_%'";
const COLUMNS_POSTGRES: &str = "select table_name || '.' || column_name || ' ' || data_type || ' ' ||
        case when is_nullable = 'NO' then 'not null' else '' end
   from information_schema.columns where table_schema = 'public'";

async fn columns(store: &Store, sql: &'static str) -> BTreeSet<String> {
    let rows = store.read(sql, Vec::new()).await.unwrap();
    let mut columns: BTreeSet<_> = rows.iter().map(|row| row.text(0).unwrap().to_owned()).collect();
    // An autoincrementing key is implicitly not null on SQLite.
    for table in ["audit", "outbox"] {
        if columns.remove(&format!("{table}.id bigint ")) {
            columns.insert(format!("{table}.id bigint not null"));
        }
    }
    columns
}

#[tokio::test]
async fn tables_and_columns_are_the_same_on_both_engines() {
    if !postgres_is_tested() {
        return;
    }
    let sqlite = testing::fresh(Engine::Sqlite).await;
    let postgres = testing::fresh(Engine::Postgres).await;
    let here = columns(&sqlite, COLUMNS_SQLITE).await;
    let there = columns(&postgres, COLUMNS_POSTGRES).await;
    assert_eq!(here, there);
    assert!(here.len() > 80, "{}", here.len());
}

on_both! {
    every_migration_is_applied_once(store) {
        let status = store.migrations_status().await.unwrap();
        assert!(!status.is_empty());
        assert!(status.iter().all(|migration| migration.applied_at > Some(1_600_000_000_000)));
        store.close().await;
        let again = Store::open(&StoreOptions::new(&store.url)).await.unwrap();
        assert_eq!(again.migrations_status().await.unwrap(), status);
    }

    a_newer_schema_is_refused(store) {
        let newer = "insert into migrations (number, name, checksum, applied_at)
                     values (9999, 'later', '', 0)";
        store.commit(vec![Write::one(newer, Vec::new())], Vec::new()).await.unwrap();
        store.close().await;
        let mut options = StoreOptions::new(&store.url);
        for migrate in [true, false] {
            options.migrate = migrate;
            let refused = Store::open(&options).await;
            assert!(matches!(refused, Err(OpenError::Newer { number: 9999, .. })), "{refused:?}");
        }
    }

    a_changed_migration_is_refused(store) {
        let changed = "update migrations set checksum = 'x' where number = $1";
        store.commit(vec![Write::one(changed, params![1])], Vec::new()).await.unwrap();
        store.close().await;
        let refused = Store::open(&StoreOptions::new(&store.url)).await;
        assert!(matches!(refused, Err(OpenError::Changed { number: 1, .. })), "{refused:?}");
    }

    audit_rows_stay(store) {
        let insert = "insert into audit (at, action) values ($1, $2)";
        store.commit(vec![Write::one(insert, params![1, "a"])], Vec::new()).await.unwrap();
        for sql in ["update audit set action = 'b'", "delete from audit"] {
            for writes in [1, 2] {
                let batch = vec![Write::any(sql, Vec::new()); writes];
                let refused = store.commit(batch, Vec::new()).await;
                assert!(matches!(refused, Err(StoreError::Rejected(_))), "{refused:?}");
            }
        }
        let rows = store.read("select action from audit", Vec::new()).await.unwrap();
        assert_eq!(rows[0].text(0), Ok("a"));
    }

    one_live_session_per_device(store) {
        let insert = "insert into sessions (session_id, user_id, user_epoch, device_id, api,
              status, gen, acked_gen, head_at, rt_exp, session_exp, at_hash, at_exp, created_at, last_seen)
            values ($1, 1, 0, $2, 0, $3, 0, 0, 0, 0, 0, $1, 0, 0, 0)";
        let add = async |id: u8, device: &str, status: i64| {
            let write = Write::one(insert, params![[id; 16], device, status]);
            store.commit(vec![write], Vec::new()).await.unwrap()
        };
        use ligand_storage::Committed::{Conflict, Done};
        assert!(matches!(add(1, "A", 0).await, Done(_)));
        assert!(matches!(add(2, "A", 1).await, Done(_)));
        assert!(matches!(add(3, "B", 0).await, Done(_)));
        assert_eq!(add(4, "A", 0).await, Conflict { at: 0 });
    }
}

#[tokio::test]
async fn many_processes_may_start_at_once() {
    for engine in testing::engines() {
        let (_place, url) = testing::fresh_url(engine).await;
        let mut options = StoreOptions::new(&url);
        if engine == Engine::Sqlite {
            options.mode = ligand_storage::OpenMode::Tool;
        }
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let options = options.clone();
            tasks.spawn(async move { Store::open(&options).await });
        }
        for opened in tasks.join_all().await {
            opened.unwrap();
        }
    }
}
