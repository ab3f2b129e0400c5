//! Request bodies that are none: JSON's grammar, its types, its size, on every endpoint that takes
//! one.

use serde_json::json;

use crate::both;
use crate::harness::Server;

/// Where a body is read before anything else; `/tokenrefresh` knows only one code for what is wrong in it.
const WITH_A_BODY: [&str; 6] =
    ["v3/login", "r0/login", "v3/refresh", "v1/refresh", "r0/tokenrefresh", "api/v1/tokenrefresh"];
const SIZE_MAX: usize = 64 * 1024;

both! {
    async fn what_is_not_json_is_told_so(server: Server) {
        let deep = "[".repeat(100_000 / 2);
        for body in ["", " ", "{", "{]", "{\"a\":}", "nul", "{} {}", "\u{feff}{}", "{'a': 1}", deep.as_str()] {
            for path in WITH_A_BODY {
                server.post(path).body(body).await.expect(400, "M_NOT_JSON");
            }
        }
        for path in WITH_A_BODY {
            server.post(path).body(*b"{\"refresh_token\": \"\xff\"}").await.expect(400, "M_NOT_JSON");
        }
    }

    async fn json_that_is_no_object_is_bad_json(server: Server) {
        for body in ["[]", "null", "1", "\"text\"", "true"] {
            for path in WITH_A_BODY {
                server.post(path).body(body).await.expect(400, "M_BAD_JSON");
            }
        }
    }

    async fn a_body_of_64_kib_is_read_and_one_more_byte_is_too_large(server: Server) {
        for path in WITH_A_BODY {
            let text = |len: usize| format!("{{\"a\": \"{}\"}}", "x".repeat(len - r#"{"a": ""}"#.len()));
            assert_eq!(server.post(path).body(text(SIZE_MAX)).await.status, 400);
            server.post(path).body(text(SIZE_MAX + 1)).await.expect(413, "M_TOO_LARGE");
            assert_eq!(server.post(path).chunked(&text(SIZE_MAX)).await.status, 400);
            server.post(path).chunked(&text(SIZE_MAX + 1)).await.expect(413, "M_TOO_LARGE");
        }
    }

    async fn a_body_too_large_is_refused_behind_a_token_too(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let large = json!({"a": "x".repeat(SIZE_MAX)});
        for path in ["v3/delete_devices", "v3/account/password", "v3/account/deactivate"] {
            alice.post(path, large.clone()).await.expect(413, "M_TOO_LARGE");
        }
        alice.put("v3/devices/PHONE", large).await.expect(413, "M_TOO_LARGE");
    }

    async fn whose_token_it_is_comes_before_what_the_body_says(server: Server) {
        server.post("v3/delete_devices").body("{").await.expect(401, "M_MISSING_TOKEN");
        let alice = server.user("alice").await.log_in().await;
        alice.post("v3/delete_devices", json!(1)).await.expect(400, "M_BAD_JSON");
    }

    async fn the_content_type_does_not_matter(server: Server) {
        let alice = server.user("alice").await;
        for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
            alice.try_to_log_in("v3", json!({})).header("content-type", kind).await.expect_ok();
        }
    }

    async fn a_refresh_token_has_to_be_there_and_a_string(server: Server) {
        for path in ["v3/refresh", "v1/refresh", "r0/refresh", "unstable/refresh"] {
            let post = |body| server.post(path).json(body);
            post(json!({})).await.expect(400, "M_MISSING_PARAM");
            post(json!({"refresh_token": null})).await.expect(400, "M_MISSING_PARAM");
            post(json!({"refresh_token": 1})).await.expect(400, "M_INVALID_PARAM");
            post(json!({"refresh_token": ["a"]})).await.expect(400, "M_INVALID_PARAM");
        }
    }

    // Digest §5 A11: the table of errors of 2015 has this one only.
    async fn in_2015_that_is_bad_json(server: Server) {
        for path in ["api/v1/tokenrefresh", "v2_alpha/tokenrefresh", "r0/tokenrefresh", "unstable/tokenrefresh"] {
            for wrong in [json!({}), json!({"refresh_token": null}), json!({"refresh_token": 1})] {
                server.post(path).json(wrong).await.expect(400, "M_BAD_JSON");
            }
        }
    }
}
