//! F3: the k-th call to the file system fails, for every k of a short life from start to orderly
//! close, on an empty disk and on one with a log to recover; once as an I/O error, and three in a
//! row as a full disk.
//!
//! Every answer must be true. "Done" is there afterwards. An error has changed nothing, also if the
//! process dies or the power goes at that moment; only `Unknown` may have gone either way. The
//! store heals by itself, but for a failed sync, which it must report, since the process has to end
//! then. Control: a store that calls every error a success.
//! Not done here: failing memory allocations, because SQLite's allocator is one for the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow};
use futures_util::{StreamExt as _, TryStreamExt as _};
use ligand_protocol::session::{Door, EndReason, Session, Spending};
use ligand_storage::{Store, StoreOptions};

use super::disk::{Call, Disk, Image, Plan};
use super::medium::Survival;
use super::slot::{Op, Slot, end, opened, reseal, rotate};
use super::vfs::Mount;
use super::{DATABASE, Started, options};
use crate::context::{Context, Findings, Verdict};
use crate::rng::Rng;

/// Tries until a store must have healed; more than faults in a row.
const TRIES: usize = 5;
/// Every this many calls the control is tried.
const CONTROL_STEP: usize = 7;
/// Lives at a time.
const AT_ONCE: usize = 8;

/// Every k of each manner from each start, then the control.
pub async fn run(ctx: &Context) -> Result<Verdict> {
    println!("SKIPPED failing allocations in io-error: SQLite has one allocator for the whole process");
    let (mut real, mut control) = (Findings::default(), Findings::default());
    let mut tally = Tally::default();
    let empty = Start { image: Image::from([(DATABASE.to_owned(), Vec::new())]), slot: Slot::new(1) };
    let (calls_from_empty, killed) = empty.without_faults(ctx).await?;
    let (calls_from_log, _) = killed.without_faults(ctx).await?;
    for (start, calls) in [(&empty, calls_from_empty), (&killed, calls_from_log)] {
        let one = (1..=calls).map(|call| Plan::FailFrom { call, times: 1, full: false });
        let three = (1..=calls).map(|call| Plan::FailFrom { call, times: 3, full: true });
        for violation in start.each(ctx, one.chain(three), false, &mut tally).await? {
            real.violation(violation);
        }
    }
    real.count("calls from empty", calls_from_empty);
    real.count("with a log", calls_from_log);
    real.count("faults", tally.faults);
    real.count("errors answered", tally.errors);
    real.count("of these unknown", tally.unknown);
    real.count("failed syncs reported", tally.sync_failures);
    real.require(tally.errors > 0 && tally.sync_failures > 0, || "nothing was tested".to_owned());
    let some = (1..=calls_from_empty).step_by(CONTROL_STEP);
    let some = some.map(|call| Plan::FailFrom { call, times: 1, full: false });
    for violation in empty.each(ctx, some, true, &mut Tally::default()).await? {
        control.violation(violation);
    }
    Ok(real.judge(&control))
}

/// What a life begins with.
struct Start {
    image: Image,
    slot: Slot,
}

impl Start {
    /// How many calls a life without a fault makes, and what a kill at its end would leave.
    async fn without_faults(&self, ctx: &Context) -> Result<(u64, Self)> {
        let mut life = Life::new(ctx, self, Plan::Sound)?;
        let told = |violation: String| anyhow!("without any fault: {violation}");
        let store = life.open().await.map_err(told)?;
        life.script(&store, &mut Tally::default(), false).await?.map_err(told)?;
        let image = life.mount.disk.seen();
        store.close().await;
        Ok((life.mount.disk.calls(), Self { image, slot: life.slot }))
    }

    /// A life for each plan, several at a time, since each mostly waits for its own threads.
    async fn each(
        &self,
        ctx: &Context,
        plans: impl Iterator<Item = Plan>,
        lies: bool,
        tally: &mut Tally,
    ) -> Result<Vec<String>> {
        let lives = futures_util::stream::iter(plans).map(|plan| async move {
            let mut tally = Tally::default();
            let judged = Life::new(ctx, self, plan)?.live(&mut tally, lies).await?;
            anyhow::Ok((tally, judged.map_err(|violation| format!("{plan:?}: {violation}"))))
        });
        let mut lives = lives.buffer_unordered(AT_ONCE);
        let mut violations = Vec::new();
        while let Some((more, judged)) = lives.try_next().await? {
            tally.add(&more);
            violations.extend(judged.err());
        }
        Ok(violations)
    }
}

#[derive(Debug, Default)]
struct Tally {
    faults: usize,
    errors: usize,
    unknown: usize,
    sync_failures: usize,
}

impl Tally {
    fn add(&mut self, more: &Self) {
        self.faults += more.faults;
        self.errors += more.errors;
        self.unknown += more.unknown;
        self.sync_failures += more.sync_failures;
    }
}

/// A change of the script, made for the session that then lives.
type Step = fn(&Session, &mut Rng, i64) -> Op;

/// Before it comes the registration, or where there is a user already, a sign-in.
const SCRIPT: &[Step] = &[
    |live, rng, now| rotate(live, Spending::Head, Door::Refresh, rng, now),
    |live, _, now| Op::Acknowledge { session: live.id, now },
    |live, rng, now| rotate(live, Spending::Head, Door::Refresh, rng, now),
    reseal,
    |live, rng, now| rotate(live, Spending::Predecessor, Door::TokenRefresh, rng, now),
    |live, rng, now| rotate(live, Spending::Head, Door::TokenRefresh, rng, now),
    |_, rng, now| Op::SignIn(opened(rng, now)),
    |live, _, now| end(live, EndReason::Logout, now),
    |_, rng, now| Op::SignIn(opened(rng, now)),
    |_, _, now| Op::EndAll { now },
    |_, rng, now| Op::SignIn(opened(rng, now)),
    |live, rng, now| rotate(live, Spending::Head, Door::Refresh, rng, now),
];

/// One script on one disk.
struct Life {
    mount: Mount,
    options: StoreOptions,
    sync_reported: Arc<AtomicBool>,
    slot: Slot,
    rng: Rng,
}

/// Good, or what is wrong.
type Judged = Result<(), String>;

impl Life {
    fn new(ctx: &Context, start: &Start, plan: Plan) -> Result<Self> {
        let mount = Mount::new(Disk::new(start.image.clone(), plan, Duration::ZERO, ctx.rng(22)))?;
        let sync_reported = Arc::new(AtomicBool::new(false));
        let reported = sync_reported.clone();
        let mut options = options(&mount, "");
        options.on_sync_failure = Arc::new(move |_| reported.store(true, Ordering::Relaxed));
        options.readers = 1;
        // Another stream where there are sessions already: their ids came from the first.
        let rng = ctx.rng(30 + start.slot.sessions.len() as u64);
        Ok(Self { mount, options, sync_reported, slot: start.slot.clone(), rng })
    }

    /// Opens, runs the script, closes, audits. With `lies`, errors count as successes.
    async fn live(mut self, tally: &mut Tally, lies: bool) -> Result<Judged> {
        let store = match self.open().await {
            Ok(store) => store,
            Err(violation) => return Ok(Err(violation)),
        };
        let at_open = self.mount.disk.failed().len();
        let judged = self.script(&store, tally, lies).await?;
        let failed = self.mount.disk.failed();
        let sync_failed = failed[at_open..].contains(&Call::Sync);
        store.close().await;
        tally.faults += self.mount.disk.failed().len();
        if judged.is_err() {
            return Ok(judged);
        }
        let reported = self.sync_reported.load(Ordering::Relaxed);
        if sync_failed && !reported {
            return Ok(Err("a failed sync was not reported".to_owned()));
        }
        if reported {
            tally.sync_failures += 1;
            return Ok(Ok(()));
        }
        audit(&self.mount.disk.seen(), &[&self.slot], "after the close").await
    }

    async fn open(&self) -> Result<Store, String> {
        let mut last = String::new();
        for _ in 0..TRIES {
            match Store::open(&self.options).await {
                Ok(store) => return Ok(store),
                Err(error) => last = error.to_string(),
            }
        }
        Err(format!("it did not open in {TRIES} tries: {last}"))
    }

    async fn script(&mut self, store: &Store, tally: &mut Tally, lies: bool) -> Result<Judged> {
        for number in 0..=SCRIPT.len() {
            let op = self.op(number);
            let after = self.slot.after(&op);
            for tries in 1.. {
                let faults = self.mount.disk.failed().len();
                let answer = self.slot.apply(store, &op).await?;
                let mut or = None;
                match if lies { Ok(true) } else { answer } {
                    Ok(true) => self.slot = after.clone(),
                    Ok(false) => return Ok(Err(format!("step {number}: zero rows"))),
                    Err(error) => {
                        tally.errors += 1;
                        tally.unknown += usize::from(error.is_unknown());
                        or = error.is_unknown().then_some(&after);
                    }
                }
                let failed = &self.mount.disk.failed()[faults..];
                if !failed.is_empty() {
                    let judged = self.examine(or, failed, number).await?;
                    if judged.is_err() || self.sync_reported.load(Ordering::Relaxed) {
                        return Ok(judged);
                    }
                }
                if self.slot == after {
                    break;
                }
                if tries == TRIES {
                    return Ok(Err(format!("step {number}: not healed after {tries} tries")));
                }
            }
            if let Err(violation) = self.read_back(store).await {
                return Ok(Err(format!("step {number}: {violation}")));
            }
        }
        Ok(Ok(()))
    }

    fn op(&mut self, number: usize) -> Op {
        let now = 1_700_000_000_000 + number as i64 * 1_000;
        let step = number.checked_sub(1).and_then(|number| SCRIPT.get(number));
        match (step, self.slot.live()) {
            (Some(step), Some(live)) => step(live, &mut self.rng, now),
            (_, None) => self.slot.draw(&mut self.rng, now),
            (None, Some(_)) => Op::SignIn(opened(&mut self.rng, now)),
        }
    }

    /// Through the same store: the truth, or an error that passes.
    async fn read_back(&self, store: &Store) -> Judged {
        let mut last = String::new();
        for _ in 0..TRIES {
            match self.slot.read(store).await {
                Ok(found) if found == self.slot => return Ok(()),
                Ok(found) => return Err(format!("read back: {}", found.difference(&self.slot))),
                Err(error) => last = error.to_string(),
            }
        }
        Err(format!("not readable in {TRIES} tries: {last}"))
    }

    /// After a fault: were it the end of the process, or of the power, would the answer be true?
    async fn examine(&self, or: Option<&Slot>, failed: &[Call], number: usize) -> Result<Judged> {
        let mut expected = vec![&self.slot];
        expected.extend(or);
        let when = format!("step {number}, {failed:?} failed, process gone");
        let judged = audit(&self.mount.disk.seen(), &expected, &when).await?;
        if judged.is_err() {
            return Ok(judged);
        }
        let when = format!("step {number}, {failed:?} failed, power gone");
        audit(&self.mount.disk.after_cut(Survival::Nothing), &expected, &when).await
    }
}

/// Opens the image as a server would start on it; the rows must be one of those expected.
async fn audit(image: &Image, expected: &[&Slot], when: &str) -> Result<Judged> {
    let started = match Started::on(image).await? {
        Ok(started) => started,
        Err(violation) => return Ok(Err(format!("{when}: {violation}"))),
    };
    let Some(slot) = expected.first() else { return Ok(Ok(())) };
    let found = slot.read(&started.store).await?;
    started.store.close().await;
    if expected.contains(&&found) {
        return Ok(Ok(()));
    }
    Ok(Err(format!("{when}: a false answer: {}", found.difference(slot))))
}
