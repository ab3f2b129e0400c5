//! `POST /register?kind=guest`, and registering with `guest_access_token`.

use ligand_protocol::registration::RegistrationMode;
use serde_json::{Value, json};

use crate::both;
use crate::harness::{PASSWORD, Request, Server, Tokens, at_once, merged};

async fn with_guests(server: Server) -> Server {
    server
        .with(|config| {
            config.registration.guests = true;
            config.registration.mode = RegistrationMode::Open;
        })
        .await
}

/// A new guest's answer: its name, its device and its token are in it.
async fn guest(server: &Server) -> Value {
    server.post("v3/register?kind=guest").json(json!({})).await.expect_ok()
}

fn name(guest: &Value) -> &str {
    let user_id = guest["user_id"].as_str().expect("a user ID");
    user_id.strip_prefix('@').and_then(|rest| rest.strip_suffix(":example.org")).expect("of this server")
}

fn whoami(server: &Server, body: &Value) -> Request {
    server.get("v3/account/whoami").bearer(&Tokens::of(body).access_token)
}

/// Registers with the token of a guest, the dummy stage done at once.
fn upgrade(server: &Server, guest: &Value, more: Value) -> Request {
    let body = json!({
        "username": name(guest),
        "password": PASSWORD,
        "guest_access_token": guest["access_token"],
        "auth": {"type": "m.login.dummy"},
    });
    server.post("v3/register").json(merged(body, more))
}

both! {
    async fn a_guest_is_made_without_a_question_on_every_prefix(server: Server) {
        let server = with_guests(server).await;
        for prefix in ["api/v1", "v2_alpha", "r0", "v3", "unstable"] {
            let body = json!({"username": "alice", "password": 1, "device_id": "PHONE", "inhibit_login": true,
                "refresh_token": true, "auth": [], "initial_device_display_name": "Kiosk"});
            let path = format!("{prefix}/register?kind=guest");
            let guest = server.post(&path).json(body).await.expect_ok();
            assert!(name(&guest).bytes().all(|byte| byte.is_ascii_digit()), "{guest}");
            assert!(guest["device_id"] != "PHONE" && guest.get("refresh_token").is_none(), "{guest}");
            assert_eq!(guest.get("expires_in_ms"), None);
            let who = whoami(&server, &guest).await.expect_ok();
            assert_eq!((&who["user_id"], &who["device_id"]), (&guest["user_id"], &guest["device_id"]));
            assert_eq!(who["is_guest"], true);
            let device = server.get(&format!("v3/devices/{}", guest["device_id"].as_str().unwrap()));
            let device = device.bearer(&Tokens::of(&guest).access_token).await.expect_ok();
            assert_eq!(device["display_name"], "Kiosk");
        }
        assert_eq!(server.audited("guest_registered").await, 5);
    }

    async fn by_default_there_are_none(server: Server) {
        let server = server.with_registration(RegistrationMode::Open).await;
        server.post("v3/register?kind=guest").json(json!({})).await.expect(403, "M_FORBIDDEN");
    }

    async fn closed_to_users_it_may_be_open_to_guests(server: Server) {
        let server = server.with(|config| config.registration.guests = true).await;
        let guest = guest(&server).await;
        upgrade(&server, &guest, json!({})).await.expect(403, "M_FORBIDDEN");
        server.post("v3/register?kind=guest").json(json!([])).await.expect(400, "M_BAD_JSON");
        let name = json!({"initial_device_display_name": 1});
        server.post("v3/register?kind=guest").json(name).await.expect(400, "M_INVALID_PARAM");
    }

    async fn a_guest_becomes_a_user_and_stays_who_it_was(server: Server) {
        let server = with_guests(server).await;
        let guest = guest(&server).await;
        let body = upgrade(&server, &guest, json!({"device_id": "PHONE", "refresh_token": true})).await.expect_ok();
        assert_eq!((&body["user_id"], &body["device_id"]), (&guest["user_id"], &json!("PHONE")));
        assert!(body["refresh_token"].is_string());
        // The guest's own session goes on, as a user's.
        for held in [&guest, &body] {
            assert_eq!(whoami(&server, held).await.expect_ok()["is_guest"], false);
            server.get("v3/capabilities").bearer(&Tokens::of(held).access_token).await.expect_ok();
        }
        let login = json!({"type": "m.login.password", "user": name(&guest), "password": PASSWORD});
        server.post("v3/login").json(login).await.expect_ok();
        assert_eq!((server.audited("guest_upgraded").await, server.audited("register").await), (1, 0));
    }

    async fn on_the_guests_own_device_the_new_session_takes_its_place(server: Server) {
        let server = with_guests(server).await;
        let guest = guest(&server).await;
        let body = upgrade(&server, &guest, json!({"device_id": guest["device_id"]})).await.expect_ok();
        whoami(&server, &guest).await.expect_unknown_token(true);
        whoami(&server, &body).await.expect_ok();
    }

    async fn without_a_login_the_guests_session_is_the_only_one(server: Server) {
        let server = with_guests(server).await;
        let guest = guest(&server).await;
        let body = upgrade(&server, &guest, json!({"inhibit_login": true})).await.expect_ok();
        assert_eq!(body, json!({"user_id": guest["user_id"], "home_server": "example.org"}));
        assert_eq!(whoami(&server, &guest).await.expect_ok()["is_guest"], false);
    }

    async fn the_flows_are_those_of_any_registration(server: Server) {
        let server = with_guests(server).await;
        let guest = guest(&server).await;
        upgrade(&server, &guest, json!({"auth": null})).await.expect_flows(&["m.login.dummy"]);
        upgrade(&server, &guest, json!({"password": "short"})).await.expect(400, "M_WEAK_PASSWORD");
        let server = server.with_registration(RegistrationMode::Token).await;
        server.registration_token("once", 1, None).await;
        let auth = json!({"auth": {"type": "m.login.registration_token", "token": "once"}});
        upgrade(&server, &guest, auth).await.expect_ok();
        assert_eq!(server.uses_of("once").await, 1);
    }

    // I20.
    async fn a_guest_becomes_a_user_once(server: Server) {
        let server = with_guests(server).await;
        let guest = guest(&server).await;
        let answers = at_once(vec![upgrade(&server, &guest, json!({})); 8]).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            assert!([400, 403, 429].contains(&answer.status), "{answer:?}");
        }
        assert_eq!(server.audited("guest_upgraded").await, 1);
        upgrade(&server, &guest, json!({})).await.expect(403, "M_FORBIDDEN");
    }

    async fn only_with_its_own_token_and_under_its_own_name(server: Server) {
        let server = with_guests(server).await;
        let (one, two) = (guest(&server).await, guest(&server).await);
        let alice = server.user("alice").await.log_in().await;
        upgrade(&server, &one, json!({"guest_access_token": two["access_token"]})).await.expect(403, "M_FORBIDDEN");
        upgrade(&server, &one, json!({"username": "bob"})).await.expect(403, "M_FORBIDDEN");
        upgrade(&server, &one, json!({"username": null})).await.expect(400, "M_MISSING_PARAM");
        upgrade(&server, &one, json!({"guest_access_token": 1})).await.expect(400, "M_INVALID_PARAM");
        upgrade(&server, &one, json!({"guest_access_token": "nonsense"})).await.expect_unknown_token(false);
        let users = json!({"username": "alice", "guest_access_token": alice.tokens.access_token});
        upgrade(&server, &one, users).await.expect(403, "M_FORBIDDEN");
        let without = upgrade(&server, &one, json!({"guest_access_token": null})).await;
        without.expect(400, "M_INVALID_USERNAME");
        assert_eq!(whoami(&server, &one).await.expect_ok()["is_guest"], true);
        assert_eq!(server.audited("guest_upgraded").await, 0);
    }

    async fn a_session_that_has_ended_upgrades_nobody(server: Server) {
        let server = with_guests(server).await;
        let guest = guest(&server).await;
        let token = Tokens::of(&guest).access_token;
        server.post("v3/logout").bearer(&token).await.expect_ok();
        upgrade(&server, &guest, json!({})).await.expect_unknown_token(false);
    }

    async fn guests_count_as_registrations(server: Server) {
        let server = with_guests(server).await.with_limits().await;
        let register = |address: &str| server.post("v3/register?kind=guest").json(json!({})).from(address);
        for _ in 0..3 {
            register("203.0.113.1").await.expect_ok();
        }
        register("203.0.113.1").await.expect_limited();
        register("203.0.113.2").await.expect_ok();
    }
}
