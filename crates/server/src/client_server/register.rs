//! Registering an account: Client-Server API, "Account registration".
//!
//! What is wrong with the request is said before any stage is asked for. The account, the use of a
//! registration token, the end of the authentication session and the first device come to be in
//! one commit.

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use ligand_protocol::UnixMs;
use ligand_protocol::ids::{Localpart, UserKey};
use ligand_protocol::limits::CONFLICT_ATTEMPTS_MAX;
use ligand_protocol::password::{NormalisedPassword, Owner};
use ligand_protocol::registration::{NameRefused, generated_name, requested_name};
use ligand_protocol::uia::{Failure, Flows, Operation, UiaSession};
use ligand_storage::audit::AuditEvent;
use ligand_storage::threepids::Proved;
use ligand_storage::users::{Created, NewUser, Registration};
use serde_json::{Map, Value, json};

use super::{application_service, guests, login, signed_in, threepid, uia};
use crate::app::App;
use crate::error::ApiError;
use crate::extract::{Caller, Object, ServiceToken, Surface, query_param};
use crate::middleware::RequestId;
use crate::tokens;

/// `POST /register`.
pub async fn post(
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    RawQuery(query): RawQuery,
    surface: Surface,
    token: ServiceToken,
    caller: Caller,
    body: Object,
) -> Result<Json<Map<String, Value>>, ApiError> {
    match query_param(query.as_deref(), "kind").as_deref() {
        None | Some("user") => {}
        Some("guest") => return guests::register(&app, &caller, &body).await,
        Some(_) => return Err(ApiError::invalid_param("kind must be user or guest.")),
    }
    if body.text("type")? == Some(application_service::TYPE) {
        return application_service::register(&app, token, surface, &caller, &body).await;
    }
    let flows = flows(&app)?;
    // The answer tells whether a name is free, before any stage.
    app.limiters.lookup(caller.address, app.clock.now())?;
    let (upgrade, name) = match guests::upgrading(&app, &body).await? {
        Some((upgrade, name)) => (Some(upgrade), Some(name)),
        None => (None, requested(&app, &body).await?),
    };
    let password = chosen_password(&app, &body, name.as_ref())?;
    let (device_id, _) = login::device(&app, &body)?;
    let initial_display_name = login::display_name(&body)?;
    let grant = login::wanted_grant(&app, &body, surface)?;
    let inhibit_login = body.flag("inhibit_login")?.unwrap_or(false);

    let protected = uia::Protected {
        app: &app,
        flows,
        operation: Operation::Register,
        asking: None,
        body: &body,
        path: None,
        caller: &caller,
        request_id,
    };
    let passed = protected.require().await?;
    let password = password.ok_or_else(|| ApiError::missing_param("password"))?;

    let now = app.clock.now();
    app.limiters.registration(caller.address, now)?;
    let localpart = match name {
        Some(name) => name,
        None => generated(&app)?,
    };
    let hash = app.passwords.hash(password, app.random()?).await.map_err(|_| ApiError::limited(2_000))?;
    let key = match upgrade {
        Some(upgrade) => upgrade.guest,
        None => UserKey::generate(app.random()?),
    };
    let new = NewUser {
        key,
        localpart: localpart.clone(),
        password_hash: Some(hash.clone()),
        admin: false,
        guest: false,
        now,
    };
    let (opened, issued) = tokens::open(&app, grant, &caller, now)?;
    let event = AuditEvent {
        actor: Some(localpart.to_string()),
        user: Some(new.key),
        session: (!inhibit_login).then_some(opened.id),
        detail: uia::stages::agreed(&app, &passed.session),
        ..caller.event(if upgrade.is_some() { "guest_upgraded" } else { "register" }, now)
    };
    let Some(threepids) = proved(&app, &passed.session, now).await? else {
        return Err(protected.spent(passed, Failure::ThirdParty).await?);
    };
    let with = Registration {
        threepids,
        token: passed.session.registration_token(),
        uia: passed.close,
        session: (!inhibit_login).then_some((&device_id, initial_display_name, &opened)),
    };
    let created = match upgrade {
        Some(upgrade) => app.store.upgrade_guest(upgrade, &hash, &with, &event).await?,
        None => app.store.create_user(&new, &with, &event).await?,
    };
    match created {
        Created::Done => {}
        Created::NameTaken => {
            app.metrics.registered("taken");
            return Err(name_taken());
        }
        Created::TokenSpent => {
            app.metrics.registered("token_spent");
            return Err(protected.spent(passed, Failure::RegistrationToken).await?);
        }
        Created::AuthSpent => return Err(protected.begin_again().await?),
        Created::ProofSpent => return Err(protected.spent(passed, Failure::ThirdParty).await?),
        Created::AddressTaken => {
            app.metrics.registered("taken");
            return Err(ApiError::bad_request(
                "M_THREEPID_IN_USE",
                "This address belongs to another account.",
            ));
        }
    }
    app.metrics.registered("success");
    let reply = signed_in(&app, localpart.as_str(), device_id.as_str(), &issued);
    Ok(Json(if inhibit_login { without_login(reply) } else { reply }))
}

/// The reply with `inhibit_login`.
pub(super) fn without_login(mut reply: Map<String, Value>) -> Map<String, Value> {
    for key in ["access_token", "refresh_token", "expires_in_ms", "device_id", "well_known"] {
        reply.remove(key);
    }
    reply
}

/// The addresses that the stages have proved; `None` if a proof is gone, used by somebody faster.
async fn proved(app: &App, session: &UiaSession, now: UnixMs) -> Result<Option<Vec<Proved>>, ApiError> {
    let mut proved = Vec::new();
    for id in session.validations() {
        match app.store.load_validation(id).await? {
            Some(validation) => proved.push(threepid::given(validation, now)),
            None => return Ok(None),
        }
    }
    Ok(Some(proved))
}

/// `GET /register/available`.
pub async fn available(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    app.limiters.lookup(caller.address, app.clock.now())?;
    flows(&app)?;
    let name =
        query_param(query.as_deref(), "username").ok_or_else(|| ApiError::missing_param("username"))?;
    let name = requested_name(&name, &app.config.server_name, false).map_err(refused_name)?;
    free(&app, &name).await?;
    Ok(Json(json!({"available": true})))
}

/// `GET /register/m.login.registration_token/validity`.
pub async fn token_validity(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    let now = app.clock.now();
    app.limiters.lookup(caller.address, now)?;
    flows(&app)?;
    let token = query_param(query.as_deref(), "token").ok_or_else(|| ApiError::missing_param("token"))?;
    let valid = uia::usable_token(&app, &token, now).await?.is_some();
    Ok(Json(json!({"valid": valid})))
}

/// The stages this server asks for.
///
/// # Errors
/// 403 where registration is closed.
pub(super) fn flows(app: &App) -> Result<Flows, ApiError> {
    let flows = app.config.registration_rules().flows();
    flows.ok_or_else(|| ApiError::forbidden("Registration is not enabled on this server."))
}

/// The name asked for, if one is: well-formed and free.
async fn requested(app: &App, body: &Object) -> Result<Option<Localpart>, ApiError> {
    let Some(text) = body.text("username")?.filter(|text| !text.is_empty()) else { return Ok(None) };
    let name = requested_name(text, &app.config.server_name, false).map_err(refused_name)?;
    free(app, &name).await?;
    Ok(Some(name))
}

/// A name for who asked for none. Drawn again if it is kept for an application service.
///
/// # Errors
/// 400 `M_EXCLUSIVE` when all are; 503.
pub(super) fn generated(app: &App) -> Result<Localpart, ApiError> {
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let name = generated_name(app.random()?, &app.config.server_name).map_err(refused_name)?;
        if !is_kept(app, &name) {
            return Ok(name);
        }
    }
    Err(kept())
}

/// Whether a name is in an exclusive namespace.
pub(super) fn is_kept(app: &App, name: &Localpart) -> bool {
    app.application_services.keep(name, &app.config.server_name, None)
}

pub(super) fn kept() -> ApiError {
    ApiError::bad_request("M_EXCLUSIVE", "This user name is kept for an application service.")
}

async fn free(app: &App, name: &Localpart) -> Result<(), ApiError> {
    if is_kept(app, name) {
        return Err(kept());
    }
    match app.store.find_user(name).await? {
        None => Ok(()),
        Some(_) => Err(name_taken()),
    }
}

/// The password, if there is one yet: many clients learn the flows before they send it.
fn chosen_password(
    app: &App,
    body: &Object,
    name: Option<&Localpart>,
) -> Result<Option<NormalisedPassword>, ApiError> {
    let Some(text) = body.text("password")? else { return Ok(None) };
    chosen(app, text, name.map_or("", Localpart::as_str)).map(Some)
}

/// A new password that follows the rules.
///
/// # Errors
/// 400 `M_WEAK_PASSWORD`, naming what is wrong.
pub(super) fn chosen(app: &App, text: &str, localpart: &str) -> Result<NormalisedPassword, ApiError> {
    let owner = Owner { localpart, server_name: &app.config.server_name };
    NormalisedPassword::chosen(text, owner)
        .map_err(|weak| ApiError::bad_request("M_WEAK_PASSWORD", weak.to_string()))
}

pub(super) fn refused_name(refused: NameRefused) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, refused.errcode(), refused.to_string())
}

pub(super) fn name_taken() -> ApiError {
    ApiError::bad_request("M_USER_IN_USE", "This user name is taken.")
}
