//! `auth/{type}/fallback/web`: stages completed on pages of the server, the client polling. What a
//! browser makes of the pages is tested in `tests/pages`.

use ligand_protocol::registration::RegistrationMode;
use ligand_server::config::RegistrationEmail;
use serde_json::{Value, json};

use crate::both;
use crate::harness::{Answer, Client, MINUTE, PASSWORD, Request, Server, Verifier, at_once};
use crate::register::terms::with_terms;
use crate::threepids::{link, mailing};

const CAPTCHA: &str = "m.login.recaptcha";
const TOKEN: &str = "m.login.registration_token";
const TERMS: &str = "m.login.terms";

fn path(stage: &str, session: &Value) -> String {
    format!("v3/auth/{stage}/fallback/web?session={}", session.as_str().expect("a session"))
}

fn submit(server: &Server, stage: &str, session: &Value, fields: &[(&str, &str)]) -> Request {
    server.post(&path(stage, session)).form(fields)
}

fn poll(server: &Server, name: &str, session: &Value) -> Request {
    let auth = json!({"session": session});
    server.post("v3/register").json(json!({"username": name, "password": PASSWORD, "auth": auth}))
}

#[track_caller]
fn expect_done(answer: &Answer) {
    assert!(answer.expect_page(200).contains("auth_done.js"), "{answer:?}");
}

/// Captcha, token and terms before one may register.
async fn strict(server: Server, verifier: &Verifier) -> Server {
    let server = with_terms(server, "1").await;
    let server = server
        .with(|config| {
            verifier.configure(config);
            config.registration.mode = RegistrationMode::Token;
        })
        .await;
    server.registration_token("letmein", 1, None).await;
    server
}

async fn opened(server: &Server) -> Value {
    server.post("v3/register").json(json!({})).await.json()["session"].clone()
}

/// The session that opens when a client wants its other device gone.
async fn deletion(alice: &Client, device: &str) -> Value {
    let asked = alice.delete(&format!("v3/devices/{device}")).await.expect_flows(&["m.login.password"]);
    asked["session"].clone()
}

both! {
    async fn a_whole_registration_on_pages(server: Server) {
        let verifier = Verifier::start().await;
        let server = strict(server, &verifier).await;
        let session = opened(&server).await;
        let all = [CAPTCHA, TOKEN, TERMS];
        for (n, (stage, fields)) in [
            (CAPTCHA, [("g-recaptcha-response", "right")]),
            (TOKEN, [("token", " letmein ")]),
            (TERMS, [("agree", "yes")]),
        ].into_iter().enumerate() {
            let waiting = poll(&server, "alice", &session).await;
            waiting.expect_flows_after_a_try(&all, &all[..n], None);
            let page = server.get(&path(stage, &session)).await;
            let html = page.expect_page(200);
            assert!(html.contains("You are creating an account on") && html.contains("<form method=\"post\""), "{html}");
            expect_done(&submit(&server, stage, &session, &fields).await);
            // The page of a completed stage says so, as often as it is asked for.
            expect_done(&server.get(&path(stage, &session)).await);
            expect_done(&submit(&server, stage, &session, &fields).await);
        }
        assert_eq!(server.uses_of("letmein").await, 0);
        poll(&server, "alice", &session).await.expect_ok();
        assert_eq!((server.uses_of("letmein").await, verifier.asked().len()), (1, 1));
        let late = server.get(&path(TERMS, &session)).await;
        assert!(late.expect_page(400).contains("This has ended"), "{late:?}");
    }

    async fn pages_and_requests_take_turns(server: Server) {
        let verifier = Verifier::start().await;
        let server = strict(server, &verifier).await;
        let session = opened(&server).await;
        expect_done(&submit(&server, CAPTCHA, &session, &[("g-recaptcha-response", "right")]).await);
        let body = |auth: Value| json!({"username": "alice", "password": PASSWORD, "auth": auth});
        let token = json!({"type": TOKEN, "token": "letmein", "session": session});
        let next = server.post("v3/register").json(body(token)).await;
        next.expect_flows_after_a_try(&[CAPTCHA, TOKEN, TERMS], &[CAPTCHA, TOKEN], None);
        expect_done(&submit(&server, TERMS, &session, &[]).await);
        // The request that proved the token is the one that may be carried out.
        poll(&server, "bob", &session).await.expect(403, "M_FORBIDDEN");
        poll(&server, "alice", &session).await.expect_ok();
    }

    async fn every_prefix_has_the_pages(server: Server) {
        let server = server.with_registration(RegistrationMode::Open).await;
        for prefix in ["v2_alpha", "r0", "v3", "unstable"] {
            let session = opened(&server).await;
            let name = session.as_str().unwrap();
            let path = format!("{prefix}/auth/m.login.dummy/fallback/web?session={name}");
            assert!(server.get(&path).await.expect_page(200).contains(name));
            expect_done(&server.post(&path).form(&[]).await);
            poll(&server, &format!("by.{prefix}"), &session).await.expect_ok();
        }
    }

    async fn a_wrong_answer_shows_the_form_again(server: Server) {
        let verifier = Verifier::start().await;
        let server = strict(server, &verifier).await;
        let session = opened(&server).await;
        for (answer, says) in [("", "Please solve the captcha"), ("wrong", "The captcha was not solved")] {
            let page = submit(&server, CAPTCHA, &session, &[("g-recaptcha-response", answer)]).await;
            let html = page.expect_page(401);
            assert!(html.contains(says) && html.contains("role=\"alert\"") && html.contains("site-key"), "{html}");
        }
        let trouble = submit(&server, CAPTCHA, &session, &[("g-recaptcha-response", "garbage")]).await;
        assert!(trouble.expect_page(503).contains("Something is wrong on our side"), "{trouble:?}");
        expect_done(&submit(&server, CAPTCHA, &session, &[("g-recaptcha-response", "right")]).await);
        let page = submit(&server, TOKEN, &session, &[("token", "<b>wrong")]).await;
        let html = page.expect_page(401);
        assert!(html.contains("This registration token is not valid.") && !html.contains("<b>"), "{html}");
        poll(&server, "alice", &session).await.expect_flows_after_a_try(&[CAPTCHA, TOKEN, TERMS], &[CAPTCHA], None);
    }

    async fn a_captchas_page_lets_its_provider_in_and_no_other_does(server: Server) {
        let verifier = Verifier::start().await;
        let server = strict(server, &verifier).await;
        let session = opened(&server).await;
        let page = server.get(&path(CAPTCHA, &session)).await;
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("script-src 'self' https://www.google.com https://www.gstatic.com/recaptcha/"), "{policy}");
        expect_done(&submit(&server, CAPTCHA, &session, &[("g-recaptcha-response", "right")]).await);
        let page = server.get(&path(TOKEN, &session)).await;
        assert!(!page.header("content-security-policy").unwrap().contains("google"), "{page:?}");
    }

    async fn policies_are_shown_in_the_persons_language(server: Server) {
        let server = with_terms(server, "1").await;
        let session = opened(&server).await;
        let english = server.get(&path(TERMS, &session)).await;
        assert!(english.expect_page(200).contains("Privacy &lt;policy&gt;"), "{english:?}");
        let german = server.get(&path(TERMS, &session)).header("accept-language", "fr;q=0.9, de-AT,en;q=0.5").await;
        assert!(german.expect_page(200).contains("Datenschutz"), "{german:?}");
    }

    async fn without_a_stage_or_a_session_there_is_a_page_that_says_so(server: Server) {
        let verifier = Verifier::start().await;
        let server = strict(server, &verifier).await;
        let session = opened(&server).await;
        for stage in ["m.login.sso", "nonsense", "%3Cscript%3E"] {
            let answer = server.get(&path(stage, &session)).await;
            assert!(!answer.expect_page(404).contains("script"), "{answer:?}");
        }
        server.get("v3/auth/m.login.terms/fallback/web").await.expect_page(400);
        server.get(&path(TERMS, &json!("nonsense"))).await.expect_page(400);
        submit(&server, TERMS, &json!("nonsense"), &[]).await.expect_page(400);
        for later in [TERMS, TOKEN, "m.login.dummy", "m.login.password", "m.login.msisdn"] {
            let answer = server.get(&path(later, &session)).await;
            assert!(answer.expect_page(400).contains("This is not the next step"), "{answer:?}");
            submit(&server, later, &session, &[("token", "letmein")]).await.expect_page(400);
        }
        server.pass(10 * MINUTE);
        let late = server.get(&path(CAPTCHA, &session)).await;
        assert!(late.expect_page(400).contains("This has ended"), "{late:?}");
    }

    async fn an_address_cannot_be_proved_where_no_mail_is_sent(server: Server) {
        let server = server.with(|config| {
            config.registration.mode = RegistrationMode::Open;
            config.registration.email = RegistrationEmail::Required;
        }).await;
        let session = opened(&server).await;
        let page = server.get(&path("m.login.email.identity", &session)).await;
        assert!(page.expect_page(503).contains("not set up for e-mail"), "{page:?}");
        submit(&server, "m.login.email.identity", &session, &[]).await.expect_page(503);
    }

    async fn an_address_is_proved_on_a_page(server: Server) {
        let server = mailing(server).await.with(|config| {
            config.registration.mode = RegistrationMode::Open;
            config.registration.email = RegistrationEmail::Required;
        }).await;
        let stage = "m.login.email.identity";
        let session = opened(&server).await;
        assert!(server.get(&path(stage, &session)).await.expect_page(200).contains("name=\"email\""));
        submit(&server, stage, &session, &[("email", "nonsense")]).await.expect_page(400);
        let sent = submit(&server, stage, &session, &[("email", "alice@example.org")]).await;
        let sent = sent.expect_page(200);
        let sid = sent.split("name=\"sid\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a sid");
        let early = submit(&server, stage, &session, &[("sid", sid)]).await;
        let early = early.expect_page(401);
        assert!(early.contains("not been verified yet") && early.contains(sid), "{early}");
        server.get(&link(&server, sid)).await.expect_page(200);
        expect_done(&submit(&server, stage, &session, &[("sid", sid)]).await);
        let registered = poll(&server, "alice", &session).await.expect_ok();
        let token = registered["access_token"].as_str().expect("a token");
        let addresses = server.get("v3/account/3pid").bearer(token).await.expect_ok();
        assert_eq!(addresses["threepids"][0]["address"], "alice@example.org");
    }

    async fn the_password_on_a_page_lets_a_device_go(server: Server) {
        let user = server.user("alice").await;
        let (alice, other) = (user.log_in().await, user.log_in().await);
        let session = deletion(&alice, &other.device_id).await;
        let page = server.get(&path("m.login.password", &session)).await;
        assert!(page.expect_page(200).contains("You are about to sign out devices of <strong>@alice:example.org"), "{page:?}");
        let wrong = submit(&server, "m.login.password", &session, &[("password", "nonsense")]).await;
        assert!(wrong.expect_page(401).contains("Invalid user name or password."), "{wrong:?}");
        expect_done(&submit(&server, "m.login.password", &session, &[("password", PASSWORD)]).await);
        let auth = json!({"auth": {"session": session}});
        // For nobody else, and for no other device.
        let bob = server.user("bob").await.log_in().await;
        let path = |device: &str| format!("v3/devices/{device}");
        bob.delete(&path(&bob.device_id)).json(auth.clone()).await.expect(403, "M_FORBIDDEN");
        alice.delete(&path(&alice.device_id)).json(auth.clone()).await.expect(403, "M_FORBIDDEN");
        alice.delete(&path(&other.device_id)).json(auth.clone()).await.expect_ok();
        other.whoami().await.expect_unknown_token(false);
        let again = alice.delete(&path(&other.device_id)).json(auth).await;
        again.expect_flows_after_a_try(&["m.login.password"], &[], Some("M_FORBIDDEN"));
    }

    async fn the_password_counts_while_it_is_the_password(server: Server) {
        let user = server.user("alice").await;
        let (alice, other) = (user.log_in().await, user.log_in().await);
        let session = deletion(&alice, &other.device_id).await;
        expect_done(&submit(&server, "m.login.password", &session, &[("password", PASSWORD)]).await);
        server.pass(1);
        let body = json!({"new_password": "another horse battery", "logout_devices": false});
        alice.post_with_password("v3/account/password", body).await.expect_ok();
        let auth = json!({"auth": {"session": session}});
        let refused = alice.delete(&format!("v3/devices/{}", other.device_id)).json(auth).await;
        refused.expect_flows_after_a_try(&["m.login.password"], &[], Some("M_FORBIDDEN"));
        other.whoami().await.expect_ok();
    }

    async fn one_of_thirty_two_polls_completes(server: Server) {
        let server = server.with_registration(RegistrationMode::Open).await;
        let session = opened(&server).await;
        let pages = at_once((0..32).map(|_| submit(&server, "m.login.dummy", &session, &[])).collect()).await;
        pages.iter().for_each(expect_done);
        let answers = at_once((0..32).map(|n| poll(&server, &format!("user.{n}"), &session)).collect()).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
        assert_eq!(server.store().count_users().await, Ok(1));
    }

    async fn a_form_on_another_site_does_nothing(server: Server) {
        let server = server.with_registration(RegistrationMode::Open).await;
        let session = opened(&server).await;
        let stranger = [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "https://evil.example")];
        for (name, value) in stranger {
            let refused = submit(&server, "m.login.dummy", &session, &[]).header(name, value).await;
            assert!(refused.expect_page(403).contains("another site"), "{refused:?}");
        }
        poll(&server, "alice", &session).await.expect_flows_after_a_try(&["m.login.dummy"], &[], None);
        let ours = submit(&server, "m.login.dummy", &session, &[]);
        expect_done(&ours.header("sec-fetch-site", "same-origin").header("origin", "null").await);
    }

    async fn too_many_tries_are_told_to_wait(server: Server) {
        let user = server.user("alice").await;
        let (alice, other) = (user.log_in().await, user.log_in().await);
        let session = deletion(&alice, &other.device_id).await;
        let server = server.with_limits().await;
        let from = |password: &str| {
            submit(&server, "m.login.password", &session, &[("password", password)]).from("203.0.113.1")
        };
        for _ in 0..10 {
            from("nonsense").await.expect_page(401);
        }
        let limited = from("nonsense").await;
        assert!(limited.expect_page(429).contains("Please wait"), "{limited:?}");
        assert!(limited.header("retry-after").is_some());
    }

    async fn what_pages_fetch_is_kept_by_browsers(server: Server) {
        for (path, content_type) in [
            ("style.css", "text/css; charset=utf-8"),
            ("auth_done.js", "text/javascript; charset=utf-8"),
            ("login.js", "text/javascript; charset=utf-8"),
        ] {
            let answer = server.get(&format!("/_matrix/static/pages/{path}")).await;
            assert_eq!((answer.status, answer.header("content-type")), (200, Some(content_type)));
            assert!(answer.header("cache-control").unwrap().starts_with("public, max-age="), "{answer:?}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        }
    }

    async fn behind_a_path_pages_fetch_what_is_there(server: Server) {
        let server = server.with(|config| {
            config.registration.mode = RegistrationMode::Open;
            config.http.public_url = Some("https://example.org/matrix/".to_owned());
        }).await;
        let session = opened(&server).await;
        let page = server.get(&path("m.login.dummy", &session)).await;
        let html = page.expect_page(200).replace("&#x2f;", "/");
        assert!(html.contains("href=\"/matrix/_matrix/static/pages/style.css?v="), "{html}");
    }
}
