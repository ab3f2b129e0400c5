//! Login tokens: `POST /login/get_token`, and `m.login.token` at `POST /login`.
//!
//! Somebody who is signed in and proves the password, each time anew, gets a token that signs in one
//! more device within two minutes. The token stands for the account as it was at that proof: another
//! password, a sign-out everywhere or a lock takes its worth.

use axum::extract::State;
use axum::{Extension, Json};
use ligand_protocol::UnixMs;
use ligand_protocol::ids::SessionId;
use ligand_protocol::limits::LOGIN_TOKEN_LIFETIME_MS;
use ligand_protocol::session::AccountState;
use ligand_protocol::token::{Minted, Presented, Secret, TokenKind};
use ligand_protocol::uia::{Flows, Operation, Stage};
use ligand_storage::audit::AuditEvent;
use serde_json::{Value, json};

use super::login::Proved;
use super::uia;
use crate::app::App;
use crate::error::ApiError;
use crate::extract::{Authenticated, Caller, Object};
use crate::middleware::RequestId;

pub const TOKEN: &str = "m.login.token";

/// `POST /login/get_token`.
pub async fn post(
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    Authenticated(session): Authenticated,
    caller: Caller,
    body: Object,
) -> Result<Json<Value>, ApiError> {
    super::legacy_only(&session)?;
    if !app.config.sign_in.login_tokens {
        return Err(ApiError::bad_request("M_FORBIDDEN", "Login tokens are not enabled on this server."));
    }
    let protected = uia::Protected {
        app: &app,
        flows: Flows::one(Stage::Password),
        operation: Operation::LoginToken,
        asking: Some(&session),
        body: &body,
        path: None,
        caller: &caller,
        request_id,
    };
    let passed = protected.require().await?;
    let Some(asked) = passed.asked(&session) else { return Err(protected.begin_again().await?) };

    let now = app.clock.now();
    let user = session.user.key;
    app.limiters.login_token(user, now)?;
    let token = mint(&app, TokenKind::Login)?;
    let event = AuditEvent {
        actor: Some(session.user.localpart.to_string()),
        user: Some(user),
        session: Some(session.id),
        ..caller.event("login_token_issued", now)
    };
    let expires_at = now.saturating_add(LOGIN_TOKEN_LIFETIME_MS);
    if !app.store.add_login_token(token.hash, user, expires_at, &asked, &event).await? {
        return Err(protected.overtaken().await?);
    }
    Ok(Json(json!({"login_token": token.text.expose(), "expires_in_ms": LOGIN_TOKEN_LIFETIME_MS})))
}

/// A token that names no session: its sixteen bytes are random, and only its hash finds it.
///
/// # Errors
/// 503 without randomness.
pub(super) fn mint(app: &App, kind: TokenKind) -> Result<Minted, ApiError> {
    let (id, secret) = (SessionId(app.random()?), Secret(app.random()?));
    Ok(Minted::new(kind, id, 0, &secret, &app.keys))
}

/// Whom a login token signs in. It is used up with the sign-in and not before.
///
/// # Errors
/// 403 for a token that is unknown, used or expired, or whose account has changed.
pub(super) async fn verify(app: &App, text: &str, now: UnixMs) -> Result<Proved, ApiError> {
    let Some(presented) = Presented::parse(TokenKind::Login, text, &app.keys) else {
        return Err(wrong_token());
    };
    let token = app.store.find_login_token(presented.hash, now).await?.ok_or_else(wrong_token)?;
    let user = app.store.load_user(token.user).await?.ok_or_else(wrong_token)?;
    if user.state == AccountState::Deactivated {
        return Err(ApiError::user_deactivated());
    }
    if user.verified() != token.verified {
        return Err(wrong_token());
    }
    Ok(Proved { user, rehashed: None, login_token: Some(presented.hash) })
}

/// The same answer for a token that never was and for one that is not any more.
pub(super) fn wrong_token() -> ApiError {
    ApiError::forbidden("Invalid login token.")
}
