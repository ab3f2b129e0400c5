//! Setting a password, with and without signing the other devices out.

use ligand_protocol::session::{AccountState, EndReason, Status};
use ligand_storage::Store;
use ligand_storage::audit::AuditEvent;
use ligand_storage::sessions::Verified;
use ligand_storage::users::{Flag, PasswordHash, Spared};

use crate::on_both;
use crate::world::*;

async fn set(
    store: &Store,
    held: &Held,
    verified: Verified,
    end_others: bool,
    spare: Option<Spared<'_>>,
) -> bool {
    let event = AuditEvent::new("password", NOW + 1);
    store
        .set_password(held.user, verified, &PasswordHash("new".into()), end_others, spare, None, &event)
        .await
        .unwrap()
}

on_both! {
    without_logout_only_the_password_changes(store) {
        let user = add_user(&store, "alice").await;
        let held = [sign_in(&store, user, "A").await, sign_in(&store, user, "B").await];
        let verified = load_user(&store, user).await.verified();
        assert!(set(&store, &held[0], verified, false, None).await);
        let account = load_user(&store, user).await;
        assert_eq!((account.epoch, account.password_changed_at), (0, Some(NOW + 1)));
        assert_eq!(account.password_hash.unwrap().0, "new");
        assert!(passes(&store, &held[0]).await && passes(&store, &held[1]).await);
        assert_eq!(store.devices_of(user).await.unwrap().len(), 2);
        assert!(!set(&store, &held[0], verified, false, None).await, "guarded by the password that was read");
        assert_eq!(store.sign_in(&sign_in_as(user, verified, "C").0).await, Ok(false), "verified against the old one");
    }

    with_logout_all_but_the_spared_session_end(store) {
        let user = add_user(&store, "alice").await;
        let stranger = add_user(&store, "bob").await;
        let mine = sign_in(&store, user, "A").await;
        let other = sign_in(&store, user, "B").await;
        let theirs = sign_in(&store, stranger, "B").await;
        let verified = load_user(&store, user).await.verified();
        assert!(set(&store, &mine, verified, true, Some((mine.id, Some(&mine.device)))).await);
        assert_eq!(load_user(&store, user).await.epoch, 1);
        let kept = load(&store, mine.id).await.session;
        assert_eq!((kept.user_epoch, kept.status), (1, Status::Live));
        assert!(passes(&store, &mine).await && passes(&store, &theirs).await);
        let ended = load(&store, other.id).await.session;
        assert_eq!(ended.status, Status::Ended(EndReason::PasswordChanged));
        assert!(!passes(&store, &other).await);
        let left: Vec<_> = store.devices_of(user).await.unwrap().into_iter().map(|d| d.device_id).collect();
        assert_eq!(left, ["A"]);
        assert_eq!(alive(&store, user).await, [mine.id]);
    }

    with_logout_and_nothing_to_spare_all_end(store) {
        let user = add_user(&store, "alice").await;
        let held = sign_in(&store, user, "A").await;
        let verified = load_user(&store, user).await.verified();
        assert!(set(&store, &held, verified, true, None).await);
        assert_eq!(marked_live(&store, user).await, 0);
        assert!(store.devices_of(user).await.unwrap().is_empty());
    }

    a_spared_session_that_ended_meanwhile_stops_the_change(store) {
        let user = add_user(&store, "alice").await;
        let held = sign_in(&store, user, "A").await;
        let verified = load_user(&store, user).await.verified();
        assert_eq!(store.end_family(held.id, &event("reuse")).await, Ok(true));
        assert!(!set(&store, &held, verified, true, Some((held.id, Some(&held.device)))).await);
        let account = load_user(&store, user).await;
        assert_eq!((account.epoch, account.password_changed_at), (0, Some(NOW)));
    }

    only_the_account_that_was_read_is_changed(store) {
        let user = add_user(&store, "alice").await;
        let held = sign_in(&store, user, "A").await;
        let verified = load_user(&store, user).await.verified();
        for stale in [
            Verified { epoch: 4, ..verified },
            Verified { password_changed_at: None, ..verified },
            Verified { password_changed_at: Some(1), ..verified },
        ] {
            assert!(!set(&store, &held, stale, true, None).await);
        }
        assert_eq!(store.set_flag(user, Flag::Lock, &event("lock")).await, Ok(true));
        assert!(set(&store, &held, verified, false, None).await, "a locked account's password may be reset");
        let verified = load_user(&store, user).await.verified();
        assert_eq!(store.deactivate(user, 0, false, None, &event("deactivate")).await, Ok(true));
        let now = load_user(&store, user).await;
        assert_eq!(now.state, AccountState::Deactivated);
        for verified in [verified, now.verified()] {
            assert!(!set(&store, &held, verified, true, None).await);
        }
        assert_eq!(load_user(&store, user).await.password_hash, None);
    }

    a_password_change_uses_its_authentication_up(store) {
        let user = add_user(&store, "alice").await;
        let held = sign_in(&store, user, "A").await;
        let uia = crate::uia::open(&store, Some(user)).await;
        let set = async |revision| {
            let asked = asked_by(&store, &held, uia, revision).await;
            let hash = PasswordHash("new".into());
            let event = event("password");
            store.set_password(user, asked.verified, &hash, false, None, Some(&asked), &event).await
        };
        assert_eq!(set(1).await, Ok(false));
        assert_eq!(load_user(&store, user).await.password_hash.unwrap().0, "hash of alice");
        assert_eq!(set(0).await, Ok(true));
        assert_eq!(set(0).await, Ok(false));
    }
}
