//! The access token in the query (digest §5 A8): on the old prefixes and `r0` always, elsewhere by
//! a switch.

use crate::both;
use crate::harness::Server;

both! {
    async fn it_is_read_everywhere_by_default(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let token = &alice.tokens.access_token;
        for prefix in ["r0", "v3", "unstable"] {
            server.get(&format!("{prefix}/account/whoami?access_token={token}")).await.expect_ok();
        }
        server.post(&format!("api/v1/logout?access_token={token}")).await.expect_ok();
    }

    async fn without_the_switch_only_where_it_always_was(server: Server) {
        let server = server.with(|config| config.compat.query_access_token = false).await;
        let alice = server.user("alice").await.log_in().await;
        let token = &alice.tokens.access_token;
        for prefix in ["v3", "unstable"] {
            let whoami = server.get(&format!("{prefix}/account/whoami?access_token={token}")).await;
            whoami.expect(401, "M_MISSING_TOKEN");
        }
        server.get(&format!("r0/account/whoami?access_token={token}")).await.expect_ok();
        for prefix in ["api/v1", "v2_alpha"] {
            let token = alice.user.log_in().await.tokens.access_token;
            server.post(&format!("{prefix}/logout?access_token={token}")).await.expect_ok();
        }
    }

    async fn two_tokens_that_differ_are_none(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let token = &alice.tokens.access_token;
        let path = format!("v3/account/whoami?access_token={token}");
        server.get(&path).bearer(token).await.expect_ok();
        server.get(&path).bearer("another").await.expect(401, "M_MISSING_TOKEN");
        server.get(&format!("{path}&access_token={token}")).await.expect(401, "M_MISSING_TOKEN");
        server.get("v3/account/whoami").bearer(token).bearer(token).await.expect(401, "M_MISSING_TOKEN");
    }
}
