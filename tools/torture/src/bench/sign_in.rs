//! Sign-in beside raw Argon2id, and what a storm of sign-ins does to refreshes.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use super::Bench;
use super::clients::{Refreshes, SignIns};
use super::figure::{Figure, Reach, alternate};
use super::installation::Installation;
use super::load::{Counted, Until, drive};
use super::place::{self, MEASURED};
use super::seed::{self, Heads, PASSWORD};

/// Enough that the password threads never wait for a request.
const CONNECTIONS: usize = 8;
/// In the storm: more than the queue takes, so that some are told to come back, which they do after
/// a pause. Together they try some two hundred times a second.
const STORM: usize = 128;
const STORM_PAUSE: Duration = Duration::from_millis(500);
const REFRESHING: usize = 8;
const PAUSE: Duration = Duration::from_millis(20);
const SESSIONS: usize = 8_000;

pub fn run(bench: &mut Bench) -> Result<Vec<Figure>> {
    // All sign-ins come from one address here.
    let installation = Installation::create(&bench.ligand, None)?.without_limits();
    let seeded = seed::mint(bench.scaled(SESSIONS), &installation.keys(), &mut bench.rng);
    seed::sqlite(&installation.file(), &seeded, Heads::Unacknowledged, &mut bench.rng)?;
    let server = installation.start(Some(MEASURED))?;
    let until = Until::Time(bench.round);

    let mut sign_ins = SignIns::several(CONNECTIONS);
    let rounds =
        alternate(bench.rounds, || drive(server.target(), &mut sign_ins, until), || raw_argon2(bench.round))?;
    let rates: Vec<_> = rounds.iter().map(|(ours, raw)| (ours.rate(), *raw)).collect();
    let what = "sign-in, beside raw Argon2id on the same core";
    let mut figures = vec![Figure::beside(what, "1/s", &rates, Some(Reach::AtLeast(0.95)))];

    let mut refreshes: Vec<_> = Refreshes::several(REFRESHING, &seeded, &mut bench.rng);
    refreshes = refreshes.into_iter().map(|client| client.pausing(PAUSE)).collect();
    let mut p99 = Vec::new();
    for _ in 0..bench.rounds {
        let idle = drive(server.target(), &mut refreshes, until)?.quantile_ms(0.99);
        p99.push((
            in_storm(server.target(), &mut refreshes, bench.round)?.quantile_ms(0.99),
            2.0 * idle + 10.0,
        ));
    }
    let what = format!("refresh p99 while {STORM} sign in, beside twice the idle one and 10 ms");
    figures.push(Figure::beside(what, "ms", &p99, Some(Reach::AtMost(1.0))));
    Ok(figures)
}

/// Refreshes while many more sign in than the pool can hash.
fn in_storm(target: super::load::Target, refreshes: &mut [Refreshes], time: Duration) -> Result<Counted> {
    let storm = SignIns::several(STORM).into_iter();
    let mut storm: Vec<_> = storm.map(|client| client.pausing(STORM_PAUSE)).collect();
    std::thread::scope(|scope| {
        // Longer on both sides than what is measured beside it.
        let storm = scope.spawn(|| drive(target, &mut storm, Until::Time(time + time / 5)));
        let refreshed = drive(target, refreshes, Until::Time(time));
        storm.join().map_err(|_| anyhow!("the storm has panicked"))??;
        refreshed
    })
}

/// Hashes per second on one core, as the password threads make them: memory kept.
fn raw_argon2(time: Duration) -> Result<f64> {
    let work = || -> Result<f64> {
        let argon2 = seed::argon2()?;
        let mut blocks = vec![argon2::Block::default(); argon2.params().block_count()];
        let (began, mut hashes, mut out) = (Instant::now(), 0_u32, [0; 32]);
        while began.elapsed() < time {
            let hashed = argon2.hash_password_into_with_memory(
                PASSWORD.as_bytes(),
                b"sixteen bytes of",
                &mut out,
                &mut blocks,
            );
            hashed.map_err(|error| anyhow!("Argon2id: {error}"))?;
            hashes += 1;
        }
        Ok(f64::from(hashes) / began.elapsed().as_secs_f64())
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| place::on_core(MEASURED, work)?);
        thread.join().unwrap_or_else(|_| bail!("Argon2id has panicked"))
    })
}
