//! `POST /delete_devices`.

use serde_json::{Value, json};

use crate::both;
use crate::harness::Server;

both! {
    async fn several_go_at_once_and_with_them_their_sessions(server: Server) {
        let alice = server.user("alice").await;
        let mine = alice.log_in().await;
        for prefix in ["r0", "v3", "unstable"] {
            let (one, two) = (alice.log_in().await, alice.log_in().await);
            let body = json!({"devices": [one.device_id, two.device_id, "GONE", one.device_id]});
            let answer = mine.post_with_password(&format!("{prefix}/delete_devices"), body).await;
            assert_eq!(answer.expect_ok(), json!({}));
            for ended in [&one, &two] {
                ended.whoami().await.expect_unknown_token(false);
                ended.try_to_refresh().await.expect_unknown_token(false);
            }
            assert_eq!(mine.devices().await, [&*mine.device_id]);
        }
        assert_eq!(server.audited("device_deleted").await, 3);
    }

    async fn a_proof_for_some_deletes_no_others(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let asked = alice.post("v3/delete_devices", json!({"devices": ["A"]})).await;
        let asked = asked.expect_flows(&["m.login.password"]);
        // Nothing is proved yet: a session binds to its request when its first stage is.
        let body = json!({"devices": ["B"], "auth": alice.password_auth(&asked["session"])});
        alice.post("v3/delete_devices", body.clone()).await.expect_ok();
        let spent = alice.post("v3/delete_devices", body).await;
        spent.expect_flows_after_a_try(&["m.login.password"], &[], Some("M_FORBIDDEN"));
    }

    async fn none_at_all_is_no_error(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        alice.post_with_password("v3/delete_devices", json!({"devices": []})).await.expect_ok();
        alice.whoami().await.expect_ok();
    }

    async fn a_thousand_is_the_most(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let ids = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        alice.post_with_password("v3/delete_devices", json!({"devices": ids(1_000)})).await.expect_ok();
        alice.post("v3/delete_devices", json!({"devices": ids(1_001)})).await.expect(400, "M_INVALID_PARAM");
    }

    async fn what_is_wrong_is_said_before_any_proof(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let post = |body: Value| alice.post("v3/delete_devices", body);
        post(json!({})).await.expect(400, "M_MISSING_PARAM");
        for devices in [json!("PHONE"), json!({}), json!([1]), json!(["PHONE", null])] {
            post(json!({"devices": devices})).await.expect(400, "M_INVALID_PARAM");
        }
    }
}
