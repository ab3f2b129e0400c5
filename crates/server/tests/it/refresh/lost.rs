//! Lost, late and parallel refreshes: whoever repeats gets the same pair (I2, I4, I5).

use serde_json::json;

use crate::both;
use crate::harness::{HOUR, MINUTE, SECOND, Server, Tokens, at_once};

both! {
    async fn a_lost_answer_can_be_repeated(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let lost = alice.refresh_without_keeping_the_answer().await;
        let again = alice.refresh().await;
        assert!(again.same_pair(&lost));
        alice.whoami().await.expect_ok();
    }

    async fn as_often_and_as_late_as_it_takes(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let lost = alice.refresh_without_keeping_the_answer().await;
        for _ in 0..5 {
            server.pass(30 * SECOND);
            assert!(alice.refresh_without_keeping_the_answer().await.same_pair(&lost));
        }
        let last = alice.refresh().await;
        assert_eq!(last.expires_in_ms, Some(5 * MINUTE - 150 * SECOND), "what remains");
        alice.whoami().await.expect_ok();
    }

    async fn on_another_prefix_as_well(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let lost = alice.refresh_without_keeping_the_answer().await;
        for prefix in ["v1", "r0", "unstable"] {
            let again = alice.exchange_at(&format!("{prefix}/refresh")).await.expect_ok();
            assert!(Tokens::of(&again).same_pair(&lost));
        }
    }

    async fn a_chain_of_losses_does_not_break(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        for _ in 0..10 {
            let lost = alice.refresh_without_keeping_the_answer().await;
            assert!(alice.refresh().await.same_pair(&lost));
        }
        alice.whoami().await.expect_ok();
    }

    async fn after_the_end_of_the_lost_access_token_a_fresh_one_comes_with_the_same_refresh_token(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let lost = alice.refresh_without_keeping_the_answer().await;
        server.pass(HOUR);
        let again = alice.refresh_without_keeping_the_answer().await;
        assert_eq!(again.refresh_token, lost.refresh_token);
        assert_ne!(again.access_token, lost.access_token);
        assert_eq!(again.expires_in_ms, Some(5 * MINUTE));
        server.pass(MINUTE);
        let once_more = alice.refresh().await;
        assert!(once_more.same_pair(&again));
        alice.holding(&lost).whoami().await.expect_unknown_token(true);
        alice.whoami().await.expect_ok();
        alice.refresh().await;
    }

    async fn thirty_two_at_once_get_one_pair(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        for _ in 0..3 {
            let answers = at_once((0..32).map(|_| alice.try_to_refresh()).collect()).await;
            let pairs: Vec<Tokens> = answers.iter().map(|answer| Tokens::of(&answer.expect_ok())).collect();
            assert!(pairs.iter().all(|pair| pair.same_pair(&pairs[0])));
            alice.tokens = pairs[0].clone();
            alice.whoami().await.expect_ok();
        }
    }

    async fn thirty_two_late_ones_get_one_pair_with_one_fresh_access_token(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let lost = alice.refresh_without_keeping_the_answer().await;
        server.pass(HOUR);
        let answers = at_once((0..32).map(|_| alice.try_to_refresh()).collect()).await;
        let pairs: Vec<Tokens> = answers.iter().map(|answer| Tokens::of(&answer.expect_ok())).collect();
        assert!(pairs.iter().all(|pair| pair.same_pair(&pairs[0])));
        assert_eq!(pairs[0].refresh_token, lost.refresh_token);
        alice.tokens = pairs[0].clone();
        alice.whoami().await.expect_ok();
    }

    async fn a_restart_between_loses_nothing(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let lost = alice.refresh_without_keeping_the_answer().await;
        let server = server.restart().await;
        assert!(alice.refresh().await.same_pair(&lost));
        let server = server.restart().await;
        alice.whoami().await.expect_ok();
        let _server = server.restart().await;
        alice.refresh().await;
        alice.whoami().await.expect_ok();
    }

    // I7.
    async fn nor_does_it_bring_anything_back(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let before = alice.clone();
        alice.refresh().await;
        alice.whoami().await.expect_ok();
        let _server = server.restart().await;
        before.try_to_refresh().await.expect_unknown_token(true);
        alice.whoami().await.expect_ok();
    }

    async fn with_a_retry_window_the_same_pair_comes_even_after_its_use(server: Server) {
        let minute = std::time::Duration::from_secs(60);
        let server = server.with(|config| config.sessions.legacy_retry_window = minute).await;
        let mut alice = server.user("alice").await.log_in().await;
        let before = alice.clone();
        let pair = alice.refresh().await;
        alice.whoami().await.expect_ok();
        server.pass(MINUTE - 1);
        assert!(before.refresh_without_keeping_the_answer().await.same_pair(&pair));
        before.try_to_tokenrefresh().await.expect_forbidden();
        server.pass(1);
        before.try_to_refresh().await.expect_unknown_token(true);
        alice.whoami().await.expect_unknown_token(true);
    }

    async fn a_repetition_from_elsewhere_is_noted(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let refresh = |agent: &str| alice.try_to_refresh().header("user-agent", agent);
        refresh("Element").await.expect_ok();
        refresh("Element").await.expect_ok();
        assert_eq!(server.audited("refresh_repeated_elsewhere").await, 0);
        refresh("curl").await.expect_ok();
        assert_eq!(server.audited("refresh_repeated_elsewhere").await, 1);
        alice.whoami().await.expect_ok();
    }

    async fn a_use_and_a_repetition_at_once_leave_the_session_alive(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        for _ in 0..5 {
            let before = alice.clone();
            alice.refresh().await;
            let mut requests = vec![alice.get("v3/account/whoami"); 8];
            requests.extend(vec![before.try_to_refresh(); 8]);
            for answer in at_once(requests).await {
                assert!([200, 401].contains(&answer.status), "{answer:?}");
                assert!(answer.status == 200 || answer.json()["soft_logout"] == json!(true), "{answer:?}");
            }
            alice.whoami().await.expect_ok();
        }
    }
}
