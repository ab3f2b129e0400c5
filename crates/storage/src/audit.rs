//! The audit table: append-only, who did what to which session, from where, when.
//! Never a token, a code or a password.

use ligand_protocol::UnixMs;
use ligand_protocol::ids::{SessionId, UserKey};

use crate::outbox::Notice;
use crate::{Store, StoreError, Write, params};

/// One line of the audit table.
#[derive(Debug, Clone)]
pub struct AuditEvent {
    pub at: UnixMs,
    /// Who acted: a user name, `operator` for the command line, `application service` and its ID,
    /// none for a stranger.
    pub actor: Option<String>,
    /// What happened, e.g. `sign_in`, `reuse`, `logout`.
    pub action: &'static str,
    pub user: Option<UserKey>,
    pub session: Option<SessionId>,
    pub generation: Option<u32>,
    pub address: Option<String>,
    pub user_agent: Option<String>,
    pub detail: Option<String>,
    /// What the owner is told of it by e-mail. Not a column: it goes to the outbox.
    pub notice: Option<Notice>,
}

impl AuditEvent {
    /// An event of a moment, with nothing else known yet.
    #[must_use]
    pub const fn new(action: &'static str, at: UnixMs) -> Self {
        Self {
            at,
            actor: None,
            action,
            user: None,
            session: None,
            generation: None,
            address: None,
            user_agent: None,
            detail: None,
            notice: None,
        }
    }
}

const INSERT: &str = "INSERT INTO audit (at, actor, action, user_id, session_id, generation, address, user_agent, detail) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

const COUNT: &str = "SELECT COUNT(*) FROM audit WHERE action = $1 AND session_id = $2";

pub(crate) fn write(event: &AuditEvent) -> Write {
    Write::one(
        INSERT,
        params![
            event.at,
            event.actor.clone(),
            event.action,
            event.user,
            event.session,
            event.generation,
            event.address.clone(),
            event.user_agent.clone(),
            event.detail.clone()
        ],
    )
}

impl Store {
    /// Appends an event that belongs to no other write.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn record(&self, event: &AuditEvent) -> Result<(), StoreError> {
        self.commit(vec![write(event)], Vec::new()).await.map(drop)
    }

    /// How often an action was recorded for a session.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn count_audit(&self, action: &str, session: SessionId) -> Result<i64, StoreError> {
        let rows = self.read(COUNT, params![action, session]).await?;
        rows.first().map_or(Ok(0), |row| row.int(0))
    }
}
