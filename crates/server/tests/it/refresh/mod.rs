//! `POST /refresh`: the old token stays good until the new pair is used, and a retry gets the same
//! pair. `lost` has the answers that got lost, `reuse` the tokens that were spent, `expiry` time.

mod expiry;
mod lost;
mod reuse;

use serde_json::json;

use crate::both;
use crate::harness::{MINUTE, SECOND, Server, Tokens};

both! {
    async fn a_refresh_token_buys_a_new_pair_on_every_prefix(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        for prefix in ["v3", "v1", "r0", "unstable"] {
            let before = alice.tokens.clone();
            let answer = alice.exchange_at(&format!("{prefix}/refresh")).await;
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            alice.tokens = Tokens::of(&answer.expect_ok());
            assert_ne!(alice.tokens.access_token, before.access_token);
            assert_ne!(alice.tokens.refresh_token, before.refresh_token);
            assert_eq!(alice.tokens.expires_in_ms, Some(5 * MINUTE));
            alice.whoami().await.expect_ok();
        }
    }

    async fn it_needs_no_access_token_and_ignores_any(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        server.pass(10 * MINUTE);
        let expired = alice.tokens.access_token.clone();
        alice.tokens = Tokens::of(&alice.try_to_refresh().bearer(&expired).await.expect_ok());
        alice.try_to_refresh().bearer("nonsense").await.expect_ok();
    }

    async fn the_session_keeps_its_device(server: Server) {
        let mut alice = server.user("alice").await.log_in_with(json!({"device_id": "PHONE"})).await;
        alice.refresh().await;
        assert_eq!(alice.whoami().await.expect_ok()["device_id"], "PHONE");
        assert_eq!(alice.devices().await, ["PHONE"]);
    }

    async fn the_old_access_token_lives_on_until_the_new_one_is_used_and_half_a_minute_more(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let before = alice.clone();
        alice.refresh().await;
        server.pass(MINUTE);
        before.whoami().await.expect_ok();
        alice.whoami().await.expect_ok();
        server.pass(30 * SECOND - 1);
        before.whoami().await.expect_ok();
        server.pass(1);
        before.whoami().await.expect_unknown_token(true);
        alice.whoami().await.expect_ok();
    }

    async fn but_not_past_its_own_end(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let before = alice.clone();
        server.pass(5 * MINUTE - SECOND);
        alice.refresh().await;
        alice.whoami().await.expect_ok();
        server.pass(SECOND);
        before.whoami().await.expect_unknown_token(true);
    }

    async fn use_of_the_new_access_token_kills_the_old_refresh_token(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let before = alice.clone();
        alice.refresh().await;
        before.try_to_refresh().await.expect_ok();
        alice.whoami().await.expect_ok();
        before.try_to_refresh().await.expect_unknown_token(true);
        before.try_to_tokenrefresh().await.expect_forbidden();
        alice.whoami().await.expect_ok();
    }

    async fn use_of_the_new_refresh_token_kills_the_old_one_too(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let before = alice.clone();
        alice.refresh().await;
        alice.refresh().await;
        before.try_to_refresh().await.expect_unknown_token(true);
        alice.refresh().await;
    }

    async fn any_endpoint_is_a_use(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        for path in ["v3/devices", "v3/capabilities", "r0/account/whoami"] {
            let before = alice.clone();
            alice.refresh().await;
            alice.get(path).await.expect_ok();
            before.try_to_refresh().await.expect_unknown_token(true);
        }
    }

    async fn use_of_the_old_access_token_acknowledges_nothing(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let lost = alice.refresh_without_keeping_the_answer().await;
        for _ in 0..3 {
            alice.whoami().await.expect_ok();
        }
        assert!(alice.refresh_without_keeping_the_answer().await.same_pair(&lost));
    }

    async fn doors_may_be_mixed(server: Server) {
        let mut alice = server.user("alice").await.log_in_at("api/v1").await;
        for _ in 0..3 {
            alice.refresh().await;
            alice.whoami().await.expect_ok();
            alice.tokenrefresh().await;
            alice.whoami().await.expect_ok();
            alice.refresh().await;
            alice.tokenrefresh().await;
        }
        alice.whoami().await.expect_ok();
    }

    async fn a_token_of_another_kind_is_unknown(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let post = |text: &str| server.post("v3/refresh").json(json!({"refresh_token": text}));
        post(&alice.tokens.access_token).await.expect_unknown_token(false);
        server.get("v3/account/whoami").bearer(alice.tokens.refresh_token()).await.expect_unknown_token(false);
        for text in ["", "nonsense", "lgr_", "syr_abcdefghijklmnopqrst", &"x".repeat(10_000)] {
            post(text).await.expect_unknown_token(false);
        }
        alice.whoami().await.expect_ok();
    }

    // I9.
    async fn a_token_with_a_bad_tag_is_unknown_and_ends_nothing(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let before = alice.tokens.clone();
        for _ in 0..3 {
            alice.refresh().await;
        }
        alice.whoami().await.expect_ok();
        server.pass(10 * MINUTE);
        // Every character counts: the session's, the generation's, the secret's, the tag's.
        for at in [5, 30, 45, 70] {
            let mut text = before.refresh_token().to_owned();
            let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
            text.replace_range(at..=at, other);
            server.post("v3/refresh").json(json!({"refresh_token": text})).await.expect_unknown_token(false);
        }
        alice.refresh().await;
        alice.whoami().await.expect_ok();
        assert_eq!(server.audited("reuse").await, 0);
    }
}
