//! `POST /account/password`.

use serde_json::{Value, json};

use crate::both;
use crate::harness::{Client, PASSWORD, Server, at_once, auth, merged};

const NEW: &str = "a wholly different phrase";

async fn change(client: &Client, more: Value) {
    let body = merged(json!({"new_password": NEW}), more);
    let answer = client.post_with_password("v3/account/password", body).await;
    assert_eq!(answer.expect_ok(), json!({}));
}

both! {
    async fn the_new_password_signs_in_and_the_old_one_does_not(server: Server) {
        let alice = server.user("alice").await;
        change(&alice.log_in().await, json!({})).await;
        alice.try_to_log_in("v3", json!({})).await.expect(403, "M_FORBIDDEN");
        alice.log_in_with(json!({"password": NEW})).await.whoami().await.expect_ok();
        assert_eq!(server.audited("password_changed").await, 1);
    }

    async fn it_is_there_on_every_prefix_since_v2(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        for prefix in ["v2_alpha", "r0", "v3", "unstable"] {
            let body = json!({"new_password": PASSWORD});
            alice.post_with_password(&format!("{prefix}/account/password"), body).await.expect_ok();
        }
    }

    async fn every_other_session_ends_and_its_device_goes(server: Server) {
        let alice = server.user("alice").await;
        let (mut mine, other, old) = (alice.log_in().await, alice.log_in().await, alice.log_in_at("api/v1").await);
        other.whoami().await.expect_ok();
        change(&mine, json!({})).await;
        for ended in [&other, &old] {
            ended.whoami().await.expect_unknown_token(false);
            ended.try_to_refresh().await.expect_unknown_token(false);
            ended.try_to_tokenrefresh().await.expect_forbidden();
        }
        mine.whoami().await.expect_ok();
        assert_eq!(mine.devices().await, [&*mine.device_id]);
        mine.refresh().await;
        mine.whoami().await.expect_ok();
    }

    async fn unless_the_client_says_no(server: Server) {
        let alice = server.user("alice").await;
        let (mine, mut other) = (alice.log_in().await, alice.log_in().await);
        change(&mine, json!({"logout_devices": false})).await;
        other.whoami().await.expect_ok();
        other.refresh().await;
        other.whoami().await.expect_ok();
        assert_eq!(mine.devices().await.len(), 2);
    }

    async fn after_a_restart_too(server: Server) {
        let alice = server.user("alice").await;
        let (mut mine, other) = (alice.log_in().await, alice.log_in().await);
        change(&mine, json!({})).await;
        let _server = server.restart().await;
        other.whoami().await.expect_unknown_token(false);
        mine.whoami().await.expect_ok();
        mine.refresh().await;
    }

    async fn what_is_wrong_with_the_password_is_said_before_any_proof(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let post = |body: Value| alice.post("v3/account/password", body);
        for weak in ["short", "password", "12345678", &"x".repeat(513)] {
            post(json!({"new_password": weak})).await.expect(400, "M_WEAK_PASSWORD");
        }
        post(json!({"new_password": 1})).await.expect(400, "M_INVALID_PARAM");
        post(json!({"new_password": NEW, "logout_devices": "no"})).await.expect(400, "M_INVALID_PARAM");
    }

    async fn a_client_may_ask_for_the_flows_with_an_empty_body(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let asked = alice.post("v3/account/password", json!({})).await.expect_flows(&["m.login.password"]);
        let auth = alice.password_auth(&asked["session"]);
        let without = alice.post("v3/account/password", json!({"auth": auth})).await;
        without.expect(400, "M_MISSING_PARAM");
        let body = json!({"new_password": NEW, "auth": auth});
        alice.post("v3/account/password", body).await.expect_ok();
    }

    // Digest §2.4, 10: clients in the wild send the proof at once.
    async fn a_proof_without_a_session_is_judged_at_once(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let body = json!({"new_password": NEW, "auth": alice.password_auth(&Value::Null)});
        alice.post("v3/account/password", body).await.expect_ok();
    }

    async fn the_owner_need_not_be_named_in_the_proof(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let auth = json!({"type": "m.login.password", "password": PASSWORD});
        alice.post("v3/account/password", json!({"new_password": NEW, "auth": auth})).await.expect_ok();
    }

    async fn the_shapes_of_2015_prove_as_well(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        for name in ["alice", "@alice:example.org"] {
            let auth = json!({"type": "m.login.password", "user": name, "password": PASSWORD});
            let body = json!({"new_password": PASSWORD, "auth": auth});
            alice.post("v3/account/password", body).await.expect_ok();
        }
    }

    async fn a_wrong_proof_may_be_tried_again_in_the_same_session(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let post = |auth: Value| alice.post("v3/account/password", json!({"new_password": NEW, "auth": auth}));
        let mut session = Value::Null;
        for _ in 0..3 {
            let failed = post(auth("alice", "wrong horse battery", &session)).await;
            let body = failed.expect_flows_after_a_try(&["m.login.password"], &[], Some("M_FORBIDDEN"));
            assert!(session.is_null() || session == body["session"]);
            session = body["session"].clone();
        }
        post(alice.password_auth(&session)).await.expect_ok();
    }

    async fn another_persons_password_proves_nothing(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        server.user("bob").await;
        let body = json!({"new_password": NEW, "auth": auth("bob", PASSWORD, &Value::Null)});
        let refused = alice.post("v3/account/password", body).await;
        refused.expect_flows_after_a_try(&["m.login.password"], &[], Some("M_FORBIDDEN"));
    }

    async fn a_session_of_somebody_else_or_of_something_else_is_refused(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let bob = server.user("bob").await.log_in().await;
        let asked = alice.post("v3/account/password", json!({"new_password": NEW})).await;
        let session = asked.expect_flows(&["m.login.password"])["session"].clone();
        let body = json!({"new_password": NEW, "auth": bob.password_auth(&session)});
        bob.post("v3/account/password", body).await.expect(403, "M_FORBIDDEN");
        let body = json!({"auth": alice.password_auth(&session)});
        alice.post("v3/account/deactivate", body).await.expect(403, "M_FORBIDDEN");
    }

    async fn a_session_nobody_knows_begins_a_new_one(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let post = |session: &Value| {
            alice.post("v3/account/password", json!({"new_password": NEW, "auth": alice.password_auth(session)}))
        };
        let again = post(&json!("nonsense")).await;
        let fresh = again.expect_flows_after_a_try(&["m.login.password"], &[], Some("M_FORBIDDEN"));
        server.pass(11 * crate::harness::MINUTE);
        let alice = alice.holding(&alice.refresh_without_keeping_the_answer().await);
        let body = json!({"new_password": NEW, "auth": alice.password_auth(&fresh["session"])});
        let late = alice.post("v3/account/password", body).await;
        let late = late.expect_flows_after_a_try(&["m.login.password"], &[], Some("M_FORBIDDEN"));
        assert_ne!(late["session"], fresh["session"]);
    }

    async fn stages_that_are_not_asked_for_are_out_of_order(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        for stage in ["m.login.dummy", "m.login.registration_token", "m.login.sso", "nonsense"] {
            let body = json!({"new_password": NEW, "auth": {"type": stage, "token": "a"}});
            let refused = alice.post("v3/account/password", body).await;
            refused.expect_flows_after_a_try(&["m.login.password"], &[], Some("M_FORBIDDEN"));
        }
    }

    async fn a_session_without_a_type_asks_where_it_stands(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let asked = alice.post("v3/account/password", json!({"new_password": NEW})).await;
        let asked = asked.expect_flows(&["m.login.password"]);
        let poll = json!({"new_password": NEW, "auth": {"session": asked["session"]}});
        let stands = alice.post("v3/account/password", poll).await;
        stands.expect_flows_after_a_try(&["m.login.password"], &[], None);
    }

    async fn of_proofs_by_the_old_password_at_once_one_counts(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let auth = alice.password_auth(&Value::Null);
        let request = |n: usize| {
            alice.post("v3/account/password", json!({"new_password": format!("{NEW} {n}"), "auth": auth}))
        };
        let answers = at_once((0..4).map(request).collect()).await;
        let good: Vec<usize> = (0..4).filter(|n| answers[*n].status == 200).collect();
        assert_eq!(good.len(), 1, "{answers:?}");
        let password = format!("{NEW} {}", good[0]);
        alice.user.log_in_with(json!({"password": password})).await.whoami().await.expect_ok();
    }

    async fn a_session_that_signs_out_meanwhile_changes_nothing_more(server: Server) {
        let user = server.user("alice").await;
        for n in 0..4 {
            let alice = user.log_in().await;
            let body = json!({"new_password": PASSWORD, "auth": alice.password_auth(&Value::Null)});
            let (change, end) = (alice.post("v3/account/password", body), alice.post("v3/logout", json!({})));
            let answers = at_once(vec![change, end]).await;
            answers[1].expect_ok();
            // Before the end, or not at all.
            if answers[0].status != 200 {
                answers[0].expect_unknown_token(false);
            }
            alice.whoami().await.expect_unknown_token(false);
            assert!(server.audited("password_changed").await <= n + 1);
        }
    }

    // I20.
    async fn one_session_changes_the_password_once(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let asked = alice.post("v3/account/password", json!({"new_password": NEW})).await;
        let asked = asked.expect_flows(&["m.login.password"]);
        let auth = alice.password_auth(&asked["session"]);
        let request = |password: &str| {
            alice.post("v3/account/password", json!({"new_password": password, "auth": auth}))
        };
        let answers = at_once((0..4).map(|n| request(&format!("{NEW} {n}"))).collect()).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1, "{answers:?}");
        assert_eq!(server.audited("password_changed").await, 1);
    }
}
