//! What pages fetch from this server: the stylesheet and the scripts. They are kept by browsers;
//! the version in the address changes with the content.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

/// A file that pages refer to.
pub struct Asset {
    /// By which templates know it.
    pub name: &'static str,
    path: &'static str,
    content_type: &'static str,
    content: &'static str,
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

const STYLE: Asset = Asset {
    name: "style_css",
    path: "/_matrix/static/pages/style.css",
    content_type: "text/css; charset=utf-8",
    content: include_str!("static/style.css"),
};
const AUTH_DONE: Asset = Asset {
    name: "auth_done_js",
    path: "/_matrix/static/pages/auth_done.js",
    content_type: JAVASCRIPT,
    content: include_str!("static/auth_done.js"),
};
const LOGIN: Asset = Asset {
    name: "login_js",
    path: "/_matrix/static/pages/login.js",
    content_type: JAVASCRIPT,
    content: include_str!("static/login.js"),
};

/// Every one of them.
pub const ALL: [Asset; 3] = [STYLE, AUTH_DONE, LOGIN];

impl Asset {
    /// Its address as pages name it.
    #[must_use]
    pub fn path_and_version(&self) -> String {
        let hash = HEXLOWER.encode(&Sha256::digest(self.content.as_bytes())[..6]);
        format!("{}?v={hash}", self.path)
    }
}

impl IntoResponse for Asset {
    fn into_response(self) -> Response {
        let headers = [
            (CONTENT_TYPE, self.content_type),
            (CACHE_CONTROL, "public, max-age=31536000, immutable"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        (headers, self.content).into_response()
    }
}

pub async fn style() -> Asset {
    STYLE
}

pub async fn auth_done() -> Asset {
    AUTH_DONE
}

pub async fn login() -> Asset {
    LOGIN
}
