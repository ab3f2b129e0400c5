//! Sign-in and the changes of a refresh, one by one.

use ligand_protocol::NEVER;
use ligand_protocol::ids::SessionId;
use ligand_protocol::session::{Api, CheckVerdict, Door, EndReason, Refusal, Spending, Status, Windows};
use ligand_protocol::token::TokenHash;
use ligand_storage::Store;
use ligand_storage::sessions::Seen;

use crate::on_both;
use crate::world::*;

async fn sign_in_again_without_an_address(store: &Store, held: &Held) {
    let verified = load_user(store, held.user).await.verified();
    let (mut sign_in, _) = sign_in_as(held.user, verified, held.device.as_str());
    sign_in.opened.ip = None;
    assert_eq!(store.sign_in(&sign_in).await, Ok(true));
}

on_both! {
    a_sign_in_opens_a_session_on_a_device(store) {
        let user = add_user(&store, "alice").await;
        let (mut sign_in, held) = sign_in_as(user, load_user(&store, user).await.verified(), "PHONE");
        sign_in.rehashed = Some("rehashed".into());
        assert_eq!(store.sign_in(&sign_in).await, Ok(true));

        let loaded = load(&store, held.id).await;
        let session = &loaded.session;
        assert_eq!((session.user, session.user_epoch, session.status), (user, 0, Status::Live));
        assert_eq!((session.generation, session.acked_generation, session.acked_at), (1, 1, Some(NOW)));
        assert_eq!((session.head_at, session.api, session.client_id.as_deref()), (NOW, Api::Legacy, None));
        assert_eq!(session.rt_hash, Some(held.pair.refresh.hash));
        assert_eq!(session.at_hash, held.pair.access.hash);
        assert_eq!((session.rt_exp, session.at_exp, session.session_exp), (NEVER, NOW + HOUR, NEVER));
        assert_eq!((session.rt_prev_hash, session.at_prev_hash, session.at_prev_exp), (None, None, None));
        assert_eq!((&session.sealed, loaded.seen), (&None, seen()));
        assert_eq!((loaded.localpart.as_str(), loaded.device_id), ("alice", Some(device("PHONE"))));
        assert_eq!(check(&store, &held).await, CheckVerdict::Ok);

        let account = load_user(&store, user).await;
        assert_eq!(account.last_sign_in_at, Some(NOW));
        assert_eq!(account.password_hash.unwrap().0, "rehashed");
        assert_eq!(account.password_changed_at, Some(NOW), "a rehash is no change of the password");
        assert_eq!(store.count_audit("sign_in", held.id).await, Ok(1));
        assert_eq!(store.addresses_of(user).await, Ok(vec!["192.0.2.7".to_owned()]));
        sign_in_again_without_an_address(&store, &held).await;
        assert_eq!(store.addresses_of(user).await, Ok(vec!["192.0.2.7".to_owned()]), "of ended sessions too");
        assert_eq!(store.addresses_of(ligand_protocol::ids::UserKey(1)).await, Ok(vec![]));
    }

    a_sign_in_ends_the_older_session_of_its_device_only(store) {
        let user = add_user(&store, "alice").await;
        let other = sign_in(&store, user, "LAPTOP").await;
        let stranger = add_user(&store, "bob").await;
        let theirs = sign_in(&store, stranger, "PHONE").await;
        let old = sign_in(&store, user, "PHONE").await;
        let (mut again, new) = sign_in_as(user, load_user(&store, user).await.verified(), "PHONE");
        again.initial_device_display_name = Some("a new name".into());
        assert_eq!(store.sign_in(&again).await, Ok(true));

        let row = store.show_session(old.id).await.unwrap().unwrap();
        assert_eq!(row.session.status, Status::Ended(EndReason::Replaced));
        assert_eq!(row.ended_at, Some(NOW));
        for held in [&other, &theirs, &new] {
            assert!(passes(&store, held).await);
        }
        let phone = store.find_device(user, &device("PHONE")).await.unwrap().unwrap();
        assert_eq!(phone.display_name.as_deref(), Some("PHONE of old"), "the name of a known device stays");
    }

    a_sign_in_is_refused_when_the_account_changed(store) {
        let user = add_user(&store, "alice").await;
        let read = load_user(&store, user).await.verified();
        let stale = ligand_storage::sessions::Verified { epoch: read.epoch + 1, ..read };
        let rekeyed = ligand_storage::sessions::Verified { password_changed_at: Some(NOW - 1), ..read };
        let passwordless = ligand_storage::sessions::Verified { password_changed_at: None, ..read };
        for verified in [stale, rekeyed, passwordless] {
            let (sign_in, held) = sign_in_as(user, verified, "PHONE");
            assert_eq!(store.sign_in(&sign_in).await, Ok(false));
            assert!(store.load_session(held.id).await.unwrap().is_none());
            assert_eq!(store.count_audit("sign_in", held.id).await, Ok(0));
        }
        assert!(store.devices_of(user).await.unwrap().is_empty());
        // A session id that exists: nothing of the batch stays.
        let held = sign_in(&store, user, "PHONE").await;
        let (mut twin, _) = sign_in_as(user, read, "LAPTOP");
        twin.opened.id = held.id;
        assert_eq!(store.sign_in(&twin).await, Ok(false));
        assert_eq!(store.devices_of(user).await.unwrap().len(), 1);
    }

    a_refresh_is_repeatable_until_its_pair_is_used(store) {
        let user = add_user(&store, "alice").await;
        let first = sign_in(&store, user, "PHONE").await;
        let before = load(&store, first.id).await.session;
        let (head, second) = next_head(&first, Door::Refresh, Spending::Head);
        let elsewhere = Seen { ip: Some("2001:db8::1".into()), user_agent: None };
        let rotated = store
            .rotate(first.id, first.pair.refresh.hash, Spending::Head, Door::Refresh, None, &head,
                elsewhere.clone(), NOW + 5)
            .await.unwrap().unwrap();
        assert_eq!((rotated.generation, rotated.at_exp, rotated.session_exp), (2, NOW + HOUR, NEVER));
        let after = load(&store, first.id).await;
        assert_eq!(after.session, before.rotated(head, Door::Refresh, NOW + 5));
        assert_eq!(after.seen, elsewhere);
        assert_eq!(store.show_session(first.id).await.unwrap().unwrap().last_seen, NOW + 5);

        assert!(rotate(&store, &first, Door::Refresh, Spending::Head).await.is_none(), "spent");
        assert_eq!(check(&store, &second).await, CheckVerdict::OkAfterAcknowledging);
        assert!(acknowledge(&store, &second).await);
        assert!(!acknowledge(&store, &second).await, "once");
        let acknowledged = load(&store, first.id).await.session;
        assert_eq!(acknowledged, after.session.acknowledged(&Windows::default(), NOW));
        assert_eq!(acknowledged.sealed, None);
        assert_eq!(acknowledged.at_prev_exp, Some(NOW + 30_000));
        assert!(!acknowledge(&store, &first).await, "an older access token acknowledges nothing");
    }

    a_retry_window_keeps_the_seal(store) {
        let user = add_user(&store, "alice").await;
        let first = sign_in(&store, user, "PHONE").await;
        let second = rotate(&store, &first, Door::Refresh, Spending::Head).await.unwrap();
        let windows = Windows { legacy_retry_ms: 1, ..Windows::default() };
        let before = load(&store, first.id).await.session;
        let hash = second.pair.access.hash;
        assert_eq!(store.acknowledge(first.id, Api::Legacy, hash, &windows, NOW).await, Ok(true));
        let after = load(&store, first.id).await.session;
        assert!(after.sealed.is_some());
        assert_eq!(after, before.acknowledged(&windows, NOW));
    }

    tokenrefresh_kills_what_it_replaces(store) {
        let user = add_user(&store, "alice").await;
        let first = sign_in(&store, user, "PHONE").await;
        let before = load(&store, first.id).await.session;
        let (head, second) = next_head(&first, Door::TokenRefresh, Spending::Head);
        let hash = first.pair.refresh.hash;
        let done = store
            .rotate(first.id, hash, Spending::Head, Door::TokenRefresh, None, &head, seen(), NOW)
            .await;
        assert!(done.unwrap().is_some());
        assert_eq!(load(&store, first.id).await.session, before.rotated(head, Door::TokenRefresh, NOW));
        assert_eq!(check(&store, &first).await, CheckVerdict::Refuse(Refusal::Expired));
        assert_eq!(check(&store, &second).await, CheckVerdict::Ok);
        assert!(rotate(&store, &first, Door::TokenRefresh, Spending::Head).await.is_none());
        assert!(rotate(&store, &first, Door::TokenRefresh, Spending::Predecessor).await.is_none());
    }

    tokenrefresh_burns_the_predecessor_with_its_unused_successor(store) {
        let user = add_user(&store, "alice").await;
        let first = sign_in(&store, user, "PHONE").await;
        let lost = rotate(&store, &first, Door::Refresh, Spending::Head).await.unwrap();
        let before = load(&store, first.id).await.session;
        let (head, third) = next_head(&first, Door::TokenRefresh, Spending::Predecessor);
        let hash = first.pair.refresh.hash;
        let burned = store
            .rotate(first.id, hash, Spending::Predecessor, Door::TokenRefresh, None, &head, seen(), NOW)
            .await.unwrap().unwrap();
        assert_eq!(burned.generation, 3);
        assert_eq!(load(&store, first.id).await.session, before.rotated(head, Door::TokenRefresh, NOW));
        for dead in [&first, &lost] {
            assert!(!passes(&store, dead).await);
            for spending in [Spending::Head, Spending::Predecessor] {
                assert!(rotate(&store, dead, Door::TokenRefresh, spending).await.is_none());
            }
        }
        assert_eq!(check(&store, &third).await, CheckVerdict::Ok);
    }

    a_used_predecessor_is_not_burned(store) {
        let user = add_user(&store, "alice").await;
        let first = sign_in(&store, user, "PHONE").await;
        let second = rotate(&store, &first, Door::Refresh, Spending::Head).await.unwrap();
        assert!(acknowledge(&store, &second).await);
        assert!(rotate(&store, &first, Door::TokenRefresh, Spending::Predecessor).await.is_none());
        assert_eq!(check(&store, &second).await, CheckVerdict::Ok);
    }

    an_expired_pair_is_sealed_again_under_the_same_refresh_token(store) {
        let user = add_user(&store, "alice").await;
        let first = sign_in(&store, user, "PHONE").await;
        rotate(&store, &first, Door::Refresh, Spending::Head).await.unwrap();
        let before = load(&store, first.id).await.session;
        let hash = TokenHash(unique());
        let resealed = store.reseal(&before, hash, NOW + 9 * HOUR, vec![9; 104]).await.unwrap().unwrap();
        assert_eq!((resealed.generation, resealed.at_exp), (2, NOW + 9 * HOUR));
        let after = load(&store, first.id).await.session;
        assert_eq!(after, before.resealed(hash, NOW + 9 * HOUR, vec![9; 104]));
        let again = store.reseal(&before, TokenHash(unique()), NOW, vec![1; 104]).await;
        assert_eq!(again, Ok(None), "guarded by the access token that was read");
        assert_eq!(load(&store, first.id).await.session, after);
    }

    nothing_outlives_the_session(store) {
        let user = add_user(&store, "alice").await;
        let (mut sign_in, held) = sign_in_as(user, load_user(&store, user).await.verified(), "PHONE");
        sign_in.opened.session_exp = NOW + 10;
        (sign_in.opened.rt_exp, sign_in.opened.at_exp) = (NOW + 10, NOW + 10);
        assert_eq!(store.sign_in(&sign_in).await, Ok(true));
        let second = rotate(&store, &held, Door::Refresh, Spending::Head).await.unwrap();
        let row = load(&store, held.id).await.session;
        assert_eq!((row.rt_exp, row.at_exp), (NOW + 10, NOW + 10));
        let resealed = store.reseal(&row, TokenHash(unique()), NOW + HOUR, vec![9; 104]).await.unwrap();
        assert_eq!(resealed.unwrap().at_exp, NOW + 10);
        let third = rotate(&store, &second, Door::TokenRefresh, Spending::Head).await.unwrap();
        let row = load(&store, held.id).await.session;
        assert_eq!((row.rt_exp, row.at_exp), (NOW + 10, NOW + 10));
        let (head, _) = next_head(&third, Door::Refresh, Spending::Head);
        let hash = third.pair.refresh.hash;
        let late = store
            .rotate(held.id, hash, Spending::Head, Door::Refresh, None, &head, seen(), NOW + 10)
            .await;
        assert_eq!(late, Ok(None), "the absolute end");
    }

    sessions_are_listed_in_pages_and_by_user(store) {
        let alice = add_user(&store, "alice").await;
        let bob = add_user(&store, "bob").await;
        let mut all = Vec::new();
        for at in 0..5 {
            let user = if at % 2 == 0 { alice } else { bob };
            all.push(sign_in(&store, user, &format!("D{at}")).await.id);
        }
        let replaced = all[0];
        all.push(sign_in(&store, alice, "D0").await.id);
        let expected = |with_ended: bool| {
            let mut ids: Vec<_> = all.iter().copied().filter(|id| with_ended || *id != replaced).collect();
            ids.sort();
            ids
        };
        for with_ended in [true, false] {
            let (mut listed, mut after) = (Vec::new(), SessionId([0; 16]));
            loop {
                let page = store.list_sessions(after, with_ended, 2).await.unwrap();
                let Some(last) = page.last() else { break };
                after = last.session.id;
                listed.extend(page.iter().map(|row| row.session.id));
            }
            assert_eq!(listed, expected(with_ended));
        }
        assert_eq!(store.sessions_of(alice, true).await.unwrap().len(), 4);
        let live = store.sessions_of(alice, false).await.unwrap();
        assert_eq!(live.len(), 3);
        assert!(live.iter().all(|row| row.localpart == "alice" && row.created_at == NOW && row.ended_at.is_none()));
        assert!(live.iter().all(|row| row.display_name.as_deref().is_some_and(|name| name.ends_with("of old"))));
        let shown = store.show_session(replaced).await.unwrap().unwrap();
        assert_eq!((shown.ip, shown.user_agent, shown.last_seen), (seen().ip, seen().user_agent, NOW));
        assert!(store.show_session(SessionId([1; 16])).await.unwrap().is_none());
        assert!(store.load_session(SessionId([1; 16])).await.unwrap().is_none());
    }

    devices_are_listed_and_renamed(store) {
        let user = add_user(&store, "alice").await;
        let held = sign_in(&store, user, "PHONE").await;
        sign_in(&store, user, "LAPTOP").await;
        let phone = store.find_device(user, &device("PHONE")).await.unwrap().unwrap();
        assert_eq!((phone.last_seen, phone.last_seen_ip), (Some(NOW), seen().ip));
        assert_eq!(store.rename_device(user, &device("PHONE"), Some("new")).await, Ok(true));
        assert_eq!(store.rename_device(user, &device("TABLET"), Some("new")).await, Ok(false));
        assert!(store.end_family(held.id, &event("reuse")).await.unwrap());
        let devices = store.devices_of(user).await.unwrap();
        let names: Vec<_> = devices.iter().map(|device| device.display_name.as_deref()).collect();
        assert_eq!(names, [Some("LAPTOP of old"), Some("new")], "in order of creation, then of name");
        assert_eq!((devices[0].last_seen, devices[1].last_seen), (Some(NOW), None), "of a live session only");
        assert_eq!(store.rename_device(user, &device("PHONE"), None).await, Ok(true));
        let phone = store.find_device(user, &device("PHONE")).await.unwrap().unwrap();
        assert_eq!(phone.display_name, None);
        assert!(store.find_device(user, &device("TABLET")).await.unwrap().is_none());
    }
}
