//! In whose name a call is made: Application Service API, "Identity assertion".
//!
//! A session speaks for its owner. An application service, by its `as_token`, speaks for the user
//! it was given at registration, or for the one of its users that `user_id` in the query names; with
//! `device_id`, as one of that user's devices. Handlers that take an [`Identity`] serve both, and guests
//! where they ask for it by [`GuestsToo`]; those that take `extract::Authenticated` serve sessions alone,
//! which is right for all that manages an account.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use ligand_protocol::UnixMs;
use ligand_protocol::ids::{DeviceId, Localpart, UserKey};
use ligand_protocol::session::AccountState;
use ligand_storage::audit::AuditEvent;
use ligand_storage::live::LiveSession;
use ligand_storage::users::User;

use crate::app::App;
use crate::application_services::ApplicationService;
use crate::error::ApiError;
use crate::extract::{Bearer, Caller, bearer, query_param};
use crate::standing::{self, Serves};
use crate::tokens::Locked;

/// Who calls, and for whom.
pub enum Identity {
    Session(Arc<LiveSession>),
    Asserted(Asserted),
}

/// A user, as an application service asserts it.
pub struct Asserted {
    pub service: Arc<ApplicationService>,
    pub user: User,
    pub device_id: Option<DeviceId>,
}

impl Identity {
    #[must_use]
    pub fn user(&self) -> UserKey {
        match self {
            Self::Session(session) => session.user.key,
            Self::Asserted(asserted) => asserted.user.key,
        }
    }

    #[must_use]
    pub fn localpart(&self) -> &str {
        match self {
            Self::Session(session) => &session.user.localpart,
            Self::Asserted(asserted) => &asserted.user.localpart,
        }
    }

    #[must_use]
    pub fn device_id(&self) -> Option<&DeviceId> {
        match self {
            Self::Session(session) => session.device_id.as_ref(),
            Self::Asserted(asserted) => asserted.device_id.as_ref(),
        }
    }

    #[must_use]
    pub fn is_guest(&self) -> bool {
        match self {
            Self::Session(session) => session.user.guest,
            Self::Asserted(asserted) => asserted.user.guest,
        }
    }

    /// An audit event of what was done in this name.
    #[must_use]
    pub fn event(&self, action: &'static str, caller: &Caller, now: UnixMs) -> AuditEvent {
        match self {
            Self::Session(session) => AuditEvent {
                actor: Some(session.user.localpart.to_string()),
                user: Some(session.user.key),
                session: Some(session.id),
                ..caller.event(action, now)
            },
            Self::Asserted(asserted) => asserted.event(action, caller, now),
        }
    }

    async fn of(parts: &Parts, app: &App, locked: Locked, serves: Serves) -> Result<Self, ApiError> {
        match bearer(parts, app, locked).await? {
            Bearer::Session(session) => standing::permit(app, session, serves).await.map(Self::Session),
            Bearer::Service(service) => {
                let asserted = Asserted::of(parts.uri.query(), app, service, locked).await?;
                serves.judge_guest(asserted.user.guest)?;
                Ok(Self::Asserted(asserted))
            }
        }
    }
}

impl Asserted {
    async fn of(
        query: Option<&str>,
        app: &App,
        service: Arc<ApplicationService>,
        locked: Locked,
    ) -> Result<Self, ApiError> {
        let name = match query_param(query, "user_id") {
            None => service.sender.clone(),
            Some(user_id) => named(app, &service, &user_id)?,
        };
        let user = app.store.find_user(&name).await?.ok_or_else(not_registered)?;
        match user.state {
            AccountState::Locked if locked == Locked::Refused => return Err(ApiError::user_locked()),
            AccountState::Deactivated => return Err(ApiError::user_deactivated()),
            AccountState::Locked | AccountState::Active => {}
        }
        let device_id = match device_param(query) {
            None => None,
            Some(text) => Some(known_device(app, user.key, &text).await?),
        };
        Ok(Self { service, user, device_id })
    }

    /// An audit event of what the service did.
    #[must_use]
    pub fn event(&self, action: &'static str, caller: &Caller, now: UnixMs) -> AuditEvent {
        AuditEvent {
            actor: Some(self.service.actor()),
            user: Some(self.user.key),
            ..caller.event(action, now)
        }
    }
}

/// A whole user ID of this server, of a user that the service may act as.
fn named(app: &App, service: &ApplicationService, user_id: &str) -> Result<Localpart, ApiError> {
    let server_name = &app.config.server_name;
    let localpart = user_id.strip_prefix('@').and_then(|rest| rest.split_once(':'));
    let localpart = localpart.filter(|(_, server)| server == server_name).map(|(localpart, _)| localpart);
    localpart
        .and_then(|localpart| Localpart::parse(localpart, server_name).ok())
        .filter(|name| service.covers(name, server_name))
        .ok_or_else(|| ApiError::forbidden("The application service may not act as this user."))
}

/// `device_id` since v1.17; bridges made before send it under the name of the proposal.
fn device_param(query: Option<&str>) -> Option<String> {
    query_param(query, "device_id").or_else(|| query_param(query, "org.matrix.msc3202.device_id"))
}

async fn known_device(app: &App, user: UserKey, text: &str) -> Result<DeviceId, ApiError> {
    let unknown = || ApiError::bad_request("M_UNKNOWN_DEVICE", "The user has no such device.");
    let id = DeviceId::parse(text).map_err(|_| unknown())?;
    match app.store.find_device(user, &id).await? {
        Some(_) => Ok(id),
        None => Err(unknown()),
    }
}

fn not_registered() -> ApiError {
    ApiError::forbidden("The application service has not registered this user.")
}

impl FromRequestParts<App> for Identity {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Self::of(parts, app, Locked::Refused, Serves::Members).await
    }
}

/// As [`Identity`], a guest too.
pub struct GuestsToo(pub Identity);

impl FromRequestParts<App> for GuestsToo {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Identity::of(parts, app, Locked::Refused, Serves::Guests).await.map(Self)
    }
}

/// As [`GuestsToo`], but a locked account passes: for signing out.
pub struct SigningOut(pub Identity);

impl FromRequestParts<App> for SigningOut {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Identity::of(parts, app, Locked::Passes, Serves::Guests).await.map(Self)
    }
}
