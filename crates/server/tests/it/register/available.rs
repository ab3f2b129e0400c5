//! `GET /register/available`.

use serde_json::json;

use super::open;
use crate::both;
use crate::harness::Server;

both! {
    async fn a_free_name_is_free_and_others_are_told_why_not(server: Server) {
        let server = open(server).await;
        server.user("alice").await;
        for prefix in ["r0", "v3", "unstable"] {
            let ask = |query: &str| server.get(&format!("{prefix}/register/available{query}"));
            assert_eq!(ask("?username=bob").await.expect_ok(), json!({"available": true}));
            ask("?username=alice").await.expect(400, "M_USER_IN_USE");
            ask("?username=ALICE").await.expect(400, "M_USER_IN_USE");
            ask("?username=%20").await.expect(400, "M_INVALID_USERNAME");
            ask("?username=").await.expect(400, "M_INVALID_USERNAME");
            ask("?username=_irc").await.expect(400, "M_EXCLUSIVE");
            ask("").await.expect(400, "M_MISSING_PARAM");
        }
    }
}
