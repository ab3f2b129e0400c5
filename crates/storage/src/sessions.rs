//! Session rows: sign-in, the guarded changes of a refresh, the endings.
//!
//! A refresh is one compare-and-set on one row. Zero rows is never an error: it means that what
//! the caller had read is no longer so, and the caller loads and asks the rules again.
//! Rows are locked in one order everywhere: users, devices, sessions, feed.

use ligand_protocol::UnixMs;
use ligand_protocol::ids::{DeviceId, SessionId, UserKey};
use ligand_protocol::session::{
    AccountState, Api, Door, EndReason, Head, Owner, PREVIOUS_ACCESS_TOKEN_GRACE_MS, Session, Spending,
    Status, Windows,
};
use ligand_protocol::token::TokenHash;

use crate::audit::{self, AuditEvent};
use crate::changes::Change;
use crate::outbox;
use crate::{Committed, Row, Store, StoreError, Touched, Value, Write, params};

/// A session as the rules see it, with what they need of its user.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub session: Session,
    pub device_id: Option<DeviceId>,
    pub localpart: String,
    pub owner: Owner,
    pub admin: bool,
    pub guest: bool,
    pub suspended: bool,
    /// Where the head was minted.
    pub seen: Seen,
}

/// From where a session was last seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub ip: Option<String>,
    pub user_agent: Option<String>,
}

/// A session as its owner or an operator sees it.
#[derive(Debug, Clone)]
pub struct SessionRow {
    pub session: Session,
    pub device_id: Option<DeviceId>,
    pub localpart: String,
    pub display_name: Option<String>,
    pub created_at: UnixMs,
    pub ended_at: Option<UnixMs>,
    pub last_seen: UnixMs,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
}

/// A sign-in: the account as it was verified, and the session to open.
#[derive(Debug, Clone)]
pub struct SignIn {
    pub user: UserKey,
    /// Epoch and password as they were when the credentials were verified.
    pub verified: Verified,
    /// The login token that this sign-in uses up, where one proved who signs in.
    pub login_token: Option<TokenHash>,
    /// A hash to store instead of the verified one, when its parameters are outdated.
    pub rehashed: Option<String>,
    pub device_id: DeviceId,
    /// Whether the client named the device; then an older session of it may have to end.
    pub device_named: bool,
    /// Used only if the device is new.
    pub initial_device_display_name: Option<String>,
    pub opened: Opened,
    pub audit: AuditEvent,
}

/// The state of an account that a decision was based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    pub epoch: i64,
    pub password_changed_at: Option<UnixMs>,
}

/// What a request that user-interactive auth protects was allowed by. All of it must still be so
/// at the commit, or a session that was ended, or a password that was replaced, would count.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// The session that asks.
    pub session: SessionId,
    /// The account as its password was verified.
    pub verified: Verified,
    /// The authentication session to close, with the revision it must still have.
    pub uia: Option<([u8; 32], i64)>,
}

impl Asked {
    /// The guard on the user row, which is locked first, and the end of the authentication.
    pub(crate) fn user_first(&self, user: UserKey) -> Vec<Write> {
        let Verified { epoch, password_changed_at } = self.verified;
        let mut batch = vec![Write::one(AS_VERIFIED, params![user, epoch, password_changed_at])];
        batch.extend(self.uia.map(|(id_hash, revision)| crate::uia::close(id_hash, revision)));
        batch
    }

    /// The guard on the session, to be taken after device rows and before other session rows.
    pub(crate) fn session_lives(&self) -> Write {
        Write::one(STILL_LIVES, params![self.session])
    }
}

/// The first generation of a session. It is born acknowledged: there is nothing before it.
#[derive(Debug, Clone)]
pub struct Opened {
    pub id: SessionId,
    pub api: Api,
    pub client_id: Option<String>,
    pub rt_hash: Option<TokenHash>,
    pub at_hash: TokenHash,
    pub rt_exp: UnixMs,
    pub at_exp: UnixMs,
    pub session_exp: UnixMs,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
    pub now: UnixMs,
}

/// What a committed rotation left in the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotated {
    pub generation: u32,
    pub at_exp: UnixMs,
    pub session_exp: UnixMs,
}

macro_rules! session_columns {
    () => {
        "s.session_id, s.user_id, s.user_epoch, s.client_id, s.api, s.status, s.end_reason, s.gen, \
         s.acked_gen, s.acked_at, s.head_at, s.rt_hash, s.rt_prev_hash, s.sealed, s.rt_exp, \
         s.session_exp, s.at_hash, s.at_exp, s.at_prev_hash, s.at_prev_exp, s.device_id, u.localpart"
    };
}

const LOAD: &str = concat!(
    "SELECT ",
    session_columns!(),
    ", u.epoch, u.state, u.admin, u.guest, u.suspended, s.ip, s.user_agent \
     FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.session_id = $1"
);

macro_rules! list_columns {
    () => {
        concat!(
            session_columns!(),
            ", d.display_name, s.created_at, s.ended_at, s.last_seen, s.ip, s.user_agent \
             FROM sessions s JOIN users u ON u.id = s.user_id \
             LEFT JOIN devices d ON d.user_id = s.user_id AND d.device_id = s.device_id "
        )
    };
}

const LIST: &str = concat!(
    "SELECT ",
    list_columns!(),
    "WHERE s.session_id > $1 AND (s.status = 0 OR CAST($2 AS bigint) = 1) \
     ORDER BY s.session_id LIMIT $3"
);
const LIST_OF_USER: &str = concat!(
    "SELECT ",
    list_columns!(),
    "WHERE s.user_id = $1 AND (s.status = 0 OR CAST($2 AS bigint) = 1) ORDER BY s.created_at, s.session_id"
);
const SHOW: &str = concat!("SELECT ", list_columns!(), "WHERE s.session_id = $1");

/// The rotation that the presented token itself allows, with no load before it. `$4` = 1 at
/// `/tokenrefresh`, `$11` = 1 where a locked account may refresh (the OAuth grant).
pub(crate) const ROTATE: &str = "UPDATE sessions SET gen = gen + 1, head_at = $5, last_seen = $5, ip = $13, user_agent = $14, sealed = $6, rt_hash = $7, at_hash = $8, \
      acked_gen = CASE WHEN CAST($4 AS bigint) = 1 THEN gen + 1 ELSE gen END, \
      acked_at = CASE WHEN CAST($4 AS bigint) = 1 THEN CAST($5 AS bigint) END, \
      rt_prev_hash = CASE WHEN CAST($4 AS bigint) = 1 THEN NULL ELSE rt_hash END, \
      at_prev_hash = CASE WHEN CAST($4 AS bigint) = 1 THEN NULL ELSE at_hash END, \
      at_prev_exp = CASE WHEN CAST($4 AS bigint) = 1 THEN NULL ELSE at_exp END, \
      rt_exp = CASE WHEN session_exp < CAST($9 AS bigint) THEN session_exp ELSE CAST($9 AS bigint) END, \
      at_exp = CASE WHEN session_exp < CAST($10 AS bigint) THEN session_exp ELSE CAST($10 AS bigint) END \
    WHERE session_id = $1 AND status = 0 AND rt_hash = $2 AND rt_exp > $5 AND session_exp > $5 \
      AND client_id IS NOT DISTINCT FROM $3 AND api = $12 \
      AND user_epoch >= (SELECT epoch FROM users WHERE users.id = sessions.user_id \
                        AND (state = 0 OR (state = 1 AND CAST($11 AS bigint) = 1))) \
    RETURNING gen, at_exp, session_exp";

/// `/tokenrefresh` with the token before an unacknowledged head: burns it with its successors.
const BURN: &str = "UPDATE sessions SET gen = gen + 1, acked_gen = gen + 1, head_at = $3, acked_at = $3, \
      last_seen = $3, ip = $8, user_agent = $9, \
      sealed = NULL, rt_hash = $4, at_hash = $5, rt_prev_hash = NULL, at_prev_hash = NULL, at_prev_exp = NULL, \
      rt_exp = CASE WHEN session_exp < CAST($6 AS bigint) THEN session_exp ELSE CAST($6 AS bigint) END, \
      at_exp = CASE WHEN session_exp < CAST($7 AS bigint) THEN session_exp ELSE CAST($7 AS bigint) END \
    WHERE session_id = $1 AND status = 0 AND rt_prev_hash = $2 AND acked_gen = gen - 1 \
      AND rt_exp > $3 AND session_exp > $3 AND api = 0 AND client_id IS NULL \
      AND user_epoch >= (SELECT epoch FROM users WHERE users.id = sessions.user_id AND state = 0) \
    RETURNING gen, at_exp, session_exp";

const ACKNOWLEDGE: &str = "UPDATE sessions SET acked_gen = gen, acked_at = $3, \
      sealed = CASE WHEN CAST($4 AS bigint) = 1 THEN sealed END, \
      at_prev_exp = CASE WHEN at_prev_exp > CAST($5 AS bigint) THEN CAST($5 AS bigint) ELSE at_prev_exp END \
    WHERE session_id = $1 AND status = 0 AND acked_gen = gen - 1 AND at_hash = $2";

const RESEAL: &str = "UPDATE sessions SET at_hash = $3, sealed = $4, \
      at_exp = CASE WHEN session_exp < CAST($5 AS bigint) THEN session_exp ELSE CAST($5 AS bigint) END \
    WHERE session_id = $1 AND status = 0 AND at_hash = $2 AND sealed IS NOT NULL \
    RETURNING gen, at_exp, session_exp";

const END: &str = "UPDATE sessions SET status = 1, end_reason = $2, ended_at = $3, sealed = NULL WHERE session_id = $1 AND status = 0";

const END_DEVICE: &str = "UPDATE sessions SET status = 1, end_reason = $3, ended_at = $4, sealed = NULL \
    WHERE user_id = $1 AND device_id = $2 AND status = 0";

const END_ALL_OF: &str = "UPDATE sessions SET status = 1, end_reason = $2, ended_at = $3, sealed = NULL \
    WHERE user_id = $1 AND status = 0 AND session_id <> $4";

const OPEN: &str = "INSERT INTO sessions (session_id, user_id, user_epoch, device_id, client_id, api, status, \
      gen, acked_gen, acked_at, head_at, rt_hash, rt_exp, session_exp, at_hash, at_exp, created_at, last_seen, ip, user_agent) \
    VALUES ($1, $2, $3, $4, $5, $6, 0, 1, 1, $7, $7, $8, $9, $10, $11, $12, $7, $7, $13, $14)";

/// Locks the user row, so that a password change and a sign-in cannot pass each other.
const VERIFIED: &str = "UPDATE users SET last_sign_in_at = $4, password_hash = COALESCE(CAST($5 AS text), password_hash) \
    WHERE id = $1 AND epoch = $2 AND password_changed_at IS NOT DISTINCT FROM $3 AND state = 0";

const UPSERT_DEVICE: &str = "INSERT INTO devices (user_id, device_id, display_name, created_at) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (user_id, device_id) DO UPDATE SET display_name = devices.display_name";

const DELETE_DEVICE: &str = "DELETE FROM devices WHERE user_id = $1 AND device_id = $2";

/// A session id that no session has, for statements that spare one.
const NO_SESSION: SessionId = SessionId([0; 16]);

impl Store {
    /// # Errors
    /// Storage trouble.
    pub async fn load_session(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        let rows = self.read(LOAD, params![id]).await?;
        rows.first().map(loaded).transpose()
    }

    /// Sessions after a given id, in order of id, at most `limit`.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn list_sessions(
        &self,
        after: SessionId,
        with_ended: bool,
        limit: u32,
    ) -> Result<Vec<SessionRow>, StoreError> {
        self.read(LIST, params![after, with_ended, limit]).await?.iter().map(session_row).collect()
    }

    /// # Errors
    /// Storage trouble.
    pub async fn sessions_of(&self, user: UserKey, with_ended: bool) -> Result<Vec<SessionRow>, StoreError> {
        self.read(LIST_OF_USER, params![user, with_ended]).await?.iter().map(session_row).collect()
    }

    /// # Errors
    /// Storage trouble.
    pub async fn show_session(&self, id: SessionId) -> Result<Option<SessionRow>, StoreError> {
        self.read(SHOW, params![id]).await?.first().map(session_row).transpose()
    }

    /// Opens a session on a device and ends the older one there, in one transaction (I15).
    /// `false` if the account changed since its credentials were verified, or its login token is
    /// used up.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn sign_in(&self, sign_in: &SignIn) -> Result<bool, StoreError> {
        let SignIn { user, verified, device_id, opened, .. } = sign_in;
        let mut batch = vec![Write::one(
            VERIFIED,
            params![
                *user,
                verified.epoch,
                verified.password_changed_at,
                opened.now,
                sign_in.rehashed.clone()
            ],
        )];
        batch.extend(sign_in.login_token.map(|token| crate::login_tokens::spend(token, opened.now)));
        batch.extend(outbox::notice_of_new_device(&sign_in.audit, device_id));
        batch.extend(self.opening(
            *user,
            verified.epoch,
            device_id,
            sign_in.initial_device_display_name.clone(),
            opened,
        ));
        batch.push(audit::write(&sign_in.audit));
        let mut touched = Vec::new();
        if sign_in.device_named {
            batch.extend(self.feed(Change::User(*user), opened.now));
            touched.push(Touched::User(*user));
        }
        self.commit_announced(batch, touched, sign_in.device_named).await
    }

    /// The writes that put a new session on a device. The device row comes first: it locks, so
    /// that two sign-ins at once leave one session.
    pub(crate) fn opening(
        &self,
        user: UserKey,
        epoch: i64,
        device_id: &DeviceId,
        initial_display_name: Option<String>,
        opened: &Opened,
    ) -> [Write; 3] {
        let device = device_id.as_str();
        let now = opened.now;
        [
            Write::any(UPSERT_DEVICE, params![user, device, initial_display_name, now]),
            Write::any(END_DEVICE, params![user, device, EndReason::Replaced, now]),
            Write::one(
                OPEN,
                params![
                    opened.id,
                    user,
                    epoch,
                    device,
                    opened.client_id.clone(),
                    opened.api,
                    now,
                    opened.rt_hash,
                    opened.rt_exp,
                    opened.session_exp,
                    opened.at_hash,
                    opened.at_exp,
                    opened.ip.clone(),
                    opened.user_agent.clone()
                ],
            ),
        ]
    }

    /// Replaces the head by the next generation, if the row still has `presented` where it was
    /// when the caller judged it. `None` on zero rows.
    ///
    /// # Errors
    /// Storage trouble.
    #[expect(clippy::too_many_arguments, reason = "each is a guard or a value of one statement")]
    pub async fn rotate(
        &self,
        id: SessionId,
        presented: TokenHash,
        spending: Spending,
        door: Door,
        client_id: Option<&str>,
        head: &Head,
        seen: Seen,
        now: UnixMs,
    ) -> Result<Option<Rotated>, StoreError> {
        let strict = door == Door::TokenRefresh;
        let write = match spending {
            Spending::Head => Write::one(
                ROTATE,
                params![
                    id,
                    presented,
                    client_id,
                    strict,
                    now,
                    head.sealed.clone(),
                    head.rt_hash,
                    head.at_hash,
                    head.rt_exp,
                    head.at_exp,
                    door == Door::Grant,
                    if door == Door::Grant { Api::OAuth } else { Api::Legacy },
                    seen.ip,
                    seen.user_agent
                ],
            ),
            Spending::Predecessor => Write::one(
                BURN,
                params![
                    id,
                    presented,
                    now,
                    head.rt_hash,
                    head.at_hash,
                    head.rt_exp,
                    head.at_exp,
                    seen.ip,
                    seen.user_agent
                ],
            ),
        };
        let mut batch = vec![write];
        // Only the old door takes living access tokens away; the others leave them their time.
        if strict {
            batch.extend(self.feed(Change::Session(id), now));
        }
        let answer = if strict {
            self.commit_notifying(batch, vec![Touched::Session(id)]).await?
        } else {
            self.commit(batch, vec![Touched::Session(id)]).await?
        };
        rotated(answer)
    }

    /// Records the first use of the head that has this access token. `false` on zero rows.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn acknowledge(
        &self,
        id: SessionId,
        api: Api,
        at_hash: TokenHash,
        windows: &Windows,
        now: UnixMs,
    ) -> Result<bool, StoreError> {
        let keep_seal = windows.retry_ms(api) > 0;
        let grace = now.saturating_add(PREVIOUS_ACCESS_TOKEN_GRACE_MS);
        let write = Write::one(ACKNOWLEDGE, params![id, at_hash, now, keep_seal, grace]);
        self.commit_announced(vec![write], vec![Touched::Session(id)], false).await
    }

    /// Stores a fresh access token for the same generation, sealed again. `None` on zero rows.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn reseal(
        &self,
        session: &Session,
        at_hash: TokenHash,
        at_exp: UnixMs,
        sealed: Vec<u8>,
    ) -> Result<Option<Rotated>, StoreError> {
        let write = Write::one(RESEAL, params![session.id, session.at_hash, at_hash, sealed, at_exp]);
        rotated(self.commit(vec![write], vec![Touched::Session(session.id)]).await?)
    }

    /// Ends one session and leaves its device (reuse). `false` if it had ended already.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn end_family(&self, id: SessionId, event: &AuditEvent) -> Result<bool, StoreError> {
        let mut batch = vec![Write::one(END, params![id, EndReason::Reuse, event.at]), audit::write(event)];
        batch.extend(outbox::notice(event));
        batch.extend(self.feed(Change::Session(id), event.at));
        self.commit_announced(batch, vec![Touched::Session(id)], true).await
    }

    /// Ends one session together with its device. `false` if it had ended already.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn end_with_device(
        &self,
        id: SessionId,
        user: UserKey,
        device_id: Option<&DeviceId>,
        reason: EndReason,
        event: &AuditEvent,
    ) -> Result<bool, StoreError> {
        let mut batch = Vec::new();
        if let Some(device) = device_id {
            batch.push(Write::any(DELETE_DEVICE, params![user, device.as_str()]));
        }
        batch.push(Write::one(END, params![id, reason, event.at]));
        batch.push(audit::write(event));
        batch.extend(self.feed(Change::Session(id), event.at));
        self.commit_announced(batch, vec![Touched::Session(id)], true).await
    }

    /// Deletes devices of a user with their sessions. Devices that are gone already are no error.
    /// `false` if what the request was allowed by is no longer so.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn delete_devices(
        &self,
        user: UserKey,
        devices: &[DeviceId],
        asked: Option<&Asked>,
        event: &AuditEvent,
    ) -> Result<bool, StoreError> {
        let mut batch = match asked {
            Some(asked) => asked.user_first(user),
            None => vec![Write::any(LOCK_USER, params![user])],
        };
        for device in devices {
            batch.push(Write::any(DELETE_DEVICE, params![user, device.as_str()]));
        }
        batch.extend(asked.map(Asked::session_lives));
        for device in devices {
            batch.push(Write::any(
                END_DEVICE,
                params![user, device.as_str(), EndReason::DeviceDeleted, event.at],
            ));
        }
        batch.push(audit::write(event));
        batch.extend(self.feed(Change::User(user), event.at));
        self.commit_announced(batch, vec![Touched::User(user)], true).await
    }

    /// The addresses where sessions of the user were last seen, those ended within thirty days
    /// included.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn addresses_of(&self, user: UserKey) -> Result<Vec<String>, StoreError> {
        self.read(ADDRESSES, params![user])
            .await?
            .iter()
            .map(|row| row.text(0).map(ToOwned::to_owned))
            .collect()
    }

    /// Ends every session of a user and forgets the devices. `false` if the account's epoch is no
    /// longer the one that was read.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn end_all_of(
        &self,
        user: UserKey,
        epoch: i64,
        reason: EndReason,
        event: &AuditEvent,
    ) -> Result<bool, StoreError> {
        let mut batch = vec![Write::one(BUMP_EPOCH, params![user, epoch])];
        batch.extend(ending_all(user, reason, event.at, None));
        batch.push(audit::write(event));
        batch.extend(self.feed(Change::User(user), event.at));
        self.commit_announced(batch, vec![Touched::User(user)], true).await
    }

    /// Commits, and wakes the other processes when the batch holds a feed row.
    pub(crate) async fn commit_announced(
        &self,
        batch: Vec<Write>,
        touched: Vec<Touched>,
        announce: bool,
    ) -> Result<bool, StoreError> {
        let answer = if announce {
            self.commit_notifying(batch, touched).await?
        } else {
            self.commit(batch, touched).await?
        };
        Ok(matches!(answer, Committed::Done(_)))
    }
}

const BUMP_EPOCH: &str = "UPDATE users SET epoch = epoch + 1 WHERE id = $1 AND epoch = $2";
/// Takes the row lock that comes first in the order, and changes nothing.
const LOCK_USER: &str = "UPDATE users SET epoch = epoch WHERE id = $1";
const ADDRESSES: &str = "SELECT DISTINCT ip FROM sessions WHERE user_id = $1 AND ip IS NOT NULL LIMIT 1000";
const AS_VERIFIED: &str = "UPDATE users SET epoch = epoch \
    WHERE id = $1 AND epoch = $2 AND password_changed_at IS NOT DISTINCT FROM $3 AND state = 0";
const STILL_LIVES: &str = "UPDATE sessions SET status = status WHERE session_id = $1 AND status = 0";
const FORGET_DEVICES: &str = "DELETE FROM devices WHERE user_id = $1 AND device_id <> $2";

/// The statements that carry a guard, by name, for the test that removes each term of it.
pub(crate) const GUARDED: &[(&str, &str)] = &[
    ("ROTATE", ROTATE),
    ("BURN", BURN),
    ("ACKNOWLEDGE", ACKNOWLEDGE),
    ("RESEAL", RESEAL),
    ("END", END),
    ("END_DEVICE", END_DEVICE),
    ("END_ALL_OF", END_ALL_OF),
    ("VERIFIED", VERIFIED),
    ("DELETE_DEVICE", DELETE_DEVICE),
    ("BUMP_EPOCH", BUMP_EPOCH),
    ("LOCK_USER", LOCK_USER),
    ("AS_VERIFIED", AS_VERIFIED),
    ("STILL_LIVES", STILL_LIVES),
    ("FORGET_DEVICES", FORGET_DEVICES),
];

/// The writes that end all sessions of a user and forget the devices, but for the session and
/// device to spare. The user row must have been written before, in the same batch.
pub(crate) fn ending_all(
    user: UserKey,
    reason: EndReason,
    now: UnixMs,
    spare: Option<(SessionId, Option<&DeviceId>)>,
) -> [Write; 2] {
    let (session, device) = spare.unwrap_or((NO_SESSION, None));
    [
        Write::any(FORGET_DEVICES, params![user, device.map_or("", DeviceId::as_str)]),
        Write::any(END_ALL_OF, params![user, reason, now, session]),
    ]
}

fn rotated(answer: Committed) -> Result<Option<Rotated>, StoreError> {
    let Committed::Done(results) = answer else { return Ok(None) };
    let row = results
        .first()
        .and_then(|rows| rows.first())
        .ok_or_else(|| StoreError::corrupt("rotate returned no row"))?;
    Ok(Some(Rotated { generation: generation(row, 0)?, at_exp: row.int(1)?, session_exp: row.int(2)? }))
}

fn generation(row: &Row, column: usize) -> Result<u32, StoreError> {
    u32::try_from(row.int(column)?).map_err(|_| StoreError::corrupt("generation out of range"))
}

pub(crate) fn session_id(row: &Row, column: usize) -> Result<SessionId, StoreError> {
    row.blob(column)?
        .try_into()
        .map(SessionId)
        .map_err(|_| StoreError::corrupt("session id of another length"))
}

fn opt_hash(row: &Row, column: usize) -> Result<Option<TokenHash>, StoreError> {
    row.opt_blob(column)?
        .map(|bytes| {
            bytes.try_into().map(TokenHash).map_err(|_| StoreError::corrupt("hash of another length"))
        })
        .transpose()
}

/// Number of columns that `session_columns!` names.
const SESSION_COLUMNS: usize = 22;

fn session(row: &Row) -> Result<Session, StoreError> {
    let status = match (row.int(5)?, row.opt_int(6)?) {
        (0, _) => Status::Live,
        (_, Some(code)) => Status::Ended(
            EndReason::from_code(code).ok_or_else(|| StoreError::corrupt("unknown end reason"))?,
        ),
        (_, None) => return Err(StoreError::corrupt("ended without a reason")),
    };
    Ok(Session {
        id: session_id(row, 0)?,
        user: UserKey(row.int(1)?),
        user_epoch: row.int(2)?,
        client_id: row.opt_text(3)?.map(ToOwned::to_owned),
        api: if row.int(4)? == Api::OAuth as i64 { Api::OAuth } else { Api::Legacy },
        status,
        generation: generation(row, 7)?,
        acked_generation: generation(row, 8)?,
        acked_at: row.opt_int(9)?,
        head_at: row.int(10)?,
        rt_hash: opt_hash(row, 11)?,
        rt_prev_hash: opt_hash(row, 12)?,
        sealed: row.opt_blob(13)?.map(<[u8]>::to_vec),
        rt_exp: row.int(14)?,
        session_exp: row.int(15)?,
        at_hash: opt_hash(row, 16)?.ok_or_else(|| StoreError::corrupt("no access token hash"))?,
        at_exp: row.int(17)?,
        at_prev_hash: opt_hash(row, 18)?,
        at_prev_exp: row.opt_int(19)?,
    })
}

fn device_id(row: &Row) -> Result<Option<DeviceId>, StoreError> {
    row.opt_text(20)?
        .map(|text| DeviceId::parse(text).map_err(|_| StoreError::corrupt("device id outside the grammar")))
        .transpose()
}

fn loaded(row: &Row) -> Result<Loaded, StoreError> {
    let state = AccountState::from_code(row.int(SESSION_COLUMNS + 1)?);
    Ok(Loaded {
        session: session(row)?,
        device_id: device_id(row)?,
        localpart: row.text(21)?.to_owned(),
        owner: Owner {
            epoch: row.int(SESSION_COLUMNS)?,
            state: state.ok_or_else(|| StoreError::corrupt("unknown account state"))?,
        },
        admin: row.int(SESSION_COLUMNS + 2)? != 0,
        guest: row.int(SESSION_COLUMNS + 3)? != 0,
        suspended: row.int(SESSION_COLUMNS + 4)? != 0,
        seen: Seen {
            ip: row.opt_text(SESSION_COLUMNS + 5)?.map(ToOwned::to_owned),
            user_agent: row.opt_text(SESSION_COLUMNS + 6)?.map(ToOwned::to_owned),
        },
    })
}

fn session_row(row: &Row) -> Result<SessionRow, StoreError> {
    Ok(SessionRow {
        session: session(row)?,
        device_id: device_id(row)?,
        localpart: row.text(21)?.to_owned(),
        display_name: row.opt_text(SESSION_COLUMNS)?.map(ToOwned::to_owned),
        created_at: row.int(SESSION_COLUMNS + 1)?,
        ended_at: row.opt_int(SESSION_COLUMNS + 2)?,
        last_seen: row.int(SESSION_COLUMNS + 3)?,
        ip: row.opt_text(SESSION_COLUMNS + 4)?.map(ToOwned::to_owned),
        user_agent: row.opt_text(SESSION_COLUMNS + 5)?.map(ToOwned::to_owned),
    })
}

impl From<SessionId> for Value {
    fn from(id: SessionId) -> Self {
        Self::Blob(id.0.to_vec())
    }
}

impl From<UserKey> for Value {
    fn from(key: UserKey) -> Self {
        Self::Int(key.0)
    }
}

impl From<TokenHash> for Value {
    fn from(hash: TokenHash) -> Self {
        Self::Blob(hash.0.to_vec())
    }
}

impl From<EndReason> for Value {
    fn from(reason: EndReason) -> Self {
        Self::Int(reason as i64)
    }
}

impl From<Api> for Value {
    fn from(api: Api) -> Self {
        Self::Int(api as i64)
    }
}
