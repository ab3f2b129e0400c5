//! Issue, refresh, check, end: shared by every surface. Load what the rule needs, ask the rule,
//! commit what it answered.
//!
//! The three doors of a refresh meet in [`refresh`] and differ only in what the path decides. Its
//! first attempt is the one guarded rotation that the token itself allows; only on zero rows is
//! the row loaded and the state machine asked.

use std::sync::Arc;

use ligand_protocol::ids::{DeviceId, SessionId, UserKey};
use ligand_protocol::limits::CONFLICT_ATTEMPTS_MAX;
use ligand_protocol::seal::{Fresh, Pair};
use ligand_protocol::session::{
    Api, CheckVerdict, Door, EndReason, Head, RefreshVerdict, Refusal, Spending, remaining_ms,
};
use ligand_protocol::token::{Minted, Presented, TokenKind, TokenText};
use ligand_protocol::{UnixMs, expiry};
use ligand_storage::StoreError;
use ligand_storage::audit::AuditEvent;
use ligand_storage::live::LiveSession;
use ligand_storage::sessions::{Loaded, Opened, Rotated};

use crate::app::App;
use crate::error::ApiError;
use crate::extract::Caller;
use crate::mail::notices;
use crate::metrics::RefreshOutcome;

/// Tokens for one reply.
pub struct Issued {
    pub access: TokenText,
    pub refresh: Option<TokenText>,
    pub expires_in_ms: Option<i64>,
}

/// Which tokens a sign-in gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Short-lived access tokens and a refresh token.
    Refreshable,
    /// An access token that does not expire, and a refresh token beside it (digest §5 B1).
    LastingWithRefresh,
    /// One access token, as long-lived as the operator says.
    Unrefreshable,
}

/// Why there are no new tokens.
#[derive(Debug)]
pub enum RefreshError {
    Refused(Refusal),
    /// Too many; the wait in milliseconds.
    Limited(i64),
    /// Our own trouble: the token is as good as before.
    Unavailable(String),
}

impl From<StoreError> for RefreshError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// A first generation for a new session on the legacy API, and its reply.
///
/// # Errors
/// 503 without randomness.
pub fn open(app: &App, grant: Grant, caller: &Caller, now: UnixMs) -> Result<(Opened, Issued), ApiError> {
    let id = SessionId(app.random()?);
    let pair = Pair::mint(id, 1, &app.fresh()?, &app.keys);
    let sessions = &app.config.sessions;
    let session_exp = expiry(now, millis(sessions.session_lifetime));
    let at_lifetime = match grant {
        Grant::Refreshable => Some(sessions.access_token_lifetime),
        Grant::LastingWithRefresh => None,
        Grant::Unrefreshable => sessions.unrefreshable_access_token_lifetime,
    };
    let at_exp = expiry(now, millis(at_lifetime)).min(session_exp);
    let rt_exp = expiry(now, millis(sessions.refresh_token_lifetime)).min(session_exp);
    let refresh = (grant != Grant::Unrefreshable).then_some(&pair.refresh);
    let opened = Opened {
        id,
        api: Api::Legacy,
        client_id: None,
        rt_hash: refresh.map(|token| token.hash),
        at_hash: pair.access.hash,
        rt_exp,
        at_exp,
        session_exp,
        ip: Some(caller.address.to_string()),
        user_agent: caller.user_agent.clone(),
        now,
    };
    let issued = Issued {
        access: pair.access.text,
        refresh: refresh.map(|token| token.text.clone()),
        expires_in_ms: remaining_ms(at_exp, now),
    };
    Ok((opened, issued))
}

/// Exchanges a refresh token at a door.
///
/// # Errors
/// See [`RefreshError`]; how it is worded, the surface decides.
pub async fn refresh(
    app: &App,
    text: &str,
    door: Door,
    client_id: Option<&str>,
    caller: &Caller,
) -> Result<Issued, RefreshError> {
    let now = app.clock.now();
    let result = match Presented::parse(TokenKind::Refresh, text, &app.keys) {
        Some(presented) => Refresh { app, presented, door, client_id, caller, now }.run().await,
        None => {
            let limited = app.limiters.refresh_failure(caller.address, now);
            Err(limited.map_or_else(RefreshError::Limited, |()| RefreshError::Refused(Refusal::Unknown)))
        }
    };
    app.metrics.refreshed(door, RefreshOutcome::of(&result));
    result.map(|(issued, _)| issued)
}

/// How a refresh succeeded, for the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Success {
    Minted,
    SamePair,
    Resealed,
}

/// One refresh with a genuine token.
struct Refresh<'a> {
    app: &'a App,
    presented: Presented,
    door: Door,
    client_id: Option<&'a str>,
    caller: &'a Caller,
    now: UnixMs,
}

impl Refresh<'_> {
    async fn run(&self) -> Result<(Issued, Success), RefreshError> {
        let Self { app, presented, now, .. } = self;
        app.limiters.refresh(presented.session_id, *now).map_err(RefreshError::Limited)?;
        let fresh = app.fresh().map_err(|_| RefreshError::Unavailable("no randomness".to_owned()))?;

        if let Some(issued) = self.rotate(Spending::Head, &fresh, *now).await? {
            return Ok((issued, Success::Minted));
        }
        for _ in 0..CONFLICT_ATTEMPTS_MAX {
            let Some(loaded) = app.store.load_session(presented.session_id).await? else {
                return Err(RefreshError::Refused(Refusal::Unknown));
            };
            let session = &loaded.session;
            // A commit may have taken a while.
            let now = app.clock.now();
            let verdict =
                session.refresh(loaded.owner, presented, self.door, self.client_id, &app.windows, now);
            match verdict {
                RefreshVerdict::Mint(spending) => {
                    if let Some(issued) = self.rotate(spending, &fresh, now).await? {
                        return Ok((issued, Success::Minted));
                    }
                }
                RefreshVerdict::SamePair => {
                    let pair = self.unsealed(&loaded)?;
                    self.notice_retry(&loaded).await;
                    return Ok((self.issued(pair, session.at_exp), Success::SamePair));
                }
                RefreshVerdict::SamePairResealed => {
                    if let Some(issued) = self.reseal(&loaded, &fresh).await? {
                        self.notice_retry(&loaded).await;
                        return Ok((issued, Success::Resealed));
                    }
                }
                RefreshVerdict::Refuse(refusal) => {
                    match refusal {
                        Refusal::LostCommit => lost_commit(app, presented, session.generation),
                        Refusal::Spent => self.notice("refresh_spent", &loaded).await,
                        _ => {}
                    }
                    return Err(RefreshError::Refused(refusal));
                }
                RefreshVerdict::EndFamily => {
                    let (owner, device) = (&loaded.localpart, loaded.device_id.as_ref());
                    let notice = notices::reuse(&app.config, owner, device, now);
                    let event = AuditEvent { notice, ..self.event("reuse", &loaded) };
                    if !app.store.end_family(session.id, &event).await? {
                        // It ended in the meantime, and the answer is by the reason of that end.
                        continue;
                    }
                    app.mail.wake();
                    app.metrics.ended(EndReason::Reuse);
                    tracing::warn!(
                        session = %session.id,
                        generation = presented.generation,
                        user = loaded.localpart,
                        address = %self.caller.address,
                        "a spent refresh token was presented; the session has been ended"
                    );
                    return Err(RefreshError::Refused(Refusal::Ended(EndReason::Reuse)));
                }
            }
        }
        Err(RefreshError::Unavailable("the session changed under every attempt".to_owned()))
    }

    /// Mints the next generation. `None` if the row is not as it would have to be.
    async fn rotate(
        &self,
        spending: Spending,
        fresh: &Fresh,
        now: UnixMs,
    ) -> Result<Option<Issued>, RefreshError> {
        let Self { app, presented, door, .. } = self;
        let step = match spending {
            Spending::Head => 1,
            Spending::Predecessor => 2,
        };
        let Some(generation) = presented.generation.checked_add(step) else { return Ok(None) };
        let pair = Pair::mint(presented.session_id, generation, fresh, &app.keys);
        let sealed = match door {
            Door::TokenRefresh => None,
            Door::Refresh | Door::Grant => Some(
                pair.seal(presented, generation, &fresh.nonce)
                    .ok_or_else(|| RefreshError::Unavailable("sealing failed".to_owned()))?,
            ),
        };
        let sessions = &app.config.sessions;
        let head = Head {
            rt_hash: pair.refresh.hash,
            at_hash: pair.access.hash,
            rt_exp: expiry(now, millis(sessions.refresh_token_lifetime)),
            at_exp: expiry(now, millis(Some(sessions.access_token_lifetime))),
            sealed,
        };
        let rotated = app
            .store
            .rotate(
                presented.session_id,
                presented.hash,
                spending,
                *door,
                self.client_id,
                &head,
                self.caller.seen(),
                now,
            )
            .await;
        let rotated = match rotated {
            Err(error) if error.is_unknown() && *door == Door::TokenRefresh => self.read_back(&pair).await?,
            rotated => rotated?,
        };
        Ok(rotated.map(|Rotated { at_exp, session_exp, .. }| {
            let mut issued = self.issued(pair, at_exp);
            // An access token that lasts to the session's end leaves nothing to refresh.
            if *door == Door::TokenRefresh && at_exp >= session_exp {
                issued.refresh = None;
            }
            issued
        }))
    }

    /// After a commit of unknown outcome at `/tokenrefresh`, where a repetition would be refused.
    async fn read_back(&self, pair: &Pair) -> Result<Option<Rotated>, RefreshError> {
        let loaded = self.app.store.load_session(self.presented.session_id).await?;
        match loaded.map(|loaded| loaded.session) {
            Some(session) if session.at_hash == pair.access.hash => Ok(Some(Rotated {
                generation: session.generation,
                at_exp: session.at_exp,
                session_exp: session.session_exp,
            })),
            _ => Err(StoreError::Unknown.into()),
        }
    }

    fn unsealed(&self, loaded: &Loaded) -> Result<Pair, RefreshError> {
        let session = &loaded.session;
        let opened = session
            .sealed
            .as_deref()
            .and_then(|sealed| Pair::open(sealed, &self.presented, session.generation));
        opened.ok_or_else(|| {
            lost_commit(self.app, &self.presented, session.generation);
            RefreshError::Refused(Refusal::LostCommit)
        })
    }

    /// The same refresh token with a fresh access token, because the sealed one has expired.
    async fn reseal(&self, loaded: &Loaded, fresh: &Fresh) -> Result<Option<Issued>, RefreshError> {
        let session = &loaded.session;
        let old = self.unsealed(loaded)?;
        let access =
            Minted::new(TokenKind::Access, session.id, session.generation, &fresh.access, &self.app.keys);
        let pair = Pair { access, ..old };
        let sealed = pair
            .seal(&self.presented, session.generation, &fresh.nonce)
            .ok_or_else(|| RefreshError::Unavailable("sealing failed".to_owned()))?;
        let now = self.app.clock.now();
        let at_exp = expiry(now, millis(Some(self.app.config.sessions.access_token_lifetime)));
        let resealed = self.app.store.reseal(session, pair.access.hash, at_exp, sealed).await?;
        Ok(resealed.map(|row| self.issued(pair, row.at_exp)))
    }

    /// A retry from elsewhere than the first request may be a thief who is always second. It is
    /// recorded; whether it was one, only the owner can tell.
    async fn notice_retry(&self, loaded: &Loaded) {
        if loaded.seen != self.caller.seen() {
            self.notice("refresh_repeated_elsewhere", loaded).await;
        }
    }

    /// Records what no row of the session shows. A client in a loop gets few rows.
    async fn notice(&self, action: &'static str, loaded: &Loaded) {
        if !self.app.limiters.notice(loaded.session.id, self.now) {
            return;
        }
        tracing::warn!(
            session = %loaded.session.id,
            presented = self.presented.generation,
            generation = loaded.session.generation,
            user = loaded.localpart,
            address = %self.caller.address,
            "{action}"
        );
        if let Err(error) = self.app.store.record(&self.event(action, loaded)).await {
            tracing::error!(%error, "cannot record an audit event");
        }
    }

    /// The reply; what remains is counted from now, not from when the request came.
    fn issued(&self, pair: Pair, at_exp: UnixMs) -> Issued {
        Issued {
            access: pair.access.text,
            refresh: Some(pair.refresh.text),
            expires_in_ms: remaining_ms(at_exp, self.app.clock.now()),
        }
    }

    fn event(&self, action: &'static str, loaded: &Loaded) -> AuditEvent {
        AuditEvent {
            user: Some(loaded.session.user),
            session: Some(loaded.session.id),
            generation: Some(self.presented.generation),
            ..self.caller.event(action, self.now)
        }
    }
}

/// The database knows less than a token we signed: an acknowledged commit is gone (I24).
fn lost_commit(app: &App, presented: &Presented, generation: u32) {
    app.metrics.lost_commit();
    tracing::error!(
        session = %presented.session_id,
        presented = presented.generation,
        stored = generation,
        "ALARM: a genuine token is ahead of the database; a commit was lost (restored backup, failover?)"
    );
}

/// Whether a locked account is refused. Everywhere, but for signing out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    Refused,
    Passes,
}

/// Judges an access token, from memory where that counts.
///
/// # Errors
/// 401 as the refusal says; 503 for our own trouble.
pub async fn check(app: &App, text: &str, locked: Locked) -> Result<Arc<LiveSession>, ApiError> {
    let Some(presented) = Presented::parse(TokenKind::Access, text, &app.keys) else {
        return Err(ApiError::unknown_token().soft_logout(false));
    };
    let now = app.clock.now();
    let id = presented.session_id;
    // From memory a yes, and a no that nothing can turn; any other refusal is read again first.
    if let Some(entry) = app.store.live().get(id) {
        let session = entry.session();
        match session.check(entry.user.owner, &presented, now) {
            CheckVerdict::Ok => return Ok(entry),
            CheckVerdict::Refuse(refusal) if session.refuses_for_good(&presented, refusal) => {
                return Err(ApiError::refused(refusal));
            }
            _ => {}
        }
    }
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let Some(entry) = app.store.reread_session(id).await? else {
            return Err(ApiError::unknown_token().soft_logout(false));
        };
        match entry.session().check(entry.user.owner, &presented, now) {
            CheckVerdict::Ok => return Ok(entry),
            CheckVerdict::OkAfterAcknowledging => {
                if app.store.acknowledge(id, entry.api, presented.hash, &app.windows, now).await? {
                    app.seals.acknowledged(app, id, presented.generation, entry.api, now);
                    return Ok(entry);
                }
            }
            CheckVerdict::Refuse(Refusal::Locked) if locked == Locked::Passes => return Ok(entry),
            CheckVerdict::Refuse(refusal) => {
                if refusal == Refusal::LostCommit {
                    lost_commit(app, &presented, entry.session().generation);
                }
                return Err(ApiError::refused(refusal));
            }
        }
    }
    Err(ApiError::unavailable("the session changed under every attempt"))
}

/// Ends one session with its device.
///
/// # Errors
/// 503 for storage trouble: never a success that did not happen (I16).
pub async fn end(
    app: &App,
    session: &LiveSession,
    reason: EndReason,
    caller: &Caller,
) -> Result<(), ApiError> {
    let now = app.clock.now();
    let event = AuditEvent {
        actor: Some(session.user.localpart.to_string()),
        user: Some(session.user.key),
        session: Some(session.id),
        ..caller.event(reason.as_str(), now)
    };
    let device: Option<&DeviceId> = session.device_id.as_ref();
    // Zero rows: another request ended it first, which is the same to the caller.
    if app.store.end_with_device(session.id, session.user.key, device, reason, &event).await? {
        app.metrics.ended(reason);
    }
    Ok(())
}

/// Ends every session of the user, the caller's own among them.
///
/// # Errors
/// 503 for storage trouble.
pub async fn end_all(app: &App, user: UserKey, event: &AuditEvent) -> Result<(), ApiError> {
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let Some(account) = app.store.load_user(user).await? else { return Ok(()) };
        if app.store.end_all_of(user, account.epoch, EndReason::LogoutAll, event).await? {
            app.metrics.ended(EndReason::LogoutAll);
            return Ok(());
        }
    }
    Err(ApiError::unavailable("the account changed under every attempt"))
}

/// A configured lifetime in milliseconds; `None` is no limit.
pub(crate) fn millis(lifetime: Option<std::time::Duration>) -> Option<i64> {
    lifetime.map(|lifetime| i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX))
}
