//! `GET /account/whoami`: whose token this is.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::app::App;
use crate::identity::GuestsToo;

/// The answer to "who am I".
#[derive(Serialize)]
pub struct Whoami {
    user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<String>,
    is_guest: bool,
}

/// `GET /account/whoami`.
pub async fn whoami(State(app): State<App>, GuestsToo(identity): GuestsToo) -> Json<Whoami> {
    Json(Whoami {
        user_id: format!("@{}:{}", identity.localpart(), app.config.server_name),
        device_id: identity.device_id().map(|id| id.as_str().to_owned()),
        is_guest: identity.is_guest(),
    })
}
