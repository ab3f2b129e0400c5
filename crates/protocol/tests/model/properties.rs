//! What must hold in every state, and what must happen in some, so that nothing holds idly.
//!
//! Most invariants are asked of the state machine itself: what would each token be answered now?
//! What is expected is told from what an onlooker has seen.

use ligand_protocol::session::{Door, EndReason, RefreshVerdict, Spending, Status};
use stateright::Property;

use crate::parties::{Protocol, Refresh, State};
use crate::server::{self, Pair, Rule};

pub const I1: &str = "I1 one head; its predecessor is live only until its use or in the window";
pub const I2: &str = "I2 every answer to a refresh token carries the same successor";
pub const I3: &str = "I3 /tokenrefresh answers at most once to a token";
pub const I5: &str = "I5 the stored token is always good for /refresh, whatever was lost";
pub const I6: &str = "I6 nothing at /tokenrefresh ends the session";
pub const I8: &str = "I8 reuse outside the windows, and only that, ends the family";
pub const I12: &str = "I12 ended is absorbing";

pub fn of(protocol: &Protocol) -> Vec<Property<Protocol>> {
    let mut properties = vec![
        Property::always(I1, one_head),
        Property::always(I2, |_, state: &State| !state.seen.second_successor),
        Property::always(I3, one_strict_win),
        Property::always(I6, nothing_at_tokenrefresh_ends),
        Property::always(I8, reuse_ends),
        Property::always(I12, ended_is_absorbing),
        Property::sometimes("as many generations as the bound allows", |protocol, state: &State| {
            state.seen.head.generation == protocol.generations
        }),
        Property::sometimes("two clients receive answers to one token", answered_twice),
        Property::sometimes("an answer is lost and the head waits unused", |_, state: &State| {
            live(state) && state.store != state.seen.head && !state.seen.used
        }),
        Property::sometimes("a client is refused softly", |_, state: &State| {
            live(state) && state.answers.iter().any(|answer| answer.pair.is_none())
        }),
        Property::sometimes("a client logs out", |_, state: &State| {
            state.row.status == Status::Ended(EndReason::Logout)
        }),
        Property::sometimes("the family ends by reuse", |_, state: &State| ended_by_reuse(state)),
    ];
    if !protocol.late {
        properties.push(Property::always(I5, the_stored_token_is_good));
    } else {
        properties.push(Property::sometimes("an innocent client is logged out", |_, state: &State| {
            ended_by_reuse(state) && !spoiled(state)
        }));
    }
    if protocol.thief {
        properties.extend([
            Property::sometimes("the thief is caught", |_, state: &State| {
                ended_by_reuse(state) && state.seen.thief_acted
            }),
            Property::sometimes("the thief was first and goes on for now", |_, state: &State| {
                live(state) && state.thief.is_some_and(|thief| thief.latest == state.seen.head)
            }),
        ]);
    }
    if protocol.doors.contains(&Door::TokenRefresh) {
        properties.extend([
            Property::sometimes("an unused successor burns", |_, state: &State| {
                let fell = state.seen.burned & !state.seen.strict_wins;
                live(state) && fell != 0
            }),
            Property::sometimes("a chain is lost at /tokenrefresh", |_, state: &State| {
                live(state) && burned(state, state.store)
            }),
        ]);
    }
    if protocol.doors.contains(&Door::Grant) {
        properties.push(Property::sometimes("a used head's pair in the window", |_, state: &State| {
            live(state) && state.seen.used && state.seen.used_lately && state.row.sealed.is_some()
        }));
    }
    properties
}

fn live(state: &State) -> bool {
    state.row.status == Status::Live
}

fn ended_by_reuse(state: &State) -> bool {
    state.row.status == Status::Ended(EndReason::Reuse)
}

fn burned(state: &State, pair: Pair) -> bool {
    state.seen.burned & (1 << pair.index()) != 0
}

/// Whether the stored chain was taken from the clients: by a thief, or by the strict contract of
/// `/tokenrefresh`, which one of them chose.
fn spoiled(state: &State) -> bool {
    state.seen.thief_acted || burned(state, state.store)
}

/// Every refresh token issued so far, at every door of the configuration.
fn asked<'a>(protocol: &'a Protocol, state: &'a State) -> impl Iterator<Item = Refresh> + 'a {
    let generations = 1..=state.seen.head.generation;
    generations.flat_map(|generation| {
        let pair = Pair { generation, variant: 0 };
        protocol.doors.iter().map(move |door| Refresh { door: *door, pair })
    })
}

/// The age of a token, by what was seen.
fn age(state: &State, pair: Pair) -> u8 {
    state.seen.head.generation - pair.generation
}

fn in_retry_window(state: &State, door: Door) -> bool {
    door == Door::Grant && state.seen.used_lately && !state.seen.strict
}

fn one_head(protocol: &Protocol, state: &State) -> bool {
    protocol.rule == Rule::NewPairOnRetry
        || !live(state)
        || asked(protocol, state).all(|Refresh { door, pair }| {
            let verdict = server::verdict(&state.row, pair, door);
            match age(state, pair) {
                0 => verdict == RefreshVerdict::Mint(Spending::Head),
                1 if !state.seen.used && door == Door::TokenRefresh => {
                    verdict == RefreshVerdict::Mint(Spending::Predecessor)
                }
                1 if !state.seen.used || in_retry_window(state, door) => verdict == RefreshVerdict::SamePair,
                _ => matches!(verdict, RefreshVerdict::Refuse(_) | RefreshVerdict::EndFamily),
            }
        })
}

/// Also no token that was spent there, nor one that fell with it, comes through anywhere.
fn one_strict_win(protocol: &Protocol, state: &State) -> bool {
    let dead = |Refresh { door, pair }| {
        let verdict = server::verdict(&state.row, pair, door);
        matches!(verdict, RefreshVerdict::Refuse(_) | RefreshVerdict::EndFamily)
    };
    !state.seen.second_strict_win
        && asked(protocol, state).filter(|asked| burned(state, asked.pair)).all(dead)
}

fn the_stored_token_is_good(protocol: &Protocol, state: &State) -> bool {
    if spoiled(state) || state.row.status == Status::Ended(EndReason::Logout) {
        return true;
    }
    let keeping = protocol.doors.iter().filter(|door| **door != Door::TokenRefresh);
    keeping.copied().all(|door| {
        let verdict = server::verdict(&state.row, state.store, door);
        matches!(verdict, RefreshVerdict::Mint(_) | RefreshVerdict::SamePair)
    })
}

fn nothing_at_tokenrefresh_ends(protocol: &Protocol, state: &State) -> bool {
    asked(protocol, state)
        .filter(|asked| asked.door == Door::TokenRefresh)
        .all(|Refresh { door, pair }| server::verdict(&state.row, pair, door) != RefreshVerdict::EndFamily)
}

fn reuse_ends(protocol: &Protocol, state: &State) -> bool {
    protocol.rule == Rule::NewPairOnRetry
        || !live(state)
        || asked(protocol, state).all(|Refresh { door, pair }| {
            let seen = &state.seen;
            let reused = match age(state, pair) {
                0 => false,
                1 => seen.used && !seen.used_lately,
                2 => !seen.minted_lately,
                _ => true,
            };
            let ends = server::verdict(&state.row, pair, door) == RefreshVerdict::EndFamily;
            ends == (reused && door != Door::TokenRefresh)
        })
}

fn ended_is_absorbing(protocol: &Protocol, state: &State) -> bool {
    let again = |reason: EndReason| state.row.ended(reason) == *state.row;
    live(state)
        || EndReason::ALL.into_iter().all(again)
            && asked(protocol, state).all(|Refresh { door, pair }| {
                let served = server::refresh(protocol.rule, u8::MAX, &state.row, pair, door);
                let refreshed = served.is_some_and(|s| s.row == state.row && s.answer.is_none());
                let (row, accepted) = server::used(&state.row, pair);
                refreshed && row == state.row && !accepted && state.row.sealed.is_none()
            })
}

fn answered_twice(_: &Protocol, state: &State) -> bool {
    state.answers.iter().any(|one| {
        let mut others = state.answers.iter().filter(|other| other.to != one.to);
        others.any(|other| other.asked == one.asked && other.pair.is_some() && one.pair.is_some())
    })
}
