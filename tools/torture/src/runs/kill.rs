//! F1: the server is killed (SIGKILL) in the middle of everything, again and
//! again, on both engines; after each restart every client asks about every token
//! it knows, and the journals are audited.
//!
//! Control: the store forgets what was written in the last cycle, as a database
//! that does not sync would.

use std::time::Duration;

use anyhow::Result;

use crate::context::{Context, Findings, Length, Verdict};
use crate::crew::{self, AUDITED, Crew, Manner};
use crate::database::Engine;
use crate::stats::ms;

const CLIENTS: usize = 64;
/// A restarted server must answer within this.
const RESTART_MAX: Duration = Duration::from_secs(1);

const MANNER: Manner = Manner { logout_chance: 0.002, pause_max: Duration::from_millis(4), until_down: true };

/// Both engines, then the control on each.
pub async fn run(ctx: &Context) -> Result<Verdict> {
    let cycles = ctx.cycles(50, 500);
    let (mut real, mut control) = (Findings::default(), Findings::default());
    for engine in ctx.engines() {
        real.absorb(engine.name(), trial(ctx, &engine, cycles, false).await?);
        let forgetful = trial(ctx, &engine, 1, true).await?;
        if forgetful.violations().is_empty() {
            let name = engine.name();
            return Ok(Verdict::Failed(format!("the control was not detected on {name}")));
        }
        control.absorb(engine.name(), forgetful);
    }
    if ctx.postgres.is_none() {
        real.count("(no PostgreSQL)", "");
    }
    Ok(real.judge(&control))
}

async fn trial(ctx: &Context, engine: &Engine, cycles: u64, forget: bool) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut rng = ctx.rng(1);
    let (database, mut server) = ctx.server(engine, AUDITED).await?;
    let mut workers = crew::sign_in(ctx, &server, CLIENTS).await?;
    let mut slowest_restart = Duration::ZERO;
    let life_ms_max = match ctx.length {
        Length::Check => 800,
        Length::Long => 2_000,
    };
    for _ in 0..cycles {
        let snapshot = if forget {
            server.kill().await?;
            let snapshot = database.snapshot().await?;
            server.restart().await?;
            Some(snapshot)
        } else {
            None
        };
        for worker in &mut workers {
            worker.reconnect(server.addr());
        }
        let crew = Crew::start(workers, MANNER);
        tokio::time::sleep(Duration::from_millis(rng.between(200, life_ms_max))).await;
        server.kill().await?;
        workers = crew.rest().await?;
        if let Some(snapshot) = snapshot {
            database.restore(snapshot).await?;
        }
        slowest_restart = slowest_restart.max(server.restart().await?);
        for worker in &mut workers {
            worker.reconnect(server.addr());
        }
        workers = crew::verify(workers, &mut findings).await?;
    }
    crew::audit(&workers, &mut findings);
    findings.count("kills", cycles);
    findings.count("slowest restart", ms(slowest_restart));
    findings.require(slowest_restart <= RESTART_MAX, || format!("a restart took {}", ms(slowest_restart)));
    server.kill().await?;
    database.remove().await?;
    Ok(findings)
}
