//! The mail server: connections, and what its answers mean.
//!
//! A 5xx answer to a message is final; one to a connection or a login is a mistake of the
//! operator's or a trouble of the server's, and every message waits. Nothing falls back to less
//! protection than was configured.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use lettre::address::Envelope;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters, TlsParametersBuilder,
};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, Message};
use ligand_protocol::UnixMs;
use parking_lot::Mutex;

use super::NotSent;
use super::templates::Rendered;
use crate::config::{Email, Security};

/// For one command and its answer.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(15);
/// Connections kept between two messages.
const IDLE_MAX: usize = 4;
/// For a farewell, whose answer changes nothing.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(1);

/// How far a connection came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Connect,
    StartTls,
    Login,
}

/// How a connection is encrypted.
enum Protection {
    Tls(TlsParameters),
    StartTls(TlsParameters),
    None,
}

/// The mail server.
pub(super) struct Smtp {
    host: String,
    port: u16,
    protection: Protection,
    credentials: Option<Credentials>,
    hello: ClientId,
    from: Mailbox,
    reply_to: Option<Mailbox>,
    idle: Mutex<Vec<AsyncSmtpConnection>>,
}

impl Smtp {
    /// `None` where no mail server is configured.
    pub(super) fn new(email: &Email) -> Result<Option<Self>, String> {
        let (Some(host), Some(from)) = (&email.host, &email.from) else { return Ok(None) };
        let password = match (&email.password, &email.password_file) {
            (Some(password), _) => Some(password.expose().to_owned()),
            (None, Some(file)) => Some(first_line(file)?),
            (None, None) => None,
        };
        let credentials =
            email.username.clone().zip(password).map(|(name, password)| Credentials::new(name, password));
        Ok(Some(Self {
            host: host.clone(),
            port: email.port(),
            protection: Protection::new(email, host)?,
            credentials,
            hello: ClientId::Domain(from.email.domain().to_owned()),
            from: from.clone(),
            reply_to: email.reply_to.clone(),
            idle: Mutex::default(),
        }))
    }

    /// Sends one message to one address.
    pub(super) async fn send(
        &self,
        to: &Address,
        mail: &Rendered,
        id: &str,
        now: UnixMs,
    ) -> Result<(), NotSent> {
        let message = self.message(to, mail, id, now).map_err(|error| NotSent::Never(error.to_string()))?;
        let envelope = Envelope::new(Some(self.from.email.clone()), vec![to.clone()]);
        let envelope = envelope.map_err(|error| NotSent::Never(error.to_string()))?;
        let kept = self.idle.lock().pop();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connect().await.map_err(|(_, error)| NotSent::Unreachable(described(&error)))?,
        };
        // A connection after an error is closed already.
        connection.send(&envelope, &message.formatted()).await.map_err(|error| not_sent(&error))?;
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
        Ok(())
    }

    /// Connects and logs in, nothing more.
    pub(super) async fn probe(&self) -> Result<(), (Stage, String)> {
        let connected = tokio::time::timeout(COMMAND_TIME_MAX, self.connect()).await;
        let connected = connected.map_err(|_| (Stage::Connect, "does not answer in time".to_owned()))?;
        let connection = connected.map_err(|(stage, error)| (stage, error.to_string()))?;
        self.idle.lock().push(connection);
        self.close_idle().await;
        Ok(())
    }

    pub(super) async fn close_idle(&self) {
        let idle = std::mem::take(&mut *self.idle.lock());
        for mut connection in idle {
            // Who is silent now is left alone.
            let _ = tokio::time::timeout(FAREWELL_TIME_MAX, connection.quit()).await;
        }
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, (Stage, Error)> {
        let at = |stage| move |error| (stage, error);
        let wrapped = match &self.protection {
            Protection::Tls(tls) => Some(tls.clone()),
            Protection::StartTls(_) | Protection::None => None,
        };
        let address = (self.host.as_str(), self.port);
        let connecting =
            AsyncSmtpConnection::connect_tokio1(address, Some(COMMAND_TIME_MAX), &self.hello, wrapped, None);
        let mut connection = connecting.await.map_err(at(Stage::Connect))?;
        if let Protection::StartTls(tls) = &self.protection {
            connection.starttls(tls.clone(), &self.hello).await.map_err(at(Stage::StartTls))?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await.map_err(at(Stage::Login))?;
        }
        Ok(connection)
    }

    fn message(
        &self,
        to: &Address,
        mail: &Rendered,
        id: &str,
        now: UnixMs,
    ) -> Result<Message, lettre::error::Error> {
        let date = UNIX_EPOCH + Duration::from_millis(u64::try_from(now).unwrap_or(0));
        let mut builder = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to.clone()))
            .subject(mail.subject.clone())
            .date(date)
            .message_id(Some(format!("<{id}@{}>", self.from.email.domain())));
        if let Some(reply_to) = &self.reply_to {
            builder = builder.reply_to(reply_to.clone());
        }
        let body = MultiPart::alternative_plain_html(mail.text.clone(), mail.html.clone());
        let mut message = builder.multipart(body)?;
        // RFC 3834: no answering machine answers this.
        let name = HeaderName::new_from_ascii_str("Auto-Submitted");
        message.headers_mut().insert_raw(HeaderValue::new(name, "auto-generated".to_owned()));
        Ok(message)
    }
}

impl Protection {
    fn new(email: &Email, host: &str) -> Result<Self, String> {
        let tls = || tls(host, email.ca_file.as_deref());
        Ok(match email.security {
            Security::Tls => Self::Tls(tls()?),
            Security::StartTls => Self::StartTls(tls()?),
            Security::None => Self::None,
        })
    }
}

fn tls(host: &str, ca_file: Option<&Path>) -> Result<TlsParameters, String> {
    let mut builder = TlsParametersBuilder::new(host.to_owned());
    if let Some(path) = ca_file {
        let shown = path.display();
        let pem = std::fs::read(path).map_err(|error| format!("{shown}: cannot be read: {error}"))?;
        let certificate =
            Certificate::from_pem(&pem).map_err(|_| format!("{shown}: is no certificate in PEM"))?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
    }
    builder.build().map_err(|error| format!("email.host: no TLS to {host}: {error}"))
}

fn first_line(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: cannot be read: {error}"))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        Err(format!("{shown}: holds no password in its first line"))
    } else {
        Ok(line.to_owned())
    }
}

fn not_sent(error: &Error) -> NotSent {
    let text = described(error);
    // It wants a login or encryption first (RFC 4954, 6), which is nothing about the message.
    let about_us = error.status().is_some_and(|code| ["530", "538"].contains(&code.to_string().as_str()));
    if about_us {
        NotSent::Unreachable(text)
    } else if error.is_permanent() || error.is_client() {
        NotSent::Never(text)
    } else {
        NotSent::Later(text)
    }
}

/// What may be logged: a server's own words often hold the address.
fn described(error: &Error) -> String {
    match error.status() {
        Some(code) => format!("the mail server answers {code}"),
        None if error.is_timeout() => "the mail server does not answer in time".to_owned(),
        None => error.to_string(),
    }
}
