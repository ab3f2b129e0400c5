//! F4: the disk under the SQLite file is full while clients work. Writes are
//! trouble (503), checks go on, nothing acknowledged is lost, and once there is
//! space again a write succeeds soon.
//!
//! Needs root, to mount a small file system. Control: a proxy that reports the
//! trouble as success.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::client::{Client, Outcome, Pair};
use crate::cluster::is_root;
use crate::context::{Context, Findings, Verdict};
use crate::crew::{self, AUDITED, Crew, Manner};
use crate::database::Database;
use crate::mount::Mount;
use crate::proxy::{Faults, Proxy};
use crate::server::Ligand;
use crate::stats::ms;
use crate::tamper::Tamper;

const CLIENTS: usize = 16;
const DISK_MIB: u32 = 8;
/// Space that SQLite already has is used up within this.
const EFFECT_MAX: Duration = Duration::from_secs(20);
const FULL_FOR: Duration = Duration::from_secs(1);
const HEAL_MAX: Duration = Duration::from_secs(2);

const MANNER: Manner =
    Manner { logout_chance: 0.001, pause_max: Duration::from_millis(2), until_down: false };

/// The run, where file systems can be mounted.
pub async fn run(ctx: &Context) -> Result<Verdict> {
    if !is_root() {
        return Ok(Verdict::Skipped("mounting needs root".to_owned()));
    }
    if let Err(error) = Mount::new(DISK_MIB) {
        return Ok(Verdict::Skipped(format!("mounting failed: {error}")));
    }
    let real = trial(ctx, ctx.cycles(5, 50), Tamper::Honest).await?;
    let control = trial(ctx, 1, Tamper::TroubleAsSuccess).await?;
    Ok(real.judge(&control))
}

async fn trial(ctx: &Context, cycles: u64, tamper: Tamper) -> Result<Findings> {
    let mut findings = Findings::default();
    let mount = Mount::new(DISK_MIB)?;
    let url = Database::url_of_file(mount.path());
    let mut server = Ligand::start(&ctx.ligand, &url, AUDITED).await?;
    let proxy = Proxy::start(server.addr(), Faults::default(), tamper, ctx.rng(7)).await?;
    let mut workers = crew::sign_in(ctx, &server, CLIENTS).await?;
    let mut observer = Observer::start(&server).await?;
    let mut slowest = Duration::ZERO;
    for _ in 0..cycles {
        for worker in &mut workers {
            worker.reconnect(proxy.addr());
        }
        let crew = Crew::start(workers, MANNER);
        mount.fill()?;
        observer.until_full(&mut findings).await;
        observer.watch(FULL_FOR, &mut findings).await;
        mount.make_space()?;
        slowest = slowest.max(observer.until_healed(&mut findings).await);
        workers = crew::verify(crew.rest().await?, &mut findings).await?;
    }
    crew::audit(&workers, &mut findings);
    findings.count("fillings", cycles);
    findings.count("writes refused", observer.refused);
    findings.count("checks served", observer.served);
    findings.count("slowest healing", ms(slowest));
    findings.require(slowest <= HEAL_MAX, || format!("healing took {}", ms(slowest)));
    findings.require(server.is_running(), || "the server ended".to_owned());
    server.kill().await?;
    Ok(findings)
}

/// Two sessions straight at the server: one only checks, the other only refreshes.
struct Observer {
    client: Client,
    checked: Pair,
    refreshed: Pair,
    refused: u64,
    served: u64,
}

impl Observer {
    async fn start(server: &Ligand) -> Result<Self> {
        let account = server.add_user("observer", "a long enough secret").await?;
        let mut client = server.client();
        let mut pairs = Vec::new();
        for device in ["CHECKED", "REFRESHED"] {
            match client.login(&account.name, &account.password, device).await {
                Outcome::Pair(pair) => pairs.push(pair),
                other => bail!("sign-in: {other:?}"),
            }
        }
        let mut pair = || pairs.pop().ok_or_else(|| anyhow::anyhow!("no pair"));
        let (refreshed, checked) = (pair()?, pair()?);
        client.whoami(&checked.access).await;
        Ok(Self { client, checked, refreshed, refused: 0, served: 0 })
    }

    /// One refresh: true for a pair.
    async fn refresh(&mut self, findings: &mut Findings) -> bool {
        match self.client.refresh(&self.refreshed.refresh).await {
            Outcome::Pair(pair) => {
                self.refreshed = pair;
                true
            }
            Outcome::Trouble(503) => {
                self.refused += 1;
                false
            }
            other => {
                findings.violation(format!("I18 a refresh on a full disk: {other:?}"));
                false
            }
        }
    }

    async fn check(&mut self, findings: &mut Findings) {
        let answer = self.client.whoami(&self.checked.access).await;
        self.served += 1;
        findings.require(answer == Outcome::Done, || format!("a check on a full disk: {answer:?}"));
    }

    async fn until_full(&mut self, findings: &mut Findings) {
        let started = Instant::now();
        while self.refresh(findings).await {
            if started.elapsed() > EFFECT_MAX {
                findings.violation("the full disk refused no write");
                return;
            }
        }
    }

    async fn watch(&mut self, time: Duration, findings: &mut Findings) {
        let started = Instant::now();
        while started.elapsed() < time {
            self.check(findings).await;
            self.refresh(findings).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until_healed(&mut self, findings: &mut Findings) -> Duration {
        let started = Instant::now();
        while !self.refresh(findings).await && started.elapsed() < 5 * HEAL_MAX {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        started.elapsed()
    }
}
