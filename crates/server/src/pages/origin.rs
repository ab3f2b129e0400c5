//! Whether a form was sent by a page of this server.
//!
//! The session in the address is what lets a form do anything: no cookie goes with it, so a
//! stranger's page that does not know the session can make a browser send nothing of worth. Still,
//! addresses leak, into histories and over shoulders, and nobody should complete a stage by a
//! click on another site. `Sec-Fetch-Site` says so wherever the connection is safe. Without it
//! only a named foreign `Origin` is refused: under `Referrer-Policy: no-referrer` browsers send
//! the word `null` for our own pages too, and old ones send nothing.

use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};

/// `false` for what certainly comes from elsewhere.
#[must_use]
pub fn is_ours(headers: &HeaderMap, public_url: &str) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    match text("sec-fetch-site") {
        // "none" is a person who repeats the form by hand.
        Some("same-origin" | "none") => return true,
        Some(_) => return false,
        None => {}
    }
    let Some(origin) = text(ORIGIN.as_str()).filter(|origin| *origin != "null") else { return true };
    let host = text(HOST.as_str());
    let (_, authority) = origin.split_once("://").unwrap_or(("", origin));
    let public = public_url.split_once("://").map_or("", |(_, rest)| rest);
    host == Some(authority) || public.split('/').next() == Some(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(pairs: &[(&'static str, &str)]) -> bool {
        let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        is_ours(&headers.collect(), "https://matrix.example.org/path")
    }

    #[test]
    fn forms_of_other_sites_are_refused() {
        for site in ["cross-site", "same-site", "nonsense"] {
            assert!(!ours(&[("sec-fetch-site", site), ("origin", "https://matrix.example.org")]), "{site}");
        }
        assert!(!ours(&[("origin", "https://evil.example"), ("host", "matrix.example.org")]));
        assert!(!ours(&[("origin", "https://matrix.example.org.evil.example")]));
        assert!(!ours(&[("origin", "https://evil.example")]));
    }

    #[test]
    fn our_own_pass_with_and_without_headers() {
        assert!(ours(&[("sec-fetch-site", "same-origin"), ("origin", "null")]));
        assert!(ours(&[("sec-fetch-site", "none")]));
        assert!(ours(&[("origin", "https://matrix.example.org"), ("host", "10.0.0.1:8008")]));
        assert!(ours(&[("origin", "http://localhost:8008"), ("host", "localhost:8008")]));
        assert!(ours(&[("origin", "null")]));
        assert!(ours(&[]));
    }
}
