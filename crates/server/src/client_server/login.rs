//! Signing in: Client-Server API, "Login"; the 2015 API's `POST /login` on the same rules.
//!
//! Every shape of body that clients have sent since 2015 (digest §5 A9). An unknown user, a wrong
//! password and an account without a password get the same answer after the same work.

use std::net::IpAddr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use ligand_protocol::UnixMs;
use ligand_protocol::ids::{DeviceId, Localpart, UserKey};
use ligand_protocol::limits::AddressKey;
use ligand_protocol::password::NormalisedPassword;
use ligand_protocol::session::AccountState;
use ligand_storage::audit::AuditEvent;
use ligand_storage::sessions::SignIn;
use ligand_storage::users::{PasswordHash, User};
use serde_json::{Map, Value, json};

use super::{application_service, signed_in};
use crate::app::App;
use crate::error::ApiError;
use crate::extract::{Caller, Object, ServiceToken, Surface};
use crate::limiters::AccountName;
use crate::middleware::RequestId;
use crate::passwords::{Busy, Verdict};
use crate::tokens::{self, Grant};

pub const PASSWORD: &str = "m.login.password";

/// `GET /login`: the ways to sign in.
pub async fn get(State(app): State<App>) -> Json<Value> {
    let mut flows = vec![json!({"type": PASSWORD})];
    if !app.application_services.is_empty() {
        flows.push(json!({"type": application_service::TYPE}));
    }
    Json(json!({"flows": flows}))
}

/// `POST /login`.
pub async fn post(
    State(app): State<App>,
    Extension(request): Extension<RequestId>,
    surface: Surface,
    token: ServiceToken,
    caller: Caller,
    body: Result<Object, ApiError>,
) -> Result<Json<Map<String, Value>>, ApiError> {
    let signed_in = async {
        let body = body?;
        if body.text("type")? == Some(application_service::TYPE) {
            return application_service::sign_in(&app, token, surface, &caller, &body).await;
        }
        sign_in(&app, request, surface, &caller, &body).await
    };
    signed_in.await.map_err(|error| if surface == Surface::Old { error.in_2015() } else { error })
}

async fn sign_in(
    app: &App,
    request: RequestId,
    surface: Surface,
    caller: &Caller,
    body: &Object,
) -> Result<Json<Map<String, Value>>, ApiError> {
    let now = app.clock.now();
    if let Err(limited) = app.limiters.login(caller.address, now) {
        app.metrics.signed_in("limited");
        security_line(caller, "-", request, "refused: too many tries from this address");
        return Err(limited);
    }
    check_type(body, surface)?;
    let named = if surface == Surface::Old { "username" } else { "identifier" };
    let name = user_name(body)?.ok_or_else(|| ApiError::missing_param(named))?;
    let password = body.required_text("password")?;
    let device = device(app, body)?;
    let name_of_new_device = display_name(body)?;
    let grant = wanted_grant(app, body, surface)?;

    let (user, rehashed) = verify(app, &name, password, caller, request, now).await?;
    if user.state == AccountState::Locked {
        app.metrics.signed_in("locked");
        return Err(ApiError::user_locked());
    }
    let (opened, issued) = tokens::open(app, grant, caller, now)?;
    let (device_id, device_named) = device;
    let event = AuditEvent {
        actor: Some(user.localpart.clone()),
        user: Some(user.key),
        session: Some(opened.id),
        ..caller.event("sign_in", now)
    };
    let reply = signed_in(app, &user.localpart, device_id.as_str(), &issued);
    let sign_in = SignIn {
        user: user.key,
        verified: user.verified(),
        rehashed: rehashed.map(|hash| hash.0),
        device_id,
        device_named,
        initial_device_display_name: name_of_new_device,
        opened,
        audit: event,
    };
    if !app.store.sign_in(&sign_in).await? {
        return Err(changed_meanwhile(app, &user).await?);
    }
    app.metrics.signed_in("success");
    Ok(Json(reply))
}

/// The only type there is; it may be left out where the API of 2015 did not know it.
fn check_type(body: &Object, surface: Surface) -> Result<(), ApiError> {
    match body.text("type")? {
        Some(PASSWORD) => Ok(()),
        None if surface == Surface::Old => Ok(()),
        None => Err(ApiError::missing_param("type")),
        Some(_) => Err(ApiError::bad_request("M_UNKNOWN", "Bad login type.")),
    }
}

/// Who signs in: `identifier` before `user` before `username`. `None` if nobody is named. Third-party
/// identifiers are nobody's here, which looks like any unknown user.
///
/// # Errors
/// 400 for a malformed or unknown identifier.
pub fn user_name(body: &Object) -> Result<Option<String>, ApiError> {
    let unknown = || Ok(Some(String::new()));
    if let Some(identifier) = body.object("identifier")? {
        let third_party = identifier.0.contains_key("medium") && identifier.0.contains_key("address");
        return match identifier.text("type")? {
            Some("m.id.user") => identifier.required_text("user").map(|user| Some(user.to_owned())),
            Some("m.id.thirdparty" | "m.id.phone") => unknown(),
            None if third_party => unknown(),
            None => Err(ApiError::missing_param("identifier.type")),
            Some(_) => Err(ApiError::bad_request("M_UNKNOWN", "Unknown identifier type.")),
        };
    }
    if let Some(user) = body.text("user")? {
        return Ok(Some(user.to_owned()));
    }
    if body.0.contains_key("medium") && body.0.contains_key("address") {
        return unknown();
    }
    Ok(body.text("username")?.map(ToOwned::to_owned))
}

/// The device to sign in on, and whether the client named it.
///
/// # Errors
/// 400 for an ID outside the grammar; 503 without randomness.
pub(super) fn device(app: &App, body: &Object) -> Result<(DeviceId, bool), ApiError> {
    match body.text("device_id")?.filter(|id| !id.is_empty()) {
        Some(id) => {
            let id = DeviceId::parse(id)
                .map_err(|_| ApiError::invalid_param("device_id is not a valid device ID."))?;
            Ok((id, true))
        }
        None => Ok((DeviceId::generate(app.random()?), false)),
    }
}

/// # Errors
/// 400 when it is too long.
pub(super) fn display_name(body: &Object) -> Result<Option<String>, ApiError> {
    body.text("initial_device_display_name")?.map(super::devices::display_name).transpose()
}

/// Which tokens the path and the body ask for (digest §5 A7, B1).
///
/// # Errors
/// 400 when `refresh_token` is neither true nor false.
pub(super) fn wanted_grant(app: &App, body: &Object, surface: Surface) -> Result<Grant, ApiError> {
    Ok(match (body.flag("refresh_token")?, surface) {
        (Some(true), _) | (None, Surface::Old) => Grant::Refreshable,
        (None, Surface::R0) if app.config.compat.r0_always_refresh_token => Grant::LastingWithRefresh,
        _ => Grant::Unrefreshable,
    })
}

/// Verifies a name and a password: one hash, whoever is named. Returns the account and a hash to
/// store instead of an outdated one.
///
/// # Errors
/// 403, 429 for limits and a full queue.
pub(super) async fn verify(
    app: &App,
    name: &str,
    password: &str,
    caller: &Caller,
    request: RequestId,
    now: UnixMs,
) -> Result<(User, Option<PasswordHash>), ApiError> {
    let localpart = Localpart::from_login(name, &app.config.server_name).ok();
    let user = match &localpart {
        Some(localpart) => app.store.find_user(localpart).await?,
        None => None,
    };
    // By what was typed, so that the delay does not tell which accounts exist.
    let typed = AccountName::of(localpart.as_ref().map_or(name, Localpart::as_str));
    let admitted = app.limiters.account(typed, now);
    // The same look-up for everybody, so that its time does not tell either.
    if let Err(delayed) = &admitted
        && !is_known_address(app, user.as_ref(), caller).await?
    {
        app.metrics.signed_in("limited");
        let shown = user.as_ref().map_or("-", |user| &user.localpart);
        security_line(caller, shown, request, "refused: too many tries at this account");
        return Err(ApiError::limited(*delayed));
    }
    let known_name = user.as_ref().map(|user| user.localpart.clone());
    let hash = user.as_ref().and_then(|user| user.password_hash.clone());
    let verdict = match NormalisedPassword::presented(password) {
        Ok(password) => app.passwords.verify(password, hash, app.random()?).await,
        Err(_) => Ok(Verdict::Wrong),
    };
    let right = verdict.as_ref().ok().map(|verdict| matches!(verdict, Verdict::Right { .. }));
    if admitted.is_ok() || right == Some(true) {
        app.limiters.account_settled(typed, right, now);
    }
    match (verdict, user) {
        (Ok(Verdict::Right { rehashed }), Some(user)) => Ok((user, rehashed)),
        (Err(Busy), _) => {
            app.metrics.signed_in("busy");
            Err(ApiError::limited(2_000))
        }
        _ => {
            app.metrics.signed_in("wrong");
            // A name that is none of ours may be a password typed into the wrong field.
            security_line(
                caller,
                known_name.as_deref().unwrap_or("-"),
                request,
                "wrong user name or password",
            );
            Err(ApiError::wrong_password())
        }
    }
}

/// Whether the account was used from this address lately; IPv6 by its network, as everywhere.
async fn is_known_address(app: &App, user: Option<&User>, caller: &Caller) -> Result<bool, ApiError> {
    // No account has this key.
    let key = user.map_or(UserKey(-1), |user| user.key);
    let network = AddressKey::from(caller.address);
    let seen = app.store.addresses_of(key).await?;
    Ok(seen.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()).any(|ip| AddressKey::from(ip) == network))
}

/// The line that fail2ban reads.
fn security_line(caller: &Caller, user: &str, request: RequestId, why: &'static str) {
    tracing::warn!(
        target: "ligand::security",
        address = %caller.address,
        user,
        why,
        %request,
        "failed sign-in"
    );
}

/// The account changed between the verification and the commit.
pub(super) async fn changed_meanwhile(app: &App, user: &User) -> Result<ApiError, ApiError> {
    let state = app.store.load_user(user.key).await?.map(|user| user.state);
    Ok(match state {
        Some(AccountState::Locked) => ApiError::user_locked(),
        Some(AccountState::Deactivated) => ApiError::user_deactivated(),
        _ => ApiError::wrong_password(),
    })
}

/// Whether an error is the one for wrong credentials.
pub(super) fn is_wrong_password(error: &ApiError) -> bool {
    error.status() == StatusCode::FORBIDDEN
}
