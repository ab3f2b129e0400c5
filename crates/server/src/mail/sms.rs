//! The SMS hook: a service of the operator's that is told of each text message.

use serde_json::json;

use super::NotSent;
use crate::config;
use crate::outgoing::{Outgoing, OutgoingError};

/// The hook.
pub(super) struct Sms {
    url: String,
    token: Option<config::SecretText>,
}

impl Sms {
    /// `None` where no hook is configured.
    pub(super) fn new(config: &config::Sms) -> Option<Self> {
        let url = config.hook_url.clone()?;
        Some(Self { url, token: config.hook_token.clone() })
    }

    /// `POST` of `{"to", "text"}`; any 2xx means that it is sent.
    pub(super) async fn send(&self, outgoing: &Outgoing, to: &str, text: &str) -> Result<(), NotSent> {
        let token = self.token.as_ref().map(config::SecretText::expose);
        let body = json!({"to": to, "text": text});
        match outgoing.post_json(&self.url, token, &body).await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            // A hook has no word for "never": what it refuses is tried until it expires.
            Ok(answer) => Err(NotSent::Later(format!("the SMS hook answers {}", answer.status.as_u16()))),
            Err(error @ (OutgoingError::TimedOut | OutgoingError::Failed(_))) => {
                Err(NotSent::Unreachable(format!("the SMS hook: {error}")))
            }
        }
    }
}
