//! E-mail addresses and phone numbers: asked for, confirmed, added, signed in with, reset by.

use ligand_protocol::registration::RegistrationMode;
use ligand_protocol::validation::{Code, Medium};
use ligand_server::client_server::request_token::{SUBMIT_PATH, validation_id};
use ligand_server::config::RegistrationEmail;
use ligand_storage::params;
use serde_json::{Value, json};

use crate::both;
use crate::harness::{Answer, Client, HOUR, MINUTE, PASSWORD, Server, User, at_once, merged};

const ADDRESS: &str = "alice@example.org";
const NEW_PASSWORD: &str = "a wholly other one";

/// A server that sends messages, to where nobody listens: they stay in the outbox.
pub async fn mailing(server: Server) -> Server {
    server
        .with(|config| {
            config.email.host = Some("127.0.0.1".to_owned());
            config.email.port = Some(9);
            config.email.from = Some("Ligand <ligand@example.org>".parse().expect("an address"));
            config.email.notices = false;
            config.sms.hook_url = Some("http://127.0.0.1:9/".to_owned());
        })
        .await
}

/// Asks for a message; the answer.
async fn ask(server: &Server, path: &str, more: Value) -> Answer {
    let body = json!({"client_secret": "s3cret", "email": ADDRESS, "send_attempt": 1});
    server.post(&format!("v3/{path}/email/requestToken")).json(merged(body, more)).await
}

fn sid(answer: &Answer) -> String {
    answer.expect_ok()["sid"].as_str().expect("a sid").to_owned()
}

/// The code of a message, as its reader would see it.
fn code(server: &Server, sid: &str, message: u32, medium: Medium) -> String {
    let id = validation_id(sid).expect("a sid of ours");
    Code::derive(&server.app().keys, id, message, medium).expose().to_owned()
}

/// The link in the first mail.
pub fn link(server: &Server, sid: &str) -> String {
    format!("{SUBMIT_PATH}/email?sid={sid}&token={}", code(server, sid, 1, Medium::Email))
}

async fn submit(server: &Server, medium: Medium, sid: &str, code: &str) -> Answer {
    let body = json!({"sid": sid, "client_secret": "s3cret", "token": code});
    server.post(&format!("{SUBMIT_PATH}/{}", medium.as_str())).json(body).await
}

/// Asks, reads the mail, confirms; the sid.
async fn confirm(server: &Server, path: &str, more: Value) -> String {
    let sid = sid(&ask(server, path, more).await);
    submit(server, Medium::Email, &sid, &code(server, &sid, 1, Medium::Email)).await.expect_ok();
    sid
}

async fn add(server: &Server, client: &Client, sid: &str) -> Answer {
    let auth = json!({"type": "m.login.password", "user": client.user.name, "password": PASSWORD});
    let body = json!({"client_secret": "s3cret", "sid": sid, "auth": auth});
    server.post("v3/account/3pid/add").bearer(&client.tokens.access_token).json(body).await
}

/// Somebody whose address is confirmed.
async fn with_address(server: &Server, name: &str) -> (User, Client) {
    let user = server.user(name).await;
    let client = user.log_in().await;
    let sid = confirm(server, "account/3pid", json!({})).await;
    add(server, &client, &sid).await.expect_ok();
    (user, client)
}

async fn messages(server: &Server, template: &str) -> i64 {
    let sql = "SELECT COUNT(*) FROM outbox WHERE template = $1";
    server.store().read(sql, params![template]).await.unwrap()[0].int(0).unwrap()
}

async fn reset(server: &Server, sid: &str, more: Value) -> Answer {
    let creds = json!({"sid": sid, "client_secret": "s3cret"});
    let auth = json!({"type": "m.login.email.identity", "threepid_creds": creds});
    let body = json!({"new_password": NEW_PASSWORD, "auth": auth});
    server.post("v3/account/password").json(merged(body, more)).await
}

both! {
    async fn an_address_is_added_listed_and_removed(server: Server) {
        let server = mailing(server).await;
        let (_, client) = with_address(&server, "alice").await;
        let token = &client.tokens.access_token;
        let listed = server.get("v3/account/3pid").bearer(token).await.expect_ok();
        let threepid = &listed["threepids"][0];
        assert_eq!((&threepid["medium"], &threepid["address"]), (&json!("email"), &json!(ADDRESS)));
        assert_eq!((&threepid["added_at"], &threepid["validated_at"]), (&json!(server.now()), &json!(server.now())));
        let named = json!({"medium": "email", "address": "ALICE@example.org"});
        let delete = server.post("v3/account/3pid/delete").bearer(token).json(named);
        assert_eq!(delete.clone().await.expect_ok(), json!({"id_server_unbind_result": "success"}));
        delete.await.expect_ok();
        assert_eq!(server.get("v3/account/3pid").bearer(token).await.expect_ok(), json!({"threepids": []}));
        assert_eq!((server.audited("threepid_added").await, server.audited("threepid_removed").await), (1, 1));
    }

    async fn clients_are_told_that_addresses_can_be_changed(server: Server) {
        let server = mailing(server).await;
        let client = server.user("alice").await.log_in().await;
        let body = server.get("v3/capabilities").bearer(&client.tokens.access_token).await.expect_ok();
        assert_eq!(body["capabilities"]["m.3pid_changes"], json!({"enabled": true}));
    }

    async fn an_address_signs_in(server: Server) {
        let server = mailing(server).await;
        with_address(&server, "alice").await;
        let third_party = json!({"type": "m.id.thirdparty", "medium": "email", "address": "Alice@Example.org"});
        for identifier in [third_party, json!({"medium": "email", "address": ADDRESS})] {
            let body = json!({"type": "m.login.password", "identifier": identifier, "password": PASSWORD});
            let answer = server.post("v3/login").json(body.clone()).await.expect_ok();
            assert_eq!(answer["user_id"], "@alice:example.org");
            server.post("v3/login").json(merged(body, json!({"password": "wrong one"}))).await.expect(403, "M_FORBIDDEN");
        }
        let old = json!({"type": "m.login.password", "medium": "email", "address": ADDRESS, "password": PASSWORD});
        server.post("r0/login").json(old.clone()).await.expect_ok();
        let nobody = merged(old, json!({"address": "bob@example.org"}));
        server.post("r0/login").json(nobody).await.expect(403, "M_FORBIDDEN");
    }

    async fn only_what_was_confirmed_is_added(server: Server) {
        let server = mailing(server).await;
        let client = server.user("alice").await.log_in_at("v3").await;
        let unconfirmed = sid(&ask(&server, "account/3pid", json!({})).await);
        add(&server, &client, &unconfirmed).await.expect(400, "M_THREEPID_AUTH_FAILED");
        add(&server, &client, "0123").await.expect(400, "M_THREEPID_AUTH_FAILED");
        let for_a_reset = sid(&ask(&server, "account/password", json!({})).await);
        add(&server, &client, &for_a_reset).await.expect(400, "M_THREEPID_AUTH_FAILED");
        let confirmed = confirm(&server, "account/3pid", json!({"client_secret": "s3cret"})).await;
        assert_eq!(confirmed, unconfirmed, "the same client, the same address: the same validation");
        server.pass(HOUR);
        add(&server, &client, &confirmed).await.expect(400, "M_THREEPID_AUTH_FAILED");
    }

    async fn an_address_belongs_to_one_account_and_nobody_is_told_which(server: Server) {
        let server = mailing(server).await;
        with_address(&server, "alice").await;
        let bob = server.user("bob").await.log_in().await;
        let sent = messages(&server, "validate_3pid").await;
        let sid = sid(&ask(&server, "account/3pid", json!({"client_secret": "bobs"})).await);
        assert_eq!(messages(&server, "validate_3pid").await, sent, "no code for who is not the owner");
        assert_eq!(messages(&server, "address_in_use").await, 1);
        add(&server, &bob, &sid).await.expect(400, "M_THREEPID_AUTH_FAILED");
    }

    async fn a_forgotten_password_is_reset_by_mail(server: Server) {
        let server = mailing(server).await;
        let (user, client) = with_address(&server, "alice").await;
        let sid = sid(&ask(&server, "account/password", json!({})).await);
        let early = reset(&server, &sid, json!({})).await;
        assert_eq!(early.status, 401);
        assert_eq!(early.expect(401, "M_UNAUTHORIZED")["completed"], json!([]));
        submit(&server, Medium::Email, &sid, &code(&server, &sid, 1, Medium::Email)).await.expect_ok();
        reset(&server, &sid, json!({})).await.expect_ok();
        server.get("v3/account/whoami").bearer(&client.tokens.access_token).await.expect_unknown_token(false);
        user.try_to_log_in("v3", json!({})).await.expect(403, "M_FORBIDDEN");
        user.try_to_log_in("v3", json!({"password": NEW_PASSWORD})).await.expect_ok();
        assert_eq!(reset(&server, &sid, json!({})).await.status, 401, "a proof is used once");
        assert_eq!(server.audited("password_reset").await, 1);
    }

    async fn a_reset_may_leave_the_sessions(server: Server) {
        let server = mailing(server).await;
        let (_, client) = with_address(&server, "alice").await;
        let sid = confirm(&server, "account/password", json!({})).await;
        reset(&server, &sid, json!({"logout_devices": false})).await.expect_ok();
        server.get("v3/account/whoami").bearer(&client.tokens.access_token).await.expect_ok();
    }

    async fn a_reset_needs_a_good_password_and_says_so_first(server: Server) {
        let server = mailing(server).await;
        with_address(&server, "alice").await;
        let sid = confirm(&server, "account/password", json!({})).await;
        reset(&server, &sid, json!({"new_password": "short"})).await.expect(400, "M_WEAK_PASSWORD");
        reset(&server, &sid, json!({"new_password": null})).await.expect(400, "M_MISSING_PARAM");
        reset(&server, &sid, json!({})).await.expect_ok();
    }

    async fn a_proof_from_before_a_new_password_resets_nothing(server: Server) {
        let server = mailing(server).await;
        with_address(&server, "alice").await;
        let first = confirm(&server, "account/password", json!({})).await;
        let second = sid(&ask(&server, "account/password", json!({"client_secret": "other"})).await);
        let code = code(&server, &second, 1, Medium::Email);
        let body = json!({"sid": second, "client_secret": "other", "token": code});
        server.post(&format!("{SUBMIT_PATH}/email")).json(body).await.expect_ok();
        server.pass(1);
        reset(&server, &first, json!({})).await.expect_ok();
        let creds = json!({"sid": second, "client_secret": "other"});
        let auth = json!({"type": "m.login.email.identity", "threepid_creds": creds});
        assert_eq!(reset(&server, &second, json!({"auth": auth})).await.status, 401);
        assert_eq!(server.audited("password_reset").await, 1);
    }

    async fn of_thirty_two_that_register_with_one_address_one_succeeds(server: Server) {
        let server = mailing(server).await.with(|config| {
            config.registration.mode = RegistrationMode::Open;
            config.registration.email = RegistrationEmail::Required;
        }).await;
        let sid = confirm(&server, "register", json!({})).await;
        let auth = json!({"type": "m.login.email.identity", "threepid_creds": {"sid": sid, "client_secret": "s3cret"}});
        let register = |at| {
            let body = json!({"username": format!("user{at}"), "password": PASSWORD, "auth": auth});
            server.post("v3/register").json(body)
        };
        let answers = at_once((0..32).map(register).collect()).await;
        let made = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(made, 1, "{answers:?}");
        assert_eq!(server.store().count_users().await, Ok(1));
    }

    async fn of_thirty_two_resets_one_succeeds(server: Server) {
        let server = mailing(server).await;
        with_address(&server, "alice").await;
        let sid = confirm(&server, "account/password", json!({})).await;
        let asked = reset(&server, &sid, json!({"auth": null})).await;
        let session = asked.json()["session"].as_str().expect("a session").to_owned();
        let creds = json!({"sid": sid, "client_secret": "s3cret"});
        let auth = json!({"type": "m.login.email.identity", "session": session, "threepid_creds": creds});
        let request = server.post("v3/account/password").json(json!({"new_password": NEW_PASSWORD, "auth": auth}));
        let racing: Vec<_> = (0..32).map(|_| tokio::spawn(request.clone().into_future())).collect();
        let mut done = 0;
        for one in racing {
            let status = one.await.expect("an answer").status;
            assert!([200, 401, 404, 429].contains(&status), "{status}");
            done += u32::from(status == 200);
        }
        assert_eq!(done, 1);
        assert_eq!(server.audited("password_reset").await, 1);
    }

    async fn an_unknown_address_is_answered_like_any_other(server: Server) {
        let server = mailing(server).await;
        let known = {
            with_address(&server, "alice").await;
            ask(&server, "account/password", json!({})).await
        };
        let unknown = ask(&server, "account/password", json!({"email": "bob@example.org"})).await;
        assert_eq!((known.status, unknown.status), (200, 200));
        assert_eq!(sid(&known).len(), sid(&unknown).len());
        assert_eq!(messages(&server, "validate_password").await, 1);
    }

    async fn a_message_is_sent_again_only_for_a_higher_attempt(server: Server) {
        let server = mailing(server).await;
        let first = sid(&ask(&server, "account/3pid", json!({})).await);
        for attempt in [1, 0, 1] {
            assert_eq!(sid(&ask(&server, "account/3pid", json!({"send_attempt": attempt})).await), first);
        }
        assert_eq!(messages(&server, "validate_3pid").await, 1);
        assert_eq!(sid(&ask(&server, "account/3pid", json!({"send_attempt": 2})).await), first);
        assert_eq!(messages(&server, "validate_3pid").await, 2);
        submit(&server, Medium::Email, &first, &code(&server, &first, 1, Medium::Email)).await.expect(400, "M_TOKEN_INCORRECT");
        submit(&server, Medium::Email, &first, &code(&server, &first, 2, Medium::Email)).await.expect_ok();
        submit(&server, Medium::Email, &first, &code(&server, &first, 2, Medium::Email)).await.expect_ok();
    }

    async fn eight_digits_can_be_guessed_at_five_times(server: Server) {
        let server = mailing(server).await;
        let body = json!({"client_secret": "s3cret", "country": "GB", "phone_number": "07700 900123", "send_attempt": 1});
        let answer = server.post("v3/account/3pid/msisdn/requestToken").json(body).await;
        let sid = sid(&answer);
        assert!(answer.expect_ok()["submit_url"].as_str().unwrap().ends_with(&format!("{SUBMIT_PATH}/msisdn")));
        let right = code(&server, &sid, 1, Medium::Msisdn);
        let wrong = if right == "00000000" { "00000001" } else { "00000000" };
        for _ in 0..5 {
            submit(&server, Medium::Msisdn, &sid, wrong).await.expect(400, "M_TOKEN_INCORRECT");
        }
        submit(&server, Medium::Msisdn, &sid, &right).await.expect(400, "M_SESSION_EXPIRED");
    }

    async fn a_code_needs_the_secret_and_its_time(server: Server) {
        let server = mailing(server).await;
        let sid = sid(&ask(&server, "account/3pid", json!({})).await);
        let code = code(&server, &sid, 1, Medium::Email);
        let body = json!({"sid": sid, "client_secret": "other", "token": code});
        server.post(&format!("{SUBMIT_PATH}/email")).json(body).await.expect(400, "M_SESSION_EXPIRED");
        submit(&server, Medium::Email, "ff", &code).await.expect(400, "M_SESSION_EXPIRED");
        server.pass(HOUR);
        submit(&server, Medium::Email, &sid, &code).await.expect(400, "M_SESSION_EXPIRED");
    }

    async fn what_is_malformed_is_said(server: Server) {
        let server = mailing(server).await;
        for (more, code) in [
            (json!({"email": "alice"}), "M_INVALID_PARAM"),
            (json!({"email": "a\r\nbcc: x@example.org"}), "M_INVALID_PARAM"),
            (json!({"email": null}), "M_MISSING_PARAM"),
            (json!({"client_secret": "a b"}), "M_INVALID_PARAM"),
            (json!({"client_secret": null}), "M_MISSING_PARAM"),
            (json!({"send_attempt": "x"}), "M_INVALID_PARAM"),
            (json!({"send_attempt": -1}), "M_INVALID_PARAM"),
            (json!({"next_link": "javascript:alert(1)"}), "M_INVALID_PARAM"),
        ] {
            ask(&server, "account/3pid", more).await.expect(400, code);
        }
        let phone = json!({"client_secret": "s", "country": "GB", "phone_number": "12", "send_attempt": 1});
        server.post("v3/account/password/msisdn/requestToken").json(phone).await.expect(400, "M_INVALID_PARAM");
        let nul = json!({"medium": "msisdn", "address": "\u{0}"});
        let login = json!({"type": "m.login.password", "password": PASSWORD, "identifier": nul});
        server.post("v3/login").json(login).await.expect(403, "M_FORBIDDEN");
        let client = server.user("alice").await.log_in().await;
        let delete = server.post("v3/account/3pid/delete").bearer(&client.tokens.access_token).json(nul);
        delete.await.expect(400, "M_INVALID_PARAM");
        ask(&server, "register", json!({})).await.expect(403, "M_FORBIDDEN");
    }

    async fn messages_are_limited_by_sender_and_recipient(server: Server) {
        let server = mailing(server).await;
        let server = server.with_limits().await;
        let ask = |attempt: i64, email: String, from: String| {
            let body = json!({"client_secret": "s3cret", "email": email, "send_attempt": attempt});
            server.post("v3/account/password/email/requestToken").from(&from).json(body)
        };
        for attempt in 1..=3 {
            ask(attempt, ADDRESS.to_owned(), "203.0.113.1".to_owned()).await.expect_ok();
        }
        ask(4, ADDRESS.to_owned(), "203.0.113.1".to_owned()).await.expect(429, "M_LIMIT_EXCEEDED");
        // What sends nothing is not counted, and the owner elsewhere is not shut out.
        ask(3, ADDRESS.to_owned(), "203.0.113.1".to_owned()).await.expect_ok();
        for attempt in 4..=12 {
            ask(attempt, ADDRESS.to_owned(), format!("203.0.113.{attempt}")).await.expect_ok();
        }
        ask(13, ADDRESS.to_owned(), "203.0.113.99".to_owned()).await.expect(429, "M_LIMIT_EXCEEDED");
        server.pass(10 * MINUTE);
        ask(13, ADDRESS.to_owned(), "203.0.113.99".to_owned()).await.expect_ok();
        for at in 0..10 {
            ask(1, format!("user{at}@example.org"), "198.51.100.7".to_owned()).await.expect_ok();
        }
        ask(1, "one.more@example.org".to_owned(), "198.51.100.7".to_owned()).await.expect(429, "M_LIMIT_EXCEEDED");
    }

    async fn adding_without_a_password_is_off_and_for_clients_of_r0(server: Server) {
        let server = mailing(server).await;
        let client = server.user("alice").await.log_in().await;
        let sid = confirm(&server, "account/3pid", json!({})).await;
        let body = json!({"three_pid_creds": {"sid": sid, "client_secret": "s3cret", "id_server": "x", "id_access_token": "y"}});
        let add = |prefix: &str| {
            server.post(&format!("{prefix}/account/3pid")).bearer(&client.tokens.access_token).json(body.clone())
        };
        add("v3").await.expect(403, "M_FORBIDDEN");
        add("r0").await.expect(403, "M_FORBIDDEN");
        let server = server.with(|config| config.compat.threepid_without_password = true).await;
        let add = |prefix: &str| {
            server.post(&format!("{prefix}/account/3pid")).bearer(&client.tokens.access_token).json(body.clone())
        };
        add("v3").await.expect(403, "M_FORBIDDEN");
        add("r0").await.expect_ok();
        add("r0").await.expect(403, "M_THREEPID_AUTH_FAILED");
    }

    async fn a_link_confirms_by_being_opened(server: Server) {
        let server = mailing(server).await;
        let sid = sid(&ask(&server, "account/3pid", json!({})).await);
        let link = link(&server, &sid);
        server.request("HEAD", &link).await;
        server.get(&link).header("sec-purpose", "prefetch").await.expect_page(200);
        let client = server.user("alice").await.log_in().await;
        add(&server, &client, &sid).await.expect(400, "M_THREEPID_AUTH_FAILED");
        assert!(server.get(&link).await.expect_page(200).contains("is confirmed"));
        add(&server, &client, &sid).await.expect_ok();
        server.get(&link).await.expect_page(400);
    }

    // A stranger chooses it: an operator's own mail must not lead there by itself.
    async fn where_the_client_says_to_go_on_to_is_shown(server: Server) {
        let server = mailing(server).await;
        let next_link = json!({"next_link": "https://app.example.org/next?a=b"});
        let sid = sid(&ask(&server, "account/3pid", next_link).await);
        let page = server.get(&link(&server, &sid)).await;
        let shown = "<a href=\"https:&#x2f;&#x2f;app.example.org&#x2f;next?a=b\" rel=\"noreferrer\">app.example.org</a>";
        assert!(page.expect_page(200).contains(shown), "{page:?}");
    }

    // Mail servers open links to look for harm: a stranger who asked would have the proof.
    async fn a_link_resets_no_password_without_a_click(server: Server) {
        let server = mailing(server).await;
        with_address(&server, "alice").await;
        let sid = sid(&ask(&server, "account/password", json!({})).await);
        let page = server.get(&link(&server, &sid)).await;
        let page = page.expect_page(200);
        assert!(page.contains("<form method=\"post\">"), "{page}");
        assert_eq!(reset(&server, &sid, json!({})).await.status, 401);
        let code = code(&server, &sid, 1, Medium::Email);
        let form = [("sid", sid.as_str()), ("token", code.as_str())];
        let click = server.post(&format!("{SUBMIT_PATH}/email"));
        assert!(click.form(&form).await.expect_page(200).contains("is confirmed"));
        reset(&server, &sid, json!({})).await.expect_ok();
    }

    async fn a_wrong_link_says_so(server: Server) {
        let server = mailing(server).await;
        for link in ["email?sid=ff&token=x", "email", "email?sid=00112233445566778899aabbccddeeff&token=x"] {
            let page = server.get(&format!("{SUBMIT_PATH}/{link}")).await;
            assert!(page.expect_page(400).contains("does not work any more"), "{page:?}");
        }
    }

    async fn an_address_comes_with_a_registration(server: Server) {
        let server = mailing(server).await;
        let server = server.with(|config| {
            config.registration.mode = RegistrationMode::Open;
            config.registration.email = RegistrationEmail::Required;
        }).await;
        let sid = confirm(&server, "register", json!({})).await;
        let register = |name: &str, creds: Value| {
            let auth = json!({"type": "m.login.email.identity", "threepid_creds": creds});
            server.post("v3/register").json(json!({"username": name, "password": PASSWORD, "auth": auth}))
        };
        let creds = json!({"sid": sid, "client_secret": "s3cret"});
        register("alice", json!({"sid": sid, "client_secret": "other"})).await.expect(401, "M_UNAUTHORIZED");
        let alice = register("alice", creds.clone()).await.expect_ok();
        let token = alice["access_token"].as_str().expect("a token");
        let addresses = server.get("v3/account/3pid").bearer(token).await.expect_ok();
        assert_eq!(addresses["threepids"][0]["address"], ADDRESS);
        register("bob", creds).await.expect(401, "M_UNAUTHORIZED");
        // Who asks to register with it once more gets a mail that says so, and no code.
        ask(&server, "register", json!({"client_secret": "mine"})).await.expect_ok();
        assert_eq!(messages(&server, "address_in_use").await, 1);
    }

    async fn without_mail_nothing_is_asked_for(server: Server) {
        ask(&server, "account/3pid", json!({})).await.expect(400, "M_THREEPID_MEDIUM_NOT_SUPPORTED");
        ask(&server, "account/password", json!({})).await.expect(403, "M_THREEPID_DENIED");
        reset(&server, "ff", json!({})).await.expect(401, "M_MISSING_TOKEN");
    }

    async fn no_identity_server_is_worked_with(server: Server) {
        let server = mailing(server).await;
        let client = server.user("alice").await.log_in().await;
        let token = &client.tokens.access_token;
        let body = json!({"client_secret": "s", "id_server": "id.example", "id_access_token": "t", "sid": "s"});
        server.post("v3/account/3pid/bind").bearer(token).json(body).await.expect(400, "M_SERVER_NOT_TRUSTED");
        let named = json!({"medium": "email", "address": ADDRESS, "id_server": "id.example"});
        let unbound = server.post("v3/account/3pid/unbind").bearer(token).json(named).await.expect_ok();
        assert_eq!(unbound, json!({"id_server_unbind_result": "no-support"}));
    }
}
