//! The sign-in page for clients without one. What its script does is tested in `tests/pages`.

use crate::both;
use crate::harness::Server;

both! {
    async fn the_page_is_at_its_old_and_its_new_address(server: Server) {
        for path in ["/_matrix/static/client/login/", "api/v1/login/fallback", "/_matrix/static/client/login/?device_id=PHONE"] {
            let page = server.get(path).await;
            let html = page.expect_page(200);
            assert!(html.contains("login.js") && html.contains("/_matrix/client/v3/login"), "{html}");
            assert!(!html.contains("PHONE"), "{html}");
        }
        server.get("v3/login/fallback").await.expect(404, "M_UNRECOGNIZED");
    }
}
