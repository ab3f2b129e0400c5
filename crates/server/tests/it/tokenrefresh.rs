//! `POST /tokenrefresh` of 2015: each refresh token once, and the older tokens dead at once. The
//! rows of the table are those of the session's design: "the head" is the newest pair.

use serde_json::json;

use crate::both;
use crate::harness::{Answer, HOUR, MINUTE, SECOND, Server, Tokens, at_once};

const PREFIXES: [&str; 4] = ["api/v1", "v2_alpha", "r0", "unstable"];

both! {
    async fn a_refresh_token_buys_a_new_pair_on_every_prefix_of_2015(server: Server) {
        let mut alice = server.user("alice").await.log_in_at("api/v1").await;
        for prefix in PREFIXES {
            let before = alice.tokens.clone();
            let answer = alice.exchange_at(&format!("{prefix}/tokenrefresh")).await;
            alice.tokens = Tokens::of(&answer.expect_ok());
            assert_ne!(alice.tokens.access_token, before.access_token);
            assert_ne!(alice.tokens.refresh_token, before.refresh_token);
            assert_eq!(alice.tokens.expires_in_ms, Some(5 * MINUTE));
            alice.whoami().await.expect_ok();
        }
    }

    async fn it_can_be_switched_off(server: Server) {
        let server = server.with(|config| config.compat.tokenrefresh = false).await;
        let alice = server.user("alice").await.log_in().await;
        for prefix in PREFIXES {
            alice.exchange_at(&format!("{prefix}/tokenrefresh")).await.expect(404, "M_UNRECOGNIZED");
        }
        let versions = server.get("/_matrix/client/versions").await.expect_ok();
        assert!(!versions["versions"].as_array().unwrap().contains(&json!("r0.2.0")));
        alice.try_to_refresh().await.expect_ok();
    }

    async fn what_was_spent_is_dead_at_once(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let before = alice.clone();
        alice.tokenrefresh().await;
        before.try_to_tokenrefresh().await.expect_forbidden();
        before.try_to_refresh().await.expect_unknown_token(true);
        before.whoami().await.expect_unknown_token(true);
        alice.whoami().await.expect_ok();
    }

    // I6.
    async fn a_lost_answer_costs_the_refresh_and_not_the_session(server: Server) {
        let user = server.user("alice").await;
        let alice = user.log_in_with(json!({"device_id": "PHONE"})).await;
        let lost = alice.try_to_tokenrefresh().await.expect_ok();
        for wait in [0, SECOND, HOUR] {
            server.pass(wait);
            let refused = alice.try_to_tokenrefresh().await;
            refused.expect_forbidden();
            assert_eq!(refused.json()["soft_logout"], true);
        }
        alice.holding(&Tokens::of(&lost)).try_to_tokenrefresh().await.expect_ok();
        assert_eq!(server.audited("reuse").await, 0);
        user.log_in_with(json!({"device_id": "PHONE"})).await.whoami().await.expect_ok();
    }

    // I3.
    async fn of_thirty_two_at_once_one_succeeds(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        for _ in 0..3 {
            let answers = at_once((0..32).map(|_| alice.try_to_tokenrefresh()).collect()).await;
            let (good, refused): (Vec<Answer>, Vec<Answer>) =
                answers.into_iter().partition(|answer| answer.status == 200);
            assert_eq!(good.len(), 1);
            refused.iter().for_each(Answer::expect_forbidden);
            alice.tokens = Tokens::of(&good[0].expect_ok());
            alice.whoami().await.expect_ok();
        }
    }

    async fn an_expired_access_token_is_no_hindrance_nor_is_any_other(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        for bearer in [alice.tokens.access_token.clone(), "nonsense".to_owned()] {
            server.pass(10 * MINUTE);
            let answer = alice.try_to_tokenrefresh().bearer(&bearer).await.expect_ok();
            alice.tokens = Tokens::of(&answer);
        }
        let path = format!("api/v1/tokenrefresh?access_token={}", alice.tokens.access_token);
        alice.exchange_at(&path).bearer("another").await.expect_ok();
    }

    async fn what_is_none_of_ours_is_forbidden(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let access_token = Some(alice.tokens.access_token.clone());
        alice.tokens.refresh_token = access_token;
        alice.try_to_tokenrefresh().await.expect_forbidden();
        for text in ["", "nonsense", "lgr_", "syr_abcdefghijklmnopqrst"] {
            let answer = server.post("r0/tokenrefresh").json(json!({"refresh_token": text})).await;
            answer.expect_forbidden();
            assert_ne!(answer.json()["soft_logout"], true);
        }
        alice.whoami().await.expect_ok();
    }

    async fn an_unused_pair_of_refresh_is_spent_like_any_other(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let first = alice.clone();
        alice.refresh().await;
        let second = alice.clone();
        alice.tokenrefresh().await;
        for spent in [&first, &second] {
            spent.try_to_tokenrefresh().await.expect_forbidden();
            spent.whoami().await.expect_unknown_token(true);
            spent.try_to_refresh().await.expect_unknown_token(true);
        }
        alice.whoami().await.expect_ok();
    }

    // Digest §5 A1: superseded, not yet revoked, so still good here; it burns what came of it.
    async fn the_predecessor_of_an_unused_pair_is_burnt_with_it(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let unused = alice.holding(&alice.refresh_without_keeping_the_answer().await);
        let first = alice.clone();
        alice.tokenrefresh().await;
        for spent in [&first, &unused] {
            spent.whoami().await.expect_unknown_token(true);
            spent.try_to_tokenrefresh().await.expect_forbidden();
        }
        alice.whoami().await.expect_ok();
        alice.tokenrefresh().await;
    }

    async fn of_thirty_two_with_a_predecessor_one_succeeds(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        alice.refresh_without_keeping_the_answer().await;
        let answers = at_once((0..32).map(|_| alice.try_to_tokenrefresh()).collect()).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    }

    async fn the_predecessor_of_a_used_pair_is_refused_and_no_more(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let before = alice.clone();
        alice.refresh().await;
        alice.whoami().await.expect_ok();
        for wait in [0, MINUTE, HOUR] {
            server.pass(wait);
            before.try_to_tokenrefresh().await.expect_forbidden();
        }
        alice.refresh().await;
        alice.whoami().await.expect_ok();
    }

    async fn however_old_a_spent_token_is_it_is_refused_and_no_more(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let mut spent = Vec::new();
        for _ in 0..4 {
            spent.push(alice.clone());
            alice.tokenrefresh().await;
        }
        server.pass(HOUR);
        for old in &spent {
            old.try_to_tokenrefresh().await.expect_forbidden();
        }
        alice.tokenrefresh().await;
        alice.whoami().await.expect_ok();
    }

    // Digest §5 A17: a switch, off by default.
    async fn with_the_switch_a_spent_token_ends_the_session(server: Server) {
        let server = server.with(|config| config.compat.tokenrefresh_reuse_ends_session = true).await;
        let mut alice = server.user("alice").await.log_in().await;
        let before = alice.clone();
        alice.tokenrefresh().await;
        before.try_to_tokenrefresh().await.expect_forbidden();
        alice.whoami().await.expect_ok();
        server.pass(30 * SECOND);
        before.try_to_tokenrefresh().await.expect_forbidden();
        alice.whoami().await.expect_unknown_token(true);
        assert_eq!(server.audited("reuse").await, 1);
    }

    // The path where a spent token is presented decides, however its successor was minted.
    async fn at_the_new_door_a_token_spent_here_ends_the_session_after_the_leeway(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let before = alice.clone();
        alice.tokenrefresh().await;
        before.try_to_refresh().await.expect_unknown_token(true);
        alice.whoami().await.expect_ok();
        server.pass(30 * SECOND);
        before.try_to_refresh().await.expect_unknown_token(true);
        alice.whoami().await.expect_unknown_token(true);
        assert_eq!(server.audited("reuse").await, 1);
    }

    async fn after_signing_out_the_refresh_token_is_dead(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        alice.logout().await.expect_ok();
        let refused = alice.try_to_tokenrefresh().await;
        refused.expect_forbidden();
        assert_ne!(refused.json()["soft_logout"], true);
    }

    async fn one_that_lay_too_long_is_refused(server: Server) {
        let day = std::time::Duration::from_secs(86_400);
        let server = server.with(|config| config.sessions.refresh_token_lifetime = Some(day)).await;
        let mut alice = server.user("alice").await.log_in().await;
        server.pass(24 * HOUR - 1);
        alice.tokenrefresh().await;
        server.pass(24 * HOUR);
        alice.try_to_tokenrefresh().await.expect_forbidden();
    }

    // Digest §5 A5: no refresh token in the answer says that there is nothing to renew.
    async fn at_the_end_of_the_session_there_is_no_further_refresh_token(server: Server) {
        let hour = std::time::Duration::from_secs(3_600);
        let server = server.with(|config| config.sessions.session_lifetime = Some(hour)).await;
        let mut alice = server.user("alice").await.log_in().await;
        server.pass(HOUR - 5 * MINUTE - 1);
        assert!(alice.tokenrefresh().await.refresh_token.is_some());
        server.pass(MINUTE);
        let last = alice.tokenrefresh().await;
        assert_eq!((last.refresh_token, last.expires_in_ms), (None, Some(4 * MINUTE + 1)));
        alice.whoami().await.expect_ok();
        server.pass(4 * MINUTE + 1);
        alice.whoami().await.expect_unknown_token(true);
    }

    async fn fifty_exchanges_in_a_row_and_a_restart_between(server: Server) {
        let mut alice = server.user("alice").await.log_in_at("api/v1").await;
        for _ in 0..25 {
            server.pass(10 * MINUTE);
            alice.tokenrefresh().await;
        }
        let spent = alice.clone();
        alice.tokenrefresh().await;
        let server = server.restart().await;
        spent.try_to_tokenrefresh().await.expect_forbidden();
        spent.whoami().await.expect_unknown_token(true);
        alice.whoami().await.expect_ok();
        for _ in 0..25 {
            server.pass(10 * MINUTE);
            alice.tokenrefresh().await;
        }
        alice.whoami().await.expect_ok();
    }
}
