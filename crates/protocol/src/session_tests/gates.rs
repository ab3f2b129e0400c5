//! The gates before every cell of the table: status, owner, `session_exp`, client and API, lock.

use super::super::Refusal::{Locked, SessionExpired, Unknown};
use super::*;

const LOCKED: Owner = Owner { state: AccountState::Locked, ..ACTIVE };

/// A row for every cell at this door.
fn every_row(door: Door) -> [Session; 4] {
    [unused(door, 0), unused(door, YEAR), used(door, 0), used(door, YEAR)]
}

/// A refresh token for every cell.
fn every_refresh_token() -> [Presented; 7] {
    let future = from_the_future(rt(0));
    [rt(0), rt(1), rt(2), rt(3), stranger(rt(0)), stranger(rt(1)), future]
}

/// Asks every cell at every door: whatever the row says, the gate comes first.
#[track_caller]
fn at_every_cell(gate: impl Fn(&mut Session), owner: Owner, refusal: Refusal) {
    for door in DOORS {
        for row in every_row(door).map(|row| with(row, &gate)) {
            for token in every_refresh_token() {
                let verdict = row.refresh(owner, &token, door, client(door), &switched(), NOW);
                assert_eq!(verdict, Refuse(refusal), "{} at {door:?}", token.generation);
            }
            for token in [at(0), at(1), at(2), stranger(at(0)), from_the_future(at(0))] {
                assert_eq!(row.check(owner, &token, NOW), CheckVerdict::Refuse(refusal));
            }
        }
    }
}

#[test]
fn an_ended_session_answers_every_token_with_its_reason() {
    for reason in EndReason::ALL {
        let end = |row: &mut Session| row.status = Status::Ended(reason);
        at_every_cell(end, ACTIVE, Refusal::Ended(reason));
    }
}

#[test]
fn a_deactivated_owner_ends_every_question() {
    let owner = Owner { state: AccountState::Deactivated, ..ACTIVE };
    at_every_cell(|_| (), owner, Refusal::Ended(EndReason::Deactivated));
}

#[test]
fn an_older_epoch_ends_every_question() {
    let owner = Owner { epoch: 4, ..ACTIVE };
    at_every_cell(|_| (), owner, Refusal::Ended(EndReason::LogoutAll));
}

#[test]
fn a_row_ahead_of_its_owners_epoch_lives() {
    // The row that survives a password change may be seen before its user.
    let ahead = with(used(Door::Refresh, 0), |row| row.user_epoch = 4);
    checks(&ahead, &at(0), CheckVerdict::Ok);
    judges(&ahead, &rt(0), Door::Refresh, MINT);
}

#[test]
fn the_absolute_end_refuses_everything_from_its_instant_on() {
    at_every_cell(|row| row.session_exp = NOW, ACTIVE, SessionExpired);
    let last_moment = with(unused(Door::Refresh, 0), |row| row.session_exp = NOW + 1);
    judges(&last_moment, &rt(1), Door::Refresh, SamePair);
}

#[test]
fn another_client_or_api_is_unknown_and_never_reuse() {
    for door in DOORS {
        for row in every_row(door) {
            for token in every_refresh_token() {
                let ask = |at: Door, client| row.refresh(LOCKED, &token, at, client, &switched(), NOW);
                assert_eq!(ask(door, Some("other")), Refuse(Unknown));
                for other in DOORS.into_iter().filter(|other| other.api() != door.api()) {
                    assert_eq!(ask(other, client(door)), Refuse(Unknown));
                    assert_eq!(ask(other, client(other)), Refuse(Unknown));
                }
            }
        }
    }
    let nobody = unused(Door::Grant, 0).refresh(ACTIVE, &rt(0), Door::Grant, None, &switched(), NOW);
    assert_eq!(nobody, Refuse(Unknown));
}

#[test]
fn a_session_without_refresh_tokens_knows_none() {
    let row = with(used(Door::Refresh, 0), |row| (row.rt_hash, row.rt_prev_hash) = (None, None));
    for token in every_refresh_token() {
        judges(&row, &token, Door::Refresh, Refuse(Unknown));
    }
    checks(&row, &at(0), CheckVerdict::Ok);
}

#[test]
fn a_lock_stands_before_every_cell_of_the_legacy_doors_and_the_grant_goes_on() {
    for door in DOORS {
        for row in every_row(door) {
            for token in every_refresh_token() {
                let locked = row.refresh(LOCKED, &token, door, client(door), &switched(), NOW);
                match door {
                    Door::Grant => assert_eq!(locked, judge(switched(), &row, &token, door)),
                    Door::Refresh | Door::TokenRefresh => assert_eq!(locked, Refuse(Locked)),
                }
            }
        }
    }
}

#[test]
fn a_lock_refuses_exactly_the_access_tokens_that_were_good() {
    for row in [unused(Door::Refresh, 0), used(Door::Refresh, 0)] {
        for good in [at(0), at(1)] {
            assert_eq!(row.check(LOCKED, &good, NOW), CheckVerdict::Refuse(Locked));
        }
        // A dead token must not pass for a locked one: logout goes on for those.
        for dead in [at(2), stranger(at(0)), stranger(at(1)), from_the_future(at(0))] {
            assert_eq!(row.check(LOCKED, &dead, NOW), row.check(ACTIVE, &dead, NOW));
        }
    }
}

#[test]
fn the_end_is_told_before_the_absolute_end_and_both_before_the_lock() {
    let over = with(used(Door::Refresh, 0), |row| row.session_exp = NOW);
    assert_eq!(over.check(LOCKED, &at(0), NOW), CheckVerdict::Refuse(SessionExpired));
    let refusal = Refusal::Ended(EndReason::Logout);
    let ended = over.ended(EndReason::Logout);
    assert_eq!(ended.check(LOCKED, &at(0), NOW), CheckVerdict::Refuse(refusal));
}

#[test]
fn soft_logout_is_true_exactly_where_the_device_is_kept() {
    for refusal in [SessionExpired, Expired, Spent, Locked, LostCommit] {
        assert!(refusal.soft_logout());
    }
    assert!(!Unknown.soft_logout());
    let keeping = [EndReason::Reuse, EndReason::Replaced, EndReason::Expired];
    for reason in EndReason::ALL {
        let soft = Refusal::Ended(reason).soft_logout();
        assert_eq!(soft, keeping.contains(&reason), "{}", reason.as_str());
    }
}

#[test]
fn stored_numbers_read_back() {
    for reason in EndReason::ALL {
        assert_eq!(EndReason::from_code(reason as i64), Some(reason));
    }
    for state in [AccountState::Active, AccountState::Locked, AccountState::Deactivated] {
        assert_eq!(AccountState::from_code(state as i64), Some(state));
    }
    for unknown in [-1, 99] {
        assert_eq!(EndReason::from_code(unknown), None);
        assert_eq!(AccountState::from_code(unknown), None);
    }
}
