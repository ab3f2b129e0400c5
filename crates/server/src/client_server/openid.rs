//! OpenID: a token that tells a third party who somebody is (Client-Server API, "OpenID"), and the
//! question behind it (Server-Server API, "OpenID"). It is good for that question and nothing else.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use ligand_protocol::limits::OPENID_TOKEN_LIFETIME_MS;
use ligand_protocol::session::AccountState;
use ligand_protocol::token::{Presented, TokenKind};
use serde_json::{Value, json};

use super::login_token::mint;
use crate::app::App;
use crate::error::ApiError;
use crate::extract::{Object, query_param};
use crate::standing::Unsuspended;

/// `POST /user/{userId}/openid/request_token`: for oneself only.
pub async fn request_token(
    State(app): State<App>,
    Unsuspended(session): Unsuspended,
    user_id: Result<Path<String>, PathRejection>,
    _body: Object,
) -> Result<Json<Value>, ApiError> {
    let server = &app.config.server_name;
    let own = format!("@{}:{server}", session.user.localpart);
    if !user_id.is_ok_and(|Path(asked)| asked == own) {
        return Err(ApiError::forbidden("Tokens can be made for yourself only."));
    }
    let now = app.clock.now();
    let user = session.user.key;
    app.limiters.openid_token(user, now)?;
    let token = mint(&app, TokenKind::OpenId)?;
    let expires_at = now.saturating_add(OPENID_TOKEN_LIFETIME_MS);
    if !app.store.add_openid_token(token.hash, user, expires_at).await? {
        return Err(changed_meanwhile(app.store.load_user(user).await?.map(|user| user.state)));
    }
    Ok(Json(json!({
        "access_token": token.text.expose(),
        "token_type": "Bearer",
        "matrix_server_name": server,
        "expires_in": OPENID_TOKEN_LIFETIME_MS / 1_000,
    })))
}

fn changed_meanwhile(state: Option<AccountState>) -> ApiError {
    match state {
        Some(AccountState::Active) => ApiError::user_suspended(),
        Some(AccountState::Locked) => ApiError::user_locked(),
        Some(AccountState::Deactivated) | None => ApiError::unknown_token().soft_logout(false),
    }
}

/// `GET /_matrix/federation/v1/openid/userinfo`. The one place that still wants its token in the
/// query.
pub async fn userinfo(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Json<Value>, ApiError> {
    let token = query_param(query.as_deref(), "access_token").ok_or_else(ApiError::missing_token)?;
    let presented =
        Presented::parse(TokenKind::OpenId, &token, &app.keys).ok_or_else(ApiError::unknown_token)?;
    let owner = app.store.owner_of_openid_token(presented.hash, app.clock.now()).await?;
    let owner = owner.ok_or_else(ApiError::unknown_token)?;
    Ok(Json(json!({"sub": format!("@{owner}:{}", app.config.server_name)})))
}
