//! F9, linearizability: several clients refresh, use and end one session at once, over HTTP and on
//! both engines, some with their connection cut before the answer. Whatever they were told must be
//! what the state machine says in *some* order of the calls, each at one moment between its
//! beginning and its end.
//!
//! Control: the same recorder and the same checker on a server of our own ([`Double`]) whose rotate
//! lacks `AND rt_hash = $2`; it must be caught in less than 1,000 calls. With the statement as
//! shipped the same server must pass.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures_util::{StreamExt as _, TryStreamExt as _};
use ligand_protocol::session::Session;
use ligand_protocol::token::{Presented, TagKeys, TokenKind};
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinSet;

use crate::client::{Client, LOGOUT, Outcome, Pair, REFRESH, TOKENREFRESH, WHOAMI};
use crate::context::{Context, Findings, Verdict};
use crate::crew::AUDITED;
use crate::database::Engine;
use crate::journal::Call;
use crate::rng::Rng;
use crate::wire::Message;
use double::Double;
use history::{Answer, History, Recorder};

mod double;
mod history;
mod spec;

const CLIENTS: usize = 4;
/// Calls of each client; a history has at most 4 × as many.
const CALLS: usize = 24;
/// Histories at a time.
const AT_ONCE: usize = 4;
/// Chance that a client hangs up before its answer, and how soon.
const CUT: f64 = 0.06;
const CUT_AFTER_MAX: Duration = Duration::from_millis(4);
/// In a row: the session has ended, and the rest says nothing new.
const REFUSALS_MAX: u32 = 6;
/// The access token before the head lives this long at least, so that time decides nothing.
const TAKES_MAX: Duration = Duration::from_secs(25);
/// The control must be caught within so many calls.
const CONTROL_CALLS_MAX: usize = 1_000;
/// Histories of the double with its guard.
const GUARDED_HISTORIES: i64 = 10;
/// Events shown of a history that fails.
const TOLD_EVENTS: usize = 24;
const SECRET: &str = "a long enough secret";

/// Both engines, then the double with and without its guard.
pub async fn run(ctx: &Context) -> Result<Verdict> {
    let histories = ctx.cycles(200, 20_000);
    let mut real = Findings::default();
    for engine in ctx.engines() {
        let share = histories / ctx.engines().len() as u64;
        real.absorb(engine.name(), over_http(ctx, &engine, share).await?);
    }
    let guarded = Arc::new(Double::start(true).await?);
    real.absorb("the double, guarded", on_double(ctx, &guarded, false).await?);
    let unguarded = Arc::new(Double::start(false).await?);
    let control = on_double(ctx, &unguarded, true).await?;
    Ok(real.judge(&control))
}

async fn over_http(ctx: &Context, engine: &Engine, histories: u64) -> Result<Findings> {
    let (database, mut server) = ctx.server(engine, AUDITED).await?;
    let account = server.add_user("linear", SECRET).await?;
    let keys = ligand_server::keys::token_keys(&server.data_folder())?;
    let lives = futures_util::stream::iter(0..histories).map(|number| {
        let (account, keys, addr) = (account.clone(), keys.clone(), server.addr());
        let mut rng = ctx.rng(40 + number);
        async move {
            let device = format!("DEVICE{number}");
            let mut client = Client::new(addr);
            let pair = match client.login(&account.name, &account.password, &device).await {
                Outcome::Pair(pair) => pair,
                other => bail!("sign-in: {other:?}"),
            };
            let targets = (0..CLIENTS).map(|_| Target::Http(Box::new(Client::new(addr)))).collect();
            trial(targets, pair, &keys, &mut rng).await
        }
    });
    let mut findings = Findings::default();
    let mut tally = Tally::default();
    let mut lives = lives.buffer_unordered(AT_ONCE);
    while let Some(judged) = lives.try_next().await? {
        tally.add(judged, &mut findings);
    }
    drop(lives);
    tally.tell(&mut findings);
    server.kill().await?;
    database.remove().await?;
    Ok(findings)
}

/// A fixed number of histories; or until one is caught, or too many calls were made.
async fn on_double(ctx: &Context, double: &Arc<Double>, control: bool) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut tally = Tally::default();
    for number in 1.. {
        let enough = match control {
            true => !findings.violations().is_empty() || tally.calls >= CONTROL_CALLS_MAX,
            false => number > GUARDED_HISTORIES,
        };
        if enough {
            break;
        }
        let pair = double.sign_in(number).await?;
        let targets = (0..CLIENTS).map(|_| Target::Double(double.clone())).collect();
        let mut rng = ctx.rng(30 + number as u64);
        tally.add(trial(targets, pair, &Double::keys(), &mut rng).await?, &mut findings);
    }
    tally.tell(&mut findings);
    Ok(findings)
}

#[derive(Debug, Default)]
struct Tally {
    histories: usize,
    calls: usize,
    lost: usize,
    slow: usize,
}

impl Tally {
    fn add(&mut self, judged: Judged, findings: &mut Findings) {
        self.histories += 1;
        self.calls += judged.calls;
        self.lost += judged.lost;
        self.slow += usize::from(judged.slow);
        if let Some(violation) = judged.violation {
            findings.violation(format!("after {} calls: {violation}", self.calls));
        }
    }

    fn tell(&self, findings: &mut Findings) {
        findings.count("histories", self.histories);
        findings.count("calls", self.calls);
        findings.count("without an answer", self.lost);
        findings.count("too slow to judge", self.slow);
        let tested = self.slow * 10 <= self.histories;
        findings.require(tested, || "most histories were too slow to judge".to_owned());
    }
}

/// One history, judged.
#[derive(Debug, Default)]
struct Judged {
    calls: usize,
    lost: usize,
    slow: bool,
    violation: Option<String>,
}

/// Whom a client asks.
enum Target {
    Http(Box<Client>),
    Double(Arc<Double>),
}

async fn trial(targets: Vec<Target>, pair: Pair, keys: &TagKeys, rng: &mut Rng) -> Result<Judged> {
    let first = spec::first(&pair, keys)?;
    let known = Arc::new(Mutex::new(Known { pairs: vec![(1, pair)] }));
    let recorder = Recorder::default();
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, target) in targets.into_iter().enumerate() {
        let client = Asker {
            number,
            target,
            recorder: recorder.clone(),
            known: known.clone(),
            keys: keys.clone(),
            rng: Rng::new(rng.next(), number as u64),
        };
        tasks.spawn(client.live());
    }
    while let Some(joined) = tasks.join_next().await {
        joined??;
    }
    let history = recorder.history();
    let lost = history.ops.iter().filter(|op| op.answer == Answer::Lost).count();
    let mut judged = Judged { calls: history.ops.len(), lost, ..Judged::default() };
    if started.elapsed() > TAKES_MAX {
        judged.slow = true;
        return Ok(judged);
    }
    let keys = keys.clone();
    let judging = tokio::task::spawn_blocking(move || judge(&first, &keys, &history));
    judged.violation = judging.await??;
    Ok(judged)
}

/// What is wrong with a history, if anything.
fn judge(first: &Session, keys: &TagKeys, history: &History) -> Result<Option<String>> {
    let explains = |history: &History| spec::is_linearizable(first, keys, history);
    if explains(history)? {
        return Ok(None);
    }
    // A beginning of a linearizable history is linearizable, so halving finds the event.
    let (mut good, mut bad) = (0, history.events.len());
    while bad - good > 1 {
        let middle = usize::midpoint(good, bad);
        match explains(&history.until(middle))? {
            true => good = middle,
            false => bad = middle,
        }
    }
    let tail = history.until(bad).tail(TOLD_EVENTS);
    Ok(Some(format!("no order of {bad} events explains the last answer\n{tail}")))
}

/// Pairs that any client of the session has learnt, with their generation.
#[derive(Debug)]
struct Known {
    pairs: Vec<(u32, Pair)>,
}

impl Known {
    /// The pair so many generations behind the newest, or the oldest there is.
    fn behind(&self, generations: usize) -> Pair {
        let at = self.pairs.len().saturating_sub(generations + 1);
        self.pairs[at].1.clone()
    }

    fn learn(&mut self, generation: u32, pair: &Pair) {
        let at = self.pairs.partition_point(|(known, _)| *known <= generation);
        if !self.pairs.iter().any(|(_, known)| known == pair) {
            self.pairs.insert(at, (generation, pair.clone()));
        }
    }
}

/// One client of the session.
struct Asker {
    number: usize,
    target: Target,
    recorder: Recorder,
    known: Arc<Mutex<Known>>,
    keys: TagKeys,
    rng: Rng,
}

impl Asker {
    async fn live(mut self) -> Result<()> {
        let mut refusals = 0;
        for _ in 0..CALLS {
            let call = self.draw();
            let number = self.recorder.begin(self.number, call.clone());
            let answer = self.ask(&call).await?;
            self.recorder.end(number, answer.clone());
            refusals = if matches!(answer, Answer::Refused { .. }) { refusals + 1 } else { 0 };
            if let Answer::Pair(pair) = &answer {
                let parsed = Presented::parse(TokenKind::Refresh, &pair.refresh, &self.keys);
                let generation = parsed.context("a token with a bad tag")?.generation;
                self.known.lock().learn(generation, pair);
            }
            if refusals > REFUSALS_MAX {
                break;
            }
        }
        Ok(())
    }

    /// A call with a token that is mostly, but not always, the newest.
    fn draw(&mut self) -> Call {
        let rng = &mut self.rng;
        let behind = match rng.below(100) {
            0..68 => 0,
            68..92 => 1,
            92..97 => 2,
            _ => 3,
        };
        let known = self.known.lock();
        let pair = known.behind(behind);
        match rng.below(100) {
            0..1 => Call::Logout(pair.access),
            1..40 => Call::Use(pair.access),
            40..82 => Call::Refresh(pair.refresh),
            _ => Call::TokenRefresh(pair.refresh),
        }
    }

    async fn ask(&mut self, call: &Call) -> Result<Answer> {
        let client = match &mut self.target {
            Target::Http(client) => client,
            Target::Double(double) => return double.answer(call).await,
        };
        let request = request(call)?;
        if !self.rng.chance(CUT) {
            return Ok(Answer::of(client.exchange(&request).await));
        }
        let after = Duration::from_micros(self.rng.below(CUT_AFTER_MAX.as_micros() as u64));
        let answer = tokio::time::timeout(after, client.exchange(&request)).await;
        Ok(answer.map_or(Answer::Lost, Answer::of))
    }
}

fn request(call: &Call) -> Result<Message> {
    let body = |token: &str| json!({ "refresh_token": token }).to_string();
    Ok(match call {
        Call::Refresh(token) => Message::request("POST", REFRESH, None, body(token).as_bytes()),
        Call::TokenRefresh(token) => Message::request("POST", TOKENREFRESH, None, body(token).as_bytes()),
        Call::Use(token) => Message::request("GET", WHOAMI, Some(token), b""),
        Call::Logout(token) => Message::request("POST", LOGOUT, Some(token), b""),
        Call::Login => bail!("a history is of one session"),
    })
}
