//! What every request passes: CORS, OPTIONS, a request ID, a time limit, the count and the access
//! log. One layer, so that a token check pays for one.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL,
};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ligand_protocol::limits::REQUEST_MS_MAX;

use crate::app::App;
use crate::error::ApiError;

/// Names a request in the log and in the answer's `X-Request-Id`.
#[derive(Debug, Clone, Copy)]
pub struct RequestId(u64);

impl RequestId {
    fn next() -> Self {
        /// Starts anywhere, so that the IDs of two runs of the server do not meet in one log.
        static NEXT: LazyLock<AtomicU64> =
            LazyLock::new(|| AtomicU64::new(getrandom::u64().unwrap_or_default() << 24));
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Wraps every route and the fallback.
pub async fn every_request(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = RequestId::next();
    let began = Instant::now();
    request.extensions_mut().insert(id);
    // The route, never what was asked for: a URL could hold a token.
    let path = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();

    let mut response = if method == Method::OPTIONS {
        // No endpoint logic runs for a preflight.
        (StatusCode::OK, axum::Json(serde_json::json!({}))).into_response()
    } else {
        let limit = Duration::from_millis(REQUEST_MS_MAX.unsigned_abs());
        match tokio::time::timeout(limit, next.run(request)).await {
            Ok(response) => response,
            Err(_) => {
                let error = ApiError::unavailable("the request took too long");
                let refresh = path.as_ref().is_some_and(|path| path.as_str().ends_with("/refresh"));
                if refresh { error.plain_text_if_ours() } else { error }.into_response()
            }
        }
    };
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT, DELETE, OPTIONS"));
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("X-Requested-With, Content-Type, Authorization"),
    );
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        headers.insert(REQUEST_ID, id);
    }

    let (status, took) = (response.status().as_u16(), began.elapsed());
    let path: Arc<str> = path.as_ref().map_or_else(unmatched, |path| path.as_str().into());
    app.metrics.responded(&path, status, took);
    tracing::debug!(target: "ligand::access", %id, %method, %path, status, took_us = took.as_micros(), "answered");
    response
}

fn unmatched() -> Arc<str> {
    static UNMATCHED: LazyLock<Arc<str>> = LazyLock::new(|| "unmatched".into());
    Arc::clone(&UNMATCHED)
}

/// 404 for a path that is none of ours.
pub async fn no_such_path() -> ApiError {
    ApiError::unrecognized(StatusCode::NOT_FOUND)
}

/// 405 for a path of ours with another method.
pub async fn no_such_method() -> ApiError {
    ApiError::unrecognized(StatusCode::METHOD_NOT_ALLOWED)
}
