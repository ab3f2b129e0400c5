//! The flows that the operator composed, and their `params`.

use ligand_protocol::registration::RegistrationMode;
use ligand_server::config::RegistrationEmail;
use serde_json::json;

use super::terms::with_terms;
use crate::both;
use crate::harness::{Server, Verifier};

both! {
    async fn stages_come_in_one_order(server: Server) {
        let verifier = Verifier::start().await;
        let server = with_terms(server, "1").await.with(|config| {
            verifier.configure(config);
            config.registration.mode = RegistrationMode::Token;
            config.registration.email = RegistrationEmail::Required;
        }).await;
        let stages = ["m.login.recaptcha", "m.login.registration_token", "m.login.terms", "m.login.email.identity"];
        for prefix in ["api/v1", "v2_alpha", "r0", "v3", "unstable"] {
            let body = server.post(&format!("{prefix}/register")).json(json!({})).await.expect_flows(&stages);
            assert_eq!(body["params"]["m.login.recaptcha"], json!({"public_key": "site-key"}));
            assert!(body["params"]["m.login.terms"]["policies"].is_object(), "{body}");
        }
    }

    async fn an_address_may_be_offered(server: Server) {
        let server = server.with(|config| {
            config.registration.mode = RegistrationMode::Token;
            config.registration.email = RegistrationEmail::Optional;
        }).await;
        let answer = server.post("v3/register").json(json!({})).await;
        let flows = json!([
            {"stages": ["m.login.registration_token", "m.login.dummy"]},
            {"stages": ["m.login.registration_token", "m.login.email.identity"]},
        ]);
        assert_eq!((answer.status, &answer.json()["flows"]), (401, &flows));
        assert_eq!(answer.json()["params"], json!({}));
    }

    async fn nothing_opens_what_is_closed(server: Server) {
        let verifier = Verifier::start().await;
        let server = with_terms(server, "1").await.with(|config| {
            verifier.configure(config);
            config.registration.mode = RegistrationMode::Closed;
        }).await;
        server.post("v3/register").json(json!({})).await.expect(403, "M_FORBIDDEN");
        server.get("api/v1/register").await.expect(403, "M_FORBIDDEN");
        let stage = json!({"type": "m.login.recaptcha", "response": "right"});
        server.post("api/v1/register").json(stage).await.expect(403, "M_FORBIDDEN");
        assert_eq!(verifier.asked().len(), 0);
    }
}
