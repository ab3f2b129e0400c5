//! `m.login.terms`: what is shown, what was agreed to, and when that ends.

use std::collections::BTreeMap;

use ligand_protocol::registration::RegistrationMode;
use ligand_server::config::{Policy, PolicyText};
use serde_json::{Value, json};

use crate::both;
use crate::harness::{Answer, PASSWORD, Server};

const STAGE: &str = "m.login.terms";

/// Open, for whoever agrees to this version.
pub async fn with_terms(server: Server, version: &str) -> Server {
    let text =
        |name: &str| PolicyText { name: name.to_owned(), url: "https://example.org/privacy".to_owned() };
    let texts =
        BTreeMap::from([("en".to_owned(), text("Privacy <policy>")), ("de".to_owned(), text("Datenschutz"))]);
    let policy = Policy { id: "privacy".to_owned(), version: version.to_owned(), texts };
    server
        .with(|config| {
            config.registration.mode = RegistrationMode::Open;
            config.registration.terms = vec![policy];
        })
        .await
}

async fn agree(server: &Server, name: &str, session: &Value) -> Answer {
    let auth = json!({"type": STAGE, "session": session});
    server.post("v3/register").json(json!({"username": name, "password": PASSWORD, "auth": auth})).await
}

both! {
    async fn the_policies_are_shown_in_every_401(server: Server) {
        let server = with_terms(server, "1.0").await;
        let shown = json!({STAGE: {"policies": {"privacy": {
            "version": "1.0",
            "en": {"name": "Privacy <policy>", "url": "https://example.org/privacy"},
            "de": {"name": "Datenschutz", "url": "https://example.org/privacy"},
        }}}});
        let asked = server.post("v3/register").json(json!({})).await.expect_flows(&[STAGE]);
        assert_eq!(asked["params"], shown);
        let poll = json!({"auth": {"session": asked["session"]}});
        let polled = server.post("v3/register").json(poll).await.expect_flows_after_a_try(&[STAGE], &[], None);
        assert_eq!(polled["params"], shown);
    }

    async fn who_agrees_is_let_in_and_the_audit_table_knows_to_what(server: Server) {
        let server = with_terms(server, "1.0").await;
        let asked = server.post("v3/register").json(json!({})).await.expect_flows(&[STAGE]);
        agree(&server, "alice", &asked["session"]).await.expect_ok();
        let rows = server.store().read("SELECT detail FROM audit WHERE action = 'register'", Vec::new()).await;
        assert_eq!(rows.unwrap()[0].text(0), Ok("agreed to: privacy 1.0"));
    }

    async fn nobody_agrees_to_what_was_not_shown(server: Server) {
        let server = with_terms(server, "1.0").await;
        let body = json!({"username": "alice", "password": PASSWORD, "auth": {"type": STAGE}});
        let refused = server.post("v3/register").json(body).await;
        let shown = refused.expect_flows_after_a_try(&[STAGE], &[], Some("M_FORBIDDEN"));
        agree(&server, "alice", &shown["session"]).await.expect_ok();
    }

    async fn a_new_version_is_shown_before_it_is_agreed_to(server: Server) {
        let server = with_terms(server, "1.0").await;
        let old = server.post("v3/register").json(json!({})).await.expect_flows(&[STAGE]);
        let server = with_terms(server, "1.1").await;
        let refused = agree(&server, "alice", &old["session"]).await;
        let shown = refused.expect_flows_after_a_try(&[STAGE], &[], Some("M_FORBIDDEN"));
        assert_ne!(shown["session"], old["session"]);
        assert_eq!(shown["params"][STAGE]["policies"]["privacy"]["version"], "1.1");
        agree(&server, "alice", &shown["session"]).await.expect_ok();
    }
}
