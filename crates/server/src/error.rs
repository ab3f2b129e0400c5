//! Errors at the edge: what a client is told, and what only the log learns.
//!
//! [`ApiError`] is the Matrix shape (Client-Server API, "Standard error response"): always both
//! `errcode` and `error`. Built by named constructors; a private cause is logged once, where the
//! error becomes a response.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use ligand_protocol::session::Refusal;
use ligand_storage::StoreError;
use serde_json::{Map, Value, json};

/// An error in the Matrix shape. A result's smaller half: boxed.
#[derive(Debug)]
pub struct ApiError(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: StatusCode,
    /// None in a challenge of user-interactive auth that answers no try: it is no error yet.
    errcode: Option<&'static str>,
    error: String,
    extra: Map<String, Value>,
    retry_after_ms: Option<i64>,
    plain_text: bool,
    cause: Option<String>,
}

impl ApiError {
    /// Any error by status, code and public sentence.
    pub fn new(status: StatusCode, errcode: &'static str, error: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            status,
            errcode: Some(errcode),
            error: error.into(),
            extra: Map::new(),
            retry_after_ms: None,
            plain_text: false,
            cause: None,
        }))
    }

    pub fn bad_request(errcode: &'static str, error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, errcode, error)
    }

    pub fn not_json() -> Self {
        Self::bad_request("M_NOT_JSON", "The body is not JSON.")
    }

    pub fn bad_json(error: impl Into<String>) -> Self {
        Self::bad_request("M_BAD_JSON", error)
    }

    pub fn missing_param(name: &str) -> Self {
        Self::bad_request("M_MISSING_PARAM", format!("Missing parameter: {name}."))
    }

    pub fn invalid_param(error: impl Into<String>) -> Self {
        Self::bad_request("M_INVALID_PARAM", error)
    }

    pub fn forbidden(error: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "M_FORBIDDEN", error)
    }

    pub fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", error)
    }

    pub fn unrecognized(status: StatusCode) -> Self {
        Self::new(status, "M_UNRECOGNIZED", "Unrecognized request.")
    }

    pub fn missing_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "Missing access token.")
    }

    pub fn unknown_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN", "Unrecognised access token.")
    }

    /// 401 of user-interactive auth; with the failure of the last try, if there was one.
    pub fn challenge(body: Map<String, Value>, failed: Option<(&'static str, String)>) -> Self {
        let mut challenge = Self::new(StatusCode::UNAUTHORIZED, "", "");
        let (errcode, error) = failed.unzip();
        challenge.0.errcode = errcode;
        challenge.0.error = error.unwrap_or_default();
        challenge.0.extra = body;
        challenge
    }

    pub fn user_locked() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "M_USER_LOCKED", "This account has been locked.")
            .soft_logout(true)
    }

    pub fn user_suspended() -> Self {
        Self::new(StatusCode::FORBIDDEN, "M_USER_SUSPENDED", "This account has been suspended.")
    }

    pub fn guest_access_forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "M_GUEST_ACCESS_FORBIDDEN", "Guests may not do this.")
    }

    /// The same answer for an unknown user, a wrong password and an account without one.
    pub fn wrong_password() -> Self {
        Self::forbidden("Invalid user name or password.")
    }

    pub fn user_deactivated() -> Self {
        Self::new(StatusCode::FORBIDDEN, "M_USER_DEACTIVATED", "This account has been deactivated.")
    }

    /// 429 with both the header and the older field.
    pub fn limited(retry_after_ms: i64) -> Self {
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", "Too many requests.");
        error.0.retry_after_ms = Some(retry_after_ms.max(1));
        error
    }

    /// Our own trouble: 503, never a 4xx, which clients on a refresh take for a logout.
    pub fn unavailable(cause: impl Into<String>) -> Self {
        let mut error = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "M_UNKNOWN",
            "The server cannot answer at the moment. Please try again.",
        );
        error.0.retry_after_ms = Some(1_000);
        error.0.cause = Some(cause.into());
        error
    }

    /// A refused access token.
    pub fn refused(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Locked => Self::user_locked(),
            refusal => {
                let mut error = Self::unknown_token().soft_logout(refusal.soft_logout());
                match refusal {
                    Refusal::Expired => "The access token has expired.".clone_into(&mut error.0.error),
                    Refusal::SessionExpired => "The session has expired.".clone_into(&mut error.0.error),
                    Refusal::Ended(_) => "The session has ended.".clone_into(&mut error.0.error),
                    _ => {}
                }
                error
            }
        }
    }

    /// Says whether the client may keep its device and sign in again.
    #[must_use]
    pub fn soft_logout(self, soft: bool) -> Self {
        self.with("soft_logout", json!(soft))
    }

    /// Adds a member to the body.
    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.0.extra.insert(key.to_owned(), value);
        self
    }

    /// Replaces the status, where a switch of the old API asks for another.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    /// Replaces the code by the 2015 table's, which knew only this one for a bad body.
    #[must_use]
    pub fn with_code(mut self, errcode: &'static str) -> Self {
        self.0.errcode = Some(errcode);
        self
    }

    /// As the table of 2015 has it: a body that is JSON and not as it should be is `M_BAD_JSON`.
    #[must_use]
    pub fn in_2015(self) -> Self {
        match self.0.errcode {
            Some("M_MISSING_PARAM" | "M_INVALID_PARAM") => self.with_code("M_BAD_JSON"),
            _ => self,
        }
    }

    /// Sends our own trouble as text: on legacy `/refresh`, matrix-js-sdk takes any JSON error
    /// body for an answer and logs out.
    #[must_use]
    pub fn plain_text_if_ours(mut self) -> Self {
        self.0.plain_text = self.0.status.is_server_error();
        self
    }

    /// What a page says instead: status, sentence and wait. Logs the cause, as an answer does.
    #[must_use]
    pub fn into_sentence(self) -> (StatusCode, String, Option<i64>) {
        self.log_cause();
        (self.0.status, self.0.error, self.0.retry_after_ms)
    }

    fn log_cause(&self) {
        if let Some(cause) = &self.0.cause {
            tracing::error!(status = self.0.status.as_u16(), cause, "request failed");
        }
    }

    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    #[must_use]
    pub fn errcode(&self) -> Option<&'static str> {
        self.0.errcode
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::unavailable(error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log_cause();
        let Parts { status, errcode, error, mut extra, retry_after_ms, plain_text, cause: _ } = *self.0;
        let mut response = if plain_text {
            (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], error).into_response()
        } else {
            if let Some(errcode) = errcode {
                extra.insert("errcode".to_owned(), errcode.into());
                extra.insert("error".to_owned(), error.into());
            }
            if let (StatusCode::TOO_MANY_REQUESTS, Some(ms)) = (status, retry_after_ms) {
                extra.insert("retry_after_ms".to_owned(), ms.into());
            }
            (status, axum::Json(Value::Object(extra))).into_response()
        };
        if let Some(ms) = retry_after_ms {
            let seconds = HeaderValue::from(ms.unsigned_abs().div_ceil(1_000));
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        response
    }
}
