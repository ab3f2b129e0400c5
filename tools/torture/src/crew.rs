//! Many [`Worker`]s at once: signing them in, letting them loose until the server
//! dies or a flag falls, asking them afterwards, and adding up their audits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::task::JoinSet;

use crate::client::Outcome;
use crate::context::{Context, Findings};
use crate::server::Ligand;
use crate::worker::Worker;

/// Settings under which the auditor's assumptions hold: nothing expires, and
/// reuse is refused softly for the whole run.
pub const AUDITED: &[(&str, &str)] =
    &[("LIGAND_SESSIONS__ACCESS_TOKEN_LIFETIME", "1h"), ("LIGAND_SESSIONS__LEGACY_REUSE_LEEWAY", "1h")];

/// Accounts are few, because each costs a password hash; devices are many.
const ACCOUNTS: usize = 4;

/// Makes `size` workers on a few accounts and signs them in.
pub async fn sign_in(ctx: &Context, server: &Ligand, size: usize) -> Result<Vec<Worker>> {
    let mut accounts = Vec::new();
    for i in 0..ACCOUNTS {
        accounts.push(server.add_user(&format!("crew{i}"), "a long enough secret").await?);
    }
    let mut tasks = JoinSet::new();
    for i in 0..size {
        let rng = ctx.rng(1_000 + i as u64);
        let account = accounts[i % ACCOUNTS].clone();
        let mut worker = Worker::new(server.addr(), account, format!("DEVICE{i}"), rng);
        tasks.spawn(async move {
            for _ in 0..100 {
                match worker.step(0.0).await {
                    outcome if outcome.is_success() => return Ok(worker),
                    Outcome::Trouble(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                    other => bail!("first sign-in: {other:?}"),
                }
            }
            bail!("first sign-in: trouble without end")
        });
    }
    let mut workers = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        workers.push(joined??);
    }
    Ok(workers)
}

/// How workers behave while they are let loose.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Chance of a logout at each step.
    pub logout_chance: f64,
    /// Longest pause between two calls.
    pub pause_max: Duration,
    /// Whether a broken connection ends the worker's day (the server was killed).
    pub until_down: bool,
}

/// Workers at work; [`Crew::rest`] brings them home.
#[derive(Debug)]
pub struct Crew {
    tasks: JoinSet<Worker>,
    stop: Arc<AtomicBool>,
}

impl Crew {
    /// Lets them loose.
    pub fn start(workers: Vec<Worker>, manner: Manner) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for worker in workers {
            tasks.spawn(work(worker, manner, stop.clone()));
        }
        Self { tasks, stop }
    }

    /// Tells them to stop and waits for the calls in flight.
    pub async fn rest(mut self) -> Result<Vec<Worker>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut workers = Vec::new();
        while let Some(joined) = self.tasks.join_next().await {
            workers.push(joined?);
        }
        Ok(workers)
    }
}

async fn work(mut worker: Worker, manner: Manner, stop: Arc<AtomicBool>) -> Worker {
    while !stop.load(Ordering::Relaxed) {
        let outcome = worker.step(manner.logout_chance).await;
        if outcome.is_network() && manner.until_down {
            break;
        }
        let pause_max = match outcome {
            Outcome::Trouble(_) => manner.pause_max.max(Duration::from_millis(50)),
            _ => manner.pause_max,
        };
        let pause = worker.rng().below(pause_max.as_micros() as u64 + 1);
        tokio::time::sleep(Duration::from_micros(pause)).await;
    }
    worker
}

/// Every worker asks about everything it knows.
pub async fn verify(workers: Vec<Worker>, findings: &mut Findings) -> Result<Vec<Worker>> {
    let mut tasks = JoinSet::new();
    for mut worker in workers {
        tasks.spawn(async move {
            let complete = worker.verify().await;
            (worker, complete)
        });
    }
    let mut workers = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        let (worker, complete) = joined?;
        findings.require(complete, || "the server went away while it was asked".to_owned());
        workers.push(worker);
    }
    Ok(workers)
}

/// Audits every journal.
pub fn audit(workers: &[Worker], findings: &mut Findings) {
    let mut calls = 0;
    for worker in workers {
        calls += worker.journal.entries().len();
        for violation in worker.violations() {
            let excerpt = worker.journal.excerpt(violation.index);
            let (rule, what) = (violation.rule, violation.what);
            findings.violation(format!("{rule} {what}\n{excerpt}"));
        }
    }
    findings.count("calls", calls);
}
