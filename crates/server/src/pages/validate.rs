//! Where the link in a mail leads. It confirms an address by being opened; only a password is not
//! reset by that alone: mail servers open links to look for harm, and would confirm for a stranger
//! who asked. There the person presses a button.

use axum::extract::{FromRequest as _, RawQuery, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use ligand_protocol::validation::{Purpose, Validation};
use minijinja::context;

use super::{Page, PageError};
use crate::app::App;
use crate::client_server::request_token::{self, submit, validation_id};
use crate::error::ApiError;
use crate::extract::{Caller, Form, Object, query_param};

/// `GET` of the link.
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    method: Method,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let param = |name| query_param(query.as_deref(), name).unwrap_or_default();
    let (sid, code) = (param("sid"), param("token"));
    // Nobody reads the answer.
    let ahead =
        method == Method::HEAD || headers.contains_key("sec-purpose") || headers.contains_key("purpose");
    let needs_a_click = match validation_id(&sid) {
        Some(id) => app
            .store
            .load_validation(id)
            .await
            .map(|found| found.is_some_and(|v| v.purpose == Purpose::AccountPassword)),
        None => Ok(false),
    };
    match needs_a_click {
        Err(error) => app.pages.answer(Err(ApiError::from(error).into())),
        Ok(click) if click || ahead => {
            app.pages.answer(Ok(Page::new("validate.html", context! { sid, code })))
        }
        Ok(_) => confirm(&app, &caller, &sid, &code).await,
    }
}

/// `POST` of the same: a client's JSON, or the form of the page.
pub async fn post(State(app): State<App>, caller: Caller, request: Request) -> Response {
    let is_form = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    if !is_form {
        return match Object::from_request(request, &()).await {
            Ok(body) => request_token::submit_json(State(app), caller, body).await.into_response(),
            Err(error) => error.into_response(),
        };
    }
    match Form::from_request(request, &()).await {
        Ok(Form(form)) => {
            let field = |name: &str| form.text(name).ok().flatten().unwrap_or_default().to_owned();
            confirm(&app, &caller, &field("sid"), &field("token")).await
        }
        Err(error) => app.pages.answer(Err(error.into())),
    }
}

async fn confirm(app: &App, caller: &Caller, sid: &str, code: &str) -> Response {
    match submit(app, caller, sid, None, code).await {
        Ok(Validation { next_link, .. }) => {
            // Whoever asked chose it, and that may be anybody: the person sees where it leads.
            let uri = next_link.as_deref().and_then(|link| link.parse::<Uri>().ok());
            let host = uri.as_ref().and_then(Uri::host);
            app.pages.answer(Ok(Page::new("validated.html", context! { next_link, host })))
        }
        Err(error) if error.status() == StatusCode::BAD_REQUEST => app.pages.answer(Err(PageError::new(
            StatusCode::BAD_REQUEST,
            "This link does not work any more",
            "It is too old, or a newer message was sent. Please go back to your app and ask for a new one.",
        ))),
        Err(error) => app.pages.answer(Err(error.into())),
    }
}
