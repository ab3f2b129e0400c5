//! `GET /capabilities`.

use crate::both;
use crate::harness::Server;

both! {
    async fn it_tells_what_can_be_done_here(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        for prefix in ["r0", "v3", "unstable"] {
            let body = alice.get(&format!("{prefix}/capabilities")).await.expect_ok();
            assert_eq!(body["capabilities"]["m.change_password"]["enabled"], true);
            assert_eq!(body["capabilities"]["m.3pid_changes"]["enabled"], false);
            assert_eq!(body["capabilities"]["m.get_login_token"]["enabled"], true);
        }
    }

    async fn administrators_are_told_of_moderation_and_nobody_else(server: Server) {
        let user = server.user("alice").await;
        let alice = user.log_in().await;
        let told = async || {
            let body = alice.get("v3/capabilities").await.expect_ok();
            body["capabilities"].get("m.account_moderation").cloned()
        };
        assert_eq!(told().await, None);
        server.make_admin(&user).await;
        assert_eq!(told().await, Some(serde_json::json!({"suspend": true, "lock": true})));
    }
}
