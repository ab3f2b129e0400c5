//! The list of endpoints, by the specification and not by the code: each has to be there, on each
//! of its prefixes, and each that needs an access token has to ask for one.

use crate::both;
use crate::harness::{Answer, Request, Server};

/// Whether an endpoint needs an access token.
#[derive(Clone, Copy, PartialEq)]
enum Token {
    Needed,
    /// In the query, whatever the header says.
    InQuery,
    None,
}
use Token::{InQuery, Needed, None};

const SINCE_V1: &[&str] = &["api/v1", "v2_alpha", "r0", "v3", "unstable"];
const SINCE_V2: &[&str] = &["v2_alpha", "r0", "v3", "unstable"];
const SINCE_R0: &[&str] = &["r0", "v3", "unstable"];

/// Method, prefixes, path, token.
const ENDPOINTS: &[(&str, &[&str], &str, Token)] = &[
    ("GET", SINCE_V1, "login", None),
    ("POST", SINCE_V1, "login", None),
    ("POST", &["v1", "unstable"], "login/get_token", Needed),
    ("GET", &["api/v1"], "login/fallback", None),
    ("POST", SINCE_V1, "logout", Needed),
    ("POST", SINCE_V1, "logout/all", Needed),
    ("POST", &["v3", "v1", "r0", "unstable"], "refresh", None),
    ("POST", &["api/v1", "v2_alpha", "r0", "unstable"], "tokenrefresh", None),
    ("POST", SINCE_V1, "register", None),
    ("GET", &["api/v1"], "register", None),
    ("GET", SINCE_R0, "register/available", None),
    ("GET", &["v1", "unstable"], "register/m.login.registration_token/validity", None),
    ("GET", SINCE_V2, "auth/{type}/fallback/web", None),
    ("POST", SINCE_V2, "auth/{type}/fallback/web", None),
    ("POST", SINCE_V2, "account/password", Needed),
    ("POST", SINCE_R0, "account/deactivate", Needed),
    ("GET", SINCE_R0, "account/whoami", Needed),
    ("POST", SINCE_R0, "register/email/requestToken", None),
    ("POST", SINCE_R0, "register/msisdn/requestToken", None),
    ("POST", SINCE_R0, "account/password/email/requestToken", None),
    ("POST", SINCE_R0, "account/password/msisdn/requestToken", None),
    ("POST", SINCE_R0, "account/3pid/email/requestToken", None),
    ("POST", SINCE_R0, "account/3pid/msisdn/requestToken", None),
    ("GET", SINCE_V2, "account/3pid", Needed),
    ("POST", SINCE_V2, "account/3pid", Needed),
    ("POST", SINCE_R0, "account/3pid/add", Needed),
    ("POST", SINCE_R0, "account/3pid/bind", Needed),
    ("POST", SINCE_R0, "account/3pid/delete", Needed),
    ("POST", SINCE_R0, "account/3pid/unbind", Needed),
    ("GET", &["unstable"], "org.ligand/validate/email", None),
    ("POST", &["unstable"], "org.ligand/validate/email", None),
    ("POST", &["unstable"], "org.ligand/validate/msisdn", None),
    ("POST", &["v1"], "appservice/{appserviceId}/ping", Needed),
    ("GET", SINCE_R0, "devices", Needed),
    ("GET", SINCE_R0, "devices/{deviceId}", Needed),
    ("PUT", SINCE_R0, "devices/{deviceId}", Needed),
    ("DELETE", SINCE_R0, "devices/{deviceId}", Needed),
    ("POST", SINCE_R0, "delete_devices", Needed),
    ("GET", SINCE_R0, "admin/whois/{userId}", Needed),
    ("GET", &["v1", "unstable"], "admin/suspend/{userId}", Needed),
    ("PUT", &["v1", "unstable"], "admin/suspend/{userId}", Needed),
    ("GET", &["v1", "unstable"], "admin/lock/{userId}", Needed),
    ("PUT", &["v1", "unstable"], "admin/lock/{userId}", Needed),
    ("POST", SINCE_R0, "user/{userId}/openid/request_token", Needed),
    ("GET", SINCE_R0, "capabilities", Needed),
];

/// Outside the prefixes.
const ELSEWHERE: &[(&str, Token)] = &[
    ("/_matrix/client/versions", None),
    ("/_matrix/federation/v1/openid/userinfo", InQuery),
    ("/.well-known/matrix/client", None),
    ("/.well-known/matrix/support", None),
    ("/_matrix/static/client/login/", None),
    ("/_matrix/static/pages/style.css", None),
    ("/_matrix/static/pages/auth_done.js", None),
    ("/_matrix/static/pages/login.js", None),
    ("/health", None),
    ("/api/openapi.json", None),
];

/// A path with something in the place of its parameters.
fn filled_in(path: &str) -> String {
    let path = path.replace("{deviceId}", "PHONE").replace("{userId}", "@alice:example.org");
    path.replace("{type}", "m.login.dummy").replace("{appserviceId}", "bridge")
}

fn all(server: &Server) -> Vec<(Request, Token)> {
    let mut all = Vec::new();
    for (method, prefixes, path, token) in ENDPOINTS {
        for prefix in *prefixes {
            let path = format!("{prefix}/{}", filled_in(path));
            all.push((server.request(method, &path), *token));
        }
    }
    all.extend(ELSEWHERE.iter().map(|(path, token)| (server.get(path), *token)));
    all
}

/// Every endpoint that asks for an access token, on each of its prefixes: method, path as in the
/// list, request. Those that end sessions come last.
pub fn needing_a_token(server: &Server) -> Vec<(&'static str, &'static str, Request)> {
    let mut all: Vec<_> = ENDPOINTS
        .iter()
        .filter(|(.., token)| *token == Needed)
        .flat_map(|(method, prefixes, path, _)| {
            prefixes.iter().map(move |prefix| {
                (*method, *path, server.request(method, &format!("{prefix}/{}", filled_in(path))))
            })
        })
        .collect();
    all.sort_by_key(|(_, path, _)| path.starts_with("logout"));
    all
}

fn errcode(answer: &Answer) -> String {
    match answer.header("content-type") {
        Some("application/json") => answer.json()["errcode"].as_str().unwrap_or_default().to_owned(),
        // A page, or what pages fetch.
        _ => String::new(),
    }
}

both! {
    async fn every_endpoint_is_there(server: Server) {
        for (request, _) in all(&server) {
            let answer = request.await;
            assert_ne!(errcode(&answer), "M_UNRECOGNIZED", "{answer:?}");
            assert!(answer.status < 500 && answer.status != 405, "{answer:?}");
        }
    }

    async fn without_an_access_token_those_that_need_one_answer_401(server: Server) {
        for (request, token) in all(&server) {
            let answer = request.await;
            if token != None {
                answer.expect(401, "M_MISSING_TOKEN");
            } else {
                assert!(!errcode(&answer).contains("TOKEN"), "{answer:?}");
            }
        }
    }

    async fn with_somebody_elses_idea_of_a_token_they_answer_401(server: Server) {
        for (request, token) in all(&server) {
            if token == Needed {
                request.bearer("syt_YWxpY2U_abcdefghijklmnopqrst_0pKQzS").await.expect_unknown_token(false);
            }
        }
    }

    async fn a_path_that_is_none_of_ours_is_not_found(server: Server) {
        for path in ["v3/nothing", "/metrics", "v3/tokenrefresh", "v1/tokenrefresh", "v9/login", "/", "/_matrix/client",
            "v3/login/", "v3//login", "v3/devices/a/b", "/_matrix/client/v3/%2e%2e/v3/login", "api/v1/devices"] {
            server.get(path).await.expect(404, "M_UNRECOGNIZED");
            server.post(path).await.expect(404, "M_UNRECOGNIZED");
        }
    }

    async fn a_path_of_ours_with_another_method_is_not_allowed(server: Server) {
        for (method, path) in [("PUT", "v3/login"), ("GET", "v3/refresh"), ("GET", "r0/tokenrefresh"),
            ("GET", "v3/logout"), ("DELETE", "v3/account/whoami"), ("POST", "v3/devices/PHONE"),
            ("POST", "/_matrix/client/versions"), ("PATCH", "v3/login")] {
            server.request(method, path).await.expect(405, "M_UNRECOGNIZED");
        }
    }
}

/// The other way round: what the table of routes has is in the list above, so that no endpoint
/// escapes the tests of this file.
#[test]
fn every_route_is_in_the_list() {
    let table = include_str!("../../src/routes.rs");
    let calls = table.split("routes.client(").skip(1).chain(table.split("routes.at(").skip(1));
    let mut routes: Vec<&str> = calls.filter_map(|call| call.split('"').nth(1)).collect();
    routes.sort_unstable();
    routes.dedup();
    let mut listed: Vec<&str> = ENDPOINTS.iter().map(|(_, _, path, _)| *path).collect();
    listed.extend(ELSEWHERE.iter().map(|(path, _)| path));
    listed.sort_unstable();
    listed.dedup();
    assert_eq!(routes, listed);
}
