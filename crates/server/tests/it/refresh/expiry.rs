//! The ends of tokens and sessions, and what is said about them (I19).

use std::time::Duration;

use crate::both;
use crate::harness::{DAY, HOUR, MINUTE, SECOND, Server};

both! {
    async fn an_access_token_expires_softly(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        server.pass(5 * MINUTE - 1);
        alice.whoami().await.expect_ok();
        server.pass(1);
        let answer = alice.whoami().await;
        answer.expect_unknown_token(true);
        assert_eq!(answer.json()["error"], "The access token has expired.");
        alice.refresh().await;
        alice.whoami().await.expect_ok();
    }

    async fn its_lifetime_is_what_the_operator_says(server: Server) {
        let server = server.with(|config| config.sessions.access_token_lifetime = Duration::from_secs(2)).await;
        let mut alice = server.user("alice").await.log_in().await;
        for _ in 0..5 {
            assert_eq!(alice.tokens.expires_in_ms, Some(2 * SECOND));
            alice.whoami().await.expect_ok();
            server.pass(2 * SECOND);
            alice.whoami().await.expect_unknown_token(true);
            alice.refresh().await;
        }
    }

    async fn a_refresh_token_without_a_limit_waits_for_years(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        server.pass(3_650 * DAY);
        alice.refresh().await;
        alice.whoami().await.expect_ok();
    }

    async fn one_that_lay_too_long_is_refused_softly(server: Server) {
        let hour = Duration::from_secs(3_600);
        let server = server.with(|config| config.sessions.refresh_token_lifetime = Some(hour)).await;
        let mut alice = server.user("alice").await.log_in().await;
        for _ in 0..3 {
            server.pass(HOUR - 1);
            alice.refresh().await;
        }
        server.pass(HOUR);
        alice.try_to_refresh().await.expect_unknown_token(true);
        alice.try_to_tokenrefresh().await.expect_forbidden();
    }

    async fn a_repetition_is_refused_then_as_well(server: Server) {
        let hour = Duration::from_secs(3_600);
        let server = server.with(|config| config.sessions.refresh_token_lifetime = Some(hour)).await;
        let alice = server.user("alice").await.log_in().await;
        alice.refresh_without_keeping_the_answer().await;
        server.pass(HOUR);
        alice.try_to_refresh().await.expect_unknown_token(true);
    }

    async fn idleness_ends_the_refresh_only(server: Server) {
        let server = server
            .with(|config| {
                config.sessions.refresh_token_lifetime = Some(Duration::from_secs(60));
                config.sessions.access_token_lifetime = Duration::from_secs(3_600);
            })
            .await;
        let alice = server.user("alice").await.log_in().await;
        server.pass(2 * MINUTE);
        alice.try_to_refresh().await.expect_unknown_token(true);
        alice.whoami().await.expect_ok();
    }

    async fn a_session_ends_for_good_at_its_own_end(server: Server) {
        let hour = Duration::from_secs(3_600);
        let server = server.with(|config| config.sessions.session_lifetime = Some(hour)).await;
        let mut alice = server.user("alice").await.log_in().await;
        server.pass(HOUR - MINUTE);
        let last = alice.refresh().await;
        assert_eq!(last.expires_in_ms, Some(MINUTE), "never past the session's end");
        alice.whoami().await.expect_ok();
        server.pass(MINUTE);
        alice.whoami().await.expect_unknown_token(true);
        alice.try_to_refresh().await.expect_unknown_token(true);
        alice.try_to_tokenrefresh().await.expect_forbidden();
    }

    async fn so_does_one_without_a_refresh_token(server: Server) {
        let hour = Duration::from_secs(3_600);
        let server = server.with(|config| config.sessions.session_lifetime = Some(hour)).await;
        let alice = server.user("alice").await.log_in_at("v3").await;
        assert_eq!(alice.tokens.expires_in_ms, Some(HOUR));
        server.pass(HOUR);
        alice.whoami().await.expect_unknown_token(true);
    }

    async fn the_lasting_token_of_r0_ends_with_the_session_too(server: Server) {
        let hour = Duration::from_secs(3_600);
        let server = server.with(|config| config.sessions.session_lifetime = Some(hour)).await;
        let alice = server.user("alice").await.log_in_at("r0").await;
        assert_eq!(alice.tokens.expires_in_ms, Some(HOUR));
    }
}
