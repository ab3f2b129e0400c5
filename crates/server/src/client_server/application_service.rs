//! What an application service does in its own name: Application Service API, "Server admin style
//! permissions", and the type `m.login.application_service` of `/register` and `/login`.
//!
//! Its token is all the proof there is, so no stage is asked for and no password hashed. Users of a
//! service have no password. The digest's §5 C1 says which refusal is due when.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use ligand_protocol::ids::{Localpart, UserKey};
use ligand_protocol::registration::operator_name;
use ligand_protocol::session::AccountState;
use ligand_storage::audit::AuditEvent;
use ligand_storage::sessions::SignIn;
use ligand_storage::users::{Created, NewUser, Registration};
use serde_json::{Map, Value, json};

use super::{login, register, signed_in};
use crate::app::App;
use crate::application_services::ApplicationService;
use crate::error::ApiError;
use crate::extract::{Caller, Object, OptionalObject, ServiceToken, Surface};
use crate::outgoing::OutgoingError;
use crate::tokens;

/// The type of registration and sign-in.
pub const TYPE: &str = "m.login.application_service";
/// Most characters of a service's bad answer that are passed on, for a person who looks for the
/// cause.
const SHOWN_CHARS_MAX: usize = 1_000;

/// `POST /register` by a service.
///
/// # Errors
/// 401 without its token; 400 `M_EXCLUSIVE` outside its namespaces or inside another's.
pub(super) async fn register(
    app: &App,
    token: ServiceToken,
    surface: Surface,
    caller: &Caller,
    body: &Object,
) -> Result<Json<Map<String, Value>>, ApiError> {
    let service = token.service(app).await?;
    let now = app.clock.now();
    app.limiters.service(&service, now)?;
    let name = operator_name(body.required_text("username")?, &app.config.server_name)
        .map_err(register::refused_name)?;
    if !may_have(app, &service, &name) {
        return Err(exclusive(StatusCode::BAD_REQUEST));
    }
    let (device_id, _) = login::device(app, body)?;
    let initial_display_name = login::display_name(body)?;
    let grant = login::wanted_grant(app, body, surface)?;
    let inhibit_login = body.flag("inhibit_login")?.unwrap_or(false);
    let new = NewUser {
        key: UserKey::generate(app.random()?),
        localpart: name.clone(),
        password_hash: None,
        admin: false,
        guest: false,
        now,
    };
    let (opened, issued) = tokens::open(app, grant, caller, now)?;
    let event = AuditEvent {
        actor: Some(service.actor()),
        user: Some(new.key),
        session: (!inhibit_login).then_some(opened.id),
        ..caller.event("register", now)
    };
    let session = (!inhibit_login).then_some((&device_id, initial_display_name, &opened));
    let with = Registration { session, ..Registration::default() };
    if app.store.create_user(&new, &with, &event).await? != Created::Done {
        app.metrics.registered("taken");
        return Err(register::name_taken());
    }
    app.metrics.registered("success");
    let reply = signed_in(app, name.as_str(), device_id.as_str(), &issued);
    Ok(Json(if inhibit_login { register::without_login(reply) } else { reply }))
}

/// `POST /login` by a service, as one of its users.
///
/// # Errors
/// 401 without its token; 403 for a user that is not its own, or is not there.
pub(super) async fn sign_in(
    app: &App,
    token: ServiceToken,
    surface: Surface,
    caller: &Caller,
    body: &Object,
) -> Result<Json<Map<String, Value>>, ApiError> {
    let service = token.service(app).await?;
    let now = app.clock.now();
    app.limiters.service(&service, now)?;
    let name = identified(app, body)?;
    let (device_id, device_named) = login::device(app, body)?;
    let initial_device_display_name = login::display_name(body)?;
    let grant = login::wanted_grant(app, body, surface)?;
    if !service.covers(&name, &app.config.server_name) {
        return Err(exclusive(StatusCode::FORBIDDEN));
    }
    let user = app.store.find_user(&name).await?;
    let user =
        user.ok_or_else(|| ApiError::forbidden("The application service has not registered this user."))?;
    match user.state {
        AccountState::Active => {}
        AccountState::Locked => return Err(ApiError::user_locked()),
        AccountState::Deactivated => return Err(ApiError::user_deactivated()),
    }
    let (opened, issued) = tokens::open(app, grant, caller, now)?;
    let audit = AuditEvent {
        actor: Some(service.actor()),
        user: Some(user.key),
        session: Some(opened.id),
        ..caller.event("sign_in", now)
    };
    let reply = signed_in(app, &user.localpart, device_id.as_str(), &issued);
    let sign_in = SignIn {
        user: user.key,
        verified: user.verified(),
        login_token: None,
        rehashed: None,
        device_id,
        device_named,
        initial_device_display_name,
        opened,
        audit,
    };
    if !app.store.sign_in(&sign_in).await? {
        return Err(login::changed_meanwhile(app, &user, ApiError::wrong_password()).await?);
    }
    app.metrics.signed_in("success");
    Ok(Json(reply))
}

/// `POST /appservice/{appserviceId}/ping`: whether we reach the service.
pub async fn ping(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    token: ServiceToken,
    body: Result<OptionalObject, ApiError>,
) -> Result<Json<Value>, ApiError> {
    let service = token.service(&app).await?;
    if !id.is_ok_and(|Path(id)| id == service.id) {
        return Err(ApiError::forbidden("This is the token of another application service."));
    }
    let OptionalObject(body) = body?;
    let transaction = body.text("transaction_id")?;
    app.limiters.service(&service, app.clock.now())?;
    let Some(url) = &service.url else {
        return Err(ApiError::bad_request("M_URL_NOT_SET", "The application service has no URL."));
    };
    let url = format!("{}/_matrix/app/v1/ping", url.trim_end_matches('/'));
    let mut asked = Map::new();
    asked.extend(transaction.map(|id| ("transaction_id".to_owned(), id.into())));
    let answer = app.outgoing.post_json(&url, Some(&service.hs_token), &asked.into()).await;
    let answer = answer.map_err(|error| unreachable(&service, &error))?;
    if !answer.status.is_success() {
        let status = answer.status.as_u16();
        let body: String = String::from_utf8_lossy(&answer.body).chars().take(SHOWN_CHARS_MAX).collect();
        let error = ApiError::new(
            StatusCode::BAD_GATEWAY,
            "M_BAD_STATUS",
            format!("The ping returned status {status}."),
        );
        return Err(error.with("status", status.into()).with("body", body.into()));
    }
    let duration_ms = u64::try_from(answer.took.as_millis()).unwrap_or(u64::MAX);
    Ok(Json(json!({"duration_ms": duration_ms})))
}

fn unreachable(service: &ApplicationService, error: &OutgoingError) -> ApiError {
    tracing::info!(service = service.id, %error, "an application service does not answer the ping");
    match error {
        OutgoingError::TimedOut => ApiError::new(
            StatusCode::GATEWAY_TIMEOUT,
            "M_CONNECTION_TIMEOUT",
            "The application service did not answer in time.",
        ),
        OutgoingError::Failed(_) => ApiError::new(
            StatusCode::BAD_GATEWAY,
            "M_CONNECTION_FAILED",
            "The application service cannot be reached.",
        ),
    }
}

/// Whom to sign in. The top-level `user` of old clients is not allowed here (MSC2778).
fn identified(app: &App, body: &Object) -> Result<Localpart, ApiError> {
    let identifier = body.object("identifier")?.ok_or_else(|| ApiError::missing_param("identifier"))?;
    if identifier.required_text("type")? != "m.id.user" {
        return Err(ApiError::invalid_param("identifier.type must be m.id.user."));
    }
    // Nobody of another server, or outside the grammar, is in a namespace.
    Localpart::from_login(identifier.required_text("user")?, &app.config.server_name)
        .map_err(|_| exclusive(StatusCode::FORBIDDEN))
}

/// Whether a new user may be this service's: its own, and not kept for another.
fn may_have(app: &App, service: &Arc<ApplicationService>, name: &Localpart) -> bool {
    let server_name = &app.config.server_name;
    service.covers(name, server_name) && !app.application_services.keep(name, server_name, Some(service))
}

fn exclusive(status: StatusCode) -> ApiError {
    ApiError::new(status, "M_EXCLUSIVE", "This user is not in the namespaces of the application service.")
}
