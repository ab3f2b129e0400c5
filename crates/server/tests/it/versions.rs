//! `GET /versions`.

use crate::both;
use crate::harness::Server;

both! {
    async fn it_names_the_releases_and_never_v1_0(server: Server) {
        let body = server.get("/_matrix/client/versions").await.expect_ok();
        let versions: Vec<&str> = body["versions"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
        for version in ["r0.0.1", "r0.1.0", "r0.2.0", "r0.6.1", "v1.1", "v1.3", "v1.19"] {
            assert!(versions.contains(&version), "{version}");
        }
        // v1.20 takes the access token in the query away, which is still served.
        assert!(!versions.contains(&"v1.0") && !versions.contains(&"v1.20"));
        assert!(body["unstable_features"].is_object());
    }
}
