//! `torture`: loads a real `ligand` server, breaks everything around it, and
//! checks by what its clients learnt that it kept its promises.
//!
//! This file is the command line and the loop over the runs. Each run is one file
//! under `runs/`; what several of them share lies beside this file.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::Cluster;
use crate::context::{Context, Length, Verdict};
use crate::runs::{RUNS, Run};

mod audit;
mod bench;
mod beside;
mod client;
mod cluster;
mod context;
mod crew;
mod database;
mod descriptors;
mod journal;
mod linear;
mod mount;
mod needle;
mod powercut;
mod proxy;
mod race;
mod rng;
mod runs;
mod server;
mod stats;
mod tamper;
mod wire;
mod worker;

/// Breaks everything around a Ligand server and checks that it kept its promises.
#[derive(Parser)]
#[command(name = "torture")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Every run, short.
    Check(Target),
    /// Every run in full, by hand.
    Long(Target),
    /// One run.
    Run {
        /// Its name, as `list` prints it.
        name: String,
        /// In full.
        #[arg(long)]
        long: bool,
        /// Cycles, tokens or tries instead of its own number.
        #[arg(long)]
        cycles: Option<u64>,
        #[command(flatten)]
        target: Target,
    },
    /// The names of the runs, and what each shows.
    List,
    /// Measures the server beside its yardsticks.
    Bench(bench::Options),
    /// Axum alone, a yardstick of `bench`.
    #[command(hide = true)]
    BareAxum {
        #[arg(long)]
        listen: std::net::SocketAddr,
    },
}

#[derive(Args)]
struct Target {
    /// The server binary.
    #[arg(long, default_value = "target/release/ligand")]
    ligand: PathBuf,
    /// URL of a PostgreSQL account that may create databases. Without it a server
    /// of our own is started, where PostgreSQL is installed.
    #[arg(long)]
    postgres: Option<String>,
    /// Seed of every random choice, to repeat a run.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> Result<ExitCode> {
    let command = Cli::parse().command;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        // Dropped on the way out, servers and databases stop.
        tokio::select! {
            done = act(command) => done,
            signal = interrupted() => bail!("stopped by {}", signal?),
        }
    })
}

/// Waits for Ctrl-C or SIGTERM.
async fn interrupted() -> Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => Ok("Ctrl-C"),
        _ = terminate.recv() => Ok("SIGTERM"),
    }
}

async fn act(command: Command) -> Result<ExitCode> {
    let all: Vec<&Run> = RUNS.iter().collect();
    match command {
        Command::Check(target) => execute(&all, target, Length::Check, None).await,
        Command::Long(target) => execute(&all, target, Length::Long, None).await,
        Command::Run { name, long, cycles, target } => {
            let Some(run) = RUNS.iter().find(|run| run.name == name) else {
                bail!("no run is called {name}; `torture list` shows them");
            };
            let length = if long { Length::Long } else { Length::Check };
            execute(&[run], target, length, cycles).await
        }
        Command::List => {
            for run in RUNS {
                println!("{:<12} {}", run.name, run.shows);
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench(options) => {
            let _stop = bench::StopOnDrop;
            let reached = tokio::task::spawn_blocking(move || bench::run(&options)).await??;
            Ok(ExitCode::from(u8::from(!reached)))
        }
        Command::BareAxum { listen } => {
            bench::bare::serve(listen).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs them one after the other: figures of time need the machine for themselves.
async fn execute(runs: &[&Run], target: Target, length: Length, cycles: Option<u64>) -> Result<ExitCode> {
    let ligand = std::fs::canonicalize(&target.ligand)
        .with_context(|| format!("no server at {}", target.ligand.display()))?;
    descriptors::available();
    let cluster = match target.postgres {
        Some(_) => None,
        None => Cluster::start().await?,
    };
    let ctx = Context {
        ligand,
        postgres: target.postgres.or(cluster.as_ref().map(Cluster::admin_url)),
        seed: match target.seed {
            Some(seed) => seed,
            None => getrandom::u32()?.into(),
        },
        length,
        cycles,
        databases: AtomicU64::new(0),
    };
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    if ctx.postgres.is_none() {
        println!("SKIPPED everything on PostgreSQL: it is neither given nor installed");
    }
    for run in runs {
        let started = Instant::now();
        let verdict = one(run, &ctx).await;
        let took = started.elapsed().as_secs_f64();
        let (name, seed) = (run.name, ctx.seed);
        match verdict {
            Verdict::Passed(counts) => {
                passed += 1;
                println!("passed {name}: seed {seed}, {took:.1} s, {counts}");
            }
            Verdict::Failed(why) => {
                failed += 1;
                println!("FAILED {name}: seed {seed}, {took:.1} s, {why}");
            }
            Verdict::Skipped(why) => {
                skipped += 1;
                println!("SKIPPED {name}: {why}");
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// One run, which may neither hang nor take the others with it.
async fn one(run: &Run, ctx: &Context) -> Verdict {
    let patience = match ctx.length {
        Length::Check => Duration::from_secs(10 * 60),
        Length::Long => Duration::from_secs(90 * 60),
    };
    match tokio::time::timeout(patience, (run.start)(ctx)).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(error)) => Verdict::Failed(format!("{error:#}")),
        Err(_) => Verdict::Failed(format!("hung for {patience:?}")),
    }
}
