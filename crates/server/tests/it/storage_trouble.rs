//! The database is gone: our own trouble is 503, never a 4xx that a client takes for a logout, and
//! never a success that did not happen (I16, I18).

use ligand_protocol::registration::RegistrationMode;
use serde_json::{Value, json};

use crate::both;
use crate::harness::{MINUTE, PASSWORD, Server};

both! {
    // matrix-js-sdk takes any JSON error here for an answer and signs out.
    async fn refresh_says_so_in_plain_text(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        server.store().close().await;
        for prefix in ["v3", "v1", "r0", "unstable"] {
            let answer = alice.exchange_at(&format!("{prefix}/refresh")).await;
            assert_eq!(answer.status, 503, "{answer:?}");
            assert!(answer.header("content-type").unwrap().starts_with("text/plain"), "{answer:?}");
            assert!(answer.header("retry-after").is_some() && !answer.text.contains("errcode"), "{answer:?}");
        }
    }

    async fn tokenrefresh_says_so_in_json(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        server.store().close().await;
        for prefix in ["api/v1", "v2_alpha", "r0", "unstable"] {
            alice.exchange_at(&format!("{prefix}/tokenrefresh")).await.expect_unavailable();
        }
    }

    async fn a_token_that_is_none_needs_no_database_to_be_refused(server: Server) {
        server.store().close().await;
        let body = json!({"refresh_token": "nonsense"});
        server.post("v3/refresh").json(body.clone()).await.expect_unknown_token(false);
        server.post("r0/tokenrefresh").json(body).await.expect_forbidden();
        server.get("v3/account/whoami").bearer("nonsense").await.expect_unknown_token(false);
    }

    async fn nothing_ends_that_is_not_written(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        // So that the check is answered from memory, and the end has to be written.
        alice.whoami().await.expect_ok();
        server.store().close().await;
        alice.logout().await.expect_unavailable();
        alice.logout_all().await.expect_unavailable();
        let server = server.restart().await;
        alice.whoami().await.expect_ok();
        assert_eq!(server.audited("logout").await, 0);
    }

    async fn an_unused_pair_is_not_used_before_that_is_written(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let before = alice.clone();
        let pair = alice.refresh().await;
        server.store().close().await;
        alice.whoami().await.expect_unavailable();
        let _server = server.restart().await;
        assert!(before.refresh_without_keeping_the_answer().await.same_pair(&pair));
        alice.whoami().await.expect_ok();
    }

    async fn everything_else_says_so_too(server: Server) {
        let server = server.with_registration(RegistrationMode::Open).await;
        let alice = server.user("alice").await;
        let client = alice.log_in().await;
        server.store().close().await;
        alice.try_to_log_in("v3", json!({})).await.expect_unavailable();
        let register = json!({"username": "bob", "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
        server.post("v3/register").json(register).await.expect_unavailable();
        server.post("v3/register").json(json!({})).await.expect_unavailable();
        server.get("v3/register/available?username=bob").await.expect_unavailable();
        server.get("v1/register/m.login.registration_token/validity?token=a").await.expect_unavailable();
        client.get("v3/devices").await.expect_unavailable();
        client.put("v3/devices/PHONE", json!({"display_name": "a"})).await.expect_unavailable();
        let auth = json!({"auth": client.password_auth(&Value::Null)});
        client.post("v3/account/deactivate", auth).await.expect_unavailable();
        client.post("v3/delete_devices", json!({"devices": []})).await.expect_unavailable();
    }

    async fn a_token_that_is_known_to_have_run_out_is_refused_all_the_same(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        alice.whoami().await.expect_ok();
        server.pass(10 * MINUTE);
        server.store().close().await;
        alice.whoami().await.expect_unknown_token(true);
    }

    async fn any_other_refusal_that_memory_knows_is_read_again_or_not_told(server: Server) {
        let user = server.user("alice").await;
        let alice = user.log_in().await;
        server.lock(&user).await;
        alice.whoami().await.expect(401, "M_USER_LOCKED");
        server.store().close().await;
        alice.whoami().await.expect_unavailable();
    }
}
