//! F18: whatever works once is raced 32 ways and must work once: a refresh token
//! at `/tokenrefresh`, an authentication session at `/register` and at device
//! deletion, a registration token with one use, a login token.
//!
//! Controls feed the same counters with what may work more often: the token at
//! `/refresh`, a registration token with two uses, a session of its own each, two
//! login tokens.

use std::collections::HashSet;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client::{Client, LOGIN, Outcome, Pair, REFRESH, REGISTER, TOKENREFRESH, outcome};
use crate::context::{Context, Findings, Verdict};
use crate::database::Engine;
use crate::race::{Answer, Racers};
use crate::server::Ligand;
use crate::wire::Message;
use crate::worker::Account;

const GET_TOKEN: &str = "/_matrix/client/v1/login/get_token";
const WIDTH: usize = 32;
const PASSWORD: &str = "a long enough secret";

/// Everything on every engine, and the controls beside it.
pub async fn run(ctx: &Context) -> Result<Verdict> {
    let (mut real, mut all_controls) = (Findings::default(), Findings::default());
    for engine in ctx.engines() {
        let (honest, controls) = trial(ctx, &engine).await?;
        real.absorb(engine.name(), honest);
        for (number, control) in controls.into_iter().enumerate() {
            if control.violations().is_empty() {
                let missed = format!("control {number} was not detected on {}", engine.name());
                return Ok(Verdict::Failed(missed));
            }
            all_controls.absorb(engine.name(), control);
        }
    }
    Ok(real.judge(&all_controls))
}

/// What is held against the server, and what against each control.
async fn trial(ctx: &Context, engine: &Engine) -> Result<(Findings, [Findings; 5])> {
    let mut real = Findings::default();
    let mut controls: [Findings; 5] = Default::default();
    let settings = [("LIGAND_REGISTRATION__MODE", "open")];
    let (database, mut server) = ctx.server(engine, &settings).await?;
    let account = server.add_user("single", PASSWORD).await?;
    let mut racers = Racers::connect(&[server.addr()], WIDTH).await;

    let tokens = ctx.cycles(100, 2_000);
    spend_tokens(&account, &mut racers, TOKENREFRESH, tokens, &mut real).await?;
    spend_tokens(&account, &mut racers, REFRESH, 1, &mut controls[0]).await?;
    real.count("tokens", tokens);

    let rounds = ctx.cycles(4, 40);
    for round in 0..rounds {
        let label = format!("r{round}x{:x}", ctx.seed & 0xffff);
        register_in_one_session(&label, true, &mut racers, &mut real).await?;
        delete_in_one_session(&account, true, &mut racers, &mut real).await?;
        spend_login_tokens(&account, 1, &mut racers, &mut real).await?;
    }
    register_in_one_session("control", false, &mut racers, &mut controls[1]).await?;
    delete_in_one_session(&account, false, &mut racers, &mut controls[2]).await?;
    spend_login_tokens(&account, 2, &mut racers, &mut controls[4]).await?;
    real.count("sessions", 2 * rounds);
    real.count("login tokens", rounds);

    server.set("LIGAND_REGISTRATION__MODE", "token");
    server.restart().await?;
    for round in 0..rounds {
        spend_registration_token(&server, &format!("t{round}"), 1, &mut real).await?;
    }
    spend_registration_token(&server, "two", 2, &mut controls[3]).await?;
    real.count("registration tokens", rounds);
    server.kill().await?;
    database.remove().await?;
    Ok((real, controls))
}

async fn sign_in(client: &mut Client, account: &Account, device: &str) -> Result<Pair> {
    match client.login(&account.name, &account.password, device).await {
        Outcome::Pair(pair) => Ok(pair),
        other => bail!("sign-in: {other:?}"),
    }
}

/// One token after the other, each presented 32 times at this door.
async fn spend_tokens(
    account: &Account,
    racers: &mut Racers,
    door: &str,
    tokens: u64,
    findings: &mut Findings,
) -> Result<()> {
    let mut held = sign_in(racers.any(0), account, "SPENDER").await?;
    for _ in 0..tokens {
        let body = json!({ "refresh_token": &*held.refresh }).to_string();
        let request = Message::request("POST", door, None, body.as_bytes());
        let answers = racers.race(vec![request; WIDTH]).await?;
        let mut pairs = Vec::new();
        for (_, answer) in answers {
            match outcome(answer) {
                Outcome::Pair(pair) => pairs.push(pair),
                Outcome::Refused { status: 403, errcode } if errcode == "M_FORBIDDEN" => {}
                other => findings.violation(format!("I3 a loser was answered {other:?}")),
            }
        }
        findings
            .require(pairs.len() == 1, || format!("I3 one token was redeemed {} times at once", pairs.len()));
        match pairs.pop() {
            Some(pair) => held = pair,
            None => break,
        }
    }
    Ok(())
}

/// 32 completions of one session: one account, one answer. The control opens a
/// session for each.
async fn register_in_one_session(
    label: &str,
    one_session: bool,
    racers: &mut Racers,
    findings: &mut Findings,
) -> Result<()> {
    let mut sessions = vec![session_of(racers.any(0).post(REGISTER, &json!({})).await)?];
    while !one_session && sessions.len() < WIDTH {
        sessions.push(session_of(racers.any(0).post(REGISTER, &json!({})).await)?);
    }
    let requests = (0..WIDTH).map(|i| {
        let (session, name) = match one_session {
            true => (&sessions[0], label.to_owned()),
            false => (&sessions[i], format!("{label}{i}")),
        };
        let body = json!({
            "username": name, "password": PASSWORD, "refresh_token": true,
            "auth": { "type": "m.login.dummy", "session": session },
        });
        Message::request("POST", REGISTER, None, body.to_string().as_bytes())
    });
    let mut accounts = HashSet::new();
    for (_, answer) in racers.race(requests.collect()).await? {
        let answer = answered(answer)?;
        let body = answer.json();
        match answer.status() {
            200 => {
                accounts.insert((body["user_id"].to_string(), body["access_token"].to_string()));
            }
            400 | 401 => {}
            status => findings.violation(format!("I20 register: {status} {body}")),
        }
    }
    findings.require(accounts.len() == 1, || format!("I20 one session registered {} times", accounts.len()));
    Ok(())
}

/// One session is raced by deletions of X and of Y: it allows one of them, once.
/// The control opens a session for each.
async fn delete_in_one_session(
    account: &Account,
    one_session: bool,
    racers: &mut Racers,
    findings: &mut Findings,
) -> Result<()> {
    let client = racers.any(0);
    let caller = sign_in(client, account, "CALLER").await?;
    let devices = [("X", sign_in(client, account, "X").await?), ("Y", sign_in(client, account, "Y").await?)];
    let delete = |number: usize, session: Option<&str>| {
        let mut body = json!({});
        if let Some(session) = session {
            body["auth"] = json!({
                "type": "m.login.password", "session": session, "password": account.password,
                "identifier": { "type": "m.id.user", "user": account.name },
            });
        }
        let path = format!("/_matrix/client/v3/devices/{}", devices[number % 2].0);
        let body = body.to_string();
        Message::request("DELETE", &path, Some(&caller.access), body.as_bytes())
    };
    let mut sessions = Vec::new();
    while sessions.is_empty() || (!one_session && sessions.len() < WIDTH) {
        let opened = client.exchange(&delete(sessions.len(), None)).await;
        sessions.push(session_of(opened)?);
    }
    let requests = (0..WIDTH).map(|i| delete(i, Some(&sessions[i % sessions.len()])));
    let mut successes = 0;
    for (_, answer) in racers.race(requests.collect()).await? {
        let answer = answered(answer)?;
        match answer.status() {
            200 => successes += 1,
            400 | 401 | 403 | 429 => {}
            status => findings.violation(format!("I20 deletion: {status} {}", answer.json())),
        }
    }
    let mut deleted = 0;
    for (_, pair) in &devices {
        deleted += usize::from(!racers.any(0).whoami(&pair.access).await.is_success());
    }
    findings.require((successes, deleted) == (1, 1), || {
        format!("I20 one session: {successes} deletions succeeded, {deleted} devices are gone")
    });
    Ok(())
}

/// 32 sign-ins share a login token. The control shares two.
async fn spend_login_tokens(
    account: &Account,
    tokens: usize,
    racers: &mut Racers,
    findings: &mut Findings,
) -> Result<()> {
    let caller = sign_in(racers.any(0), account, "CALLER").await?;
    let auth = json!({
        "type": "m.login.password", "password": account.password,
        "identifier": { "type": "m.id.user", "user": account.name },
    });
    let body = json!({ "auth": auth }).to_string();
    let request = Message::request("POST", GET_TOKEN, Some(&caller.access), body.as_bytes());
    let mut made = Vec::new();
    while made.len() < tokens {
        let answer = answered(racers.any(0).exchange(&request).await)?;
        match answer.json()["login_token"].as_str() {
            Some(token) => made.push(token.to_owned()),
            None => bail!("no login token: {}", answer.json()),
        }
    }
    let requests = (0..WIDTH).map(|i| {
        let body = json!({ "type": "m.login.token", "token": made[i % made.len()] }).to_string();
        Message::request("POST", LOGIN, None, body.as_bytes())
    });
    let mut signed_in = 0;
    for (_, answer) in racers.race(requests.collect()).await? {
        let answer = answered(answer)?;
        match answer.status() {
            200 => signed_in += 1,
            403 => {}
            status => findings.violation(format!("I20 login token: {status} {}", answer.json())),
        }
    }
    findings.require(signed_in == 1, || format!("I20 a login token signed {signed_in} devices in"));
    Ok(())
}

/// 32 registrations, each with its own name and session, share one token.
async fn spend_registration_token(
    server: &Ligand,
    label: &str,
    uses: u32,
    findings: &mut Findings,
) -> Result<()> {
    let arguments = ["registration-token", "add", "--uses", &uses.to_string()];
    let printed = server.run(&arguments, "").await?;
    let token = String::from_utf8_lossy(&printed.stdout).trim().to_owned();
    let mut tasks = JoinSet::new();
    for i in 0..WIDTH {
        let (client, token, name) = (server.client(), token.clone(), format!("{label}x{i}"));
        tasks.spawn(register_with_token(client, name, token));
    }
    let mut registered = 0;
    while let Some(joined) = tasks.join_next().await {
        match joined?? {
            200 => registered += 1,
            401 => {}
            status => findings.violation(format!("I20 registration token: {status}")),
        }
    }
    findings.require(registered == 1, || format!("I20 a registration token made {registered} accounts"));
    Ok(())
}

/// Goes through all stages of the first flow; the status it ended with.
async fn register_with_token(mut client: Client, name: String, token: String) -> Result<u16> {
    let mut body = json!({ "username": name, "password": PASSWORD });
    let opened = answered(client.post(REGISTER, &body).await)?;
    let stages = opened.json()["flows"][0]["stages"].clone();
    let session = session_of(Ok(opened))?;
    let mut status = 401;
    for stage in stages.as_array().unwrap_or(&Vec::new()) {
        body["auth"] = json!({ "type": stage, "session": session });
        if stage == "m.login.registration_token" {
            body["auth"]["token"] = Value::from(token.clone());
        }
        // The queue for password hashes is full now and then.
        for _ in 0..20 {
            status = answered(client.post(REGISTER, &body).await)?.status();
            if status != 429 && status != 503 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
    }
    Ok(status)
}

fn answered(answer: Answer) -> Result<Message> {
    answer.map_err(|lost| anyhow::anyhow!("no answer: {lost:?}"))
}

/// The session of a 401 that asks for authentication.
fn session_of(answer: Answer) -> Result<String> {
    let answer = answered(answer)?;
    match (answer.status(), answer.json()["session"].as_str()) {
        (401, Some(session)) => Ok(session.to_owned()),
        (status, _) => bail!("no authentication session: {status} {}", answer.json()),
    }
}
