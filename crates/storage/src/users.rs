//! User rows: accounts, their passwords and their states.
//!
//! Whatever takes a permission from an account is one batch: the user row first, guarded by what
//! was read, then devices, sessions, audit and feed.

use ligand_protocol::UnixMs;
use ligand_protocol::ids::{DeviceId, Localpart, SessionId, UserKey, ValidationId};
use ligand_protocol::session::{AccountState, EndReason};
use ligand_protocol::validation::Medium;

use crate::audit::{self, AuditEvent};
use crate::changes::Change;
use crate::outbox;
use crate::registration_tokens;
use crate::sessions::{Asked, Opened, Verified, ending_all};
use crate::threepids::{self, Proved};
use crate::{Committed, Row, Store, StoreError, Touched, Write, params, validations};

/// An account.
#[derive(Debug, Clone)]
pub struct User {
    pub key: UserKey,
    pub localpart: String,
    /// A PHC string; absent in an account without a password.
    pub password_hash: Option<PasswordHash>,
    pub admin: bool,
    pub state: AccountState,
    pub suspended: bool,
    pub guest: bool,
    pub epoch: i64,
    pub created_at: UnixMs,
    pub deactivated_at: Option<UnixMs>,
    pub password_changed_at: Option<UnixMs>,
    pub last_sign_in_at: Option<UnixMs>,
}

impl User {
    /// What a decision about this account, taken now, is to be guarded by.
    #[must_use]
    pub const fn verified(&self) -> Verified {
        Verified { epoch: self.epoch, password_changed_at: self.password_changed_at }
    }
}

/// A stored password hash; it does not show itself in debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(pub String);

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash")
    }
}

/// An account to create.
#[derive(Debug, Clone)]
pub struct NewUser {
    pub key: UserKey,
    pub localpart: Localpart,
    pub password_hash: Option<PasswordHash>,
    pub admin: bool,
    pub guest: bool,
    pub now: UnixMs,
}

/// What comes with a new account in the same transaction.
#[derive(Debug, Default)]
pub struct Registration<'a> {
    /// The registration token to use up.
    pub token: Option<[u8; 32]>,
    /// The user-interactive auth session to close, with the revision it must still have.
    pub uia: Option<([u8; 32], i64)>,
    /// Addresses that were proved, to be the account's.
    pub threepids: Vec<Proved>,
    /// The first device and session; none when the login is inhibited.
    pub session: Option<(&'a DeviceId, Option<String>, &'a Opened)>,
}

/// The guest account that is to become a user's, as its access token showed it.
#[derive(Debug, Clone, Copy)]
pub struct Upgrade {
    pub guest: UserKey,
    pub epoch: i64,
    /// The session of that access token.
    pub session: SessionId,
}

impl Registration<'_> {
    /// The writes that use up what was proved and give the account what comes of it, each with what
    /// a conflict in it means. The account is there by then.
    fn using_up(&self, user: UserKey, now: UnixMs) -> impl Iterator<Item = (Write, Created)> {
        let token = self.token.map(|token| (registration_tokens::use_up(token, now), Created::TokenSpent));
        let addresses = self.threepids.iter().flat_map(move |proved| {
            let [consume, add] = threepids::adding(user, proved);
            [(consume, Created::ProofSpent), (add, Created::AddressTaken)]
        });
        token.into_iter().chain(addresses)
    }
}

/// How creating an account ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    Done,
    /// The name exists; or the guest account is not, or no longer, there to be upgraded.
    NameTaken,
    /// The registration token is used up, expired or revoked.
    TokenSpent,
    /// Another request completed the same authentication.
    AuthSpent,
    /// The proof of an address was used, or its time is over.
    ProofSpent,
    /// The address belongs to an account by now.
    AddressTaken,
}

/// How an account's state is to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    Lock,
    Unlock,
    Suspended(bool),
    Admin(bool),
}

macro_rules! user_columns {
    () => {
        "id, localpart, password_hash, admin, state, suspended, guest, epoch, created_at, deactivated_at, \
         password_changed_at, last_sign_in_at"
    };
}

const FIND: &str = concat!("SELECT ", user_columns!(), " FROM users WHERE localpart = $1");
const FIND_BY_ADDRESS: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM users WHERE id IN (SELECT user_id FROM threepids WHERE medium = $1 AND address = $2)"
);
const LOAD: &str = concat!("SELECT ", user_columns!(), " FROM users WHERE id = $1");
const LIST: &str =
    concat!("SELECT ", user_columns!(), " FROM users WHERE localpart > $1 ORDER BY localpart LIMIT $2");
const COUNT: &str = "SELECT COUNT(*) FROM users";
const INSERT: &str = "INSERT INTO users (id, localpart, password_hash, admin, guest, created_at, password_changed_at) \
    VALUES ($1, $2, $3, $4, $5, $6, CASE WHEN CAST($3 AS text) IS NOT NULL THEN CAST($6 AS bigint) END) \
    ON CONFLICT (localpart) DO NOTHING";
const UPGRADE: &str =
    "UPDATE users SET guest = 0, password_hash = $2, password_changed_at = $3 WHERE id = $1 AND guest = 1";
const SET_PASSWORD: &str = "UPDATE users SET password_hash = $4, password_changed_at = $5, epoch = epoch + CAST($6 AS bigint) \
    WHERE id = $1 AND epoch = $2 AND password_changed_at IS NOT DISTINCT FROM $3 AND state <> 2";
const KEEP_SESSION: &str = "UPDATE sessions SET user_epoch = $2 WHERE session_id = $1 AND status = 0";
const DEACTIVATE: &str = "UPDATE users SET state = 2, password_hash = NULL, epoch = epoch + 1, deactivated_at = $3, erased = $4 \
    WHERE id = $1 AND epoch = $2 AND state <> 2";
const LOCK: &str = "UPDATE users SET state = 1 WHERE id = $1 AND state = 0";
const UNLOCK: &str = "UPDATE users SET state = 0 WHERE id = $1 AND state = 1";
const SUSPEND: &str = "UPDATE users SET suspended = $2 WHERE id = $1 AND suspended <> $2 AND state <> 2";
const SET_ADMIN: &str = "UPDATE users SET admin = $2 WHERE id = $1 AND admin <> $2";
const NO_ADMIN: &str = "UPDATE users SET admin = admin WHERE id = $1 AND admin = 0";

/// The statements that carry a guard, by name, for the test that removes each term of it.
pub(crate) const GUARDED: &[(&str, &str)] = &[
    ("UPGRADE", UPGRADE),
    ("SET_PASSWORD", SET_PASSWORD),
    ("KEEP_SESSION", KEEP_SESSION),
    ("DEACTIVATE", DEACTIVATE),
    ("LOCK", LOCK),
    ("UNLOCK", UNLOCK),
    ("SUSPEND", SUSPEND),
    ("SET_ADMIN", SET_ADMIN),
    ("NO_ADMIN", NO_ADMIN),
];

/// What a forgotten password is reset by.
#[derive(Debug, Clone, Copy)]
pub struct ResetProof<'a> {
    pub validation: ValidationId,
    /// The address that was proved, to be still the account's.
    pub medium: Medium,
    pub address: &'a str,
    /// The authentication it was given in, with the revision it must still have.
    pub uia: Option<([u8; 32], i64)>,
}

/// Whose session survives a password change, on which device.
pub type Spared<'a> = (SessionId, Option<&'a DeviceId>);

impl Store {
    /// # Errors
    /// Storage trouble.
    pub async fn find_user(&self, localpart: &Localpart) -> Result<Option<User>, StoreError> {
        self.read(FIND, params![localpart.as_str()]).await?.first().map(user).transpose()
    }

    /// The account that an address belongs to.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn find_user_by_address(
        &self,
        medium: Medium,
        address: &str,
    ) -> Result<Option<User>, StoreError> {
        self.read(FIND_BY_ADDRESS, params![medium.as_str(), address]).await?.first().map(user).transpose()
    }

    /// # Errors
    /// Storage trouble.
    pub async fn load_user(&self, key: UserKey) -> Result<Option<User>, StoreError> {
        self.read(LOAD, params![key]).await?.first().map(user).transpose()
    }

    /// Accounts after a name, in order of name, at most `limit`.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn list_users(&self, after: &str, limit: u32) -> Result<Vec<User>, StoreError> {
        self.read(LIST, params![after, limit]).await?.iter().map(user).collect()
    }

    /// # Errors
    /// Storage trouble.
    pub async fn count_users(&self) -> Result<i64, StoreError> {
        self.read(COUNT, Vec::new()).await?.first().map_or(Ok(0), |row| row.int(0))
    }

    /// Creates an account with all that comes with it, or nothing.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn create_user(
        &self,
        new: &NewUser,
        with: &Registration<'_>,
        event: &AuditEvent,
    ) -> Result<Created, StoreError> {
        let mut batch = Vec::new();
        let mut outcomes = Vec::new();
        let mut push = |write: Write, on_conflict: Created| {
            batch.push(write);
            outcomes.push(on_conflict);
        };
        if let Some((id_hash, revision)) = with.uia {
            push(crate::uia::close(id_hash, revision), Created::AuthSpent);
        }
        push(
            Write::one(
                INSERT,
                params![
                    new.key,
                    new.localpart.as_str(),
                    new.password_hash.as_ref().map(|hash| hash.0.clone()),
                    new.admin,
                    new.guest,
                    new.now
                ],
            ),
            Created::NameTaken,
        );
        for (write, on_conflict) in with.using_up(new.key, new.now) {
            push(write, on_conflict);
        }
        if let Some((device, name, opened)) = &with.session {
            batch.extend(self.opening(new.key, 0, device, name.clone(), opened));
        }
        batch.push(audit::write(event));
        match self.commit(batch, Vec::new()).await? {
            Committed::Done(_) => Ok(Created::Done),
            Committed::Conflict { at } => outcomes
                .get(at)
                .copied()
                .ok_or_else(|| StoreError::corrupt("a new account's session exists already")),
        }
    }

    /// Makes a guest account a user's, with all that comes with a new account, or changes nothing.
    /// Its sessions stay; one on the new session's device ends.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn upgrade_guest(
        &self,
        upgrade: Upgrade,
        hash: &PasswordHash,
        with: &Registration<'_>,
        event: &AuditEvent,
    ) -> Result<Created, StoreError> {
        let Upgrade { guest, epoch, session } = upgrade;
        let verified = Verified { epoch, password_changed_at: None };
        let asked = Asked { session, verified, uia: with.uia };
        let mut batch = asked.user_first(guest);
        let auth_spent = with.uia.map(|_| batch.len() - 1);
        batch.push(Write::one(UPGRADE, params![guest, hash.0.clone(), event.at]));
        let first = batch.len();
        let (using_up, outcomes): (Vec<_>, Vec<_>) = with.using_up(guest, event.at).unzip();
        batch.extend(using_up);
        match &with.session {
            Some((device, name, opened)) => {
                let [device, end, open] = self.opening(guest, epoch, device, name.clone(), opened);
                batch.extend([device, asked.session_lives(), end, open]);
            }
            None => batch.push(asked.session_lives()),
        }
        batch.push(audit::write(event));
        batch.extend(self.feed(Change::User(guest), event.at));
        Ok(match self.commit_notifying(batch, vec![Touched::User(guest)]).await? {
            Committed::Done(_) => Created::Done,
            Committed::Conflict { at } if Some(at) == auth_spent => Created::AuthSpent,
            Committed::Conflict { at } => {
                let outcome = at.checked_sub(first).and_then(|at| outcomes.get(at));
                outcome.copied().unwrap_or(Created::NameTaken)
            }
        })
    }

    /// Sets a password. With `end_others`, every session but the spared one ends and its devices
    /// go; without, nothing else changes. `false` if the account is no longer as it was read, or
    /// what the request was allowed by is no longer so.
    ///
    /// # Errors
    /// Storage trouble.
    #[expect(clippy::too_many_arguments, reason = "each is a guard or a value of one batch")]
    pub async fn set_password(
        &self,
        user: UserKey,
        verified: Verified,
        hash: &PasswordHash,
        end_others: bool,
        spare: Option<Spared<'_>>,
        asked: Option<&Asked>,
        event: &AuditEvent,
    ) -> Result<bool, StoreError> {
        let now = event.at;
        let Verified { epoch, password_changed_at } = verified;
        let mut batch = asked.map_or_else(Vec::new, |asked| asked.user_first(user));
        batch.push(Write::one(
            SET_PASSWORD,
            params![user, epoch, password_changed_at, hash.0.clone(), now, end_others],
        ));
        if end_others {
            let [devices, sessions] = ending_all(user, EndReason::PasswordChanged, now, spare);
            batch.push(devices);
            batch.extend(asked.map(Asked::session_lives));
            batch.push(sessions);
            if let Some((session, _)) = spare {
                batch.push(Write::one(KEEP_SESSION, params![session, epoch + 1]));
            }
        } else {
            batch.extend(asked.map(Asked::session_lives));
        }
        batch.push(audit::write(event));
        batch.extend(outbox::notice(event));
        batch.extend(self.feed(Change::User(user), now));
        self.commit_announced(batch, vec![Touched::User(user)], true).await
    }

    /// Sets a password on the proof of an address, which is used up; the authentication it was given
    /// in is closed. With `end_all`, every session ends and its device goes. `false` if any of it
    /// is no longer so.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn reset_password(
        &self,
        user: UserKey,
        verified: Verified,
        hash: &PasswordHash,
        end_all: bool,
        proof: &ResetProof<'_>,
        event: &AuditEvent,
    ) -> Result<bool, StoreError> {
        let now = event.at;
        let Verified { epoch, password_changed_at } = verified;
        let ResetProof { validation, medium, address, uia } = *proof;
        let mut batch = vec![
            Write::one(SET_PASSWORD, params![user, epoch, password_changed_at, hash.0.clone(), now, end_all]),
            threepids::still_owned(user, medium, address),
            validations::consume(validation, now),
        ];
        batch.extend(uia.map(|(id_hash, revision)| crate::uia::close(id_hash, revision)));
        if end_all {
            batch.extend(ending_all(user, EndReason::PasswordChanged, now, None));
        }
        batch.extend(outbox::notice(event));
        batch.push(audit::write(event));
        batch.extend(self.feed(Change::User(user), now));
        self.commit_announced(batch, vec![Touched::User(user)], true).await
    }

    /// Deactivates for good: no password, no session, no device. `false` if the account is no
    /// longer as it was read, or what the request was allowed by is no longer so.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn deactivate(
        &self,
        user: UserKey,
        epoch: i64,
        erase: bool,
        asked: Option<&Asked>,
        event: &AuditEvent,
    ) -> Result<bool, StoreError> {
        let mut batch = asked.map_or_else(Vec::new, |asked| asked.user_first(user));
        batch.push(Write::one(DEACTIVATE, params![user, epoch, event.at, erase]));
        batch.push(threepids::removing_all(user));
        let [devices, sessions] = ending_all(user, EndReason::Deactivated, event.at, None);
        batch.push(devices);
        batch.extend(asked.map(Asked::session_lives));
        batch.push(sessions);
        batch.push(audit::write(event));
        batch.extend(self.feed(Change::User(user), event.at));
        self.commit_announced(batch, vec![Touched::User(user)], true).await
    }

    /// Locks, unlocks, suspends or not, makes an administrator or a plain user. `false` if that
    /// changed nothing. No session ends: unlocking brings the same tokens back.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn set_flag(&self, user: UserKey, flag: Flag, event: &AuditEvent) -> Result<bool, StoreError> {
        self.flag(Vec::new(), user, flag, event).await
    }

    /// As [`Store::set_flag`], for one administrator against others: `false` also if the user has
    /// become an administrator.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn moderate(&self, user: UserKey, flag: Flag, event: &AuditEvent) -> Result<bool, StoreError> {
        self.flag(vec![Write::one(NO_ADMIN, params![user])], user, flag, event).await
    }

    async fn flag(
        &self,
        mut batch: Vec<Write>,
        user: UserKey,
        flag: Flag,
        event: &AuditEvent,
    ) -> Result<bool, StoreError> {
        batch.push(match flag {
            Flag::Lock => Write::one(LOCK, params![user]),
            Flag::Unlock => Write::one(UNLOCK, params![user]),
            Flag::Suspended(suspended) => Write::one(SUSPEND, params![user, suspended]),
            Flag::Admin(admin) => Write::one(SET_ADMIN, params![user, admin]),
        });
        batch.push(audit::write(event));
        batch.extend(self.feed(Change::User(user), event.at));
        self.commit_announced(batch, vec![Touched::User(user)], true).await
    }
}

fn user(row: &Row) -> Result<User, StoreError> {
    let state =
        AccountState::from_code(row.int(4)?).ok_or_else(|| StoreError::corrupt("unknown account state"))?;
    Ok(User {
        key: UserKey(row.int(0)?),
        localpart: row.text(1)?.to_owned(),
        password_hash: row.opt_text(2)?.map(|hash| PasswordHash(hash.to_owned())),
        admin: row.int(3)? != 0,
        state,
        suspended: row.int(5)? != 0,
        guest: row.int(6)? != 0,
        epoch: row.int(7)?,
        created_at: row.int(8)?,
        deactivated_at: row.opt_int(9)?,
        password_changed_at: row.opt_int(10)?,
        last_sign_in_at: row.opt_int(11)?,
    })
}
