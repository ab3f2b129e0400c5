//! The stages of a registration, one after the other and many at once (I20).

use ligand_protocol::registration::RegistrationMode;
use serde_json::{Value, json};

use super::open;
use crate::both;
use crate::harness::{Answer, PASSWORD, Request, Server, at_once, merged};

const TOKEN_STAGE: &str = "m.login.registration_token";

async fn by_token(server: Server) -> Server {
    let server = server.with_registration(RegistrationMode::Token).await;
    server.registration_token("letmein", 1, None).await;
    server
}

fn post(server: &Server, name: &str, auth: Value) -> Request {
    let body = json!({"username": name, "password": PASSWORD, "auth": auth});
    server.post("v3/register").json(body)
}

fn token(text: &str, session: &Value) -> Value {
    let auth = json!({"type": TOKEN_STAGE, "token": text});
    if session.is_null() { auth } else { merged(auth, json!({"session": session})) }
}

fn good(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| answer.status == 200).count()
}

both! {
    async fn an_empty_body_asks_for_the_flows(server: Server) {
        let server = open(server).await;
        let one = server.post("v3/register").json(json!({})).await.expect_flows(&["m.login.dummy"]);
        let two = server.post("v3/register").json(json!({})).await.expect_flows(&["m.login.dummy"]);
        assert_ne!(one["session"], two["session"]);
        assert!(one.get("completed").is_none() && one.get("errcode").is_none(), "{one}");
    }

    async fn the_dummy_stage_in_its_session(server: Server) {
        let server = open(server).await;
        let asked = server.post("v3/register").json(json!({})).await.expect_flows(&["m.login.dummy"]);
        let auth = json!({"type": "m.login.dummy", "session": asked["session"]});
        post(&server, "alice", auth.clone()).await.expect_ok();
        let spent = post(&server, "bob", auth).await;
        spent.expect_flows_after_a_try(&["m.login.dummy"], &[], Some("M_FORBIDDEN"));
    }

    async fn without_a_password_there_is_no_account_even_after_the_stage(server: Server) {
        let server = open(server).await;
        let asked = server.post("v3/register").json(json!({})).await.expect_flows(&["m.login.dummy"]);
        let auth = json!({"type": "m.login.dummy", "session": asked["session"]});
        let body = json!({"username": "alice", "auth": auth});
        server.post("v3/register").json(body).await.expect(400, "M_MISSING_PARAM");
        // The session is as it was: the person mends the request.
        post(&server, "alice", auth).await.expect_ok();
    }

    async fn another_stage_is_out_of_order(server: Server) {
        let server = by_token(server).await;
        for stage in ["m.login.dummy", "m.login.password", "m.login.recaptcha", "nonsense"] {
            let refused = post(&server, "alice", json!({"type": stage})).await;
            refused.expect_flows_after_a_try(&[TOKEN_STAGE], &[], Some("M_FORBIDDEN"));
        }
        assert_eq!(server.uses_of("letmein").await, 0);
    }

    async fn a_registration_token_lets_one_in_and_is_used_up(server: Server) {
        let server = by_token(server).await;
        let asked = server.post("v3/register").json(json!({"username": "alice"})).await.expect_flows(&[TOKEN_STAGE]);
        post(&server, "alice", token("letmein", &asked["session"])).await.expect_ok();
        assert_eq!(server.uses_of("letmein").await, 1);
        let refused = post(&server, "bob", token("letmein", &Value::Null)).await;
        refused.expect_flows_after_a_try(&[TOKEN_STAGE], &[], Some("M_FORBIDDEN"));
    }

    async fn a_token_that_is_none_fails_and_may_be_tried_again(server: Server) {
        let server = by_token(server).await;
        server.registration_token("expired", 5, Some(server.now())).await;
        let mut session = Value::Null;
        for text in ["wrong", "expired", "", "no such characters!", &"x".repeat(65)] {
            let failed = post(&server, "alice", token(text, &session)).await;
            let body = failed.expect_flows_after_a_try(&[TOKEN_STAGE], &[], Some("M_FORBIDDEN"));
            session = body["session"].clone();
        }
        post(&server, "alice", merged(token("", &session), json!({"token": 1}))).await.expect(400, "M_INVALID_PARAM");
        let without = json!({"type": TOKEN_STAGE, "session": session});
        post(&server, "alice", without).await.expect(400, "M_MISSING_PARAM");
        post(&server, "alice", token("letmein", &session)).await.expect_ok();
    }

    async fn a_revoked_token_lets_nobody_in(server: Server) {
        let server = by_token(server).await;
        let hash = ligand_protocol::registration::RegistrationToken::parse("letmein").unwrap().hash();
        assert_eq!(server.store().revoke_registration_token(hash, server.now()).await, Ok(true));
        let refused = post(&server, "alice", token("letmein", &Value::Null)).await;
        refused.expect_flows_after_a_try(&[TOKEN_STAGE], &[], Some("M_FORBIDDEN"));
    }

    async fn a_failed_registration_uses_nothing_up(server: Server) {
        let server = by_token(server).await;
        let body = json!({"username": "alice", "auth": token("letmein", &Value::Null)});
        server.post("v3/register").json(body).await.expect(400, "M_MISSING_PARAM");
        server.user("alice").await;
        post(&server, "alice", token("letmein", &Value::Null)).await.expect(400, "M_USER_IN_USE");
        assert_eq!(server.uses_of("letmein").await, 0);
        post(&server, "bob", token("letmein", &Value::Null)).await.expect_ok();
    }

    async fn one_use_lets_one_of_thirty_two_in(server: Server) {
        let server = by_token(server).await;
        let requests = (0..32).map(|n| post(&server, &format!("user.{n}"), token("letmein", &Value::Null)));
        let answers = at_once(requests.collect()).await;
        assert_eq!(good(&answers), 1);
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            // A full queue of passwords turns the others away before that.
            if answer.status != 429 {
                answer.expect_flows_after_a_try(&[TOKEN_STAGE], &[], Some("M_FORBIDDEN"));
            }
        }
        assert_eq!(server.uses_of("letmein").await, 1);
        assert_eq!(server.store().count_users().await, Ok(1));
    }

    async fn one_session_registers_one_of_thirty_two(server: Server) {
        let server = open(server).await;
        let asked = server.post("v3/register").json(json!({})).await.expect_flows(&["m.login.dummy"]);
        let auth = json!({"type": "m.login.dummy", "session": asked["session"]});
        let requests = (0..32).map(|n| post(&server, &format!("user.{n}"), auth.clone()));
        let answers = at_once(requests.collect()).await;
        assert_eq!(good(&answers), 1);
        assert_eq!(server.store().count_users().await, Ok(1));
    }

    async fn one_name_goes_to_one_of_sixteen(server: Server) {
        let server = open(server).await;
        let requests = (0..16).map(|_| post(&server, "alice", json!({"type": "m.login.dummy"})));
        let answers = at_once(requests.collect()).await;
        assert_eq!(good(&answers), 1);
        for answer in answers.iter().filter(|answer| ![200, 429].contains(&answer.status)) {
            answer.expect(400, "M_USER_IN_USE");
        }
    }
}
