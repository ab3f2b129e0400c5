//! `POST /register`; what may be asked before it is in `available` and `validity`, the stages and
//! their races in `stages`.

mod available;
mod by_stages_of_2015;
mod captcha;
mod flows;
mod guests;
mod stages;
pub mod terms;
mod validity;

use ligand_protocol::registration::RegistrationMode;
use serde_json::{Value, json};

use crate::both;
use crate::harness::{Answer, MINUTE, PASSWORD, Server, Tokens, merged};

/// Registers at a prefix with the dummy stage done at once, and further members in the body.
async fn register(server: &Server, prefix: &str, name: &str, more: Value) -> Answer {
    let body = json!({"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
    server.post(&format!("{prefix}/register")).json(merged(body, more)).await
}

async fn open(server: Server) -> Server {
    server.with_registration(RegistrationMode::Open).await
}

both! {
    async fn closed_is_the_default_and_says_so_everywhere(server: Server) {
        for prefix in ["api/v1", "v2_alpha", "r0", "v3", "unstable"] {
            server.post(&format!("{prefix}/register")).json(json!({})).await.expect(403, "M_FORBIDDEN");
        }
        server.get("v3/register/available?username=alice").await.expect(403, "M_FORBIDDEN");
        let validity = "v1/register/m.login.registration_token/validity?token=a";
        server.get(validity).await.expect(403, "M_FORBIDDEN");
    }

    async fn who_registers_is_signed_in(server: Server) {
        let server = open(server).await;
        let names = [("api/v1", "ann"), ("v2_alpha", "bea"), ("r0", "cleo"), ("v3", "dora"), ("unstable", "eve")];
        for (prefix, name) in names {
            let phone = json!({"device_id": "PHONE", "initial_device_display_name": "My phone"});
            let more = merged(phone, json!({"refresh_token": true}));
            let body = register(&server, prefix, name, more).await.expect_ok();
            assert_eq!(body["user_id"], format!("@{name}:example.org"));
            assert_eq!(body["home_server"], "example.org");
            assert_eq!((&body["device_id"], &body["expires_in_ms"]), (&json!("PHONE"), &json!(5 * MINUTE)));
            let tokens = Tokens::of(&body);
            let device = server.get("v3/devices/PHONE").bearer(&tokens.access_token).await.expect_ok();
            assert_eq!(device["display_name"], "My phone");
            let refresh = json!({"refresh_token": tokens.refresh_token()});
            server.post("v3/refresh").json(refresh).await.expect_ok();
        }
        assert_eq!(server.audited("register").await, 5);
    }

    async fn and_signs_in_later(server: Server) {
        let server = open(server).await;
        register(&server, "v3", "alice", json!({})).await.expect_ok();
        let body = json!({"type": "m.login.password", "user": "alice", "password": PASSWORD});
        server.post("v3/login").json(body).await.expect_ok();
    }

    async fn refresh_tokens_come_as_at_sign_in(server: Server) {
        let server = open(server).await;
        let registered = |prefix: &'static str, name: &'static str, more: Value| {
            let server = &server;
            async move { Tokens::of(&register(server, prefix, name, more).await.expect_ok()) }
        };
        let old = registered("v2_alpha", "ann", json!({})).await;
        assert_eq!((old.refresh_token.is_some(), old.expires_in_ms), (true, Some(5 * MINUTE)));
        let r0 = registered("r0", "bea", json!({})).await;
        assert_eq!((r0.refresh_token.is_some(), r0.expires_in_ms), (true, None));
        let today = registered("v3", "cleo", json!({})).await;
        assert_eq!((today.refresh_token.is_some(), today.expires_in_ms), (false, None));
        let declined = registered("v2_alpha", "dora", json!({"refresh_token": false})).await;
        assert_eq!((declined.refresh_token.is_some(), declined.expires_in_ms), (false, None));
    }

    async fn with_inhibit_login_nothing_is_opened(server: Server) {
        let server = open(server).await;
        let answer = register(&server, "v3", "alice", json!({"inhibit_login": true, "refresh_token": true})).await;
        let body = json!({"user_id": "@alice:example.org", "home_server": "example.org"});
        assert_eq!(answer.expect_ok(), body);
        let rows = server.store().read("SELECT COUNT(*) FROM sessions", Vec::new()).await.unwrap();
        assert_eq!(rows[0].int(0), Ok(0));
    }

    async fn without_a_name_the_server_makes_one(server: Server) {
        let server = open(server).await;
        let mut names = Vec::new();
        for name in [json!({"username": null}), json!({"username": ""})] {
            let body = register(&server, "v3", "", name).await.expect_ok();
            names.push(body["user_id"].as_str().unwrap().to_owned());
            Tokens::of(&body);
        }
        assert_ne!(names[0], names[1]);
    }

    async fn capitals_are_mapped(server: Server) {
        let server = open(server).await;
        let body = register(&server, "v3", "Alice", json!({})).await.expect_ok();
        assert_eq!(body["user_id"], "@alice:example.org");
        register(&server, "v3", "aLICE", json!({})).await.expect(400, "M_USER_IN_USE");
    }

    // Digest §2.3: name checks come before the stages, and so does what is wrong with the rest.
    async fn what_is_wrong_is_said_before_any_stage(server: Server) {
        let server = open(server).await;
        server.user("alice").await;
        let post = |body: Value| server.post("v3/register").json(body);
        post(json!({"username": "alice"})).await.expect(400, "M_USER_IN_USE");
        for name in ["not allowed", "@bob:example.org", "ünal", "12345", "admin", &"x".repeat(250)] {
            post(json!({"username": name})).await.expect(400, "M_INVALID_USERNAME");
        }
        post(json!({"username": "_bridge_bob"})).await.expect(400, "M_EXCLUSIVE");
        for weak in ["short", "password", "bob12345", "abcdefgh"] {
            post(json!({"username": "bob", "password": weak})).await.expect(400, "M_WEAK_PASSWORD");
        }
        for wrong in [json!({"username": 1}), json!({"password": 1}), json!({"device_id": 1}),
            json!({"inhibit_login": "yes"}), json!({"refresh_token": 1}), json!({"auth": "please"})] {
            post(wrong).await.expect(400, "M_INVALID_PARAM");
        }
    }

    async fn guests_are_not_served_and_other_kinds_are_none(server: Server) {
        let server = open(server).await;
        server.post("v3/register?kind=guest").json(json!({})).await.expect(403, "M_FORBIDDEN");
        server.post("v3/register?kind=robot").json(json!({})).await.expect(400, "M_INVALID_PARAM");
        server.post("v3/register?kind=user").json(json!({})).await.expect_flows(&["m.login.dummy"]);
    }

    async fn a_new_account_survives_a_restart(server: Server) {
        let server = open(server).await;
        let tokens = Tokens::of(&register(&server, "v3", "alice", json!({})).await.expect_ok());
        let server = server.restart().await;
        let body = server.get("v3/account/whoami").bearer(&tokens.access_token).await.expect_ok();
        assert_eq!(body["user_id"], "@alice:example.org");
    }
}
