//! One user with one device, as a client of the store knows it: what was acknowledged, and what a
//! last unanswered call may have made of that. The rows expected are those that the rules predict
//! ([`Session::rotated`] and its like), so that the audit compares whole rows, over several
//! tables, and anything torn, lost or invented shows.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use ligand_protocol::ids::{DeviceId, Localpart, SessionId, UserKey};
use ligand_protocol::session::{Api, Door, EndReason, Head, Session, Spending, Status, Windows};
use ligand_protocol::token::TokenHash;
use ligand_protocol::{NEVER, UnixMs};
use ligand_storage::audit::AuditEvent;
use ligand_storage::sessions::{Opened, Seen, SignIn, Verified};
use ligand_storage::users::{Created, NewUser, Registration};
use ligand_storage::{Store, StoreError};

use crate::rng::Rng;

/// An hour: nothing expires in a run.
const LIFETIME_MS: i64 = 3_600_000;

/// A change of a slot.
#[derive(Clone, Debug)]
pub enum Op {
    /// The account, with its first session.
    Register(Opened),
    /// A sign-in on the device; ends the session that is there.
    SignIn(Opened),
    /// A new head at a door, from the token of this session.
    Rotate { session: SessionId, spending: Spending, door: Door, head: Head, now: UnixMs },
    /// The head's first use.
    Acknowledge { session: SessionId, now: UnixMs },
    /// A fresh access token for a retry.
    Reseal { session: SessionId, at_hash: TokenHash, at_exp: UnixMs, sealed: Vec<u8> },
    /// The end of the session, with the device or (reuse) without.
    End { session: SessionId, reason: EndReason, now: UnixMs },
    /// The end of all sessions of the user.
    EndAll { now: UnixMs },
}

/// A user's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub user: UserKey,
    /// The account's epoch; none before it exists.
    pub epoch: Option<i64>,
    pub has_device: bool,
    pub sessions: BTreeMap<[u8; 16], Session>,
}

impl Slot {
    /// A slot whose user does not exist yet.
    pub fn new(number: i64) -> Self {
        Self { user: UserKey(number), epoch: None, has_device: false, sessions: BTreeMap::new() }
    }

    fn localpart(&self) -> Result<Localpart> {
        let parsed = Localpart::parse(&format!("user{}", self.user.0), "localhost");
        parsed.ok().context("a name outside the grammar")
    }

    fn device() -> Result<DeviceId> {
        DeviceId::parse("DEVICE").ok().context("a device id outside the grammar")
    }

    /// The session that lives.
    pub fn live(&self) -> Option<&Session> {
        self.sessions.values().find(|session| session.status == Status::Live)
    }

    /// A lawful change of this slot, drawn by chance.
    pub fn draw(&self, rng: &mut Rng, now: UnixMs) -> Op {
        let opened = opened(rng, now);
        if self.epoch.is_none() {
            return Op::Register(opened);
        }
        let Some(live) = self.live() else { return Op::SignIn(opened) };
        let unused = live.acked_generation < live.generation;
        match rng.below(100) {
            0..6 => Op::SignIn(opened),
            6..10 => end(live, EndReason::Logout, now),
            10..12 => end(live, EndReason::Reuse, now),
            12..14 => Op::EndAll { now },
            14..28 => rotate(live, Spending::Head, Door::TokenRefresh, rng, now),
            28..34 if unused => rotate(live, Spending::Predecessor, Door::TokenRefresh, rng, now),
            34..42 if unused => reseal(live, rng, now),
            42..70 if unused => Op::Acknowledge { session: live.id, now },
            _ => rotate(live, Spending::Head, Door::Refresh, rng, now),
        }
    }

    /// The slot after a change.
    pub fn after(&self, op: &Op) -> Self {
        let mut next = self.clone();
        let of = |id: &SessionId| self.sessions.get(&id.0);
        match op {
            Op::Register(opened) | Op::SignIn(opened) => {
                next.end_live(EndReason::Replaced);
                let epoch = *next.epoch.get_or_insert(0);
                next.has_device = true;
                next.put(first(self.user, epoch, opened));
            }
            Op::Rotate { session, door, head, now, .. } => {
                next.put_some(of(session).map(|old| old.rotated(head.clone(), *door, *now)));
            }
            Op::Acknowledge { session, now } => {
                next.put_some(of(session).map(|old| old.acknowledged(&Windows::default(), *now)));
            }
            Op::Reseal { session, at_hash, at_exp, sealed } => {
                next.put_some(of(session).map(|old| old.resealed(*at_hash, *at_exp, sealed.clone())));
            }
            Op::End { session, reason, .. } => {
                next.put_some(of(session).map(|old| old.ended(*reason)));
                next.has_device &= *reason == EndReason::Reuse;
            }
            Op::EndAll { .. } => {
                next.end_live(EndReason::LogoutAll);
                next.epoch = next.epoch.map(|epoch| epoch + 1);
                next.has_device = false;
            }
        }
        next
    }

    fn put(&mut self, session: Session) {
        self.sessions.insert(session.id.0, session);
    }

    fn put_some(&mut self, session: Option<Session>) {
        session.into_iter().for_each(|session| self.put(session));
    }

    fn end_live(&mut self, reason: EndReason) {
        let ended = self.live().map(|live| live.ended(reason));
        self.put_some(ended);
    }

    /// Asks the store for a change. `false` on zero rows, which no lawful change meets.
    pub async fn apply(&self, store: &Store, op: &Op) -> Result<Result<bool, StoreError>> {
        Ok(match op {
            Op::Register(opened) => self.register(store, opened).await?,
            Op::SignIn(opened) => self.sign_in(store, opened).await?,
            Op::Rotate { session, spending, door, head, now } => {
                let Some(old) = self.sessions.get(&session.0) else { return Ok(Ok(false)) };
                let presented = match spending {
                    Spending::Head => old.rt_hash,
                    Spending::Predecessor => old.rt_prev_hash,
                };
                let presented = presented.context("a session without that token")?;
                let seen = Seen::default();
                let rotated =
                    store.rotate(*session, presented, *spending, *door, None, head, seen, *now).await;
                rotated.map(|row| row.is_some_and(|row| row.generation == old.generation + 1))
            }
            Op::Acknowledge { session, now } => {
                let Some(old) = self.sessions.get(&session.0) else { return Ok(Ok(false)) };
                store.acknowledge(*session, Api::Legacy, old.at_hash, &Windows::default(), *now).await
            }
            Op::Reseal { session, at_hash, at_exp, sealed } => {
                let Some(old) = self.sessions.get(&session.0) else { return Ok(Ok(false)) };
                let resealed = store.reseal(old, *at_hash, *at_exp, sealed.clone()).await;
                resealed.map(|row| row.is_some())
            }
            Op::End { session, reason: EndReason::Reuse, now } => {
                store.end_family(*session, &AuditEvent::new("reuse", *now)).await
            }
            Op::End { session, reason, now } => {
                let event = AuditEvent::new("logout", *now);
                store.end_with_device(*session, self.user, Some(&Self::device()?), *reason, &event).await
            }
            Op::EndAll { now } => {
                let event = AuditEvent::new("logout_all", *now);
                let epoch = self.epoch.unwrap_or_default();
                store.end_all_of(self.user, epoch, EndReason::LogoutAll, &event).await
            }
        })
    }

    async fn register(&self, store: &Store, opened: &Opened) -> Result<Result<bool, StoreError>> {
        let new = NewUser {
            key: self.user,
            localpart: self.localpart()?,
            password_hash: None,
            admin: false,
            guest: false,
            now: opened.now,
        };
        let device = Self::device()?;
        let with = Registration { session: Some((&device, None, opened)), ..Registration::default() };
        let created = store.create_user(&new, &with, &AuditEvent::new("register", opened.now)).await;
        Ok(created.map(|created| created == Created::Done))
    }

    async fn sign_in(&self, store: &Store, opened: &Opened) -> Result<Result<bool, StoreError>> {
        let sign_in = SignIn {
            user: self.user,
            verified: Verified { epoch: self.epoch.unwrap_or_default(), password_changed_at: None },
            login_token: None,
            rehashed: None,
            device_id: Self::device()?,
            device_named: true,
            initial_device_display_name: None,
            opened: opened.clone(),
            audit: AuditEvent::new("sign_in", opened.now),
        };
        Ok(store.sign_in(&sign_in).await)
    }

    /// What a store holds of this user.
    pub async fn read(&self, store: &Store) -> Result<Self> {
        let account = store.load_user(self.user).await?;
        let rows = store.sessions_of(self.user, true).await?;
        let devices = store.devices_of(self.user).await?;
        Ok(Self {
            user: self.user,
            epoch: account.map(|account| account.epoch),
            has_device: !devices.is_empty(),
            sessions: rows.into_iter().map(|row| (row.session.id.0, row.session)).collect(),
        })
    }

    /// The first difference to what was expected, for people.
    pub fn difference(&self, expected: &Self) -> String {
        if self.epoch != expected.epoch {
            return format!("account epoch {:?}, expected {:?}", self.epoch, expected.epoch);
        }
        if self.has_device != expected.has_device {
            return format!("device there: {}, expected {}", self.has_device, expected.has_device);
        }
        let brief = |session: Option<&Session>| {
            session.map_or("none".to_owned(), |s| {
                format!("generation {}/{} {:?}", s.acked_generation, s.generation, s.status)
            })
        };
        let mut ids = self.sessions.keys().chain(expected.sessions.keys());
        let differs = ids.find(|id| self.sessions.get(*id) != expected.sessions.get(*id));
        differs.map_or("no difference".to_owned(), |id| {
            let (is, was) = (self.sessions.get(id), expected.sessions.get(id));
            format!("session: {}, expected {}", brief(is), brief(was))
        })
    }
}

fn first(user: UserKey, epoch: i64, opened: &Opened) -> Session {
    Session {
        id: opened.id,
        user,
        user_epoch: epoch,
        client_id: None,
        api: Api::Legacy,
        status: Status::Live,
        generation: 1,
        acked_generation: 1,
        acked_at: Some(opened.now),
        head_at: opened.now,
        rt_hash: opened.rt_hash,
        rt_prev_hash: None,
        sealed: None,
        rt_exp: opened.rt_exp,
        session_exp: opened.session_exp,
        at_hash: opened.at_hash,
        at_exp: opened.at_exp,
        at_prev_hash: None,
        at_prev_exp: None,
    }
}

/// A first generation.
pub fn opened(rng: &mut Rng, now: UnixMs) -> Opened {
    let mut id = [0; 16];
    id.copy_from_slice(&bytes(rng, 16));
    Opened {
        id: SessionId(id),
        api: Api::Legacy,
        client_id: None,
        rt_hash: Some(hash(rng)),
        at_hash: hash(rng),
        rt_exp: NEVER,
        at_exp: now + LIFETIME_MS,
        session_exp: NEVER,
        ip: Some("192.0.2.1".to_owned()),
        user_agent: None,
        now,
    }
}

/// The next generation of a session.
pub fn rotate(of: &Session, spending: Spending, door: Door, rng: &mut Rng, now: UnixMs) -> Op {
    let head = Head {
        rt_hash: hash(rng),
        at_hash: hash(rng),
        rt_exp: NEVER,
        at_exp: now + LIFETIME_MS,
        sealed: (door != Door::TokenRefresh).then(|| bytes(rng, 104)),
    };
    Op::Rotate { session: of.id, spending, door, head, now }
}

/// The head's access token anew.
pub fn reseal(of: &Session, rng: &mut Rng, now: UnixMs) -> Op {
    Op::Reseal { session: of.id, at_hash: hash(rng), at_exp: now + LIFETIME_MS, sealed: bytes(rng, 104) }
}

/// The end of a session.
pub fn end(of: &Session, reason: EndReason, now: UnixMs) -> Op {
    Op::End { session: of.id, reason, now }
}

fn hash(rng: &mut Rng) -> TokenHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(&bytes(rng, 32));
    TokenHash(hash)
}

fn bytes(rng: &mut Rng, len: usize) -> Vec<u8> {
    std::iter::repeat_with(|| rng.next().to_be_bytes()).flatten().take(len).collect()
}
