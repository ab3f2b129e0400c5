//! The two engines themselves: read, commit, open, close, and what belongs to one of them. The
//! typed methods on top are tested by the conformance suite.

mod both;
mod postgres;
mod schema;
mod sqlite;

use ligand_protocol::ids::SessionId;
use ligand_storage::{Committed, Store, Touched, Write, params, testing};

const ADD: &str = "insert into meta (key, value) values ($1, $2)";
const GET: &str = "select value from meta where key = $1";
const STEP: &str = "update meta set value = value + 1 where key = $1 and value = $2 returning value";
const BUMP: &str = "update meta set value = value + 1 where key = $1";

/// Runs a test once per engine.
macro_rules! on_both {
    ($($name:ident($store:ident) $body:block)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            for engine in ligand_storage::testing::engines() {
                let $store = ligand_storage::testing::fresh(engine).await;
                $body
            }
        }
    )* };
}
pub(crate) use on_both;

fn postgres_is_tested() -> bool {
    testing::engines().contains(&ligand_storage::Engine::Postgres)
}

async fn add(store: &Store, key: &str, value: i64) {
    let done = store.commit(vec![Write::one(ADD, params![key, value])], Vec::new()).await;
    assert_eq!(done, Ok(Committed::Done(vec![Vec::new()])));
}

async fn get(store: &Store, key: &str) -> Option<i64> {
    let rows = store.read(GET, params![key]).await.expect("a read");
    rows.first().map(|row| row.int(0).expect("an integer"))
}

fn session(byte: u8) -> Touched {
    Touched::Session(SessionId([byte; 16]))
}
