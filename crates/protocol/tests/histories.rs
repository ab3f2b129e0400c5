//! Arbitrary histories of a session, of three generations and more, against its invariants.
//!
//! A small server applies what the state machine says, with real tokens and real seals. A ledger
//! beside it notes what happened as an onlooker would: what was answered and when it was first
//! used. After every event each token ever issued is tried at each door, and what the row would
//! answer must be what the ledger demands (I1–I3, I5–I8, I10, I12). Asking changes nothing, so
//! the trial does not disturb the history.

mod world;

use ligand_protocol::session::{AccountState, Api, Door, EndReason, Refusal, Windows};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::FileFailurePersistence;
use world::{Answer, LEEWAY, Lifetimes, SECOND, World, doors};

/// One thing that happens to a session.
#[derive(Debug, Clone)]
enum Event {
    /// Some refresh token ever issued is presented; `back` counts from the newest.
    Refresh {
        door: Index,
        back: usize,
    },
    /// The same, by a client that it was not issued to, or at a door of the other API.
    RefreshBySomebodyElse {
        back: usize,
    },
    /// Some access token ever issued is used.
    Use {
        back: usize,
    },
    /// The newest access token is used, as by a client that received its answer.
    UseNewest,
    Wait(i64),
    Lock(bool),
    Logout,
    EpochBump,
}

fn event() -> impl Strategy<Value = Event> {
    let back = || prop_oneof![6 => 0..3_usize, 1 => 0..40_usize];
    let wait = select(vec![
        1,
        SECOND,
        LEEWAY / 3,
        LEEWAY - 1,
        LEEWAY,
        2 * LEEWAY,
        300 * SECOND,
        900 * SECOND,
        2_000 * SECOND,
    ]);
    prop_oneof![
        24 => (any::<Index>(), back()).prop_map(|(door, back)| Event::Refresh { door, back }),
        2 => back().prop_map(|back| Event::RefreshBySomebodyElse { back }),
        6 => back().prop_map(|back| Event::Use { back }),
        6 => Just(Event::UseNewest),
        10 => wait.prop_map(Event::Wait),
        2 => any::<bool>().prop_map(Event::Lock),
        1 => Just(Event::Logout),
        1 => Just(Event::EpochBump),
    ]
}

/// At least three generations, then anything.
fn history() -> impl Strategy<Value = Vec<Event>> {
    let newest = any::<Index>().prop_map(|door| Event::Refresh { door, back: 0 });
    let step = (newest, any::<bool>())
        .prop_map(|(refresh, used)| if used { vec![refresh, Event::UseNewest] } else { vec![refresh] });
    let start = prop::collection::vec(step, 3..7);
    (start, prop::collection::vec(event(), 0..40)).prop_map(|(start, rest)| {
        let mut history = start.concat();
        history.extend(rest);
        history
    })
}

fn windows() -> impl Strategy<Value = Windows> {
    let window = || select(vec![0, LEEWAY / 3, LEEWAY, 2 * LEEWAY]);
    let leeway = select(vec![0, LEEWAY]);
    (window(), window(), leeway, any::<bool>()).prop_map(|(legacy, oauth, leeway, switch)| Windows {
        legacy_retry_ms: legacy,
        oauth_retry_ms: oauth,
        reuse_leeway_ms: leeway,
        tokenrefresh_reuse_ends_session: switch,
    })
}

fn lifetimes() -> impl Strategy<Value = Lifetimes> {
    let access = select(vec![Some(5 * SECOND), Some(300 * SECOND), None]);
    let refresh = select(vec![None, Some(900 * SECOND)]);
    let session = select(vec![None, Some(2_000 * SECOND)]);
    (access, refresh, session).prop_map(|(access_ms, refresh_ms, session_ms)| Lifetimes {
        access_ms,
        refresh_ms,
        session_ms,
    })
}

fn api() -> impl Strategy<Value = Api> {
    select(vec![Api::Legacy, Api::OAuth])
}

fn happen(world: &mut World, event: &Event) {
    match event {
        Event::Refresh { door, back } => {
            let door = *door.get(doors(world.row.api));
            world.refresh_judged(world.back(*back), door);
        }
        Event::RefreshBySomebodyElse { back } => world.refresh_by_somebody_else(world.back(*back)),
        Event::Use { back } => world.use_judged(world.back(*back)),
        Event::UseNewest => world.use_judged(world.back(0)),
        Event::Wait(ms) => world.now += ms,
        Event::Lock(locked) => {
            world.owner.state = if *locked { AccountState::Locked } else { AccountState::Active };
        }
        Event::Logout => world.end(EndReason::Logout),
        Event::EpochBump => world.owner.epoch += 1,
    }
}

/// What fails once is kept beside this file and tried first ever after.
fn cases() -> ProptestConfig {
    let failures = Box::new(FileFailurePersistence::WithSource("regressions"));
    ProptestConfig { cases: 400, failure_persistence: Some(failures), ..Default::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_history_keeps_the_invariants(
        api in api(),
        windows in windows(),
        lifetimes in lifetimes(),
        history in history(),
    ) {
        let mut world = World::new(api, windows, lifetimes);
        for event in &history {
            let before = world.row.clone();
            happen(&mut world, event);
            world.assert_row_moved_on(&before);
            world.assert_refresh_tokens();
            world.assert_access_tokens();
            world.assert_seal();
        }
    }
}

/// What becomes of one message of an honest client.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Network {
    RequestLost,
    /// Committed, but the answer never came: a lost answer, or a crash after the commit.
    AnswerLost,
    Delivered,
    /// A proxy repeated the request; the client reads the second answer.
    Duplicated,
}

#[derive(Debug, Clone)]
enum Honest {
    Refresh(Network),
    Use(Network),
    /// An earlier request arrives once more: that of the last refresh, or of the one before it.
    Echo {
        older: bool,
    },
    Wait(i64),
    Locked(Network),
}

fn honest() -> impl Strategy<Value = Honest> {
    use Network::{AnswerLost, Delivered, Duplicated, RequestLost};
    let network = || {
        prop_oneof![
            2 => Just(RequestLost),
            3 => Just(AnswerLost),
            3 => Just(Delivered),
            1 => Just(Duplicated),
        ]
    };
    prop_oneof![
        6 => network().prop_map(Honest::Refresh),
        3 => network().prop_map(Honest::Use),
        2 => any::<bool>().prop_map(|older| Honest::Echo { older }),
        3 => select(vec![1, SECOND, LEEWAY, 600 * SECOND]).prop_map(Honest::Wait),
        1 => network().prop_map(Honest::Locked),
    ]
}

/// The honest client's refresh: whatever is lost, it comes through when it is not lost (I5).
fn refresh(world: &mut World, held: &mut Vec<usize>, door: Door, network: Network) {
    let holds = *held.last().expect("the client signed in");
    for _ in 0..if network == Network::Duplicated { 2 } else { 1 } {
        if network == Network::RequestLost {
            return;
        }
        let answer = world.refresh_judged(holds, door);
        let Answer::Pair(pair) = answer else { panic!("an innocent client got {answer:?}") };
        if network != Network::AnswerLost && *held.last().expect("as above") != pair {
            held.push(pair);
        }
    }
}

/// A request that was under way is delivered again, inside the leeway or not at all.
fn echo(world: &mut World, held: &[usize], door: Door, older: bool) {
    let age = if older { 2 } else { 1 };
    let head = world.newest();
    let Some(token) = head.checked_sub(age).filter(|token| held.contains(token)) else {
        return;
    };
    let begun = if older { world.minted_at(head) } else { world.first_use.unwrap_or(world.now) };
    if world.now - begun < LEEWAY {
        world.refresh_judged(token, door);
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn an_honest_client_is_never_logged_out_whatever_is_lost(
        api in api(),
        access_ms in select(vec![Some(5 * SECOND), Some(300 * SECOND)]),
        history in prop::collection::vec(honest(), 20..80),
    ) {
        let door = if api == Api::OAuth { Door::Grant } else { Door::Refresh };
        let lifetimes = Lifetimes { access_ms, refresh_ms: None, session_ms: None };
        let mut world = World::new(api, Windows::default(), lifetimes);
        let mut held = vec![world.newest()];
        for step in history {
            match step {
                Honest::Refresh(network) => refresh(&mut world, &mut held, door, network),
                Honest::Use(Network::RequestLost) => (),
                Honest::Use(_) => world.use_judged(*held.last().unwrap()),
                Honest::Echo { older } => echo(&mut world, &held, door, older),
                Honest::Wait(ms) => world.now += ms,
                Honest::Locked(network) => {
                    world.owner.state = AccountState::Locked;
                    if door == Door::Refresh && network != Network::RequestLost {
                        let answer = world.refresh_judged(*held.last().unwrap(), door);
                        prop_assert_eq!(answer, Answer::Refused(Refusal::Locked));
                    }
                    world.owner.state = AccountState::Active;
                }
            }
            world.assert_refresh_tokens();
        }
        // The pair of the last answer works at once (I4).
        refresh(&mut world, &mut held, door, Network::Delivered);
        prop_assert!(world.is_good(*held.last().unwrap()));
    }

    #[test]
    fn at_tokenrefresh_a_lost_answer_costs_only_the_refresh(
        lost in prop::collection::vec((any::<bool>(), 0..2_000 * SECOND), 1..30),
    ) {
        let mut world = World::legacy();
        let mut holds = world.newest();
        for (lost, wait) in lost {
            world.now += wait;
            match world.refresh_judged(holds, Door::TokenRefresh) {
                Answer::Pair(pair) if !lost => holds = pair,
                Answer::Pair(_) => {
                    let again = world.refresh_judged(holds, Door::TokenRefresh);
                    prop_assert_eq!(again, Answer::Refused(Refusal::Spent));
                }
                other => prop_assert_eq!(other, Answer::Refused(Refusal::Spent)),
            }
            prop_assert!(world.is_live());
        }
    }

    #[test]
    fn a_restored_backup_ends_nothing_and_raises_the_alarm(
        before in 0..4_usize,
        lost in 1..5_usize,
        after in 0..5_usize,
        used in any::<bool>(),
    ) {
        let mut world = World::legacy();
        world.mint(before, used);
        let backup = world.row.clone();
        let lost = world.mint(lost, used);
        world.row = backup;
        let known = world.row.generation;
        world.mint(after, used);
        for pair in lost {
            let behind = i64::from(world.row.generation) - i64::from(world.generation(pair));
            let answer = world.refresh_raw(pair, Door::TokenRefresh);
            prop_assert!(world.generation(pair) > known);
            match behind {
                ..=0 => prop_assert_eq!(answer, Answer::Refused(Refusal::LostCommit)),
                1 => prop_assert_eq!(answer, Answer::Refused(Refusal::LostCommit)),
                _ => prop_assert_eq!(answer, Answer::Refused(Refusal::Spent)),
            }
            prop_assert!(world.is_live());
        }
    }
}
