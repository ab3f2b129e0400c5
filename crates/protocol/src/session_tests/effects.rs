//! What the row becomes: rotated, acknowledged, resealed, ended.

use super::*;

#[test]
fn refresh_and_the_grant_mint_an_unused_sealed_head() {
    for door in KEEPING_DOORS {
        for row in [unused(door, YEAR), used(door, YEAR)] {
            let expected = Session {
                generation: G + 1,
                // Presenting R_g was g's acknowledgement, if it still lacked one.
                acked_generation: G,
                acked_at: None,
                head_at: NOW,
                rt_hash: Some(head(G + 1).rt_hash),
                rt_prev_hash: row.rt_hash,
                sealed: head(G + 1).sealed,
                rt_exp: head(G + 1).rt_exp,
                at_hash: head(G + 1).at_hash,
                at_exp: head(G + 1).at_exp,
                at_prev_hash: Some(row.at_hash),
                at_prev_exp: Some(row.at_exp),
                ..row.clone()
            };
            assert_eq!(row.rotated(head(G + 1), door, NOW), expected);
        }
    }
}

#[test]
fn tokenrefresh_mints_a_used_head_with_nothing_before_it() {
    for row in [unused(Door::TokenRefresh, YEAR), used(Door::TokenRefresh, YEAR)] {
        let expected = Session {
            generation: G + 1,
            acked_generation: G + 1,
            acked_at: Some(NOW),
            head_at: NOW,
            rt_hash: Some(head(G + 1).rt_hash),
            rt_prev_hash: None,
            sealed: None,
            rt_exp: head(G + 1).rt_exp,
            at_hash: head(G + 1).at_hash,
            at_exp: head(G + 1).at_exp,
            at_prev_hash: None,
            at_prev_exp: None,
            ..row.clone()
        };
        let strict = Head { sealed: None, ..head(G + 1) };
        assert_eq!(row.rotated(strict, Door::TokenRefresh, NOW), expected);
        // R_g and R_{g−1}, A_g and A_{g−1} are dead at once.
        for age in [0, 1] {
            judges(&expected, &rt(age), Door::TokenRefresh, Refuse(Spent));
            judges(&expected, &rt(age), Door::Refresh, Refuse(Spent));
            checks(&expected, &at(age), CheckVerdict::Refuse(Expired));
        }
    }
}

#[test]
fn no_expiry_passes_the_sessions_end() {
    let end = NOW + SECOND;
    for door in DOORS {
        let row = with(used(door, 0), |row| row.session_exp = end);
        let rotated = row.rotated(head(G + 1), door, NOW);
        assert_eq!((rotated.rt_exp, rotated.at_exp), (end, end));
        assert_eq!(row.resealed(hash(TokenKind::Access, 99), NEVER, vec![]).at_exp, end);
    }
}

#[test]
fn acknowledging_kills_the_predecessor_and_shortens_its_access_token() {
    let row = unused(Door::Refresh, YEAR);
    let expected = Session {
        acked_generation: G,
        acked_at: Some(NOW),
        sealed: None,
        at_prev_exp: Some(NOW + PREVIOUS_ACCESS_TOKEN_GRACE_MS),
        ..row.clone()
    };
    assert_eq!(row.acknowledged(&Windows::default(), NOW), expected);
    judges(&expected, &rt(1), Door::Refresh, Refuse(Spent));
    judges(&expected, &rt(1), Door::TokenRefresh, Refuse(Spent));
    checks(&expected, &at(0), CheckVerdict::Ok);
}

#[test]
fn acknowledging_never_lengthens_an_access_token() {
    for exp in [Some(NOW + 1), None] {
        let row = with(unused(Door::Refresh, 0), |row| row.at_prev_exp = exp);
        assert_eq!(row.acknowledged(&Windows::default(), NOW).at_prev_exp, exp);
    }
}

#[test]
fn only_a_retry_window_of_its_own_api_keeps_the_seal() {
    let kept = |door, w: Windows| unused(door, 0).acknowledged(&w, NOW).sealed.is_some();
    assert!(kept(Door::Grant, windows(0, 1, 0)));
    assert!(!kept(Door::Grant, windows(1, 0, 0)));
    assert!(kept(Door::Refresh, windows(1, 0, 0)));
    assert!(!kept(Door::Refresh, windows(0, 1, 0)));
}

#[test]
fn resealing_changes_the_access_token_and_the_seal_alone() {
    for row in [unused(Door::Refresh, YEAR), used(Door::Refresh, YEAR)] {
        let at_hash = hash(TokenKind::Access, 99);
        let resealed = row.resealed(at_hash, NOW + 9, vec![9]);
        let expected = Session { at_hash, at_exp: NOW + 9, sealed: Some(vec![9]), ..row };
        assert_eq!(resealed, expected);
        checks(&resealed, &at(0), CheckVerdict::Refuse(Expired));
    }
}

#[test]
fn an_end_is_absorbing_and_takes_the_seal_along() {
    for first in EndReason::ALL {
        let row = unused(Door::Refresh, 0);
        let ended = row.ended(first);
        assert_eq!(ended, Session { status: Status::Ended(first), sealed: None, ..row });
        for second in EndReason::ALL {
            assert_eq!(ended.ended(second), ended);
        }
    }
}

#[test]
fn what_remains_is_counted_from_now_and_never_negative() {
    assert_eq!(remaining_ms(NOW + 5, NOW), Some(5));
    assert_eq!(remaining_ms(NOW - 5, NOW), Some(0));
    assert_eq!(remaining_ms(NEVER, NOW), None);
    assert_eq!(used(Door::Refresh, 0).access_token_remaining_ms(NOW), Some(300 * SECOND));
}
