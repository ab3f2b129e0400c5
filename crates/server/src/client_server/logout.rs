//! Signing out: `POST /logout`, `POST /logout/all`. Both work on a locked account; a body, if one
//! comes, does not matter.

use axum::Json;
use axum::extract::State;
use ligand_protocol::session::EndReason;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::extract::Caller;
use crate::identity::{Asserted, Identity, SigningOut};
use crate::tokens;

/// `POST /logout`: the whole session on every surface, with its device.
pub async fn post(
    State(app): State<App>,
    SigningOut(identity): SigningOut,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    match identity {
        Identity::Session(session) => tokens::end(&app, &session, EndReason::Logout, &caller).await?,
        Identity::Asserted(asserted) => end_device(&app, &asserted, &caller).await?,
    }
    Ok(Json(json!({})))
}

/// The token of an application service lasts as long as its registration; what can end is the
/// device that it names.
async fn end_device(app: &App, asserted: &Asserted, caller: &Caller) -> Result<(), ApiError> {
    let Some(device) = &asserted.device_id else {
        return Err(ApiError::forbidden(
            "An application service is not signed in; name a device of the user.",
        ));
    };
    let event = asserted.event(EndReason::Logout.as_str(), caller, app.clock.now());
    app.store.delete_devices(asserted.user.key, std::slice::from_ref(device), None, &event).await?;
    Ok(())
}

/// `POST /logout/all`: every session and device of the user.
pub async fn post_all(
    State(app): State<App>,
    SigningOut(identity): SigningOut,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    let event = identity.event(EndReason::LogoutAll.as_str(), &caller, app.clock.now());
    tokens::end_all(&app, identity.user(), &event).await?;
    Ok(Json(json!({})))
}
