//! Every URL and its handler, titled by the specification's chapters.
//!
//! Each release of the API names an endpoint under its own prefix; the prefix picks the contract
//! (digest §5). `r0` names are those of `v3` from before v1.1.

use axum::Router;
use axum::routing::{MethodRouter, get, post};

use crate::app::App;
use crate::client_server::{
    account, application_service, deactivate, devices, discovery, login, logout, password, refresh, register,
};
use crate::middleware;

/// The first API of 2014 and 2015, and all later names of what it had.
const SINCE_V1: &[&str] = &["api/v1", "v2_alpha", "r0", "v3", "unstable"];
/// Where `/tokenrefresh` was in 2015 and 2016; it never was in `v3`.
const OF_2015: &[&str] = &["api/v1", "v2_alpha", "r0", "unstable"];
const SINCE_V2: &[&str] = &["v2_alpha", "r0", "v3", "unstable"];
const SINCE_R0: &[&str] = &["r0", "v3", "unstable"];
/// Refresh tokens came as `v1` in the proposal (clients use it) and as `v3` in the specification.
const REFRESH: &[&str] = &["v3", "v1", "r0", "unstable"];
const V1: &[&str] = &["v1", "unstable"];
/// What is newer than the custom of an unstable name for each.
const ONLY_V1: &[&str] = &["v1"];

/// All routes of the public listener.
pub fn router(app: App) -> Router {
    let mut routes = Routes(Router::new());

    // Login
    routes.client(SINCE_V1, "login", get(login::get).post(login::post));
    routes.client(SINCE_V1, "logout", post(logout::post));
    routes.client(SINCE_V1, "logout/all", post(logout::post_all));

    // Refreshing access tokens
    routes.client(REFRESH, "refresh", post(refresh::post));
    if app.config.compat.tokenrefresh {
        routes.client(OF_2015, "tokenrefresh", post(refresh::post_tokenrefresh));
    }

    // Account registration and management
    routes.client(SINCE_V1, "register", post(register::post));
    routes.client(SINCE_R0, "register/available", get(register::available));
    routes.client(V1, "register/m.login.registration_token/validity", get(register::token_validity));
    routes.client(SINCE_V2, "account/password", post(password::post));
    routes.client(SINCE_R0, "account/deactivate", post(deactivate::post));
    routes.client(SINCE_R0, "account/whoami", get(account::whoami));

    // Application services
    routes.client(ONLY_V1, "appservice/{appserviceId}/ping", post(application_service::ping));

    // Device management
    routes.client(SINCE_R0, "devices", get(devices::list));
    routes.client(
        SINCE_R0,
        "devices/{deviceId}",
        get(devices::get).put(devices::put).delete(devices::delete),
    );
    routes.client(SINCE_R0, "delete_devices", post(devices::delete_several));

    // Capabilities and discovery
    routes.client(SINCE_R0, "capabilities", get(discovery::capabilities));
    routes.at("/_matrix/client/versions", get(discovery::versions));
    routes.at("/.well-known/matrix/client", get(discovery::well_known_client));
    routes.at("/.well-known/matrix/support", get(discovery::well_known_support));

    // Operation
    routes.at("/health", get(discovery::health));

    routes
        .0
        .fallback(middleware::no_such_path)
        .method_not_allowed_fallback(middleware::no_such_method)
        .layer(axum::middleware::from_fn_with_state(app.clone(), middleware::every_request))
        .with_state(app)
}

/// The listener for operators.
pub fn metrics_router(app: App) -> Router {
    use axum::extract::State;
    use axum::http::StatusCode;
    use axum::http::header::CONTENT_TYPE;

    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = |State(app): State<App>| async move {
        match app.metrics.text(&app) {
            Ok(text) => Ok(([(CONTENT_TYPE, TEXT)], text)),
            Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR),
        }
    };
    Router::new().route("/metrics", get(text)).with_state(app)
}

struct Routes(Router<App>);

impl Routes {
    fn at(&mut self, path: &str, handlers: MethodRouter<App>) {
        let router = std::mem::take(&mut self.0);
        self.0 = router.route(path, handlers);
    }

    fn client(&mut self, prefixes: &[&str], path: &str, handlers: MethodRouter<App>) {
        for prefix in prefixes {
            self.at(&format!("/_matrix/client/{prefix}/{path}"), handlers.clone());
        }
    }
}
