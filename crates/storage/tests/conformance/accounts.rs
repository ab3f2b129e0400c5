//! Creating accounts with all that comes with them, finding and flagging them; the audit table.

use ligand_protocol::session::{AccountState, CheckVerdict, Door, Refusal, Spending};
use ligand_storage::StoreError;
use ligand_storage::audit::AuditEvent;
use ligand_storage::users::{Created, Flag, NewUser, PasswordHash, Registration, Upgrade};
use ligand_storage::{Write, params};

use crate::on_both;
use crate::world::*;

on_both! {
    an_account_comes_with_its_first_session(store) {
        let new = NewUser { admin: true, guest: true, ..new_user("alice") };
        let (sign_in, held) = sign_in_as(new.key, ligand_storage::sessions::Verified { epoch: 0, password_changed_at: None }, "PHONE");
        let phone = device("PHONE");
        let with = Registration { session: Some((&phone, Some("my phone".into()), &sign_in.opened)), ..Registration::default() };
        let registered = AuditEvent { session: Some(held.id), ..event("register") };
        assert_eq!(store.create_user(&new, &with, &registered).await, Ok(Created::Done));

        let found = store.find_user(&localpart("alice")).await.unwrap().unwrap();
        assert_eq!((found.key, found.localpart.as_str(), found.state), (new.key, "alice", AccountState::Active));
        assert_eq!((found.admin, found.guest, found.suspended, found.epoch), (true, true, false, 0));
        assert_eq!((found.created_at, found.password_changed_at), (NOW, Some(NOW)));
        assert_eq!((found.deactivated_at, found.last_sign_in_at), (None, None));
        assert_eq!(found.password_hash, new.password_hash);
        assert_eq!(check(&store, &held).await, CheckVerdict::Ok);
        let loaded = load(&store, held.id).await;
        assert!(loaded.admin && loaded.guest && !loaded.suspended);
        let phone = store.find_device(new.key, &phone).await.unwrap().unwrap();
        assert_eq!(phone.display_name.as_deref(), Some("my phone"));
        assert_eq!(store.count_audit("register", held.id).await, Ok(1));
    }

    an_account_without_a_password_has_no_moment_of_change(store) {
        let new = NewUser { password_hash: None, ..new_user("alice") };
        assert_eq!(store.create_user(&new, &Registration::default(), &event("register")).await, Ok(Created::Done));
        let user = load_user(&store, new.key).await;
        assert_eq!((&user.password_hash, user.password_changed_at), (&None, None));
        assert!(passes(&store, &sign_in(&store, new.key, "PHONE").await).await);
    }

    a_taken_name_leaves_nothing_behind(store) {
        add_user(&store, "alice").await;
        let token = crate::registration_tokens::add(&store, Some(1), None).await;
        let uia = crate::uia::open(&store, None).await;
        let with = || Registration { token: Some(token), uia: Some((uia, 0)), ..Registration::default() };
        let taken = store.create_user(&new_user("alice"), &with(), &event("register")).await;
        assert_eq!(taken, Ok(Created::NameTaken));
        assert_eq!(store.find_registration_token(token).await.unwrap().unwrap().used, 0);
        assert!(store.find_uia(uia).await.unwrap().is_some());
        assert_eq!(store.count_users().await, Ok(1));

        let done = store.create_user(&new_user("bob"), &with(), &event("register")).await;
        assert_eq!(done, Ok(Created::Done));
        assert_eq!(store.find_registration_token(token).await.unwrap().unwrap().used, 1);
        assert!(store.find_uia(uia).await.unwrap().is_none());
    }

    a_spent_token_and_a_spent_authentication_are_told_apart(store) {
        let token = crate::registration_tokens::add(&store, Some(0), None).await;
        let uia = crate::uia::open(&store, None).await;
        let spent = Registration { token: Some(token), uia: Some((uia, 0)), ..Registration::default() };
        assert_eq!(store.create_user(&new_user("a"), &spent, &event("register")).await, Ok(Created::TokenSpent));
        assert!(store.find_uia(uia).await.unwrap().is_some());
        let unknown = Registration { token: Some([9; 32]), ..Registration::default() };
        assert_eq!(store.create_user(&new_user("a"), &unknown, &event("register")).await, Ok(Created::TokenSpent));
        let old = Registration { uia: Some((uia, 1)), ..Registration::default() };
        assert_eq!(store.create_user(&new_user("a"), &old, &event("register")).await, Ok(Created::AuthSpent));
        assert_eq!(store.count_users().await, Ok(0));
    }

    a_guest_is_upgraded_with_all_that_comes_with_it_or_not_at_all(store) {
        let new = NewUser { guest: true, password_hash: None, ..new_user("1234") };
        assert_eq!(store.create_user(&new, &Registration::default(), &event("guest")).await, Ok(Created::Done));
        let held = sign_in(&store, new.key, "KIOSK").await;
        let upgrade = Upgrade { guest: new.key, epoch: 0, session: held.id };
        let hash = PasswordHash("chosen".into());
        let (spent, good) = (
            crate::registration_tokens::add(&store, Some(0), None).await,
            crate::registration_tokens::add(&store, Some(9), None).await,
        );
        let uia = crate::uia::open(&store, None).await;
        let phone = device("PHONE");
        let verified = load_user(&store, new.key).await.verified();
        let (opened, other) = sign_in_as(new.key, verified, "PHONE");
        let with = |token, revision| Registration {
            token: Some(token),
            uia: Some((uia, revision)),
            session: Some((&phone, None, &opened.opened)),
            ..Registration::default()
        };
        let try_it = async |upgrade, with: Registration<'_>| {
            store.upgrade_guest(upgrade, &hash, &with, &event("upgrade")).await.unwrap()
        };
        assert_eq!(try_it(upgrade, with(spent, 0)).await, Created::TokenSpent);
        assert_eq!(try_it(upgrade, with(good, 1)).await, Created::AuthSpent);
        assert_eq!(try_it(Upgrade { epoch: 1, ..upgrade }, with(good, 0)).await, Created::NameTaken);
        assert_eq!(try_it(Upgrade { session: other.id, ..upgrade }, with(good, 0)).await, Created::NameTaken);
        assert!(load_user(&store, new.key).await.guest);
        assert_eq!(try_it(upgrade, with(good, 0)).await, Created::Done);
        let user = load_user(&store, new.key).await;
        assert_eq!((user.guest, &user.password_hash, user.epoch), (false, &Some(hash.clone()), 0));
        assert_eq!(user.password_changed_at, Some(NOW));
        assert!(passes(&store, &held).await && passes(&store, &other).await);
        assert!(!store.live_session(held.id).await.unwrap().unwrap().user.guest);
        assert_eq!(store.find_registration_token(good).await.unwrap().unwrap().used, 1);
        assert!(store.find_uia(uia).await.unwrap().is_none());
        let again = Registration::default();
        assert_eq!(try_it(upgrade, again).await, Created::NameTaken);
    }

    accounts_are_listed_in_pages(store) {
        let names = ["alice", "bob", "carol", "x-y", "x.y", "x_y"];
        for name in ["x_y", "carol", "alice", "x.y", "bob", "x-y"] {
            add_user(&store, name).await;
        }
        let mut listed = Vec::new();
        let mut after = String::new();
        loop {
            let page = store.list_users(&after, 4).await.unwrap();
            let Some(last) = page.last() else { break };
            after.clone_from(&last.localpart);
            listed.extend(page.into_iter().map(|user| user.localpart));
        }
        assert_eq!(listed, names, "bytewise, on both engines");
        assert_eq!(store.count_users().await, Ok(6));
        assert!(store.find_user(&localpart("nobody")).await.unwrap().is_none());
        assert!(store.load_user(ligand_protocol::ids::UserKey(1)).await.unwrap().is_none());
    }

    a_lock_stops_everything_and_ends_nothing(store) {
        let user = add_user(&store, "alice").await;
        let held = sign_in(&store, user, "A").await;
        let flag = async |flag| store.set_flag(user, flag, &event("flag")).await.unwrap();
        assert!(!flag(Flag::Unlock).await);
        assert!(flag(Flag::Lock).await);
        assert!(!flag(Flag::Lock).await);
        assert_eq!(load_user(&store, user).await.state, AccountState::Locked);
        assert_eq!(check(&store, &held).await, CheckVerdict::Refuse(Refusal::Locked));
        for door in [Door::Refresh, Door::TokenRefresh] {
            assert!(rotate(&store, &held, door, Spending::Head).await.is_none());
        }
        let verified = load_user(&store, user).await.verified();
        assert_eq!(store.sign_in(&sign_in_as(user, verified, "A").0).await, Ok(false));
        assert!(flag(Flag::Unlock).await);
        assert_eq!(check(&store, &held).await, CheckVerdict::Ok, "the same tokens again");
        assert!(rotate(&store, &held, Door::TokenRefresh, Spending::Head).await.is_some());
        assert_eq!(load_user(&store, user).await.epoch, 0);
    }

    administrators_are_made_and_unmade(store) {
        let user = add_user(&store, "alice").await;
        let bob = add_user(&store, "bob").await;
        for admin in [true, false] {
            assert_eq!(store.set_flag(user, Flag::Admin(admin), &event("admin")).await, Ok(true));
            assert_eq!(store.set_flag(user, Flag::Admin(admin), &event("admin")).await, Ok(false));
            assert_eq!(load_user(&store, user).await.admin, admin);
            assert!(!load_user(&store, bob).await.admin);
        }
        let nobody = ligand_protocol::ids::UserKey(1);
        assert_eq!(number(&store, "select count(*) from audit where action = 'admin'", vec![]).await, 2);
        for flag in [Flag::Admin(true), Flag::Suspended(true), Flag::Lock, Flag::Unlock] {
            assert_eq!(store.set_flag(nobody, flag, &event("flag")).await, Ok(false));
        }
    }

    a_suspension_is_seen_by_checks_and_ends_nothing(store) {
        let user = add_user(&store, "alice").await;
        let held = sign_in(&store, user, "A").await;
        for suspended in [true, false] {
            let flag = Flag::Suspended(suspended);
            assert_eq!(store.set_flag(user, flag, &event("flag")).await, Ok(true));
            assert_eq!(store.set_flag(user, flag, &event("flag")).await, Ok(false));
            assert_eq!(store.live_session(held.id).await.unwrap().unwrap().user.suspended, suspended);
            assert_eq!(check(&store, &held).await, CheckVerdict::Ok);
        }
    }

    administrators_do_not_moderate_each_other(store) {
        let user = add_user(&store, "alice").await;
        for flag in [Flag::Lock, Flag::Unlock, Flag::Suspended(true), Flag::Suspended(false)] {
            assert_eq!(store.moderate(user, flag, &event("flag")).await, Ok(true));
            assert_eq!(store.moderate(user, flag, &event("flag")).await, Ok(false));
        }
        assert_eq!(store.set_flag(user, Flag::Admin(true), &event("admin")).await, Ok(true));
        for flag in [Flag::Lock, Flag::Suspended(true)] {
            assert_eq!(store.moderate(user, flag, &event("flag")).await, Ok(false));
            assert_eq!(store.set_flag(user, flag, &event("flag")).await, Ok(true));
        }
    }

    a_deactivated_account_is_neither_locked_nor_unlocked(store) {
        let user = add_user(&store, "alice").await;
        assert_eq!(store.deactivate(user, 0, false, None, &event("deactivate")).await, Ok(true));
        assert_eq!(number(&store, "select erased from users", vec![]).await, 0);
        for flag in [Flag::Lock, Flag::Unlock, Flag::Suspended(true)] {
            assert_eq!(store.set_flag(user, flag, &event("flag")).await, Ok(false));
        }
        assert_eq!(load_user(&store, user).await.state, AccountState::Deactivated);
    }

    audit_rows_are_kept_whole_and_for_ever(store) {
        let user = add_user(&store, "alice").await;
        let held = sign_in(&store, user, "A").await;
        let recorded = AuditEvent {
            actor: Some("operator".into()),
            user: Some(user),
            session: Some(held.id),
            generation: Some(u32::MAX),
            address: Some("192.0.2.1".into()),
            user_agent: Some("agent".into()),
            detail: Some("detail".into()),
            ..AuditEvent::new("reuse", NOW)
        };
        assert_eq!(store.record(&recorded).await, Ok(()));
        let rows = store
            .read("select at, actor, action, user_id, session_id, generation, address, user_agent, detail
                   from audit where action = 'reuse'", vec![])
            .await.unwrap();
        let expected = params![
            NOW, "operator", "reuse", user, held.id, u32::MAX, "192.0.2.1", "agent", "detail"
        ];
        assert_eq!(rows, [ligand_storage::Row::new(expected)]);
        assert_eq!(store.count_audit("reuse", held.id).await, Ok(1));
        assert_eq!(store.count_audit("logout", held.id).await, Ok(0));
        for sql in ["update audit set detail = 'x'", "delete from audit"] {
            let refused = store.commit(vec![Write::any(sql, vec![])], vec![]).await;
            assert!(matches!(refused, Err(StoreError::Rejected(_))), "{refused:?}");
        }
        assert_eq!(number(&store, "select count(*) from audit", vec![]).await, 3);
    }
}
