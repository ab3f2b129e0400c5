//! Well-behaved clients beside an attack: how long their checks and refreshes
//! take, before it and during it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::task::JoinSet;

use crate::client::{Client, Outcome, Pair};
use crate::server::Ligand;
use crate::stats::quantile;

/// Pause of a client between two rounds: some forty requests a second each.
const PAUSE: Duration = Duration::from_millis(25);

/// Signed-in clients, at rest.
#[derive(Debug)]
pub struct Beside {
    clients: Vec<(Client, Pair)>,
}

/// The 99th percentiles of one measurement, and what went wrong in it.
#[derive(Debug, Default)]
pub struct Latency {
    /// Of `/refresh`.
    pub refresh_p99: Duration,
    /// Of the token check.
    pub check_p99: Duration,
    /// Calls measured.
    pub calls: usize,
    /// Answers other than success.
    pub failures: Vec<String>,
}

#[derive(Debug, Default)]
struct Samples {
    refresh: Vec<Duration>,
    check: Vec<Duration>,
    failures: Vec<String>,
}

impl Beside {
    /// Signs in so many clients, each on a device of its own.
    pub async fn sign_in(server: &Ligand, size: usize) -> Result<Self> {
        let account = server.add_user("beside", "a long enough secret").await?;
        let mut clients = Vec::new();
        for i in 0..size {
            let mut client = server.client();
            let device = format!("BESIDE{i}");
            match client.login(&account.name, &account.password, &device).await {
                Outcome::Pair(pair) => clients.push((client, pair)),
                other => bail!("sign-in: {other:?}"),
            }
        }
        Ok(Self { clients })
    }

    /// Connects elsewhere from now on.
    pub fn reconnect(&mut self, addr: SocketAddr) {
        for (client, _) in &mut self.clients {
            *client = Client::new(addr);
        }
    }

    /// Measures while the other future runs, and gives its result too.
    pub async fn measure<T>(&mut self, during: impl Future<Output = T>) -> Result<(Latency, T)> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for (client, pair) in self.clients.drain(..) {
            tasks.spawn(live(client, pair, stop.clone()));
        }
        let result = during.await;
        stop.store(true, Ordering::Relaxed);
        let mut all = Samples::default();
        while let Some(joined) = tasks.join_next().await {
            let (client, pair, samples) = joined?;
            self.clients.push((client, pair));
            all.refresh.extend(samples.refresh);
            all.check.extend(samples.check);
            all.failures.extend(samples.failures);
        }
        let latency = Latency {
            calls: all.refresh.len() + all.check.len(),
            refresh_p99: quantile(&mut all.refresh, 0.99),
            check_p99: quantile(&mut all.check, 0.99),
            failures: all.failures,
        };
        Ok((latency, result))
    }
}

async fn live(mut client: Client, mut pair: Pair, stop: Arc<AtomicBool>) -> (Client, Pair, Samples) {
    let mut samples = Samples::default();
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        match client.whoami(&pair.access).await {
            Outcome::Done => samples.check.push(started.elapsed()),
            other => samples.failures.push(format!("check: {other:?}")),
        }
        let started = Instant::now();
        match client.refresh(&pair.refresh).await {
            Outcome::Pair(next) => {
                samples.refresh.push(started.elapsed());
                pair = next;
            }
            other => samples.failures.push(format!("refresh: {other:?}")),
        }
        tokio::time::sleep(PAUSE).await;
    }
    (client, pair, samples)
}
