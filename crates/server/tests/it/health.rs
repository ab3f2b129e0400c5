//! `GET /health`: 200 only when requests can be served.

use serde_json::json;

use crate::both;
use crate::harness::Server;

both! {
    async fn a_server_that_serves_is_well(server: Server) {
        assert_eq!(server.get("/health").await.expect_ok(), json!({"status": "ok"}));
        server.store().close().await;
        server.get("/health").await.expect_unavailable();
    }
}
