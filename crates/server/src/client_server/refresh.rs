//! Refreshing access tokens: today's `POST /refresh`, and `POST /tokenrefresh` of 2015.
//!
//! One engine ([`tokens::refresh`]); here are the two wire formats. `/refresh` refuses with 401 and
//! sends our own trouble as text; `/tokenrefresh` refuses with 403 and knows only `M_BAD_JSON` for
//! a bad body.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use ligand_protocol::session::{Door, Refusal};
use serde_json::{Map, Value};

use super::with_tokens;
use crate::app::App;
use crate::error::ApiError;
use crate::extract::{Caller, Object};
use crate::tokens::{self, Issued, RefreshError};

type Reply = Result<Json<Map<String, Value>>, ApiError>;

/// `POST /refresh`. Takes no access token.
pub async fn post(State(app): State<App>, caller: Caller, body: Result<Object, ApiError>) -> Reply {
    let body = body.map_err(|error| match error.status() {
        // A slow network is no reason to sign out, which is what clients make of a 4xx here.
        StatusCode::REQUEST_TIMEOUT => {
            ApiError::unavailable("the body did not come in time").plain_text_if_ours()
        }
        _ => error,
    })?;
    let token = body.required_text("refresh_token")?;
    match tokens::refresh(&app, token, Door::Refresh, None, &caller).await {
        Ok(issued) => Ok(reply(&issued)),
        Err(RefreshError::Refused(Refusal::Unknown)) => {
            Err(unknown_refresh_token(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN").soft_logout(false))
        }
        Err(RefreshError::Refused(Refusal::Locked)) => Err(ApiError::user_locked()),
        Err(RefreshError::Refused(refusal)) => {
            Err(unknown_refresh_token(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN")
                .soft_logout(refusal.soft_logout()))
        }
        Err(RefreshError::Limited(ms)) => Err(ApiError::limited(ms)),
        Err(RefreshError::Unavailable(cause)) => Err(ApiError::unavailable(cause).plain_text_if_ours()),
    }
}

/// `POST /tokenrefresh`. Any access token sent along is ignored: the refresh token alone decides.
pub async fn post_tokenrefresh(
    State(app): State<App>,
    caller: Caller,
    body: Result<Object, ApiError>,
) -> Reply {
    let body = body.map_err(ApiError::in_2015)?;
    let token = body.required_text("refresh_token").map_err(ApiError::in_2015)?;
    match tokens::refresh(&app, token, Door::TokenRefresh, None, &caller).await {
        Ok(issued) => Ok(reply(&issued)),
        Err(RefreshError::Refused(Refusal::Locked)) => Err(ApiError::user_locked()),
        Err(RefreshError::Refused(refusal)) => {
            let error = unknown_refresh_token(StatusCode::FORBIDDEN, "M_FORBIDDEN");
            Err(error.soft_logout(refusal.soft_logout()))
        }
        Err(RefreshError::Limited(ms)) => Err(ApiError::limited(ms)),
        Err(RefreshError::Unavailable(cause)) => Err(ApiError::unavailable(cause)),
    }
}

fn unknown_refresh_token(status: StatusCode, errcode: &'static str) -> ApiError {
    ApiError::new(status, errcode, "The refresh token is not recognised, or has already been used.")
}

fn reply(issued: &Issued) -> Json<Map<String, Value>> {
    let mut body = Map::new();
    with_tokens(&mut body, issued);
    Json(body)
}
