//! F12: a sign-in as a user that does not exist, with a wrong password, to a
//! locked and to a deactivated account: same status, same body, same time. Time
//! is judged by the difference of the means and by how well one class can be told
//! from the other at all (AUC); the classes take turns in random order.
//!
//! Control: a proxy that refuses unknown users without the work.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::client::{Client, LOGIN, login_body};
use crate::context::{Context, Findings, Verdict};
use crate::database::Engine;
use crate::proxy::{Faults, Proxy};
use crate::rng::Rng;
use crate::stats::{auc, trimmed_mean_ms};
use crate::tamper::Tamper;

const PASSWORD: &str = "a long enough secret";
const WRONG: &str = "another long secret";
/// Prefix of names that nobody has.
const NOBODY: &str = "nobody";
/// Other work on the machine stretches the slowest answers of any class.
const CUT: f64 = 0.1;
const MEAN_DIFFERENCE_MS_MAX: f64 = 1.0;
const AUC_DISTANCE_MAX: f64 = 0.05;
/// So few samples leave the AUC one third of its band as standard error; a class
/// that falls outside is measured again with this many times as many.
const SECOND_LOOK: u64 = 4;
/// Fewer tries are a control's, whose difference is gross.
const SECOND_LOOK_MIN: u64 = 100;

/// The server, then the control.
pub async fn run(ctx: &Context) -> Result<Verdict> {
    let tries = ctx.cycles(300, 2_000);
    let real = trial(ctx, tries, Tamper::Honest).await?;
    let control = trial(ctx, 40, Tamper::QuickRefusal(NOBODY.to_owned())).await?;
    Ok(real.judge(&control))
}

/// A class of sign-in that must fail like every other.
struct Class {
    label: &'static str,
    /// Existing name; none for a new name each time.
    name: Option<&'static str>,
    times_ms: Vec<f64>,
}

impl Class {
    fn new(label: &'static str, name: Option<&'static str>) -> Self {
        Self { label, name, times_ms: Vec::new() }
    }
}

async fn trial(ctx: &Context, tries: u64, tamper: Tamper) -> Result<Findings> {
    let mut findings = Findings::default();
    let (database, mut server) = ctx.server(&Engine::Sqlite, &[]).await?;
    let mut classes = vec![Class::new("unknown", None), Class::new("wrong", Some("somebody"))];
    server.add_user("somebody", PASSWORD).await?;
    for (label, verb) in [("locked", "lock"), ("deactivated", "deactivate")] {
        server.add_user(label, PASSWORD).await?;
        let mut arguments = vec!["user", verb, label];
        if verb == "deactivate" {
            arguments.push("--yes");
        }
        server.run(&arguments, "").await?;
        classes.push(Class::new(label, Some(label)));
    }
    let proxy = Proxy::start(server.addr(), Faults::default(), tamper, ctx.rng(8)).await?;
    let mut attacker = Attacker { client: Client::new(proxy.addr()), rng: ctx.rng(9), refusal: None };
    attacker.warm_up(&mut classes, &mut findings).await?;
    attacker.measure(&mut classes, tries, &mut findings).await?;
    if tries >= SECOND_LOOK_MIN && classes.iter().any(|c| told(c, &classes[0]).is_some()) {
        let more = tries * (SECOND_LOOK - 1);
        attacker.measure(&mut classes, more, &mut findings).await?;
        findings.count("second look", "yes");
    }
    findings.count("tries of each", classes[0].times_ms.len());
    for class in &classes {
        let mean = trimmed_mean_ms(&class.times_ms, CUT);
        findings.count(class.label, format!("{mean:.2} ms"));
    }
    for class in &classes[1..] {
        let area = auc(&classes[0].times_ms, &class.times_ms);
        findings.count("AUC", format!("{area:.3}"));
        if let Some(how) = told(class, &classes[0]) {
            findings.violation(format!("{} can be told from unknown: {how}", class.label));
        }
    }
    server.kill().await?;
    database.remove().await?;
    Ok(findings)
}

/// How the class differs from unknown users, if it does.
fn told(class: &Class, unknown: &Class) -> Option<String> {
    let area = auc(&unknown.times_ms, &class.times_ms);
    let mean = |class: &Class| trimmed_mean_ms(&class.times_ms, CUT);
    let difference = mean(class) - mean(unknown);
    let far = (area - 0.5).abs() > AUC_DISTANCE_MAX;
    let slow = difference.abs() > MEAN_DIFFERENCE_MS_MAX;
    (class.label != unknown.label && (far || slow))
        .then(|| format!("AUC {area:.3}, means differ by {difference:.2} ms"))
}

struct Attacker {
    client: Client,
    rng: Rng,
    /// Status and body of the first refusal; all must be the same.
    refusal: Option<(u16, Vec<u8>)>,
}

impl Attacker {
    async fn warm_up(&mut self, classes: &mut [Class], findings: &mut Findings) -> Result<()> {
        self.measure(classes, 5, findings).await?;
        classes.iter_mut().for_each(|class| class.times_ms.clear());
        Ok(())
    }

    /// So many tries of each class, in turns of random order.
    async fn measure(&mut self, classes: &mut [Class], tries: u64, findings: &mut Findings) -> Result<()> {
        let mut order: Vec<usize> = (0..classes.len()).collect();
        for _ in 0..tries {
            self.rng.shuffle(&mut order);
            for &at in &order {
                let class = &mut classes[at];
                let name = match class.name {
                    Some(name) => name.to_owned(),
                    None => format!("{NOBODY}{}", &self.rng.word()[..4]),
                };
                let took = self.attempt(&name, class.label, findings).await?;
                class.times_ms.push(took);
            }
        }
        Ok(())
    }

    async fn attempt(&mut self, name: &str, label: &str, findings: &mut Findings) -> Result<f64> {
        let body = login_body(name, WRONG, "DEVICE");
        let started = Instant::now();
        let Ok(answer) = self.client.post(LOGIN, &body).await else {
            bail!("a sign-in was not answered");
        };
        let took = started.elapsed().as_secs_f64() * 1e3;
        let refusal = (answer.status(), answer.body);
        match &self.refusal {
            None => self.refusal = Some(refusal),
            Some(first) => findings.require(*first == refusal, || {
                let body = String::from_utf8_lossy(&refusal.1).into_owned();
                format!("{label} is answered otherwise: {} {body}", refusal.0)
            }),
        }
        Ok(took)
    }
}
