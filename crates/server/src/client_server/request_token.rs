//! Asking for a message that validates an e-mail address or a phone number (`…/requestToken`), and
//! submitting the code it carries (`submit_url`, MSC4183).
//!
//! Whoever asks gets the same answer whether or not the address belongs to an account: what differs
//! is the message, which only its owner reads.

use axum::Json;
use axum::extract::State;
use axum::routing::{self, MethodRouter};
use data_encoding::HEXLOWER;
use ligand_protocol::UnixMs;
use ligand_protocol::ids::ValidationId;
use ligand_protocol::limits::{CONFLICT_ATTEMPTS_MAX, OUTBOX_MAX, VALIDATION_LIFETIME_MS};
use ligand_protocol::uia::Stage;
use ligand_protocol::validation::{
    Medium, Purpose, Submitted, Validation, canonical_email, is_opaque, secret_hash,
};
use ligand_storage::outbox::Message;
use serde_json::{Map, Value, json};

use super::register;
use crate::app::App;
use crate::error::ApiError;
use crate::extract::{Caller, IfAuthenticated, Object};
use crate::phone;

/// Where the link in a mail leads, and where clients submit the digits of a text message.
pub const SUBMIT_PATH: &str = "/_matrix/client/unstable/org.ligand/validate";

/// What a client is told to wait while too many messages do.
const OUTBOX_FULL_WAIT_MS: i64 = 60_000;

/// Longest link to go on to after an address is validated.
const NEXT_LINK_BYTES_MAX: usize = 2_048;

/// `POST …/requestToken` for one purpose and medium.
pub fn post(purpose: Purpose, medium: Medium) -> MethodRouter<App> {
    // A token is not needed; a bad one is refused all the same (digest §5 C12).
    routing::post(
        move |State(app): State<App>, _: IfAuthenticated, caller: Caller, body: Object| async move {
            let wish = Wish::read(&app, &body, purpose, medium)?;
            let id = ask(&app, &caller, &wish).await?;
            Ok::<_, ApiError>(Json(answer(&app, id, medium)))
        },
    )
}

/// What a client wants validated.
pub struct Wish<'a> {
    pub purpose: Purpose,
    pub medium: Medium,
    pub address: String,
    pub secret: &'a str,
    pub send_attempt: i64,
    pub next_link: Option<String>,
}

impl<'a> Wish<'a> {
    fn read(app: &App, body: &'a Object, purpose: Purpose, medium: Medium) -> Result<Self, ApiError> {
        if purpose == Purpose::Register {
            let flows = register::flows(app)?;
            let asked_for = flows.iter().any(|flow| flow.stages().contains(&stage(medium)));
            if !asked_for {
                return Err(not_supported(purpose));
            }
        }
        let secret = client_secret(body, "client_secret")?;
        let address = canonical(body, medium)?;
        let send_attempt = match body.0.get("send_attempt") {
            None => return Err(ApiError::missing_param("send_attempt")),
            Some(number) => number
                .as_i64()
                .filter(|number| *number >= 0)
                .ok_or_else(|| ApiError::invalid_param("send_attempt must be a whole number."))?,
        };
        let next_link = body.text("next_link")?.map(next_link).transpose()?;
        if !app.mail.is_configured(medium) {
            return Err(not_supported(purpose));
        }
        Ok(Self { purpose, medium, address, secret, send_attempt, next_link })
    }
}

/// The address that a body or a form names, in its canonical form.
///
/// # Errors
/// 400.
pub fn canonical(body: &Object, medium: Medium) -> Result<String, ApiError> {
    match medium {
        Medium::Email => canonical_email(body.required_text("email")?)
            .ok_or_else(|| ApiError::invalid_param("This is not an e-mail address.")),
        Medium::Msisdn => {
            phone::canonical(body.required_text("country")?, body.required_text("phone_number")?)
                .ok_or_else(|| ApiError::invalid_param("This is not a phone number of that country."))
        }
    }
}

/// A `client_secret` that follows the grammar.
///
/// # Errors
/// 400.
pub fn client_secret<'a>(body: &'a Object, key: &str) -> Result<&'a str, ApiError> {
    let secret = body.required_text(key)?;
    if is_opaque(secret) { Ok(secret) } else { Err(ApiError::invalid_param(format!("{key} is malformed."))) }
}

const fn stage(medium: Medium) -> Stage {
    match medium {
        Medium::Email => Stage::EmailIdentity,
        Medium::Msisdn => Stage::Msisdn,
    }
}

/// Only what a browser may be sent on to.
fn next_link(text: &str) -> Result<String, ApiError> {
    let web = text.starts_with("https://") || text.starts_with("http://");
    if web && text.len() <= NEXT_LINK_BYTES_MAX && text.parse::<axum::http::Uri>().is_ok() {
        Ok(text.to_owned())
    } else {
        Err(ApiError::invalid_param("next_link must be an http or https URL."))
    }
}

/// The specification has a code of its own only where an address is added (v1.13, MSC4178).
fn not_supported(purpose: Purpose) -> ApiError {
    const SENTENCE: &str = "This server cannot send such messages.";
    match purpose {
        Purpose::AccountThreepid => ApiError::bad_request("M_THREEPID_MEDIUM_NOT_SUPPORTED", SENTENCE),
        _ => ApiError::forbidden(SENTENCE).with_code("M_THREEPID_DENIED"),
    }
}

fn answer(app: &App, id: ValidationId, medium: Medium) -> Value {
    let mut answer = Map::new();
    answer.insert("sid".to_owned(), HEXLOWER.encode(&id.0).into());
    // A mail's code is in its link: nobody is to type it.
    if medium == Medium::Msisdn {
        let url = format!("{}{SUBMIT_PATH}/msisdn", app.config.public_url());
        answer.insert("submit_url".to_owned(), url.into());
    }
    answer.into()
}

/// Begins a validation, or goes on with the one that this client began, and sends a message where
/// one is due.
///
/// # Errors
/// 429; 503.
pub async fn ask(app: &App, caller: &Caller, wish: &Wish<'_>) -> Result<ValidationId, ApiError> {
    let now = app.clock.now();
    app.limiters.lookup(caller.address, now)?;
    let secret_hash = secret_hash(wish.secret);
    let mut paid = false;
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let found = app.store.find_validation(wish.purpose, wish.medium, &wish.address, secret_hash).await?;
        let (expired, found) = match found {
            Some(found) if now >= found.expires_at => (Some(found.id), None),
            found => (None, found),
        };
        if let Some(found) = &found
            && (found.validated_at.is_some() || !found.sends(wish.send_attempt))
        {
            return Ok(found.id);
        }
        if !paid {
            app.limiters.message(caller.address, &wish.address, now)?;
            if app.store.outbox_depth().await? >= OUTBOX_MAX {
                return Err(ApiError::limited(OUTBOX_FULL_WAIT_MS));
            }
            paid = true;
        }
        let next = Validation {
            id: match &found {
                Some(found) => found.id,
                None => ValidationId(app.random()?),
            },
            secret_hash,
            purpose: wish.purpose,
            medium: wish.medium,
            address: wish.address.clone(),
            send_attempt: wish.send_attempt,
            sent: found.as_ref().map_or(1, |found| found.sent + 1),
            failures: 0,
            next_link: wish.next_link.clone(),
            expires_at: now + VALIDATION_LIFETIME_MS,
            validated_at: None,
        };
        let message = message(app, &next, now).await?;
        let kept = match &found {
            Some(found) => app.store.send_validation_again(found, &next, message.as_ref()).await?,
            None => app.store.begin_validation(&next, expired, message.as_ref(), now).await?,
        };
        if kept {
            app.mail.wake();
            return Ok(next.id);
        }
    }
    Err(ApiError::unavailable("a validation kept changing"))
}

/// What its reader is told; nobody where there is nobody to tell.
async fn message(app: &App, validation: &Validation, now: UnixMs) -> Result<Option<Message>, ApiError> {
    let owner = match app.store.owner_of(validation.medium, &validation.address).await? {
        Some(key) => app.store.load_user(key).await?,
        None => None,
    };
    let code = json!({"validation": HEXLOWER.encode(&validation.id.0), "message": validation.sent});
    let (template, params) = match (validation.purpose, owner) {
        (Purpose::Register, None) => ("validate_register", code),
        (Purpose::AccountThreepid, None) => ("validate_3pid", code),
        (Purpose::AccountPassword, Some(_)) => ("validate_password", code),
        (Purpose::AccountPassword, None) => return Ok(None),
        (_, Some(owner)) => {
            let user_id = format!("@{}:{}", owner.localpart, app.config.server_name);
            ("address_in_use", json!({"user_id": user_id}))
        }
    };
    Ok(Some(Message {
        medium: validation.medium,
        recipient: validation.address.clone(),
        template: template.to_owned(),
        params: params.to_string(),
        created_at: now,
        expires_at: validation.expires_at,
    }))
}

/// `POST` to the submit URL.
pub async fn submit_json(
    State(app): State<App>,
    caller: Caller,
    body: Object,
) -> Result<Json<Value>, ApiError> {
    let secret = client_secret(&body, "client_secret")?;
    submit(&app, &caller, body.required_text("sid")?, Some(secret), body.required_text("token")?).await?;
    Ok(Json(json!({"success": true})))
}

/// Takes a code: the validation as it was, now validated. Whoever follows the link of a mail has no
/// secret; the code behind a link is long enough to need none.
///
/// # Errors
/// 400 `M_TOKEN_INCORRECT`, `M_SESSION_EXPIRED`; 429; 503.
pub async fn submit(
    app: &App,
    caller: &Caller,
    sid: &str,
    secret: Option<&str>,
    code: &str,
) -> Result<Validation, ApiError> {
    let now = app.clock.now();
    app.limiters.lookup(caller.address, now)?;
    let expired =
        || ApiError::bad_request("M_SESSION_EXPIRED", "This has expired. Please ask for a new message.");
    let id = validation_id(sid).ok_or_else(expired)?;
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let found = app.store.load_validation(id).await?.ok_or_else(expired)?;
        let may = match secret {
            Some(secret) => found.is_of(secret),
            None => found.medium == Medium::Email,
        };
        if !may {
            return Err(expired());
        }
        match found.submit(&app.keys, code, now) {
            Submitted::Already => return Ok(found),
            Submitted::Expired => return Err(expired()),
            Submitted::Validated => {
                if app.store.validate(&found, now).await? {
                    return Ok(found);
                }
            }
            Submitted::Wrong => {
                if app.store.count_wrong_code(&found).await? {
                    return Err(ApiError::bad_request("M_TOKEN_INCORRECT", "This code is not right."));
                }
            }
        }
    }
    Err(ApiError::unavailable("a validation kept changing"))
}

/// Reads a `sid`.
#[must_use]
pub fn validation_id(sid: &str) -> Option<ValidationId> {
    Some(ValidationId(HEXLOWER.decode(sid.as_bytes()).ok()?.try_into().ok()?))
}

/// The validation that a client names by `sid` and `client_secret`, if it proves its address for
/// this purpose now.
///
/// # Errors
/// 400 for what is malformed; 503.
pub async fn proved(
    app: &App,
    credentials: &Object,
    purpose: Purpose,
) -> Result<Option<Validation>, ApiError> {
    let secret = match credentials.text("clientSecret")? {
        Some(_) => client_secret(credentials, "clientSecret")?,
        None => client_secret(credentials, "client_secret")?,
    };
    let Some(id) = validation_id(credentials.required_text("sid")?) else { return Ok(None) };
    let found = app.store.load_validation(id).await?;
    let now = app.clock.now();
    Ok(found.filter(|found| found.proves(purpose, found.medium, secret, now)))
}
