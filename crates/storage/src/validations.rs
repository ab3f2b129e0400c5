//! Validations of e-mail addresses and phone numbers: asked for, confirmed by a code, used once.
//! Every change is guarded by what was read, so that of parallel guesses each counts, and of
//! parallel uses one wins (I20).

use ligand_protocol::UnixMs;
use ligand_protocol::ids::ValidationId;
use ligand_protocol::validation::{Medium, Purpose, Validation};

use crate::outbox::{self, Message};
use crate::{Committed, Row, Store, StoreError, Write, params};

macro_rules! columns {
    () => {
        "SELECT id, secret_hash, purpose, medium, address, send_attempt, sent, failures, next_link, expires_at, \
         validated_at FROM validations"
    };
}

const LOAD: &str = concat!(columns!(), " WHERE id = $1");
const FIND: &str =
    concat!(columns!(), " WHERE purpose = $1 AND medium = $2 AND address = $3 AND secret_hash = $4");
const INSERT: &str = "INSERT INTO validations \
    (id, secret_hash, purpose, medium, address, send_attempt, sent, next_link, created_at, expires_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
    ON CONFLICT (purpose, medium, address, secret_hash) DO NOTHING";
const SEND_AGAIN: &str = "UPDATE validations SET send_attempt = $3, sent = sent + 1, failures = 0, next_link = $4, \
    expires_at = $5 WHERE id = $1 AND sent = $2 AND validated_at IS NULL";
const DROP_EXPIRED: &str = "DELETE FROM validations WHERE id = $1 AND expires_at <= $2";
const VALIDATE: &str = "UPDATE validations SET validated_at = $4 \
    WHERE id = $1 AND sent = $2 AND failures = $3 AND validated_at IS NULL";
const COUNT_FAILURE: &str =
    "UPDATE validations SET failures = failures + 1 WHERE id = $1 AND sent = $2 AND failures = $3";
const CONSUME: &str =
    "DELETE FROM validations WHERE id = $1 AND validated_at IS NOT NULL AND expires_at > $2";

/// The statements that carry a guard, by name, for the test that removes each term of it.
pub(crate) const GUARDED: &[(&str, &str)] = &[
    ("SEND_AGAIN", SEND_AGAIN),
    ("DROP_EXPIRED", DROP_EXPIRED),
    ("VALIDATE", VALIDATE),
    ("COUNT_FAILURE", COUNT_FAILURE),
    ("CONSUME", CONSUME),
];

/// The write that uses a proof up, in the batch of what it allows.
pub(crate) fn consume(id: ValidationId, now: UnixMs) -> Write {
    Write::one(CONSUME, params![id.0, now])
}

impl Store {
    /// # Errors
    /// Storage trouble.
    pub async fn load_validation(&self, id: ValidationId) -> Result<Option<Validation>, StoreError> {
        self.read(LOAD, params![id.0]).await?.first().map(validation).transpose()
    }

    /// The validation that one client asked for.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn find_validation(
        &self,
        purpose: Purpose,
        medium: Medium,
        address: &str,
        secret_hash: [u8; 32],
    ) -> Result<Option<Validation>, StoreError> {
        let params = params![purpose.as_str(), medium.as_str(), address, secret_hash];
        self.read(FIND, params).await?.first().map(validation).transpose()
    }

    /// Begins a validation together with its message, if it has one; in the place of one that has
    /// expired. `false` if another request was faster: find it.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn begin_validation(
        &self,
        new: &Validation,
        expired: Option<ValidationId>,
        message: Option<&Message>,
        now: UnixMs,
    ) -> Result<bool, StoreError> {
        let mut batch = Vec::new();
        batch.extend(expired.map(|id| Write::one(DROP_EXPIRED, params![id.0, now])));
        batch.push(Write::one(
            INSERT,
            params![
                new.id.0,
                new.secret_hash,
                new.purpose.as_str(),
                new.medium.as_str(),
                new.address.clone(),
                new.send_attempt,
                new.sent,
                new.next_link.clone(),
                now,
                new.expires_at
            ],
        ));
        batch.extend(message.map(outbox::enqueue));
        self.done(batch).await
    }

    /// Sends another message for a validation that was read: `after` is how it is then. `false` if
    /// another request was faster.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn send_validation_again(
        &self,
        read: &Validation,
        after: &Validation,
        message: Option<&Message>,
    ) -> Result<bool, StoreError> {
        let mut batch = vec![Write::one(
            SEND_AGAIN,
            params![read.id.0, read.sent, after.send_attempt, after.next_link.clone(), after.expires_at],
        )];
        batch.extend(message.map(outbox::enqueue));
        self.done(batch).await
    }

    /// Records that the right code came, for a validation that was read. `false` if it has changed.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn validate(&self, read: &Validation, now: UnixMs) -> Result<bool, StoreError> {
        self.done(vec![Write::one(VALIDATE, params![read.id.0, read.sent, read.failures, now])]).await
    }

    /// Counts a wrong code, before anybody is told that it was wrong. `false` if it has changed.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn count_wrong_code(&self, read: &Validation) -> Result<bool, StoreError> {
        self.done(vec![Write::one(COUNT_FAILURE, params![read.id.0, read.sent, read.failures])]).await
    }

    pub(crate) async fn done(&self, batch: Vec<Write>) -> Result<bool, StoreError> {
        Ok(matches!(self.commit(batch, Vec::new()).await?, Committed::Done(_)))
    }
}

fn validation(row: &Row) -> Result<Validation, StoreError> {
    let count = |column| u32::try_from(row.int(column)?).map_err(|_| StoreError::corrupt("a negative count"));
    Ok(Validation {
        id: ValidationId(row.blob(0)?.try_into().map_err(|_| StoreError::corrupt("id of another length"))?),
        secret_hash: row.blob(1)?.try_into().map_err(|_| StoreError::corrupt("hash of another length"))?,
        purpose: Purpose::parse(row.text(2)?).ok_or_else(|| StoreError::corrupt("unknown purpose"))?,
        medium: Medium::parse(row.text(3)?).ok_or_else(|| StoreError::corrupt("unknown medium"))?,
        address: row.text(4)?.to_owned(),
        send_attempt: row.int(5)?,
        sent: count(6)?,
        failures: count(7)?,
        next_link: row.opt_text(8)?.map(ToOwned::to_owned),
        expires_at: row.int(9)?,
        validated_at: row.opt_int(10)?,
    })
}
