//! The feed: a numbered list of changes that take a permission away, so that every process
//! forgets in time what it holds in memory.
//!
//! Numbers come from one locked counter row, not a sequence: a sequence hands out numbers before
//! commit, so a late commit would hide behind a number already passed. Written where another
//! process may be checking from memory: always on PostgreSQL, and by the command line on SQLite.

use ligand_protocol::UnixMs;
use ligand_protocol::ids::{SessionId, UserKey};

use crate::sessions::session_id;
use crate::{Row, Store, StoreError, Touched, Value, Write, params};

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Session(SessionId),
    /// The account or any of its sessions.
    User(UserKey),
}

/// Changes read from the feed in one poll.
#[derive(Debug)]
pub struct Poll {
    /// Number of the newest change read, from which the next poll goes on.
    pub seq: i64,
    pub changes: Vec<Touched>,
    /// Changes after the caller's number are missing: forget everything.
    pub gap: bool,
    /// There may be more to read at once.
    pub full: bool,
}

const POLL_CHANGES_MAX: i64 = 1_000;

const NEXT: &str = "UPDATE feed SET seq = seq + 1 WHERE id = 1";
const INSERT: &str = "INSERT INTO changes (seq, kind, session_id, user_id, at) \
    SELECT seq, CAST($1 AS bigint), $2, CAST($3 AS bigint), CAST($4 AS bigint) FROM feed WHERE id = 1";
const HEAD: &str = "SELECT seq FROM feed WHERE id = 1";
const POLL: &str = "SELECT seq, kind, session_id, user_id FROM changes WHERE seq > $1 ORDER BY seq LIMIT $2";
const TRIM: &str = "DELETE FROM changes WHERE at < $1";

/// The statements that carry a guard, by name, for the test that removes each term of it.
pub(crate) const GUARDED: &[(&str, &str)] = &[("NEXT", NEXT), ("TRIM", TRIM)];

const KIND_SESSION: i64 = 1;
const KIND_USER: i64 = 2;

impl Store {
    /// The writes that announce a change; none where nobody else could hold it in memory.
    pub(crate) fn feed(&self, change: Change, now: UnixMs) -> Vec<Write> {
        if !self.writes_feed() {
            return Vec::new();
        }
        let (kind, session, user) = match change {
            Change::Session(id) => (KIND_SESSION, Value::from(id), Value::Null),
            Change::User(key) => (KIND_USER, Value::Null, Value::from(key)),
        };
        vec![Write::one(NEXT, Vec::new()), Write::one(INSERT, vec![kind.into(), session, user, now.into()])]
    }

    /// The number of the newest change.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn feed_head(&self) -> Result<i64, StoreError> {
        let rows = self.read(HEAD, Vec::new()).await?;
        rows.first().ok_or_else(|| StoreError::corrupt("the feed has no counter"))?.int(0)
    }

    /// Changes after `seq`.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn poll_feed(&self, seq: i64) -> Result<Poll, StoreError> {
        let rows = self.read(POLL, params![seq, POLL_CHANGES_MAX]).await?;
        let numbers: Vec<i64> = rows.iter().map(|row| row.int(0)).collect::<Result<_, _>>()?;
        let gap = match numbers.last() {
            // Trimming goes by time: where clocks disagree it may leave a hole in the middle.
            Some(last) => i64::try_from(numbers.len()).is_ok_and(|len| len < *last - seq),
            // Nothing newer is kept; but was it trimmed?
            None => self.feed_head().await? > seq && self.read(POLL, params![seq, 1]).await?.is_empty(),
        };
        let seq = match numbers.last() {
            Some(last) => *last,
            None if gap => self.feed_head().await?,
            None => seq,
        };
        Ok(Poll {
            seq,
            changes: rows.iter().map(touched).collect::<Result<_, _>>()?,
            gap,
            full: i64::try_from(rows.len()).is_ok_and(|len| len == POLL_CHANGES_MAX),
        })
    }

    /// Forgets changes older than a moment that every process has long passed.
    ///
    /// # Errors
    /// Storage trouble.
    pub async fn trim_feed(&self, before: UnixMs) -> Result<(), StoreError> {
        self.commit(vec![Write::any(TRIM, params![before])], Vec::new()).await.map(drop)
    }
}

fn touched(row: &Row) -> Result<Touched, StoreError> {
    match row.int(1)? {
        KIND_SESSION => Ok(Touched::Session(session_id(row, 2)?)),
        KIND_USER => Ok(Touched::User(UserKey(row.int(3)?))),
        _ => Err(StoreError::corrupt("a change of unknown kind")),
    }
}
