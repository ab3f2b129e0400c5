//! The whole server over HTTP: modules mirror the URLs, each test reads like the specification.
//!
//! `harness` starts a real server on a real listener, with a clock that the test turns and a
//! database of its own, once on each engine; PostgreSQL as `ligand_storage::testing` says
//! (`LIGAND_TEST_POSTGRES`, or `LIGAND_TEST_SQLITE_ONLY=1` to leave it out). Nothing is mocked.
//! Rate limits are off but where they are the topic. `urls` fails when an endpoint is missing from
//! the table of routes, or answers without an access token where it needs one. The rules alone are
//! tested in `ligand-protocol`, the statements in `ligand-storage`.

mod account;
mod admin;
mod application_services;
mod auth_fallback;
mod beside;
mod bodies;
mod capabilities;
mod clock;
mod cors;
mod delete_devices;
mod devices;
mod harness;
mod health;
mod limits;
mod locked;
mod login;
mod login_fallback;
mod login_token;
mod logout;
mod mail;
mod oauth_sessions;
mod openapi;
mod openid;
mod query_token;
mod refresh;
mod register;
mod standing;
mod storage_trouble;
mod threepids;
mod tokenrefresh;
mod urls;
mod versions;
mod well_known;

/// Makes two tests of each function: one on SQLite, one on PostgreSQL, each with a server of its
/// own.
macro_rules! both {
    ($(async fn $name:ident($server:ident: $kind:ty) $body:block)*) => { $(
        mod $name {
            #[allow(unused_imports, reason = "not every body needs what the others do")]
            use super::*;

            async fn run($server: $kind) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                run(<$kind>::start(ligand_storage::Engine::Sqlite).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                let engine = ligand_storage::Engine::Postgres;
                if ligand_storage::testing::engines().contains(&engine) {
                    run(<$kind>::start(engine).await).await;
                }
            }
        }
    )* };
}
pub(crate) use both;
