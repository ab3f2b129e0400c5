//! The fallback pages of `m.login.email.identity` and `m.login.msisdn`: an address, then its proof.
//!
//! The page is a client of `requestToken` like any other; its `client_secret` follows from the
//! authentication session, so that only who has the session can use the proof.

use axum::http::StatusCode;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ligand_protocol::uia::{Operation, Stage};
use ligand_protocol::validation::{Medium, Purpose};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::app::App;
use crate::client_server::request_token::{self, Wish, canonical};
use crate::client_server::uia::page::OnPage;
use crate::error::ApiError;
use crate::extract::{Caller, Object};

/// The medium that a stage proves.
#[must_use]
pub const fn medium(stage: Stage) -> Option<Medium> {
    match stage {
        Stage::EmailIdentity => Some(Medium::Email),
        Stage::Msisdn => Some(Medium::Msisdn),
        _ => None,
    }
}

/// Has a message sent to the address that the form names, if it names one: the `sid`.
///
/// # Errors
/// 400 for a malformed address; 429; 503.
pub async fn ask(
    app: &App,
    caller: &Caller,
    session: &OnPage<'_>,
    medium: Medium,
    form: &Object,
) -> Result<Option<String>, ApiError> {
    if form.text("sid")?.is_some() {
        return Ok(None);
    }
    let purpose = match session.operation() {
        Operation::AccountPassword => Purpose::AccountPassword,
        _ => Purpose::Register,
    };
    let secret = client_secret(session);
    let wish = Wish {
        purpose,
        medium,
        address: canonical(form, medium)?,
        secret: &secret,
        // Each time the form is sent, a message is asked for anew.
        send_attempt: app.clock.now(),
        next_link: None,
    };
    let id = request_token::ask(app, caller, &wish).await?;
    Ok(Some(HEXLOWER.encode(&id.0)))
}

/// The `auth` that the proof makes; the digits of a text message are submitted first.
///
/// # Errors
/// 400 without a `sid`; 429; 503.
pub async fn auth(
    app: &App,
    caller: &Caller,
    session: &OnPage<'_>,
    form: &Object,
) -> Result<Map<String, Value>, ApiError> {
    let (secret, sid) = (client_secret(session), form.required_text("sid")?);
    if let Some(code) = form.text("code")? {
        let submitted = request_token::submit(app, caller, sid, Some(&secret), code).await;
        // Wrong digits prove nothing, which the stage says; the form keeps the rest.
        if let Err(error) = submitted
            && error.status() != StatusCode::BAD_REQUEST
        {
            return Err(error);
        }
    }
    let credentials = json!({"sid": sid, "client_secret": secret});
    Ok(Map::from_iter([("threepid_creds".to_owned(), credentials)]))
}

fn client_secret(session: &OnPage<'_>) -> String {
    let hash = Sha256::new().chain_update(b"fallback page").chain_update(session.name()).finalize();
    BASE64URL_NOPAD.encode(&hash)
}
