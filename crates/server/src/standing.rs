//! What a live session may do: the one rule for suspended accounts, guests and administrators.
//!
//! An endpoint says by its extractor whom it serves. [`Authenticated`](crate::extract::Authenticated)
//! serves everybody but guests; the extractors here serve fewer, those of `identity` application services
//! too. Locked accounts are refused before, by `tokens::check`, everywhere but at signing out.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use ligand_storage::live::{LiveSession, LiveUser};

use crate::app::App;
use crate::error::ApiError;
use crate::extract::authenticate;

/// Whom an endpoint serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// Guests too: only what the specification lists (Client-Server API, "Guest access").
    Guests,
    /// Everybody but guests. Suspended accounts may sign in and out, delete devices, deactivate and
    /// add contacts (Client-Server API, "Account suspension"), so nearly everything is for them.
    Members,
    /// Nobody suspended: what takes effect on others, or takes a way to reach the person away.
    Unsuspended,
    /// Administrators, unless suspended.
    Administrators,
}

impl Serves {
    /// Of a guest by whomever: what it may not do, nobody may do in its name.
    ///
    /// # Errors
    /// 403.
    pub fn judge_guest(self, guest: bool) -> Result<(), ApiError> {
        if guest && self != Self::Guests { Err(ApiError::guest_access_forbidden()) } else { Ok(()) }
    }

    fn judge(self, user: &LiveUser) -> Result<(), ApiError> {
        self.judge_guest(user.guest)?;
        if self == Self::Administrators && !user.admin {
            return Err(ApiError::forbidden("You are not a server administrator."));
        }
        if user.suspended && matches!(self, Self::Unsuspended | Self::Administrators) {
            return Err(ApiError::user_suspended());
        }
        Ok(())
    }
}

/// Lets a session pass that an endpoint serves.
///
/// # Errors
/// 403 as the standing of the account says; 503 for storage trouble.
pub async fn permit(
    app: &App,
    session: Arc<LiveSession>,
    serves: Serves,
) -> Result<Arc<LiveSession>, ApiError> {
    if serves.judge(&session.user).is_ok() {
        return Ok(session);
    }
    // What memory would refuse is read from the database first: it may have been granted since.
    let session = app.store.reread_session(session.id).await?.unwrap_or(session);
    serves.judge(&session.user).map(|()| session)
}

macro_rules! extractors {
    ($($(#[$doc:meta])* $name:ident: $serves:expr;)*) => { $(
        $(#[$doc])*
        pub struct $name(pub Arc<LiveSession>);

        impl FromRequestParts<App> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
                let session = authenticate(parts, app).await?;
                permit(app, session, $serves).await.map(Self)
            }
        }
    )* };
}

extractors! {
    /// A live session of an account that is not suspended.
    Unsuspended: Serves::Unsuspended;
    /// A live session of an administrator.
    Administrator: Serves::Administrators;
}
