//! OpenID tokens: whose they are, and how long.

use ligand_protocol::ids::UserKey;
use ligand_protocol::session::EndReason;
use ligand_protocol::token::TokenHash;
use ligand_storage::users::Flag;

use crate::on_both;
use crate::world::*;

on_both! {
    a_token_is_its_owners_until_it_expires(store) {
        let (alice, bob) = (add_user(&store, "alice").await, add_user(&store, "bob").await);
        let (hers, his) = (TokenHash(unique()), TokenHash(unique()));
        assert_eq!(store.add_openid_token(hers, alice, NOW + HOUR).await, Ok(true));
        assert_eq!(store.add_openid_token(his, bob, NOW + HOUR).await, Ok(true));
        let owner = async |hash, now| store.owner_of_openid_token(hash, now).await.unwrap();
        assert_eq!(owner(hers, NOW).await.as_deref(), Some("alice"));
        assert_eq!(owner(his, NOW + HOUR - 1).await.as_deref(), Some("bob"));
        assert_eq!(owner(his, NOW + HOUR).await, None);
        assert_eq!(owner(TokenHash(unique()), NOW).await, None);
        assert_eq!(store.add_openid_token(TokenHash(unique()), UserKey(1), NOW + HOUR).await, Ok(false));
    }

    it_is_nobodys_while_the_account_is_out_of_use(store) {
        let user = add_user(&store, "alice").await;
        let hash = TokenHash(unique());
        assert_eq!(store.add_openid_token(hash, user, NOW + HOUR).await, Ok(true));
        let is_good = async || store.owner_of_openid_token(hash, NOW).await.unwrap().is_some();
        for (off, on) in [(Flag::Lock, Flag::Unlock), (Flag::Suspended(true), Flag::Suspended(false))] {
            store.set_flag(user, off, &event("flag")).await.unwrap();
            assert!(!is_good().await, "{off:?}");
            assert_eq!(store.add_openid_token(TokenHash(unique()), user, NOW + HOUR).await, Ok(false));
            store.set_flag(user, on, &event("flag")).await.unwrap();
            assert!(is_good().await, "{on:?}");
        }
        assert_eq!(store.end_all_of(user, 0, EndReason::LogoutAll, &event("logout_all")).await, Ok(true));
        assert!(!is_good().await);
        let hash = TokenHash(unique());
        assert_eq!(store.add_openid_token(hash, user, NOW + HOUR).await, Ok(true));
        assert_eq!(store.deactivate(user, 1, false, None, &event("deactivate")).await, Ok(true));
        assert_eq!(store.owner_of_openid_token(hash, NOW).await, Ok(None));
    }

    expired_tokens_go_few_at_a_time(store) {
        let user = add_user(&store, "alice").await;
        for at in 0..5 {
            assert_eq!(store.add_openid_token(TokenHash(unique()), user, NOW + at).await, Ok(true));
        }
        assert_eq!(store.delete_expired_openid_tokens(NOW - 1, 9).await, Ok(0));
        assert_eq!(store.delete_expired_openid_tokens(NOW + 3, 3).await, Ok(3));
        assert_eq!(store.delete_expired_openid_tokens(NOW + 3, 3).await, Ok(1));
    }
}
