//! What tests begin with: accounts, sign-ins, tokens as the server makes them, rows as no typed
//! method would write them.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use ligand_protocol::ids::{DeviceId, Localpart, SessionId, UserKey};
use ligand_protocol::seal::{Fresh, Pair};
use ligand_protocol::session::{
    AccountState, Api, CheckVerdict, Door, Head, Session, Spending, Status, Windows,
};
use ligand_protocol::token::{Minted, Presented, Secret, TagKeys, TokenHash, TokenKind};
use ligand_protocol::{NEVER, UnixMs};
use ligand_storage::audit::AuditEvent;
use ligand_storage::sessions::{Asked, Loaded, Opened, Seen, SignIn, Verified};
use ligand_storage::users::{Created, NewUser, PasswordHash, Registration, User};
use ligand_storage::{Engine, Row, Store, Value, Write, params, testing};

pub const NOW: UnixMs = 1_800_000_000_000;
pub const MINUTE: i64 = 60_000;
pub const HOUR: i64 = 60 * MINUTE;

pub static KEYS: LazyLock<TagKeys> = LazyLock::new(|| TagKeys::new(&[7; 32], None));

pub fn postgres_is_tested() -> bool {
    testing::engines().contains(&Engine::Postgres)
}

/// Bytes that no other call gives.
pub fn unique<const N: usize>() -> [u8; N] {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut bytes = [0; N];
    for (chunk, at) in bytes.chunks_mut(32).zip(0..) {
        let hash = TokenHash::of(&format!("{count} {at}"));
        chunk.copy_from_slice(&hash.0[..chunk.len()]);
    }
    bytes
}

pub fn event(action: &'static str) -> AuditEvent {
    AuditEvent::new(action, NOW)
}

pub fn seen() -> Seen {
    Seen { ip: Some("192.0.2.7".into()), user_agent: Some("conformance".into()) }
}

pub fn device(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

pub fn localpart(name: &str) -> Localpart {
    Localpart::parse(name, "example.org").unwrap()
}

pub fn new_user(name: &str) -> NewUser {
    NewUser {
        key: UserKey::generate(unique()),
        localpart: localpart(name),
        password_hash: Some(PasswordHash(format!("hash of {name}"))),
        admin: false,
        guest: false,
        now: NOW,
    }
}

pub async fn add_user(store: &Store, name: &str) -> UserKey {
    let new = new_user(name);
    let created = store.create_user(&new, &Registration::default(), &event("register")).await;
    assert_eq!(created, Ok(Created::Done));
    new.key
}

pub async fn load_user(store: &Store, key: UserKey) -> User {
    store.load_user(key).await.unwrap().expect("the user exists")
}

/// What a client holds after a sign-in or a refresh.
#[derive(Clone)]
pub struct Held {
    pub user: UserKey,
    pub device: DeviceId,
    pub id: SessionId,
    pub generation: u32,
    pub pair: Pair,
}

impl Held {
    pub fn refresh_token(&self) -> Presented {
        presented(TokenKind::Refresh, &self.pair.refresh)
    }

    pub fn access_token(&self) -> Presented {
        presented(TokenKind::Access, &self.pair.access)
    }
}

fn presented(kind: TokenKind, token: &Minted) -> Presented {
    Presented::parse(kind, token.text.expose(), &KEYS).expect("a token of ours")
}

/// One of a few tokens of a session: real text, real tag, a secret that `variant` picks.
pub fn token(kind: TokenKind, id: SessionId, generation: u32, variant: u8) -> Presented {
    presented(kind, &Minted::new(kind, id, generation, &Secret([variant; 24]), &KEYS))
}

pub fn fresh_pair(id: SessionId, generation: u32) -> Pair {
    Pair::mint(id, generation, &Fresh::from_bytes(&unique()), &KEYS)
}

/// A sign-in that has verified the account as it is given.
pub fn sign_in_as(user: UserKey, verified: Verified, device_name: &str) -> (SignIn, Held) {
    let id = SessionId(unique());
    let pair = fresh_pair(id, 1);
    let sign_in = SignIn {
        user,
        verified,
        login_token: None,
        rehashed: None,
        device_id: device(device_name),
        device_named: true,
        initial_device_display_name: Some(format!("{device_name} of old")),
        opened: Opened {
            id,
            api: Api::Legacy,
            client_id: None,
            rt_hash: Some(pair.refresh.hash),
            at_hash: pair.access.hash,
            rt_exp: NEVER,
            at_exp: NOW + HOUR,
            session_exp: NEVER,
            ip: seen().ip,
            user_agent: seen().user_agent,
            now: NOW,
        },
        audit: AuditEvent { session: Some(id), user: Some(user), ..event("sign_in") },
    };
    let held = Held { user, device: device(device_name), id, generation: 1, pair };
    (sign_in, held)
}

/// A request that a session makes after user-interactive auth, judged on the account as it is now.
pub async fn asked_by(store: &Store, held: &Held, uia: [u8; 32], revision: i64) -> Asked {
    let verified = load_user(store, held.user).await.verified();
    Asked { session: held.id, verified, uia: Some((uia, revision)) }
}

/// Loads the account and signs in, as the server does. `None` if the account changed in between,
/// or may not sign in.
pub async fn try_sign_in(store: &Store, user: UserKey, device_name: &str) -> Option<Held> {
    let account = load_user(store, user).await;
    if account.state != AccountState::Active {
        return None;
    }
    let (sign_in, held) = sign_in_as(user, account.verified(), device_name);
    store.sign_in(&sign_in).await.unwrap().then_some(held)
}

pub async fn sign_in(store: &Store, user: UserKey, device_name: &str) -> Held {
    try_sign_in(store, user, device_name).await.expect("signed in")
}

/// The head that the server would mint for a token at a door.
pub fn next_head(held: &Held, door: Door, spending: Spending) -> (Head, Held) {
    let generation = held.generation + if spending == Spending::Head { 1 } else { 2 };
    let pair = fresh_pair(held.id, generation);
    let sealed = match door {
        Door::TokenRefresh => None,
        Door::Refresh | Door::Grant => pair.seal(&held.refresh_token(), generation, &unique()),
    };
    let head = Head {
        rt_hash: pair.refresh.hash,
        at_hash: pair.access.hash,
        rt_exp: NEVER,
        at_exp: NOW + HOUR,
        sealed,
    };
    (head, Held { generation, pair, ..held.clone() })
}

/// One attempt to rotate with the token held; `None` on zero rows.
pub async fn rotate(store: &Store, held: &Held, door: Door, spending: Spending) -> Option<Held> {
    let (head, next) = next_head(held, door, spending);
    let hash = held.pair.refresh.hash;
    let rotated = store.rotate(held.id, hash, spending, door, None, &head, seen(), NOW).await.unwrap();
    rotated.map(|rotated| {
        assert_eq!(rotated.generation, next.generation);
        next
    })
}

pub async fn acknowledge(store: &Store, held: &Held) -> bool {
    let windows = Windows::default();
    store.acknowledge(held.id, Api::Legacy, held.pair.access.hash, &windows, NOW).await.unwrap()
}

pub async fn load(store: &Store, id: SessionId) -> Loaded {
    store.load_session(id).await.unwrap().expect("the session exists")
}

/// What the rules say, of the row as it is stored, to the access token held.
pub async fn check(store: &Store, held: &Held) -> CheckVerdict {
    let loaded = load(store, held.id).await;
    loaded.session.check(loaded.owner, &held.access_token(), NOW)
}

/// Whether the access token held passes a check.
pub async fn passes(store: &Store, held: &Held) -> bool {
    !matches!(check(store, held).await, CheckVerdict::Refuse(_))
}

/// The sessions of a user of which some token could pass a check.
pub async fn alive(store: &Store, user: UserKey) -> Vec<SessionId> {
    let account = load_user(store, user).await;
    if account.state == AccountState::Deactivated {
        return Vec::new();
    }
    let sessions = store.sessions_of(user, false).await.unwrap();
    let of_this_epoch = sessions.into_iter().filter(|row| row.session.user_epoch >= account.epoch);
    of_this_epoch.map(|row| row.session.id).collect()
}

/// The rows of a user that are marked live, whatever the epochs say.
pub async fn marked_live(store: &Store, user: UserKey) -> usize {
    store.sessions_of(user, false).await.unwrap().len()
}

/// Runs any statement.
pub async fn execute(store: &Store, sql: &'static str, params: Vec<Value>) {
    let done = store.commit(vec![Write::any(sql, params)], Vec::new()).await;
    assert!(matches!(done, Ok(ligand_storage::Committed::Done(_))), "{sql}: {done:?}");
}

pub async fn number(store: &Store, sql: &'static str, params: Vec<Value>) -> i64 {
    let rows: Vec<Row> = store.read(sql, params).await.unwrap();
    rows[0].int(0).unwrap()
}

pub fn user_row(key: UserKey, epoch: i64, state: AccountState) -> Write {
    Write::one(
        "insert into users (id, localpart, epoch, state, created_at) values ($1, $2, $3, $4, 0)",
        params![key, format!("raw{}", key.0), epoch, state as i64],
    )
}

/// A session as it stands, on no device.
pub fn session_row(session: &Session) -> Write {
    let (status, end_reason) = match session.status {
        Status::Live => (0, None),
        Status::Ended(reason) => (1, Some(reason as i64)),
    };
    Write::one(
        "insert into sessions (session_id, user_id, user_epoch, client_id, api, status, end_reason, gen,
            acked_gen, acked_at, head_at, rt_hash, rt_prev_hash, sealed, rt_exp, session_exp, at_hash,
            at_exp, at_prev_hash, at_prev_exp, created_at, last_seen)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
            $20, 0, 0)",
        params![
            session.id,
            session.user,
            session.user_epoch,
            session.client_id.clone(),
            session.api,
            status,
            end_reason,
            session.generation,
            session.acked_generation,
            session.acked_at,
            session.head_at,
            session.rt_hash,
            session.rt_prev_hash,
            session.sealed.clone(),
            session.rt_exp,
            session.session_exp,
            session.at_hash,
            session.at_exp,
            session.at_prev_hash,
            session.at_prev_exp
        ],
    )
}

/// Runs many tasks at once and gives their answers.
pub async fn all_at_once<T: Send + 'static>(
    tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let start = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let mut set = tokio::task::JoinSet::new();
    for task in tasks {
        let start = start.clone();
        set.spawn(async move {
            let _ = start.acquire().await;
            task.await
        });
    }
    start.close();
    set.join_all().await
}
