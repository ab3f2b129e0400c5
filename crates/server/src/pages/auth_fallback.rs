//! Fallback pages of user-interactive authentication: Client-Server API, "Fallback". One for each
//! stage, for clients that cannot draw it themselves; the last tells the client that it is done.
//!
//! What a stage proves is kept in its session and found there by the client's next request. The
//! session in the address is the only credential, as it is for the client: see `origin`.

use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::ACCEPT_LANGUAGE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use ligand_protocol::uia::{Operation, Stage};
use ligand_protocol::validation::Medium;
use minijinja::{Value, context};
use serde_json::{Map, json};

use super::{Page, PageError, auth_address, origin};
use crate::app::App;
use crate::captcha;
use crate::client_server::uia::page::{OnPage, Standing};
use crate::config::Policy;
use crate::error::ApiError;
use crate::extract::{Caller, Form, Object, query_param};
use crate::middleware::RequestId;

/// `GET auth/{type}/fallback/web`.
pub async fn get(
    State(app): State<App>,
    Path(kind): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let page = async {
        let (stage, session) = named(&app, &kind, query.as_deref()).await?;
        shown(&app, stage, &session, &headers, session.standing(stage, app.clock.now())).await
    };
    app.pages.answer(page.await)
}

/// `POST auth/{type}/fallback/web`: the form of such a page.
pub async fn post(
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    caller: Caller,
    Path(kind): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    form: Result<Form, ApiError>,
) -> Response {
    let page = async {
        if !origin::is_ours(&headers, &app.config.public_url()) {
            return Err(from_elsewhere());
        }
        // Every form makes work in the database.
        app.limiters.lookup(caller.address, app.clock.now())?;
        let (stage, mut session) = named(&app, &kind, query.as_deref()).await?;
        let Form(fields) = form?;
        if let Some(medium) = auth_address::medium(stage)
            && session.standing(stage, app.clock.now()) == Standing::Due
        {
            // Without a way to send messages, the form says so.
            let sent = match app.mail.is_configured(medium) {
                true => auth_address::ask(&app, &caller, &session, medium, &fields).await?,
                false => Some(String::new()),
            };
            if sent.is_some() {
                return self::form(&app, stage, &session, &headers, None, sent).await;
            }
        }
        let auth = auth(&app, stage, &session, &caller, &fields).await?;
        match session.complete(stage, &auth, &caller, request_id).await? {
            Ok(standing) => shown(&app, stage, &session, &headers, standing).await,
            Err(failure) => {
                let sid = fields.text("sid")?.map(ToOwned::to_owned);
                let again =
                    self::form(&app, stage, &session, &headers, Some(failure.to_string()), sid).await?;
                Ok(Page { status: StatusCode::UNAUTHORIZED, ..again })
            }
        }
    };
    app.pages.answer(page.await)
}

/// The stage that the path names and the session that the query names.
async fn named<'a>(app: &'a App, kind: &str, query: Option<&str>) -> Result<(Stage, OnPage<'a>), PageError> {
    let stage = Stage::parse(kind).ok_or_else(|| {
        PageError::new(StatusCode::NOT_FOUND, "There is no such step", "This server does not know this step.")
    })?;
    let name = query_param(query, "session").ok_or_else(|| {
        PageError::new(
            StatusCode::BAD_REQUEST,
            "The address is not complete",
            "It does not say what it belongs to. Please go back to your app and begin again.",
        )
    })?;
    let session = OnPage::find(app, &name).await?.ok_or_else(ended)?;
    Ok((stage, session))
}

/// What there is to see of a stage.
async fn shown(
    app: &App,
    stage: Stage,
    session: &OnPage<'_>,
    headers: &HeaderMap,
    standing: Standing,
) -> Result<Page, PageError> {
    match standing {
        Standing::Due => form(app, stage, session, headers, None, None).await,
        Standing::Completed => Ok(Page::new("auth/done.html", context! {})),
        Standing::OutOfOrder => Err(out_of_order()),
        Standing::Gone => Err(ended()),
    }
}

/// The form of a stage; with what was wrong the last time.
async fn form(
    app: &App,
    stage: Stage,
    session: &OnPage<'_>,
    headers: &HeaderMap,
    problem: Option<String>,
    sid: Option<String>,
) -> Result<Page, PageError> {
    let owner = owner(app, session).await?;
    let purpose = purpose(session.operation());
    let common = context! { session => session.name(), purpose, owner, problem };
    let page = |template, values: Value| Ok(Page::new(template, context! { ..values, ..common }));
    match stage {
        Stage::Password => page("auth/password.html", context! {}),
        Stage::Dummy => page("auth/dummy.html", context! {}),
        Stage::RegistrationToken => page("auth/registration_token.html", context! {}),
        Stage::Terms => page("auth/terms.html", context! { policies => policies(app, headers) }),
        Stage::Recaptcha => {
            let widget = captcha::widget(&app.config.captcha).ok_or_else(|| cannot_send("captchas"))?;
            let captcha::Widget { script_url, class, site_key, .. } = widget;
            let page = page("auth/captcha.html", context! { script_url, class, site_key })?;
            Ok(Page { sources: widget.sources, ..page })
        }
        Stage::EmailIdentity if app.mail.is_configured(Medium::Email) => {
            page("auth/address.html", context! { email => true, sid })
        }
        Stage::Msisdn if app.mail.is_configured(Medium::Msisdn) => {
            page("auth/address.html", context! { email => false, sid })
        }
        Stage::EmailIdentity => Err(cannot_send("e-mail")),
        Stage::Msisdn => Err(cannot_send("text messages")),
    }
}

/// The form's fields, as the `auth` of a request would have them.
async fn auth(
    app: &App,
    stage: Stage,
    session: &OnPage<'_>,
    caller: &Caller,
    form: &Object,
) -> Result<Object, PageError> {
    let field = |name: &str| form.text(name).ok().flatten().unwrap_or_default().trim().to_owned();
    let mut auth = Map::new();
    match stage {
        Stage::Password => {
            let user = owner(app, session).await?.unwrap_or_default();
            auth.insert("identifier".to_owned(), json!({"type": "m.id.user", "user": user}));
            // As it was typed: spaces are part of a password.
            let password = form.text("password")?.unwrap_or_default();
            auth.insert("password".to_owned(), password.into());
        }
        Stage::RegistrationToken => {
            auth.insert("token".to_owned(), field("token").into());
        }
        Stage::Recaptcha => {
            let answer = captcha::widget(&app.config.captcha).map(|widget| field(widget.field));
            auth.insert("response".to_owned(), answer.into());
        }
        Stage::EmailIdentity | Stage::Msisdn => auth = auth_address::auth(app, caller, session, form).await?,
        Stage::Dummy | Stage::Terms => {}
    }
    Ok(Object(auth))
}

/// The whole ID of whoever the session belongs to.
async fn owner(app: &App, session: &OnPage<'_>) -> Result<Option<String>, ApiError> {
    let Some(key) = session.user() else { return Ok(None) };
    let user = app.store.load_user(key).await?;
    Ok(user.map(|user| format!("@{}:{}", user.localpart, app.config.server_name)))
}

/// What the person is about to confirm. Whoever sent them here may have said something else.
const fn purpose(operation: Operation) -> &'static str {
    match operation {
        Operation::Register => "You are creating an account on",
        Operation::AccountPassword => "You are about to change the password of",
        Operation::AccountDeactivate => "You are about to close, for good, the account",
        Operation::DeleteDevice | Operation::DeleteDevices => "You are about to sign out devices of",
        Operation::AddThreepid => "You are about to add an e-mail address or phone number to",
        Operation::LoginToken => "You are about to sign in another device of",
    }
}

/// Each policy in the language that the browser prefers, else in English, else in any.
fn policies(app: &App, headers: &HeaderMap) -> Vec<Value> {
    let preferred = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wanted: Vec<&str> =
        preferred.split(',').filter_map(|part| part.split([';', '-']).next()).map(str::trim).collect();
    let text = |policy: &Policy| {
        let mut languages = wanted.iter().copied().chain(["en"]);
        let chosen = languages.find_map(|language| policy.texts.get_key_value(language));
        let (language, text) = chosen.or_else(|| policy.texts.first_key_value())?;
        Some(context! { language, name => text.name, url => text.url })
    };
    app.config.registration.terms.iter().filter_map(text).collect()
}

fn out_of_order() -> PageError {
    PageError::new(
        StatusCode::BAD_REQUEST,
        "This is not the next step",
        "Another step comes first. Please go back to your app.",
    )
}

fn ended() -> PageError {
    PageError::new(
        StatusCode::BAD_REQUEST,
        "This has ended",
        "It took too long, or it is done already. Please go back to your app and begin again.",
    )
}

fn from_elsewhere() -> PageError {
    PageError::new(
        StatusCode::FORBIDDEN,
        "This came from another site",
        "Only this page itself can send this form. Please go back to your app and begin again.",
    )
}

fn cannot_send(what: &str) -> PageError {
    PageError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "This step cannot be done here",
        format!("This server is not set up for {what}. Please tell whoever runs it."),
    )
}
