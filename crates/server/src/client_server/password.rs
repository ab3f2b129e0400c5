//! `POST /account/password`: a new password for whoever is signed in.

use axum::extract::State;
use axum::{Extension, Json};
use ligand_protocol::session::EndReason;
use ligand_protocol::uia::{Flows, Operation, Stage};
use ligand_storage::audit::AuditEvent;
use serde_json::{Value, json};

use super::{register, uia};
use crate::app::App;
use crate::error::ApiError;
use crate::extract::{Authenticated, Caller, Object};
use crate::mail::notices;
use crate::middleware::RequestId;

/// `POST /account/password`. With `logout_devices` (the default), every other session ends and its
/// device goes; the caller's own stays either way.
pub async fn post(
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    Authenticated(session): Authenticated,
    caller: Caller,
    body: Object,
) -> Result<Json<Value>, ApiError> {
    super::legacy_only(&session)?;
    let owner = &session.user.localpart;
    let password = body.text("new_password")?.map(|text| register::chosen(&app, text, owner)).transpose()?;
    let logout_devices = body.flag("logout_devices")?.unwrap_or(true);
    let protected = uia::Protected {
        app: &app,
        flows: Flows::one(Stage::Password),
        operation: Operation::AccountPassword,
        asking: Some(&session),
        body: &body,
        path: None,
        caller: &caller,
        request_id,
    };
    let passed = protected.require().await?;
    let password = password.ok_or_else(|| ApiError::missing_param("new_password"))?;

    let Some(asked) = passed.asked(&session) else { return Err(protected.begin_again().await?) };
    let hash = app.passwords.hash(password, app.random()?).await.map_err(|_| ApiError::limited(2_000))?;
    let user = session.user.key;
    let now = app.clock.now();
    let event = AuditEvent {
        actor: Some(owner.to_string()),
        user: Some(user),
        session: Some(session.id),
        detail: Some(format!("logout_devices: {logout_devices}")),
        notice: notices::password(&app.config, owner, Some(&caller), now),
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
