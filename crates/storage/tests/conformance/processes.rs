//! Several processes on one database: what one ends, the other forgets.

use std::time::Duration;

use ligand_protocol::session::{CheckVerdict, Door, EndReason, Spending};
use ligand_storage::testing::TestStore;
use ligand_storage::users::Flag;
use ligand_storage::{Engine, Store, StoreOptions, Touched, testing};

use crate::feed::beside;
use crate::on_both;
use crate::world::*;

/// A poll as upkeep makes it.
async fn poll(store: &Store, seq: &mut i64) -> Vec<Touched> {
    let began = store.live().poll_begins();
    let mut changes = Vec::new();
    if store.changed_by_others() {
        let poll = store.poll_feed(*seq).await.unwrap();
        assert!(!poll.gap && !poll.full);
        store.live().forget(&poll.changes);
        *seq = poll.seq;
        changes = poll.changes;
    }
    store.live().polled(began);
    changes
}

/// What memory alone says, as long as the lease lasts; on a slow machine it would not.
async fn remembered(store: &Store, held: &Held) -> Option<CheckVerdict> {
    store.live().polled(store.live().poll_begins());
    let entry = store.live().get(held.id)?;
    Some(entry.session().check(entry.user.owner, &held.access_token(), NOW))
}

async fn remember(store: &Store, held: &Held) {
    store.reread_session(held.id).await.unwrap().unwrap();
    assert_eq!(remembered(store, held).await, Some(CheckVerdict::Ok));
}

/// What a tool or another server does, with what the server must forget of it.
async fn changes_are_followed(server: &TestStore, other: &Store) {
    let user = add_user(server, "alice").await;
    let phone = sign_in(server, user, "A").await;
    let laptop = sign_in(server, user, "B").await;
    let mut seq = server.feed_head().await.unwrap();
    poll(server, &mut seq).await;

    remember(server, &phone).await;
    let next = rotate(other, &phone, Door::TokenRefresh, Spending::Head).await.unwrap();
    // Until the poll the old token passes here: that is what the lease bounds.
    assert_eq!(remembered(server, &phone).await, Some(CheckVerdict::Ok));
    assert_eq!(poll(server, &mut seq).await, [Touched::Session(phone.id)]);
    assert_eq!(remembered(server, &phone).await, None);

    remember(server, &next).await;
    remember(server, &laptop).await;
    let ended =
        other.end_with_device(next.id, user, Some(&next.device), EndReason::Admin, &event("admin")).await;
    assert_eq!(ended, Ok(true));
    assert_eq!(poll(server, &mut seq).await, [Touched::Session(phone.id)]);
    assert_eq!(remembered(server, &next).await, None);
    assert_eq!(remembered(server, &laptop).await, Some(CheckVerdict::Ok));

    assert_eq!(other.set_flag(user, Flag::Lock, &event("lock")).await, Ok(true));
    assert_eq!(poll(server, &mut seq).await, [Touched::User(user)]);
    assert_eq!(remembered(server, &laptop).await, None);

    assert_eq!(other.set_flag(user, Flag::Unlock, &event("unlock")).await, Ok(true));
    poll(server, &mut seq).await;
    remember(server, &laptop).await;
    let epoch = load_user(other, user).await.epoch;
    assert_eq!(other.end_all_of(user, epoch, EndReason::Admin, &event("admin")).await, Ok(true));
    assert_eq!(poll(server, &mut seq).await, [Touched::User(user)]);
    assert_eq!(remembered(server, &laptop).await, None);
    assert!(poll(server, &mut seq).await.is_empty());
}

on_both! {
    a_server_follows_a_command_beside_it(store) {
        let tool = beside(&store).await;
        changes_are_followed(&store, &tool).await;
        tool.close().await;
    }

    a_quiet_database_has_not_changed(store) {
        if store.engine() == Engine::Sqlite {
            let tool = beside(&store).await;
            let user = add_user(&store, "alice").await;
            let _ = store.changed_by_others();
            assert!(!store.changed_by_others());
            assert_eq!(tool.set_flag(user, Flag::Lock, &event("lock")).await, Ok(true));
            assert!(store.changed_by_others());
            assert!(!store.changed_by_others());
        } else {
            assert!(store.changed_by_others(), "always a reason to look");
        }
    }

    one_server_on_sqlite_announces_nothing(store) {
        let user = add_user(&store, "alice").await;
        let held = sign_in(&store, user, "A").await;
        assert_eq!(store.end_family(held.id, &event("reuse")).await, Ok(true));
        let announced = if store.engine() == Engine::Sqlite { 0 } else { 2 };
        assert_eq!(store.feed_head().await, Ok(announced), "nobody else could hold it in memory");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_postgres_follow_each_other() {
    if !postgres_is_tested() {
        return;
    }
    let store = testing::fresh(Engine::Postgres).await;
    let other = Store::open(&StoreOptions::new(&store.url)).await.unwrap();
    changes_are_followed(&store, &other).await;

    // And back: what the first ends, the second forgets.
    let user = add_user(&store, "bob").await;
    let held = sign_in(&store, user, "A").await;
    let mut seq = other.feed_head().await.unwrap();
    poll(&other, &mut seq).await;
    remember(&other, &held).await;
    assert_eq!(store.end_family(held.id, &event("reuse")).await, Ok(true));
    assert_eq!(poll(&other, &mut seq).await, [Touched::Session(held.id)]);
    assert_eq!(remembered(&other, &held).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ending_wakes_the_other_server() {
    if !postgres_is_tested() {
        return;
    }
    let store = testing::fresh(Engine::Postgres).await;
    let other = Store::open(&StoreOptions::new(&store.url)).await.unwrap();
    let user = add_user(&store, "alice").await;
    let mut held = sign_in(&store, user, "A").await;
    // The first call opens the connection that listens; it reports itself once.
    let quiet = async || while other.wait_for_notify(Duration::from_millis(300)).await {};
    assert!(other.wait_for_notify(Duration::from_secs(5)).await);
    quiet().await;

    held = rotate(&store, &held, Door::Refresh, Spending::Head).await.unwrap();
    assert!(acknowledge(&store, &held).await);
    assert!(!other.wait_for_notify(Duration::from_millis(300)).await, "an ordinary refresh wakes nobody");

    held = rotate(&store, &held, Door::TokenRefresh, Spending::Head).await.unwrap();
    assert!(other.wait_for_notify(Duration::from_secs(5)).await, "a rotation at the old door");
    quiet().await;
    assert_eq!(store.end_family(held.id, &event("reuse")).await, Ok(true));
    assert!(other.wait_for_notify(Duration::from_secs(5)).await, "an ending");
    quiet().await;
    assert_eq!(store.end_all_of(user, 0, EndReason::LogoutAll, &event("logout_all")).await, Ok(true));
    assert!(other.wait_for_notify(Duration::from_secs(5)).await, "an epoch");
}
