//! F7, the headline: a network that loses a fifth of the requests and a fifth of
//! the answers, doubles one in twenty and delays them all, must never log an
//! innocent client out of `/refresh`; and every answer to one refresh token must
//! carry the same successor, also the answers that nobody received.
//!
//! No client outruns a late copy by three refreshes: one that old looks like reuse
//! by design.
//! Control: a proxy that plays a server which mints a new pair on every retry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::client::{Client, Outcome, Pair, Token};
use crate::context::{Context, Findings, Verdict};
use crate::database::Engine;
use crate::journal::short;
use crate::proxy::{Faults, Proxy};
use crate::rng::Rng;
use crate::tamper::Tamper;
use crate::worker::Account;

const CLIENTS: u64 = 64;
const FAULTS: Faults = Faults {
    lose_request: 0.2,
    lose_answer: 0.2,
    duplicate: 0.05,
    delay_max: Duration::from_millis(8),
    duplicate_late_max: Duration::from_millis(60),
};
/// No client refreshes more often.
const REFRESH_EVERY: Duration = Duration::from_millis(130);
const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_secs(1);
/// Refusals in a row, each after a good refresh, that count as a logout: a
/// token may well expire on the way once or twice.
const UNCURED_MAX: u32 = 8;

/// SQLite for most, PostgreSQL for a part, and the control.
pub async fn run(ctx: &Context) -> Result<Verdict> {
    let refreshes = ctx.cycles(10_000, 100_000);
    let mut real = Findings::default();
    for engine in ctx.engines() {
        let share = refreshes / ctx.engines().len() as u64;
        real.absorb(engine.name(), trial(ctx, &engine, share, Tamper::Honest).await?);
    }
    let tamper = Tamper::NewPairOnEveryRetry;
    let control = trial(ctx, &Engine::Sqlite, 1_000.min(refreshes), tamper).await?;
    let logouts = control.violations().iter().any(|v| v.contains("was logged out"));
    if !logouts {
        return Ok(Verdict::Failed("the control logged nobody out".to_owned()));
    }
    Ok(real.judge(&control))
}

/// What the clients of a trial add up.
#[derive(Debug, Default)]
struct Tally {
    refreshes: AtomicU64,
    expired: AtomicU64,
    /// What each client that was logged out can tell.
    logouts: Mutex<Vec<String>>,
}

async fn trial(ctx: &Context, engine: &Engine, refreshes: u64, tamper: Tamper) -> Result<Findings> {
    let lifetime = format!("{}s", ACCESS_TOKEN_LIFETIME.as_secs());
    let settings = [("LIGAND_SESSIONS__ACCESS_TOKEN_LIFETIME", lifetime.as_str())];
    let (database, mut server) = ctx.server(engine, &settings).await?;
    let account = server.add_user("lossy", "a long enough secret").await?;
    let proxy = Arc::new(Proxy::start(server.addr(), FAULTS, tamper, ctx.rng(4)).await?);
    let tally = Arc::new(Tally::default());
    let mut tasks = JoinSet::new();
    for i in 0..CLIENTS {
        let client = Lossy {
            account: account.clone(),
            device: format!("DEVICE{i}"),
            direct: server.client(),
            lossy: Client::new(proxy.addr()),
            proxy: proxy.clone(),
            spent: [None, None],
            rng: ctx.rng(100 + i),
            tally: tally.clone(),
        };
        tasks.spawn(client.live(refreshes));
    }
    let mut findings = Findings::default();
    while let Some(joined) = tasks.join_next().await {
        if let Err(error) = joined? {
            findings.violation(error.to_string());
        }
    }
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counts = proxy.counts();
    findings.count("refreshes", read(&tally.refreshes));
    findings.count("requests lost", read(&counts.requests_lost));
    findings.count("answers lost", read(&counts.answers_lost));
    findings.count("doubled", read(&counts.duplicated));
    findings.count("expired in use", read(&tally.expired));
    let logouts = std::mem::take(&mut *tally.logouts.lock());
    findings.count("innocent logouts", logouts.len());
    for logout in &logouts {
        let said = server.log_lines("WARN").into_iter().chain(server.log_lines("ERROR"));
        let said = said.filter(|line| !line.contains("refresh_spent")).take(20).collect::<Vec<_>>();
        findings.violation(format!("I5 an innocent was logged out: {logout}\n    {}", said.join("\n    ")));
    }
    let seconds = read(&counts.second_successors);
    findings.require(seconds == 0, || format!("I2 {seconds} answers carried another successor"));
    server.kill().await?;
    database.remove().await?;
    Ok(findings)
}

/// One client behind the bad network.
struct Lossy {
    account: Account,
    device: String,
    /// For sign-in: a doubled sign-in ends the first session, lawfully.
    direct: Client,
    lossy: Client,
    proxy: Arc<Proxy>,
    /// The refresh tokens before the one it holds, oldest first.
    spent: [Option<Token>; 2],
    rng: Rng,
    tally: Arc<Tally>,
}

impl Lossy {
    /// Uses and refreshes until all clients together made so many refreshes.
    async fn live(mut self, refreshes: u64) -> Result<()> {
        let mut pair = self.sign_in().await?;
        while self.tally.refreshes.load(Ordering::Relaxed) < refreshes {
            let started = Instant::now();
            pair = match self.refreshed(&pair).await? {
                Ok(next) => next,
                Err(how) => self.logged_out(how).await?,
            };
            if self.rng.chance(0.03) {
                tokio::time::sleep(ACCESS_TOKEN_LIFETIME).await;
            }
            let uses = self.rng.between(0, 2);
            for _ in 0..uses {
                pair = self.used(pair).await?;
            }
            tokio::time::sleep(REFRESH_EVERY.saturating_sub(started.elapsed())).await;
        }
        Ok(())
    }

    async fn sign_in(&mut self) -> Result<Pair> {
        for _ in 0..200 {
            let Account { name, password } = &self.account;
            match self.direct.login(name, password, &self.device).await {
                Outcome::Pair(pair) => return Ok(pair),
                // A connection kept too long is closed by the server.
                Outcome::Trouble(_) | Outcome::Lost => tokio::time::sleep(Duration::from_millis(100)).await,
                other => bail!("sign-in: {other:?}"),
            }
        }
        bail!("sign-in: trouble without end")
    }

    async fn logged_out(&mut self, how: String) -> Result<Pair> {
        self.tally.logouts.lock().push(how);
        self.sign_in().await
    }

    /// Refreshes with the token it holds, again and again while no answer comes.
    /// The refusal, when refused.
    async fn refreshed(&mut self, pair: &Pair) -> Result<Result<Pair, String>> {
        while self.spent[0].as_ref().is_some_and(|token| self.proxy.has_late_copy(token)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let started = Instant::now();
        for tries in 1..1_000 {
            match self.lossy.refresh(&pair.refresh).await {
                Outcome::Pair(next) => {
                    self.tally.refreshes.fetch_add(1, Ordering::Relaxed);
                    self.spent = [self.spent[1].take(), Some(pair.refresh.clone())];
                    return Ok(Ok(next));
                }
                Outcome::Lost | Outcome::NotSent => self.pause_before_retry().await,
                other @ Outcome::Refused { .. } => {
                    let (device, waited) = (&self.device, started.elapsed());
                    let token = short(&pair.refresh);
                    let how = format!("{device} {token}: try {tries} after {waited:?} got {other:?}");
                    return Ok(Err(how));
                }
                other => bail!("refresh: {other:?}"),
            }
        }
        bail!("refresh: no answer in a thousand tries")
    }

    /// Some clients come back only after the lost access token has expired.
    async fn pause_before_retry(&mut self) {
        if self.rng.chance(0.02) {
            tokio::time::sleep(ACCESS_TOKEN_LIFETIME).await;
        }
    }

    /// Makes one authenticated request, refreshing when it is refused.
    async fn used(&mut self, mut pair: Pair) -> Result<Pair> {
        let mut uncured = 0;
        for _ in 0..1_000 {
            match self.lossy.whoami(&pair.access).await {
                Outcome::Done => return Ok(pair),
                Outcome::Lost | Outcome::NotSent => {}
                Outcome::Refused { .. } => {
                    self.tally.expired.fetch_add(1, Ordering::Relaxed);
                    uncured += 1;
                    if uncured > UNCURED_MAX {
                        let how = format!("{}: {uncured} refusals, not cured by refreshing", self.device);
                        return self.logged_out(how).await;
                    }
                    tokio::time::sleep(REFRESH_EVERY).await;
                    pair = match self.refreshed(&pair).await? {
                        Ok(next) => next,
                        Err(how) => return self.logged_out(how).await,
                    };
                }
                other => bail!("whoami: {other:?}"),
            }
        }
        bail!("whoami: no answer in a thousand tries")
    }
}
