//! What a client asks before and beside everything else: versions, capabilities, the well-known
//! files, health.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ligand_protocol::session::Api;
use ligand_protocol::validation::Medium;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::identity::Identity;

/// The releases that had `/tokenrefresh`; they are not claimed where it is switched off.
const WITH_TOKENREFRESH: [&str; 3] = ["r0.0.1", "r0.1.0", "r0.2.0"];
/// Every later release that these endpoints follow. `v1.0` never existed for clients, and v1.20
/// removes the access token in the query, which is still served.
const VERSIONS: [&str; 24] = [
    "r0.3.0", "r0.4.0", "r0.5.0", "r0.6.0", "r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7",
    "v1.8", "v1.9", "v1.10", "v1.11", "v1.12", "v1.13", "v1.14", "v1.15", "v1.16", "v1.17", "v1.18", "v1.19",
];

/// `GET /_matrix/client/versions`.
pub async fn versions(State(app): State<App>) -> Json<Value> {
    let old: &[&str] = if app.config.compat.tokenrefresh { &WITH_TOKENREFRESH } else { &[] };
    let versions: Vec<&str> = old.iter().chain(&VERSIONS).copied().collect();
    Json(json!({"versions": versions, "unstable_features": {}}))
}

/// `GET /capabilities`.
pub async fn capabilities(State(app): State<App>, identity: Identity) -> Json<Value> {
    // Who is signed in may ask for more than whoever an application service acts as.
    let session = match &identity {
        Identity::Session(session) => Some(session),
        Identity::Asserted(_) => None,
    };
    let get_login_token =
        app.config.sign_in.login_tokens && session.is_some_and(|session| session.api == Api::Legacy);
    // An address is added by a message to it.
    let threepid_changes =
        [Medium::Email, Medium::Msisdn].into_iter().any(|medium| app.mail.is_configured(medium));
    let mut capabilities = json!({
        "m.change_password": {"enabled": true},
        "m.3pid_changes": {"enabled": threepid_changes},
        "m.get_login_token": {"enabled": get_login_token},
    });
    // Left out where nothing of it is allowed.
    if session.is_some_and(|session| session.user.admin && !session.user.suspended) {
        capabilities["m.account_moderation"] = json!({"suspend": true, "lock": true});
    }
    Json(json!({"capabilities": capabilities}))
}

/// `GET /.well-known/matrix/client`.
pub async fn well_known_client(State(app): State<App>) -> Json<Value> {
    Json(json!({"m.homeserver": {"base_url": app.config.public_url()}}))
}

/// `GET /.well-known/matrix/support`; 404 where the operator named nobody.
pub async fn well_known_support(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let support = &app.config.support;
    let mut body = Map::new();
    if !support.contacts.is_empty() {
        let contacts: Vec<Value> = support
            .contacts
            .iter()
            .map(|contact| {
                let mut body = Map::new();
                body.insert("role".to_owned(), contact.role.as_str().into());
                let optional = [("matrix_id", &contact.matrix_id), ("email_address", &contact.email_address)];
                for (key, value) in optional {
                    if let Some(value) = value {
                        body.insert(key.to_owned(), value.as_str().into());
                    }
                }
                Value::Object(body)
            })
            .collect();
        body.insert("contacts".to_owned(), contacts.into());
    }
    if let Some(page) = &support.support_page {
        body.insert("support_page".to_owned(), page.as_str().into());
    }
    if body.is_empty() {
        return Err(ApiError::not_found("No support contacts are configured."));
    }
    Ok(Json(Value::Object(body)))
}

/// `GET /health`: 200 only when requests can be served.
pub async fn health(State(app): State<App>) -> Response {
    if app.store.healthy().await {
        (StatusCode::OK, Json(json!({"status": "ok"}))).into_response()
    } else {
        ApiError::unavailable("the database does not answer").into_response()
    }
}
