//! The server of the model: it does to the row what the state machine says.

use std::sync::{Arc, LazyLock};

use ligand_protocol::NEVER;
use ligand_protocol::ids::{SessionId, UserKey};
use ligand_protocol::session::{
    AccountState, Api, CheckVerdict, Door, EndReason, Head, Owner, RefreshVerdict, Session, Status, Windows,
};
use ligand_protocol::token::{Minted, Presented, Secret, TagKeys, TokenKind};

/// The one moment of the model; the leeway passes by moving the row's times back ([`aged`]).
pub const NOW: i64 = 1_700_000_000_000;
pub const GENERATIONS_MAX: usize = 6;
/// How many pairs of one generation the negative control may mint.
pub const VARIANTS: usize = 3;
const OWNER: Owner = Owner { epoch: 0, state: AccountState::Active };
const ID: SessionId = SessionId([1; 16]);

/// A pair by its place: its generation, and which of that generation's pairs it is. Only the
/// negative control has more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    pub generation: u8,
    pub variant: u8,
}

impl Pair {
    pub const FIRST: Self = Self { generation: 1, variant: 0 };

    /// Its place in a table of all pairs.
    pub const fn index(self) -> usize {
        (self.generation as usize - 1) * VARIANTS + self.variant as usize
    }
}

/// Every pair there can be, made once: hashing in each state would take most of the time.
static TOKENS: LazyLock<Vec<(Presented, Presented)>> = LazyLock::new(|| {
    let keys = TagKeys::new(&[1; 32], None);
    let make = |kind, generation, secret| {
        let minted = Minted::new(kind, ID, generation, &Secret([secret; 24]), &keys);
        Presented::parse(kind, minted.text.expose(), &keys).expect("just minted")
    };
    let places = (0..GENERATIONS_MAX * VARIANTS).map(|index| {
        let generation = u32::try_from(index / VARIANTS + 1).expect("few");
        let secret = u8::try_from(index).expect("few");
        (make(TokenKind::Refresh, generation, secret), make(TokenKind::Access, generation, secret))
    });
    places.collect()
});

fn refresh_token(pair: Pair) -> &'static Presented {
    &TOKENS[pair.index()].0
}

fn access_token(pair: Pair) -> &'static Presented {
    &TOKENS[pair.index()].1
}

/// What a retry with the predecessor of an unused head gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    SamePair,
    /// The negative control.
    NewPairOnRetry,
}

/// A row after a request, and what was answered: a pair, or a refusal.
pub struct Served {
    pub row: Arc<Session>,
    pub answer: Option<Pair>,
}

fn client(door: Door) -> Option<&'static str> {
    (door == Door::Grant).then_some("app")
}

/// The row after sign-in.
pub fn signed_in(api: Api) -> Session {
    let head = head(Pair::FIRST, Door::TokenRefresh);
    Session {
        id: ID,
        user: UserKey(1),
        user_epoch: 0,
        client_id: (api == Api::OAuth).then(|| "app".to_owned()),
        api,
        status: Status::Live,
        generation: 1,
        acked_generation: 0,
        acked_at: None,
        head_at: NOW,
        rt_hash: Some(head.rt_hash),
        rt_prev_hash: None,
        sealed: None,
        rt_exp: NEVER,
        session_exp: NEVER,
        at_hash: head.at_hash,
        at_exp: NEVER,
        at_prev_hash: None,
        at_prev_exp: None,
    }
}

/// The head that a pair is. Its seal names the pair instead of hiding it.
fn head(pair: Pair, door: Door) -> Head {
    Head {
        rt_hash: refresh_token(pair).hash,
        at_hash: access_token(pair).hash,
        rt_exp: NEVER,
        at_exp: NEVER,
        sealed: (door != Door::TokenRefresh).then(|| vec![pair.generation, pair.variant]),
    }
}

fn opened(row: &Session) -> Pair {
    let seal = row.sealed.as_deref().expect("the same pair needs its seal");
    Pair { generation: seal[0], variant: seal[1] }
}

pub fn verdict(row: &Session, pair: Pair, door: Door) -> RefreshVerdict {
    let windows = Windows::default();
    row.refresh(OWNER, refresh_token(pair), door, client(door), &windows, NOW)
}

/// A refresh, from the question to the commit. `None` where a pair beyond the bounds of the model
/// would be minted.
pub fn refresh(rule: Rule, generations: u8, row: &Arc<Session>, pair: Pair, door: Door) -> Option<Served> {
    let mint = |pair: Pair| {
        let bounded = pair.generation <= generations && usize::from(pair.variant) < VARIANTS;
        bounded.then(|| head(pair, door))
    };
    Some(match verdict(row, pair, door) {
        RefreshVerdict::Mint(_) => {
            let generation = u8::try_from(row.generation + 1).expect("few");
            let next = Pair { generation, variant: 0 };
            let row = Arc::new(row.rotated(mint(next)?, door, NOW));
            Served { row, answer: Some(next) }
        }
        RefreshVerdict::SamePair if rule == Rule::NewPairOnRetry => {
            let old = opened(row);
            let next = Pair { variant: old.variant + 1, ..old };
            let head = mint(next)?;
            let row = Session {
                rt_hash: Some(head.rt_hash),
                at_hash: head.at_hash,
                sealed: head.sealed,
                ..Session::clone(row)
            };
            Served { row: Arc::new(row), answer: Some(next) }
        }
        RefreshVerdict::SamePair => Served { row: row.clone(), answer: Some(opened(row)) },
        RefreshVerdict::SamePairResealed => unreachable!("no access token expires here"),
        RefreshVerdict::Refuse(_) => Served { row: row.clone(), answer: None },
        RefreshVerdict::EndFamily => Served { row: Arc::new(row.ended(EndReason::Reuse)), answer: None },
    })
}

/// A use: the row after it, and whether it was accepted.
pub fn used(row: &Arc<Session>, pair: Pair) -> (Arc<Session>, bool) {
    match row.check(OWNER, access_token(pair), NOW) {
        CheckVerdict::Ok => (row.clone(), true),
        CheckVerdict::OkAfterAcknowledging => (Arc::new(row.acknowledged(&Windows::default(), NOW)), true),
        CheckVerdict::Refuse(_) => (row.clone(), false),
    }
}

/// The row once the leeway has passed: all its times lie that much further back.
pub fn aged(row: &Session) -> Session {
    let past = NOW - Windows::default().reuse_leeway_ms;
    Session {
        head_at: past,
        acked_at: row.acked_at.map(|_| past),
        at_prev_exp: row.at_prev_exp.map(|exp| if exp == NEVER { NEVER } else { NOW }),
        ..row.clone()
    }
}
