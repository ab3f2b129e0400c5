//! Guests: Client-Server API, "Guest access". An account without a password, made without a question,
//! for the few endpoints that `standing` opens to it; it becomes a user's by registering with its
//! access token. Its user ID and its sessions stay.

use axum::Json;
use ligand_protocol::ids::{DeviceId, Localpart, UserKey};
use ligand_storage::audit::AuditEvent;
use ligand_storage::users::{Created, NewUser, Registration, Upgrade};
use serde_json::{Map, Value};

use super::register::{generated, is_kept, kept, name_taken};
use super::{login, signed_in};
use crate::app::App;
use crate::error::ApiError;
use crate::extract::{Caller, Object};
use crate::tokens::{self, Grant, Locked};

/// `POST /register?kind=guest`. Of the body only `initial_device_display_name` counts.
pub(super) async fn register(
    app: &App,
    caller: &Caller,
    body: &Object,
) -> Result<Json<Map<String, Value>>, ApiError> {
    if !app.config.registration.guests {
        return Err(ApiError::forbidden("Guests cannot register on this server."));
    }
    let initial_display_name = login::display_name(body)?;
    let now = app.clock.now();
    app.limiters.registration(caller.address, now)?;
    let new = NewUser {
        key: UserKey::generate(app.random()?),
        localpart: generated(app)?,
        password_hash: None,
        admin: false,
        guest: true,
        now,
    };
    let device_id = DeviceId::generate(app.random()?);
    // No refresh token, on any path: it is for those who can sign in again.
    let (opened, issued) = tokens::open(app, Grant::Unrefreshable, caller, now)?;
    let event = AuditEvent {
        actor: Some(new.localpart.to_string()),
        user: Some(new.key),
        session: Some(opened.id),
        ..caller.event("guest_registered", now)
    };
    let session = Some((&device_id, initial_display_name, &opened));
    let with = Registration { session, ..Registration::default() };
    if app.store.create_user(&new, &with, &event).await? != Created::Done {
        return Err(name_taken());
    }
    app.metrics.registered("guest");
    Ok(Json(signed_in(app, new.localpart.as_str(), device_id.as_str(), &issued)))
}

/// The guest whom a registration makes a user, by the access token and the name of the account.
///
/// # Errors
/// 401 for a token that is none; 403 for one that is no guest's, or another's; 400 for a name that is
/// kept for an application service by now.
pub(super) async fn upgrading(app: &App, body: &Object) -> Result<Option<(Upgrade, Localpart)>, ApiError> {
    let Some(token) = body.text("guest_access_token")? else { return Ok(None) };
    let name = body.required_text("username")?;
    let session = tokens::check(app, token, Locked::Refused).await?;
    let no_guest = || ApiError::forbidden("This is not the access token of a guest of that name.");
    if !session.user.guest || *session.user.localpart != *name {
        return Err(no_guest());
    }
    let name = Localpart::parse(name, &app.config.server_name).map_err(|_| no_guest())?;
    if is_kept(app, &name) {
        return Err(kept());
    }
    let user = &session.user;
    Ok(Some((Upgrade { guest: user.key, epoch: user.owner.epoch, session: session.id }, name)))
}
