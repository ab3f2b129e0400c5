//! Captchas: what is known of each provider, and asking it whether an answer is right.
//!
//! All three speak reCAPTCHA's format: a form with `secret`, `response` and `remoteip`; JSON with
//! `success` and `error-codes`. Only a clear yes is a yes: a provider that is slow, broken or does
//! not know our key has not judged anybody.

use std::net::IpAddr;

use http::{StatusCode, Uri};
use serde::Deserialize;

use crate::app::App;
use crate::config::{Captcha, CaptchaProvider};

/// What the provider says.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Solved,
    NotSolved,
    /// Nothing that could be relied on; why, for the log.
    Unknown(String),
}

/// What a page needs to draw a captcha.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Widget<'a> {
    pub script_url: &'a str,
    /// The class by which the script knows its place on the page.
    pub class: &'static str,
    /// The field that the script puts the answer into.
    pub field: &'static str,
    pub site_key: &'a str,
    /// The sources that the content security policy must allow.
    pub sources: Vec<String>,
}

impl CaptchaProvider {
    const fn script_url(self) -> &'static str {
        match self {
            Self::Recaptcha => "https://www.google.com/recaptcha/api.js",
            Self::Hcaptcha => "https://js.hcaptcha.com/1/api.js",
            Self::Turnstile => "https://challenges.cloudflare.com/turnstile/v0/api.js",
        }
    }

    const fn verify_url(self) -> &'static str {
        match self {
            Self::Recaptcha => "https://www.google.com/recaptcha/api/siteverify",
            Self::Hcaptcha => "https://api.hcaptcha.com/siteverify",
            Self::Turnstile => "https://challenges.cloudflare.com/turnstile/v0/siteverify",
        }
    }

    const fn class_and_field(self) -> (&'static str, &'static str) {
        match self {
            Self::Recaptcha => ("g-recaptcha", "g-recaptcha-response"),
            Self::Hcaptcha => ("h-captcha", "h-captcha-response"),
            Self::Turnstile => ("cf-turnstile", "cf-turnstile-response"),
        }
    }

    /// What the providers' documents ask for besides the place of the script itself.
    const fn further_sources(self) -> &'static [&'static str] {
        match self {
            Self::Recaptcha => {
                &["https://www.gstatic.com/recaptcha/", "https://recaptcha.google.com/recaptcha/"]
            }
            Self::Hcaptcha => &["https://hcaptcha.com", "https://*.hcaptcha.com"],
            Self::Turnstile => &[],
        }
    }
}

/// What a page needs to draw the captcha; none without one.
#[must_use]
pub fn widget(captcha: &Captcha) -> Option<Widget<'_>> {
    let (provider, site_key) = (captcha.provider?, captcha.site_key.as_deref()?);
    let script_url = captcha.script_url.as_deref().unwrap_or(provider.script_url());
    let (class, field) = provider.class_and_field();
    let mut sources = vec![origin(script_url)?];
    sources.extend(provider.further_sources().iter().map(|source| (*source).to_owned()));
    Some(Widget { script_url, class, field, site_key, sources })
}

/// Scheme, host and port.
fn origin(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?))
}

/// Asks the provider.
pub async fn verify(app: &App, response: &str, address: IpAddr) -> Verdict {
    let captcha = &app.config.captcha;
    let (Some(provider), Some(secret)) = (captcha.provider, &captcha.secret) else {
        return Verdict::Unknown("no provider is configured".to_owned());
    };
    let url = captcha.verify_url.as_deref().unwrap_or(provider.verify_url());
    let address = address.to_string();
    let fields = [("secret", secret.expose()), ("response", response), ("remoteip", address.as_str())];
    match app.outgoing.post_form(url, &fields).await {
        Ok(answer) => judge(answer.status, &answer.body),
        Err(error) => Verdict::Unknown(error.to_string()),
    }
}

#[derive(Deserialize)]
struct Answer {
    success: bool,
    #[serde(default, rename = "error-codes")]
    error_codes: Vec<String>,
}

/// Codes that speak of the person's answer. Any other speaks of our key or of the provider.
const NOT_SOLVED: [&str; 6] = [
    "missing-input-response",
    "invalid-input-response",
    "timeout-or-duplicate",
    "expired-input-response",
    "already-seen-response",
    "invalid-or-already-seen-response",
];

fn judge(status: StatusCode, body: &[u8]) -> Verdict {
    match serde_json::from_slice::<Answer>(body) {
        Ok(Answer { success: true, .. }) if status.is_success() => Verdict::Solved,
        Ok(Answer { success: false, error_codes })
            if error_codes.iter().all(|code| NOT_SOLVED.contains(&code.as_str())) =>
        {
            Verdict::NotSolved
        }
        Ok(Answer { error_codes, .. }) => {
            Verdict::Unknown(format!("the provider answers {status} {error_codes:?}"))
        }
        Err(_) => Verdict::Unknown(format!("the provider answers {status} and no verdict")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecretText;

    #[test]
    fn only_a_clear_yes_is_a_yes() {
        let judge = |status: u16, body: &str| judge(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        assert_eq!(judge(200, r#"{"success":true,"hostname":"a","challenge_ts":"b"}"#), Verdict::Solved);
        for body in [
            r#"{"success":false}"#,
            r#"{"success":false,"error-codes":[]}"#,
            r#"{"success":false,"error-codes":["timeout-or-duplicate"]}"#,
            r#"{"success":false,"error-codes":["invalid-input-response"]}"#,
        ] {
            assert_eq!(judge(200, body), Verdict::NotSolved, "{body}");
        }
        for (status, body) in [
            (500, r#"{"success":true}"#),
            (302, r#"{"success":true}"#),
            (200, r#"{"success":"true"}"#),
            (200, r#"{"success":1}"#),
            (200, "true"),
            (200, ""),
            (200, "<html>"),
            (200, "{}"),
            (200, r#"{"success":false,"error-codes":["invalid-input-secret"]}"#),
            (400, r#"{"success":false,"error-codes":["invalid-input-response","bad-request"]}"#),
        ] {
            assert!(matches!(judge(status, body), Verdict::Unknown(_)), "{status} {body}");
        }
    }

    #[test]
    fn the_policy_allows_the_script_where_it_is() {
        let mut captcha = Captcha {
            provider: Some(CaptchaProvider::Turnstile),
            site_key: Some("key".to_owned()),
            secret: Some(SecretText::new("secret")),
            ..Captcha::default()
        };
        assert_eq!(widget(&captcha).unwrap().sources, ["https://challenges.cloudflare.com"]);
        captcha.script_url = Some("http://127.0.0.1:1234/a/api.js?b".to_owned());
        assert_eq!(widget(&captcha).unwrap().sources, ["http://127.0.0.1:1234"]);
        captcha.provider = Some(CaptchaProvider::Recaptcha);
        assert!(widget(&captcha).unwrap().sources.contains(&"https://www.gstatic.com/recaptcha/".to_owned()));
        captcha.provider = None;
        assert_eq!(widget(&captcha), None);
    }
}
