//! Every URL and its handler, titled by the specification's chapters.
//!
//! Each release of the API names an endpoint under its own prefix; the prefix picks the contract
//! (digest §5). `r0` names are those of `v3` from before v1.1.

use axum::Router;
use axum::routing::{MethodRouter, get, post};

use ligand_protocol::validation::{Medium, Purpose};

use crate::app::App;
use crate::client_server::{
    account, admin, application_service, deactivate, devices, discovery, login, login_token, logout, openid,
    password, refresh, register, register_2015, request_token, threepid,
};
use crate::pages::{assets, auth_fallback, login_fallback, validate};
use crate::{middleware, openapi};

/// The first API of 2014 and 2015, and all later names of what it had.
const SINCE_V1: &[&str] = &["api/v1", "v2_alpha", "r0", "v3", "unstable"];
/// Where `/tokenrefresh` was in 2015 and 2016; it never was in `v3`.
const OF_2015: &[&str] = &["api/v1", "v2_alpha", "r0", "unstable"];
/// Of which nothing was left in the second version.
const OF_V1: &[&str] = &["api/v1"];
const SINCE_V2: &[&str] = &["v2_alpha", "r0", "v3", "unstable"];
const SINCE_R0: &[&str] = &["r0", "v3", "unstable"];
/// Refresh tokens came as `v1` in the proposal (clients use it) and as `v3` in the specification.
const REFRESH: &[&str] = &["v3", "v1", "r0", "unstable"];
const V1: &[&str] = &["v1", "unstable"];
/// Of our own.
const UNSTABLE: &[&str] = &["unstable"];
/// What is newer than the custom of an unstable name for each.
const ONLY_V1: &[&str] = &["v1"];

/// All routes of the public listener.
pub fn router(app: App) -> Router {
    let mut routes = Routes(Router::new());

    // Login
    routes.client(SINCE_V1, "login", get(login::get).post(login::post));
    routes.client(V1, "login/get_token", post(login_token::post));
    routes.at("/_matrix/static/client/login/", get(login_fallback::get));
    routes.client(OF_V1, "login/fallback", get(login_fallback::get));
    routes.client(SINCE_V1, "logout", post(logout::post));
    routes.client(SINCE_V1, "logout/all", post(logout::post_all));

    // Refreshing access tokens
    routes.client(REFRESH, "refresh", post(refresh::post));
    if app.config.compat.tokenrefresh {
        routes.client(OF_2015, "tokenrefresh", post(refresh::post_tokenrefresh));
    }

    // Account registration and management
    routes.client(SINCE_V2, "register", post(register::post));
    routes.client(OF_V1, "register", get(register_2015::get).post(register_2015::post));
    routes.client(SINCE_R0, "register/available", get(register::available));
    routes.client(V1, "register/m.login.registration_token/validity", get(register::token_validity));
    routes.client(SINCE_V2, "account/password", post(password::post));
    routes.client(SINCE_R0, "account/deactivate", post(deactivate::post));
    routes.client(SINCE_R0, "account/whoami", get(account::whoami));

    // Adding account administrative contact information
    let (email, msisdn) = (Medium::Email, Medium::Msisdn);
    routes.client(SINCE_R0, "register/email/requestToken", request_token::post(Purpose::Register, email));
    routes.client(SINCE_R0, "register/msisdn/requestToken", request_token::post(Purpose::Register, msisdn));
    routes.client(
        SINCE_R0,
        "account/password/email/requestToken",
        request_token::post(Purpose::AccountPassword, email),
    );
    routes.client(
        SINCE_R0,
        "account/password/msisdn/requestToken",
        request_token::post(Purpose::AccountPassword, msisdn),
    );
    routes.client(
        SINCE_R0,
        "account/3pid/email/requestToken",
        request_token::post(Purpose::AccountThreepid, email),
    );
    routes.client(
        SINCE_R0,
        "account/3pid/msisdn/requestToken",
        request_token::post(Purpose::AccountThreepid, msisdn),
    );
    routes.client(SINCE_V2, "account/3pid", get(threepid::list).post(threepid::add_deprecated));
    routes.client(SINCE_R0, "account/3pid/add", post(threepid::add));
    routes.client(SINCE_R0, "account/3pid/bind", post(threepid::bind));
    routes.client(SINCE_R0, "account/3pid/delete", post(threepid::delete));
    routes.client(SINCE_R0, "account/3pid/unbind", post(threepid::unbind));
    routes.client(UNSTABLE, "org.ligand/validate/email", get(validate::get).post(validate::post));
    routes.client(UNSTABLE, "org.ligand/validate/msisdn", post(request_token::submit_json));

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

    // Server administration
    routes.client(SINCE_R0, "admin/whois/{userId}", get(admin::whois));
    routes.client(V1, "admin/suspend/{userId}", get(admin::get_suspended).put(admin::put_suspended));
    routes.client(V1, "admin/lock/{userId}", get(admin::get_locked).put(admin::put_locked));

    // OpenID
    routes.client(SINCE_R0, "user/{userId}/openid/request_token", post(openid::request_token));
    routes.at("/_matrix/federation/v1/openid/userinfo", get(openid::userinfo));

    // User-interactive authentication
    routes.client(SINCE_V2, "auth/{type}/fallback/web", get(auth_fallback::get).post(auth_fallback::post));
    routes.at("/_matrix/static/pages/style.css", get(assets::style));
    routes.at("/_matrix/static/pages/auth_done.js", get(assets::auth_done));
    routes.at("/_matrix/static/pages/login.js", get(assets::login));

    // Capabilities and discovery
    routes.client(SINCE_R0, "capabilities", get(discovery::capabilities));
    routes.at("/_matrix/client/versions", get(discovery::versions));
    routes.at("/.well-known/matrix/client", get(discovery::well_known_client));
    routes.at("/.well-known/matrix/support", get(discovery::well_known_support));

    // Operation
    routes.at("/health", get(discovery::health));
    routes.at("/api/openapi.json", get(openapi::get));

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
