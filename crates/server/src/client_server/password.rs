//! `POST /account/password`: a new password for whoever is signed in, and for whoever forgot the old
//! one and proves an address of the account.

use axum::extract::State;
use axum::{Extension, Json};
use ligand_protocol::ids::ValidationId;
use ligand_protocol::session::EndReason;
use ligand_protocol::uia::{Flows, Operation, Stage};
use ligand_protocol::validation::{Medium, Validation};
use ligand_storage::audit::AuditEvent;
use ligand_storage::live::LiveSession;
use ligand_storage::users::{ResetProof, User};
use serde_json::{Value, json};

use super::{register, uia};
use crate::app::App;
use crate::error::ApiError;
use crate::extract::{Caller, IfAuthenticated, Object};
use crate::mail::notices;
use crate::middleware::RequestId;

/// `POST /account/password`.
pub async fn post(
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    IfAuthenticated(session): IfAuthenticated,
    caller: Caller,
    body: Result<Object, ApiError>,
) -> Result<Json<Value>, ApiError> {
    match session {
        Some(session) => change(&app, request_id, &session, &caller, &body?).await,
        None => {
            // Where no message can be sent, nobody can prove an address.
            let flows = ways_to_prove_an_address(&app).ok_or_else(ApiError::missing_token)?;
            reset(&app, flows, request_id, &caller, &body?).await
        }
    }
}

pub(super) fn ways_to_prove_an_address(app: &App) -> Option<Flows> {
    let media = [(Medium::Email, Stage::EmailIdentity), (Medium::Msisdn, Stage::Msisdn)];
    let offered = media.into_iter().filter(|(medium, _)| app.mail.is_configured(*medium));
    Flows::new(offered.map(|(_, stage)| vec![stage]).collect())
}

/// With `logout_devices` (the default), every other session ends and its device goes; the caller's
/// own stays either way.
async fn change(
    app: &App,
    request_id: RequestId,
    session: &LiveSession,
    caller: &Caller,
    body: &Object,
) -> Result<Json<Value>, ApiError> {
    super::legacy_only(session)?;
    let owner = &session.user.localpart;
    let password = body.text("new_password")?.map(|text| register::chosen(app, text, owner)).transpose()?;
    let logout_devices = body.flag("logout_devices")?.unwrap_or(true);
    let protected = uia::Protected {
        app,
        flows: Flows::one(Stage::Password),
        operation: Operation::AccountPassword,
        asking: Some(session),
        body,
        path: None,
        caller,
        request_id,
    };
    let passed = protected.require().await?;
    let password = password.ok_or_else(|| ApiError::missing_param("new_password"))?;

    let Some(asked) = passed.asked(session) else { return Err(protected.begin_again().await?) };
    // A proof from a page would otherwise pay for any number of hashes.
    app.limiters.login(caller.address, app.clock.now())?;
    let hash = app.passwords.hash(password, app.random()?).await.map_err(|_| ApiError::limited(2_000))?;
    let user = session.user.key;
    let now = app.clock.now();
    let event = AuditEvent {
        actor: Some(owner.to_string()),
        user: Some(user),
        session: Some(session.id),
        detail: Some(format!("logout_devices: {logout_devices}")),
        notice: notices::password(&app.config, owner, Some(caller), now),
        ..caller.event("password_changed", now)
    };
    let spare = Some((session.id, session.device_id.as_ref()));
    let changed = app
        .store
        .set_password(user, asked.verified, &hash, logout_devices, spare, Some(&asked), &event)
        .await?;
    if !changed {
        return Err(protected.overtaken().await?);
    }
    app.mail.wake();
    if logout_devices {
        app.metrics.ended(EndReason::PasswordChanged);
    }
    Ok(Json(json!({})))
}

/// Without an access token, an address of the account is proved instead of the old password. With
/// `logout_devices` (the default), every session ends.
async fn reset(
    app: &App,
    flows: Flows,
    request_id: RequestId,
    caller: &Caller,
    body: &Object,
) -> Result<Json<Value>, ApiError> {
    let text = body.text("new_password")?;
    // Whose password it will be is not known yet; what is weak for everybody is said at once.
    text.map(|text| register::chosen(app, text, "")).transpose()?;
    let logout_devices = body.flag("logout_devices")?.unwrap_or(true);
    let protected = uia::Protected {
        app,
        flows,
        operation: Operation::AccountPassword,
        asking: None,
        body,
        path: None,
        caller,
        request_id,
    };
    let passed = protected.require().await?;
    let text = text.ok_or_else(|| ApiError::missing_param("new_password"))?;

    let Some(validation) = passed.session.validations().next() else {
        return Err(protected.begin_again().await?);
    };
    let Some((validation, user)) = owner_of(app, validation).await? else {
        // Used by somebody faster, or the address is nobody's any more.
        return Err(protected.begin_again().await?);
    };
    // What was proved before the last change of the password may be what it was changed for.
    if validation.validated_at < user.password_changed_at {
        return Err(protected.begin_again().await?);
    }
    let password = register::chosen(app, text, &user.localpart)?;
    app.limiters.login(caller.address, app.clock.now())?;
    let hash = app.passwords.hash(password, app.random()?).await.map_err(|_| ApiError::limited(2_000))?;
    let now = app.clock.now();
    let event = AuditEvent {
        user: Some(user.key),
        detail: Some(format!("logout_devices: {logout_devices}")),
        notice: notices::password(&app.config, &user.localpart, Some(caller), now),
        ..caller.event("password_reset", now)
    };
    let proof = ResetProof {
        validation: validation.id,
        medium: validation.medium,
        address: &validation.address,
        uia: passed.close,
    };
    if !app.store.reset_password(user.key, user.verified(), &hash, logout_devices, &proof, &event).await? {
        return Err(protected.begin_again().await?);
    }
    app.mail.wake();
    if logout_devices {
        app.metrics.ended(EndReason::PasswordChanged);
    }
    Ok(Json(json!({})))
}

/// What was validated, and whose it is now.
async fn owner_of(app: &App, id: ValidationId) -> Result<Option<(Validation, User)>, ApiError> {
    let Some(validation) = app.store.load_validation(id).await? else { return Ok(None) };
    let user = app.store.find_user_by_address(validation.medium, &validation.address).await?;
    Ok(user.map(|user| (validation, user)))
}
