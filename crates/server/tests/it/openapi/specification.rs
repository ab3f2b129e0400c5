//! The specification's own files against ours: every path, method, parameter, member and status.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::contract::{self, Contract, contracts};
use super::difference::{Meant, differences, unmeant};
use crate::harness::Description;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spec")
}

/// What the specification has and is not served: operation, reason.
const ABSENT: &[(&str, &str)] = &[
    ("GET /_matrix/client/v1/auth_metadata", "the OAuth 2.0 API is not served"),
    ("GET /_matrix/client/v3/login/sso/redirect", "there are no other places to sign in at"),
    ("GET /_matrix/client/v3/login/sso/redirect/{idpId}", "there are no other places to sign in at"),
    ("POST /_matrix/client/v3/keys/device_signing/upload", "keys are the homeserver's"),
    ("POST /_matrix/client/v3/keys/signatures/upload", "keys are the homeserver's"),
];

/// What is served under today's names and not in the specification: operation, reason.
const OURS: &[(&str, &str)] = &[
    ("GET /_matrix/client/v3/auth/{type}/fallback/web", "the prose: a page for every stage"),
    ("GET /_matrix/static/client/login/", "the prose: a page to sign in"),
    ("GET /_matrix/static/pages/auth_done.js", "for the fallback pages"),
    ("GET /_matrix/static/pages/login.js", "for the page to sign in"),
    ("GET /_matrix/static/pages/style.css", "for every page"),
    ("GET /api/openapi.json", "this description"),
    ("GET /health", "for whoever watches the server"),
    ("POST /_matrix/client/v1/refresh", "its name in the proposal, which clients use"),
    ("POST /_matrix/client/v3/auth/{type}/fallback/web", "the form of that page"),
];

/// Where an operation of both differs.
const DIFFERENCES: &[Meant] = &[
    // What the prose has for every endpoint and the files do not repeat.
    ("*", "400: only here", "bodies that are no JSON, members that are missing or wrong"),
    ("*", "401: only here", "access tokens that are refused, and locked accounts"),
    ("*", "401 errcode: absent, here required string", "the same beside a demand for proofs"),
    ("*", "401 error: absent, here required string", "the same beside a demand for proofs"),
    ("*", "401 soft_logout: absent, here optional boolean", "\"Soft logout\""),
    ("*", "404 err*: absent, here required string", "the file draws no body"),
    ("*", "408: only here", "a body that does not come in time"),
    ("*", "413: only here", "M_TOO_LARGE"),
    ("*", "* error: optional string, here required string", "both keys are always there"),
    // What is our own.
    ("*", "503: only here", "our own trouble is no 4xx, which clients take for a logout"),
    ("*", "403: only here", "what is not allowed, and proofs that were given for another request"),
    ("*available", "403: only here", "registration is closed"),
    ("*/logout*", "403: only here", "the switch for the status of 2015"),
    ("*", "404: only here", "sessions of the OAuth 2.0 API cannot prove anything here; nobody of that name"),
    ("*", "429: only here", "what guesses, sends or makes rows is limited"),
    ("*", "429: not here", "costs no more than a token check"),
    ("*", "200 *: optional *, here required *", "more is promised than asked for"),
    ("*", "401 *: optional *, here required *", "more is promised than asked for"),
    ("*", "request auth.*: absent, here *", "the file leaves the members to the stages"),
    ("*login", "request identifier.*: absent, here optional string", "the file leaves them to the types"),
    ("*login", "request username: absent, here optional string", "its name in 2015"),
    ("*register", "200 well_known*: absent, here *", "as at sign-in"),
    ("*", "200 *m.identity_server*: *, here absent", "there is no identity server"),
    ("*capabilities", "200 capabilities.m.*: *, here absent", "not about accounts"),
    ("GET /_matrix/client/v3/login", "404: not here", "this API is always served"),
    ("GET /.well-known/matrix/client", "404: not here", "there always is an answer"),
    ("GET /_matrix/client/versions", "security: optional, here none", "the same for everybody"),
    // What the prose asks for.
    ("*register", "request type: absent, here optional string", "how application services register"),
    ("*register", "request guest_access_token: absent, here optional string", "how guests become users"),
    ("*3pid", "request three_pid_creds.id_*: required string, here optional string", "clients of r0.5"),
    ("*3pid/*/requestToken", "security: none, here optional", "a token that is given has to be good (C12)"),
];

/// The same for the file of 2015.
const DIFFERENCES_OF_2015: &[Meant] = &[
    ("*", "security: token, here none", "a token would be what one does not have (digest §5 A6, A24)"),
    ("*", "request *: absent, here *", "all later shapes of the body (A9)"),
    ("*", "request username: required string, here optional string", "all later shapes of the body (A9)"),
    ("*", "200 *: absent, here *", "what later clients look for; older ones ignore it (A4, A10)"),
    ("*", "200 *: optional *, here required *", "more is promised than asked for (A10)"),
    ("*", "400: only here", "the prose's table of errors (A11)"),
    ("*", "401: only here", "locked accounts (C6)"),
    ("*", "403 err*: absent, here required string", "the prose; the file draws no body (A15)"),
    ("*", "403 soft_logout: absent, here optional boolean", "what later clients look for (A4)"),
    ("*", "404: only here", "the switch that turns it off"),
    ("*", "408: only here", "a body that does not come in time"),
    ("*", "413: only here", "M_TOO_LARGE"),
    ("*", "429 error: optional string, here required string", "the prose (A15)"),
    ("*", "429 retry_after_ms: absent, here optional integer", "the prose (A14)"),
    ("*", "503: only here", "our own trouble is no 4xx"),
];

fn ours() -> BTreeMap<String, Contract> {
    contracts(&contract::document(&Description::get().document), "")
}

fn todays() -> BTreeMap<String, Contract> {
    let mut todays = BTreeMap::new();
    for chapter in ["client-server", "server-server"] {
        let files = std::fs::read_dir(folder().join("data/api").join(chapter)).expect("the files are there");
        for file in files.map(|file| file.expect("a file").path()).filter(|path| path.is_file()) {
            let document = contract::file(&file);
            let base =
                document["servers"][0]["variables"]["basePath"]["default"].as_str().expect("a base path");
            todays.extend(contracts(&document, base));
        }
    }
    todays
}

#[track_caller]
fn expect_meant(found: &[(String, String)], meant: &[Meant]) {
    let (unmeant, stale) = unmeant(found, meant);
    assert!(unmeant.is_empty(), "not meant:\n{}", unmeant.join("\n"));
    assert!(stale.is_empty(), "stale:\n{}", stale.join("\n"));
}

#[test]
fn every_operation_of_the_specification_is_served_or_absent_on_purpose() {
    let (ours, todays) = (ours(), todays());
    assert!(todays.len() > 40, "only {} operations were read", todays.len());
    let missing: Vec<&str> =
        todays.keys().filter(|name| !ours.contains_key(*name)).map(String::as_str).collect();
    let absent: Vec<&str> = ABSENT.iter().map(|(name, _)| *name).collect();
    assert_eq!(missing, absent);
}

#[test]
fn what_else_is_served_under_its_names_is_there_on_purpose() {
    let todays = todays();
    let old = ["/r0/", "/api/v1/", "/v2_alpha/", "/unstable/"];
    let ours = ours();
    let more = ours.keys().filter(|name| !todays.contains_key(*name));
    let more: Vec<&str> =
        more.filter(|name| !old.iter().any(|prefix| name.contains(prefix))).map(String::as_str).collect();
    let meant: Vec<&str> = OURS.iter().map(|(name, _)| *name).collect();
    assert_eq!(more, meant);
}

#[test]
fn every_parameter_member_and_status_is_as_specified_or_meant_to_differ() {
    let ours = ours();
    let mut found = Vec::new();
    for (name, theirs) in todays() {
        let Some(ours) = ours.get(&name) else { continue };
        found.extend(differences(&theirs, ours).into_iter().map(|what| (name.clone(), what)));
    }
    expect_meant(&found, DIFFERENCES);
}

#[test]
fn so_is_the_file_of_2015() {
    let document = contract::file(&folder().join("api/client-server/v1/login.yaml"));
    let ours = ours();
    let mut found = Vec::new();
    for (name, theirs) in contracts(&document, document["basePath"].as_str().expect("a base path")) {
        let ours = ours.get(&name).unwrap_or_else(|| panic!("{name} is not served"));
        found.extend(differences(&theirs, ours).into_iter().map(|what| (name.clone(), what)));
    }
    expect_meant(&found, DIFFERENCES_OF_2015);
}
