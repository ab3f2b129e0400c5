//! `POST /account/deactivate`: the end of an account, for good.

use axum::extract::State;
use axum::{Extension, Json};
use ligand_protocol::session::EndReason;
use ligand_protocol::uia::{Flows, Operation, Stage};
use ligand_storage::audit::AuditEvent;
use serde_json::{Value, json};

use super::uia;
use crate::app::App;
use crate::error::ApiError;
use crate::extract::{Authenticated, Caller, Object};
use crate::middleware::RequestId;

/// `POST /account/deactivate`. The name stays taken; nothing signs in again.
pub async fn post(
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    Authenticated(session): Authenticated,
    caller: Caller,
    body: Object,
) -> Result<Json<Value>, ApiError> {
    super::legacy_only(&session)?;
    let erase = body.flag("erase")?.unwrap_or(false);
    let protected = uia::Protected {
        app: &app,
        flows: Flows::one(Stage::Password),
        operation: Operation::AccountDeactivate,
        asking: Some(&session),
        body: &body,
        path: None,
        caller: &caller,
        request_id,
    };
    let passed = protected.require().await?;
    let now = app.clock.now();
    let event = AuditEvent {
        actor: Some(session.user.localpart.to_string()),
        user: Some(session.user.key),
        session: Some(session.id),
        detail: Some(format!("erase: {erase}")),
        ..caller.event("deactivated", now)
    };
    let Some(asked) = passed.asked(&session) else { return Err(protected.begin_again().await?) };
    let user = session.user.key;
    if !app.store.deactivate(user, asked.verified.epoch, erase, Some(&asked), &event).await? {
        return Err(protected.overtaken().await?);
    }
    app.metrics.ended(EndReason::Deactivated);
    // There is no identity server to unbind from, which counts as success.
    Ok(Json(json!({"id_server_unbind_result": "success"})))
}
