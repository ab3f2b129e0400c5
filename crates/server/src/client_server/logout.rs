//! Signing out: `POST /logout`, `POST /logout/all`. Both work on a locked account; a body, if one
//! comes, does not matter.

use axum::Json;
use axum::extract::State;
use ligand_protocol::session::EndReason;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::extract::{Caller, SigningOut};
use crate::tokens;

/// `POST /logout`: the whole session on every surface, with its device.
pub async fn post(
    State(app): State<App>,
    SigningOut(session): SigningOut,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    tokens::end(&app, &session, EndReason::Logout, &caller).await?;
    Ok(Json(json!({})))
}

/// `POST /logout/all`: every session and device of the user.
pub async fn post_all(
    State(app): State<App>,
    SigningOut(session): SigningOut,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    tokens::end_all(&app, &session, &caller).await?;
    Ok(Json(json!({})))
}
