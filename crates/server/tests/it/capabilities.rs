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
}
