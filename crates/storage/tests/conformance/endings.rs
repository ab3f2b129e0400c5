//! Endings: each ends what it names, leaves the rest, and is absorbing.

use ligand_protocol::session::{AccountState, CheckVerdict, Door, EndReason, Refusal, Spending, Status};
use ligand_storage::Store;
use ligand_storage::audit::AuditEvent;
use ligand_storage::sessions::{Asked, Verified};

use crate::on_both;
use crate::world::*;

async fn ended_for(store: &Store, held: &Held) -> Option<EndReason> {
    match load(store, held.id).await.session.status {
        Status::Ended(reason) => Some(reason),
        Status::Live => None,
    }
}

/// Nothing brings an ended session back.
async fn is_over_for_good(store: &Store, held: &Held) {
    let before = load(store, held.id).await.session;
    assert!(matches!(before.status, Status::Ended(_)));
    assert_eq!(before.sealed, None);
    for door in [Door::Refresh, Door::TokenRefresh] {
        for spending in [Spending::Head, Spending::Predecessor] {
            assert!(rotate(store, held, door, spending).await.is_none());
        }
    }
    assert!(!acknowledge(store, held).await);
    assert_eq!(store.reseal(&before, before.at_hash, NOW, vec![1]).await, Ok(None));
    assert_eq!(store.end_family(held.id, &event("reuse")).await, Ok(false));
    let again = store.end_with_device(held.id, held.user, None, EndReason::Admin, &event("admin")).await;
    assert_eq!(again, Ok(false));
    assert_eq!(load(store, held.id).await.session, before);
    assert!(!passes(store, held).await);
}

on_both! {
    reuse_ends_the_family_and_leaves_the_device(store) {
        let user = add_user(&store, "alice").await;
        let first = sign_in(&store, user, "PHONE").await;
        let second = rotate(&store, &first, Door::Refresh, Spending::Head).await.unwrap();
        let before = load(&store, first.id).await.session;
        let reuse = AuditEvent { session: Some(first.id), generation: Some(1), ..event("reuse") };
        assert_eq!(store.end_family(first.id, &reuse).await, Ok(true));
        assert_eq!(store.end_family(first.id, &reuse).await, Ok(false));
        assert_eq!(load(&store, first.id).await.session, before.ended(EndReason::Reuse));
        assert_eq!(store.count_audit("reuse", first.id).await, Ok(1), "one event, however often it is reported");
        assert!(store.find_device(user, &device("PHONE")).await.unwrap().is_some());
        is_over_for_good(&store, &second).await;
        assert!(passes(&store, &sign_in(&store, user, "PHONE").await).await, "the device signs in again");
    }

    logout_ends_one_session_with_its_device(store) {
        let user = add_user(&store, "alice").await;
        let phone = sign_in(&store, user, "PHONE").await;
        let laptop = sign_in(&store, user, "LAPTOP").await;
        let end = async || {
            store.end_with_device(phone.id, user, Some(&phone.device), EndReason::Logout, &event("logout")).await
        };
        assert_eq!(end().await, Ok(true));
        assert_eq!(end().await, Ok(false));
        assert_eq!(ended_for(&store, &phone).await, Some(EndReason::Logout));
        assert!(store.find_device(user, &device("PHONE")).await.unwrap().is_none());
        assert!(store.find_device(user, &device("LAPTOP")).await.unwrap().is_some());
        assert!(passes(&store, &laptop).await);
        is_over_for_good(&store, &phone).await;
        // A late logout of the old session must not take the device from the new one.
        let again = sign_in(&store, user, "PHONE").await;
        assert_eq!(end().await, Ok(false));
        assert!(store.find_device(user, &device("PHONE")).await.unwrap().is_some());
        assert!(passes(&store, &again).await);
    }

    deleting_devices_ends_their_sessions(store) {
        let user = add_user(&store, "alice").await;
        let stranger = add_user(&store, "bob").await;
        let [phone, laptop, tablet] =
            [sign_in(&store, user, "A").await, sign_in(&store, user, "B").await, sign_in(&store, user, "C").await];
        let theirs = sign_in(&store, stranger, "A").await;
        let deleted = [device("A"), device("B"), device("NONE")];
        assert_eq!(store.delete_devices(user, &deleted, None, &event("delete")).await, Ok(true));
        assert_eq!(store.delete_devices(user, &deleted, None, &event("delete")).await, Ok(true), "gone is fine");
        for held in [&phone, &laptop] {
            assert_eq!(ended_for(&store, held).await, Some(EndReason::DeviceDeleted));
            is_over_for_good(&store, held).await;
        }
        assert!(passes(&store, &tablet).await && passes(&store, &theirs).await);
        let left: Vec<_> = store.devices_of(user).await.unwrap().into_iter().map(|d| d.device_id).collect();
        assert_eq!(left, ["C"]);
        assert_eq!(store.devices_of(stranger).await.unwrap().len(), 1);
    }

    deleting_devices_uses_its_authentication_up(store) {
        let user = add_user(&store, "alice").await;
        let held = sign_in(&store, user, "A").await;
        let asking = sign_in(&store, user, "B").await;
        let uia = crate::uia::open(&store, Some(user)).await;
        let delete = async |revision| {
            let asked = asked_by(&store, &asking, uia, revision).await;
            store.delete_devices(user, &[device("A")], Some(&asked), &event("delete")).await
        };
        assert_eq!(delete(1).await, Ok(false));
        assert!(passes(&store, &held).await);
        assert_eq!(delete(0).await, Ok(true));
        assert!(!passes(&store, &held).await);
        assert_eq!(delete(0).await, Ok(false));
        assert!(store.find_uia(uia).await.unwrap().is_none());
    }

    a_request_counts_only_while_what_allowed_it_holds(store) {
        let user = add_user(&store, "alice").await;
        let victim = sign_in(&store, user, "A").await;
        let asking = sign_in(&store, user, "B").await;
        let ended = sign_in(&store, user, "C").await;
        assert!(store.end_family(ended.id, &event("reuse")).await.unwrap());
        let uia = crate::uia::open(&store, Some(user)).await;
        let good = asked_by(&store, &asking, uia, 0).await;
        let hash = ligand_storage::users::PasswordHash("new".into());
        for stale in [
            Asked { session: ended.id, ..good },
            Asked { verified: Verified { epoch: 1, ..good.verified }, ..good },
            Asked { verified: Verified { password_changed_at: None, ..good.verified }, ..good },
            Asked { uia: Some((uia, 1)), ..good },
        ] {
            let (asked, now) = (Some(&stale), good.verified);
            assert_eq!(store.delete_devices(user, &[device("A")], asked, &event("delete")).await, Ok(false));
            assert_eq!(store.deactivate(user, now.epoch, false, asked, &event("deactivate")).await, Ok(false));
            for end_others in [false, true] {
                let spare = end_others.then_some((asking.id, Some(&asking.device)));
                let event = event("password");
                let set = store.set_password(user, now, &hash, end_others, spare, asked, &event).await;
                assert_eq!(set, Ok(false));
            }
        }
        assert!(passes(&store, &victim).await && passes(&store, &asking).await);
        assert_eq!(load_user(&store, user).await.password_hash.unwrap().0, "hash of alice");
        assert!(store.find_uia(uia).await.unwrap().is_some());
        // A session may delete its own device.
        let own = store.delete_devices(user, &[device("A"), device("B")], Some(&good), &event("delete")).await;
        assert_eq!(own, Ok(true));
        assert_eq!(marked_live(&store, user).await, 0);
    }

    logout_everywhere_ends_all_of_one_user(store) {
        let user = add_user(&store, "alice").await;
        let stranger = add_user(&store, "bob").await;
        let mine = [sign_in(&store, user, "A").await, sign_in(&store, user, "B").await];
        let theirs = sign_in(&store, stranger, "A").await;
        let end = async |epoch| store.end_all_of(user, epoch, EndReason::LogoutAll, &event("logout_all")).await;
        assert_eq!(end(1).await, Ok(false), "guarded by the epoch that was read");
        assert!(passes(&store, &mine[0]).await);
        assert_eq!(end(0).await, Ok(true));
        assert_eq!(end(0).await, Ok(false));
        for held in &mine {
            assert_eq!(ended_for(&store, held).await, Some(EndReason::LogoutAll));
            is_over_for_good(&store, held).await;
        }
        assert_eq!(load_user(&store, user).await.epoch, 1);
        assert!(store.devices_of(user).await.unwrap().is_empty());
        assert!(passes(&store, &theirs).await);
        let again = sign_in(&store, user, "A").await;
        assert_eq!(load(&store, again.id).await.session.user_epoch, 1);
        assert!(passes(&store, &again).await);
    }

    deactivation_is_for_good(store) {
        let user = add_user(&store, "alice").await;
        let held = sign_in(&store, user, "A").await;
        let verified = load_user(&store, user).await.verified();
        let uia = crate::uia::open(&store, Some(user)).await;
        let deactivate = async |epoch, revision: Option<i64>| {
            let asked = match revision {
                Some(revision) => Some(asked_by(&store, &held, uia, revision).await),
                None => None,
            };
            store.deactivate(user, epoch, true, asked.as_ref(), &event("deactivate")).await
        };
        assert_eq!(deactivate(5, None).await, Ok(false));
        assert_eq!(deactivate(0, Some(3)).await, Ok(false));
        assert!(passes(&store, &held).await);
        assert_eq!(deactivate(0, Some(0)).await, Ok(true));
        assert_eq!(deactivate(0, None).await, Ok(false));
        assert_eq!(deactivate(1, None).await, Ok(false), "once");

        let account = load_user(&store, user).await;
        assert_eq!((account.state, account.epoch), (AccountState::Deactivated, 1));
        assert_eq!((account.password_hash, account.deactivated_at), (None, Some(NOW)));
        assert_eq!(number(&store, "select erased from users", vec![]).await, 1);
        assert!(store.devices_of(user).await.unwrap().is_empty());
        assert_eq!(ended_for(&store, &held).await, Some(EndReason::Deactivated));
        is_over_for_good(&store, &held).await;
        assert_eq!(check(&store, &held).await, CheckVerdict::Refuse(Refusal::Ended(EndReason::Deactivated)));
        for verified in [verified, load_user(&store, user).await.verified()] {
            assert_eq!(store.sign_in(&sign_in_as(user, verified, "B").0).await, Ok(false));
        }
    }

    an_epoch_alone_stops_a_refresh(store) {
        let user = add_user(&store, "alice").await;
        let held = sign_in(&store, user, "A").await;
        execute(&store, "update users set epoch = epoch + 1", vec![]).await;
        assert!(rotate(&store, &held, Door::Refresh, Spending::Head).await.is_none());
        assert!(!passes(&store, &held).await);
        assert!(alive(&store, user).await.is_empty());
    }
}
