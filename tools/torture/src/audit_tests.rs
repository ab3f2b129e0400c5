//! Forged journals: each invariant is broken once and must be named; each lawful
//! history, lost answers included, must pass.

use super::*;

fn pair(n: u32) -> Pair {
    Pair { access: format!("access{n}").into(), refresh: format!("refresh{n}").into() }
}

fn got(n: u32) -> Outcome {
    Outcome::Pair(pair(n))
}

fn refused(status: u16) -> Outcome {
    let errcode = if status == 403 { "M_FORBIDDEN" } else { "M_UNKNOWN_TOKEN" };
    Outcome::Refused { status, errcode: errcode.to_owned() }
}

fn login(outcome: Outcome) -> Entry {
    Entry { call: Call::Login, outcome }
}

fn use_of(n: u32, outcome: Outcome) -> Entry {
    Entry { call: Call::Use(pair(n).access), outcome }
}

fn refresh(n: u32, outcome: Outcome) -> Entry {
    Entry { call: Call::Refresh(pair(n).refresh), outcome }
}

fn tokenrefresh(n: u32, outcome: Outcome) -> Entry {
    Entry { call: Call::TokenRefresh(pair(n).refresh), outcome }
}

fn logout(n: u32, outcome: Outcome) -> Entry {
    Entry { call: Call::Logout(pair(n).access), outcome }
}

fn rules(entries: &[Entry]) -> Vec<&'static str> {
    audit(entries).into_iter().map(|v| v.rule).collect()
}

use Outcome::{Done, Lost};

#[test]
fn lawful_histories_pass() {
    let histories: Vec<Vec<Entry>> = vec![
        // The old pair is good until the new one is used; its access token a little longer.
        vec![
            login(got(0)),
            refresh(0, got(1)),
            use_of(0, Done),
            refresh(0, got(1)),
            use_of(1, Done),
            use_of(0, Done),
            refresh(0, refused(401)),
            use_of(1, Done),
        ],
        // A lost refresh is repeated.
        vec![login(got(0)), refresh(0, Lost), refresh(0, got(1)), use_of(1, Done)],
        // A lost use may have acknowledged.
        vec![
            login(got(0)),
            refresh(0, got(1)),
            use_of(1, Lost),
            refresh(0, refused(401)),
            refresh(1, got(2)),
        ],
        // A lost /tokenrefresh costs the refresh, not the sign-in.
        vec![
            login(got(0)),
            tokenrefresh(0, Lost),
            tokenrefresh(0, refused(403)),
            login(got(1)),
            use_of(0, refused(401)),
            use_of(1, Done),
        ],
        // A superseded, unused pair is burnt at /tokenrefresh.
        vec![
            login(got(0)),
            refresh(0, got(1)),
            tokenrefresh(0, got(2)),
            use_of(1, refused(401)),
            use_of(2, Done),
        ],
        // A lost logout is either.
        vec![login(got(0)), logout(0, Lost), use_of(0, refused(401)), login(got(1))],
        vec![login(got(0)), logout(0, Lost), use_of(0, Done), refresh(0, got(1))],
        // Trouble at sign-in leaves open whether the older session ended.
        vec![login(got(0)), login(Outcome::Trouble(503)), use_of(0, refused(401)), login(got(1))],
        // What never left had no effect, a full queue neither.
        vec![login(got(0)), logout(0, Outcome::NotSent), login(Outcome::Trouble(429)), use_of(0, Done)],
    ];
    for (i, history) in histories.iter().enumerate() {
        assert_eq!(audit(history), [], "history {i}");
    }
}

#[test]
fn a_lost_pair_is_caught() {
    assert_eq!(rules(&[login(got(0)), use_of(0, refused(401))]), ["I4"]);
    assert_eq!(rules(&[login(got(0)), refresh(0, refused(401))]), ["I5"]);
    let lost_after_a_lost_answer = [login(got(0)), refresh(0, Lost), refresh(0, refused(401))];
    assert_eq!(rules(&lost_after_a_lost_answer), ["I5"]);
    let never_sent = [login(got(0)), tokenrefresh(0, Outcome::NotSent), tokenrefresh(0, refused(403))];
    assert_eq!(rules(&never_sent), ["I5"]);
    let superseded = [login(got(0)), refresh(0, got(1)), refresh(0, refused(401))];
    assert_eq!(rules(&superseded), ["I5"]);
}

#[test]
fn a_double_redemption_is_caught() {
    let twice = [login(got(0)), tokenrefresh(0, got(1)), tokenrefresh(0, got(2))];
    assert_eq!(rules(&twice), ["I3"]);
    let at_the_other_door = [login(got(0)), tokenrefresh(0, got(1)), refresh(0, got(2))];
    assert_eq!(rules(&at_the_other_door), ["I3"]);
    let old_access = [login(got(0)), tokenrefresh(0, got(1)), use_of(0, Done)];
    assert_eq!(rules(&old_access), ["I3"]);
}

#[test]
fn a_second_successor_is_caught() {
    let another = [login(got(0)), refresh(0, got(1)), refresh(0, got(2))];
    assert_eq!(rules(&another), ["I2"]);
}

#[test]
fn a_living_predecessor_is_caught() {
    let by_use = [login(got(0)), refresh(0, got(1)), use_of(1, Done), refresh(0, got(1))];
    assert_eq!(rules(&by_use), ["I7"]);
    let by_refresh = [login(got(0)), refresh(0, got(1)), refresh(1, got(2)), use_of(0, Done)];
    assert_eq!(rules(&by_refresh), ["I7"]);
}

#[test]
fn a_resurrection_is_caught() {
    let after_logout = |last| vec![login(got(0)), logout(0, Done), last];
    for last in [use_of(0, Done), refresh(0, got(1)), tokenrefresh(0, got(1))] {
        assert_eq!(rules(&after_logout(last)), ["I11"]);
    }
    let after_sign_in = [login(got(0)), login(got(1)), use_of(0, Done)];
    assert_eq!(rules(&after_sign_in), ["I15"]);
    let after_a_refusal = [login(got(0)), logout(0, Lost), use_of(0, refused(401)), refresh(0, got(1))];
    assert_eq!(rules(&after_a_refusal), ["I12"]);
}

#[test]
fn a_refusal_of_the_dead_does_not_hide_a_stranded_head() {
    let soft_refusal_ended_the_session = [
        login(got(0)),
        refresh(0, got(1)),
        use_of(1, Done),
        refresh(0, refused(401)),
        use_of(1, refused(401)),
    ];
    assert_eq!(rules(&soft_refusal_ended_the_session), ["I4"]);
}

#[test]
fn wrong_shapes_are_caught() {
    assert_eq!(rules(&[login(refused(403))]), ["I6"]);
    let odd = Outcome::Odd("500 ".to_owned());
    assert_eq!(rules(&[login(got(0)), use_of(0, odd)]), ["I18"]);
    let wrong_door = [login(got(0)), logout(0, Done), refresh(0, refused(403))];
    assert_eq!(rules(&wrong_door), ["I19"]);
    let limited = [login(got(0)), use_of(0, Outcome::Trouble(429))];
    assert_eq!(rules(&limited), ["I18"]);
    assert_eq!(rules(&[login(got(0)), refresh(0, got(0))]), ["I1", "I1"]);
}
