//! E-mails and text messages: made from a template when they are sent, and sent by the mail
//! server or the SMS hook of the operator.
//!
//! Nothing here is on the path of a request: a handler commits a message to the outbox together
//! with what it tells about and calls [`Mail::wake`]; `upkeep::outbox` sends it. A code that
//! validates is derived here, at the last moment, and is in no table.

pub mod notices;
mod sms;
mod smtp;
mod templates;

use std::time::Duration;

use data_encoding::HEXLOWER;
use lettre::Address;
use ligand_protocol::UnixMs;
use ligand_protocol::ids::ValidationId;
use ligand_protocol::limits::SEND_MS_MAX;
use ligand_protocol::token::TagKeys;
use ligand_protocol::validation::{Code, Medium};
use ligand_storage::outbox::Claimed;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use crate::config::Config;
use crate::outgoing::Outgoing;
use sms::Sms;
use smtp::Smtp;
pub use smtp::Stage;
use templates::Templates;

/// Why messages cannot be sent as they are configured; one line for each problem, with its place.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct MailError(Vec<String>);

/// Why one message was not sent. The text names no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotSent {
    /// The mail server, or the way to it, does not work: this is true of every message.
    Unreachable(String),
    /// Another try may go better.
    Later(String),
    /// It never will.
    Never(String),
}

/// How messages are sent.
pub struct Mail {
    smtp: Option<Smtp>,
    sms: Option<Sms>,
    templates: Templates,
    public_url: String,
    server_name: String,
    wake: Notify,
}

impl Mail {
    /// Reads the templates and what the connection to the mail server needs; connects to nobody.
    ///
    /// # Errors
    /// Names every file that is not as it should be.
    pub fn new(config: &Config) -> Result<Self, MailError> {
        Ok(Self {
            smtp: Smtp::new(&config.email).map_err(|problem| MailError(vec![problem]))?,
            sms: Sms::new(&config.sms),
            templates: Templates::read(config.email.templates.as_deref()).map_err(MailError)?,
            public_url: config.public_url(),
            server_name: config.server_name.clone(),
            wake: Notify::new(),
        })
    }

    /// Whether anybody can be written to.
    #[must_use]
    pub fn is_configured(&self, medium: Medium) -> bool {
        match medium {
            Medium::Email => self.smtp.is_some(),
            Medium::Msisdn => self.sms.is_some(),
        }
    }

    /// Says that there is a message to send. A hint: who misses it looks every few seconds.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Makes a message of its template, and sends it.
    ///
    /// # Errors
    /// When the receiving side has not taken it.
    pub async fn send(
        &self,
        keys: &TagKeys,
        outgoing: &Outgoing,
        claimed: &Claimed,
        now: UnixMs,
    ) -> Result<(), NotSent> {
        let within = Duration::from_millis(SEND_MS_MAX.unsigned_abs());
        let sending = tokio::time::timeout(within, self.send_now(keys, outgoing, claimed, now));
        sending.await.unwrap_or_else(|_| Err(NotSent::Later("it took too long".to_owned())))
    }

    async fn send_now(
        &self,
        keys: &TagKeys,
        outgoing: &Outgoing,
        claimed: &Claimed,
        now: UnixMs,
    ) -> Result<(), NotSent> {
        let message = &claimed.message;
        let values = self.values(keys, claimed)?;
        // A template that fails may be mended while the message waits.
        let unmade = |error| NotSent::Later(format!("template {}: {error}", message.template));
        match message.medium {
            Medium::Email => {
                let smtp = self.smtp.as_ref().ok_or_else(not_configured)?;
                let to = message.recipient.parse::<Address>();
                let to = to.map_err(|_| NotSent::Never("it is no address".to_owned()))?;
                let mail = self.templates.mail(&message.template, &values).map_err(unmade)?;
                smtp.send(&to, &mail, &self.message_id(claimed), now).await
            }
            Medium::Msisdn => {
                let sms = self.sms.as_ref().ok_or_else(not_configured)?;
                let text = self.templates.sms(&message.template, &values).map_err(unmade)?;
                sms.send(outgoing, &message.recipient, &text).await
            }
        }
    }

    /// Sends a test message to an address, past the outbox.
    ///
    /// # Errors
    /// As [`Mail::send`].
    pub async fn send_test(&self, to: &Address, id: &str, now: UnixMs) -> Result<(), NotSent> {
        let smtp = self.smtp.as_ref().ok_or_else(not_configured)?;
        let values = self.common(Map::new());
        let mail = self.templates.mail("test", &values);
        let mail = mail.map_err(|error| NotSent::Later(format!("template test: {error}")))?;
        smtp.send(to, &mail, id, now).await
    }

    /// Connects to the mail server and logs in, and sends nothing.
    ///
    /// # Errors
    /// How far it came, and what the server or the system says.
    pub async fn probe(&self) -> Result<(), (Stage, String)> {
        match &self.smtp {
            Some(smtp) => smtp.probe().await,
            None => Ok(()),
        }
    }

    /// Ends the connections that nobody needs at the moment.
    pub(crate) async fn rest(&self) {
        if let Some(smtp) = &self.smtp {
            smtp.close_idle().await;
        }
    }

    /// The same each time a message is sent, so that a mailbox can tell a repetition.
    fn message_id(&self, claimed: &Claimed) -> String {
        let message = &claimed.message;
        let what =
            [&self.server_name, &claimed.id.to_string(), &message.created_at.to_string(), &message.recipient];
        let hash = Sha256::new();
        let hash = what.iter().fold(hash, |hash, part| hash.chain_update(part).chain_update([0])).finalize();
        HEXLOWER.encode(&hash[..16])
    }

    /// What the template of a message may use.
    fn values(&self, keys: &TagKeys, claimed: &Claimed) -> Result<Map<String, Value>, NotSent> {
        let message = &claimed.message;
        let unreadable = || NotSent::Never("its parameters cannot be read".to_owned());
        let params: Map<String, Value> = serde_json::from_str(&message.params).map_err(|_| unreadable())?;
        let mut values = self.common(params);
        values.insert("recipient".to_owned(), message.recipient.clone().into());
        if let Some(at) = values.get("at").and_then(Value::as_i64) {
            values.insert("time".to_owned(), time(at).into());
        }
        if let Some(id) = values.remove("validation") {
            let id = id.as_str().and_then(validation_id).ok_or_else(unreadable)?;
            let number = values.remove("message").and_then(|number| number.as_u64()?.try_into().ok());
            let code = Code::derive(keys, id, number.ok_or_else(unreadable)?, message.medium);
            let code = code.expose();
            let (sid, url) = (HEXLOWER.encode(&id.0), &self.public_url);
            let link =
                format!("{url}/_matrix/client/unstable/org.ligand/validate/email?sid={sid}&token={code}");
            values.insert("link".to_owned(), link.into());
            values.insert("code".to_owned(), code.into());
        }
        Ok(values)
    }

    fn common(&self, params: Map<String, Value>) -> Map<String, Value> {
        let mut values: Map<String, Value> =
            params.into_iter().map(|(name, value)| (name, on_one_line(value))).collect();
        values.insert("server_name".to_owned(), self.server_name.clone().into());
        values.insert("public_url".to_owned(), self.public_url.clone().into());
        values
    }
}

fn not_configured() -> NotSent {
    NotSent::Later("no way to send it is configured".to_owned())
}

fn validation_id(hex: &str) -> Option<ValidationId> {
    HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok().map(ValidationId)
}

/// What a stranger chose (the name of a device) begins no line, so no header and no paragraph.
fn on_one_line(value: Value) -> Value {
    match value {
        Value::String(text) => {
            text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().into()
        }
        other => other,
    }
}

/// `2026-01-31 12:00:00 UTC`.
fn time(at: UnixMs) -> String {
    let since = Duration::from_millis(u64::try_from(at).unwrap_or(0));
    let time = std::time::UNIX_EPOCH.checked_add(since).unwrap_or(std::time::UNIX_EPOCH);
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}

/// The part of an address that a log may show.
#[must_use]
pub fn domain_of(address: &str) -> &str {
    address.rsplit_once('@').map_or("-", |(_, domain)| domain)
}

#[cfg(test)]
#[path = "mail_tests.rs"]
mod tests;
