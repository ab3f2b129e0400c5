//! A captcha's provider that listens on this machine and speaks the real ones' format.
//!
//! The answer to the captcha says what it does: `right…` is right, once; `silence` gets no answer,
//! `garbage` something else, `broken` a 500 that says yes, `cut` half an answer, `busy` the
//! provider's own trouble. Anything else is wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ligand_server::config::{CaptchaProvider, Config, SecretText};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

type Fields = BTreeMap<String, String>;

/// The provider; it goes with the test's runtime.
pub struct Verifier {
    url: String,
    asked: Arc<Mutex<Vec<Fields>>>,
}

impl Verifier {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/siteverify", listener.local_addr().expect("an address"));
        let asked: Arc<Mutex<Vec<Fields>>> = Arc::default();
        let all = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&all)));
            }
        });
        Self { url, asked }
    }

    /// What the operator configures to ask this provider.
    pub fn configure(&self, config: &mut Config) {
        config.captcha.provider = Some(CaptchaProvider::Recaptcha);
        config.captcha.site_key = Some("site-key".to_owned());
        config.captcha.secret = Some(SecretText::new("the secret"));
        config.captcha.verify_url = Some(self.url.clone());
        config.outgoing.timeout = Duration::from_millis(500);
    }

    /// Every question so far.
    pub fn asked(&self) -> Vec<Fields> {
        self.asked.lock().clone()
    }
}

async fn answer(mut stream: TcpStream, all: Arc<Mutex<Vec<Fields>>>) {
    let Some(fields) = question(&mut stream).await else { return };
    let response = fields.get("response").cloned().unwrap_or_default();
    let used = all.lock().iter().any(|before| before.get("response") == Some(&response));
    let right_secret = fields.get("secret").is_some_and(|secret| secret == "the secret");
    let no = |code: &str| ("200 OK", format!(r#"{{"success":false,"error-codes":["{code}"]}}"#));
    let (status, body) = match response.as_str() {
        _ if !right_secret => no("invalid-input-secret"),
        "silence" => std::future::pending().await,
        "garbage" => ("200 OK", "<html>come back later</html>".to_owned()),
        "broken" => ("500 Oops", r#"{"success":true}"#.to_owned()),
        "cut" => ("200 OK", r#"{"success":tr"#.to_owned()),
        "busy" => no("internal-error"),
        right if right.starts_with("right") && !used => ("200 OK", r#"{"success":true}"#.to_owned()),
        right if right.starts_with("right") => no("timeout-or-duplicate"),
        _ => no("invalid-input-response"),
    };
    all.lock().push(fields);
    let length = body.len() + usize::from(response == "cut");
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    let _ = stream.write_all(answer.as_bytes()).await;
}

/// The fields of a `POST` with a form; `None` for anything else.
async fn question(stream: &mut TcpStream) -> Option<Fields> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length: usize = head.split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
        if body.len() >= length {
            let form = head.starts_with("post /siteverify ")
                && head.contains("content-type: application/x-www-form-urlencoded");
            return form.then(|| form_urlencoded::parse(body.as_bytes()).into_owned().collect());
        }
    }
}
