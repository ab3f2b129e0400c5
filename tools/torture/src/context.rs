//! What every run is given: the binary, the engines at hand, the seed, how long
//! it may take; and what it gives back.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

use crate::database::{Database, Engine};
use crate::rng::Rng;
use crate::server::Ligand;

/// Short figures for every change, long ones by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Minutes in all.
    Check,
    /// Up to an hour each.
    Long,
}

/// Shared by all runs of one invocation.
#[derive(Debug)]
pub struct Context {
    /// The server binary.
    pub ligand: PathBuf,
    /// Administrator's URL of a PostgreSQL, if there is one.
    pub postgres: Option<String>,
    /// Seed of every random choice.
    pub seed: u64,
    /// Short or long figures.
    pub length: Length,
    /// Overrides the number of cycles of a run.
    pub cycles: Option<u64>,
    /// Databases made so far, for their names.
    pub databases: AtomicU64,
}

impl Context {
    /// The number of cycles, tokens or tries of a run.
    pub fn cycles(&self, check: u64, long: u64) -> u64 {
        self.cycles.unwrap_or(match self.length {
            Length::Check => check,
            Length::Long => long,
        })
    }

    /// The stream of random numbers with this number.
    pub fn rng(&self, stream: u64) -> Rng {
        Rng::new(self.seed, stream)
    }

    /// SQLite, and PostgreSQL where there is one.
    pub fn engines(&self) -> Vec<Engine> {
        let postgres = self.postgres.clone().map(Engine::Postgres);
        [Some(Engine::Sqlite), postgres].into_iter().flatten().collect()
    }

    /// A fresh database.
    pub async fn database(&self, engine: &Engine) -> Result<Database> {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        Database::create(engine, &format!("{}_{number}", std::process::id())).await
    }

    /// A server on a fresh database.
    pub async fn server(&self, engine: &Engine, settings: &[(&str, &str)]) -> Result<(Database, Ligand)> {
        let database = self.database(engine).await?;
        let server = Ligand::start(&self.ligand, &database.url(), settings).await?;
        Ok((database, server))
    }
}

/// What one trial counted, and what it holds against the server.
#[derive(Debug, Default)]
pub struct Findings {
    counts: Vec<String>,
    violations: Vec<String>,
}

impl Findings {
    /// Adds `label value` to the line.
    pub fn count(&mut self, label: &str, value: impl Display) {
        self.counts.push(format!("{label} {value}"));
    }

    /// Holds something against the server.
    pub fn violation(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// Holds `what` against the server unless `good`.
    pub fn require(&mut self, good: bool, what: impl FnOnce() -> String) {
        if !good {
            self.violations.push(what());
        }
    }

    /// Takes over another trial's findings under a heading.
    pub fn absorb(&mut self, heading: &str, other: Self) {
        let counts = other.counts.join(" ");
        self.counts.push(format!("{heading}: {counts};"));
        let violations = other.violations.into_iter();
        self.violations.extend(violations.map(|v| format!("{heading}: {v}")));
    }

    /// What is held against the server.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// The verdict of a run: the server must be clean, the control must not.
    pub fn judge(self, control: &Self) -> Verdict {
        let counts = self.counts.join(" ");
        if let Some(first) = self.violations.first() {
            let found = self.violations.len();
            return Verdict::Failed(format!("{found} violations, first: {first}\n  ({counts})"));
        }
        match control.violations.first() {
            None => Verdict::Failed(format!("the control was not detected ({counts})")),
            Some(first) => {
                let headline = first.lines().next().unwrap_or("");
                let caught = control.violations.len();
                Verdict::Passed(format!("{counts} | control caught {caught}× ({headline})"))
            }
        }
    }
}

/// How a run ended.
#[derive(Debug)]
pub enum Verdict {
    /// With its counts.
    Passed(String),
    /// With the first reason.
    Failed(String),
    /// With why it cannot be done here.
    Skipped(String),
}
