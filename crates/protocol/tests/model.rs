//! An exhaustive model of a session: two clients of one token store and a thief, over a network
//! that loses, delays, duplicates and reorders requests and loses and delays answers, with a
//! server that may crash between commit and answer. Every reachable state is visited, and in each
//! every token is put to the real state machine ([`Session::refresh`], [`Session::check`]).
//!
//! What is assumed:
//! - Each change of the row is one guarded update, so requests reach the row one after another.
//! - A client writes a received pair to the store before it uses it, and only if the store still
//!   holds the token that it sent; otherwise it takes what the store holds.
//! - A request arrives within the leeway or never. Time is one step, "the leeway passes": what
//!   was under way is gone and the clients read the store again. Between two such steps an honest
//!   request meets at most two newer generations. The configuration `late` drops both assumptions
//!   and shows what they are for. The thief is bound by neither.
//! - Access and refresh tokens do not expire; `tests/histories.rs` covers that.
//!
//! [`Session::refresh`]: ligand_protocol::session::Session::refresh
//! [`Session::check`]: ligand_protocol::session::Session::check

#[path = "model/parties.rs"]
mod parties;
#[path = "model/properties.rs"]
mod properties;
#[path = "model/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::time::Instant;

use ligand_protocol::session::Door;
use parties::Protocol;
use server::Rule;
use stateright::{Checker, HasDiscoveries, Model as _};

const LEGACY: Protocol = Protocol {
    doors: &[Door::Refresh, Door::TokenRefresh],
    generations: 4,
    in_flight_max: 2,
    thief: true,
    late: false,
    rule: Rule::SamePair,
};

/// Visits every state, prints how many there were, and fails on a violated or an idle property.
fn prove(name: &str, protocol: Protocol) {
    let begun = Instant::now();
    let until = HasDiscoveries::AnyFailures;
    let checker = protocol.checker().threads(2).finish_when(until).spawn_bfs().join();
    println!(
        "{name}: {} states, {} of them distinct, depth {}, {:.1} s",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        begun.elapsed().as_secs_f32(),
    );
    assert!(checker.is_done());
    checker.assert_properties();
}

#[test]
fn both_legacy_doors_keep_the_invariants() {
    prove("/refresh and /tokenrefresh", LEGACY);
}

#[test]
fn the_grant_keeps_the_invariants() {
    let doors = &[Door::Grant];
    prove("grant", Protocol { doors, generations: 5, in_flight_max: 3, ..LEGACY });
}

#[test]
fn a_request_later_than_the_leeway_is_taken_for_reuse_and_ends_the_family() {
    prove("late requests", Protocol { generations: 3, thief: false, late: true, ..LEGACY });
}

/// The negative control: as peers do, a retry replaces the pair that nobody used yet.
#[test]
fn a_new_pair_on_every_retry_breaks_the_invariants() {
    for doors in [&[Door::Refresh], &[Door::Grant]] {
        let peers = Protocol { doors, thief: false, rule: Rule::NewPairOnRetry, ..LEGACY };
        let broken = BTreeSet::from([properties::I2, properties::I5]);
        let until = HasDiscoveries::AllOf(broken.clone());
        let checker = peers.checker().finish_when(until).spawn_bfs().join();
        println!("control at {doors:?}: {} states", checker.state_count());
        for name in broken {
            let property = peers.property(name);
            let path = checker.assert_any_discovery(name).into_vec();
            let until = path.into_iter().take_while(|(state, _)| (property.condition)(&peers, state));
            let steps: Vec<_> = until.filter_map(|(_, action)| action).collect();
            println!("broken: {name}, by {steps:?}");
        }
    }
}

/// More generations and more messages under way; some minutes.
#[test]
#[ignore = "long"]
fn larger_bounds_keep_the_invariants() {
    prove("five generations", Protocol { generations: 5, ..LEGACY });
    prove("three requests under way", Protocol { in_flight_max: 3, ..LEGACY });
}
