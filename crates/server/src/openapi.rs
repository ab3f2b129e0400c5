//! The description of all that is served, at `GET /api/openapi.json`.
//!
//! Its source is the folder `openapi/` of this crate, one file per chapter, which [`assemble`] puts
//! together. That happens at the first request: most servers are never asked.

mod assemble;

use std::sync::LazyLock;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

pub use assemble::{Malformed, document};

use crate::error::ApiError;

struct Served {
    json: Bytes,
    etag: HeaderValue,
}

static SERVED: LazyLock<Result<Served, Malformed>> = LazyLock::new(|| {
    let json = document()?.to_string();
    let etag = format!("\"{}\"", HEXLOWER.encode(&Sha256::digest(&json)[..16]));
    let etag = HeaderValue::try_from(etag).map_err(|error| Malformed(error.to_string()))?;
    Ok(Served { json: json.into(), etag })
});

/// `GET /api/openapi.json`.
pub async fn get(headers: HeaderMap) -> Result<Response, ApiError> {
    let served = SERVED.as_ref().map_err(|malformed| ApiError::unavailable(malformed.to_string()))?;
    let kept =
        [(ETAG, served.etag.clone()), (CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"))];
    if has_it(&headers, &served.etag) {
        return Ok((StatusCode::NOT_MODIFIED, kept).into_response());
    }
    let json = HeaderValue::from_static("application/json");
    Ok((kept, [(CONTENT_TYPE, json)], served.json.clone()).into_response())
}

/// RFC 9110 §13.1.2: a list of tags, compared weakly, or `*`.
fn has_it(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let lines = headers.get_all(IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    let mut tags = lines.flat_map(|line| line.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.trim_start_matches("W/").as_bytes() == etag.as_bytes())
}
