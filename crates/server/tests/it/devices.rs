//! `GET /devices`, `GET`, `PUT` and `DELETE /devices/{deviceId}`.

use serde_json::{Value, json};

use crate::both;
use crate::harness::Server;

both! {
    async fn a_device_is_shown_with_its_name_and_when_it_was_seen(server: Server) {
        let phone = json!({"device_id": "PHONE", "initial_device_display_name": "Alice's phone"});
        let alice = server.user("alice").await.log_in_with(phone).await;
        let shown = json!({
            "device_id": "PHONE",
            "display_name": "Alice's phone",
            "last_seen_ip": "127.0.0.1",
            "last_seen_ts": server.now(),
        });
        for prefix in ["r0", "v3", "unstable"] {
            assert_eq!(alice.get(&format!("{prefix}/devices")).await.expect_ok(), json!({"devices": [shown]}));
            assert_eq!(alice.get(&format!("{prefix}/devices/PHONE")).await.expect_ok(), shown);
        }
    }

    async fn nobody_sees_or_touches_the_devices_of_others(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let bob = server.user("bob").await.log_in_with(json!({"device_id": "BOBS"})).await;
        assert_eq!(alice.devices().await, [&*alice.device_id]);
        alice.get("v3/devices/BOBS").await.expect(404, "M_NOT_FOUND");
        alice.put("v3/devices/BOBS", json!({"display_name": "mine"})).await.expect(404, "M_NOT_FOUND");
        let auth = json!({"auth": alice.password_auth(&Value::Null)});
        alice.delete("v3/devices/BOBS").json(auth).await.expect_ok();
        bob.whoami().await.expect_ok();
        assert_eq!(bob.devices().await, ["BOBS"]);
    }

    async fn a_device_that_is_not_there_is_not_found(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        alice.get("v3/devices/NOWHERE").await.expect(404, "M_NOT_FOUND");
        alice.put("v3/devices/NOWHERE", json!({"display_name": "a"})).await.expect(404, "M_NOT_FOUND");
        alice.put("v3/devices/NOWHERE", json!({})).await.expect(404, "M_NOT_FOUND");
        for id in ["%00", "%ff"] {
            let path = format!("v3/devices/{id}");
            alice.get(&path).await.expect(404, "M_NOT_FOUND");
            alice.put(&path, json!({"display_name": "a"})).await.expect(404, "M_NOT_FOUND");
            let auth = json!({"auth": alice.password_auth(&Value::Null)});
            alice.delete(&path).json(auth).await.expect_ok();
        }
    }

    async fn its_owner_renames_it(server: Server) {
        let alice = server.user("alice").await.log_in_with(json!({"device_id": "PHONE"})).await;
        for prefix in ["r0", "v3", "unstable"] {
            let path = format!("{prefix}/devices/PHONE");
            assert_eq!(alice.put(&path, json!({"display_name": prefix})).await.expect_ok(), json!({}));
            assert_eq!(alice.get(&path).await.expect_ok()["display_name"], prefix);
            alice.put(&path, json!({})).await.expect_ok();
            assert_eq!(alice.get(&path).await.expect_ok()["display_name"], prefix);
        }
        alice.put("v3/devices/PHONE", json!({"display_name": 1})).await.expect(400, "M_INVALID_PARAM");
        let long = json!({"display_name": "n".repeat(257)});
        alice.put("v3/devices/PHONE", long).await.expect(400, "M_INVALID_PARAM");
    }

    async fn an_id_is_decoded_once(server: Server) {
        let id = "a/b%2f c?é";
        let alice = server.user("alice").await.log_in_with(json!({"device_id": id})).await;
        let shown = alice.get("v3/devices/a%2Fb%252f%20c%3F%C3%A9").await.expect_ok();
        assert_eq!(shown["device_id"], id);
    }

    async fn a_name_may_be_anything_a_person_types(server: Server) {
        let alice = server.user("alice").await.log_in_with(json!({"device_id": "PHONE"})).await;
        for name in ["", " ", "Zoë’s 📱", "'; drop table devices; --", "a\nb", &"é".repeat(256)] {
            alice.put("v3/devices/PHONE", json!({"display_name": name})).await.expect_ok();
            assert_eq!(alice.get("v3/devices/PHONE").await.expect_ok()["display_name"], name);
            alice.user.log_in_with(json!({"initial_device_display_name": name})).await;
        }
        let nul = json!({"display_name": "a\0b", "initial_device_display_name": "a\0b"});
        alice.put("v3/devices/PHONE", nul.clone()).await.expect(400, "M_INVALID_PARAM");
        alice.user.try_to_log_in("v3", nul).await.expect(400, "M_INVALID_PARAM");
    }

    async fn deleting_one_asks_for_the_password_and_ends_its_session(server: Server) {
        let alice = server.user("alice").await;
        let mine = alice.log_in().await;
        for prefix in ["r0", "v3", "unstable"] {
            let other = alice.log_in_with(json!({"device_id": "PHONE"})).await;
            let path = format!("{prefix}/devices/PHONE");
            // An empty body counts as an empty object here.
            let asked = mine.delete(&path).await.expect_flows(&["m.login.password"]);
            other.whoami().await.expect_ok();
            let auth = json!({"auth": mine.password_auth(&asked["session"])});
            assert_eq!(mine.delete(&path).json(auth).await.expect_ok(), json!({}));
            other.whoami().await.expect_unknown_token(false);
            other.try_to_refresh().await.expect_unknown_token(false);
            other.try_to_tokenrefresh().await.expect_forbidden();
            assert_eq!(mine.devices().await, [&*mine.device_id]);
        }
    }

    async fn a_proof_for_one_device_deletes_no_other(server: Server) {
        let alice = server.user("alice").await;
        let mine = alice.log_in().await;
        let other = alice.log_in_with(json!({"device_id": "TABLET"})).await;
        let asked = mine.delete("v3/devices/PHONE").await.expect_flows(&["m.login.password"]);
        let wrong = json!({"auth": crate::harness::auth("alice", "wrong horse battery", &asked["session"])});
        let failed = mine.delete("v3/devices/PHONE").json(wrong).await;
        failed.expect_flows_after_a_try(&["m.login.password"], &[], Some("M_FORBIDDEN"));
        let auth = json!({"auth": mine.password_auth(&asked["session"])});
        mine.delete("v3/devices/PHONE").json(auth.clone()).await.expect_ok();
        // The session was used up.
        let again = mine.delete("v3/devices/TABLET").json(auth).await;
        again.expect_flows_after_a_try(&["m.login.password"], &[], Some("M_FORBIDDEN"));
        other.whoami().await.expect_ok();
    }

    async fn ones_own_device_may_go_too(server: Server) {
        let alice = server.user("alice").await.log_in_with(json!({"device_id": "PHONE"})).await;
        let auth = json!({"auth": alice.password_auth(&Value::Null)});
        alice.delete("v3/devices/PHONE").json(auth).await.expect_ok();
        alice.whoami().await.expect_unknown_token(false);
    }

    async fn deleting_it_twice_is_no_error(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let auth = json!({"auth": alice.password_auth(&Value::Null)});
        for _ in 0..2 {
            alice.delete("v3/devices/GONE").json(auth.clone()).await.expect_ok();
        }
    }
}
