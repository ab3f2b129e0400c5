//! Calls to other servers: an application service, a verifier of captchas, an SMS hook.
//!
//! One client for all, over HTTP or HTTPS with the certificate authorities that the system trusts.
//! A call goes where the operator said and nowhere else: no redirects, no proxy from the
//! environment, since what it carries is often a secret. It has a time limit as a whole, and an
//! answer is read up to a bound. Errors never hold the URL, which may be a secret itself.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use ligand_protocol::limits::OUTGOING_BODY_BYTES_MAX;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::sync::OnceCell;

/// What another server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// Its beginning, at most [`OUTGOING_BODY_BYTES_MAX`].
    pub body: Vec<u8>,
    /// From the call to the last byte.
    pub took: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OutgoingError {
    #[error("no answer in time")]
    TimedOut,
    /// The text is for logs and operators.
    #[error("{0}")]
    Failed(String),
}

type HttpsClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The client; made at the first call, so that who calls nobody pays nothing for it.
pub struct Outgoing {
    client: OnceCell<HttpsClient>,
    within: Duration,
}

impl Outgoing {
    /// A client whose calls may take so long.
    #[must_use]
    pub fn new(within: Duration) -> Self {
        Self { client: OnceCell::new(), within }
    }

    /// `POST` of a JSON body, with a bearer token where one is given.
    ///
    /// # Errors
    /// When no complete answer came, whatever its status.
    pub async fn post_json(
        &self,
        url: &str,
        bearer: Option<&str>,
        body: &Value,
    ) -> Result<Answer, OutgoingError> {
        self.post(url, "application/json", bearer, body.to_string()).await
    }

    /// `POST` of a form.
    ///
    /// # Errors
    /// As [`Outgoing::post_json`].
    pub async fn post_form(&self, url: &str, fields: &[(&str, &str)]) -> Result<Answer, OutgoingError> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.post(url, "application/x-www-form-urlencoded", None, body).await
    }

    async fn post(
        &self,
        url: &str,
        content_type: &str,
        bearer: Option<&str>,
        body: String,
    ) -> Result<Answer, OutgoingError> {
        let mut request = Request::post(url)
            .header(USER_AGENT, concat!("Ligand/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, content_type);
        if let Some(token) = bearer {
            request = request.header(AUTHORIZATION, secret(&format!("Bearer {token}"))?);
        }
        let request = request.body(Full::from(body)).map_err(failed)?;
        let client = self.client.get_or_try_init(|| async { client() }).await?;
        tokio::time::timeout(self.within, answer(client, request))
            .await
            .map_err(|_| OutgoingError::TimedOut)?
    }
}

async fn answer(client: &HttpsClient, request: Request<Full<Bytes>>) -> Result<Answer, OutgoingError> {
    let began = Instant::now();
    let mut response = client.request(request).await.map_err(failed)?;
    let mut body = Vec::new();
    while body.len() < OUTGOING_BODY_BYTES_MAX {
        let Some(frame) = response.frame().await else { break };
        if let Ok(chunk) = frame.map_err(failed)?.into_data() {
            body.extend_from_slice(&chunk);
        }
    }
    body.truncate(OUTGOING_BODY_BYTES_MAX);
    Ok(Answer { status: response.status(), body, took: began.elapsed() })
}

/// The same TLS as towards PostgreSQL: rustls on ring. A system without any certificate authority
/// can still call over plain HTTP.
fn client() -> Result<HttpsClient, OutgoingError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

/// A header value that debug output does not show.
fn secret(text: &str) -> Result<HeaderValue, OutgoingError> {
    let mut value = HeaderValue::from_str(text).map_err(failed)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The outer errors only say that the request failed; the innermost says why.
fn failed(error: impl Error + 'static) -> OutgoingError {
    let mut innermost: &dyn Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    OutgoingError::Failed(innermost.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one call with these bytes; what was asked comes back when it is joined.
    async fn answering(answer: Vec<u8>) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?key=canary", listener.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4_096];
            let length = stream.read(&mut asked).await.unwrap();
            // A caller that has read enough closes.
            let _ = stream.write_all(&answer).await;
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        (url, asked)
    }

    fn outgoing() -> Outgoing {
        Outgoing::new(Duration::from_secs(5))
    }

    #[tokio::test]
    async fn json_goes_with_its_token_and_the_answer_comes_back() {
        let (url, asked) = answering(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok".to_vec()).await;
        let body = serde_json::json!({"a": 1});
        let answer = outgoing().post_json(&url, Some("secret"), &body).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.body), (201, b"ok".to_vec()));
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("POST /hook?key=canary HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("authorization: Bearer secret\r\n"), "{asked}");
        assert!(asked.contains("content-type: application/json\r\n"), "{asked}");
        assert!(asked.ends_with(r#"{"a":1}"#), "{asked}");
    }

    #[tokio::test]
    async fn a_form_is_encoded() {
        let (url, asked) = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
        outgoing().post_form(&url, &[("response", "a b&c"), ("secret", "é")]).await.unwrap();
        assert!(asked.await.unwrap().ends_with("\r\n\r\nresponse=a+b%26c&secret=%C3%A9"));
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let moved = b"HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let (url, _asked) = answering(moved.to_vec()).await;
        let answer = outgoing().post_json(&url, Some("secret"), &Value::Null).await.unwrap();
        assert_eq!(answer.status.as_u16(), 307);
    }

    #[tokio::test]
    async fn a_long_answer_is_read_up_to_the_bound() {
        let length = OUTGOING_BODY_BYTES_MAX + 100_000;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        let (url, _asked) = answering([head.into_bytes(), vec![b'x'; length]].concat()).await;
        let answer = outgoing().post_json(&url, None, &Value::Null).await.unwrap();
        assert_eq!(answer.body.len(), OUTGOING_BODY_BYTES_MAX);
    }

    #[tokio::test]
    async fn silence_ends_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let outgoing = Outgoing::new(Duration::from_millis(50));
        let error = outgoing.post_json(&url, None, &Value::Null).await.unwrap_err();
        assert!(matches!(error, OutgoingError::TimedOut), "{error}");
    }

    #[tokio::test]
    async fn an_error_holds_neither_url_nor_token() {
        let url = "http://127.0.0.1:1/hook?key=canary";
        for bearer in ["canary", "canary\n"] {
            let error = outgoing().post_json(url, Some(bearer), &Value::Null).await.unwrap_err();
            assert!(matches!(error, OutgoingError::Failed(_)));
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
        let error = outgoing().post_json("canary", None, &Value::Null).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }

    #[tokio::test]
    async fn over_https_nothing_is_said_to_who_speaks_no_tls() {
        let (url, _asked) = answering(b"no TLS at all".to_vec()).await;
        let url = url.replace("http://", "https://");
        let error = outgoing().post_json(&url, Some("secret"), &Value::Null).await.unwrap_err();
        assert!(matches!(error, OutgoingError::Failed(_)), "{error:?}");
    }
}
