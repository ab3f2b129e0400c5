//! Messages that wait to be sent.

use ligand_protocol::UnixMs;
use ligand_protocol::validation::Medium;

use crate::{Write, params};

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub medium: Medium,
    pub recipient: String,
    pub template: String,
    pub params: String,
    pub created_at: UnixMs,
    pub expires_at: UnixMs,
}

const INSERT: &str = "INSERT INTO outbox (medium, recipient, template, params, created_at, due_at, expires_at) \
    VALUES ($1, $2, $3, $4, $5, $5, $6)";

pub(crate) fn enqueue(message: &Message) -> Write {
    Write::one(
        INSERT,
        params![
            message.medium.as_str(),
            message.recipient.clone(),
            message.template.clone(),
            message.params.clone(),
            message.created_at,
            message.expires_at
        ],
    )
}
