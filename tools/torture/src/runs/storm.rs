//! F13: two hundred sign-ins a second, far more than the password hash allows.
//! Only sign-ins may be turned away (429), memory stays, and refreshes and checks
//! beside the storm stay nearly as fast as without it (I23).
//!
//! Control: the same clients through a proxy that adds more than the bound.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::beside::{Beside, Latency};
use crate::client::{LOGIN, login_body};
use crate::context::{Context, Findings, Length, Verdict};
use crate::database::Engine;
use crate::proxy::{Faults, Proxy};
use crate::server::Ligand;
use crate::stats::{mib, ms};
use crate::tamper::Tamper;
use crate::worker::Account;

const CLIENTS: usize = 8;
const LOGINS_PER_SECOND: u64 = 200;
const IDLE_TIME: Duration = Duration::from_secs(5);
const CONTROL_TIME: Duration = Duration::from_secs(2);
/// Added to twice the idle figure.
const FLOOR: Duration = Duration::from_millis(10);
const RESIDENT_GROWTH_MAX: u64 = 64 << 20;

/// Idle, storm, control, on one server.
pub async fn run(ctx: &Context) -> Result<Verdict> {
    let seconds = match ctx.length {
        Length::Check => ctx.cycles(20, 20),
        Length::Long => ctx.cycles(600, 600),
    };
    let (mut real, mut control) = (Findings::default(), Findings::default());
    let (database, mut server) = ctx.server(&Engine::Sqlite, &[]).await?;
    let account = server.add_user("storm", "a long enough secret").await?;
    let mut beside = Beside::sign_in(&server, CLIENTS).await?;

    let (idle, ()) = beside.measure(tokio::time::sleep(IDLE_TIME)).await?;
    let resident_before = server.resident_bytes();
    let (loaded, storm) = beside.measure(storm(&server, &account, seconds)).await?;
    compare(&idle, &loaded, &mut real);
    real.count("sign-in answers", format!("{:?}", storm.statuses));
    for status in storm.statuses.keys() {
        real.require([200, 429].contains(status), || format!("a sign-in was answered {status}"));
    }
    let growth = storm.resident_max.saturating_sub(resident_before);
    real.count("memory +", mib(growth));
    real.require(growth <= RESIDENT_GROWTH_MAX, || format!("memory grew by {}", mib(growth)));

    let stall = Tamper::Stall(2 * idle.refresh_p99 + 2 * FLOOR);
    let proxy = Proxy::start(server.addr(), Faults::default(), stall, ctx.rng(10)).await?;
    beside.reconnect(proxy.addr());
    let (stalled, ()) = beside.measure(tokio::time::sleep(CONTROL_TIME)).await?;
    compare(&idle, &stalled, &mut control);
    server.kill().await?;
    database.remove().await?;
    Ok(real.judge(&control))
}

/// Holds every figure above twice the idle one and the floor against the server.
fn compare(idle: &Latency, loaded: &Latency, findings: &mut Findings) {
    let figures = [
        ("refresh p99", idle.refresh_p99, loaded.refresh_p99),
        ("check p99", idle.check_p99, loaded.check_p99),
    ];
    for (label, idle, loaded) in figures {
        findings.count(label, format!("{} (idle {})", ms(loaded), ms(idle)));
        findings.require(loaded <= 2 * idle + FLOOR, || {
            format!("I23 {label} {} is above 2 × {} + {}", ms(loaded), ms(idle), ms(FLOOR))
        });
    }
    findings.count("calls beside", loaded.calls);
    if let Some(failure) = loaded.failures.first() {
        let number = loaded.failures.len();
        findings.violation(format!("{number} failures beside the storm, first {failure}"));
    }
}

#[derive(Debug, Default)]
struct Storm {
    /// How many sign-ins got which status; 0 for no answer.
    statuses: BTreeMap<u16, u64>,
    resident_max: u64,
}

/// Sign-ins at a fixed rate, whether or not the earlier ones are answered.
async fn storm(server: &Ligand, account: &Account, seconds: u64) -> Storm {
    let mut storm = Storm::default();
    let mut tasks: JoinSet<u16> = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / LOGINS_PER_SECOND as u32);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0..seconds * LOGINS_PER_SECOND {
        ticks.tick().await;
        let mut client = server.client();
        let device = format!("STORM{}", number % 50);
        let body = login_body(&account.name, &account.password, &device);
        tasks.spawn(async move { client.post(LOGIN, &body).await.map_or(0, |a| a.status()) });
        while let Some(Ok(status)) = tasks.try_join_next() {
            *storm.statuses.entry(status).or_default() += 1;
        }
        if number % 20 == 0 {
            storm.resident_max = storm.resident_max.max(server.resident_bytes());
        }
    }
    while let Some(joined) = tasks.join_next().await {
        *storm.statuses.entry(joined.unwrap_or(0)).or_default() += 1;
    }
    storm
}
