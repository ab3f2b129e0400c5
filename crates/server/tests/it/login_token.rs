//! `POST /login/get_token` and `m.login.token` at `POST /login`.

use serde_json::{Value, json};

use crate::both;
use crate::harness::{Answer, Client, MINUTE, PASSWORD, Request, SECOND, Server, at_once, merged};

const GET_TOKEN: &str = "v1/login/get_token";
const PREFIXES: [&str; 5] = ["api/v1", "v2_alpha", "r0", "v3", "unstable"];

/// Proves the password and gets a token.
async fn get_token(client: &Client) -> String {
    let body = client.post_with_password(GET_TOKEN, json!({})).await.expect_ok();
    assert_eq!(body["expires_in_ms"], 2 * MINUTE);
    body["login_token"].as_str().expect("a token").to_owned()
}

fn log_in(server: &Server, prefix: &str, token: &str, more: Value) -> Request {
    let body = json!({"type": "m.login.token", "token": token});
    server.post(&format!("{prefix}/login")).json(merged(body, more))
}

#[track_caller]
fn expect_wrong(answer: &Answer) {
    assert_eq!(answer.expect(403, "M_FORBIDDEN")["error"], "Invalid login token.");
}

both! {
    async fn a_token_signs_one_more_device_in_on_every_prefix(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        for prefix in PREFIXES {
            let phone = json!({"device_id": prefix, "initial_device_display_name": "My phone", "refresh_token": true});
            let answer = log_in(&server, prefix, &get_token(&alice).await, phone).await;
            let body = answer.expect_ok();
            assert_eq!((&body["user_id"], &body["home_server"]), (&json!("@alice:example.org"), &json!("example.org")));
            let mut phone = alice.user.signed_in(&answer);
            assert_eq!(phone.device_id, prefix);
            phone.whoami().await.expect_ok();
            phone.refresh().await;
        }
        alice.whoami().await.expect_ok();
        assert_eq!(alice.devices().await.len(), 6);
        assert_eq!((server.audited("login_token_issued").await, server.audited("sign_in").await), (5, 6));
    }

    async fn it_is_there_on_both_prefixes_and_always_asks(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        for prefix in ["v1", "unstable"] {
            let path = format!("{prefix}/login/get_token");
            alice.post_with_password(&path, json!({})).await.expect_ok();
            alice.post(&path, json!({})).await.expect_flows(&["m.login.password"]);
        }
        let wrong = crate::harness::auth("alice", "wrong horse battery", &Value::Null);
        let refused = alice.post(GET_TOKEN, json!({"auth": wrong})).await;
        refused.expect_flows_after_a_try(&["m.login.password"], &[], Some("M_FORBIDDEN"));
        let bob = server.user("bob").await.log_in().await;
        let refused = alice.post(GET_TOKEN, json!({"auth": bob.password_auth(&Value::Null)})).await;
        refused.expect_flows_after_a_try(&["m.login.password"], &[], Some("M_FORBIDDEN"));
    }

    async fn a_token_is_good_once_and_for_two_minutes(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let token = get_token(&alice).await;
        server.pass(2 * MINUTE - 1);
        log_in(&server, "v3", &token, json!({})).await.expect_ok();
        expect_wrong(&log_in(&server, "v3", &token, json!({})).await);
        let token = get_token(&alice).await;
        server.pass(2 * MINUTE);
        expect_wrong(&log_in(&server, "v3", &token, json!({})).await);
    }

    // I20.
    async fn of_many_at_once_one_signs_in(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let token = get_token(&alice).await;
        let answers = at_once(vec![log_in(&server, "v3", &token, json!({})); 32]).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            expect_wrong(answer);
        }
        assert_eq!(alice.devices().await.len(), 2);
    }

    async fn one_proof_makes_one_token(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let asked = alice.post(GET_TOKEN, json!({})).await.expect_flows(&["m.login.password"]);
        let body = json!({"auth": alice.password_auth(&asked["session"])});
        let answers = at_once(vec![alice.post(GET_TOKEN, body); 4]).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1, "{answers:?}");
        assert_eq!(server.audited("login_token_issued").await, 1);
    }

    async fn what_is_no_login_token_signs_nobody_in(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let token = get_token(&alice).await;
        let (access, refresh) = (alice.tokens.access_token.clone(), alice.tokens.refresh_token().to_owned());
        for wrong in ["", "nonsense", "lgl_", &token[..token.len() - 1], &token.replacen("lgl_", "lga_", 1), &access, &refresh] {
            expect_wrong(&log_in(&server, "v3", wrong, json!({})).await);
        }
        // Nor is it good for anything else.
        server.get("v3/account/whoami").bearer(&token).await.expect_unknown_token(false);
        server.post("v3/refresh").json(json!({"refresh_token": token})).await.expect_unknown_token(false);
        alice.refresh().await;
        log_in(&server, "v3", &token, json!({})).await.expect_ok();
    }

    async fn what_is_wrong_with_the_body_is_said_and_uses_nothing_up(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let token = get_token(&alice).await;
        for wrong in [json!({"device_id": {}}), json!({"refresh_token": "yes"}), json!({"token": 1})] {
            log_in(&server, "v3", &token, wrong).await.expect(400, "M_INVALID_PARAM");
        }
        server.post("v3/login").json(json!({"type": "m.login.token"})).await.expect(400, "M_MISSING_PARAM");
        server.post("api/v1/login").json(json!({"type": "m.login.token"})).await.expect(400, "M_BAD_JSON");
        log_in(&server, "v3", &token, json!({})).await.expect_ok();
    }

    async fn a_locked_account_waits_and_its_token_with_it(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let token = get_token(&alice).await;
        server.lock(&alice.user).await;
        assert_eq!(log_in(&server, "v3", &token, json!({})).await.expect(401, "M_USER_LOCKED")["soft_logout"], true);
        alice.post(GET_TOKEN, json!({})).await.expect(401, "M_USER_LOCKED");
        server.unlock(&alice.user).await;
        log_in(&server, "v3", &token, json!({})).await.expect_ok();
    }

    async fn a_deactivated_account_has_no_more_tokens(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let token = get_token(&alice).await;
        alice.post_with_password("v3/account/deactivate", json!({})).await.expect_ok();
        log_in(&server, "v3", &token, json!({})).await.expect(403, "M_USER_DEACTIVATED");
    }

    async fn another_password_and_a_sign_out_everywhere_take_its_worth(server: Server) {
        let user = server.user("alice").await;
        let alice = user.log_in().await;
        for logout_devices in [true, false] {
            // A password is told from the one before by its moment.
            server.pass(SECOND);
            let token = get_token(&alice).await;
            let body = json!({"new_password": PASSWORD, "logout_devices": logout_devices});
            alice.post_with_password("v3/account/password", body).await.expect_ok();
            expect_wrong(&log_in(&server, "v3", &token, json!({})).await);
        }
        let token = get_token(&alice).await;
        alice.logout_all().await.expect_ok();
        expect_wrong(&log_in(&server, "v3", &token, json!({})).await);
    }

    async fn it_survives_a_restart(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let token = get_token(&alice).await;
        let server = server.restart().await;
        log_in(&server, "v3", &token, json!({})).await.expect_ok();
    }

    async fn switched_off_it_is_offered_nowhere(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let token = get_token(&alice).await;
        let server = server.with(|config| config.sign_in.login_tokens = false).await;
        let flows = server.get("v3/login").await.expect_ok();
        assert_eq!(flows, json!({"flows": [{"type": "m.login.password"}]}));
        let capabilities = alice.get("v3/capabilities").await.expect_ok();
        assert_eq!(capabilities["capabilities"]["m.get_login_token"]["enabled"], false);
        alice.post(GET_TOKEN, json!({})).await.expect(400, "M_FORBIDDEN");
        log_in(&server, "v3", &token, json!({})).await.expect(400, "M_UNKNOWN");
    }

    async fn three_are_made_and_then_one_in_a_minute(server: Server) {
        let server = server.with_limits().await;
        let alice = server.user("alice").await.log_in().await;
        let get = |from: usize| {
            let body = json!({"auth": alice.password_auth(&Value::Null)});
            alice.post(GET_TOKEN, body).from(&format!("203.0.113.{from}"))
        };
        for at in 0..3 {
            get(at).await.expect_ok();
        }
        let wait = get(3).await.expect_limited();
        assert!((55 * SECOND..=MINUTE).contains(&wait), "{wait}");
        server.pass(wait);
        get(4).await.expect_ok();
        get(5).await.expect_limited();
    }

    async fn guesses_count_as_tries_to_sign_in(server: Server) {
        let server = server.with_limits().await;
        for _ in 0..10 {
            expect_wrong(&log_in(&server, "v3", "nonsense", json!({})).from("203.0.113.1").await);
        }
        log_in(&server, "v3", "nonsense", json!({})).from("203.0.113.1").await.expect_limited();
    }

    async fn what_has_expired_is_swept(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        get_token(&alice).await;
        server.pass(2 * MINUTE);
        ligand_server::upkeep::sweep::sweep(server.app(), false).await.expect("storage works");
        let rows = server.store().read("SELECT COUNT(*) FROM login_tokens", Vec::new()).await.unwrap();
        assert_eq!(rows[0].int(0), Ok(0));
    }
}
