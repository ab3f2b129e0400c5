//! CORS: headers on every answer, `OPTIONS` on every path, and no endpoint runs for it.

use serde_json::json;

use crate::both;
use crate::harness::{Answer, Server};

#[track_caller]
fn expect_cors(answer: &Answer) {
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{answer:?}");
    let methods = answer.header("access-control-allow-methods");
    assert_eq!(methods, Some("GET, POST, PUT, DELETE, OPTIONS"), "{answer:?}");
    let headers = answer.header("access-control-allow-headers");
    assert_eq!(headers, Some("X-Requested-With, Content-Type, Authorization"), "{answer:?}");
}

both! {
    async fn every_path_answers_options_without_a_token(server: Server) {
        for path in ["v3/login", "api/v1/login", "v3/refresh", "r0/tokenrefresh", "v3/logout", "v3/account/whoami",
            "v3/register", "v3/devices/PHONE", "v3/delete_devices", "v3/account/password", "v3/account/deactivate",
            "/_matrix/client/versions", "/.well-known/matrix/client", "/health", "v3/nothing", "/"] {
            let answer = server.request("OPTIONS", path).header("origin", "https://app.example.org").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            expect_cors(&answer);
        }
    }

    async fn a_preflight_does_nothing(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        server.request("OPTIONS", "v3/logout").bearer(&alice.tokens.access_token).await;
        alice.whoami().await.expect_ok();
    }

    async fn answers_and_errors_have_the_headers_too(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        expect_cors(&alice.whoami().await);
        expect_cors(&server.get("v3/account/whoami").await);
        expect_cors(&server.get("v3/nothing").await);
        expect_cors(&server.request("PUT", "v3/login").await);
        expect_cors(&server.post("v3/login").body("{").await);
        expect_cors(&alice.post("v3/account/deactivate", json!({})).await);
        server.store().close().await;
        expect_cors(&alice.try_to_refresh().await);
    }

    async fn every_answer_names_its_request_and_is_not_to_be_kept(server: Server) {
        let (one, two) = (server.get("v3/login").await, server.get("v3/nothing").await);
        assert!(one.header("x-request-id").is_some() && one.header("x-request-id") != two.header("x-request-id"));
        assert_eq!(one.header("cache-control"), Some("no-store"));
    }
}
