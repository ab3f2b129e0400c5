//! Checks from memory: what is needed to judge an access token, read from the database once and
//! kept until something touches it.
//!
//! Memory never holds what was not read from the database: a commit does not publish its new
//! state, it makes memory forget the old one. That happens before the commit, and nothing of it is
//! kept again until the commit is over: or memory would say the old after the database has told
//! somebody the new. A
//! read that raced with a commit is used (it began after its request came) but not kept: each
//! shard counts what it was told to forget, and a reader keeps its row only if the count stands
//! still. What other processes change comes through the feed; a kept entry counts only while the
//! last complete poll began less than [`LEASE`] ago, and no longer than [`ENTRY_AGE_MAX`], or
//! [`ENTRY_AGE_MAX_ALONE`] where no other server works on the database.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use ligand_protocol::ids::{DeviceId, SessionId, UserKey};
use ligand_protocol::session::{Api, Owner, Session, Status};
use ligand_protocol::token::TokenHash;
use ligand_protocol::{NEVER, UnixMs};
use parking_lot::RwLock;

use crate::sessions::Loaded;
use crate::{Store, StoreError, Touched};

/// How long an answer from memory may lag behind what another process did (T in the design).
pub const LEASE: Duration = Duration::from_secs(1);
/// After this an entry is read again, whatever the feed says.
pub const ENTRY_AGE_MAX: Duration = Duration::from_secs(30);
/// The same on SQLite, where this process is the only server: it has itself forgotten what it
/// changed, and reading a million sessions again every half minute would be most of its work. Bounds
/// memory to the sessions of the last hour.
pub const ENTRY_AGE_MAX_ALONE: Duration = Duration::from_secs(60 * 60);
/// More shards than cores by far, so that a commit rarely meets a check.
const SHARDS: usize = 256;

/// A user as checks need it. Never changed: when the account changes, `stale` is set and the next
/// check reads a new one.
#[derive(Debug)]
pub struct LiveUser {
    pub key: UserKey,
    pub localpart: Box<str>,
    pub owner: Owner,
    pub admin: bool,
    pub guest: bool,
    pub suspended: bool,
    stale: AtomicBool,
}

/// A session as checks need it, kept small: a million of them are to fit in a few hundred MiB.
#[derive(Debug)]
pub struct LiveSession {
    pub id: SessionId,
    pub user: Arc<LiveUser>,
    pub device_id: Option<DeviceId>,
    pub api: Api,
    status: Status,
    acknowledged: bool,
    generation: u32,
    user_epoch: i64,
    session_exp: UnixMs,
    at_hash: TokenHash,
    at_exp: UnixMs,
    at_prev_hash: Option<TokenHash>,
    at_prev_exp: UnixMs,
    /// Milliseconds since the memory was made.
    read_at: u64,
}

impl LiveUser {
    fn says_the_same(&self, other: &Self) -> bool {
        (self.owner, self.admin, self.guest, self.suspended)
            == (other.owner, other.admin, other.guest, other.suspended)
    }
}

impl LiveSession {
    /// The session as the rules take it, without what only a refresh needs.
    #[must_use]
    pub fn session(&self) -> Session {
        Session {
            id: self.id,
            user: self.user.key,
            user_epoch: self.user_epoch,
            client_id: None,
            api: self.api,
            status: self.status,
            generation: self.generation,
            acked_generation: if self.acknowledged {
                self.generation
            } else {
                self.generation.saturating_sub(1)
            },
            acked_at: None,
            head_at: 0,
            rt_hash: None,
            rt_prev_hash: None,
            sealed: None,
            rt_exp: NEVER,
            session_exp: self.session_exp,
            at_hash: self.at_hash,
            at_exp: self.at_exp,
            at_prev_hash: self.at_prev_hash,
            at_prev_exp: Some(self.at_prev_exp),
        }
    }
}

struct Shard<T> {
    kept: RwLock<HashTable<Arc<T>>>,
    change: Change,
}

/// What a reader looks at to know whether it may keep what it has read.
#[derive(Default)]
struct Change {
    /// How often something was forgotten.
    forgotten: AtomicU64,
    /// Commits under way that touch something here: nothing is kept meanwhile.
    held: AtomicU64,
}

impl Change {
    fn mark(&self) -> u64 {
        self.forgotten.load(Ordering::Acquire)
    }

    fn is_still(&self, mark: u64) -> bool {
        self.held.load(Ordering::Acquire) == 0 && self.mark() == mark
    }

    fn holds(&self) {
        self.held.fetch_add(1, Ordering::AcqRel);
    }

    fn releases(&self) {
        self.held.fetch_sub(1, Ordering::AcqRel);
    }

    fn forgets(&self) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
    }
}

/// The memory of one process.
pub struct Live {
    sessions: Box<[Shard<LiveSession>]>,
    users: Box<[Shard<LiveUser>]>,
    /// Changes of users. One for all, since a reader learns whose session it
    /// reads only by reading; users change rarely.
    users_change: Change,
    hasher: RandomState,
    entry_age_max: Duration,
    made: Instant,
    /// When the last complete poll of the feed began, in milliseconds since `made`; `u64::MAX`
    /// before the first.
    polled_at: AtomicU64,
}

impl Default for Live {
    fn default() -> Self {
        fn shards<T>() -> Box<[Shard<T>]> {
            let shard = || Shard { kept: RwLock::new(HashTable::new()), change: Change::default() };
            std::iter::repeat_with(shard).take(SHARDS).collect()
        }
        Self {
            sessions: shards(),
            users: shards(),
            users_change: Change::default(),
            hasher: RandomState::new(),
            entry_age_max: ENTRY_AGE_MAX,
            made: Instant::now(),
            polled_at: AtomicU64::new(u64::MAX),
        }
    }
}

impl Live {
    /// A memory for the only server of a database.
    #[must_use]
    pub fn alone() -> Self {
        Self { entry_age_max: ENTRY_AGE_MAX_ALONE, ..Self::default() }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn hash(&self, key: impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The kept entry of a session, if it still counts. Needs no clock beyond the monotonic one.
    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<Arc<LiveSession>> {
        let now = self.elapsed_ms();
        let polled_at = self.polled_at.load(Ordering::Acquire);
        if polled_at == u64::MAX || now.saturating_sub(polled_at) >= millis(LEASE) {
            return None;
        }
        let hash = self.hash(id);
        let entry = Arc::clone(shard(&self.sessions, hash).kept.read().find(hash, |entry| entry.id == id)?);
        let fresh = now.saturating_sub(entry.read_at) < millis(self.entry_age_max);
        (fresh && !entry.user.stale.load(Ordering::Acquire)).then_some(entry)
    }

    /// A commit that touches this begins: forgets it, and keeps nothing of it until
    /// [`Self::release`].
    pub(crate) fn hold(&self, touched: &[Touched]) {
        for touched in touched {
            self.forget_one(*touched, Change::holds);
        }
    }

    /// That commit is over, whatever became of it.
    pub(crate) fn release(&self, touched: &[Touched]) {
        for touched in touched {
            self.forget_one(*touched, Change::releases);
        }
    }

    /// Forgets what another process has touched.
    pub fn forget(&self, touched: &[Touched]) {
        for touched in touched {
            self.forget_one(*touched, |_| ());
        }
    }

    fn forget_one(&self, touched: Touched, and: impl FnOnce(&Change)) {
        match touched {
            Touched::Session(id) => {
                let hash = self.hash(id);
                let shard = shard(&self.sessions, hash);
                let mut kept = shard.kept.write();
                shard.change.forgets();
                and(&shard.change);
                if let Ok(entry) = kept.find_entry(hash, |entry| entry.id == id) {
                    entry.remove();
                }
            }
            Touched::User(key) => {
                let hash = self.hash(key);
                let mut kept = shard(&self.users, hash).kept.write();
                self.users_change.forgets();
                and(&self.users_change);
                if let Ok(entry) = kept.find_entry(hash, |user| user.key == key) {
                    entry.get().stale.store(true, Ordering::Release);
                    entry.remove();
                }
            }
        }
    }

    /// Forgets everything.
    pub fn forget_all(&self) {
        self.users_change.forgets();
        for shard in &self.users {
            let mut kept = shard.kept.write();
            for user in kept.iter() {
                user.stale.store(true, Ordering::Release);
            }
            kept.clear();
        }
        for shard in &self.sessions {
            let mut kept = shard.kept.write();
            shard.change.forgets();
            kept.clear();
        }
    }

    /// Drops entries that are too old to count, so that memory holds living sessions only.
    pub fn sweep(&self) {
        let now = self.elapsed_ms();
        for shard in &self.sessions {
            shard.kept.write().retain(|entry| {
                now.saturating_sub(entry.read_at) < millis(self.entry_age_max)
                    && !entry.user.stale.load(Ordering::Acquire)
            });
        }
        for shard in &self.users {
            // One reference is the table's own.
            shard.kept.write().retain(|user| Arc::strong_count(user) > 1);
        }
    }

    /// How many sessions are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.iter().map(|shard| shard.kept.read().len()).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The moment to hand to [`Self::polled`] once a poll that begins now is complete.
    #[must_use]
    pub fn poll_begins(&self) -> u64 {
        self.elapsed_ms()
    }

    /// A poll of the feed that began at `began` is complete and its changes are forgotten.
    pub fn polled(&self, began: u64) {
        self.polled_at.store(began, Ordering::Release);
    }

    /// What a reader notes before it reads, to know whether it may keep what it read.
    fn mark(&self, id: SessionId) -> Mark {
        Mark {
            session: shard(&self.sessions, self.hash(id)).change.mark(),
            users: self.users_change.mark(),
            read_at: self.elapsed_ms(),
        }
    }

    /// Makes an entry of a row, and keeps it unless something was forgotten since the mark.
    fn keep(&self, loaded: Loaded, mark: Mark) -> Arc<LiveSession> {
        let user = self.user_of(&loaded, mark.users);
        let entry = Arc::new(live_session(loaded, user, mark.read_at));
        let hash = self.hash(entry.id);
        let shard = shard(&self.sessions, hash);
        let mut kept = shard.kept.write();
        if shard.change.is_still(mark.session) {
            match kept.entry(hash, |kept| kept.id == entry.id, |kept| self.hash(kept.id)) {
                Entry::Occupied(mut old) => *old.get_mut() = Arc::clone(&entry),
                Entry::Vacant(vacant) => drop(vacant.insert(Arc::clone(&entry))),
            }
        }
        entry
    }

    /// The user of a row just read. Sessions of one user share it, as long as it says the same.
    fn user_of(&self, loaded: &Loaded, mark: u64) -> Arc<LiveUser> {
        let read = LiveUser {
            key: loaded.session.user,
            localpart: loaded.localpart.as_str().into(),
            owner: loaded.owner,
            admin: loaded.admin,
            guest: loaded.guest,
            suspended: loaded.suspended,
            stale: AtomicBool::new(false),
        };
        let hash = self.hash(read.key);
        let mut kept = shard(&self.users, hash).kept.write();
        if !self.users_change.is_still(mark) {
            // Used for this answer; stale from birth, so that nothing is answered from it again.
            read.stale.store(true, Ordering::Release);
            return Arc::new(read);
        }
        match kept.entry(hash, |user| user.key == read.key, |user| self.hash(user.key)) {
            Entry::Occupied(user) if user.get().says_the_same(&read) => Arc::clone(user.get()),
            Entry::Occupied(mut user) => {
                user.get().stale.store(true, Ordering::Release);
                let read = Arc::new(read);
                *user.get_mut() = Arc::clone(&read);
                read
            }
            Entry::Vacant(vacant) => Arc::clone(vacant.insert(Arc::new(read)).get()),
        }
    }
}

/// See [`Live::mark`].
#[derive(Clone, Copy)]
struct Mark {
    session: u64,
    users: u64,
    read_at: u64,
}

fn shard<T>(shards: &[Shard<T>], hash: u64) -> &Shard<T> {
    // The top byte; the table inside a shard goes by the rest.
    &shards[usize::try_from(hash >> 56).unwrap_or(0) % SHARDS]
}

const fn millis(duration: Duration) -> u64 {
    duration.as_secs() * 1_000 + duration.subsec_millis() as u64
}

fn live_session(loaded: Loaded, user: Arc<LiveUser>, read_at: u64) -> LiveSession {
    let Loaded { session, device_id, .. } = loaded;
    LiveSession {
        id: session.id,
        user,
        device_id,
        api: session.api,
        status: session.status,
        acknowledged: session.acked_generation == session.generation,
        generation: session.generation,
        user_epoch: session.user_epoch,
        session_exp: session.session_exp,
        at_hash: session.at_hash,
        at_exp: session.at_exp,
        at_prev_hash: session.at_prev_hash,
        at_prev_exp: session.at_prev_exp.unwrap_or(0),
        read_at,
    }
}

impl Store {
    /// A session for a check: from memory if that counts, else from the database.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn live_session(&self, id: SessionId) -> Result<Option<Arc<LiveSession>>, StoreError> {
        if let Some(entry) = self.live().get(id) {
            return Ok(Some(entry));
        }
        self.reread_session(id).await
    }

    /// The same, from the database whatever memory says.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn reread_session(&self, id: SessionId) -> Result<Option<Arc<LiveSession>>, StoreError> {
        let mark = self.live().mark(id);
        let loaded = self.load_session(id).await?;
        Ok(loaded.map(|loaded| self.live().keep(loaded, mark)))
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
