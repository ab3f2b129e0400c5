//! F5: PostgreSQL is stopped as by a crash and started again, or its backends are
//! terminated, while clients work. Nobody may be stranded, nothing redeemed twice,
//! and a refresh must succeed soon after the database is back.
//!
//! Uses a cluster of its own, because it stops it. Control: a proxy that reports
//! trouble as success, so that clients hold pairs which nobody stored.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::client::{Client, Outcome, Token};
use crate::cluster::Cluster;
use crate::context::{Context, Findings, Verdict};
use crate::crew::{self, AUDITED, Crew, Manner};
use crate::database::{Engine, administer};
use crate::proxy::{Faults, Proxy};
use crate::server::Ligand;
use crate::stats::ms;
use crate::tamper::Tamper;

const CLIENTS: usize = 16;
/// From the database taking connections to the first refresh.
const RECOVERY_MAX: Duration = Duration::from_secs(2);

const MANNER: Manner =
    Manner { logout_chance: 0.002, pause_max: Duration::from_millis(20), until_down: false };

/// The run on a cluster of its own.
pub async fn run(ctx: &Context) -> Result<Verdict> {
    let Some(cluster) = Cluster::start().await? else {
        return Ok(Verdict::Skipped("PostgreSQL is not installed".to_owned()));
    };
    let cycles = ctx.cycles(10, 200);
    let real = trial(ctx, &cluster, cycles, Tamper::Honest).await?;
    let control = trial(ctx, &cluster, 1, Tamper::TroubleAsSuccess).await?;
    Ok(real.judge(&control))
}

async fn trial(ctx: &Context, cluster: &Cluster, cycles: u64, tamper: Tamper) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut rng = ctx.rng(2);
    let engine = Engine::Postgres(cluster.admin_url());
    let (database, mut server) = ctx.server(&engine, AUDITED).await?;
    let proxy = Proxy::start(server.addr(), Faults::default(), tamper, ctx.rng(3)).await?;
    let mut workers = crew::sign_in(ctx, &server, CLIENTS).await?;
    for worker in &mut workers {
        worker.reconnect(proxy.addr());
    }
    let mut gauge = Gauge::start(&server).await?;
    let crew = Crew::start(workers, MANNER);
    let mut slowest = Duration::ZERO;
    for cycle in 0..cycles {
        tokio::time::sleep(Duration::from_millis(rng.between(200, 800))).await;
        if cycle % 2 == 0 {
            cluster.crash().await?;
            tokio::time::sleep(Duration::from_millis(rng.between(50, 400))).await;
            cluster.up().await?;
        } else {
            let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                          WHERE pid <> pg_backend_pid() AND datname LIKE 'torture_%'";
            administer(&cluster.admin_url(), &[others]).await?;
        }
        slowest = slowest.max(gauge.until_refreshed(&mut findings).await);
    }
    let workers = crew::verify(crew.rest().await?, &mut findings).await?;
    crew::audit(&workers, &mut findings);
    findings.count("restarts and terminations", cycles);
    findings.count("slowest recovery", ms(slowest));
    findings.require(slowest <= RECOVERY_MAX, || {
        format!("the first refresh came {} after the database", ms(slowest))
    });
    findings.require(server.is_running(), || "the server ended".to_owned());
    server.kill().await?;
    database.remove().await?;
    Ok(findings)
}

/// A session of its own that shows when refreshes work again.
struct Gauge {
    client: Client,
    refresh: Token,
}

impl Gauge {
    async fn start(server: &Ligand) -> Result<Self> {
        let account = server.add_user("gauge", "a long enough secret").await?;
        let mut client = server.client();
        match client.login(&account.name, &account.password, "GAUGE").await {
            Outcome::Pair(pair) => Ok(Self { client, refresh: pair.refresh }),
            other => bail!("signing in: {other:?}"),
        }
    }

    async fn until_refreshed(&mut self, findings: &mut Findings) -> Duration {
        let started = Instant::now();
        loop {
            match self.client.refresh(&self.refresh).await {
                Outcome::Pair(pair) => {
                    self.refresh = pair.refresh;
                    return started.elapsed();
                }
                Outcome::Trouble(503) | Outcome::Lost | Outcome::NotSent => {}
                other => {
                    findings.violation(format!("I5 the gauge was answered {other:?}"));
                    return started.elapsed();
                }
            }
            if started.elapsed() > 5 * RECOVERY_MAX {
                return started.elapsed();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
