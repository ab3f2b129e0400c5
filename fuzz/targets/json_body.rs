//! Whatever is sent as a body: read into an object or refused with a 400, never a panic.
#![no_main]

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use libfuzzer_sys::fuzz_target;
use ligand_protocol::ids::{DeviceId, Localpart};
use ligand_protocol::password::{NormalisedPassword, Owner};
use ligand_protocol::registration::{RegistrationToken, requested_name};
use ligand_protocol::validation::canonical_email;
use ligand_server::client_server::login::{Identifier, named};
use ligand_server::error::ApiError;
use ligand_server::extract::{Object, query_param};

fn is_a_bad_request(error: ApiError) {
    assert_eq!(error.into_response().status(), StatusCode::BAD_REQUEST);
}

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        drop(query_param(Some(text), "access_token"));
    }
    let body = match Object::parse(data) {
        Ok(body) => body,
        Err(error) => return is_a_bad_request(error),
    };
    match named(&body) {
        Ok(Some(Identifier::User(name))) => drop(Localpart::from_login(&name, "example.org")),
        Ok(Some(Identifier::Address(..)) | None) => {}
        Err(error) => is_a_bad_request(error),
    }
    for key in ["refresh_token", "password", "username", "device_id", "token"] {
        match body.text(key) {
            Ok(Some(text)) => {
                drop(DeviceId::parse(text));
                drop(requested_name(text, "example.org", false));
                drop(RegistrationToken::parse(text));
                drop(canonical_email(text));
                let owner = Owner { localpart: "monkey", server_name: "example.org" };
                drop(NormalisedPassword::chosen(text, owner));
            }
            Ok(None) => {}
            Err(error) => is_a_bad_request(error),
        }
    }
    for result in [body.flag("inhibit_login").map(drop), body.object("auth").map(drop)] {
        if let Err(error) = result {
            is_a_bad_request(error);
        }
    }
});
