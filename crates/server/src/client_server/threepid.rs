//! `account/3pid`: the e-mail addresses and phone numbers of an account (Client-Server API, "Adding
//! Account Administrative Contact Information").
//!
//! An address is only ever added with a proof of it. Nothing is published at an identity server.

use axum::extract::State;
use axum::{Extension, Json};
use ligand_protocol::limits::THREEPIDS_MAX;
use ligand_protocol::uia::{Flows, Operation, Stage};
use ligand_protocol::validation::{Medium, Purpose, Validation, canonical_email};
use ligand_storage::audit::AuditEvent;
use ligand_storage::live::LiveSession;
use ligand_storage::sessions::Asked;
use ligand_storage::threepids::{Added, Proved, Threepid};
use serde_json::{Value, json};

use super::{request_token, uia};
use crate::app::App;
use crate::error::ApiError;
use crate::extract::{Authenticated, Caller, Object, Surface};
use crate::mail::notices;
use crate::middleware::RequestId;
use crate::phone;
use crate::standing::Unsuspended;

/// `GET /account/3pid`.
pub async fn list(
    State(app): State<App>,
    Authenticated(session): Authenticated,
) -> Result<Json<Value>, ApiError> {
    let threepids = app.store.threepids_of(session.user.key).await?;
    let threepids: Vec<Value> = threepids.iter().map(shown).collect();
    Ok(Json(json!({"threepids": threepids})))
}

fn shown(threepid: &Threepid) -> Value {
    json!({
        "medium": threepid.medium.as_str(),
        "address": threepid.address,
        "validated_at": threepid.validated_at,
        "added_at": threepid.added_at,
    })
}

/// `POST /account/3pid/add`.
pub async fn add(
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    Authenticated(session): Authenticated,
    caller: Caller,
    body: Object,
) -> Result<Json<Value>, ApiError> {
    super::legacy_only(&session)?;
    let failed = || ApiError::bad_request("M_THREEPID_AUTH_FAILED", "This address has not been verified.");
    let proof = request_token::proved(&app, &body, Purpose::AccountThreepid).await?.ok_or_else(failed)?;
    let protected = uia::Protected {
        app: &app,
        flows: Flows::one(Stage::Password),
        operation: Operation::AddThreepid,
        asking: Some(&session),
        body: &body,
        path: None,
        caller: &caller,
        request_id,
    };
    let passed = protected.require().await?;
    let Some(asked) = passed.asked(&session) else { return Err(protected.begin_again().await?) };
    match give(&app, &session, Some(&asked), proof, &caller).await? {
        Added::Done => Ok(Json(json!({}))),
        Added::InUse => Err(in_use()),
        Added::ProofSpent => Err(failed()),
        Added::Overtaken => Err(protected.overtaken().await?),
    }
}

/// `POST /account/3pid`, deprecated: adds an address without asking for a password. With it a stolen
/// token would be enough to take an account over, so it is off; operators who have clients that
/// know nothing else may serve it, on the old paths (digest §5 C8).
pub async fn add_deprecated(
    State(app): State<App>,
    Authenticated(session): Authenticated,
    surface: Surface,
    caller: Caller,
    body: Object,
) -> Result<Json<Value>, ApiError> {
    super::legacy_only(&session)?;
    if surface == Surface::Today || !app.config.compat.threepid_without_password {
        return Err(ApiError::forbidden("Use /account/3pid/add to add an address."));
    }
    let failed =
        || ApiError::forbidden("This address has not been verified.").with_code("M_THREEPID_AUTH_FAILED");
    let credentials = match body.object("three_pid_creds")? {
        Some(credentials) => credentials,
        None => body.object("threePidCreds")?.ok_or_else(|| ApiError::missing_param("three_pid_creds"))?,
    };
    let proof = request_token::proved(&app, &credentials, Purpose::AccountThreepid).await?;
    match give(&app, &session, None, proof.ok_or_else(failed)?, &caller).await? {
        Added::Done => Ok(Json(json!({}))),
        Added::InUse => Err(in_use()),
        Added::ProofSpent => Err(failed()),
        Added::Overtaken => Err(ApiError::user_deactivated()),
    }
}

fn in_use() -> ApiError {
    ApiError::bad_request("M_THREEPID_IN_USE", "This address belongs to another account.")
}

async fn give(
    app: &App,
    session: &LiveSession,
    asked: Option<&Asked>,
    proof: Validation,
    caller: &Caller,
) -> Result<Added, ApiError> {
    let now = app.clock.now();
    if app.store.owner_of(proof.medium, &proof.address).await? == Some(session.user.key) {
        return Ok(Added::Done);
    }
    if app.store.threepids_of(session.user.key).await?.len() >= THREEPIDS_MAX {
        return Err(ApiError::forbidden("This account has as many addresses as it may have."));
    }
    let event = event(app, session, caller, proof.medium, true);
    let added = app.store.add_threepid(session.user.key, asked, &given(proof, now), &event).await?;
    app.mail.wake();
    Ok(added)
}

/// What a proof gives to an account.
#[must_use]
pub fn given(proof: Validation, now: ligand_protocol::UnixMs) -> Proved {
    let threepid = Threepid {
        medium: proof.medium,
        address: proof.address,
        validated_at: proof.validated_at.unwrap_or(now),
        added_at: now,
    };
    Proved { validation: proof.id, threepid }
}

fn event(app: &App, session: &LiveSession, caller: &Caller, medium: Medium, added: bool) -> AuditEvent {
    let now = app.clock.now();
    let owner = &session.user.localpart;
    AuditEvent {
        actor: Some(owner.to_string()),
        user: Some(session.user.key),
        session: Some(session.id),
        detail: Some(format!("medium: {}", medium.as_str())),
        notice: notices::threepid(&app.config, owner, medium, added, now),
        ..caller.event(if added { "threepid_added" } else { "threepid_removed" }, now)
    }
}

/// `POST /account/3pid/delete`.
pub async fn delete(
    State(app): State<App>,
    Unsuspended(session): Unsuspended,
    caller: Caller,
    body: Object,
) -> Result<Json<Value>, ApiError> {
    let (medium, address) = named(&body)?;
    let event = event(&app, &session, &caller, medium, false);
    // One that is gone already is as it should be.
    app.store.remove_threepid(session.user.key, medium, &address, &event).await?;
    app.mail.wake();
    Ok(Json(json!({"id_server_unbind_result": unbound(&body)?})))
}

/// `POST /account/3pid/bind`.
pub async fn bind(Authenticated(_): Authenticated, body: Object) -> Result<Json<Value>, ApiError> {
    for key in ["client_secret", "id_server", "id_access_token", "sid"] {
        body.required_text(key)?;
    }
    Err(ApiError::bad_request("M_SERVER_NOT_TRUSTED", "This server works with no identity server."))
}

/// `POST /account/3pid/unbind`.
pub async fn unbind(Unsuspended(_): Unsuspended, body: Object) -> Result<Json<Value>, ApiError> {
    named(&body)?;
    Ok(Json(json!({"id_server_unbind_result": unbound(&body)?})))
}

/// Nothing was ever bound through this server: where no identity server is named, nothing is left
/// to unbind; at one that is named we can do nothing.
fn unbound(body: &Object) -> Result<&'static str, ApiError> {
    Ok(if body.text("id_server")?.is_some() { "no-support" } else { "success" })
}

fn named(body: &Object) -> Result<(Medium, String), ApiError> {
    let medium = Medium::parse(body.required_text("medium")?)
        .ok_or_else(|| ApiError::invalid_param("medium must be email or msisdn."))?;
    let address = body.required_text("address")?;
    let address = match medium {
        Medium::Email => canonical_email(address),
        Medium::Msisdn => {
            let digits = address.trim_start_matches('+');
            phone::is_canonical(digits).then(|| digits.to_owned())
        }
    };
    Ok((medium, address.ok_or_else(|| ApiError::invalid_param("address is malformed."))?))
}
