//! The token check: `whoami` through the whole router, beside axum alone.

use anyhow::Result;

use super::clients::Checks;
use super::figure::{Figure, Reach, alternate, median};
use super::installation::Installation;
use super::load::{Counted, Idle, Until, drive_idling};
use super::place::MEASURED;
use super::{Bench, bare, seed};

const SESSIONS: usize = 10_000;

pub fn run(bench: &mut Bench) -> Result<Vec<Figure>> {
    let installation = Installation::create(&bench.ligand, None)?;
    let sessions = seed::mint(bench.scaled(SESSIONS), &installation.keys(), &mut bench.rng);
    seed::sqlite(&installation.file(), &sessions, seed::Heads::Acknowledged, &mut bench.rng)?;
    let (ligand, bare) = (installation.start(Some(MEASURED))?, bare::start()?);
    let until = Until::Time(bench.round);
    let mut figures = Vec::new();
    for connections in [16, 64] {
        let mut checks = Checks::several(connections, &sessions, &mut bench.rng);
        let mut same = Checks::several(connections, &sessions, &mut bench.rng);
        let rounds = alternate(
            bench.rounds,
            || drive_idling(ligand.target(), &mut checks, until, Idle::Spins),
            || drive_idling(bare.target(), &mut same, until, Idle::Spins),
        )?;
        let rates: Vec<_> = rounds.iter().map(|(ours, bare)| (ours.rate(), bare.rate())).collect();
        let what = format!("check, {connections} connections, beside bare axum");
        figures.push(Figure::beside(what, "1/s", &rates, Some(Reach::AtLeast(0.65))).noting(note(&rounds)));
        let cpu: Vec<_> = rounds.iter().map(|(ours, bare)| (ours.cpu_us(), bare.cpu_us())).collect();
        let what = format!("CPU time of a check, {connections} connections");
        figures.push(Figure::beside(what, "µs", &cpu, None));
    }
    Ok(figures)
}

/// Whether the servers were what was slow.
fn note(rounds: &[(Counted, Counted)]) -> String {
    let percent = |load: f64| load * 100.0;
    let ours = median(rounds.iter().map(|round| round.0.server_load()));
    let bare = median(rounds.iter().map(|round| round.1.server_load()));
    format!("server busy {:.0} %, bare {:.0} %", percent(ours), percent(bare))
}
