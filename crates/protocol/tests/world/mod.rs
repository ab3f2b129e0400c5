//! One session with its server, and the ledger of an onlooker who checks it.
//!
//! The ledger ([`Issued`], `first_use`) is written from the answers alone, never from the row, so
//! that a mistake in the row cannot excuse itself.

use ligand_protocol::ids::{SessionId, UserKey};
use ligand_protocol::seal::{Fresh, Pair};
use ligand_protocol::session::{
    AccountState, Api, CheckVerdict, Door, EndReason, Head, Owner, PREVIOUS_ACCESS_TOKEN_GRACE_MS,
    RefreshVerdict, Refusal, Session, Status, Windows,
};
use ligand_protocol::token::{Minted, Presented, TagKeys, TokenKind};
use ligand_protocol::{UnixMs, expiry};

pub const SECOND: i64 = 1_000;
pub const LEEWAY: i64 = 30 * SECOND;
const ID: SessionId = SessionId([1; 16]);

/// The doors of an API.
pub fn doors(api: Api) -> &'static [Door] {
    match api {
        Api::Legacy => &[Door::Refresh, Door::TokenRefresh],
        Api::OAuth => &[Door::Grant],
    }
}

fn client(door: Door) -> Option<&'static str> {
    (door == Door::Grant).then_some("app")
}

#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    pub access_ms: Option<i64>,
    pub refresh_ms: Option<i64>,
    pub session_ms: Option<i64>,
}

/// What the small server answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A 200 with the refresh token of this entry of the ledger.
    Pair(usize),
    Refused(Refusal),
    FamilyEnded,
}

/// A pair that was issued, and what became of it.
struct Issued {
    refresh: Presented,
    /// Every access token that went with it: more than one after resealing.
    access: Vec<Presented>,
    minted_at: UnixMs,
    access_exp: UnixMs,
    refresh_exp: UnixMs,
    born_strict: bool,
    /// What `/refresh` and the grant answered to this refresh token (I2).
    successor: Option<usize>,
    /// How often `/tokenrefresh` answered 200 to it (I3).
    strict_wins: u32,
    /// Burned: spent at `/tokenrefresh`, or an unused successor of one that was.
    burned: bool,
}

pub struct World {
    pub row: Session,
    pub owner: Owner,
    pub now: UnixMs,
    /// When the newest pair was first used, as far as anybody was told.
    pub first_use: Option<UnixMs>,
    windows: Windows,
    lifetimes: Lifetimes,
    keys: TagKeys,
    issued: Vec<Issued>,
    draws: u64,
}

impl World {
    pub fn legacy() -> Self {
        let access_ms = Some(300 * SECOND);
        let lifetimes = Lifetimes { access_ms, refresh_ms: None, session_ms: None };
        Self::new(Api::Legacy, Windows::default(), lifetimes)
    }

    /// A session just signed in: its first pair is issued and not used.
    pub fn new(api: Api, windows: Windows, lifetimes: Lifetimes) -> Self {
        let now = 1_700_000_000_000;
        let keys = TagKeys::new(&[1; 32], None);
        let pair = Pair::mint(ID, 1, &fresh(0), &keys);
        let session_exp = expiry(now, lifetimes.session_ms);
        let row = Session {
            id: ID,
            user: UserKey(1),
            user_epoch: 0,
            client_id: (api == Api::OAuth).then(|| "app".to_owned()),
            api,
            status: Status::Live,
            generation: 1,
            acked_generation: 0,
            acked_at: None,
            head_at: now,
            rt_hash: Some(pair.refresh.hash),
            rt_prev_hash: None,
            sealed: None,
            rt_exp: expiry(now, lifetimes.refresh_ms).min(session_exp),
            session_exp,
            at_hash: pair.access.hash,
            at_exp: expiry(now, lifetimes.access_ms).min(session_exp),
            at_prev_hash: None,
            at_prev_exp: None,
        };
        let owner = Owner { epoch: 0, state: AccountState::Active };
        let (first_use, issued, draws) = (None, Vec::new(), 0);
        let mut world = Self { row, owner, now, first_use, windows, lifetimes, keys, issued, draws };
        world.note(&pair, false);
        world
    }

    fn note(&mut self, pair: &Pair, born_strict: bool) {
        self.issued.push(Issued {
            refresh: self.read(TokenKind::Refresh, &pair.refresh),
            access: vec![self.read(TokenKind::Access, &pair.access)],
            minted_at: self.now,
            access_exp: expiry(self.now, self.lifetimes.access_ms).min(self.row.session_exp),
            refresh_exp: expiry(self.now, self.lifetimes.refresh_ms).min(self.row.session_exp),
            born_strict,
            successor: None,
            strict_wins: 0,
            burned: false,
        });
    }

    fn read(&self, kind: TokenKind, token: &Minted) -> Presented {
        Presented::parse(kind, token.text.expose(), &self.keys).expect("a token just minted")
    }

    fn draw(&mut self) -> Fresh {
        self.draws += 1;
        fresh(self.draws)
    }

    /// The newest entry of the ledger.
    pub fn newest(&self) -> usize {
        self.issued.len() - 1
    }

    /// The entry so many before the newest, as far back as there are any.
    pub fn back(&self, back: usize) -> usize {
        self.newest().saturating_sub(back)
    }

    pub fn minted_at(&self, entry: usize) -> UnixMs {
        self.issued[entry].minted_at
    }

    pub fn generation(&self, entry: usize) -> u32 {
        self.issued[entry].refresh.generation
    }

    pub fn is_live(&self) -> bool {
        self.row.status == Status::Live
    }

    /// Whether the newest access token of this entry would be accepted.
    pub fn is_good(&self, entry: usize) -> bool {
        let token = self.issued[entry].access.last().expect("one at least");
        !matches!(self.row.check(self.owner, token, self.now), CheckVerdict::Refuse(_))
    }

    /// Mints so many generations with the newest token and returns their entries.
    pub fn mint(&mut self, count: usize, used: bool) -> Vec<usize> {
        let mut minted = Vec::new();
        let mut holds = (0..self.issued.len())
            .rfind(|entry| Some(self.issued[*entry].refresh.hash) == self.row.rt_hash)
            .expect("the head was issued");
        for _ in 0..count {
            let Answer::Pair(next) = self.refresh_raw(holds, Door::Refresh) else {
                panic!("the head's token mints")
            };
            if used {
                self.row = self.row.acknowledged(&self.windows, self.now);
            }
            minted.push(next);
            holds = next;
        }
        minted
    }

    /// Does what the state machine says, as the server does.
    pub fn refresh_raw(&mut self, entry: usize, door: Door) -> Answer {
        let token = self.issued[entry].refresh.clone();
        let (row, now) = (self.row.clone(), self.now);
        match row.refresh(self.owner, &token, door, client(door), &self.windows, now) {
            RefreshVerdict::Mint(_) => self.rotate(&token, door),
            RefreshVerdict::SamePair => Answer::Pair(self.open(&token).0),
            RefreshVerdict::SamePairResealed => self.reseal(&token),
            RefreshVerdict::Refuse(refusal) => Answer::Refused(refusal),
            RefreshVerdict::EndFamily => {
                self.row = row.ended(EndReason::Reuse);
                Answer::FamilyEnded
            }
        }
    }

    fn rotate(&mut self, token: &Presented, door: Door) -> Answer {
        let generation = self.row.generation + 1;
        let fresh = self.draw();
        let pair = Pair::mint(ID, generation, &fresh, &self.keys);
        let strict = door == Door::TokenRefresh;
        let head = Head {
            rt_hash: pair.refresh.hash,
            at_hash: pair.access.hash,
            rt_exp: expiry(self.now, self.lifetimes.refresh_ms),
            at_exp: expiry(self.now, self.lifetimes.access_ms),
            sealed: (!strict)
                .then(|| pair.seal(token, generation, &fresh.nonce).expect("the cipher takes this size")),
        };
        self.row = self.row.rotated(head, door, self.now);
        self.note(&pair, strict);
        Answer::Pair(self.newest())
    }

    /// Opens the seal: which entry its refresh token is, and the pair.
    fn open(&self, token: &Presented) -> (usize, Pair) {
        let sealed = self.row.sealed.as_deref().expect("the same pair needs its seal");
        let pair = Pair::open(sealed, token, self.row.generation).expect("the seal opens");
        let entry = (0..self.issued.len()).find(|e| self.issued[*e].refresh.hash == pair.refresh.hash);
        (entry.expect("the sealed pair was issued"), pair)
    }

    fn reseal(&mut self, token: &Presented) -> Answer {
        let (entry, old) = self.open(token);
        let generation = self.row.generation;
        let fresh = self.draw();
        let access = Minted::new(TokenKind::Access, ID, generation, &fresh.access, &self.keys);
        let pair = Pair { refresh: old.refresh, access };
        let sealed = pair.seal(token, generation, &fresh.nonce).expect("as at first");
        let at_exp = expiry(self.now, self.lifetimes.access_ms);
        self.row = self.row.resealed(pair.access.hash, at_exp, sealed);
        let access = self.read(TokenKind::Access, &pair.access);
        self.issued[entry].access.push(access);
        self.issued[entry].access_exp = at_exp.min(self.row.session_exp);
        Answer::Pair(entry)
    }

    /// Presents a token, judges the answer by the ledger, and enters it there.
    pub fn refresh_judged(&mut self, entry: usize, door: Door) -> Answer {
        let before = self.row.clone();
        let expected = self.expected(entry, door);
        let head = self.newest();
        let answer = self.refresh_raw(entry, door);
        match answer {
            Answer::Pair(_) => assert_eq!(expected, Expected::Success, "I1, I7: {door:?}"),
            Answer::FamilyEnded => assert_eq!(expected, Expected::End, "an innocent end"),
            Answer::Refused(_) => {
                assert_eq!(expected, Expected::Refusal, "I5, I8: {answer:?} at {door:?}");
                assert_eq!(self.row, before, "a refusal writes nothing");
            }
        }
        if let Answer::Pair(pair) = answer {
            self.enter(entry, door, pair, head);
        }
        answer
    }

    fn enter(&mut self, entry: usize, door: Door, pair: usize, head: usize) {
        let now = self.now;
        assert!(!self.issued[entry].burned, "I3: a burned token came through at {door:?}");
        if door == Door::TokenRefresh {
            self.issued[entry].strict_wins += 1;
            assert_eq!(self.issued[entry].strict_wins, 1, "I3");
            for spent in &mut self.issued[entry..pair] {
                spent.burned = true;
            }
        } else {
            let successor = *self.issued[entry].successor.get_or_insert(pair);
            assert_eq!(successor, pair, "I2: two successors of one refresh token");
        }
        if pair > head {
            self.first_use = (door == Door::TokenRefresh).then_some(now);
        }
    }

    /// A refresh token in the wrong hands or at a door of the other API (I10).
    pub fn refresh_by_somebody_else(&self, entry: usize) {
        let token = &self.issued[entry].refresh;
        for door in [Door::Refresh, Door::TokenRefresh, Door::Grant] {
            for somebody in [None, Some("app"), Some("other")] {
                if doors(self.row.api).contains(&door) && somebody == client(door) {
                    continue;
                }
                let verdict = self.row.refresh(self.owner, token, door, somebody, &self.windows, self.now);
                let gates = matches!(
                    verdict,
                    RefreshVerdict::Refuse(Refusal::Unknown | Refusal::Ended(_) | Refusal::SessionExpired)
                );
                assert!(gates, "I10: {verdict:?}");
            }
        }
        let elsewhere = TagKeys::new(&[9; 32], None);
        let forged = Pair::mint(ID, token.generation, &fresh(7), &elsewhere);
        let text = forged.refresh.text.expose();
        assert!(Presented::parse(TokenKind::Refresh, text, &self.keys).is_none(), "I9");
    }

    /// Uses the newest access token of an entry.
    pub fn use_judged(&mut self, entry: usize) {
        let token = self.issued[entry].access.last().expect("one at least").clone();
        let verdict = self.row.check(self.owner, &token, self.now);
        if verdict == CheckVerdict::OkAfterAcknowledging {
            self.row = self.row.acknowledged(&self.windows, self.now);
        }
        let good = verdict == CheckVerdict::Ok || verdict == CheckVerdict::OkAfterAcknowledging;
        if good && entry == self.newest() && self.first_use.is_none() {
            assert_eq!(verdict, CheckVerdict::OkAfterAcknowledging, "a use unnoticed");
            self.first_use = Some(self.now);
        } else {
            assert_ne!(verdict, CheckVerdict::OkAfterAcknowledging, "no use to acknowledge");
        }
    }

    pub fn end(&mut self, reason: EndReason) {
        self.row = self.row.ended(reason);
    }

    /// Whether no gate stands before the table, but for the lock.
    fn gates_open(&self) -> bool {
        self.is_live() && self.owner.epoch == 0 && self.now < self.row.session_exp
    }

    /// What the ledger demands of a refresh token.
    fn expected(&self, entry: usize, door: Door) -> Expected {
        let locked = self.owner.state == AccountState::Locked && door != Door::Grant;
        if !self.gates_open() || locked {
            return Expected::Refusal;
        }
        let keeping = door != Door::TokenRefresh;
        let dead_since = match (self.newest() - entry, self.first_use) {
            (0, _) => return self.success_unless_idle(),
            (1, None) => return self.success_unless_idle(),
            (1, Some(used)) => {
                let retry = self.now - used < self.windows.retry_ms(self.row.api);
                if retry && keeping && !self.issued[self.newest()].born_strict && !self.is_idle() {
                    return Expected::Success;
                }
                Some(used)
            }
            (2, _) => Some(self.issued[self.newest()].minted_at),
            _ => None,
        };
        let leeway = match (self.newest() - entry, door) {
            (1, Door::Grant) => self.windows.oauth_retry_ms,
            (1, _) => self.windows.reuse_leeway_ms.max(self.windows.legacy_retry_ms),
            _ => self.windows.reuse_leeway_ms,
        };
        let excused = dead_since.is_some_and(|since| self.now - since < leeway);
        if excused || !(keeping || self.windows.tokenrefresh_reuse_ends_session) {
            Expected::Refusal
        } else {
            Expected::End
        }
    }

    fn is_idle(&self) -> bool {
        self.now >= self.issued[self.newest()].refresh_exp
    }

    fn success_unless_idle(&self) -> Expected {
        if self.is_idle() { Expected::Refusal } else { Expected::Success }
    }

    /// Tries every refresh token ever issued at every door of the API (I1, I5, I7, I8, I12).
    pub fn assert_refresh_tokens(&self) {
        for door in doors(self.row.api) {
            let mut minting = 0;
            for entry in 0..self.issued.len() {
                let token = &self.issued[entry].refresh;
                let verdict =
                    self.row.refresh(self.owner, token, *door, client(*door), &self.windows, self.now);
                let found = match verdict {
                    RefreshVerdict::EndFamily => Expected::End,
                    RefreshVerdict::Refuse(_) => Expected::Refusal,
                    _ => Expected::Success,
                };
                minting +=
                    u32::from(verdict == RefreshVerdict::Mint(ligand_protocol::session::Spending::Head));
                let age = self.newest() - entry;
                assert_eq!(found, self.expected(entry, *door), "{verdict:?}: age {age} at {door:?}");
            }
            assert!(minting <= 1, "I1: one head");
        }
    }

    /// Tries every access token ever issued: none but the head's and the one before it works, each
    /// to its own end, and the one before at most 30 s past the head's first use.
    pub fn assert_access_tokens(&self) {
        let unlocked = Owner { state: AccountState::Active, ..self.owner };
        for (entry, issued) in self.issued.iter().enumerate() {
            let newest_of_entry = issued.access.len() - 1;
            for (which, token) in issued.access.iter().enumerate() {
                let verdict = self.row.check(unlocked, token, self.now);
                let good = !matches!(verdict, CheckVerdict::Refuse(_));
                let grace_over =
                    self.first_use.is_some_and(|used| self.now - used >= PREVIOUS_ACCESS_TOKEN_GRACE_MS);
                let may = match self.newest() - entry {
                    0 => true,
                    1 => !self.issued[self.newest()].born_strict && !grace_over,
                    _ => false,
                };
                let lasts = which == newest_of_entry && self.now < issued.access_exp;
                assert_eq!(good, may && lasts && self.gates_open(), "access token {entry}: {verdict:?}");
                if self.owner.state == AccountState::Locked {
                    let locked = self.row.check(self.owner, token, self.now);
                    assert!(matches!(locked, CheckVerdict::Refuse(_)));
                }
            }
        }
    }

    /// The seal opens to the head for its predecessor, and for no other token.
    pub fn assert_seal(&self) {
        let Some(sealed) = self.row.sealed.as_deref() else {
            return;
        };
        let head = self.newest();
        let generation = self.row.generation;
        let pair = Pair::open(sealed, &self.issued[head - 1].refresh, generation);
        let pair = pair.expect("the predecessor opens the seal");
        assert_eq!(Some(pair.refresh.hash), self.row.rt_hash);
        assert_eq!(pair.access.hash, self.row.at_hash);
        assert!(Pair::open(sealed, &self.issued[head].refresh, generation).is_none());
        if let Some(older) = head.checked_sub(2) {
            assert!(Pair::open(sealed, &self.issued[older].refresh, generation).is_none());
        }
    }

    /// What holds between any two rows that follow each other.
    pub fn assert_row_moved_on(&self, before: &Session) {
        let row = &self.row;
        assert!(row.rt_exp <= row.session_exp && row.at_exp <= row.session_exp);
        assert_eq!(row.session_exp, before.session_exp, "the absolute end never moves");
        assert!(row.generation == before.generation || row.generation == before.generation + 1);
        assert!(row.acked_generation >= before.acked_generation);
        let lag = row.generation - row.acked_generation;
        assert!(lag <= 1, "acked_generation is g or g−1");
        assert_eq!(lag == 0, row.acked_at.is_some());
        assert_eq!(lag == 0, self.first_use.is_some(), "the row knows of every use");
        if before.status != Status::Live {
            assert_eq!(row, before, "I12: ended is absorbing");
        }
    }
}

/// What the ledger demands of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Success,
    Refusal,
    End,
}

fn fresh(draw: u64) -> Fresh {
    let mut bytes = [0; Fresh::BYTES];
    for (at, chunk) in bytes.chunks_mut(8).enumerate() {
        let word = (draw << 8 | at as u64).to_be_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    Fresh::from_bytes(&bytes)
}
