//! Registration tokens: which exist, and using one up. Stored as hashes, so that a stolen
//! database lets nobody in; the first characters are kept so that an operator can tell them apart.

use ligand_protocol::UnixMs;

use crate::{Committed, Row, Store, StoreError, Write, params};

/// A registration token as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationToken {
    pub token_hash: [u8; 32],
    /// The first characters of the token.
    pub name: String,
    /// How many accounts it may make; none for any number.
    pub uses_allowed: Option<i64>,
    pub used: i64,
    pub expires_at: Option<UnixMs>,
    pub created_at: UnixMs,
    pub revoked_at: Option<UnixMs>,
}

const COLUMNS: &str = "SELECT token_hash, name, uses_allowed, used, expires_at, created_at, revoked_at FROM registration_tokens ORDER BY created_at, name";
const FIND: &str = "SELECT token_hash, name, uses_allowed, used, expires_at, created_at, revoked_at \
    FROM registration_tokens WHERE token_hash = $1";
const INSERT: &str = "INSERT INTO registration_tokens (token_hash, name, uses_allowed, used, expires_at, created_at) \
    VALUES ($1, $2, $3, 0, $4, $5) ON CONFLICT (token_hash) DO NOTHING";
const USE_UP: &str = "UPDATE registration_tokens SET used = used + 1 WHERE token_hash = $1 AND revoked_at IS NULL \
    AND (expires_at IS NULL OR expires_at > $2) AND (uses_allowed IS NULL OR used < uses_allowed)";
const REVOKE: &str =
    "UPDATE registration_tokens SET revoked_at = $2 WHERE token_hash = $1 AND revoked_at IS NULL";

/// The statements that carry a guard, by name, for the test that removes each term of it.
pub(crate) const GUARDED: &[(&str, &str)] = &[("USE_UP", USE_UP), ("REVOKE", REVOKE)];

/// The write that takes one use; a conflict means that none is left.
pub(crate) fn use_up(token_hash: [u8; 32], now: UnixMs) -> Write {
    Write::one(USE_UP, params![token_hash, now])
}

impl Store {
    /// # Errors
    /// Storage trouble.
    pub async fn list_registration_tokens(&self) -> Result<Vec<RegistrationToken>, StoreError> {
        self.read(COLUMNS, Vec::new()).await?.iter().map(token).collect()
    }

    /// # Errors
    /// Storage trouble.
    pub async fn find_registration_token(
        &self,
        hash: [u8; 32],
    ) -> Result<Option<RegistrationToken>, StoreError> {
        self.read(FIND, params![hash]).await?.first().map(token).transpose()
    }

    /// `false` if the token exists already.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn add_registration_token(&self, new: &RegistrationToken) -> Result<bool, StoreError> {
        let write = Write::one(
            INSERT,
            params![new.token_hash, new.name.clone(), new.uses_allowed, new.expires_at, new.created_at],
        );
        Ok(matches!(self.commit(vec![write], Vec::new()).await?, Committed::Done(_)))
    }

    /// `false` if there is no such token, or it was revoked before.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn revoke_registration_token(&self, hash: [u8; 32], now: UnixMs) -> Result<bool, StoreError> {
        let write = Write::one(REVOKE, params![hash, now]);
        Ok(matches!(self.commit(vec![write], Vec::new()).await?, Committed::Done(_)))
    }
}

fn token(row: &Row) -> Result<RegistrationToken, StoreError> {
    Ok(RegistrationToken {
        token_hash: row.blob(0)?.try_into().map_err(|_| StoreError::corrupt("hash of another length"))?,
        name: row.text(1)?.to_owned(),
        uses_allowed: row.opt_int(2)?,
        used: row.int(3)?,
        expires_at: row.opt_int(4)?,
        created_at: row.int(5)?,
        revoked_at: row.opt_int(6)?,
    })
}
