//! `m.login.recaptcha`, against a provider that listens and speaks the real ones' format.

use ligand_protocol::registration::RegistrationMode;
use ligand_server::config::SecretText;
use serde_json::{Value, json};

use crate::both;
use crate::harness::{Answer, PASSWORD, SECOND, Server, Verifier, at_once};

const STAGE: &str = "m.login.recaptcha";

/// Open, for whoever solves the captcha.
pub async fn with_captcha(server: Server, verifier: &Verifier) -> Server {
    server
        .with(|config| {
            config.registration.mode = RegistrationMode::Open;
            verifier.configure(config);
        })
        .await
}

async fn answer(server: &Server, name: &str, response: Value) -> Answer {
    let auth = json!({"type": STAGE, "response": response});
    server.post("v3/register").json(json!({"username": name, "password": PASSWORD, "auth": auth})).await
}

both! {
    async fn a_solved_captcha_lets_in(server: Server) {
        let verifier = Verifier::start().await;
        let server = with_captcha(server, &verifier).await;
        answer(&server, "alice", "right é&=1".into()).await.expect_ok();
        let asked = verifier.asked();
        let field = |name: &str| asked[0].get(name).map(String::as_str);
        assert_eq!(asked.len(), 1);
        assert_eq!(
            (field("secret"), field("response"), field("remoteip")),
            (Some("the secret"), Some("right é&=1"), Some("127.0.0.1"))
        );
    }

    async fn one_answer_lets_one_in(server: Server) {
        let verifier = Verifier::start().await;
        let server = with_captcha(server, &verifier).await;
        answer(&server, "alice", "right".into()).await.expect_ok();
        let again = answer(&server, "bob", "right".into()).await;
        again.expect_flows_after_a_try(&[STAGE], &[], Some("M_CAPTCHA_INVALID"));
    }

    async fn a_missing_and_a_wrong_answer_are_told_apart(server: Server) {
        let verifier = Verifier::start().await;
        let server = with_captcha(server, &verifier).await;
        for missing in [Value::Null, json!("")] {
            let failed = answer(&server, "alice", missing).await;
            failed.expect_flows_after_a_try(&[STAGE], &[], Some("M_CAPTCHA_NEEDED"));
        }
        let endless = "x".repeat(20_000);
        let failed = answer(&server, "alice", endless.into()).await;
        failed.expect_flows_after_a_try(&[STAGE], &[], Some("M_CAPTCHA_INVALID"));
        assert_eq!(verifier.asked().len(), 0);
        let failed = answer(&server, "alice", "wrong".into()).await;
        failed.expect_flows_after_a_try(&[STAGE], &[], Some("M_CAPTCHA_INVALID"));
        answer(&server, "alice", json!(1)).await.expect(400, "M_INVALID_PARAM");
        answer(&server, "alice", "right".into()).await.expect_ok();
    }

    async fn a_provider_in_trouble_lets_nobody_in(server: Server) {
        let verifier = Verifier::start().await;
        let server = with_captcha(server, &verifier).await;
        for response in ["silence", "garbage", "broken", "cut", "busy"] {
            answer(&server, "alice", response.into()).await.expect_unavailable();
        }
        let server = server.with(|config| config.captcha.secret = Some(SecretText::new("another"))).await;
        answer(&server, "alice", "right".into()).await.expect_unavailable();
        let server = server.with(|config| {
            config.captcha.verify_url = Some("http://127.0.0.1:1/siteverify".to_owned());
        }).await;
        answer(&server, "alice", "right".into()).await.expect_unavailable();
        assert_eq!(server.store().count_users().await, Ok(0));
    }

    async fn the_session_goes_on_after_trouble(server: Server) {
        let verifier = Verifier::start().await;
        let server = with_captcha(server, &verifier).await;
        let asked = server.post("v3/register").json(json!({})).await.expect_flows(&[STAGE]);
        let post = |response: &str| {
            let auth = json!({"type": STAGE, "response": response, "session": asked["session"]});
            server.post("v3/register").json(json!({"username": "alice", "password": PASSWORD, "auth": auth}))
        };
        post("garbage").await.expect_unavailable();
        post("right").await.expect_ok();
    }

    async fn one_solved_session_registers_one_of_thirty_two(server: Server) {
        let verifier = Verifier::start().await;
        let server = with_captcha(server, &verifier).await;
        let asked = server.post("v3/register").json(json!({})).await.expect_flows(&[STAGE]);
        let requests = (0..32).map(|n| {
            let auth = json!({"type": STAGE, "response": format!("right{n}"), "session": asked["session"]});
            let body = json!({"username": format!("user.{n}"), "password": PASSWORD, "auth": auth});
            server.post("v3/register").json(body)
        });
        let answers = at_once(requests.collect()).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
        assert_eq!(server.store().count_users().await, Ok(1));
    }

    async fn tries_are_counted_by_address(server: Server) {
        let verifier = Verifier::start().await;
        let server = with_captcha(server, &verifier).await.with_limits().await;
        let post = |from: &str| {
            let body = json!({"auth": {"type": STAGE, "response": "wrong"}});
            server.post("v3/register").json(body).from(from)
        };
        for _ in 0..10 {
            assert_eq!(post("203.0.113.1").await.status, 401);
        }
        let wait = post("203.0.113.1").await.expect_limited();
        assert!(wait <= 10 * SECOND, "{wait}");
        assert_eq!(verifier.asked().len(), 10);
        assert_eq!(post("203.0.113.2").await.status, 401);
        server.pass(10 * SECOND);
        assert_eq!(post("203.0.113.1").await.status, 401);
    }
}
