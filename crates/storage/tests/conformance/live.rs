//! Checks from memory: whatever takes a permission away has left memory before it is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ligand_protocol::ids::{SessionId, UserKey};
use ligand_protocol::session::{CheckVerdict, Door, EndReason, Spending};
use ligand_storage::Store;
use ligand_storage::live::{LEASE, LiveSession};
use ligand_storage::users::{Flag, PasswordHash};

use crate::on_both;
use crate::world::*;

/// A complete poll, as upkeep makes one five times a second.
fn poll(store: &Store) {
    store.live().polled(store.live().poll_begins());
}

/// Puts a session into memory; it counts there, and passes.
async fn remember(store: &Store, held: &Held) {
    store.live_session(held.id).await.unwrap().expect("the session exists");
    assert_eq!(remembered(store, held), Some(CheckVerdict::Ok), "memory answers to begin with");
}

fn verdict(entry: &LiveSession, held: &Held) -> CheckVerdict {
    entry.session().check(entry.user.owner, &held.access_token(), NOW)
}

/// What memory alone says to the access token held, under a lease just renewed.
fn remembered(store: &Store, held: &Held) -> Option<CheckVerdict> {
    poll(store);
    store.live().get(held.id).map(|entry| verdict(&entry, held))
}

/// Whether memory would still let the token pass.
fn memory_lets_pass(store: &Store, held: &Held) -> bool {
    remembered(store, held).is_some_and(|verdict| !matches!(verdict, CheckVerdict::Refuse(_)))
}

/// An entry says what the row says.
async fn says_what_the_row_says(store: &Store, entry: &LiveSession) {
    let loaded = load(store, entry.id).await;
    let (kept, row) = (entry.session(), loaded.session);
    assert_eq!(
        (kept.user, kept.user_epoch, kept.api, kept.status),
        (row.user, row.user_epoch, row.api, row.status)
    );
    assert_eq!((kept.generation, kept.acked_generation), (row.generation, row.acked_generation));
    assert_eq!((kept.at_hash, kept.at_exp, kept.session_exp), (row.at_hash, row.at_exp, row.session_exp));
    assert_eq!(kept.at_prev_hash, row.at_prev_hash);
    assert_eq!(kept.at_prev_exp, Some(row.at_prev_exp.unwrap_or(0)));
    assert_eq!(entry.user.owner, loaded.owner);
    assert_eq!(entry.device_id, loaded.device_id);
}

/// One session per ending, each in memory when it is ended.
async fn case(store: &Store, name: &str) -> (UserKey, Held) {
    let user = add_user(store, name).await;
    let held = sign_in(store, user, "A").await;
    remember(store, &held).await;
    (user, held)
}

on_both! {
    each_ending_has_left_memory_when_it_is_answered(store) {
        let (_, held) = case(&store, "tokenrefresh").await;
        rotate(&store, &held, Door::TokenRefresh, Spending::Head).await.unwrap();
        assert!(!memory_lets_pass(&store, &held));

        let (_, held) = case(&store, "burn").await;
        let lost = rotate(&store, &held, Door::Refresh, Spending::Head).await.unwrap();
        remember(&store, &held).await;
        rotate(&store, &held, Door::TokenRefresh, Spending::Predecessor).await.unwrap();
        assert!(!memory_lets_pass(&store, &held) && !memory_lets_pass(&store, &lost));

        let (_, held) = case(&store, "reuse").await;
        assert!(store.end_family(held.id, &event("reuse")).await.unwrap());
        assert!(!memory_lets_pass(&store, &held));

        let (user, held) = case(&store, "logout").await;
        let logout = event("logout");
        assert!(store.end_with_device(held.id, user, Some(&held.device), EndReason::Logout, &logout).await.unwrap());
        assert!(!memory_lets_pass(&store, &held));

        let (user, held) = case(&store, "replaced").await;
        sign_in(&store, user, "A").await;
        assert!(!memory_lets_pass(&store, &held));

        let (user, held) = case(&store, "delete").await;
        assert!(store.delete_devices(user, &[device("A")], None, &event("delete")).await.unwrap());
        assert!(!memory_lets_pass(&store, &held));

        let (user, held) = case(&store, "logout_all").await;
        assert!(store.end_all_of(user, 0, EndReason::LogoutAll, &event("logout_all")).await.unwrap());
        assert!(!memory_lets_pass(&store, &held));

        let (user, held) = case(&store, "deactivate").await;
        assert!(store.deactivate(user, 0, false, None, &event("deactivate")).await.unwrap());
        assert!(!memory_lets_pass(&store, &held));

        let (user, held) = case(&store, "lock").await;
        assert!(store.set_flag(user, Flag::Lock, &event("lock")).await.unwrap());
        assert!(!memory_lets_pass(&store, &held));

        let (user, held) = case(&store, "password").await;
        let spared = sign_in(&store, user, "B").await;
        remember(&store, &spared).await;
        let verified = load_user(&store, user).await.verified();
        let hash = PasswordHash("new".into());
        let spare = Some((spared.id, Some(&spared.device)));
        let set = store.set_password(user, verified, &hash, true, spare, None, &event("password")).await;
        assert_eq!(set, Ok(true));
        assert!(!memory_lets_pass(&store, &held));
        remember(&store, &spared).await;
    }

    what_was_not_done_is_read_again_as_it_was(store) {
        let (user, held) = case(&store, "alice").await;
        assert!(!store.end_all_of(user, 9, EndReason::LogoutAll, &event("logout_all")).await.unwrap());
        assert!(!store.set_flag(user, Flag::Unlock, &event("unlock")).await.unwrap());
        let stranger = Held { pair: fresh_pair(held.id, 1), ..held.clone() };
        assert!(rotate(&store, &stranger, Door::TokenRefresh, Spending::Head).await.is_none());
        // Forgotten before the commit was tried; nothing stands in the way of keeping it again.
        remember(&store, &held).await;
        assert_eq!(remembered(&store, &held), Some(CheckVerdict::Ok));
    }

    a_change_of_the_user_makes_all_its_entries_stale(store) {
        let (alice, first) = case(&store, "alice").await;
        let second = sign_in(&store, alice, "B").await;
        remember(&store, &second).await;
        remember(&store, &first).await;
        let (bob, theirs) = case(&store, "bob").await;
        for flag in [Flag::Lock, Flag::Unlock, Flag::Admin(true)] {
            assert!(store.set_flag(alice, flag, &event("flag")).await.unwrap());
            assert!(remembered(&store, &first).is_none() && remembered(&store, &second).is_none());
            assert_eq!(remembered(&store, &theirs), Some(CheckVerdict::Ok), "nobody else's");
            for held in [&first, &second] {
                let entry = store.live_session(held.id).await.unwrap().unwrap();
                says_what_the_row_says(&store, &entry).await;
                assert_eq!(verdict(&entry, held) == CheckVerdict::Ok, flag != Flag::Lock);
            }
        }
        poll(&store);
        let entry = store.live().get(first.id).expect("kept again");
        assert!(entry.user.admin);
        let shared = store.live().get(second.id).unwrap();
        assert!(Arc::ptr_eq(&entry.user, &shared.user), "sessions of one user share it");
        assert!(store.end_all_of(bob, 0, EndReason::LogoutAll, &event("logout_all")).await.unwrap());
        assert_eq!(remembered(&store, &first), Some(CheckVerdict::Ok));
    }

    a_first_use_is_remembered_as_such(store) {
        let (_, held) = case(&store, "alice").await;
        let next = rotate(&store, &held, Door::Refresh, Spending::Head).await.unwrap();
        let entry = store.live_session(held.id).await.unwrap().unwrap();
        assert_eq!(verdict(&entry, &next), CheckVerdict::OkAfterAcknowledging);
        assert!(acknowledge(&store, &next).await);
        assert!(remembered(&store, &next).is_none(), "memory must not ask for it again");
        remember(&store, &next).await;
    }

    memory_answers_under_a_lease_only(store) {
        let user = add_user(&store, "alice").await;
        let held = sign_in(&store, user, "A").await;
        let read = store.live_session(held.id).await.unwrap().unwrap();
        assert_eq!(verdict(&read, &held), CheckVerdict::Ok);
        assert!(store.live().get(held.id).is_none(), "before the first poll");
        let began = store.live().poll_begins();
        store.live().polled(began);
        assert!(store.live().get(held.id).is_some());
        // The clock of the lease is the machine's own; a second has to pass.
        tokio::time::sleep(LEASE + Duration::from_millis(20)).await;
        assert!(store.live().get(held.id).is_none(), "nobody has polled for a second");
        store.live().polled(began);
        assert!(store.live().get(held.id).is_none(), "a poll counts from when it began");
        assert!(store.live_session(held.id).await.unwrap().is_some(), "the database still answers");
        poll(&store);
        assert!(store.live().get(held.id).is_some());
    }

    memory_forgets_all_at_once(store) {
        let (_, first) = case(&store, "alice").await;
        let (_, second) = case(&store, "bob").await;
        assert_eq!((store.live().len(), store.live().is_empty()), (2, false));
        store.live().sweep();
        assert_eq!(store.live().len(), 2, "what counts stays");
        store.live().forget_all();
        assert!(store.live().is_empty());
        assert!(remembered(&store, &first).is_none() && remembered(&store, &second).is_none());
        assert!(store.live_session(SessionId([0; 16])).await.unwrap().is_none());
        assert!(store.live().is_empty(), "what does not exist is not kept");
    }

    a_sweep_drops_what_no_longer_counts(store) {
        let (user, _) = case(&store, "alice").await;
        let (_, kept) = case(&store, "bob").await;
        assert!(store.set_flag(user, Flag::Lock, &event("lock")).await.unwrap());
        assert_eq!(store.live().len(), 2, "stale, still there");
        store.live().sweep();
        assert_eq!(store.live().len(), 1);
        assert_eq!(remembered(&store, &kept), Some(CheckVerdict::Ok));
    }

    readers_beside_writers_leave_nothing_stale(store) {
        let user = add_user(&store, "alice").await;
        let mut all = Vec::new();
        for at in 0..12 {
            all.push(sign_in(&store, user, &format!("D{at}")).await);
        }
        let ids: Vec<SessionId> = all.iter().map(|held| held.id).collect();
        let over = Arc::new(AtomicBool::new(false));
        let reads = Arc::new(AtomicUsize::new(0));
        let readers: Vec<_> = (0..6).map(|at| {
            tokio::spawn(read_on(store.store.clone(), ids.clone(), at, over.clone(), reads.clone()))
        }).collect();
        let writers: Vec<_> = all.into_iter().enumerate()
            .map(|(at, held)| tokio::spawn(write_on(store.store.clone(), held, at)))
            .collect();
        // The account changes too; a lock would stop the writers, so it is another flag.
        for round in 0..20 {
            assert!(store.set_flag(user, Flag::Admin(round % 2 == 0), &event("admin")).await.unwrap());
            poll(&store);
            let entry = store.live_session(ids[round % ids.len()]).await.unwrap().unwrap();
            assert_eq!(entry.user.admin, round % 2 == 0, "what was answered is what is seen");
        }
        for writer in writers {
            writer.await.unwrap();
        }
        over.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.await.unwrap();
        }
        poll(&store);
        let mut kept = 0;
        for id in &ids {
            if let Some(entry) = store.live().get(*id) {
                says_what_the_row_says(&store, &entry).await;
                kept += 1;
            }
        }
        println!("{:?}: {} reads, {kept} entries kept", store.engine(), reads.load(Ordering::Relaxed));
        assert!(reads.load(Ordering::Relaxed) > 100);
    }
}

/// Checks without pause, now from memory, now from the database.
async fn read_on(
    store: Store,
    ids: Vec<SessionId>,
    at: usize,
    over: Arc<AtomicBool>,
    reads: Arc<AtomicUsize>,
) {
    let mut next = at;
    while !over.load(Ordering::Relaxed) {
        next += 1;
        let id = ids[next % ids.len()];
        let read = if next.is_multiple_of(3) {
            store.reread_session(id).await
        } else {
            store.live_session(id).await
        };
        assert!(read.unwrap().is_some());
        reads.fetch_add(1, Ordering::Relaxed);
        if next.is_multiple_of(16) {
            poll(&store);
        }
        tokio::task::yield_now().await;
    }
}

/// Rotates at the old door again and again; each answer finds the old token dead in memory and
/// outside it. Half of the sessions are ended at last.
async fn write_on(store: Store, mut held: Held, at: usize) {
    for _ in 0..15 {
        let next = rotate(&store, &held, Door::TokenRefresh, Spending::Head).await.expect("a pair");
        poll(&store);
        let entry = store.live_session(held.id).await.unwrap().unwrap();
        assert!(matches!(verdict(&entry, &held), CheckVerdict::Refuse(_)), "a spent access token passes");
        assert_eq!(verdict(&entry, &next), CheckVerdict::Ok, "a pair works at once (I4)");
        assert!(!memory_lets_pass(&store, &held));
        held = next;
    }
    if at.is_multiple_of(2) {
        assert!(store.end_family(held.id, &event("reuse")).await.unwrap());
        poll(&store);
        let entry = store.live_session(held.id).await.unwrap().unwrap();
        assert!(matches!(verdict(&entry, &held), CheckVerdict::Refuse(_)), "an ended session passes");
        assert!(!memory_lets_pass(&store, &held));
    }
}
