//! `POST /login` of type `m.login.application_service`.

use serde_json::{Value, json};

use super::{Bridged, OTHER_TOKEN};
use crate::both;
use crate::harness::{MINUTE, Request, Tokens, merged};

fn body(user: &str, more: Value) -> Value {
    let identifier = json!({"type": "m.id.user", "user": user});
    merged(json!({"type": "m.login.application_service", "identifier": identifier}), more)
}

fn log_in(bridged: &Bridged, user: &str, more: Value) -> Request {
    bridged.asks("POST", "v3/login").json(body(user, more))
}

both! {
    async fn it_signs_in_as_its_users(bridged: Bridged) {
        let ghost = bridged.ghost("_bridge_ann").await;
        for (prefix, user) in [("v3", &*ghost), ("r0", "_bridge_ann"), ("unstable", "bridgebot"), ("api/v1", "bridgebot")] {
            let request = bridged.asks("POST", &format!("{prefix}/login"));
            let answer = request.json(body(user, json!({"device_id": "PHONE"}))).await.expect_ok();
            assert_eq!(answer["device_id"], "PHONE");
            let whoami = bridged.server.get("v3/account/whoami").bearer(&Tokens::of(&answer).access_token);
            let whoami = whoami.await.expect_ok();
            assert_eq!((&whoami["user_id"], &whoami["device_id"]), (&answer["user_id"], &json!("PHONE")));
        }
        assert_eq!(bridged.server.audited("sign_in").await, 4);
    }

    async fn a_refresh_token_comes_when_asked_for(bridged: Bridged) {
        let answer = log_in(&bridged, "bridgebot", json!({"refresh_token": true})).await.expect_ok();
        let tokens = Tokens::of(&answer);
        assert_eq!(tokens.expires_in_ms, Some(5 * MINUTE));
        bridged.server.post("v3/refresh").json(json!({"refresh_token": tokens.refresh_token()})).await.expect_ok();
    }

    async fn it_is_among_the_flows(bridged: Bridged) {
        let flows = bridged.server.get("v3/login").await.expect_ok();
        let token = json!({"type": "m.login.token", "get_login_token": true});
        let service = json!({"type": "m.login.application_service"});
        assert_eq!(flows["flows"], json!([{"type": "m.login.password"}, token, service]));
    }

    async fn a_device_that_is_named_again_has_one_session(bridged: Bridged) {
        let first = log_in(&bridged, "bridgebot", json!({"device_id": "PHONE"})).await.expect_ok();
        log_in(&bridged, "bridgebot", json!({"device_id": "PHONE"})).await.expect_ok();
        let first = Tokens::of(&first).access_token;
        bridged.server.get("v3/account/whoami").bearer(&first).await.expect_unknown_token(true);
    }

    // Digest §5 C1.
    async fn each_refusal_has_its_code(bridged: Bridged) {
        let alice = bridged.server.user("alice").await.log_in().await;
        bridged.ghost("_bridge_ann").await;
        let with = |token: Option<&str>| {
            let request = bridged.server.post("v3/login").json(body("_bridge_ann", json!({})));
            match token {
                Some(token) => request.bearer(token),
                None => request,
            }
        };
        with(None).await.expect(401, "M_MISSING_TOKEN");
        with(Some("nobodys")).await.expect_unknown_token(false);
        with(Some(&alice.tokens.access_token)).await.expect(403, "M_FORBIDDEN");
        with(Some(OTHER_TOKEN)).await.expect(403, "M_EXCLUSIVE");
        for user in ["alice", "@_bridge_ann:elsewhere.org", "otherbot", "a b"] {
            log_in(&bridged, user, json!({})).await.expect(403, "M_EXCLUSIVE");
        }
        log_in(&bridged, "_bridge_nobody", json!({})).await.expect(403, "M_FORBIDDEN");
        let ann = bridged.server.find("_bridge_ann").await;
        bridged.server.lock(&ann).await;
        log_in(&bridged, "_bridge_ann", json!({})).await.expect(401, "M_USER_LOCKED");
        bridged.server.unlock(&ann).await;
        bridged.server.deactivate(&ann).await;
        log_in(&bridged, "_bridge_ann", json!({})).await.expect(403, "M_USER_DEACTIVATED");
    }

    async fn only_a_user_identifier_names_the_user(bridged: Bridged) {
        let post = |body: Value| bridged.asks("POST", "v3/login").json(body);
        let typed = json!({"type": "m.login.application_service"});
        for named in [json!({}), json!({"user": "bridgebot"}), json!({"username": "bridgebot"})] {
            post(merged(typed.clone(), named)).await.expect(400, "M_MISSING_PARAM");
        }
        for identifier in [json!({"type": "m.id.phone", "country": "GB", "phone": "1"}),
            json!({"type": "m.id.thirdparty", "medium": "email", "address": "a@b.c"}), json!({"type": 1})] {
            post(merged(typed.clone(), json!({"identifier": identifier}))).await.expect(400, "M_INVALID_PARAM");
        }
        let userless = json!({"identifier": {"type": "m.id.user"}});
        post(merged(typed.clone(), userless)).await.expect(400, "M_MISSING_PARAM");
    }
}
