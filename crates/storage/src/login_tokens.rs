//! Login tokens (`m.login.token`): each signs in once, within its two minutes, while the account is
//! as it was when the token was made. Stored as hashes only.

use ligand_protocol::UnixMs;
use ligand_protocol::ids::UserKey;
use ligand_protocol::token::TokenHash;

use crate::audit::{self, AuditEvent};
use crate::sessions::{Asked, Verified};
use crate::{Committed, Store, StoreError, Write, params};

/// Whom a login token signs in, and the account as it was then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginToken {
    pub user: UserKey,
    pub verified: Verified,
}

const FIND: &str = "SELECT user_id, user_epoch, password_changed_at FROM login_tokens WHERE token_hash = $1 AND expires_at > $2";
const INSERT: &str = "INSERT INTO login_tokens (token_hash, user_id, user_epoch, password_changed_at, expires_at) \
    VALUES ($1, $2, $3, $4, $5)";
const SPEND: &str = "DELETE FROM login_tokens WHERE token_hash = $1 AND expires_at > $2";

/// The statements that carry a guard, by name, for the test that removes each term of it.
pub(crate) const GUARDED: &[(&str, &str)] = &[("SPEND", SPEND)];

/// The write that uses a token up; a conflict means that it was used before, or has expired.
pub(crate) fn spend(hash: TokenHash, now: UnixMs) -> Write {
    Write::one(SPEND, params![hash, now])
}

impl Store {
    /// Makes a token for the owner of the session that asks. `false` if what the request was
    /// allowed by is no longer so.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn add_login_token(
        &self,
        hash: TokenHash,
        user: UserKey,
        expires_at: UnixMs,
        asked: &Asked,
        event: &AuditEvent,
    ) -> Result<bool, StoreError> {
        let Verified { epoch, password_changed_at } = asked.verified;
        let mut batch = asked.user_first(user);
        batch.push(Write::one(INSERT, params![hash, user, epoch, password_changed_at, expires_at]));
        batch.push(asked.session_lives());
        batch.push(audit::write(event));
        Ok(matches!(self.commit(batch, Vec::new()).await?, Committed::Done(_)))
    }

    /// A token that nobody has used, and that has not expired.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn find_login_token(
        &self,
        hash: TokenHash,
        now: UnixMs,
    ) -> Result<Option<LoginToken>, StoreError> {
        let rows = self.read(FIND, params![hash, now]).await?;
        let token = |row: &crate::Row| {
            let verified = Verified { epoch: row.int(1)?, password_changed_at: row.opt_int(2)? };
            Ok(LoginToken { user: UserKey(row.int(0)?), verified })
        };
        rows.first().map(token).transpose()
    }
}
