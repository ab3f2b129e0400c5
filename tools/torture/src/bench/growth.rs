//! What a thousand times more sessions, or ten thousand refreshes of one, cost.

use anyhow::Result;

use super::Bench;
use super::clients::{Checks, OldAndNew, Refreshes, Walk};
use super::figure::{Figure, Reach, alternate, median};
use super::installation::{Installation, Server};
use super::load::{Idle, Until, drive, drive_idling};
use super::place::MEASURED;
use super::refresh_sqlite::{SESSIONS, Side};
use super::seed::{self, Heads, Seeded};

const FEW: usize = 1_000;
pub const MANY: usize = 1_000_000;
const CONNECTIONS: usize = 64;
const REFRESHES_OF_ONE: u64 = 10_000;
/// How much more than the engine itself a refresh may lose.
const MORE_THAN_THE_ENGINE: f64 = 0.05;
/// Sessions that are refreshed for the first time beside the old one.
const FIRST_TIMES: usize = 1_000;

/// A server with that many sessions, all used before.
pub fn with_sessions(
    bench: &mut Bench,
    count: usize,
    core: Option<usize>,
) -> Result<(Installation, Server, Vec<Seeded>)> {
    let installation = Installation::create(&bench.ligand, None)?;
    let sessions = seed::mint(count, &installation.keys(), &mut bench.rng);
    seed::sqlite(&installation.file(), &sessions, Heads::Acknowledged, &mut bench.rng)?;
    let server = installation.start(core)?;
    Ok((installation, server, sessions))
}

/// Checks every session once.
pub fn walk(server: &Server, sessions: &[Seeded]) -> Result<()> {
    let (mut walkers, share) = Walk::several(CONNECTIONS.min(sessions.len()), sessions);
    drive(server.target(), &mut walkers, Until::Answers(share)).map(drop)
}

pub fn check(bench: &mut Bench) -> Result<Vec<Figure>> {
    let (_few, few, few_sessions) = with_sessions(bench, FEW, Some(MEASURED))?;
    let (_many, many, many_sessions) = with_sessions(bench, bench.scaled(MANY), Some(MEASURED))?;
    walk(&few, &few_sessions)?;
    walk(&many, &many_sessions)?;
    let mut of_few = Checks::several(CONNECTIONS, &few_sessions, &mut bench.rng);
    let mut of_many = Checks::several(CONNECTIONS, &many_sessions, &mut bench.rng);
    let until = Until::Time(bench.round);
    let rounds = alternate(
        bench.rounds,
        || drive_idling(many.target(), &mut of_many, until, Idle::Spins),
        || drive_idling(few.target(), &mut of_few, until, Idle::Spins),
    )?;
    let rates: Vec<_> = rounds.iter().map(|(many, few)| (many.rate(), few.rate())).collect();
    let what = format!("check with {} sessions, beside {FEW}", many_sessions.len());
    Ok(vec![Figure::beside(what, "1/s", &rates, Some(Reach::AtLeast(0.90)))])
}

pub fn refresh(bench: &mut Bench) -> Result<Vec<Figure>> {
    let (some, many) = (bench.scaled(SESSIONS), bench.scaled(MANY));
    let mut of_some = Side::create(bench, some)?;
    let mut of_many = Side::create(bench, many)?;
    let until = Until::Time(bench.round);
    let (mut ours, mut engine) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let refresh = |side: &mut Side| Ok(drive(side.server.target(), &mut side.refreshes, until)?.rate());
        ours.extend(alternate(1, || refresh(&mut of_many), || refresh(&mut of_some))?);
        let rotate = |side: &mut Side| side.engine.run(bench.round).map(|alone| alone.rate);
        engine.extend(alternate(1, || rotate(&mut of_many), || rotate(&mut of_some))?);
    }
    let kept = |rounds: &[(f64, f64)]| rounds.iter().map(|(many, some)| many / some).collect::<Vec<f64>>();
    let kept = kept(&ours).into_iter().zip(kept(&engine).into_iter().map(|kept| kept - MORE_THAN_THE_ENGINE));
    let kept: Vec<_> = kept.collect();
    let what = format!(
        "share of the refresh rate kept from {some} to {many} sessions, beside the engine's own less 0.05"
    );
    Ok(vec![
        Figure::beside(format!("refresh with {many} sessions, beside {some}"), "1/s", &ours, None),
        Figure::beside(format!("the engine alone with {many} sessions, beside {some}"), "1/s", &engine, None),
        Figure::beside(what, "", &kept, Some(Reach::AtLeast(1.0))),
    ])
}

/// A session refreshed ten thousand times, then by turns with sessions that never were.
pub fn one_session(bench: &mut Bench) -> Result<Vec<Figure>> {
    // No honest client refreshes a session that often.
    let installation = Installation::create(&bench.ligand, None)?.without_limits();
    let seeded = seed::mint(1 + FIRST_TIMES, &installation.keys(), &mut bench.rng);
    seed::sqlite(&installation.file(), &seeded, Heads::Unacknowledged, &mut bench.rng)?;
    let server = installation.start(Some(MEASURED))?;
    let (old, new) = seeded.split_at(1);
    let mut often = Refreshes::several(1, old, &mut bench.rng);
    let times = if bench.quick { 100 } else { REFRESHES_OF_ONE };
    drive(server.target(), &mut often, Until::Answers(times))?;
    let mut turns = [OldAndNew::new(often.remove(0), Refreshes::several(1, new, &mut bench.rng).remove(0))];
    let turned = drive(
        server.target(),
        &mut turns,
        Until::Answers(if bench.quick { 200 } else { 2 * FIRST_TIMES as u64 }),
    )?;
    let every_other =
        |from| median(turned.latencies.iter().skip(from).step_by(2).map(|us| f64::from(*us) / 1e3));
    let what = format!("time of a refresh after {times} of the same session, beside a first one");
    Ok(vec![Figure::beside(what, "ms", &[(every_other(0), every_other(1))], Some(Reach::AtMost(1.05)))])
}
