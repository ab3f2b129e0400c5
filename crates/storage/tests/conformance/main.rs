//! The typed methods of storage, each on both engines.
//!
//! `world` makes accounts, sign-ins and raw rows; the other modules hold one subject each. `rules`
//! holds the statements against the state machine over random rows, `guards` removes each term of
//! each guard and shows what goes wrong, `races` and `storm` look for interleavings that must not
//! be. The engines themselves are tested in the binary beside this one.

mod accounts;
mod endings;
mod feed;
mod guards;
mod live;
mod login_tokens;
mod openid_tokens;
mod outbox;
mod passwords;
mod processes;
mod races;
mod registration_tokens;
mod rules;
mod sessions;
mod storm;
mod threepids;
mod uia;
mod upkeep;
mod world;

/// Makes one test per engine of a body that is given a fresh store.
macro_rules! on_both {
    ($($name:ident($store:ident) $body:block)*) => { $(
        mod $name {
            #[allow(unused_imports, reason = "not every body needs what the others do")]
            use super::*;

            async fn run($store: ligand_storage::testing::TestStore) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                run(ligand_storage::testing::fresh(ligand_storage::Engine::Sqlite).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                if crate::world::postgres_is_tested() {
                    run(ligand_storage::testing::fresh(ligand_storage::Engine::Postgres).await).await;
                }
            }
        }
    )* };
}
pub(crate) use on_both;
