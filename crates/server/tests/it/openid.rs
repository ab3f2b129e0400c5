//! `POST /user/{userId}/openid/request_token`, `GET /_matrix/federation/v1/openid/userinfo`.

use serde_json::{Value, json};

use crate::both;
use crate::harness::{Client, HOUR, Request, Server};

const ALICE: &str = "v3/user/@alice:example.org/openid/request_token";

async fn token(client: &Client) -> String {
    let body = client.post(ALICE, json!({})).await.expect_ok();
    body["access_token"].as_str().expect("a token").to_owned()
}

fn userinfo(server: &Server, token: &str) -> Request {
    server.get(&format!("/_matrix/federation/v1/openid/userinfo?access_token={token}"))
}

both! {
    async fn a_token_tells_whose_it_is(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        for prefix in ["r0", "v3", "unstable"] {
            for id in ["@alice:example.org", "%40alice%3Aexample.org"] {
                let body = alice.post(&format!("{prefix}/user/{id}/openid/request_token"), json!({})).await.expect_ok();
                assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(3600)));
                assert_eq!(body["matrix_server_name"], "example.org");
                for _ in 0..2 {
                    let info = userinfo(&server, body["access_token"].as_str().unwrap()).await.expect_ok();
                    assert_eq!(info, json!({"sub": "@alice:example.org"}));
                }
            }
        }
    }

    async fn for_nobody_else(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        server.user("bob").await;
        let mut answers = Vec::new();
        for id in ["@bob:example.org", "@nobody:example.org", "@alice:other.org", "alice", "@Alice:example.org", "%ff"] {
            let answer = alice.post(&format!("v3/user/{id}/openid/request_token"), json!({})).await;
            answer.expect(403, "M_FORBIDDEN");
            answers.push(answer.text);
        }
        answers.dedup();
        assert_eq!(answers.len(), 1);
    }

    async fn for_an_hour(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let token = token(&alice).await;
        server.pass(HOUR - 1);
        userinfo(&server, &token).await.expect_ok();
        server.pass(1);
        userinfo(&server, &token).await.expect(401, "M_UNKNOWN_TOKEN");
        ligand_server::upkeep::sweep::sweep(server.app(), false).await.expect("storage works");
        let rows = server.store().read("SELECT COUNT(*) FROM openid_tokens", Vec::new()).await.unwrap();
        assert_eq!(rows[0].int(0), Ok(0));
    }

    async fn it_is_good_for_nothing_else_and_nothing_else_for_it(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let token = token(&alice).await;
        server.get("v3/account/whoami").bearer(&token).await.expect_unknown_token(false);
        server.post(ALICE).bearer(&token).json(json!({})).await.expect_unknown_token(false);
        for other in ["", "nonsense", &alice.tokens.access_token, alice.tokens.refresh_token(), &token[1..]] {
            userinfo(&server, other).await.expect(401, "M_UNKNOWN_TOKEN");
        }
        // Only in the query.
        let bare = server.get("/_matrix/federation/v1/openid/userinfo").bearer(&token).await;
        bare.expect(401, "M_MISSING_TOKEN");
        userinfo(&server, &token).bearer("nonsense").await.expect_ok();
    }

    async fn a_locked_account_is_nobody_until_it_is_unlocked(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let token = token(&alice).await;
        server.lock(&alice.user).await;
        userinfo(&server, &token).await.expect(401, "M_UNKNOWN_TOKEN");
        server.unlock(&alice.user).await;
        userinfo(&server, &token).await.expect_ok();
    }

    async fn a_suspended_account_too(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let token = token(&alice).await;
        server.suspend(&alice.user).await;
        alice.post(ALICE, json!({})).await.expect(403, "M_USER_SUSPENDED");
        userinfo(&server, &token).await.expect(401, "M_UNKNOWN_TOKEN");
    }

    async fn a_deactivated_account_and_one_signed_out_everywhere(server: Server) {
        let user = server.user("alice").await;
        let alice = user.log_in().await;
        let before = token(&alice).await;
        alice.logout_all().await.expect_ok();
        userinfo(&server, &before).await.expect(401, "M_UNKNOWN_TOKEN");
        let alice = user.log_in().await;
        let before = token(&alice).await;
        alice.post_with_password("v3/account/deactivate", json!({})).await.expect_ok();
        userinfo(&server, &before).await.expect(401, "M_UNKNOWN_TOKEN");
    }

    async fn the_body_is_an_object(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        alice.post(ALICE, json!([])).await.expect(400, "M_BAD_JSON");
        alice.post(ALICE, Value::Null).await.expect(400, "M_BAD_JSON");
    }

    async fn thirty_are_made_and_then_few(server: Server) {
        let server = server.with_limits().await;
        let alice = server.user("alice").await.log_in().await;
        for _ in 0..30 {
            token(&alice).await;
        }
        server.pass(alice.post(ALICE, json!({})).await.expect_limited());
        token(&alice).await;
    }

    async fn it_survives_a_restart(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let token = token(&alice).await;
        let server = server.restart().await;
        userinfo(&server, &token).await.expect_ok();
    }
}
