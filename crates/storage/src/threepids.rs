//! Third-party identifiers of accounts: e-mail addresses and phone numbers that sign in, reset a
//! password and get notices. An address belongs to one account at most.

use ligand_protocol::UnixMs;
use ligand_protocol::ids::{UserKey, ValidationId};
use ligand_protocol::validation::Medium;

use crate::audit::{self, AuditEvent};
use crate::sessions::Asked;
use crate::{Committed, Row, Store, StoreError, Write, outbox, params, validations};

/// An address of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threepid {
    pub medium: Medium,
    /// In its canonical form.
    pub address: String,
    pub validated_at: UnixMs,
    pub added_at: UnixMs,
}

/// How adding an address ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    Done,
    /// It belongs to an account already.
    InUse,
    /// The proof was used, or its time is over.
    ProofSpent,
    /// What the request was allowed by is no longer so.
    Overtaken,
}

const OWNER: &str = "SELECT user_id FROM threepids WHERE medium = $1 AND address = $2";
const LIST: &str = "SELECT medium, address, validated_at, added_at FROM threepids WHERE user_id = $1 \
    ORDER BY added_at, medium, address";
const ADD: &str = "INSERT INTO threepids (medium, address, user_id, validated_at, added_at) \
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (medium, address) DO NOTHING";
const REMOVE: &str = "DELETE FROM threepids WHERE medium = $1 AND address = $2 AND user_id = $3";
const REMOVE_ALL: &str = "DELETE FROM threepids WHERE user_id = $1";
const STILL_OWNED: &str =
    "UPDATE threepids SET user_id = user_id WHERE medium = $1 AND address = $2 AND user_id = $3";
const ACTIVE: &str = "UPDATE users SET state = state WHERE id = $1 AND state <> 2";

/// The statements that carry a guard, by name, for the test that removes each term of it.
pub(crate) const GUARDED: &[(&str, &str)] =
    &[("REMOVE", REMOVE), ("REMOVE_ALL", REMOVE_ALL), ("STILL_OWNED", STILL_OWNED), ("ACTIVE", ACTIVE)];

/// A proof and the address it stands for, for the batch that makes it an account's.
#[derive(Debug, Clone)]
pub struct Proved {
    pub validation: ValidationId,
    pub threepid: Threepid,
}

/// The writes that use a proof up and give the address to an account.
pub(crate) fn adding(user: UserKey, proved: &Proved) -> [Write; 2] {
    let Threepid { medium, address, validated_at, added_at } = &proved.threepid;
    [
        validations::consume(proved.validation, *added_at),
        Write::one(ADD, params![medium.as_str(), address.clone(), user, *validated_at, *added_at]),
    ]
}

/// The write that holds an address to its account.
pub(crate) fn still_owned(user: UserKey, medium: Medium, address: &str) -> Write {
    Write::one(STILL_OWNED, params![medium.as_str(), address, user])
}

/// The write that takes every address from an account that ends.
pub(crate) fn removing_all(user: UserKey) -> Write {
    Write::any(REMOVE_ALL, params![user])
}

impl Store {
    /// Whose address this is.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn owner_of(&self, medium: Medium, address: &str) -> Result<Option<UserKey>, StoreError> {
        let rows = self.read(OWNER, params![medium.as_str(), address]).await?;
        rows.first().map(|row| row.int(0).map(UserKey)).transpose()
    }

    /// The addresses of an account, the oldest first.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn threepids_of(&self, user: UserKey) -> Result<Vec<Threepid>, StoreError> {
        self.read(LIST, params![user]).await?.iter().map(threepid).collect()
    }

    /// Gives an address to an account. `asked` is what allowed it; without it the account need
    /// only be there.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn add_threepid(
        &self,
        user: UserKey,
        asked: Option<&Asked>,
        proved: &Proved,
        event: &AuditEvent,
    ) -> Result<Added, StoreError> {
        let mut batch = match asked {
            Some(asked) => asked.user_first(user),
            None => vec![Write::one(ACTIVE, params![user])],
        };
        batch.extend(asked.map(Asked::session_lives));
        // To the addresses that the account had before.
        batch.extend(outbox::notice(event));
        let proof = batch.len();
        batch.extend(adding(user, proved));
        batch.push(audit::write(event));
        Ok(match self.commit(batch, Vec::new()).await? {
            Committed::Done(_) => Added::Done,
            Committed::Conflict { at } if at < proof => Added::Overtaken,
            Committed::Conflict { at } if at == proof => Added::ProofSpent,
            Committed::Conflict { .. } => Added::InUse,
        })
    }

    /// Takes an address from an account. `false` if it was not the account's.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn remove_threepid(
        &self,
        user: UserKey,
        medium: Medium,
        address: &str,
        event: &AuditEvent,
    ) -> Result<bool, StoreError> {
        // To the address that goes, too.
        let mut batch: Vec<Write> = outbox::notice(event).into_iter().collect();
        batch.push(Write::one(REMOVE, params![medium.as_str(), address, user]));
        batch.push(audit::write(event));
        self.done(batch).await
    }
}

fn threepid(row: &Row) -> Result<Threepid, StoreError> {
    Ok(Threepid {
        medium: Medium::parse(row.text(0)?).ok_or_else(|| StoreError::corrupt("unknown medium"))?,
        address: row.text(1)?.to_owned(),
        validated_at: row.int(2)?,
        added_at: row.int(3)?,
    })
}
