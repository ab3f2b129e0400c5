//! The control: a server in this process, on a real store and with the real rules, that reads,
//! judges and then updates. With the statement as shipped it must pass like the real one; without
//! the guard on the refresh token's hash (`AND rt_hash = $2`) two refreshes at once both mint.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ligand_protocol::ids::{DeviceId, Localpart, SessionId, UserKey};
use ligand_protocol::seal::{Fresh, Pair as Minted};
use ligand_protocol::session::{
    Api, CheckVerdict, Door, EndReason, RefreshVerdict, Refusal, Session, Spending,
};
use ligand_protocol::token::{Presented, TagKeys, TokenKind};
use ligand_protocol::{NEVER, UnixMs};
use ligand_storage::audit::AuditEvent;
use ligand_storage::sessions::Opened;
use ligand_storage::users::{NewUser, Registration};
use ligand_storage::{Committed, Store, StoreOptions, Touched, Write, params, testing};
use tempfile::TempDir;

use super::history::Answer;
use super::spec::{WINDOWS, refused};
use crate::client::Pair;
use crate::journal::Call;

const GUARD: &str = " AND rt_hash = $2";
const NOW: UnixMs = 1_700_000_000_000;
/// Between judging and updating: as long as a loaded server may take.
const GAP: Duration = Duration::from_micros(500);

/// The server.
#[derive(Debug)]
pub struct Double {
    store: Store,
    rotate: &'static str,
    _folder: TempDir,
}

impl Double {
    /// With the statement as shipped, or without its guard.
    pub async fn start(guarded: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let url = format!("sqlite:{}", folder.path().join("double.db").display());
        let store = Store::open(&StoreOptions::new(url)).await?;
        let shipped = testing::ROTATE;
        ensure!(shipped.matches(GUARD).count() == 1, "the statement has no guard to take away");
        // One text for the life of the process, as the store asks.
        let unguarded = || &*Box::leak(shipped.replace(GUARD, "").into_boxed_str());
        let rotate = if guarded { shipped } else { unguarded() };
        Ok(Self { store, rotate, _folder: folder })
    }

    /// The keys of its tokens.
    pub fn keys() -> TagKeys {
        TagKeys::new(&[7; 32], None)
    }

    /// Opens a session of a new user.
    pub async fn sign_in(&self, number: i64) -> Result<Pair> {
        let mut id = [0; 16];
        getrandom::fill(&mut id)?;
        let pair = Minted::mint(SessionId(id), 1, &fresh()?, &Self::keys());
        let opened = Opened {
            id: SessionId(id),
            api: Api::Legacy,
            client_id: None,
            rt_hash: Some(pair.refresh.hash),
            at_hash: pair.access.hash,
            rt_exp: NEVER,
            at_exp: NEVER,
            session_exp: NEVER,
            ip: None,
            user_agent: None,
            now: NOW,
        };
        let localpart = Localpart::parse(&format!("user{number}"), "localhost").ok().context("a bad name")?;
        let new = NewUser {
            key: UserKey(number),
            localpart,
            password_hash: None,
            admin: false,
            guest: false,
            now: NOW,
        };
        let device = DeviceId::parse("DEVICE").ok().context("a bad device id")?;
        let with = Registration { session: Some((&device, None, &opened)), ..Registration::default() };
        self.store.create_user(&new, &with, &AuditEvent::new("register", NOW)).await?;
        Ok(text(&pair))
    }

    /// Answers a call.
    pub async fn answer(&self, call: &Call) -> Result<Answer> {
        match call {
            Call::Refresh(token) => self.refresh(token, Door::Refresh).await,
            Call::TokenRefresh(token) => self.refresh(token, Door::TokenRefresh).await,
            Call::Use(token) => Ok(self.check(token).await?.err().unwrap_or(Answer::Done)),
            Call::Logout(token) => match self.check(token).await? {
                Ok(session) => {
                    let (user, event) = (session.user, AuditEvent::new("logout", NOW));
                    let reason = EndReason::Logout;
                    self.store.end_with_device(session.id, user, None, reason, &event).await?;
                    Ok(Answer::Done)
                }
                Err(refused) => Ok(refused),
            },
            Call::Login => Ok(Answer::Odd("no sign-in here".to_owned())),
        }
    }

    async fn refresh(&self, token: &str, door: Door) -> Result<Answer> {
        let presented = Presented::parse(TokenKind::Refresh, token, &Self::keys()).context("a bad token")?;
        // A conflict must resolve itself long before this.
        for _ in 0..100 {
            let Some(loaded) = self.store.load_session(presented.session_id).await? else {
                return Ok(refused(door, Refusal::Unknown));
            };
            let session = loaded.session;
            tokio::time::sleep(GAP).await;
            match session.refresh(loaded.owner, &presented, door, None, &WINDOWS, NOW) {
                RefreshVerdict::Mint(spending) => {
                    if let Some(pair) = self.mint(&session, &presented, spending, door).await? {
                        return Ok(Answer::Pair(pair));
                    }
                }
                RefreshVerdict::SamePair | RefreshVerdict::SamePairResealed => {
                    let sealed = session.sealed.as_deref().unwrap_or_default();
                    let pair = Minted::open(sealed, &presented, session.generation);
                    return Ok(
                        pair.map_or(refused(door, Refusal::LostCommit), |pair| Answer::Pair(text(&pair)))
                    );
                }
                RefreshVerdict::Refuse(refusal) => return Ok(refused(door, refusal)),
                RefreshVerdict::EndFamily => {
                    // Unless another end was first: then the answer is that end's.
                    if self.store.end_family(session.id, &AuditEvent::new("reuse", NOW)).await? {
                        return Ok(refused(door, Refusal::Ended(EndReason::Reuse)));
                    }
                }
            }
        }
        Ok(Answer::Odd("a conflict without end".to_owned()))
    }

    async fn mint(
        &self,
        session: &Session,
        presented: &Presented,
        spending: Spending,
        door: Door,
    ) -> Result<Option<Pair>> {
        let (fresh, generation) = (fresh()?, session.generation + 1);
        let pair = Minted::mint(session.id, generation, &fresh, &Self::keys());
        let sealed = match door {
            Door::TokenRefresh => None,
            _ => pair.seal(presented, generation, &fresh.nonce),
        };
        let (rt_hash, at_hash) = (pair.refresh.hash, pair.access.hash);
        let rotated = match spending {
            Spending::Head => {
                let strict = door == Door::TokenRefresh;
                let (none, nobody, not_locked) = (None::<&str>, None::<&str>, false);
                let params = params![
                    session.id,
                    presented.hash,
                    none,
                    strict,
                    NOW,
                    sealed,
                    rt_hash,
                    at_hash,
                    NEVER,
                    NEVER,
                    not_locked,
                    Api::Legacy,
                    nobody,
                    nobody
                ];
                let batch = vec![Write::one(self.rotate, params)];
                matches!(
                    self.store.commit(batch, vec![Touched::Session(session.id)]).await?,
                    Committed::Done(_)
                )
            }
            Spending::Predecessor => {
                let head =
                    ligand_protocol::session::Head { rt_hash, at_hash, rt_exp: NEVER, at_exp: NEVER, sealed };
                let seen = ligand_storage::sessions::Seen::default();
                let row = self
                    .store
                    .rotate(session.id, presented.hash, spending, door, None, &head, seen, NOW)
                    .await?;
                row.is_some()
            }
        };
        Ok(rotated.then(|| text(&pair)))
    }

    async fn check(&self, token: &str) -> Result<Result<Session, Answer>> {
        let presented = Presented::parse(TokenKind::Access, token, &Self::keys()).context("a bad token")?;
        let told = |refusal: Refusal| Answer::Refused { status: 401, soft: refusal.soft_logout() };
        for _ in 0..100 {
            let Some(loaded) = self.store.load_session(presented.session_id).await? else {
                return Ok(Err(told(Refusal::Unknown)));
            };
            let session = loaded.session;
            match session.check(loaded.owner, &presented, NOW) {
                CheckVerdict::Ok => return Ok(Ok(session)),
                CheckVerdict::OkAfterAcknowledging => {
                    let (id, hash) = (session.id, presented.hash);
                    if self.store.acknowledge(id, Api::Legacy, hash, &WINDOWS, NOW).await? {
                        return Ok(Ok(session));
                    }
                }
                CheckVerdict::Refuse(refusal) => return Ok(Err(told(refusal))),
            }
        }
        Ok(Err(Answer::Odd("a conflict without end".to_owned())))
    }
}

fn fresh() -> Result<Fresh> {
    let mut bytes = [0; Fresh::BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(Fresh::from_bytes(&bytes))
}

fn text(pair: &Minted) -> Pair {
    Pair { access: pair.access.text.expose().into(), refresh: pair.refresh.text.expose().into() }
}
