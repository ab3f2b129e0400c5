//! F14: headers and bodies that trickle in, thousands of idle connections, bodies
//! of a gibibyte, headers and nesting without measure. Each must end in a refusal
//! or a closed connection in good time; memory stays, and well-behaved clients
//! beside it do not notice.
//!
//! Control: a server without any limit of its own, asked by the same probes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::beside::{Beside, Latency};
use crate::context::{Context, Findings, Verdict};
use crate::database::Engine;
use crate::server::Ligand;
use crate::stats::{mib, ms};

const CLIENTS: usize = 8;
const IDLE_TIME: Duration = Duration::from_secs(5);
/// Of each slow kind at once.
const SLOW_CONNECTIONS: usize = 100;
/// A trickling header must be ended within this, a trickling body within the next.
const HEADER_TIME_MAX: Duration = Duration::from_secs(20);
const BODY_TIME_MAX: Duration = Duration::from_secs(40);
/// A refusal on sight takes no longer.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(5);
/// Figures in milliseconds on a busy machine differ by this for no reason.
const FLOOR: Duration = Duration::from_millis(10);
const RESIDENT_GROWTH_MAX: u64 = 100 << 20;
const GIB: u64 = 1 << 30;
const REFUSALS: [u16; 4] = [400, 408, 413, 431];

/// Idle, attack, control.
pub async fn run(ctx: &Context) -> Result<Verdict> {
    let (mut real, mut control) = (Findings::default(), Findings::default());
    let wanted = ctx.cycles(2_000, 10_000) as usize;
    let idle_connections = wanted.min(crate::descriptors::available().saturating_sub(1_000) / 2);
    let (database, mut server) = ctx.server(&Engine::Sqlite, &[]).await?;
    let mut beside = Beside::sign_in(&server, CLIENTS).await?;
    let (idle, ()) = beside.measure(tokio::time::sleep(IDLE_TIME)).await?;
    let resident_before = server.resident_bytes();
    let attack = attack(&server, idle_connections, &mut real);
    let (loaded, resident_max) = beside.measure(attack).await?;
    compare(&idle, &loaded, &mut real);
    let growth = resident_max.saturating_sub(resident_before);
    real.count("idle connections", idle_connections);
    real.count("memory +", mib(growth));
    real.require(growth <= RESIDENT_GROWTH_MAX, || format!("memory grew by {}", mib(growth)));
    real.require(server.is_running(), || "the server ended".to_owned());
    real.require(server.is_healthy().await, || "not healthy afterwards".to_owned());
    server.kill().await?;
    database.remove().await?;

    let naive = TcpListener::bind("127.0.0.1:0").await?;
    let addr = naive.local_addr()?;
    let serving = tokio::spawn(serve_without_limits(naive));
    let probes = probes();
    let expected = probes.len();
    let ended = probe_all(addr, probes, Duration::from_secs(2)).await;
    judge(ended, &mut control);
    serving.abort();
    let caught = control.violations().len();
    if caught < expected {
        let missed = format!("{caught} of {expected} controls were detected");
        return Ok(Verdict::Failed(missed));
    }
    Ok(real.judge(&control))
}

fn compare(idle: &Latency, loaded: &Latency, findings: &mut Findings) {
    let figures = [
        ("refresh p99", idle.refresh_p99, loaded.refresh_p99),
        ("check p99", idle.check_p99, loaded.check_p99),
    ];
    for (label, idle, loaded) in figures {
        findings.count(label, format!("{} (idle {})", ms(loaded), ms(idle)));
        findings.require(loaded <= 2 * idle + FLOOR, || {
            format!("{label} {} is above 2 × {} + {}", ms(loaded), ms(idle), ms(FLOOR))
        });
    }
    if let Some(failure) = loaded.failures.first() {
        let number = loaded.failures.len();
        findings.violation(format!("{number} failures beside the attack, first {failure}"));
    }
}

/// Everything at once against the server; its largest memory.
async fn attack(server: &Ligand, idle_connections: usize, findings: &mut Findings) -> u64 {
    let mut idle = Vec::new();
    for _ in 0..idle_connections {
        match TcpStream::connect(server.addr()).await {
            Ok(stream) => idle.push(stream),
            Err(error) => findings.violation(format!("an idle connection: {error}")),
        }
    }
    let probing = probe_all(server.addr(), probes(), Duration::MAX);
    let mut resident_max = 0;
    let watching = async {
        loop {
            resident_max = resident_max.max(server.resident_bytes());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let ended = tokio::select! {
        ended = probing => ended,
        () = watching => Vec::new(),
    };
    judge(ended, findings);
    drop(idle);
    resident_max
}

/// A kind of bad request: what is sent at once, what trickles after, and how long
/// the server may take to end it.
#[derive(Clone)]
struct Probe {
    label: &'static str,
    at_once: Vec<u8>,
    /// Sent again and again: one byte a second, or as fast as it is taken.
    then: Then,
    time_max: Duration,
    copies: usize,
}

#[derive(Clone, Copy)]
enum Then {
    Nothing,
    Trickle,
    Flood,
}

/// How one connection ended: a status, 0 for a closed connection, none in time.
struct Ended {
    label: &'static str,
    how: Option<u16>,
    took: Duration,
}

fn probes() -> Vec<Probe> {
    let head = |headers: &str| {
        let start = "POST /_matrix/client/v3/login HTTP/1.1\r\nhost: localhost\r\n";
        format!("{start}content-type: application/json\r\n{headers}").into_bytes()
    };
    let with_body = |body: String| head(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    let probe = |label, at_once, then, time_max, copies| Probe { label, at_once, then, time_max, copies };
    let (slow, now) = (SLOW_CONNECTIONS, REFUSAL_TIME_MAX);
    let gib = head(&format!("content-length: {GIB}\r\n\r\n"));
    let endless = head("transfer-encoding: chunked\r\n\r\n40000000\r\n");
    let headers = head("x-filler: ");
    let slow_body = head("content-length: 1000\r\n\r\n{");
    vec![
        probe("slow header", head("x-a: "), Then::Trickle, HEADER_TIME_MAX, slow),
        probe("slow body", slow_body, Then::Trickle, BODY_TIME_MAX, slow),
        probe("1 GiB announced", gib.clone(), Then::Nothing, now, 4),
        probe("1 GiB sent", gib, Then::Flood, now, 4),
        probe("1 GiB chunk", endless, Then::Flood, now, 4),
        probe("endless header", headers, Then::Flood, now, 4),
        probe("200 KB of brackets", with_body("[".repeat(200_000)), Then::Nothing, now, 4),
        probe("60 KB of brackets", with_body("[".repeat(60_000)), Then::Nothing, now, 4),
        probe("60 KB of objects", with_body("{\"a\":".repeat(12_000)), Then::Nothing, now, 4),
    ]
}

async fn probe_all(addr: SocketAddr, probes: Vec<Probe>, patience: Duration) -> Vec<Ended> {
    let mut tasks = JoinSet::new();
    for probe in probes {
        for _ in 0..probe.copies {
            tasks.spawn(ask(addr, probe.clone(), patience));
        }
    }
    tasks.join_all().await
}

/// Sends one bad request and waits for its end, not longer than `patience`.
async fn ask(addr: SocketAddr, probe: Probe, patience: Duration) -> Ended {
    let started = Instant::now();
    let asked = async {
        let stream = TcpStream::connect(addr).await.ok()?;
        let (mut reading, mut writing) = stream.into_split();
        let sending = async move {
            // A server that has refused stops reading; that is no error here.
            let _ = writing.write_all(&probe.at_once).await;
            let block = vec![b'x'; 1 << 16];
            loop {
                let (size, pause) = match probe.then {
                    Then::Nothing => return std::future::pending().await,
                    Then::Trickle => (1, Duration::from_secs(1)),
                    Then::Flood => (block.len(), Duration::ZERO),
                };
                if writing.write_all(&block[..size]).await.is_err() {
                    return std::future::pending().await;
                }
                tokio::time::sleep(pause).await;
            }
        };
        let receiving = async move {
            let mut answer = Vec::new();
            while !answer.ends_with(b"\n") && reading.read_buf(&mut answer).await.unwrap_or(0) > 0 {
                if answer.len() > 16 {
                    break;
                }
            }
            let text = String::from_utf8_lossy(&answer).into_owned();
            text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
        };
        tokio::select! {
            status = receiving => Some(status),
            () = sending => None,
        }
    };
    let wait = patience.min(probe.time_max);
    let how = tokio::time::timeout(wait, asked).await.ok().flatten();
    Ended { label: probe.label, how, took: started.elapsed() }
}

/// Holds everything that was not refused or closed in time against the server,
/// once for each kind.
fn judge(ended: Vec<Ended>, findings: &mut Findings) {
    let mut labels: Vec<&str> = ended.iter().map(|e| e.label).collect();
    labels.dedup();
    labels.sort_unstable();
    labels.dedup();
    for label in labels {
        let of_label = || ended.iter().filter(|e| e.label == label);
        let good = |how: Option<u16>| how.is_some_and(|s| s == 0 || REFUSALS.contains(&s));
        let statuses: std::collections::BTreeSet<_> = of_label().map(|e| e.how).collect();
        let slowest = of_label().map(|e| e.took).max().unwrap_or_default();
        let shown: Vec<String> = statuses.iter().map(|how| name_of(*how)).collect();
        findings.count(label, format!("{} in {},", shown.join("/"), ms(slowest)));
        findings
            .require(of_label().all(|e| good(e.how)), || format!("{label} ended with {}", shown.join(", ")));
    }
}

fn name_of(how: Option<u16>) -> String {
    match how {
        None => "no end in time".to_owned(),
        Some(0) => "closed".to_owned(),
        Some(status) => status.to_string(),
    }
}

/// Reads for ever and never answers.
async fn serve_without_limits(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut block = vec![0; 1 << 16];
            while stream.read(&mut block).await.is_ok_and(|read| read > 0) {}
        });
    }
}
