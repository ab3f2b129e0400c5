//! OpenID tokens: each tells a third party whose it is, for an hour, while the account is in use and
//! nobody has signed it out everywhere. Stored as hashes only.

use ligand_protocol::UnixMs;
use ligand_protocol::ids::UserKey;
use ligand_protocol::token::TokenHash;

use crate::{Store, StoreError, Write, params};

const INSERT: &str = "INSERT INTO openid_tokens (token_hash, user_id, user_epoch, expires_at) \
    SELECT $1, id, epoch, CAST($3 AS bigint) FROM users WHERE id = $2 AND state = 0 AND suspended = 0";
const OWNER: &str = "SELECT u.localpart FROM openid_tokens t JOIN users u ON u.id = t.user_id \
    WHERE t.token_hash = $1 AND t.expires_at > $2 AND u.epoch = t.user_epoch AND u.state = 0 AND u.suspended = 0";

/// The statements that carry a guard, by name, for the test that removes each term of it.
pub(crate) const GUARDED: &[(&str, &str)] = &[("INSERT", INSERT)];

impl Store {
    /// Makes a token. `false` if the account is locked, suspended or deactivated.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn add_openid_token(
        &self,
        hash: TokenHash,
        user: UserKey,
        expires_at: UnixMs,
    ) -> Result<bool, StoreError> {
        let write = Write::one(INSERT, params![hash, user, expires_at]);
        self.commit_announced(vec![write], Vec::new(), false).await
    }

    /// The localpart of whoever a token stands for.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn owner_of_openid_token(
        &self,
        hash: TokenHash,
        now: UnixMs,
    ) -> Result<Option<String>, StoreError> {
        let rows = self.read(OWNER, params![hash, now]).await?;
        rows.first().map(|row| row.text(0).map(ToOwned::to_owned)).transpose()
    }
}
