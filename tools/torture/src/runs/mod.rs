//! One file per run. A run says what it did in one line and passes only if the
//! server kept every promise *and* its negative control was caught.

use std::future::Future;
use std::pin::Pin;

use anyhow::Result;

use crate::context::{Context, Verdict};
use crate::{linear, powercut};

mod canary;
mod clocks;
mod disk_full;
mod enumeration;
mod kill;
mod lossy;
mod parallel;
mod pg_restart;
mod single_use;
mod slow;
mod storm;

/// The future of a run.
type Running<'a> = Pin<Box<dyn Future<Output = Result<Verdict>> + 'a>>;

/// A run by its name.
pub struct Run {
    /// What `torture run NAME` takes.
    pub name: &'static str,
    /// What it shows, in one line.
    pub shows: &'static str,
    /// Starts it.
    pub start: for<'a> fn(&'a Context) -> Running<'a>,
}

/// Every run, the cheapest way to a finding first.
pub const RUNS: &[Run] = &[
    Run {
        name: "lossy",
        shows: "lost, late and doubled messages log nobody out",
        start: |ctx| Box::pin(lossy::run(ctx)),
    },
    Run {
        name: "parallel",
        shows: "parallel refreshes of one token get one pair, over several processes",
        start: |ctx| Box::pin(parallel::run(ctx)),
    },
    Run {
        name: "single-use",
        shows: "single-use things succeed once, raced 32 ways",
        start: |ctx| Box::pin(single_use::run(ctx)),
    },
    Run {
        name: "linear",
        shows: "answers to clients at once are those of some order, one at a time",
        start: |ctx| Box::pin(linear::run(ctx)),
    },
    Run {
        name: "kill",
        shows: "SIGKILL under load loses nothing acknowledged and revives nothing",
        start: |ctx| Box::pin(kill::run(ctx)),
    },
    Run {
        name: "powercut",
        shows: "a power cut loses nothing acknowledged and tears nothing",
        start: |ctx| Box::pin(powercut::run(ctx)),
    },
    Run {
        name: "io-error",
        shows: "whichever call to the disk fails, no answer is false",
        start: |ctx| Box::pin(powercut::io_error::run(ctx)),
    },
    Run {
        name: "pg-restart",
        shows: "a crashing PostgreSQL strands nobody",
        start: |ctx| Box::pin(pg_restart::run(ctx)),
    },
    Run {
        name: "disk-full",
        shows: "a full disk is trouble, not loss, and heals",
        start: |ctx| Box::pin(disk_full::run(ctx)),
    },
    Run {
        name: "clocks",
        shows: "a clock set back revives nothing, one set forward expires nothing at once",
        start: |ctx| Box::pin(clocks::run(ctx)),
    },
    Run {
        name: "canary",
        shows: "no credential or token in database, log or metrics",
        start: |ctx| Box::pin(canary::run(ctx)),
    },
    Run {
        name: "enumeration",
        shows: "an unknown user cannot be told from a wrong password",
        start: |ctx| Box::pin(enumeration::run(ctx)),
    },
    Run {
        name: "storm",
        shows: "a sign-in storm leaves refreshes and checks fast",
        start: |ctx| Box::pin(storm::run(ctx)),
    },
    Run {
        name: "slow",
        shows: "slow, idle, huge and deep requests harm nobody else",
        start: |ctx| Box::pin(slow::run(ctx)),
    },
];
