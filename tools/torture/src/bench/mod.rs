//! `torture bench`: Ligand beside its yardsticks in one run, on stated cores.
//!
//! Each file measures one thing; `load` is the load, `clients` what it sends, `seed` fills
//! databases, `installation` starts servers, `place` keeps everybody on their cores, `report` writes
//! the table, the JSON and the plot. Databases and servers are made for each measurement and removed
//! after it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::rng::Rng;
use figure::Figure;

pub mod bare;
mod check;
mod clients;
mod figure;
mod footprint;
mod growth;
mod installation;
mod load;
mod place;
mod refresh_postgres;
mod refresh_sqlite;
mod report;
mod seed;
mod sign_in;

/// What `torture bench` is told.
#[derive(Args)]
pub struct Options {
    /// The server binary, built with the release profile.
    #[arg(long, default_value = "target/release/ligand")]
    ligand: PathBuf,
    /// URL of a PostgreSQL account that may create databases; that server is then not kept on a
    /// core of its own. Without it one is started, where PostgreSQL is installed.
    #[arg(long)]
    postgres: Option<String>,
    /// Small and short: shows that it runs, says nothing about speed.
    #[arg(long)]
    quick: bool,
    /// Only this measurement.
    #[arg(long)]
    only: Option<String>,
    /// Folder for results.json and results.svg.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// What a measurement works with.
pub struct Bench {
    ligand: PathBuf,
    postgres: Option<String>,
    quick: bool,
    rounds: usize,
    /// Time that counts of one side of a round.
    round: Duration,
    rng: Rng,
}

impl Bench {
    fn new(options: &Options) -> Result<Self> {
        let ligand = std::fs::canonicalize(&options.ligand)
            .with_context(|| format!("no server at {}", options.ligand.display()))?;
        Ok(Self {
            ligand,
            postgres: options.postgres.clone(),
            quick: options.quick,
            rounds: if options.quick { 1 } else { 7 },
            round: Duration::from_millis(if options.quick { 400 } else { 3_000 }),
            // Which session comes when is random, but the same in every run.
            rng: Rng::new(2, 0),
        })
    }

    /// A number of sessions, less where only running matters.
    fn scaled(&self, count: usize) -> usize {
        if self.quick { count.div_ceil(50).max(640) } else { count }
    }
}

/// Set when the program is to end; the load looks at it.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Ends a run in another thread when it is dropped, so that servers and databases stop.
pub struct StopOnDrop;

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        STOPPED.store(true, Ordering::Relaxed);
    }
}

type Measure = fn(&mut Bench) -> Result<Vec<Figure>>;

const MEASUREMENTS: &[(&str, Measure)] = &[
    ("check", check::run),
    ("refresh-sqlite", refresh_sqlite::run),
    ("refresh-postgres", refresh_postgres::run),
    ("sign-in", sign_in::run),
    ("growth-check", growth::check),
    ("growth-refresh", growth::refresh),
    ("growth-session", growth::one_session),
    ("memory", footprint::memory),
    ("start", footprint::start),
    ("size", footprint::size),
];

/// Measures, prints the table, writes the files. True unless a figure was not reached; a quick run
/// does not judge.
pub fn run(options: &Options) -> Result<bool> {
    if !place::two_cores() {
        println!("one core only: server and load share it, and no ratio here says anything");
    }
    if !options.quick && cfg!(debug_assertions) {
        bail!("this is a debug build; build with --release, or ask for --quick");
    }
    let names: Vec<&str> = MEASUREMENTS.iter().map(|(name, _)| *name).collect();
    if let Some(only) = options.only.as_deref().filter(|only| !names.contains(only)) {
        bail!("no measurement is called {only}; there are {}", names.join(", "));
    }
    let mut bench = Bench::new(options)?;
    let mut figures = Vec::new();
    println!("{}", report::HEAD);
    for (name, measure) in MEASUREMENTS {
        if options.only.as_deref().is_some_and(|only| only != *name) {
            continue;
        }
        eprintln!("measuring {name}");
        let measured = measure(&mut bench).with_context(|| format!("measuring {name}"))?;
        for figure in &measured {
            println!("{}", report::line(figure, options.quick));
        }
        figures.extend(measured);
    }
    if let Some(out) = &options.out {
        report::write(out, &figures, options.quick)?;
    }
    let short = figures.iter().filter(|figure| figure.is_reached() == Some(false)).count();
    if options.quick {
        println!("ran {} figures, judged none: this was a quick run", figures.len());
        return Ok(true);
    }
    println!("{} figures, {short} short of their reach", figures.len());
    Ok(short == 0)
}
