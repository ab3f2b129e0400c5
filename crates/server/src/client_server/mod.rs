//! The Client-Server API: one file per chapter of the specification.

pub mod account;
pub mod admin;
pub mod application_service;
pub mod deactivate;
pub mod devices;
pub mod discovery;
mod guests;
pub mod login;
pub mod login_token;
pub mod logout;
pub mod openid;
pub mod password;
pub mod refresh;
pub mod register;
pub mod register_2015;
pub mod request_token;
pub mod threepid;
pub mod uia;

use axum::http::StatusCode;
use ligand_protocol::session::Api;
use ligand_storage::live::LiveSession;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::tokens::Issued;

/// Adds the tokens of a reply to it.
fn with_tokens(body: &mut Map<String, Value>, issued: &Issued) {
    body.insert("access_token".to_owned(), issued.access.expose().into());
    if let Some(refresh) = &issued.refresh {
        body.insert("refresh_token".to_owned(), refresh.expose().into());
    }
    if let Some(ms) = issued.expires_in_ms {
        body.insert("expires_in_ms".to_owned(), ms.into());
    }
}

/// The reply that opens a session, at sign-in and at registration.
fn signed_in(app: &App, localpart: &str, device_id: &str, issued: &Issued) -> Map<String, Value> {
    let server = &app.config.server_name;
    let mut body = Map::new();
    body.insert("user_id".to_owned(), format!("@{localpart}:{server}").into());
    body.insert("home_server".to_owned(), server.as_str().into());
    body.insert("device_id".to_owned(), device_id.into());
    with_tokens(&mut body, issued);
    if app.config.http.public_url.is_some() {
        body.insert("well_known".to_owned(), json!({"m.homeserver": {"base_url": app.config.public_url()}}));
    }
    body
}

/// Refuses sessions of the OAuth 2.0 API where user-interactive auth is needed, which they cannot
/// use (digest §5 C7).
fn legacy_only(session: &LiveSession) -> Result<(), ApiError> {
    match session.api {
        Api::Legacy => Ok(()),
        Api::OAuth => Err(ApiError::unrecognized(StatusCode::NOT_FOUND)),
    }
}
