//! The pages that people see: rendered here, complete without JavaScript wherever the stage allows
//! it, with nothing inline and nothing from elsewhere.
//!
//! [`Page`] is what a handler answers, [`PageError`] what it fails with; [`Pages`] turns either
//! into HTML. Templates are in `templates/`, escaped by their name's ending; what the browser
//! fetches beside them is in `static/`, served by [`assets`].

pub mod assets;
pub mod auth_address;
pub mod auth_fallback;
pub mod login_fallback;
mod origin;
pub mod validate;

use axum::http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderValue, REFERRER_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use minijinja::{Environment, Value, context};

use crate::config::Config;
use crate::error::ApiError;

/// Every template with its name.
const TEMPLATES: [(&str, &str); 13] = [
    ("layout.html", include_str!("templates/layout.html")),
    ("auth/layout.html", include_str!("templates/auth/layout.html")),
    ("auth/password.html", include_str!("templates/auth/password.html")),
    ("auth/dummy.html", include_str!("templates/auth/dummy.html")),
    ("auth/registration_token.html", include_str!("templates/auth/registration_token.html")),
    ("auth/terms.html", include_str!("templates/auth/terms.html")),
    ("auth/captcha.html", include_str!("templates/auth/captcha.html")),
    ("auth/done.html", include_str!("templates/auth/done.html")),
    ("auth/address.html", include_str!("templates/auth/address.html")),
    ("validate.html", include_str!("templates/validate.html")),
    ("validated.html", include_str!("templates/validated.html")),
    ("login.html", include_str!("templates/login.html")),
    ("error.html", include_str!("templates/error.html")),
];

/// The templates, and what all pages have in common.
pub struct Pages {
    templates: Environment<'static>,
}

/// A page to be shown.
#[derive(Debug)]
pub struct Page {
    pub status: StatusCode,
    pub template: &'static str,
    pub values: Value,
    /// Other sources of scripts, frames and styles than this server: a captcha's.
    pub sources: Vec<String>,
}

/// A page that says why there is no other.
#[derive(Debug)]
pub struct PageError {
    pub status: StatusCode,
    pub heading: &'static str,
    pub sentence: String,
    pub retry_after_ms: Option<i64>,
}

impl Page {
    #[must_use]
    pub fn new(template: &'static str, values: Value) -> Self {
        Self { status: StatusCode::OK, template, values, sources: Vec::new() }
    }
}

impl PageError {
    pub fn new(status: StatusCode, heading: &'static str, sentence: impl Into<String>) -> Self {
        Self { status, heading, sentence: sentence.into(), retry_after_ms: None }
    }
}

impl From<ApiError> for PageError {
    fn from(error: ApiError) -> Self {
        let (status, sentence, retry_after_ms) = error.into_sentence();
        let heading = match status {
            StatusCode::TOO_MANY_REQUESTS => "Please wait a moment",
            status if status.is_server_error() => "Something is wrong on our side",
            _ => "This did not work",
        };
        Self { status, heading, sentence, retry_after_ms }
    }
}

impl Pages {
    /// Reads the templates.
    ///
    /// # Errors
    /// When one is no template.
    pub fn new(config: &Config) -> Result<Self, minijinja::Error> {
        let mut templates = Environment::new();
        templates.set_trim_blocks(true);
        templates.set_lstrip_blocks(true);
        for (name, source) in TEMPLATES {
            templates.add_template(name, source)?;
        }
        let public: Option<Uri> = config.public_url().parse().ok();
        // Where a proxy serves this under a path, the browser has to ask for it there.
        let base = public.map_or_else(String::new, |url| url.path().trim_end_matches('/').to_owned());
        templates.add_global("base", base);
        templates.add_global("server_name", config.server_name.clone());
        for asset in assets::ALL {
            templates.add_global(asset.name, Value::from_safe_string(asset.path_and_version()));
        }
        Ok(Self { templates })
    }

    /// The answer that shows a page, or the error instead.
    #[must_use]
    pub fn answer(&self, page: Result<Page, PageError>) -> Response {
        let (page, retry_after_ms) = match page {
            Ok(page) => (page, None),
            Err(PageError { status, heading, sentence, retry_after_ms }) => {
                let values = context! { heading, sentence };
                let page = Page { status, ..Page::new("error.html", values) };
                (page, retry_after_ms)
            }
        };
        let rendered =
            self.templates.get_template(page.template).and_then(|found| found.render(&page.values));
        let mut response = match rendered {
            Ok(html) => (page.status, html).into_response(),
            Err(error) => return ApiError::unavailable(format!("{error:#}")).into_response(),
        };
        let headers = response.headers_mut();
        protect(headers, &page.sources);
        if let Some(ms) = retry_after_ms {
            headers.insert(RETRY_AFTER, HeaderValue::from(ms.unsigned_abs().div_ceil(1_000)));
        }
        response
    }
}

/// What every page says to the browser. `no-store` comes with every answer; an opener policy must
/// not be there, since a client that opened a fallback page waits for its message.
fn protect(headers: &mut HeaderMap, sources: &[String]) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(policy) = HeaderValue::try_from(content_security_policy(sources)) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
}

/// Nothing inline, nothing from elsewhere but the given sources, and in no frame: clients open
/// these pages in a window or a web view, and in a frame a stranger's page could lay itself over
/// the button.
fn content_security_policy(sources: &[String]) -> String {
    let more: String = sources.iter().map(|source| format!(" {source}")).collect();
    let frames = if sources.is_empty() { " 'none'" } else { &more };
    format!(
        "default-src 'none'; script-src 'self'{more}; style-src 'self'{more}; connect-src 'self'{more}; \
         frame-src{frames}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> Pages {
        Pages::new(&Config::default()).unwrap()
    }

    async fn html(response: Response) -> String {
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn what_is_shown_is_escaped() {
        let error = PageError::new(StatusCode::NOT_FOUND, "No", "<script>alert('x')</script>");
        let response = pages().answer(Err(error));
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        let html = html(response).await;
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script>alert"), "{html}");
    }

    #[test]
    fn every_template_renders_without_values() {
        for (name, _) in TEMPLATES {
            let page = Page::new(name, context! { title => "x" });
            assert_eq!(pages().answer(Ok(page)).status(), StatusCode::OK, "{name}");
        }
    }

    #[test]
    fn no_template_has_anything_inline() {
        for (name, source) in TEMPLATES {
            for inline in ["<style", " style=", "javascript:", " onclick=", " onsubmit=", "<script>", "http:"]
            {
                assert!(!source.contains(inline), "{name}: {inline}");
            }
        }
    }

    #[test]
    fn a_captcha_adds_its_own_sources_only() {
        assert!(content_security_policy(&[]).contains("script-src 'self';"));
        assert!(content_security_policy(&[]).contains("frame-src 'none';"));
        let with = content_security_policy(&["https://captcha.example".to_owned()]);
        assert!(with.contains("script-src 'self' https://captcha.example;"), "{with}");
        assert!(with.contains("frame-src https://captcha.example;"), "{with}");
        assert!(with.contains("frame-ancestors 'none'"), "{with}");
    }
}
