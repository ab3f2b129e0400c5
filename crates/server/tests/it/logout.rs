//! `POST /logout`, `POST /logout/all`.

use serde_json::json;

use crate::both;
use crate::harness::{Server, at_once};

const PREFIXES: [&str; 5] = ["api/v1", "v2_alpha", "r0", "v3", "unstable"];

both! {
    // Digest §5 A18, I11: the whole session on every surface, with its device.
    async fn signing_out_ends_the_session_and_forgets_the_device(server: Server) {
        let alice = server.user("alice").await;
        let other = alice.log_in().await;
        for prefix in PREFIXES {
            let client = alice.log_in_with(json!({"device_id": "PHONE"})).await;
            let answer = client.post(&format!("{prefix}/logout"), json!({})).await.expect_ok();
            assert_eq!(answer, json!({}));
            client.whoami().await.expect_unknown_token(false);
            client.try_to_refresh().await.expect_unknown_token(false);
            client.try_to_tokenrefresh().await.expect_forbidden();
            assert!(!other.devices().await.contains(&"PHONE".to_owned()));
        }
        other.whoami().await.expect_ok();
        assert_eq!(server.audited("logout").await, 5);
    }

    async fn it_takes_any_body_or_none(server: Server) {
        let alice = server.user("alice").await;
        for body in ["", "{}", "null", "no json", &"x".repeat(70_000)] {
            let token = alice.log_in().await.tokens.access_token;
            server.post("v3/logout").bearer(&token).body(body).await.expect_ok();
            server.post("v3/logout").bearer(&token).await.expect_unknown_token(false);
        }
    }

    async fn a_second_time_the_token_is_unknown(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        alice.logout().await.expect_ok();
        alice.logout().await.expect_unknown_token(false);
        alice.logout_all().await.expect_unknown_token(false);
    }

    async fn at_once_nobody_is_told_of_trouble(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let answers = at_once(vec![alice.post("v3/logout", json!({})); 16]).await;
        assert!(answers.iter().all(|answer| [200, 401].contains(&answer.status)), "{answers:?}");
        assert!(answers.iter().any(|answer| answer.status == 200));
        assert_eq!(server.audited("logout").await, 1);
    }

    async fn the_old_access_token_of_an_unused_pair_signs_out_too(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let before = alice.clone();
        alice.refresh().await;
        before.logout().await.expect_ok();
        alice.whoami().await.expect_unknown_token(false);
        alice.try_to_refresh().await.expect_unknown_token(false);
    }

    async fn an_expired_access_token_signs_nobody_out(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        server.pass(crate::harness::HOUR);
        alice.logout().await.expect_unknown_token(true);
        alice.try_to_refresh().await.expect_ok();
    }

    async fn signing_out_everywhere_ends_every_session_of_the_user(server: Server) {
        let (alice, bob) = (server.user("alice").await, server.user("bob").await.log_in().await);
        for prefix in PREFIXES {
            let clients = [alice.log_in().await, alice.log_in_at("api/v1").await, alice.log_in_at("v3").await];
            clients[1].whoami().await.expect_ok();
            let answer = clients[0].post(&format!("{prefix}/logout/all"), json!({})).await.expect_ok();
            assert_eq!(answer, json!({}));
            for client in &clients {
                client.whoami().await.expect_unknown_token(false);
            }
            clients[0].try_to_refresh().await.expect_unknown_token(false);
            clients[1].try_to_tokenrefresh().await.expect_forbidden();
        }
        let again = alice.log_in().await;
        assert_eq!(again.devices().await, [&*again.device_id]);
        bob.whoami().await.expect_ok();
    }

    async fn an_ended_session_stays_ended_after_a_restart(server: Server) {
        let alice = server.user("alice").await;
        let (one, two) = (alice.log_in().await, alice.log_in().await);
        one.logout().await.expect_ok();
        let server = server.restart().await;
        one.whoami().await.expect_unknown_token(false);
        two.logout_all().await.expect_ok();
        let _server = server.restart().await;
        for ended in [one, two] {
            ended.whoami().await.expect_unknown_token(false);
            ended.try_to_refresh().await.expect_unknown_token(false);
        }
    }

    // I12.
    async fn a_refresh_that_races_with_the_end_revives_nothing(server: Server) {
        let alice = server.user("alice").await;
        for _ in 0..4 {
            let client = alice.log_in().await;
            let mut requests = vec![client.try_to_refresh(); 8];
            requests.push(client.post("v3/logout", json!({})));
            let answers = at_once(requests).await;
            answers[8].expect_ok();
            for answer in answers[..8].iter().filter(|answer| answer.status == 200) {
                let pair = crate::harness::Tokens::of(&answer.expect_ok());
                client.holding(&pair).whoami().await.expect_unknown_token(false);
                client.holding(&pair).try_to_refresh().await.expect_unknown_token(false);
            }
        }
    }
}
