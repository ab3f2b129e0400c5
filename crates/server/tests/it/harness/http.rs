//! A small HTTP client: one connection per request, nothing retried, nothing hidden.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Description;

/// Where a server listens; a restart changes it for everybody who holds it.
pub type Address = Arc<Mutex<SocketAddr>>;

/// A request to be sent by awaiting it.
#[must_use = "a request is sent by awaiting it"]
#[derive(Clone)]
pub struct Request {
    address: Address,
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// A path that does not begin with a slash is one below `/_matrix/client/`.
    pub fn new(address: &Address, method: &'static str, path: &str) -> Self {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/_matrix/client/{path}") };
        Self { address: Arc::clone(address), method, path, headers: Vec::new(), body: Vec::new() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// The address that a proxy saw.
    pub fn from(self, address: &str) -> Self {
        self.header("x-forwarded-for", address)
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// A body that does not say how long it is.
    pub fn chunked(self, body: &str) -> Self {
        let body = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        self.header("transfer-encoding", "chunked").body(body)
    }

    pub fn json(self, body: Value) -> Self {
        self.body(body.to_string())
    }

    /// A form as a browser sends it.
    pub fn form(self, fields: &[(&str, &str)]) -> Self {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.header("content-type", "application/x-www-form-urlencoded").body(body)
    }

    async fn send(self) -> Answer {
        let Self { address, method, path, headers, body } = self;
        let address = *address.lock();
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !text.contains("transfer-encoding") && (!body.is_empty() || ["POST", "PUT"].contains(&method)) {
            text += &format!("content-length: {}\r\n", body.len());
        }
        text += "\r\n";
        let mut stream = TcpStream::connect(address).await.expect("the server listens");
        let whole = [text.as_bytes(), &body].concat();
        // A server that refuses a body need not read it: what counts is the answer.
        let _ = stream.write_all(&whole).await;
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer).await;
        assert!(end.is_ok() || !answer.is_empty(), "{method} {path}: no answer");
        let answer = Answer::parse(format!("{method} {path}"), &answer);
        if let Err(wrong) = Description::get().check(method, &path, &answer) {
            panic!("outside the OpenAPI description: {wrong}: {answer:?}");
        }
        answer
    }
}

impl IntoFuture for Request {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    #[allow(dead_code, reason = "shown by Debug in messages")]
    asked: String,
    pub status: u16,
    headers: Vec<(String, String)>,
    pub text: String,
}

impl Answer {
    fn parse(asked: String, bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).expect("answers are UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Self { asked, status, headers: lines.filter_map(header).collect(), text: body.to_owned() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|(have, value)| (have == name).then_some(value.as_str()))
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The body of a success.
    #[track_caller]
    pub fn expect_ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// The body of an error: always with both `errcode` and `error` (digest G1).
    #[track_caller]
    pub fn expect(&self, status: u16, errcode: &str) -> Value {
        let body = self.json();
        assert_eq!((self.status, body["errcode"].as_str()), (status, Some(errcode)), "{self:?}");
        assert!(body["error"].as_str().is_some_and(|error| !error.is_empty()), "{self:?}");
        body
    }

    /// A refused access token, or a refused refresh token at `/refresh`.
    #[track_caller]
    pub fn expect_unknown_token(&self, soft_logout: bool) {
        let body = self.expect(401, "M_UNKNOWN_TOKEN");
        assert_eq!(body["soft_logout"].as_bool().unwrap_or(false), soft_logout, "{self:?}");
    }

    /// A refused refresh token at `/tokenrefresh`.
    #[track_caller]
    pub fn expect_forbidden(&self) {
        self.expect(403, "M_FORBIDDEN");
    }

    /// The 401 of user-interactive auth that answers no try: no error yet.
    #[track_caller]
    pub fn expect_flows(&self, stages: &[&str]) -> Value {
        assert_eq!(self.status, 401, "{self:?}");
        let body = self.json();
        assert_eq!(body["flows"], serde_json::json!([{"stages": stages}]), "{self:?}");
        assert!(body["params"].is_object() && body["session"].is_string(), "{self:?}");
        body
    }

    /// The same after a try: always with the completed stages.
    #[track_caller]
    pub fn expect_flows_after_a_try(
        &self,
        stages: &[&str],
        completed: &[&str],
        errcode: Option<&str>,
    ) -> Value {
        let body = self.expect_flows(stages);
        assert_eq!(body["completed"], serde_json::json!(completed), "{self:?}");
        assert_eq!(body["errcode"].as_str(), errcode, "{self:?}");
        assert_eq!(body["error"].is_string(), errcode.is_some(), "{self:?}");
        body
    }

    /// Too many requests: both the header and the older field, which agree.
    #[track_caller]
    pub fn expect_limited(&self) -> i64 {
        let body = self.expect(429, "M_LIMIT_EXCEEDED");
        let ms = body["retry_after_ms"].as_i64().unwrap_or_else(|| panic!("{self:?}"));
        let seconds: i64 =
            self.header("retry-after").and_then(|text| text.parse().ok()).expect("Retry-After");
        assert!(ms > 0 && seconds == (ms + 999) / 1_000, "{self:?}");
        ms
    }

    /// A page, with all that a page says to the browser.
    #[track_caller]
    pub fn expect_page(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{self:?}");
        for (name, value) in [
            ("content-type", "text/html; charset=utf-8"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(self.header(name), Some(value), "{self:?}");
        }
        let policy = self.header("content-security-policy").expect("a policy");
        for part in ["default-src 'none'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"]
        {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        &self.text
    }

    /// Our own trouble, as JSON.
    #[track_caller]
    pub fn expect_unavailable(&self) {
        self.expect(503, "M_UNKNOWN");
        assert!(self.header("retry-after").is_some(), "{self:?}");
    }
}
