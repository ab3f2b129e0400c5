//! The sign-in page for clients that cannot draw their own: Client-Server API, "Login fallback".
//! The script sends what was typed to `POST /login` and hands the answer to the client's hook,
//! `window.matrixLogin.onLogin` or the `window.onLogin` of 2015.

use axum::extract::State;
use axum::response::Response;
use minijinja::context;

use super::Page;
use crate::app::App;

/// `GET /_matrix/static/client/login/`, and `GET api/v1/login/fallback` as in 2015.
pub async fn get(State(app): State<App>) -> Response {
    app.pages.answer(Ok(Page::new("login.html", context! {})))
}
