//! What upkeep removes, in bounded batches: each call touches at most the rows it is told to, so
//! that no request waits for it.

use ligand_protocol::UnixMs;
use ligand_protocol::ids::SessionId;

use crate::sessions::session_id;
use crate::{Committed, Store, StoreError, Write, params};

const DELETE_ENDED: &str = "DELETE FROM sessions WHERE session_id IN \
    (SELECT session_id FROM sessions WHERE status = 1 AND ended_at < $1 ORDER BY ended_at LIMIT $2) RETURNING 1";
const DELETE_UIA: &str = "DELETE FROM uia_sessions WHERE id_hash IN \
    (SELECT id_hash FROM uia_sessions WHERE expires_at < $1 ORDER BY expires_at LIMIT $2) RETURNING 1";
const DELETE_VALIDATIONS: &str = "DELETE FROM validations WHERE id IN \
    (SELECT id FROM validations WHERE expires_at < $1 ORDER BY expires_at LIMIT $2) RETURNING 1";
const DELETE_LOGIN_TOKENS: &str = "DELETE FROM login_tokens WHERE token_hash IN \
    (SELECT token_hash FROM login_tokens WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2) RETURNING 1";
const DELETE_OPENID_TOKENS: &str = "DELETE FROM openid_tokens WHERE token_hash IN \
    (SELECT token_hash FROM openid_tokens WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2) RETURNING 1";
const DELETE_MAIL: &str = "DELETE FROM outbox WHERE id IN \
    (SELECT id FROM outbox WHERE expires_at <= $1 ORDER BY id LIMIT $2) RETURNING 1";
const NEXT_IDS: &str = "SELECT session_id FROM sessions WHERE session_id > $1 ORDER BY session_id LIMIT $2";
const ERASE_SEALS: &str = "UPDATE sessions SET sealed = NULL WHERE session_id > $1 AND session_id <= $2 AND status = 0 \
    AND sealed IS NOT NULL AND acked_gen = gen AND acked_at <= CASE WHEN api = 1 THEN CAST($3 AS bigint) ELSE CAST($4 AS bigint) END RETURNING 1";
const ERASE_SEAL: &str = "UPDATE sessions SET sealed = NULL WHERE session_id = $1 AND status = 0 AND acked_gen = gen AND gen = $2 RETURNING 1";
const EXPIRE: &str = "UPDATE sessions SET status = 1, end_reason = $4, ended_at = $3, sealed = NULL \
    WHERE session_id > $1 AND session_id <= $2 AND status = 0 AND session_exp < CAST($3 AS bigint) RETURNING 1";
const READ_META: &str = "SELECT value FROM meta WHERE key = $1";
const RAISE_META: &str = "INSERT INTO meta (key, value) VALUES ($1, $2) \
    ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE meta.value < excluded.value RETURNING 1";

/// The statements that carry a guard, by name, for the test that removes each term of it.
pub(crate) const GUARDED: &[(&str, &str)] = &[
    ("DELETE_ENDED", DELETE_ENDED),
    ("DELETE_UIA", DELETE_UIA),
    ("DELETE_VALIDATIONS", DELETE_VALIDATIONS),
    ("DELETE_LOGIN_TOKENS", DELETE_LOGIN_TOKENS),
    ("DELETE_OPENID_TOKENS", DELETE_OPENID_TOKENS),
    ("DELETE_MAIL", DELETE_MAIL),
    ("ERASE_SEALS", ERASE_SEALS),
    ("ERASE_SEAL", ERASE_SEAL),
    ("EXPIRE", EXPIRE),
    ("RAISE_META", RAISE_META),
];

/// A stretch of the sessions table, from one id (exclusive) to another (inclusive).
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    pub after: SessionId,
    pub to: SessionId,
    pub len: usize,
}

impl Store {
    /// Deletes up to `limit` sessions that ended before a moment; how many went.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn delete_ended_sessions(&self, before: UnixMs, limit: u32) -> Result<u64, StoreError> {
        self.count_changed(Write::any(DELETE_ENDED, params![before, limit])).await
    }

    /// Deletes up to `limit` user-interactive auth sessions that expired before a moment.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn delete_expired_uia(&self, before: UnixMs, limit: u32) -> Result<u64, StoreError> {
        self.count_changed(Write::any(DELETE_UIA, params![before, limit])).await
    }

    /// Deletes up to `limit` validations that expired before a moment.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn delete_expired_validations(&self, before: UnixMs, limit: u32) -> Result<u64, StoreError> {
        self.count_changed(Write::any(DELETE_VALIDATIONS, params![before, limit])).await
    }

    /// Deletes up to `limit` login tokens that have expired by a moment.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn delete_expired_login_tokens(&self, by: UnixMs, limit: u32) -> Result<u64, StoreError> {
        self.count_changed(Write::any(DELETE_LOGIN_TOKENS, params![by, limit])).await
    }

    /// Deletes up to `limit` OpenID tokens that have expired by a moment.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn delete_expired_openid_tokens(&self, by: UnixMs, limit: u32) -> Result<u64, StoreError> {
        self.count_changed(Write::any(DELETE_OPENID_TOKENS, params![by, limit])).await
    }

    /// Deletes up to `limit` messages that nobody wants any more; how many went.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn delete_expired_mail(&self, now: UnixMs, limit: u32) -> Result<u64, StoreError> {
        self.count_changed(Write::any(DELETE_MAIL, params![now, limit])).await
    }

    /// The next stretch of at most `limit` sessions after an id; `None` at the end of the table.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn next_stretch(&self, after: SessionId, limit: u32) -> Result<Option<Stretch>, StoreError> {
        let rows = self.read(NEXT_IDS, params![after, limit]).await?;
        rows.last().map(|row| Ok(Stretch { after, to: session_id(row, 0)?, len: rows.len() })).transpose()
    }

    /// Erases, in one stretch, the seals whose retry window is over: acknowledged at or before
    /// the given moments of each API.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn erase_seals(
        &self,
        stretch: Stretch,
        oauth_acked_before: UnixMs,
        legacy_acked_before: UnixMs,
    ) -> Result<u64, StoreError> {
        let write = Write::any(
            ERASE_SEALS,
            params![stretch.after, stretch.to, oauth_acked_before, legacy_acked_before],
        );
        self.count_changed(write).await
    }

    /// Erases one seal, if its generation is still the acknowledged head.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn erase_seal(&self, id: SessionId, generation: u32) -> Result<u64, StoreError> {
        self.count_changed(Write::any(ERASE_SEAL, params![id, generation])).await
    }

    /// Ends, in one stretch, the sessions whose absolute end has passed.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn end_expired(&self, stretch: Stretch, now: UnixMs) -> Result<u64, StoreError> {
        let write = Write::any(
            EXPIRE,
            params![stretch.after, stretch.to, now, ligand_protocol::session::EndReason::Expired],
        );
        self.count_changed(write).await
    }

    /// The latest moment this installation is known to have seen; 0 if none.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn clock_floor(&self) -> Result<UnixMs, StoreError> {
        self.read(READ_META, params!["clock_floor"]).await?.first().map_or(Ok(0), |row| row.int(0))
    }

    /// Raises that moment; it never goes back.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn raise_clock_floor(&self, now: UnixMs) -> Result<(), StoreError> {
        self.count_changed(Write::any(RAISE_META, params!["clock_floor", now])).await.map(drop)
    }

    async fn count_changed(&self, write: Write) -> Result<u64, StoreError> {
        match self.commit(vec![write], Vec::new()).await? {
            Committed::Done(results) => Ok(results.first().map_or(0, |rows| rows.len() as u64)),
            Committed::Conflict { .. } => Ok(0),
        }
    }
}
