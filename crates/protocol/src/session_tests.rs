//! The table of `session.rs`, row by row. Its gates are in `gates.rs`, what the row becomes in
//! `effects.rs`; histories of many steps in `tests/histories.rs`, all interleavings of two clients
//! and a thief in `tests/model.rs`.
//!
//! Every session here has the head [`G`]; a token is named by its age, the number of generations
//! it lies behind the head.

#[path = "session_tests/effects.rs"]
mod effects;
#[path = "session_tests/gates.rs"]
mod gates;

use super::RefreshVerdict::{EndFamily, Mint, Refuse, SamePair, SamePairResealed};
use super::Refusal::{Expired, LostCommit, Spent};
use super::*;
use crate::token::Secret;

const NOW: UnixMs = 1_700_000_000_000;
const G: u32 = 7;
const ID: SessionId = SessionId([1; 16]);
const SECOND: i64 = 1_000;
const LEEWAY: i64 = 30 * SECOND;
const YEAR: i64 = 365 * 86_400 * SECOND;
const DOORS: [Door; 3] = [Door::Refresh, Door::TokenRefresh, Door::Grant];
/// The doors where a token stays good until its successor is used.
const KEEPING_DOORS: [Door; 2] = [Door::Refresh, Door::Grant];
const ACTIVE: Owner = Owner { epoch: 3, state: AccountState::Active };
const MINT: RefreshVerdict = Mint(Spending::Head);
const BURN: RefreshVerdict = Mint(Spending::Predecessor);

fn hash(kind: TokenKind, generation: u32) -> TokenHash {
    let mut bytes = [kind.byte(); 32];
    bytes[..4].copy_from_slice(&generation.to_be_bytes());
    TokenHash(bytes)
}

fn presented(kind: TokenKind, generation: u32) -> Presented {
    let (hash, secret) = (hash(kind, generation), Secret([0; 24]));
    Presented { kind, session_id: ID, generation, hash, secret }
}

/// The refresh token `age` generations behind the head.
fn rt(age: u32) -> Presented {
    presented(TokenKind::Refresh, G - age)
}

/// The access token `age` generations behind the head.
fn at(age: u32) -> Presented {
    presented(TokenKind::Access, G - age)
}

/// The same place in the chain, but not the token that the row knows.
fn stranger(token: Presented) -> Presented {
    Presented { hash: TokenHash([0xee; 32]), ..token }
}

fn from_the_future(token: Presented) -> Presented {
    Presented { generation: G + 1, ..token }
}

fn client(door: Door) -> Option<&'static str> {
    (door == Door::Grant).then_some("app")
}

/// A session met at a door, its head minted `minted_ago` and not used since.
fn unused(door: Door, minted_ago: i64) -> Session {
    Session {
        id: ID,
        user: UserKey(1),
        user_epoch: 3,
        client_id: client(door).map(str::to_owned),
        api: door.api(),
        status: Status::Live,
        generation: G,
        acked_generation: G - 1,
        acked_at: None,
        head_at: NOW - minted_ago,
        rt_hash: Some(hash(TokenKind::Refresh, G)),
        rt_prev_hash: Some(hash(TokenKind::Refresh, G - 1)),
        sealed: Some(vec![1, 2, 3]),
        rt_exp: NEVER,
        session_exp: NEVER,
        at_hash: hash(TokenKind::Access, G),
        at_exp: NOW + 300 * SECOND,
        at_prev_hash: Some(hash(TokenKind::Access, G - 1)),
        at_prev_exp: Some(NOW + 100 * SECOND),
    }
}

/// The same, its head first used `used_ago` and minted a year before that. The seal is there
/// still, so that only the window can be what keeps it shut.
fn used(door: Door, used_ago: i64) -> Session {
    with(unused(door, used_ago + YEAR), |row| {
        row.acked_generation = G;
        row.acked_at = Some(NOW - used_ago);
    })
}

/// A head born used at `/tokenrefresh`, `minted_ago`.
fn strict(minted_ago: i64) -> Session {
    let before = with(unused(Door::TokenRefresh, YEAR), |row| row.generation = G - 1);
    before.rotated(Head { sealed: None, ..head(G) }, Door::TokenRefresh, NOW - minted_ago)
}

/// A head of this generation, minted now.
fn head(generation: u32) -> Head {
    Head {
        rt_hash: hash(TokenKind::Refresh, generation),
        at_hash: hash(TokenKind::Access, generation),
        rt_exp: NOW + 1_000 * SECOND,
        at_exp: NOW + 300 * SECOND,
        sealed: Some(vec![4, 5, 6]),
    }
}

/// The row with something changed.
fn with(mut row: Session, change: impl FnOnce(&mut Session)) -> Session {
    change(&mut row);
    row
}

/// Windows of the legacy API, of the OAuth API, and the leeway.
fn windows(legacy_retry_ms: i64, oauth_retry_ms: i64, reuse_leeway_ms: i64) -> Windows {
    Windows { legacy_retry_ms, oauth_retry_ms, reuse_leeway_ms, ..Windows::default() }
}

/// The windows under which `/tokenrefresh` takes reuse for a theft too.
fn switched() -> Windows {
    Windows { tokenrefresh_reuse_ends_session: true, ..Windows::default() }
}

fn judge(windows: Windows, row: &Session, token: &Presented, door: Door) -> RefreshVerdict {
    row.refresh(ACTIVE, token, door, client(door), &windows, NOW)
}

#[track_caller]
fn judges(row: &Session, token: &Presented, door: Door, verdict: RefreshVerdict) {
    judges_with(Windows::default(), row, token, door, verdict);
}

#[track_caller]
fn judges_with(w: Windows, row: &Session, token: &Presented, door: Door, verdict: RefreshVerdict) {
    assert_eq!(judge(w, row, token, door), verdict, "generation {} at {door:?}", token.generation);
}

#[track_caller]
fn checks(row: &Session, token: &Presented, verdict: CheckVerdict) {
    assert_eq!(row.check(ACTIVE, token, NOW), verdict, "generation {}", token.generation);
}

// refresh(R_g)

#[test]
fn the_heads_token_mints_at_every_door_used_or_not() {
    for door in DOORS {
        for ago in [0, YEAR] {
            judges(&unused(door, ago), &rt(0), door, MINT);
            judges(&used(door, ago), &rt(0), door, MINT);
        }
    }
    judges(&strict(0), &rt(0), Door::Refresh, MINT);
    judges(&strict(0), &rt(0), Door::TokenRefresh, MINT);
}

#[test]
fn an_idle_heads_token_is_refused_from_its_expiry_on() {
    for door in DOORS {
        for row in [unused(door, 0), used(door, 0)] {
            judges(&with(row.clone(), |row| row.rt_exp = NOW + 1), &rt(0), door, MINT);
            judges(&with(row, |row| row.rt_exp = NOW), &rt(0), door, Refuse(Expired));
        }
    }
}

// refresh(R_{g−1}) at `/refresh` or the grant

#[test]
fn the_predecessor_of_an_unused_head_gets_the_same_pair_however_late() {
    for door in KEEPING_DOORS {
        for ago in [0, LEEWAY - 1, LEEWAY, YEAR] {
            judges(&unused(door, ago), &rt(1), door, SamePair);
        }
    }
}

#[test]
fn an_expired_access_token_of_the_same_pair_is_minted_anew() {
    for door in KEEPING_DOORS {
        let row = unused(door, 0);
        judges(&with(row.clone(), |row| row.at_exp = NOW + 1), &rt(1), door, SamePair);
        judges(&with(row, |row| row.at_exp = NOW), &rt(1), door, SamePairResealed);
    }
    let in_window = with(used(Door::Grant, LEEWAY - 1), |row| row.at_exp = NOW);
    judges(&in_window, &rt(1), Door::Grant, SamePairResealed);
}

#[test]
fn the_same_pair_is_refused_once_its_refresh_token_is_idle() {
    for door in DOORS {
        let idle = with(unused(door, 0), |row| row.rt_exp = NOW);
        judges(&idle, &rt(1), door, Refuse(Expired));
    }
    let idle = with(used(Door::Grant, 0), |row| row.rt_exp = NOW);
    judges(&idle, &rt(1), Door::Grant, Refuse(Spent));
}

#[test]
fn after_the_heads_use_refresh_refuses_in_the_leeway_and_then_ends_the_family() {
    let door = Door::Refresh;
    for ago in [0, LEEWAY - 1] {
        judges(&used(door, ago), &rt(1), door, Refuse(Spent));
        judges(&strict(ago), &rt(1), door, Refuse(Spent));
    }
    // The door decides, not how the head was minted.
    for ago in [LEEWAY, YEAR] {
        judges(&used(door, ago), &rt(1), door, EndFamily);
        judges(&strict(ago), &rt(1), door, EndFamily);
    }
}

#[test]
fn a_legacy_retry_window_comes_before_the_leeway_and_may_outlast_it() {
    let door = Door::Refresh;
    let short = |ago, verdict| {
        judges_with(windows(LEEWAY / 3, 0, LEEWAY), &used(door, ago), &rt(1), door, verdict);
    };
    short(0, SamePair);
    short(LEEWAY / 3 - 1, SamePair);
    short(LEEWAY / 3, Refuse(Spent));
    short(LEEWAY - 1, Refuse(Spent));
    short(LEEWAY, EndFamily);
    let long = windows(2 * LEEWAY, 0, LEEWAY);
    judges_with(long, &used(door, 2 * LEEWAY - 1), &rt(1), door, SamePair);
    judges_with(long, &used(door, 2 * LEEWAY), &rt(1), door, EndFamily);
}

#[test]
fn the_grant_has_its_retry_window_and_no_leeway_past_it() {
    let door = Door::Grant;
    judges(&used(door, 0), &rt(1), door, SamePair);
    judges(&used(door, LEEWAY - 1), &rt(1), door, SamePair);
    judges(&used(door, LEEWAY), &rt(1), door, EndFamily);
    // The windows of the legacy API are not its own.
    judges_with(windows(YEAR, 0, YEAR), &used(door, 0), &rt(1), door, EndFamily);
}

#[test]
fn in_the_window_without_a_seal_the_predecessor_is_refused_softly() {
    let erased = with(used(Door::Grant, 0), |row| row.sealed = None);
    judges(&erased, &rt(1), Door::Grant, Refuse(Spent));
    judges_with(windows(LEEWAY, 0, 0), &strict(0), &rt(1), Door::Refresh, Refuse(Spent));
}

#[test]
fn a_clock_that_stepped_back_opens_no_window_where_none_is() {
    let ahead = used(Door::Refresh, -SECOND);
    judges(&ahead, &rt(1), Door::Refresh, Refuse(Spent));
    let ahead = used(Door::Grant, -SECOND);
    judges_with(windows(0, 0, LEEWAY), &ahead, &rt(1), Door::Grant, Refuse(Spent));
    // Two servers whose clocks differ by a moment are neither a theft nor an expiry.
    judges(&ahead, &rt(1), Door::Grant, SamePair);
}

// refresh(R_{g−1}) at `/tokenrefresh`

#[test]
fn the_predecessor_of_an_unused_head_is_burned_at_tokenrefresh() {
    let door = Door::TokenRefresh;
    for ago in [0, LEEWAY, YEAR] {
        judges(&unused(door, ago), &rt(1), door, BURN);
    }
    // An expired access token makes no difference: a new pair is minted anyway.
    judges(&with(unused(door, 0), |row| row.at_exp = NOW), &rt(1), door, BURN);
}

#[test]
fn the_predecessor_of_a_used_head_is_only_refused_at_tokenrefresh() {
    let door = Door::TokenRefresh;
    for ago in [0, LEEWAY - 1, LEEWAY, YEAR] {
        judges(&used(door, ago), &rt(1), door, Refuse(Spent));
        judges(&strict(ago), &rt(1), door, Refuse(Spent));
        // No retry window opens the seal here.
        judges_with(windows(2 * YEAR, 0, 0), &used(door, ago), &rt(1), door, Refuse(Spent));
    }
}

#[test]
fn the_switch_makes_reuse_at_tokenrefresh_end_the_family_after_the_leeway() {
    let door = Door::TokenRefresh;
    judges_with(switched(), &used(door, LEEWAY - 1), &rt(1), door, Refuse(Spent));
    judges_with(switched(), &used(door, LEEWAY), &rt(1), door, EndFamily);
    judges_with(switched(), &unused(door, LEEWAY - 1), &rt(2), door, Refuse(Spent));
    judges_with(switched(), &unused(door, LEEWAY), &rt(2), door, EndFamily);
    judges_with(switched(), &unused(door, 0), &rt(3), door, EndFamily);
    judges_with(switched(), &unused(door, YEAR), &rt(1), door, BURN);
}

// refresh(R_{g−2}) and older

#[test]
fn the_one_before_the_predecessor_has_the_leeway_from_the_heads_minting() {
    for door in KEEPING_DOORS {
        let used_now = |ago| with(used(door, 0), |row| row.head_at = NOW - ago);
        for row in [unused(door, LEEWAY - 1), used_now(LEEWAY - 1)] {
            judges(&row, &rt(2), door, Refuse(Spent));
        }
        // The head's use does not start it again, and no retry window lengthens it.
        for row in [unused(door, LEEWAY), used_now(LEEWAY)] {
            judges(&row, &rt(2), door, EndFamily);
            judges_with(windows(YEAR, YEAR, LEEWAY), &row, &rt(2), door, EndFamily);
        }
    }
    judges(&strict(LEEWAY - 1), &rt(2), Door::Refresh, Refuse(Spent));
    judges(&strict(LEEWAY), &rt(2), Door::Refresh, EndFamily);
}

#[test]
fn an_older_one_ends_the_family_at_once() {
    for door in KEEPING_DOORS {
        for age in [3, 4, G - 1] {
            judges(&unused(door, 0), &rt(age), door, EndFamily);
            judges(&used(door, 0), &rt(age), door, EndFamily);
        }
    }
}

#[test]
fn tokenrefresh_only_refuses_the_old_however_old() {
    let door = Door::TokenRefresh;
    for age in [2, 3, G - 1] {
        for ago in [0, LEEWAY, YEAR] {
            judges(&unused(door, ago), &rt(age), door, Refuse(Spent));
            judges(&used(door, ago), &rt(age), door, Refuse(Spent));
        }
    }
}

// The database knows less than the token

#[test]
fn a_genuine_token_that_the_row_does_not_know_is_a_lost_commit() {
    for door in DOORS {
        for row in [unused(door, YEAR), used(door, YEAR)] {
            for token in [stranger(rt(0)), stranger(rt(1)), from_the_future(rt(0))] {
                judges(&row, &token, door, Refuse(LostCommit));
            }
            checks(&row, &from_the_future(at(0)), CheckVerdict::Refuse(LostCommit));
        }
    }
}

#[test]
fn nothing_precedes_a_first_unused_pair() {
    for door in DOORS {
        let first = with(unused(door, 0), |row| row.rt_prev_hash = None);
        judges(&first, &rt(1), door, Refuse(LostCommit));
    }
}

// use(A)

#[test]
fn the_heads_access_token_acknowledges_an_unused_head() {
    checks(&unused(Door::Refresh, 0), &at(0), CheckVerdict::OkAfterAcknowledging);
    checks(&used(Door::Refresh, 0), &at(0), CheckVerdict::Ok);
    checks(&strict(0), &at(0), CheckVerdict::Ok);
}

#[test]
fn the_access_token_before_is_good_until_its_end_and_acknowledges_nothing() {
    for row in [unused(Door::Refresh, 0), used(Door::Refresh, 0)] {
        let until = |exp| with(row.clone(), |row| row.at_prev_exp = exp);
        checks(&until(Some(NOW + 1)), &at(1), CheckVerdict::Ok);
        checks(&until(Some(NOW)), &at(1), CheckVerdict::Refuse(Expired));
        checks(&until(None), &at(1), CheckVerdict::Refuse(Expired));
        checks(&row, &stranger(at(1)), CheckVerdict::Refuse(Expired));
    }
}

#[test]
fn an_older_or_expired_access_token_is_refused_softly_and_ends_nothing() {
    for row in [unused(Door::Refresh, 0), used(Door::Refresh, 0)] {
        for token in [stranger(at(0)), at(2), at(G - 1)] {
            checks(&row, &token, CheckVerdict::Refuse(Expired));
        }
        let until = |exp| with(row.clone(), |row| row.at_exp = exp);
        checks(&until(NOW), &at(0), CheckVerdict::Refuse(Expired));
        assert_ne!(until(NOW + 1).check(ACTIVE, &at(0), NOW), CheckVerdict::Refuse(Expired));
    }
}

#[test]
fn a_strict_head_leaves_no_earlier_access_token() {
    for age in [1, 2] {
        checks(&strict(0), &at(age), CheckVerdict::Refuse(Expired));
    }
}
