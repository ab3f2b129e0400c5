//! A locked account (digest G8, §5 C6): refused softly, nothing consumed; unlocking brings the same
//! tokens back. Signing out goes on.

use serde_json::{Value, json};

use crate::both;
use crate::harness::{Answer, HOUR, Server};

#[track_caller]
fn expect_locked(answer: &Answer) {
    assert_eq!(answer.expect(401, "M_USER_LOCKED")["soft_logout"], true);
}

both! {
    async fn everything_is_refused_softly_and_nothing_is_consumed(server: Server) {
        let user = server.user("alice").await;
        let mut alice = user.log_in().await;
        let lost = alice.refresh_without_keeping_the_answer().await;
        server.lock(&user).await;
        expect_locked(&alice.whoami().await);
        expect_locked(&alice.holding(&lost).whoami().await);
        expect_locked(&alice.get("v3/devices").await);
        expect_locked(&alice.post("v3/account/password", json!({})).await);
        expect_locked(&alice.try_to_refresh().await);
        expect_locked(&alice.try_to_tokenrefresh().await);
        server.unlock(&user).await;
        // Not even the unused pair was acknowledged.
        assert!(alice.refresh().await.same_pair(&lost));
        alice.whoami().await.expect_ok();
    }

    async fn unlocking_brings_the_same_tokens_back(server: Server) {
        let user = server.user("alice").await;
        let (mut one, mut two) = (user.log_in().await, user.log_in_at("api/v1").await);
        let three = user.log_in_at("v3").await;
        for client in [&one, &two, &three] {
            client.whoami().await.expect_ok();
        }
        for _ in 0..2 {
            server.lock(&user).await;
            for client in [&one, &two, &three] {
                expect_locked(&client.whoami().await);
            }
            server.unlock(&user).await;
            for client in [&one, &two, &three] {
                client.whoami().await.expect_ok();
            }
            one.refresh().await;
            two.tokenrefresh().await;
        }
    }

    async fn signing_in_is_refused_after_the_password_and_not_before(server: Server) {
        let user = server.user("alice").await;
        server.lock(&user).await;
        expect_locked(&user.try_to_log_in("v3", json!({})).await);
        expect_locked(&user.try_to_log_in("api/v1", json!({})).await);
        let wrong = json!({"password": "wrong horse battery"});
        user.try_to_log_in("v3", wrong).await.expect(403, "M_FORBIDDEN");
    }

    async fn signing_out_goes_on(server: Server) {
        let user = server.user("alice").await;
        let (one, two, three) = (user.log_in().await, user.log_in().await, user.log_in().await);
        server.lock(&user).await;
        one.logout().await.expect_ok();
        one.whoami().await.expect_unknown_token(false);
        expect_locked(&two.whoami().await);
        two.logout_all().await.expect_ok();
        server.unlock(&user).await;
        for ended in [two, three] {
            ended.whoami().await.expect_unknown_token(false);
            ended.try_to_refresh().await.expect_unknown_token(false);
        }
    }

    async fn what_ran_out_while_locked_has_run_out(server: Server) {
        let user = server.user("alice").await;
        let mut alice = user.log_in().await;
        server.lock(&user).await;
        server.pass(HOUR);
        alice.whoami().await.expect_unknown_token(true);
        server.unlock(&user).await;
        alice.whoami().await.expect_unknown_token(true);
        alice.refresh().await;
        alice.whoami().await.expect_ok();
    }

    async fn a_lock_survives_a_restart(server: Server) {
        let user = server.user("alice").await;
        let alice = user.log_in().await;
        server.lock(&user).await;
        let server = server.restart().await;
        expect_locked(&alice.whoami().await);
        server.unlock(&user).await;
        alice.whoami().await.expect_ok();
    }

    async fn deleting_devices_waits_too(server: Server) {
        let user = server.user("alice").await;
        let alice = user.log_in().await;
        server.lock(&user).await;
        let auth = json!({"auth": alice.password_auth(&Value::Null)});
        expect_locked(&alice.delete(&format!("v3/devices/{}", alice.device_id)).json(auth).await);
    }
}
