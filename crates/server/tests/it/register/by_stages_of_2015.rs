//! The registration of 2015, on `api/v1`: a stage in each request, the password as the last.

use ligand_protocol::registration::RegistrationMode;
use serde_json::{Value, json};

use super::captcha::with_captcha;
use super::open;
use crate::both;
use crate::harness::{Answer, MINUTE, PASSWORD, Server, Tokens, Verifier, at_once, merged};

const PATH: &str = "api/v1/register";

async fn post(server: &Server, body: Value) -> Answer {
    server.post(PATH).json(body).await
}

fn name_and_password(user: &str) -> Value {
    json!({"type": "m.login.password", "user": user, "password": PASSWORD})
}

both! {
    async fn the_password_alone_where_nothing_else_is_asked(server: Server) {
        let server = open(server).await;
        let flows = server.get(PATH).await.expect_ok();
        assert_eq!(flows, json!({"flows": [{"type": "m.login.password"}]}));
        let body = post(&server, name_and_password("alice")).await.expect_ok();
        assert_eq!((&body["user_id"], &body["home_server"]), (&json!("@alice:example.org"), &json!("example.org")));
        let tokens = Tokens::of(&body);
        assert!(tokens.refresh_token.is_some() && tokens.expires_in_ms == Some(5 * MINUTE));
        server.get("v3/account/whoami").bearer(&tokens.access_token).await.expect_ok();
        post(&server, name_and_password("alice")).await.expect(400, "M_USER_IN_USE");
        let mut nameless = name_and_password("");
        nameless.as_object_mut().unwrap().remove("user");
        post(&server, nameless).await.expect_ok();
    }

    async fn stage_after_stage(server: Server) {
        let verifier = Verifier::start().await;
        let server = with_captcha(server, &verifier).await.with_registration(RegistrationMode::Token).await;
        server.registration_token("letmein", 1, None).await;
        let stages = json!(["m.login.recaptcha", "m.login.registration_token", "m.login.password"]);
        let flows = server.get(PATH).await.expect_ok();
        assert_eq!(flows, json!({"flows": [{"type": "m.login.recaptcha", "stages": stages}]}));

        let captcha = json!({"type": "m.login.recaptcha", "challenge": "old", "response": "right"});
        let body = post(&server, captcha.clone()).await.expect_ok();
        assert_eq!(body["next"], "m.login.registration_token");
        let session = json!({"session": body["session"]});
        // Once is enough: the stage is done, and the provider would not take it again.
        let again = post(&server, merged(captcha, session.clone())).await.expect_ok();
        assert_eq!(again, body);
        let token = json!({"type": "m.login.registration_token", "token": "letmein"});
        let body = post(&server, merged(token, session.clone())).await.expect_ok();
        assert_eq!(body["next"], "m.login.password");
        let last = merged(name_and_password("alice"), session.clone());
        assert_eq!(post(&server, last.clone()).await.expect_ok()["user_id"], "@alice:example.org");
        assert_eq!(server.uses_of("letmein").await, 1);
        assert_eq!(post(&server, merged(last, json!({"user": "bob"}))).await.status, 401);
    }

    async fn a_stage_that_fails_may_be_tried_again(server: Server) {
        let verifier = Verifier::start().await;
        let server = with_captcha(server, &verifier).await;
        let stages = ["m.login.recaptcha"];
        let captcha = |response: &str, session: &Value| {
            let body = json!({"type": "m.login.recaptcha", "response": response});
            if session.is_null() { body } else { merged(body, json!({"session": session})) }
        };
        let failed = post(&server, captcha("wrong", &Value::Null)).await;
        let body = failed.expect_flows_after_a_try(&stages, &[], Some("M_CAPTCHA_INVALID"));
        post(&server, captcha("garbage", &body["session"])).await.expect_unavailable();
        let done = post(&server, captcha("right", &body["session"])).await.expect_ok();
        assert_eq!(done, json!({"session": body["session"], "next": "m.login.password"}));
    }

    async fn the_order_is_kept(server: Server) {
        let verifier = Verifier::start().await;
        let server = with_captcha(server, &verifier).await;
        for early in [name_and_password("alice"), json!({"type": "m.login.terms"})] {
            let refused = post(&server, early).await;
            refused.expect_flows_after_a_try(&["m.login.recaptcha"], &[], Some("M_FORBIDDEN"));
        }
        assert_eq!(server.store().count_users().await, Ok(0));
    }

    async fn errors_are_those_of_2015(server: Server) {
        let server = open(server).await;
        post(&server, json!({"type": "m.login.oauth2"})).await.expect(400, "M_UNKNOWN");
        post(&server, json!({"type": 1})).await.expect(400, "M_INVALID_PARAM");
        post(&server, json!({"type": "m.login.password", "user": "alice"})).await.expect(400, "M_BAD_JSON");
        post(&server, json!({"type": "m.login.password", "user": 1, "password": PASSWORD})).await.expect(400, "M_BAD_JSON");
        let lost = merged(name_and_password("alice"), json!({"session": "nonsense"}));
        post(&server, lost).await.expect_flows_after_a_try(&["m.login.dummy"], &[], Some("M_FORBIDDEN"));
    }

    async fn todays_form_works_there_too(server: Server) {
        let server = open(server).await;
        post(&server, json!({})).await.expect_flows(&["m.login.dummy"]);
        let body = json!({"username": "alice", "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
        post(&server, body).await.expect_ok();
    }

    async fn elsewhere_there_is_no_such_form(server: Server) {
        let server = open(server).await;
        server.post("v3/register").json(name_and_password("alice")).await.expect_flows(&["m.login.dummy"]);
        server.get("v3/register").await.expect(405, "M_UNRECOGNIZED");
    }

    async fn one_session_registers_one_of_thirty_two(server: Server) {
        let verifier = Verifier::start().await;
        let server = with_captcha(server, &verifier).await;
        let captcha = json!({"type": "m.login.recaptcha", "response": "right"});
        let session = json!({"session": post(&server, captcha).await.expect_ok()["session"]});
        let requests = (0..32).map(|n| {
            let body = merged(name_and_password(&format!("user.{n}")), session.clone());
            server.post(PATH).json(body)
        });
        let answers = at_once(requests.collect()).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
        assert_eq!(server.store().count_users().await, Ok(1));
    }
}
