//! Registration tokens: added, listed, used up, revoked.

use ligand_protocol::UnixMs;
use ligand_storage::Store;
use ligand_storage::registration_tokens::RegistrationToken;
use ligand_storage::users::{Created, NewUser, Registration};

use crate::on_both;
use crate::world::*;

fn token(uses_allowed: Option<i64>, expires_at: Option<UnixMs>) -> RegistrationToken {
    RegistrationToken {
        token_hash: unique(),
        name: "abcd".into(),
        uses_allowed,
        used: 0,
        expires_at,
        created_at: NOW,
        revoked_at: None,
    }
}

/// Adds a token; its hash.
pub async fn add(store: &Store, uses_allowed: Option<i64>, expires_at: Option<UnixMs>) -> [u8; 32] {
    let token = token(uses_allowed, expires_at);
    assert_eq!(store.add_registration_token(&token).await, Ok(true));
    token.token_hash
}

/// Whether the token lets one more person in.
async fn lets_in(store: &Store, token: [u8; 32], name: &str, now: UnixMs) -> bool {
    let with = Registration { token: Some(token), ..Registration::default() };
    let new = NewUser { now, ..new_user(name) };
    match store.create_user(&new, &with, &event("register")).await.unwrap() {
        Created::Done => true,
        Created::TokenSpent => false,
        other => panic!("{other:?}"),
    }
}

on_both! {
    tokens_are_added_once_and_listed(store) {
        let older = RegistrationToken { name: "zz".into(), created_at: NOW - 1, ..token(Some(3), Some(NOW)) };
        let newer = token(None, None);
        assert_eq!(store.add_registration_token(&newer).await, Ok(true));
        assert_eq!(store.add_registration_token(&older).await, Ok(true));
        assert_eq!(store.add_registration_token(&older).await, Ok(false));
        assert_eq!(store.list_registration_tokens().await, Ok(vec![older.clone(), newer.clone()]));
        assert_eq!(store.find_registration_token(older.token_hash).await, Ok(Some(older)));
        assert_eq!(store.find_registration_token([0; 32]).await, Ok(None));
    }

    a_token_lets_in_as_many_as_it_allows(store) {
        let three = add(&store, Some(3), None).await;
        let any = add(&store, None, None).await;
        for at in 0..5 {
            assert_eq!(lets_in(&store, three, &format!("three{at}"), NOW).await, at < 3);
            assert!(lets_in(&store, any, &format!("any{at}"), NOW).await);
        }
        assert_eq!(store.find_registration_token(three).await.unwrap().unwrap().used, 3);
        assert_eq!(store.find_registration_token(any).await.unwrap().unwrap().used, 5);
        assert_eq!(store.count_users().await, Ok(8));
    }

    an_expired_or_revoked_token_lets_nobody_in(store) {
        let short = add(&store, None, Some(NOW + 10)).await;
        assert!(lets_in(&store, short, "a", NOW + 9).await);
        assert!(!lets_in(&store, short, "b", NOW + 10).await);
        let revoked = add(&store, None, None).await;
        assert!(lets_in(&store, revoked, "c", NOW).await);
        assert_eq!(store.revoke_registration_token(revoked, NOW).await, Ok(true));
        assert_eq!(store.revoke_registration_token(revoked, NOW + 1).await, Ok(false));
        assert_eq!(store.revoke_registration_token([0; 32], NOW).await, Ok(false));
        assert!(!lets_in(&store, revoked, "d", NOW).await);
        let found = store.find_registration_token(revoked).await.unwrap().unwrap();
        assert_eq!((found.revoked_at, found.used), (Some(NOW), 1));
    }
}
