//! Rows of user-interactive authentication: what an unfinished request has proved so far.
//! Every change expects the revision that was read, so a stage counts once and a session
//! completes once, under any concurrency (I20). The session's name is stored as a hash only.

use ligand_protocol::UnixMs;
use ligand_protocol::ids::UserKey;

use crate::{Committed, Row, Store, StoreError, Write, params};

/// An authentication under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UiaRow {
    /// SHA-256 of the session's name.
    pub id_hash: [u8; 32],
    pub user: Option<UserKey>,
    pub operation: String,
    pub request_hash: [u8; 32],
    /// The proofs so far, in the text form of `ligand_protocol::uia`.
    pub completed: String,
    pub created_at: UnixMs,
    pub expires_at: UnixMs,
    pub revision: i64,
}

const FIND: &str = "SELECT id_hash, user_id, operation, request_hash, completed, created_at, expires_at, revision \
    FROM uia_sessions WHERE id_hash = $1";
const INSERT: &str = "INSERT INTO uia_sessions \
    (id_hash, user_id, operation, request_hash, completed, created_at, expires_at, revision) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, 0)";
const ADVANCE: &str = "UPDATE uia_sessions SET completed = $3, request_hash = $4, revision = revision + 1 \
    WHERE id_hash = $1 AND revision = $2";
const CLOSE: &str = "DELETE FROM uia_sessions WHERE id_hash = $1 AND revision = $2";

/// The statements that carry a guard, by name, for the test that removes each term of it.
pub(crate) const GUARDED: &[(&str, &str)] = &[("ADVANCE", ADVANCE), ("CLOSE", CLOSE)];

/// The write that ends an authentication, in the batch of the request it allowed.
pub(crate) fn close(id_hash: [u8; 32], revision: i64) -> Write {
    Write::one(CLOSE, params![id_hash, revision])
}

impl Store {
    /// # Errors
    /// Storage trouble.
    pub async fn find_uia(&self, id_hash: [u8; 32]) -> Result<Option<UiaRow>, StoreError> {
        self.read(FIND, params![id_hash]).await?.first().map(uia_row).transpose()
    }

    /// # Errors
    /// Storage trouble.
    pub async fn open_uia(&self, row: &UiaRow) -> Result<(), StoreError> {
        let write = Write::one(
            INSERT,
            params![
                row.id_hash,
                row.user,
                row.operation.clone(),
                row.request_hash,
                row.completed.clone(),
                row.created_at,
                row.expires_at
            ],
        );
        self.commit(vec![write], Vec::new()).await.map(drop)
    }

    /// Records a further proof, given for the request of this hash. `false` if another request was faster.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn advance_uia(
        &self,
        id_hash: [u8; 32],
        revision: i64,
        completed: &str,
        request_hash: [u8; 32],
    ) -> Result<bool, StoreError> {
        let write = Write::one(ADVANCE, params![id_hash, revision, completed, request_hash]);
        Ok(matches!(self.commit(vec![write], Vec::new()).await?, Committed::Done(_)))
    }

    /// Ends an authentication by itself. `false` if another request was faster.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn close_uia(&self, id_hash: [u8; 32], revision: i64) -> Result<bool, StoreError> {
        Ok(matches!(self.commit(vec![close(id_hash, revision)], Vec::new()).await?, Committed::Done(_)))
    }
}

fn uia_row(row: &Row) -> Result<UiaRow, StoreError> {
    let hash = |column| -> Result<[u8; 32], StoreError> {
        row.blob(column)?.try_into().map_err(|_| StoreError::corrupt("hash of another length"))
    };
    Ok(UiaRow {
        id_hash: hash(0)?,
        user: row.opt_int(1)?.map(UserKey),
        operation: row.text(2)?.to_owned(),
        request_hash: hash(3)?,
        completed: row.text(4)?.to_owned(),
        created_at: row.int(5)?,
        expires_at: row.int(6)?,
        revision: row.int(7)?,
    })
}
