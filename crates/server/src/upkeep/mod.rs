//! Background work, one job per file. Each job works in bounded batches that no request feels,
//! and goes on to the next round when the database is in trouble.

pub mod feed;
pub mod outbox;
pub mod seals;
pub mod sweep;

use std::time::Duration;

use ligand_protocol::limits::UPKEEP_INTERVAL_MS;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::app::App;

/// Starts all jobs; they end when `shutdown` is true.
#[must_use]
pub fn start(app: &App, shutdown: &watch::Receiver<bool>) -> JoinSet<()> {
    let mut jobs = JoinSet::new();
    jobs.spawn(until(shutdown.clone(), feed::follow(app.clone())));
    jobs.spawn(until(shutdown.clone(), sweep::run(app.clone())));
    jobs.spawn(until(shutdown.clone(), seals::run(app.clone())));
    // It ends by itself: what is being sent is sent to its end.
    jobs.spawn(outbox::run(app.clone(), shutdown.clone()));
    jobs
}

async fn until(mut shutdown: watch::Receiver<bool>, job: impl Future<Output = ()>) {
    tokio::select! {
        () = job => {}
        () = crate::serve::stopped(&mut shutdown) => {}
    }
}

/// How long a job rests between two rounds.
fn interval() -> Duration {
    Duration::from_millis(UPKEEP_INTERVAL_MS.unsigned_abs())
}
