//! Sessions of the OAuth 2.0 API at the endpoints of the older one (digest §5 B2, C7).

use serde_json::json;

use crate::both;
use crate::harness::Server;

both! {
    async fn their_refresh_tokens_are_refused_here_and_nothing_ends(server: Server) {
        let user = server.user("alice").await;
        let app = server.oauth_session(&user).await;
        app.whoami().await.expect_ok();
        app.try_to_refresh().await.expect_unknown_token(false);
        app.try_to_tokenrefresh().await.expect_forbidden();
        app.whoami().await.expect_ok();
    }

    async fn their_access_tokens_are_good_but_for_user_interactive_auth(server: Server) {
        let user = server.user("alice").await;
        let app = server.oauth_session(&user).await;
        app.get("v3/devices").await.expect_ok();
        app.get("v3/capabilities").await.expect_ok();
        let capabilities = app.get("v3/capabilities").await.expect_ok();
        assert_eq!(capabilities["capabilities"]["m.get_login_token"]["enabled"], false);
        for path in ["v3/account/password", "v3/account/deactivate", "v1/login/get_token"] {
            app.post(path, json!({})).await.expect(404, "M_UNRECOGNIZED");
        }
        app.post("v3/delete_devices", json!({"devices": []})).await.expect(404, "M_UNRECOGNIZED");
        app.delete("v3/devices/PHONE").await.expect(404, "M_UNRECOGNIZED");
    }

    async fn signing_out_is_kind_to_them(server: Server) {
        let user = server.user("alice").await;
        let (app, other) = (server.oauth_session(&user).await, user.log_in().await);
        app.logout().await.expect_ok();
        app.whoami().await.expect_unknown_token(false);
        let app = server.oauth_session(&user).await;
        app.logout_all().await.expect_ok();
        for ended in [app, other] {
            ended.whoami().await.expect_unknown_token(false);
        }
    }
}
