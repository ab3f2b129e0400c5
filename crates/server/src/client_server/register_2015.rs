//! Registering stage by stage, as the first API of 2015 had it (digest §1.4, §5 A23): a `type` in
//! each request, `next` and `session` in each answer, and the name and the password as the last
//! stage of all. An adapter over today's stages, on `api/v1` only; today's form, with `auth`, is
//! served there too.

use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use ligand_protocol::uia::{Operation, Refusal, Stage};
use serde_json::{Map, Value, json};

use super::uia::page::{OnPage, Standing};
use super::{application_service, login, register};
use crate::app::App;
use crate::error::ApiError;
use crate::extract::{Caller, Object, ServiceToken, Surface};
use crate::middleware::RequestId;

/// `GET /register`: what is asked for.
pub async fn get(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let flows = register::flows(&app)?;
    let flow = |stages: &[Stage]| {
        let asking = stages.iter().filter(|stage| **stage != Stage::Dummy).map(|stage| stage.as_str());
        let stages: Vec<&str> = asking.chain([login::PASSWORD]).collect();
        match stages[..] {
            [only] => json!({"type": only}),
            _ => json!({"type": stages[0], "stages": stages}),
        }
    };
    let flows: Vec<Value> = flows.iter().map(|each| flow(each.stages())).collect();
    Ok(Json(json!({"flows": flows})))
}

/// `POST /register` in either form.
pub async fn post(
    app: State<App>,
    request_id: Extension<RequestId>,
    query: RawQuery,
    surface: Surface,
    token: ServiceToken,
    caller: Caller,
    body: Object,
) -> Result<Json<Map<String, Value>>, ApiError> {
    let kind = body.text("type")?.map(ToOwned::to_owned);
    match kind.as_deref() {
        Some(login::PASSWORD) if !body.0.contains_key("auth") => {
            let today = as_today(&app, &caller, &body).await.map_err(ApiError::in_2015)?;
            let registered = register::post(app, request_id, query, surface, token, caller, today).await;
            registered.map_err(ApiError::in_2015)
        }
        // No stage: an application service says so in today's form, without `auth`.
        Some(application_service::TYPE) | None => {
            register::post(app, request_id, query, surface, token, caller, body).await
        }
        Some(_) if body.0.contains_key("auth") => {
            register::post(app, request_id, query, surface, token, caller, body).await
        }
        Some(kind) => {
            let done = stage(&app, &caller, request_id.0, kind, &body).await;
            done.map(Json).map_err(ApiError::in_2015)
        }
    }
}

/// One stage before the last; the answer names the one after it.
async fn stage(
    app: &App,
    caller: &Caller,
    request_id: RequestId,
    kind: &str,
    body: &Object,
) -> Result<Map<String, Value>, ApiError> {
    let stage = Stage::parse(kind).ok_or_else(|| ApiError::bad_request("M_UNKNOWN", "Bad login type."))?;
    let mut session = match body.text("session")? {
        Some(name) => match find(app, name).await? {
            Some(session) => session,
            None => return Err(begin_again(app, caller).await?),
        },
        None => OnPage::open(app, caller).await?,
    };
    match session.complete(stage, &auth(stage, body)?, caller, request_id).await? {
        Ok(Standing::Completed) => {
            let next = session.next_stages().into_iter().find(|stage| *stage != Stage::Dummy);
            let mut reply = Map::new();
            reply.insert("session".to_owned(), session.name().into());
            reply.insert("next".to_owned(), next.map_or(login::PASSWORD, Stage::as_str).into());
            Ok(reply)
        }
        Err(failure) => Err(session.challenge(Some((failure.errcode(), failure.to_string())))),
        Ok(Standing::Gone) => Err(begin_again(app, caller).await?),
        Ok(Standing::Due | Standing::OutOfOrder) => Err(out_of_order(&session)),
    }
}

/// The last stage as today's request: all others must be done by now.
async fn as_today(app: &App, caller: &Caller, body: &Object) -> Result<Object, ApiError> {
    let mut auth = Map::new();
    let session = match body.text("session")? {
        Some(name) => match find(app, name).await? {
            Some(session) => session,
            None => return Err(begin_again(app, caller).await?),
        },
        None => OnPage::open(app, caller).await?,
    };
    let next = session.next_stages();
    if next.contains(&Stage::Dummy) {
        auth.insert("type".to_owned(), Stage::Dummy.as_str().into());
    } else if !next.is_empty() {
        return Err(out_of_order(&session));
    }
    auth.insert("session".to_owned(), session.name().into());
    let mut today = Map::new();
    today.insert("auth".to_owned(), auth.into());
    today.insert("password".to_owned(), body.required_text("password")?.into());
    if let Some(user) = body.text("user")? {
        today.insert("username".to_owned(), user.into());
    }
    Ok(Object(today))
}

/// What the stage is given, in today's spelling.
fn auth(stage: Stage, body: &Object) -> Result<Object, ApiError> {
    let mut auth = Map::new();
    let mut copy = |name: &str| {
        if let Some(value) = body.0.get(name) {
            auth.insert(name.to_owned(), value.clone());
        }
    };
    match stage {
        // reCAPTCHA of 2015 had a `challenge` beside it.
        Stage::Recaptcha => copy("response"),
        Stage::RegistrationToken => copy("token"),
        Stage::EmailIdentity | Stage::Msisdn => {
            let given = body.object("threepidCreds")?.unwrap_or_default();
            let mut creds = Map::new();
            for (old, new) in [("sid", "sid"), ("clientSecret", "client_secret"), ("idServer", "id_server")] {
                if let Some(value) = given.text(old)? {
                    creds.insert(new.to_owned(), value.into());
                }
            }
            auth.insert("threepid_creds".to_owned(), creds.into());
        }
        Stage::Password | Stage::Dummy | Stage::Terms => {}
    }
    Ok(Object(auth))
}

async fn find<'a>(app: &'a App, name: &str) -> Result<Option<OnPage<'a>>, ApiError> {
    let found = OnPage::find(app, name).await?;
    Ok(found.filter(|session| session.operation() == Operation::Register))
}

async fn begin_again(app: &App, caller: &Caller) -> Result<ApiError, ApiError> {
    let opened = OnPage::open(app, caller).await?;
    Ok(opened.challenge(Some((Refusal::Gone.errcode(), Refusal::Gone.to_string()))))
}

fn out_of_order(session: &OnPage<'_>) -> ApiError {
    let refusal = Refusal::OutOfOrder;
    session.challenge(Some((refusal.errcode(), refusal.to_string())))
}
