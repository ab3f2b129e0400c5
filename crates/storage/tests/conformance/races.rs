//! Two or many at once: what may succeed once succeeds once, and nothing ended lives on.

use ligand_protocol::ids::SessionId;
use ligand_protocol::session::{Door, EndReason, Spending};
use ligand_storage::Store;
use ligand_storage::sessions::Asked;
use ligand_storage::testing::TestStore;
use ligand_storage::users::{Created, PasswordHash, Registration};

use crate::on_both;
use crate::world::*;

/// How many of many tasks succeed.
async fn successes(tasks: impl IntoIterator<Item = impl Future<Output = bool> + Send + 'static>) -> usize {
    all_at_once(tasks).await.into_iter().filter(|done| *done).count()
}

/// Thirty-two refreshes of one token; how many pairs there were.
async fn refresh_at_once(store: &TestStore, held: &Held, door: Door, spending: Spending) -> Vec<Held> {
    let tasks = (0..32).map(|_| {
        let (store, held) = (store.store.clone(), held.clone());
        async move { rotate(&store, &held, door, spending).await }
    });
    all_at_once(tasks).await.into_iter().flatten().collect()
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    LogoutAll,
    Logout,
    Deactivate,
    Password,
    Reuse,
    DeleteDevices,
}

/// Ends until it is done, as the server does: load, commit, again on a conflict.
async fn end(store: &Store, ending: Ending, held: &Held) {
    for _ in 0..64 {
        let user = held.user;
        let account = load_user(store, user).await;
        let done = match ending {
            Ending::LogoutAll => {
                store.end_all_of(user, account.epoch, EndReason::LogoutAll, &event("logout_all")).await
            }
            Ending::Deactivate => {
                store.deactivate(user, account.epoch, false, None, &event("deactivate")).await
            }
            Ending::Password => {
                let hash = PasswordHash("new".into());
                store
                    .set_password(user, account.verified(), &hash, true, None, None, &event("password"))
                    .await
            }
            Ending::Logout => {
                let device = Some(&held.device);
                store.end_with_device(held.id, user, device, EndReason::Logout, &event("logout")).await
            }
            Ending::Reuse => store.end_family(held.id, &event("reuse")).await,
            Ending::DeleteDevices => {
                store.delete_devices(user, std::slice::from_ref(&held.device), None, &event("delete")).await
            }
        };
        if done.unwrap() {
            return;
        }
    }
    panic!("{ending:?} never came through");
}

/// Refreshes at changing doors and uses what it gets, until the session is over. How often it
/// got a pair.
async fn refresh_until_ended(store: Store, mut held: Held) -> usize {
    for round in 0.. {
        let door = if round % 3 == 0 { Door::TokenRefresh } else { Door::Refresh };
        match rotate(&store, &held, door, Spending::Head).await {
            Some(next) => held = next,
            None => return round,
        }
        if door == Door::Refresh {
            let _ = acknowledge(&store, &held).await;
        }
        assert!(round < 2_000, "the session is not ended");
    }
    0
}

on_both! {
    one_of_many_refreshes_mints(store) {
        let user = add_user(&store, "alice").await;
        let mut held = sign_in(&store, user, "A").await;
        for round in 0..6 {
            let door = if round % 2 == 0 { Door::Refresh } else { Door::TokenRefresh };
            let minted = refresh_at_once(&store, &held, door, Spending::Head).await;
            assert_eq!(minted.len(), 1, "{door:?}");
            held = minted.into_iter().next().unwrap();
            let row = load(&store, held.id).await.session;
            assert_eq!(row.generation, held.generation);
            assert_eq!(row.rt_hash, Some(held.pair.refresh.hash), "what was answered is what is stored");
        }
    }

    one_of_many_burns(store) {
        let user = add_user(&store, "alice").await;
        let first = sign_in(&store, user, "A").await;
        rotate(&store, &first, Door::Refresh, Spending::Head).await.unwrap();
        let minted = refresh_at_once(&store, &first, Door::TokenRefresh, Spending::Predecessor).await;
        assert_eq!(minted.len(), 1);
        assert!(passes(&store, &minted[0]).await);
    }

    a_use_and_a_burn_do_not_both_succeed(store) {
        let user = add_user(&store, "alice").await;
        for _ in 0..10 {
            let first = sign_in(&store, user, "A").await;
            let second = rotate(&store, &first, Door::Refresh, Spending::Head).await.unwrap();
            let tasks = (0..2).map(|task| {
                let (store, first, second) = (store.store.clone(), first.clone(), second.clone());
                async move {
                    if task == 0 {
                        acknowledge(&store, &second).await
                    } else {
                        rotate(&store, &first, Door::TokenRefresh, Spending::Predecessor).await.is_some()
                    }
                }
            });
            assert_eq!(successes(tasks).await, 1);
        }
    }

    sign_ins_at_once_leave_one_session_per_device(store) {
        let user = add_user(&store, "alice").await;
        for many in [2, 16] {
            for round in 0..5 {
                let name = format!("D{}", round % 2);
                let tasks = (0..many).map(|_| {
                    let (store, name) = (store.store.clone(), name.clone());
                    async move { try_sign_in(&store, user, &name).await }
                });
                let held: Vec<Held> = all_at_once(tasks).await.into_iter().flatten().collect();
                assert_eq!(held.len(), many, "nobody is turned away");
                let live = store.sessions_of(user, false).await.unwrap();
                let here = live.iter().filter(|row| row.device_id == Some(device(&name)));
                let here: Vec<SessionId> = here.map(|row| row.session.id).collect();
                assert_eq!(here.len(), 1);
                assert!(held.iter().any(|held| held.id == here[0]));
                assert!(store.find_device(user, &device(&name)).await.unwrap().is_some());
            }
        }
    }

    nothing_refreshed_outlives_an_ending(store) {
        let mut refreshed = 0;
        for (at, ending) in [
            Ending::LogoutAll, Ending::Logout, Ending::Deactivate, Ending::Password, Ending::Reuse,
            Ending::DeleteDevices,
        ].into_iter().enumerate() {
            let user = add_user(&store, &format!("user{at}")).await;
            let held = [sign_in(&store, user, "A").await, sign_in(&store, user, "B").await];
            let runs: Vec<_> = held
                .iter()
                .map(|held| tokio::spawn(refresh_until_ended(store.store.clone(), held.clone())))
                .collect();
            while load(&store, held[0].id).await.session.generation < 4 {
                tokio::task::yield_now().await;
            }
            end(&store, ending, &held[0]).await;
            // From here on no token of the ended sessions works, whatever is still under way.
            let whole = matches!(ending, Ending::LogoutAll | Ending::Deactivate | Ending::Password);
            assert!(!alive(&store, user).await.contains(&held[0].id), "{ending:?}");
            assert!(!whole || alive(&store, user).await.is_empty(), "{ending:?}");
            if !whole {
                end(&store, ending, &held[1]).await;
            }
            for run in runs {
                refreshed += run.await.unwrap();
            }
            assert!(alive(&store, user).await.is_empty(), "{ending:?}");
            assert_eq!(marked_live(&store, user).await, 0, "{ending:?}");
        }
        assert!(refreshed > 12, "the endings met no refresh");
    }

    a_spared_session_goes_on_through_the_change(store) {
        let user = add_user(&store, "alice").await;
        let mine = sign_in(&store, user, "A").await;
        let other = sign_in(&store, user, "B").await;
        let run = tokio::spawn(refresh_until_ended(store.store.clone(), mine.clone()));
        while load(&store, mine.id).await.session.generation < 4 {
            tokio::task::yield_now().await;
        }
        let verified = load_user(&store, user).await.verified();
        let hash = PasswordHash("new".into());
        let spare = Some((mine.id, Some(&mine.device)));
        let set = store.set_password(user, verified, &hash, true, spare, None, &event("password")).await;
        assert_eq!(set, Ok(true));
        let then = load(&store, mine.id).await.session.generation;
        assert_eq!(alive(&store, user).await, [mine.id]);
        assert!(!passes(&store, &other).await);
        while load(&store, mine.id).await.session.generation < then + 3 {
            tokio::task::yield_now().await;
        }
        end(&store, Ending::Logout, &mine).await;
        assert!(run.await.unwrap() > 5);
    }

    no_sign_in_outlives_a_deactivation(store) {
        for round in 0..8 {
            let user = add_user(&store, &format!("user{round}")).await;
            let before = sign_in(&store, user, "A").await;
            // Verified before, committed beside the deactivation.
            let verified = load_user(&store, user).await.verified();
            let tasks = (0..16).map(|task| {
                let (store, before) = (store.store.clone(), before.clone());
                async move {
                    if task == 7 {
                        end(&store, Ending::Deactivate, &before).await;
                        return None;
                    }
                    let (sign_in, held) = sign_in_as(user, verified, &format!("D{}", task % 4));
                    store.sign_in(&sign_in).await.unwrap().then_some(held)
                }
            });
            for held in all_at_once(tasks).await.into_iter().flatten() {
                assert!(!passes(&store, &held).await);
            }
            assert_eq!(marked_live(&store, user).await, 0);
            assert!(store.devices_of(user).await.unwrap().is_empty());
        }
    }

    no_sign_in_with_the_old_password_outlives_its_change(store) {
        for round in 0..8 {
            let user = add_user(&store, &format!("user{round}")).await;
            let before = sign_in(&store, user, "A").await;
            let verified = load_user(&store, user).await.verified();
            let tasks = (0..8).map(|task| {
                let (store, before) = (store.store.clone(), before.clone());
                async move {
                    if task == 3 {
                        end(&store, Ending::Password, &before).await;
                    } else {
                        store.sign_in(&sign_in_as(user, verified, &format!("D{task}")).0).await.unwrap();
                    }
                }
            });
            all_at_once(tasks).await;
            assert_eq!(marked_live(&store, user).await, 0);
        }
    }

    a_registration_token_of_one_use_lets_one_in(store) {
        let token = crate::registration_tokens::add(&store, Some(1), None).await;
        let tasks = (0..32).map(|task| {
            let store = store.store.clone();
            async move {
                let with = Registration { token: Some(token), ..Registration::default() };
                let new = new_user(&format!("user{task}"));
                match store.create_user(&new, &with, &event("register")).await.unwrap() {
                    Created::Done => true,
                    Created::TokenSpent => false,
                    other => panic!("{other:?}"),
                }
            }
        });
        assert_eq!(successes(tasks).await, 1);
        assert_eq!(store.count_users().await, Ok(1));
        assert_eq!(store.find_registration_token(token).await.unwrap().unwrap().used, 1);
    }

    a_name_is_taken_once(store) {
        let tasks = (0..32).map(|_| {
            let store = store.store.clone();
            async move {
                let created = store.create_user(&new_user("alice"), &Registration::default(), &event("register")).await;
                assert!(matches!(created, Ok(Created::Done | Created::NameTaken)), "{created:?}");
                created == Ok(Created::Done)
            }
        });
        assert_eq!(successes(tasks).await, 1);
        assert_eq!(store.count_users().await, Ok(1));
    }

    an_authentication_counts_once(store) {
        let uia = crate::uia::open(&store, None).await;
        let advance = (0..32).map(|_| {
            let store = store.store.clone();
            async move { store.advance_uia(uia, 0, "[1]", [0; 32]).await.unwrap() }
        });
        assert_eq!(successes(advance).await, 1);
        let close = (0..32).map(|_| {
            let store = store.store.clone();
            async move { store.close_uia(uia, 1).await.unwrap() }
        });
        assert_eq!(successes(close).await, 1);
        assert_eq!(store.find_uia(uia).await, Ok(None));
    }

    an_authentication_allows_one_request(store) {
        let uia = crate::uia::open(&store, None).await;
        let user = add_user(&store, "alice").await;
        let asking = sign_in(&store, user, "B").await;
        let asked = asked_by(&store, &asking, uia, 0).await;
        let requests = (0..32).map(|task| {
            let store = store.store.clone();
            async move { allowed(&store, asked, task).await }
        });
        assert_eq!(successes(requests).await, 1);
        assert_eq!(store.find_uia(uia).await, Ok(None));
    }
}

/// One of the four requests that an authentication may allow.
async fn allowed(store: &Store, asked: Asked, task: usize) -> bool {
    let user = store.load_session(asked.session).await.unwrap().unwrap().session.user;
    let hash = PasswordHash("new".into());
    let done = match task % 4 {
        0 => {
            let with = Registration { uia: asked.uia, ..Registration::default() };
            let created =
                store.create_user(&new_user(&format!("user{task}")), &with, &event("register")).await;
            return created == Ok(Created::Done);
        }
        1 => store.delete_devices(user, &[device("A")], Some(&asked), &event("delete")).await,
        2 => {
            let event = event("password");
            store.set_password(user, asked.verified, &hash, false, None, Some(&asked), &event).await
        }
        _ => store.deactivate(user, 0, false, Some(&asked), &event("deactivate")).await,
    };
    done.unwrap()
}
