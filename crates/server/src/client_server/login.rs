//! Signing in: Client-Server API, "Login"; the 2015 API's `POST /login` on the same rules.
//!
//! Every shape of body that clients have sent since 2015 (digest §5 A9). An unknown user, a wrong
//! password and an account without a password get the same answer after the same work. What proves
//! who signs in is one thing, opening the session is another: the second is the same for all.

use std::net::IpAddr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use ligand_protocol::UnixMs;
use ligand_protocol::ids::{DeviceId, Localpart, UserKey};
use ligand_protocol::limits::AddressKey;
use ligand_protocol::password::NormalisedPassword;
use ligand_protocol::session::AccountState;
use ligand_protocol::token::TokenHash;
use ligand_protocol::validation::{Medium, canonical_email};
use ligand_storage::audit::AuditEvent;
use ligand_storage::sessions::SignIn;
use ligand_storage::users::{PasswordHash, User};
use serde_json::{Map, Value, json};

use super::login_token::{self, TOKEN};
use super::{application_service, signed_in};
use crate::app::App;
use crate::error::ApiError;
use crate::extract::{Caller, Object, ServiceToken, Surface};
use crate::limiters::AccountName;
use crate::mail::notices;
use crate::middleware::RequestId;
use crate::passwords::{Busy, Verdict};
use crate::phone;
use crate::tokens::{self, Grant};

pub const PASSWORD: &str = "m.login.password";

/// `GET /login`: the ways to sign in.
pub async fn get(State(app): State<App>) -> Json<Value> {
    let mut flows = vec![json!({"type": PASSWORD})];
    if app.config.sign_in.login_tokens {
        flows.push(json!({"type": TOKEN, "get_login_token": true}));
    }
    if !app.application_services.is_empty() {
        flows.push(json!({"type": application_service::TYPE}));
    }
    Json(json!({"flows": flows}))
}

/// What a body offers as proof of who signs in.
enum Credentials<'a> {
    Password { name: Identifier, password: &'a str },
    Token(&'a str),
}

/// Who proved to be whom, as the account was then.
pub(super) struct Proved {
    pub user: User,
    /// A hash to store instead of an outdated one.
    pub rehashed: Option<PasswordHash>,
    /// The login token to use up with the sign-in.
    pub login_token: Option<TokenHash>,
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
    let credentials = credentials(app, body, surface)?;
    let device = device(app, body)?;
    let name_of_new_device = display_name(body)?;
    let grant = wanted_grant(app, body, surface)?;

    let Proved { user, rehashed, login_token } = prove(app, credentials, caller, request, now).await?;
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
        notice: notices::sign_in(
            &app.config,
            &user.localpart,
            (&device_id, name_of_new_device.as_deref()),
            caller,
            now,
        ),
        ..caller.event("sign_in", now)
    };
    let reply = signed_in(app, &user.localpart, device_id.as_str(), &issued);
    let sign_in = SignIn {
        user: user.key,
        verified: user.verified(),
        login_token,
        rehashed: rehashed.map(|hash| hash.0),
        device_id,
        device_named,
        initial_device_display_name: name_of_new_device,
        opened,
        audit: event,
    };
    if !app.store.sign_in(&sign_in).await? {
        let otherwise = login_token.map_or_else(ApiError::wrong_password, |_| login_token::wrong_token());
        return Err(changed_meanwhile(app, &user, otherwise).await?);
    }
    app.mail.wake();
    app.metrics.signed_in("success");
    Ok(Json(reply))
}

/// By the type, which may be left out where the API of 2015 did not know it.
fn credentials<'a>(app: &App, body: &'a Object, surface: Surface) -> Result<Credentials<'a>, ApiError> {
    match body.text("type")? {
        None if surface != Surface::Old => Err(ApiError::missing_param("type")),
        None | Some(PASSWORD) => {
            let missing = if surface == Surface::Old { "username" } else { "identifier" };
            let name = named(body)?.ok_or_else(|| ApiError::missing_param(missing))?;
            Ok(Credentials::Password { name, password: body.required_text("password")? })
        }
        Some(TOKEN) if app.config.sign_in.login_tokens => {
            Ok(Credentials::Token(body.required_text("token")?))
        }
        Some(_) => Err(ApiError::bad_request("M_UNKNOWN", "Bad login type.")),
    }
}

/// Who signs in, as a person names themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identifier {
    /// A user ID or its localpart.
    User(String),
    /// An address in its canonical form; an empty one belongs to nobody.
    Address(Medium, String),
}

impl Identifier {
    fn user(text: &str) -> Self {
        Self::User(text.to_owned())
    }

    /// The text that limits go by.
    fn typed(&self) -> &str {
        match self {
            Self::User(text) | Self::Address(_, text) => text,
        }
    }
}

async fn prove(
    app: &App,
    credentials: Credentials<'_>,
    caller: &Caller,
    request: RequestId,
    now: UnixMs,
) -> Result<Proved, ApiError> {
    match credentials {
        Credentials::Password { name, password } => {
            let (user, rehashed) = verify(app, &name, password, caller, request, now).await?;
            Ok(Proved { user, rehashed, login_token: None })
        }
        Credentials::Token(token) => {
            let proved = login_token::verify(app, token, now).await;
            if proved.as_ref().is_err_and(|error| error.status() == StatusCode::FORBIDDEN) {
                app.metrics.signed_in("wrong");
                security_line(caller, "-", request, "wrong login token");
            }
            proved
        }
    }
}

/// Who signs in: `identifier` before `user` before `username`. `None` if nobody is named.
///
/// # Errors
/// 400 for a malformed or unknown identifier.
pub fn named(body: &Object) -> Result<Option<Identifier>, ApiError> {
    if let Some(identifier) = body.object("identifier")? {
        let third_party = identifier.0.contains_key("medium") && identifier.0.contains_key("address");
        return match identifier.text("type")? {
            Some("m.id.user") => identifier.required_text("user").map(|user| Some(Identifier::user(user))),
            Some("m.id.thirdparty") => address(&identifier).map(Some),
            Some("m.id.phone") => {
                let (country, number) = (identifier.required_text("country")?, phone_number(&identifier)?);
                let canonical = phone::canonical(country, number).unwrap_or_default();
                Ok(Some(Identifier::Address(Medium::Msisdn, canonical)))
            }
            None if third_party => address(&identifier).map(Some),
            None => Err(ApiError::missing_param("identifier.type")),
            Some(_) => Err(ApiError::bad_request("M_UNKNOWN", "Unknown identifier type.")),
        };
    }
    if let Some(user) = body.text("user")? {
        return Ok(Some(Identifier::user(user)));
    }
    if body.0.contains_key("medium") && body.0.contains_key("address") {
        return address(body).map(Some);
    }
    Ok(body.text("username")?.map(Identifier::user))
}

/// `phone` since the first release; `number` before.
fn phone_number(identifier: &Object) -> Result<&str, ApiError> {
    match identifier.text("phone")? {
        Some(phone) => Ok(phone),
        None => identifier.text("number")?.ok_or_else(|| ApiError::missing_param("identifier.phone")),
    }
}

fn address(identifier: &Object) -> Result<Identifier, ApiError> {
    let address = identifier.required_text("address")?;
    Ok(match Medium::parse(identifier.required_text("medium")?) {
        Some(Medium::Email) => {
            Identifier::Address(Medium::Email, canonical_email(address).unwrap_or_default())
        }
        Some(Medium::Msisdn) => {
            let digits = Some(address.trim_start_matches('+')).filter(|digits| phone::is_canonical(digits));
            Identifier::Address(Medium::Msisdn, digits.unwrap_or_default().to_owned())
        }
        // An unknown medium looks like any unknown user.
        None => Identifier::Address(Medium::Email, String::new()),
    })
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
    named: &Identifier,
    password: &str,
    caller: &Caller,
    request: RequestId,
    now: UnixMs,
) -> Result<(User, Option<PasswordHash>), ApiError> {
    let localpart = match named {
        Identifier::User(text) => Localpart::from_login(text, &app.config.server_name).ok(),
        Identifier::Address(..) => None,
    };
    let user = match (&localpart, named) {
        (Some(localpart), _) => app.store.find_user(localpart).await?,
        (None, Identifier::Address(medium, address)) => {
            app.store.find_user_by_address(*medium, address).await?
        }
        (None, Identifier::User(_)) => None,
    };
    // By what was typed, so that the delay does not tell which accounts exist.
    let typed = AccountName::of(localpart.as_ref().map_or(named.typed(), Localpart::as_str));
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
pub(super) async fn changed_meanwhile(
    app: &App,
    user: &User,
    otherwise: ApiError,
) -> Result<ApiError, ApiError> {
    let state = app.store.load_user(user.key).await?.map(|user| user.state);
    Ok(match state {
        Some(AccountState::Locked) => ApiError::user_locked(),
        Some(AccountState::Deactivated) => ApiError::user_deactivated(),
        _ => otherwise,
    })
}

/// Whether an error is the one for wrong credentials.
pub(super) fn is_wrong_password(error: &ApiError) -> bool {
    error.status() == StatusCode::FORBIDDEN
}
