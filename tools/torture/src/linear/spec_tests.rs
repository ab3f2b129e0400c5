//! Histories by hand: what an order explains, and what none does.

use ligand_protocol::ids::SessionId;
use ligand_protocol::seal::{Fresh, Pair as Minted};

use super::*;
use crate::linear::history::Recorder;

const ID: SessionId = SessionId([1; 16]);

fn keys() -> TagKeys {
    TagKeys::new(&[9; 32], None)
}

/// The n-th pair of this generation.
fn pair(generation: u32, n: u8) -> Pair {
    let fresh = Fresh::from_bytes(&[generation as u8 * 16 + n; Fresh::BYTES]);
    let pair = Minted::mint(ID, generation, &fresh, &keys());
    Pair { access: pair.access.text.expose().into(), refresh: pair.refresh.text.expose().into() }
}

fn refused(status: u16) -> Answer {
    Answer::Refused { status, soft: true }
}

fn explains(recorder: &Recorder) -> bool {
    let first = first(&pair(1, 0), &keys()).unwrap();
    is_linearizable(&first, &keys(), &recorder.history()).unwrap()
}

/// Calls that all overlap.
fn at_once(calls: &[(Call, Answer)]) -> Recorder {
    let recorder = Recorder::default();
    let begun: Vec<_> =
        calls.iter().enumerate().map(|(client, (call, _))| recorder.begin(client, call.clone())).collect();
    for (number, (_, answer)) in begun.into_iter().zip(calls) {
        recorder.end(number, answer.clone());
    }
    recorder
}

/// One call after another.
fn in_turn(calls: &[(Call, Answer)]) -> Recorder {
    let recorder = Recorder::default();
    for (call, answer) in calls {
        let number = recorder.begin(0, call.clone());
        recorder.end(number, answer.clone());
    }
    recorder
}

fn refresh(generation: u32) -> Call {
    Call::Refresh(pair(generation, 0).refresh)
}

fn tokenrefresh(generation: u32) -> Call {
    Call::TokenRefresh(pair(generation, 0).refresh)
}

fn used(generation: u32) -> Call {
    Call::Use(pair(generation, 0).access)
}

fn got(generation: u32) -> Answer {
    Answer::Pair(pair(generation, 0))
}

#[test]
fn two_refreshes_at_once_get_one_pair_and_no_second() {
    assert!(explains(&at_once(&[(refresh(1), got(2)), (refresh(1), got(2))])));
    let second = Answer::Pair(pair(2, 1));
    assert!(!explains(&at_once(&[(refresh(1), got(2)), (refresh(1), second)])));
}

#[test]
fn of_two_exchanges_at_once_one_is_refused() {
    assert!(explains(&at_once(&[(tokenrefresh(1), refused(403)), (tokenrefresh(1), got(2))])));
    assert!(!explains(&at_once(&[(tokenrefresh(1), got(2)), (tokenrefresh(1), Answer::Pair(pair(2, 1)))])));
}

#[test]
fn a_used_head_kills_its_predecessor_at_once_but_not_before() {
    let calls = [(refresh(1), got(2)), (used(2), Answer::Done), (refresh(1), refused(401))];
    assert!(explains(&in_turn(&calls)));
    let calls = [(refresh(1), got(2)), (refresh(1), refused(401)), (used(2), Answer::Done)];
    assert!(!explains(&in_turn(&calls)));
}

#[test]
fn a_call_without_an_answer_may_have_happened_or_not() {
    let lost = (tokenrefresh(1), Answer::Lost);
    let recorder = in_turn(&[]);
    recorder.begin(1, lost.0.clone());
    let number = recorder.begin(0, refresh(1));
    recorder.end(number, refused(401));
    assert!(explains(&recorder));
    let recorder = in_turn(&[]);
    recorder.begin(1, lost.0);
    let number = recorder.begin(0, refresh(1));
    recorder.end(number, got(2));
    assert!(explains(&recorder));
    // A pair that nobody was told is named by a later answer, once.
    let recorder = in_turn(&[]);
    recorder.begin(1, refresh(1));
    for (answer, expected) in [(got(2), true), (Answer::Pair(pair(2, 1)), false)] {
        let number = recorder.begin(0, refresh(1));
        recorder.end(number, answer);
        assert_eq!(explains(&recorder), expected);
    }
}

#[test]
fn signing_out_is_checked_first_and_final() {
    let logout = |generation| Call::Logout(pair(generation, 0).access);
    let ended = Answer::Refused { status: 401, soft: false };
    let calls = [(logout(1), Answer::Done), (used(1), ended.clone())];
    assert!(explains(&in_turn(&calls)));
    let calls = [(logout(1), Answer::Done), (used(1), Answer::Done)];
    assert!(!explains(&in_turn(&calls)));
    assert!(explains(&at_once(&[(logout(1), Answer::Done), (logout(1), Answer::Done)])));
    // The token is dead already.
    let calls = [(tokenrefresh(1), got(2)), (logout(1), Answer::Done)];
    assert!(!explains(&in_turn(&calls)));
}

#[test]
fn nobody_may_see_the_old_after_somebody_saw_the_new() {
    let recorder = in_turn(&[(refresh(1), got(2)), (used(2), Answer::Done)]);
    let change = recorder.begin(1, tokenrefresh(2));
    let refusal = recorder.begin(0, tokenrefresh(2));
    recorder.end(refusal, refused(403));
    assert!(explains(&recorder));
    let stale = recorder.begin(0, used(2));
    recorder.end(stale, Answer::Done);
    recorder.end(change, got(3));
    assert!(!explains(&recorder));
}
