//! F2, a power cut on SQLite: the store works on a disk that keeps only what was synced and loses,
//! tears or reorders the rest, and the power goes at any write or sync, in recovery, migration and
//! checkpoint too. What had been acknowledged must be there at the next start, whole; what had not
//! may be there or not, whole as well.
//!
//! A chain of lives: each goes on from the image that the last cut left, and that image is audited
//! on SQLite's own file system in between. Control: `synchronous=NORMAL`, which must lose some.
//! The moment of a cut comes from the seed; what the threads had reached by then does not.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use ligand_storage::{Store, StoreOptions};
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::context::{Context, Findings, Verdict};
use crate::rng::Rng;
use disk::{Disk, Image, Plan};
use slot::Slot;
use vfs::Mount;

mod disk;
pub mod io_error;
mod locks;
mod medium;
mod slot;
mod vfs;

const DATABASE: &str = "ligand.db";
/// Users, each with a task of its own, so that commits are shared.
const SLOTS: i64 = 8;
/// Calls of each task until the store is closed and opened again.
const CALLS: u64 = 25;
/// Lives that follow one another on one disk.
const CHAIN: u64 = 10;
/// Changes of the disk in a life: beyond its start, and within it.
const CHANGES_MAX: u64 = 500;
const START_CHANGES: u64 = 40;
const SYNC_TIME: Duration = Duration::from_micros(100);
const CONTROL_CUTS: u64 = 30;

/// FULL as shipped, then NORMAL.
pub async fn run(ctx: &Context) -> Result<Verdict> {
    let real = trial(ctx, ctx.cycles(200, 2_000), "").await?;
    let control = trial(ctx, CONTROL_CUTS, "&synchronous=normal").await?;
    Ok(real.judge(&control))
}

/// What the lives add up to.
#[derive(Debug, Default)]
struct Tally {
    acknowledged: AtomicU64,
    unanswered: AtomicU64,
    survived: AtomicU64,
    checkpoints: AtomicU64,
    commits: AtomicU64,
    batches: AtomicU64,
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// A slot with what its last, unanswered call may have made of it.
#[derive(Debug)]
struct Client {
    slot: Slot,
    unanswered: Option<Slot>,
    rng: Rng,
    now: i64,
}

async fn trial(ctx: &Context, cuts: u64, settings: &'static str) -> Result<Findings> {
    let mut findings = Findings::default();
    let tally = Arc::new(Tally::default());
    let mut rng = ctx.rng(20);
    let mut done = 0;
    while done < cuts {
        let (mut image, mut clients) = beginning(&mut rng);
        for _ in 0..CHAIN.min(cuts - done) {
            done += 1;
            let life = Life { settings, tally: tally.clone() };
            (image, clients) = life.live(image, clients, &mut rng, &mut findings).await?;
            let audited = audit(&image, &mut clients, &tally).await?;
            if let Err(violation) = audited {
                findings.violation(violation);
                break;
            }
        }
    }
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    findings.count("cuts", done);
    findings.count("acknowledged", read(&tally.acknowledged));
    findings.count("cut short", read(&tally.unanswered));
    findings.count("of these kept", read(&tally.survived));
    findings.count("commits", read(&tally.commits));
    findings.count("of batches", read(&tally.batches));
    findings.count("checkpoints", read(&tally.checkpoints));
    let tested = read(&tally.acknowledged) > done
        && read(&tally.checkpoints) > 0
        && read(&tally.batches) > read(&tally.commits);
    findings.require(tested || done < CHAIN, || "nothing was tested".to_owned());
    Ok(findings)
}

/// An empty disk (with the empty file that the store makes), and nobody on it.
fn beginning(rng: &mut Rng) -> (Image, Vec<Client>) {
    let image = Image::from([(DATABASE.to_owned(), Vec::new())]);
    let client = |number| Client {
        slot: Slot::new(number),
        unanswered: None,
        rng: Rng::new(rng.next(), number as u64),
        now: 1_700_000_000_000,
    };
    (image, (1..=SLOTS).map(client).collect())
}

/// A store for as long as the power is on.
struct Life {
    settings: &'static str,
    tally: Arc<Tally>,
}

impl Life {
    /// Works until the power goes; what the disk holds then, and the clients.
    async fn live(
        &self,
        image: Image,
        mut clients: Vec<Client>,
        rng: &mut Rng,
        findings: &mut Findings,
    ) -> Result<(Image, Vec<Client>)> {
        let changes_max = if rng.chance(0.25) { START_CHANGES } else { CHANGES_MAX };
        let plan = Plan::CutAt(rng.between(1, changes_max));
        let mount = Mount::new(Disk::new(image, plan, SYNC_TIME, Rng::new(rng.next(), 0)))?;
        let disk = mount.disk.clone();
        let options = options(&mount, self.settings);
        while !disk.is_cut() {
            let store = match Store::open(&options).await {
                Ok(store) => store,
                Err(_) if disk.is_cut() => break,
                Err(error) => bail!("opening before the cut: {error}"),
            };
            let checkpoints = self.checkpoint_beside(&mount, Rng::new(rng.next(), 1));
            let mut tasks = JoinSet::new();
            for client in clients.drain(..) {
                tasks.spawn(work(client, store.clone(), disk.clone(), self.tally.clone()));
            }
            while let Some(joined) = tasks.join_next().await {
                let (client, trouble) = joined??;
                clients.push(client);
                trouble.into_iter().for_each(|trouble| findings.violation(trouble));
            }
            checkpoints.stop().await?;
            add(&self.tally.commits, store.stats().commits);
            add(&self.tally.batches, store.stats().batches);
            store.close().await;
        }
        Ok((disk.after_cut(disk.fate()), clients))
    }

    /// Checkpoints of every kind at random moments, as a long life would bring them.
    fn checkpoint_beside(&self, mount: &Mount, mut rng: Rng) -> Checkpoints {
        let stop = Arc::new(AtomicBool::new(false));
        let (path, settings) = (mount.path(DATABASE), self.settings);
        let (stopped, tally) = (stop.clone(), self.tally.clone());
        let synchronous = if settings.is_empty() { "full" } else { "normal" };
        let task = tokio::task::spawn_blocking(move || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let Ok(connection) = Connection::open_with_flags_and_vfs(path, flags, vfs::NAME) else { return };
            let settings = format!("pragma synchronous = {synchronous}; pragma busy_timeout = 20");
            if connection.execute_batch(&settings).is_err() {
                return;
            }
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_micros(rng.below(6_000)));
                let kind = *rng.pick(&["passive", "passive", "restart", "truncate"]);
                let sql = format!("pragma wal_checkpoint({kind})");
                let done = connection.query_row(&sql, [], |row| row.get::<_, i64>(0));
                add(&tally.checkpoints, u64::from(matches!(done, Ok(0))));
            }
        });
        Checkpoints { stop, task }
    }
}

struct Checkpoints {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Checkpoints {
    async fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.task.await?)
    }
}

fn options(mount: &Mount, settings: &str) -> StoreOptions {
    let path = mount.path(DATABASE);
    let vfs = vfs::NAME.to_string_lossy();
    let mut options = StoreOptions::new(format!("sqlite:{}?vfs={vfs}{settings}", path.display()));
    // The process of a server would end here; ours has other disks.
    options.on_sync_failure = Arc::new(|_| {});
    options
}

/// One client's calls until the power goes, or enough of them. Trouble before the cut is told.
async fn work(
    mut client: Client,
    store: Store,
    disk: Arc<Disk>,
    tally: Arc<Tally>,
) -> Result<(Client, Option<String>)> {
    for _ in 0..CALLS {
        client.now += 1_000;
        let op = client.slot.draw(&mut client.rng, client.now);
        let after = client.slot.after(&op);
        match client.slot.apply(&store, &op).await? {
            Ok(true) => {
                add(&tally.acknowledged, 1);
                client.slot = after;
            }
            Ok(false) => return Ok((client, Some(format!("zero rows for a lawful {op:?}")))),
            Err(_) if disk.is_cut() => {
                add(&tally.unanswered, 1);
                client.unanswered = Some(after);
                break;
            }
            Err(error) => return Ok((client, Some(format!("trouble before the cut: {error}")))),
        }
    }
    Ok((client, None))
}

/// Opens the image as a server would start on it, and compares every client's rows.
async fn audit(image: &Image, clients: &mut [Client], tally: &Tally) -> Result<Result<(), String>> {
    let started = match Started::on(image).await? {
        Ok(started) => started,
        Err(violation) => return Ok(Err(violation)),
    };
    let mut verdict = Ok(());
    for client in clients.iter_mut() {
        let found = client.slot.read(&started.store).await?;
        let unanswered = client.unanswered.take();
        if found == client.slot {
            continue;
        }
        if unanswered.as_ref() == Some(&found) {
            add(&tally.survived, 1);
            client.slot = found;
            continue;
        }
        let difference = found.difference(&client.slot);
        verdict = verdict.and(Err(format!("I4/I12 an acknowledged change is lost or torn: {difference}")));
    }
    started.store.close().await;
    Ok(verdict)
}

/// A store on the files that were left, through SQLite's own file system.
struct Started {
    store: Store,
    _folder: TempDir,
}

impl Started {
    /// Starts as a server does; else what is wrong with the files.
    async fn on(image: &Image) -> Result<Result<Self, String>> {
        // Copies need not survive anything, so they may lie in memory.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }?;
        disk::write_image(image, folder.path())?;
        let url = format!("sqlite:{}", folder.path().join(DATABASE).display());
        let store = match Store::open(&StoreOptions { readers: 1, ..StoreOptions::new(url) }).await {
            Ok(store) => store,
            Err(error) => return Ok(Err(format!("it does not start: {error}"))),
        };
        match store.integrity_check().await?.first() {
            Some(problem) => Ok(Err(format!("integrity_check: {problem}"))),
            None => Ok(Ok(Self { store, _folder: folder })),
        }
    }
}
