//! Rules that a value of the right type must still meet, and rules between keys.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Config, Email, Policy, RateLimit, RegistrationEmail, Security};

/// A rule that is broken: the key at fault, and what is wrong with it together with the mend.
pub(super) struct Finding {
    pub(super) key: &'static str,
    pub(super) text: String,
}

/// Longest server name, so that user IDs have room for a localpart within their 255 bytes
/// (specification, appendices, "Server Name").
const SERVER_NAME_BYTES_MAX: usize = 230;

/// What must be mended before the server can start.
pub(super) fn errors(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut require = |holds: bool, key, text: &str| {
        if !holds {
            found.push(Finding { key, text: text.to_owned() });
        }
    };
    require(
        is_server_name(&config.server_name),
        "server_name",
        r#"is not a server name; expected a host name or address with an optional port, such as "example.org" or "example.org:8448""#,
    );
    let url_ok = |url: &Option<String>| url.as_deref().is_none_or(is_base_url);
    require(
        url_ok(&config.http.public_url),
        "http.public_url",
        r#"is not a base URL; expected http:// or https:// with a host and no user, query or fragment, such as "https://matrix.example.org""#,
    );
    require(
        config.http.metrics_listen.is_none_or(|metrics| metrics.port() == 0 || metrics != config.http.listen),
        "http.metrics_listen",
        "is the same address as `http.listen`; give it a port of its own",
    );
    require(config.database.pool_size > 0, "database.pool_size", "is 0; expected at least 1 connection");
    let sessions = &config.sessions;
    let lifetimes = [
        ("sessions.access_token_lifetime", Some(sessions.access_token_lifetime)),
        ("sessions.refresh_token_lifetime", sessions.refresh_token_lifetime),
        ("sessions.session_lifetime", sessions.session_lifetime),
        ("sessions.unrefreshable_access_token_lifetime", sessions.unrefreshable_access_token_lifetime),
    ];
    for (key, lifetime) in lifetimes {
        require(
            lifetime != Some(Duration::ZERO),
            key,
            "is 0; expected a lifetime above 0 (leave the key out for its default)",
        );
    }
    require(
        config.outgoing.timeout > Duration::ZERO,
        "outgoing.timeout",
        r#"is 0, which lets no call end well; expected a duration such as "10s""#,
    );
    for (per_second, burst, limit) in rate_limits(config) {
        require(
            limit.per_second.is_finite() && limit.per_second > 0.0,
            per_second,
            "must be a number above 0 (`rate_limits.enabled = false` turns all limits off)",
        );
        require(
            limit.burst > 0,
            burst,
            "is 0, which lets nothing through; expected at least 1 (`rate_limits.enabled = false` turns all limits off)",
        );
    }
    let email = &config.email;
    require(
        email.host.is_none() || email.from.is_some(),
        "email.from",
        r#"is not set, but e-mail is to be sent; set it to an address such as "Example <no-reply@example.org>""#,
    );
    require(
        email.host.is_some() || config.registration.email == RegistrationEmail::Off,
        "registration.email",
        "asks for an e-mail address, but no mail can be sent; set `email.host` and `email.from`",
    );
    require(
        email.host.as_deref() != Some(""),
        "email.host",
        "is empty; leave it out where there is no e-mail",
    );
    require(email.port != Some(0), "email.port", "is 0; leave it out for the usual one");
    let password = email.password.is_some() || email.password_file.is_some();
    require(
        email.username.is_some() == password,
        "email.username",
        "needs a password, and a password needs it; set `email.username` with `email.password` or `email.password_file`, or neither",
    );
    require(
        config.sms.hook_url.as_deref().is_none_or(is_web_page),
        "sms.hook_url",
        r#"is not a URL; expected one such as "https://sms.example.org/send""#,
    );
    require(
        url_ok(&config.support.support_page)
            || config.support.support_page.as_deref().is_some_and(is_web_page),
        "support.support_page",
        r#"is not a URL; expected one such as "https://example.org/help""#,
    );
    require(
        is_log_level(&config.log.level),
        "log.level",
        r#"is not a log level; expected error, warn, info, debug, trace or off, or levels per part such as "info,ligand_storage=debug""#,
    );
    found.extend(captcha(config));
    found.extend(terms(&config.registration.terms));
    found
}

/// A captcha is whole or not there.
fn captcha(config: &Config) -> Vec<Finding> {
    let captcha = &config.captcha;
    let mut found = Vec::new();
    let mut require = |holds: bool, key, text: &str| {
        if !holds {
            found.push(Finding { key, text: text.to_owned() });
        }
    };
    let site_key = captcha.site_key.as_ref().is_some_and(|key| !key.is_empty());
    let secret = captcha.secret.as_ref().is_some_and(|secret| !secret.expose().is_empty());
    let wanted = captcha.provider.is_some();
    require(
        site_key || !wanted,
        "captcha.site_key",
        "is missing; copy the site key from the provider's console, or leave `captcha.provider` out",
    );
    require(
        secret || !wanted,
        "captcha.secret",
        "is missing; copy the secret key from the provider's console into LIGAND_CAPTCHA__SECRET, or leave `captcha.provider` out",
    );
    require(
        wanted || !(site_key || secret),
        "captcha.provider",
        r#"is missing while the keys are set; expected "recaptcha", "hcaptcha" or "turnstile""#,
    );
    for (key, url) in
        [("captcha.script_url", &captcha.script_url), ("captcha.verify_url", &captcha.verify_url)]
    {
        require(
            url.as_deref().is_none_or(is_web_page),
            key,
            "is not a URL; leave it out for the provider's usual place",
        );
    }
    found
}

/// What a person agrees to must have a name to show and an address to read it at.
fn terms(policies: &[Policy]) -> Vec<Finding> {
    let mut wrong = Vec::new();
    let mut ids = BTreeSet::new();
    for Policy { id, version, texts } in policies {
        if id.is_empty() || version.is_empty() {
            wrong.push("has a policy without `id` or `version`; give each policy both".to_owned());
        }
        if !ids.insert(id) {
            wrong.push(format!("has two policies `{id}`; give each an `id` of its own"));
        }
        if texts.is_empty() {
            wrong.push(format!(
                r#"has no text for the policy `{id}`; add en = {{ name = "…", url = "https://…" }}"#
            ));
        }
        for (language, text) in texts {
            if text.name.is_empty() {
                wrong.push(format!("has no name for the policy `{id}` in `{language}`; add `name`"));
            }
            if !is_web_page(&text.url) {
                wrong.push(format!(
                    "has no web address for the policy `{id}` in `{language}`; add `url`, beginning with https://"
                ));
            }
        }
    }
    wrong.into_iter().map(|text| Finding { key: "registration.terms", text }).collect()
}

/// What works, but hardly as the operator meant it.
pub(super) fn warnings(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut warn = |applies: bool, key, text: &str| {
        if applies {
            found.push(Finding { key, text: text.to_owned() });
        }
    };
    let sessions = &config.sessions;
    warn(
        sessions.refresh_token_lifetime.is_some_and(|idle| idle <= sessions.access_token_lifetime),
        "sessions.refresh_token_lifetime",
        "is not longer than `sessions.access_token_lifetime`: clients that refresh when their access token ends will find the refresh token expired and must sign in again",
    );
    warn(
        config.email.password.is_some() && config.email.password_file.is_some(),
        "email.password_file",
        "is not read, since `email.password` is set; keep one of them",
    );
    warn(
        config.email.username.is_some()
            && config.email.security == Security::None
            && !is_this_machine(&config.email),
        "email.security",
        "is none: the password of the mail server travels unencrypted; use starttls or tls",
    );
    warn(
        config.http.public_url.is_none() && !config.http.listen.ip().is_loopback(),
        "http.public_url",
        "is not set while `http.listen` is reachable from outside; set it to the URL that clients use",
    );
    found
}

fn rate_limits(config: &Config) -> [(&'static str, &'static str, RateLimit); 3] {
    let limits = &config.rate_limits;
    [
        ("rate_limits.login.per_second", "rate_limits.login.burst", limits.login),
        ("rate_limits.registration.per_second", "rate_limits.registration.burst", limits.registration),
        ("rate_limits.refresh.per_second", "rate_limits.refresh.burst", limits.refresh),
    ]
}

fn is_this_machine(email: &Email) -> bool {
    let host = email.host.as_deref().unwrap_or_default();
    let loopback = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    host == "localhost" || loopback
}

/// Specification, appendices, "Server Name": an IPv4 address, a bracketed IPv6 address or a DNS
/// name, then optionally a port of one to five digits.
fn is_server_name(name: &str) -> bool {
    let (host, port) = match name.rfind(':') {
        Some(colon) if !name.ends_with(']') => (&name[..colon], Some(&name[colon + 1..])),
        _ => (name, None),
    };
    let port_ok =
        port.is_none_or(|port| (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit()));
    let host_ok = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.'),
    };
    name.len() <= SERVER_NAME_BYTES_MAX && host_ok && port_ok
}

fn is_base_url(url: &str) -> bool {
    is_web_page(url) && !url.contains('?') && !url.contains('#')
}

fn is_web_page(url: &str) -> bool {
    let Ok(parsed) = url.parse::<http::Uri>() else {
        return false;
    };
    let host = parsed.host().is_some_and(|host| !host.is_empty());
    let user = parsed.authority().is_some_and(|authority| authority.as_str().contains('@'));
    matches!(parsed.scheme_str(), Some("http" | "https")) && host && !user
}

/// Levels separated by commas, each alone or after `part=`. The log filter itself would take a
/// mistyped level for the name of a part, and log nothing.
fn is_log_level(text: &str) -> bool {
    text.split(',').all(|directive| {
        let level = match directive.split_once('=') {
            Some((part, level)) if !part.trim().is_empty() => level,
            Some(_) => return false,
            None => directive,
        };
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        levels.iter().any(|known| level.trim().eq_ignore_ascii_case(known))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names_follow_the_grammar() {
        for right in [
            "localhost",
            "example.org",
            "example.org:8448",
            "1.2.3.4",
            "1.2.3.4:1234",
            "[1234:5678::abcd]",
            "[::1]:5678",
            "EXAMPLE.org",
            "a-b.c",
        ] {
            assert!(is_server_name(right), "{right}");
        }
        let long = "a".repeat(231);
        for wrong in [
            "",
            ":8448",
            "example.org:",
            "example.org:123456",
            "example.org:x",
            "ex ample",
            "@a:b.c",
            "::1",
            "[::1",
            "[]",
            "[1.2.3.4]",
            "https://example.org",
            "exämple.org",
            "a_b.c",
            &long,
        ] {
            assert!(!is_server_name(wrong), "{wrong}");
        }
    }

    #[test]
    fn base_urls() {
        for right in ["http://localhost:8008", "https://example.org", "https://example.org/matrix/"] {
            assert!(is_base_url(right), "{right}");
        }
        for wrong in [
            "",
            "example.org",
            "ftp://example.org",
            "https://",
            "https://a/?b",
            "https://a/#b",
            "https://u:p@a/",
            "/path",
            "https://a b/",
        ] {
            assert!(!is_base_url(wrong), "{wrong}");
        }
    }

    #[test]
    fn log_levels() {
        for right in ["info", "INFO", "off", "info,ligand_storage=debug", "warn, tower=off"] {
            assert!(is_log_level(right), "{right}");
        }
        for wrong in ["", "infoo", "info,", "=debug", "info,ligand=loud"] {
            assert!(!is_log_level(wrong), "{wrong}");
        }
    }

    #[test]
    fn the_defaults_are_right() {
        assert!(errors(&Config::default()).is_empty());
        assert!(warnings(&Config::default()).is_empty());
    }
}
