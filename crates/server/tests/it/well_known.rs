//! `/.well-known/matrix/client` and `/.well-known/matrix/support`.

use ligand_server::config::Contact;
use serde_json::json;

use crate::both;
use crate::harness::Server;

both! {
    async fn where_the_server_is(server: Server) {
        let here = server.get("/.well-known/matrix/client").await.expect_ok();
        assert!(here["m.homeserver"]["base_url"].as_str().unwrap().starts_with("http://127.0.0.1"));
        let server = server.with(|config| config.http.public_url = Some("https://matrix.example.org".into())).await;
        let body = json!({"m.homeserver": {"base_url": "https://matrix.example.org"}});
        assert_eq!(server.get("/.well-known/matrix/client").await.expect_ok(), body);
    }

    async fn whom_to_write_to(server: Server) {
        server.get("/.well-known/matrix/support").await.expect(404, "M_NOT_FOUND");
        let server = server
            .with(|config| {
                config.support.support_page = Some("https://example.org/help".into());
                config.support.contacts = vec![Contact {
                    role: "m.role.admin".into(),
                    matrix_id: Some("@admin:example.org".into()),
                    email_address: None,
                }];
            })
            .await;
        let body = json!({
            "contacts": [{"role": "m.role.admin", "matrix_id": "@admin:example.org"}],
            "support_page": "https://example.org/help",
        });
        assert_eq!(server.get("/.well-known/matrix/support").await.expect_ok(), body);
    }
}
