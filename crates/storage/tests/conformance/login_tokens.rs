//! Login tokens: one sign-in each, in time, while the account is as it was.

use ligand_protocol::session::EndReason;
use ligand_protocol::token::TokenHash;
use ligand_storage::Store;
use ligand_storage::audit::AuditEvent;
use ligand_storage::login_tokens::LoginToken;
use ligand_storage::sessions::Asked;
use ligand_storage::users::{Flag, PasswordHash};

use crate::on_both;
use crate::world::*;

/// Makes a token by a session whose owner's password was proved just now.
async fn add(store: &Store, held: &Held) -> TokenHash {
    let hash = TokenHash(unique());
    let asked = Asked { uia: None, ..asked_by(store, held, [0; 32], 0).await };
    let added =
        store.add_login_token(hash, held.user, NOW + MINUTE, &asked, &event("login_token_issued")).await;
    assert_eq!(added, Ok(true));
    hash
}

/// Signs in by a token, as the server does; whether it did.
async fn spend(store: &Store, hash: TokenHash, now: i64) -> bool {
    let Some(LoginToken { user, verified }) = store.find_login_token(hash, now).await.unwrap() else {
        return false;
    };
    let (mut sign_in, _) = sign_in_as(user, verified, "NEW");
    sign_in.login_token = Some(hash);
    sign_in.opened.now = now;
    store.sign_in(&sign_in).await.unwrap()
}

on_both! {
    a_token_signs_in_once(store) {
        let user = add_user(&store, "alice").await;
        let held = sign_in(&store, user, "A").await;
        let hash = add(&store, &held).await;
        assert!(store.find_login_token(TokenHash(unique()), NOW).await.unwrap().is_none());
        let found = store.find_login_token(hash, NOW).await.unwrap().unwrap();
        assert_eq!(found, LoginToken { user, verified: load_user(&store, user).await.verified() });
        let sign_ins = (0..32).map(|at| {
            let (mut sign_in, _) = sign_in_as(user, found.verified, &format!("DEVICE{at}"));
            sign_in.login_token = Some(hash);
            let store = store.store.clone();
            async move { store.sign_in(&sign_in).await.unwrap() }
        });
        assert_eq!(all_at_once(sign_ins).await.into_iter().filter(|done| *done).count(), 1);
        assert_eq!(marked_live(&store, user).await, 2);
        assert_eq!(number(&store, "select count(*) from login_tokens", vec![]).await, 0);
    }

    an_expired_token_signs_nobody_in(store) {
        let user = add_user(&store, "alice").await;
        let held = sign_in(&store, user, "A").await;
        let (first, second) = (add(&store, &held).await, add(&store, &held).await);
        assert!(spend(&store, first, NOW + MINUTE - 1).await);
        assert!(!spend(&store, second, NOW + MINUTE).await);
        // Nor by a sign-in that looked it up in time and committed too late.
        let verified = load_user(&store, user).await.verified();
        let (mut sign_in, _) = sign_in_as(user, verified, "NEW");
        sign_in.login_token = Some(second);
        sign_in.opened.now = NOW + MINUTE;
        assert_eq!(store.sign_in(&sign_in).await, Ok(false));
    }

    nor_one_of_an_account_that_changed(store) {
        let user = add_user(&store, "alice").await;
        let held = sign_in(&store, user, "A").await;
        let hash = add(&store, &held).await;
        store.set_flag(user, Flag::Lock, &event("lock")).await.unwrap();
        assert!(!spend(&store, hash, NOW).await);
        store.set_flag(user, Flag::Unlock, &event("unlock")).await.unwrap();
        let account = load_user(&store, user).await;
        let (new, event) = (PasswordHash("new".into()), AuditEvent::new("password", NOW + 1));
        let set = store.set_password(user, account.verified(), &new, false, None, None, &event).await;
        assert_eq!(set, Ok(true));
        assert!(!spend(&store, hash, NOW).await, "another password");
        let hash = add(&store, &held).await;
        let epoch = load_user(&store, user).await.epoch;
        assert_eq!(store.end_all_of(user, epoch, EndReason::LogoutAll, &event).await, Ok(true));
        assert!(!spend(&store, hash, NOW).await, "logged out everywhere");
    }

    a_session_that_has_ended_makes_none(store) {
        let user = add_user(&store, "alice").await;
        let held = sign_in(&store, user, "A").await;
        let uia = crate::uia::open(&store, Some(user)).await;
        let asked = asked_by(&store, &held, uia, 0).await;
        let add = async |asked: &Asked| {
            store.add_login_token(TokenHash(unique()), user, NOW + MINUTE, asked, &event("issued")).await.unwrap()
        };
        assert!(add(&asked).await);
        assert!(!add(&asked).await, "the proof was used");
        let asked = Asked { uia: None, ..asked };
        assert!(add(&asked).await);
        store.end_family(held.id, &event("reuse")).await.unwrap();
        assert!(!add(&asked).await);
        assert_eq!(number(&store, "select count(*) from login_tokens", vec![]).await, 2);
    }

    expired_tokens_go_few_at_a_time(store) {
        let user = add_user(&store, "alice").await;
        let held = sign_in(&store, user, "A").await;
        for _ in 0..5 {
            add(&store, &held).await;
        }
        assert_eq!(store.delete_expired_login_tokens(NOW + MINUTE - 1, 9).await, Ok(0));
        assert_eq!(store.delete_expired_login_tokens(NOW + MINUTE, 3).await, Ok(3));
        assert_eq!(store.delete_expired_login_tokens(NOW + MINUTE, 3).await, Ok(2));
    }
}
