//! `GET /account/whoami`.

use serde_json::json;

use crate::both;
use crate::harness::Server;

both! {
    async fn it_tells_whose_token_this_is_on_every_prefix(server: Server) {
        let alice = server.user("alice").await.log_in_with(json!({"device_id": "PHONE"})).await;
        for prefix in ["r0", "v3", "unstable"] {
            let body = alice.get(&format!("{prefix}/account/whoami")).await.expect_ok();
            assert_eq!(body, json!({"user_id": "@alice:example.org", "device_id": "PHONE", "is_guest": false}));
        }
    }

    async fn the_header_is_read_generously_and_nothing_else_is(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let token = &alice.tokens.access_token;
        let whoami = |header: String| server.get("v3/account/whoami").header("authorization", &header);
        for scheme in ["Bearer", "bearer", "BEARER"] {
            whoami(format!("{scheme} {token}")).await.expect_ok();
        }
        for header in [token.clone(), format!("Basic {token}"), "Bearer".to_owned()] {
            whoami(header).await.expect(401, "M_MISSING_TOKEN");
        }
        for header in ["Bearer lga_".to_owned(), format!("Bearer {token}x"), format!("Bearer {}", &token[1..])] {
            whoami(header).await.expect_unknown_token(false);
        }
    }

    async fn on_api_v1_the_status_of_2015_can_be_had(server: Server) {
        let server = server.with(|config| config.compat.legacy_v1_403 = true).await;
        for (path, status) in [("api/v1/logout", 403), ("api/v1/logout/all", 403), ("v2_alpha/logout", 401),
            ("r0/logout", 401), ("v3/logout", 401)] {
            server.post(path).await.expect(status, "M_MISSING_TOKEN");
            server.post(path).bearer("nonsense").await.expect(status, "M_UNKNOWN_TOKEN");
        }
    }
}
