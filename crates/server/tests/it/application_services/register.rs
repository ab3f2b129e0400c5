//! `POST /register` of type `m.login.application_service`, and what namespaces are to people.

use ligand_protocol::registration::RegistrationMode;
use serde_json::json;

use super::{Bridged, OTHER_TOKEN};
use crate::both;
use crate::harness::{MINUTE, PASSWORD, Tokens, at_once, merged};

both! {
    // Registration is closed here, which is nothing to an application service.
    async fn it_registers_users_without_stages_and_passwords(bridged: Bridged) {
        for (prefix, name) in [("r0", "ann"), ("v3", "bea"), ("unstable", "cleo")] {
            let device = json!({"device_id": "PHONE", "initial_device_display_name": "Bridge"});
            let body = merged(device, json!({"type": "m.login.application_service", "username": format!("_bridge_{name}")}));
            let answer = bridged.asks("POST", &format!("{prefix}/register")).json(body).await.expect_ok();
            assert_eq!(answer["user_id"], format!("@_bridge_{name}:example.org"));
            assert_eq!(answer["device_id"], "PHONE");
            let tokens = Tokens::of(&answer);
            let shown = bridged.server.get("v3/devices/PHONE").bearer(&tokens.access_token).await.expect_ok();
            assert_eq!(shown["display_name"], "Bridge");
        }
        assert_eq!(bridged.server.audited("register").await, 3);
    }

    async fn a_refresh_token_comes_when_asked_for(bridged: Bridged) {
        let asked = bridged.register(json!({"username": "_bridge_ann", "refresh_token": true})).await.expect_ok();
        let tokens = Tokens::of(&asked);
        assert_eq!(tokens.expires_in_ms, Some(5 * MINUTE));
        let refresh = json!({"refresh_token": tokens.refresh_token()});
        bridged.server.post("v3/refresh").json(refresh).await.expect_ok();
        let unasked = bridged.register(json!({"username": "_bridge_bea"})).await.expect_ok();
        assert_eq!(Tokens::of(&unasked).refresh_token, None);
    }

    async fn with_inhibit_login_nothing_is_opened(bridged: Bridged) {
        let answer = bridged.register(json!({"username": "_bridge_ann", "inhibit_login": true, "refresh_token": true})).await;
        assert_eq!(answer.expect_ok(), json!({"user_id": "@_bridge_ann:example.org", "home_server": "example.org"}));
        let rows = bridged.server.store().read("SELECT COUNT(*) FROM sessions", Vec::new()).await.unwrap();
        assert_eq!(rows[0].int(0), Ok(0));
    }

    async fn what_is_wrong_is_said(bridged: Bridged) {
        bridged.ghost("_bridge_ann").await;
        let register = |body| bridged.register(body);
        register(json!({"username": "_bridge_ann"})).await.expect(400, "M_USER_IN_USE");
        register(json!({"username": "bridgebot"})).await.expect(400, "M_USER_IN_USE");
        register(json!({})).await.expect(400, "M_MISSING_PARAM");
        register(json!({"username": 1})).await.expect(400, "M_INVALID_PARAM");
        register(json!({"username": "_bridge_ünal"})).await.expect(400, "M_INVALID_USERNAME");
        register(json!({"username": "@_bridge_bea:example.org"})).await.expect(400, "M_INVALID_USERNAME");
        register(json!({"username": "_bridge_bea", "inhibit_login": 1})).await.expect(400, "M_INVALID_PARAM");
        register(json!({"username": "_bridge_bea", "device_id": 1})).await.expect(400, "M_INVALID_PARAM");
    }

    async fn it_registers_nobody_outside_its_namespaces(bridged: Bridged) {
        for name in ["alice", "_other_ann", "x_bridge_ann", "otherbot"] {
            bridged.register(json!({"username": name})).await.expect(400, "M_EXCLUSIVE");
        }
        // Inside its own, but kept for another service, too.
        bridged.register(json!({"username": "_bridge_other"})).await.expect(400, "M_EXCLUSIVE");
        bridged.register(json!({"username": "shared_ann"})).await.expect_ok();
    }

    async fn without_its_token_nothing_is_registered(bridged: Bridged) {
        let alice = bridged.server.user("alice").await.log_in().await;
        let body = json!({"type": "m.login.application_service", "username": "_bridge_ann"});
        let post = || bridged.server.post("v3/register").json(body.clone());
        post().await.expect(401, "M_MISSING_TOKEN");
        post().bearer("nobodys").await.expect_unknown_token(false);
        post().bearer(&alice.tokens.access_token).await.expect(403, "M_FORBIDDEN");
        post().bearer(OTHER_TOKEN).await.expect(400, "M_EXCLUSIVE");
        assert_eq!(bridged.server.audited("register").await, 0);
    }

    async fn people_get_no_name_that_is_kept_for_a_service(bridged: Bridged) {
        let Bridged { server, _files } = bridged;
        let server = server.with_registration(RegistrationMode::Open).await;
        let bridged = Bridged { server, _files };
        let register = |name: &str| {
            let body = json!({"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
            bridged.server.post("v3/register").json(body)
        };
        let available = |name: &str| bridged.server.get(&format!("v3/register/available?username={name}"));
        for name in ["_bridge_ann", "_other_ann"] {
            register(name).await.expect(400, "M_EXCLUSIVE");
            available(name).await.expect(400, "M_EXCLUSIVE");
        }
        // Its own user is simply taken, and what is not exclusive is for everybody.
        register("bridgebot").await.expect(400, "M_USER_IN_USE");
        available("bridgebot").await.expect(400, "M_USER_IN_USE");
        available("shared_ann").await.expect_ok();
        register("shared_ann").await.expect_ok();
    }

    async fn nor_does_the_server_make_one_up_or_leave_one_to_a_guest(bridged: Bridged) {
        let bridged = bridged.with_crowd(false).await.with_registration().await;
        let guest = bridged.guest().await.expect_ok();
        let user_id = guest["user_id"].as_str().expect("a user ID");
        let name = user_id.trim_start_matches('@').split(':').next().expect("a localpart");
        let bridged = bridged.with_crowd(true).await;
        bridged.guest().await.expect(400, "M_EXCLUSIVE");
        let with_stage = json!({"password": PASSWORD, "auth": {"type": "m.login.dummy"}});
        bridged.server.post("v3/register").json(with_stage.clone()).await.expect(400, "M_EXCLUSIVE");
        let upgrade = json!({"username": name, "guest_access_token": guest["access_token"]});
        let upgrade = merged(with_stage, upgrade);
        bridged.server.post("v3/register").json(upgrade.clone()).await.expect(400, "M_EXCLUSIVE");
        let bridged = bridged.with_crowd(false).await;
        bridged.server.post("v3/register").json(upgrade).await.expect_ok();
    }

    async fn of_many_registrations_at_once_one_succeeds(bridged: Bridged) {
        let tries = (0..32).map(|_| bridged.register(json!({"username": "_bridge_ann"}))).collect();
        let answers = at_once(tries).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
        assert!(answers.iter().all(|answer| answer.status == 200 || answer.text.contains("M_USER_IN_USE")));
        assert_eq!(bridged.server.audited("register").await, 1);
    }
}
