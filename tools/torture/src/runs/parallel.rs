//! F8: 2 to 64 refreshes of one token at once, over one process on SQLite and
//! four on one PostgreSQL: every answer is 200, all carry one pair, and that pair
//! works at once on every process.
//!
//! Control: a proxy that plays a server which mints a new pair on every retry.

use std::collections::HashSet;
use std::net::SocketAddr;

use anyhow::{Result, bail};
use serde_json::json;

use crate::client::{Outcome, REFRESH, Token, outcome};
use crate::context::{Context, Findings, Verdict};
use crate::database::Engine;
use crate::proxy::{Faults, Proxy};
use crate::race::Racers;
use crate::rng::Rng;
use crate::server::Ligand;
use crate::tamper::Tamper;
use crate::wire::Message;

const PROCESSES: usize = 4;
const WIDTH_MAX: u64 = 64;
const SESSIONS: usize = 8;

/// Each engine with its share of the tokens, then the control.
pub async fn run(ctx: &Context) -> Result<Verdict> {
    let tokens = ctx.cycles(2_000, 50_000) / ctx.engines().len() as u64;
    let mut real = Findings::default();
    for engine in ctx.engines() {
        let processes = match engine {
            Engine::Sqlite => 1,
            Engine::Postgres(_) => PROCESSES,
        };
        let trial = trial(ctx, &engine, processes, tokens, Tamper::Honest).await?;
        real.absorb(engine.name(), trial);
    }
    let tamper = Tamper::NewPairOnEveryRetry;
    let control = trial(ctx, &Engine::Sqlite, 1, 20, tamper).await?;
    if !control.violations().iter().any(|v| v.contains("pairs")) {
        return Ok(Verdict::Failed("the control gave no second pair".to_owned()));
    }
    Ok(real.judge(&control))
}

async fn trial(
    ctx: &Context,
    engine: &Engine,
    processes: usize,
    tokens: u64,
    tamper: Tamper,
) -> Result<Findings> {
    let (database, server) = ctx.server(engine, &[]).await?;
    let mut servers = vec![server];
    while servers.len() < processes {
        let beside = servers[0].start_beside().await?;
        servers.push(beside);
    }
    let mut proxies = Vec::new();
    for server in &servers {
        let rng = ctx.rng(5);
        let proxy = Proxy::start(server.addr(), Faults::default(), tamper.clone(), rng);
        proxies.push(proxy.await?);
    }
    // The honest run goes straight to the servers: a proxy would space the calls.
    let addrs: Vec<SocketAddr> = match tamper {
        Tamper::Honest => servers.iter().map(Ligand::addr).collect(),
        _ => proxies.iter().map(Proxy::addr).collect(),
    };
    let mut findings = Findings::default();
    let mut sessions = sign_in(&servers[0]).await?;
    let mut racers = Racers::connect(&addrs, WIDTH_MAX as usize).await;
    let mut rng = ctx.rng(6);
    let mut calls = 0;
    for number in 0..tokens {
        let session = &mut sessions[number as usize % SESSIONS];
        let width = rng.between(2, WIDTH_MAX) as usize;
        calls += width;
        let answers = racers.race(refreshes(&session.refresh, width)).await?;
        let answers = answers.into_iter().map(|(_, answer)| outcome(answer)).collect::<Vec<_>>();
        match judged(&answers, &mut findings) {
            Some(next) => *session = next,
            None => break,
        }
        use_somewhere(&mut racers, &session.access, &mut rng, &mut findings).await;
    }
    findings.count("processes", processes);
    findings.count("tokens", tokens);
    findings.count("refreshes", calls);
    for server in &mut servers {
        server.kill().await?;
    }
    database.remove().await?;
    Ok(findings)
}

struct Session {
    access: Token,
    refresh: Token,
}

async fn sign_in(server: &Ligand) -> Result<Vec<Session>> {
    let account = server.add_user("parallel", "a long enough secret").await?;
    let mut client = server.client();
    let mut sessions = Vec::new();
    for i in 0..SESSIONS {
        let device = format!("DEVICE{i}");
        match client.login(&account.name, &account.password, &device).await {
            Outcome::Pair(pair) => sessions.push(Session { access: pair.access, refresh: pair.refresh }),
            other => bail!("sign-in: {other:?}"),
        }
    }
    Ok(sessions)
}

/// The one pair of all answers; `None` when there is none to go on with.
fn judged(answers: &[Outcome], findings: &mut Findings) -> Option<Session> {
    let mut pairs = HashSet::new();
    let mut last = None;
    for answer in answers {
        match answer {
            Outcome::Pair(pair) => {
                pairs.insert((pair.access.clone(), pair.refresh.clone()));
                last = Some(pair.clone());
            }
            other => findings.violation(format!("I5 a parallel refresh got {other:?}")),
        }
    }
    findings.require(pairs.len() == 1, || {
        let (pairs, answers) = (pairs.len(), answers.len());
        format!("I2 {answers} parallel refreshes got {pairs} pairs")
    });
    last.map(|pair| Session { access: pair.access, refresh: pair.refresh })
}

/// The pair works at once everywhere (I4): asked on any process. One time in four
/// it is not asked, so that unacknowledged heads are refreshed too.
async fn use_somewhere(racers: &mut Racers, access: &str, rng: &mut Rng, findings: &mut Findings) {
    if rng.chance(0.25) {
        return;
    }
    let answer = racers.any(rng.next()).whoami(access).await;
    findings.require(answer == Outcome::Done, || format!("I4 a new pair was answered {answer:?} elsewhere"));
}

/// The body of `/refresh`, `width` times.
fn refreshes(refresh: &str, width: usize) -> Vec<Message> {
    let body = json!({ "refresh_token": refresh }).to_string();
    vec![Message::request("POST", REFRESH, None, body.as_bytes()); width]
}
