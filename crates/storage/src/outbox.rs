//! Messages that wait to be sent: e-mails and text messages.
//!
//! A message is added in the batch of what it tells about, so it is sent if and only if that is
//! so. Whoever sends it claims it first, for as long as a lease lasts; the number of attempts is
//! what a claim is known by. A process that ends between sending and settling leaves the claim to
//! run out, and the message is sent once more: twice at worst, never not at all.

use ligand_protocol::UnixMs;
use ligand_protocol::ids::{DeviceId, UserKey};
use ligand_protocol::validation::Medium;

use crate::audit::AuditEvent;
use crate::{Committed, Row, Store, StoreError, Write, params};

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub medium: Medium,
    pub recipient: String,
    /// The name of its template.
    pub template: String,
    /// JSON for the template. Never a code that validates.
    pub params: String,
    pub created_at: UnixMs,
    /// Afterwards nobody wants it any more.
    pub expires_at: UnixMs,
}

/// A message for the owner of an account, at every e-mail address of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub template: &'static str,
    /// JSON for the template.
    pub params: String,
    pub expires_at: UnixMs,
}

/// A message that one process has to itself while its lease lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    pub id: i64,
    /// How often it was claimed, this time included.
    pub attempts: i64,
    pub message: Message,
}

const INSERT: &str = "INSERT INTO outbox (medium, recipient, template, params, created_at, due_at, expires_at) \
    VALUES ($1, $2, $3, $4, $5, $5, $6)";
/// One message for each e-mail address, unless the user has the device `$6` already.
const TO_OWNER: &str = "INSERT INTO outbox (medium, recipient, template, params, created_at, due_at, expires_at) \
    SELECT t.medium, t.address, CAST($2 AS text), CAST($3 AS text), CAST($4 AS bigint), CAST($4 AS bigint), CAST($5 AS bigint) \
    FROM threepids t LEFT JOIN devices d ON d.user_id = t.user_id AND d.device_id = $6 \
    WHERE t.user_id = $1 AND t.medium = 'email' AND d.device_id IS NULL";
const DUE: &str = "SELECT id, attempts, medium, recipient, template, params, created_at, expires_at \
    FROM outbox WHERE due_at <= $1 AND expires_at > $1 ORDER BY due_at, id LIMIT $2";
const CLAIM: &str =
    "UPDATE outbox SET attempts = attempts + 1, due_at = $3 WHERE id = $1 AND attempts = $2 RETURNING 1";
const POSTPONE: &str = "UPDATE outbox SET due_at = $3 WHERE id = $1 AND attempts = $2";
const SETTLE: &str = "DELETE FROM outbox WHERE id = $1 AND attempts = $2";
const COUNT: &str = "SELECT COUNT(*) FROM outbox";

/// The statements that carry a guard, by name, for the test that removes each term of it.
pub(crate) const GUARDED: &[(&str, &str)] =
    &[("TO_OWNER", TO_OWNER), ("CLAIM", CLAIM), ("POSTPONE", POSTPONE), ("SETTLE", SETTLE)];

/// The device that no user has.
const NO_DEVICE: &str = "";

/// The write that adds a message.
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

/// The write that adds one message for every e-mail address of a user, if there is any.
pub(crate) fn enqueue_to_owner(
    user: UserKey,
    template: &str,
    params: &str,
    now: UnixMs,
    expires_at: UnixMs,
) -> Write {
    Write::any(TO_OWNER, params![user, template, params, now, expires_at, NO_DEVICE])
}

/// The write that tells the owner of what happened, where the event says so.
pub(crate) fn notice(event: &AuditEvent) -> Option<Write> {
    let (Notice { template, params, expires_at }, user) = (event.notice.as_ref()?, event.user?);
    Some(enqueue_to_owner(user, template, params, event.at, *expires_at))
}

/// The same, if the user does not have that device yet: to be put before the device's own write.
pub(crate) fn notice_of_new_device(event: &AuditEvent, device: &DeviceId) -> Option<Write> {
    let (Notice { template, params, expires_at }, user) = (event.notice.as_ref()?, event.user?);
    let values = params![user, *template, params.clone(), event.at, *expires_at, device.as_str()];
    Some(Write::any(TO_OWNER, values))
}

impl Store {
    /// Adds a message that belongs to no other write.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn add_mail(&self, message: &Message) -> Result<(), StoreError> {
        self.commit(vec![enqueue(message)], Vec::new()).await.map(drop)
    }

    /// Claims up to `limit` messages that are due, the oldest first. Nobody else gets them before
    /// `lease_until`.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn claim_mail(
        &self,
        now: UnixMs,
        lease_until: UnixMs,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        let due: Vec<Claimed> =
            self.read(DUE, params![now, limit]).await?.iter().map(claimed).collect::<Result<_, _>>()?;
        if due.is_empty() {
            return Ok(due);
        }
        let claim = |due: &Claimed| Write::any(CLAIM, params![due.id, due.attempts - 1, lease_until]);
        let Committed::Done(results) = self.commit(due.iter().map(claim).collect(), Vec::new()).await? else {
            return Ok(Vec::new());
        };
        let ours = due.into_iter().zip(results).filter(|(_, rows)| !rows.is_empty());
        Ok(ours.map(|(claimed, _)| claimed).collect())
    }

    /// Removes a message that was sent. `false` if somebody else has claimed it since.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn mail_sent(&self, id: i64, attempts: i64) -> Result<bool, StoreError> {
        self.settle_mail(Write::one(SETTLE, params![id, attempts])).await
    }

    /// Has a message wait for another try. `false` as in [`Store::mail_sent`].
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn mail_failed(&self, id: i64, attempts: i64, due_at: UnixMs) -> Result<bool, StoreError> {
        self.settle_mail(Write::one(POSTPONE, params![id, attempts, due_at])).await
    }

    /// Removes a message that nobody will ever take. `false` as in [`Store::mail_sent`].
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn mail_dropped(&self, id: i64, attempts: i64) -> Result<bool, StoreError> {
        self.settle_mail(Write::one(SETTLE, params![id, attempts])).await
    }

    /// Messages that wait, or are being sent.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn outbox_depth(&self) -> Result<i64, StoreError> {
        self.read(COUNT, Vec::new()).await?.first().map_or(Ok(0), |row| row.int(0))
    }

    async fn settle_mail(&self, write: Write) -> Result<bool, StoreError> {
        Ok(matches!(self.commit(vec![write], Vec::new()).await?, Committed::Done(_)))
    }
}

/// A message that is due, as it will be when it is claimed.
fn claimed(row: &Row) -> Result<Claimed, StoreError> {
    let medium = Medium::parse(row.text(2)?).ok_or_else(|| StoreError::corrupt("unknown medium"))?;
    Ok(Claimed {
        id: row.int(0)?,
        attempts: row.int(1)? + 1,
        message: Message {
            medium,
            recipient: row.text(3)?.to_owned(),
            template: row.text(4)?.to_owned(),
            params: row.text(5)?.to_owned(),
            created_at: row.int(6)?,
            expires_at: row.int(7)?,
        },
    })
}
