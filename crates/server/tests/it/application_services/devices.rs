//! Devices by an application service: made, renamed and deleted without any proof but its token.

use serde_json::json;

use super::Bridged;
use crate::both;
use crate::harness::at_once;

both! {
    async fn putting_a_device_makes_it_and_putting_it_again_renames_it(bridged: Bridged) {
        let ghost = bridged.ghost("_bridge_ann").await;
        for prefix in ["r0", "v3", "unstable"] {
            let path = format!("{prefix}/devices/{prefix}PHONE?user_id={ghost}");
            let made = bridged.asks("PUT", &path).json(json!({"display_name": "First"})).await;
            assert_eq!((made.status, made.json()), (201, json!({})));
            let shown = bridged.asks("GET", &path).await.expect_ok();
            assert_eq!(shown, json!({"device_id": format!("{prefix}PHONE"), "display_name": "First"}));
            for (name, after) in [(json!({"display_name": "Second"}), "Second"), (json!({}), "Second")] {
                bridged.asks("PUT", &path).json(name).await.expect_ok();
                assert_eq!(bridged.asks("GET", &path).await.expect_ok()["display_name"], after);
            }
        }
        assert_eq!(bridged.server.audited("device_created").await, 3);
        let nameless = format!("v3/devices/NAMELESS?user_id={ghost}");
        assert_eq!(bridged.asks("PUT", &nameless).json(json!({})).await.status, 201);
        assert_eq!(bridged.asks("GET", &nameless).await.expect_ok(), json!({"device_id": "NAMELESS"}));
    }

    async fn of_many_requests_at_once_one_has_made_it(bridged: Bridged) {
        let path = "v3/devices/PHONE";
        let puts = (0..32).map(|at| bridged.asks("PUT", path).json(json!({"display_name": format!("{at}")})));
        let answers = at_once(puts.collect()).await;
        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        assert_eq!((statuses[31], statuses[30], statuses[0]), (201, 200, 200));
        assert_eq!(bridged.server.audited("device_created").await, 1);
    }

    async fn only_application_services_make_devices(bridged: Bridged) {
        let alice = bridged.server.user("alice").await.log_in().await;
        alice.put("v3/devices/NEW", json!({})).await.expect(404, "M_NOT_FOUND");
        alice.put("v3/devices/NEW", json!({"display_name": "a"})).await.expect(404, "M_NOT_FOUND");
        assert_eq!(alice.devices().await, [&*alice.device_id]);
    }

    async fn a_device_outside_the_grammar_is_not_made(bridged: Bridged) {
        bridged.asks("PUT", "v3/devices/%00").json(json!({})).await.expect(404, "M_NOT_FOUND");
        let long = json!({"display_name": "n".repeat(257)});
        bridged.asks("PUT", "v3/devices/PHONE").json(long).await.expect(400, "M_INVALID_PARAM");
        assert_eq!(bridged.asks("GET", "v3/devices").await.expect_ok(), json!({"devices": []}));
    }

    async fn deleting_asks_for_nothing_and_ends_the_session_there(bridged: Bridged) {
        let ghost = bridged.ghost("_bridge_ann").await;
        let signed_in = |device: &'static str| {
            let identifier = json!({"type": "m.id.user", "user": ghost});
            let body = json!({"type": "m.login.application_service", "identifier": identifier, "device_id": device});
            let request = bridged.asks("POST", "v3/login").json(body);
            async move { request.await.expect_ok()["access_token"].as_str().unwrap().to_owned() }
        };
        let (one, two, three) = (signed_in("ONE").await, signed_in("TWO").await, signed_in("THREE").await);
        let whoami = |token: &str| bridged.server.get("v3/account/whoami").bearer(token);
        for _ in 0..2 {
            let path = format!("v3/devices/ONE?user_id={ghost}");
            assert_eq!(bridged.asks("DELETE", &path).await.expect_ok(), json!({}));
        }
        whoami(&one).await.expect_unknown_token(false);
        whoami(&two).await.expect_ok();
        let several = format!("v3/delete_devices?user_id={ghost}");
        let body = json!({"devices": ["TWO", "NOWHERE"]});
        assert_eq!(bridged.asks("POST", &several).json(body).await.expect_ok(), json!({}));
        whoami(&two).await.expect_unknown_token(false);
        whoami(&three).await.expect_ok();
        let left = bridged.asks("GET", &format!("v3/devices?user_id={ghost}")).await.expect_ok();
        assert_eq!(left["devices"].as_array().unwrap().len(), 1);
        // A session of the user itself proves nothing by that.
        bridged.server.request("DELETE", "v3/devices/THREE").bearer(&three).await.expect_flows(&["m.login.password"]);
    }

    async fn it_touches_no_device_of_others(bridged: Bridged) {
        let alice = bridged.server.user("alice").await.log_in_with(json!({"device_id": "PHONE"})).await;
        bridged.asks("DELETE", "v3/devices/PHONE?user_id=@alice:example.org").await.expect(403, "M_FORBIDDEN");
        bridged.asks("DELETE", "v3/devices/PHONE").await.expect_ok();
        bridged.asks("POST", "v3/delete_devices").json(json!({"devices": ["PHONE"]})).await.expect_ok();
        alice.whoami().await.expect_ok();
    }

    async fn signing_out_ends_the_device_it_names(bridged: Bridged) {
        let ghost = bridged.ghost("_bridge_ann").await;
        let put = |id: &str| bridged.asks("PUT", &format!("v3/devices/{id}?user_id={ghost}")).json(json!({}));
        for id in ["ONE", "TWO", "THREE"] {
            assert_eq!(put(id).await.status, 201);
        }
        // Its own token lasts as long as its registration file: no success that did not happen.
        bridged.asks("POST", &format!("v3/logout?user_id={ghost}")).await.expect(403, "M_FORBIDDEN");
        bridged.asks("POST", &format!("v3/logout?user_id={ghost}&device_id=ONE")).await.expect_ok();
        let devices = bridged.asks("GET", &format!("v3/devices?user_id={ghost}")).await.expect_ok();
        assert_eq!(devices["devices"].as_array().unwrap().len(), 2);
        bridged.asks("POST", &format!("v3/logout/all?user_id={ghost}")).await.expect_ok();
        let devices = bridged.asks("GET", &format!("v3/devices?user_id={ghost}")).await.expect_ok();
        assert_eq!(devices, json!({"devices": []}));
        bridged.whoami(&format!("user_id={ghost}")).await.expect_ok();
    }
}
