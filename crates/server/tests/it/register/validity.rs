//! `GET /register/m.login.registration_token/validity`.

use ligand_protocol::registration::RegistrationMode;
use serde_json::json;

use crate::both;
use crate::harness::{HOUR, Server};

both! {
    async fn it_tells_whether_a_token_would_let_somebody_in(server: Server) {
        let server = server.with_registration(RegistrationMode::Token).await;
        server.registration_token("letmein", 1, Some(server.now() + HOUR)).await;
        server.registration_token("used.up", 0, None).await;
        for prefix in ["v1", "unstable"] {
            let path = format!("{prefix}/register/m.login.registration_token/validity");
            let valid = server.get(&format!("{path}?token=letmein")).await.expect_ok();
            assert_eq!(valid, json!({"valid": true}));
            for token in ["used.up", "unknown", "", "%00"] {
                let answer = server.get(&format!("{path}?token={token}")).await.expect_ok();
                assert_eq!(answer, json!({"valid": false}));
            }
            server.get(&path).await.expect(400, "M_MISSING_PARAM");
        }
        server.pass(HOUR);
        let late = server.get("v1/register/m.login.registration_token/validity?token=letmein").await;
        assert_eq!(late.expect_ok(), json!({"valid": false}));
    }
}
