//! Refresh on SQLite at `synchronous=FULL`, beside the engine doing the same statement on the same
//! schema in groups of 64, one commit each, with nothing of ours around it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use ligand_storage::testing::ROTATE;
use rusqlite::{Connection, Statement, TransactionBehavior, params};

use super::clients::Refreshes;
use super::figure::{Figure, Reach, alternate, median};
use super::installation::{Installation, Server};
use super::load::{Counted, Until, drive};
use super::place::{self, MEASURED};
use super::seed::{self, Heads, Seeded};
use super::{Bench, clients};
use crate::rng::Rng;

pub const SESSIONS: usize = 100_000;
pub const CONNECTIONS: usize = 64;
/// Rotations in one commit of the engine alone: as many as can wait for ours.
const GROUP: usize = CONNECTIONS;

pub fn run(bench: &mut Bench) -> Result<Vec<Figure>> {
    let count = bench.scaled(SESSIONS);
    let mut side = Side::create(bench, count)?;
    let until = Until::Time(bench.round);
    let rounds = alternate(
        bench.rounds,
        || drive(side.server.target(), &mut side.refreshes, until),
        || side.engine.run(bench.round),
    )?;
    let rates: Vec<_> = rounds.iter().map(|(ours, engine)| (ours.rate(), engine.rate)).collect();
    let commit_p99 = median(rounds.iter().map(|(_, engine)| engine.commit_p99_ms));
    let p99: Vec<_> = rounds.iter().map(|(ours, _)| ours.quantile_ms(0.99)).collect();
    let cpu: Vec<_> = rounds.iter().map(|(ours, _)| ours.cpu_us()).collect();
    let load = median(rounds.iter().map(|(ours, _)| ours.server_load()));
    let mut figures = vec![
        Figure::beside(
            format!("refresh, SQLite FULL, {CONNECTIONS} connections, {count} sessions, beside the engine's grouped rate"),
            "1/s",
            &rates,
            Some(Reach::AtLeast(0.40)),
        )
        .noting(format!("server busy {:.0} %", load * 100.0)),
        Figure::alone("refresh, SQLite FULL, p99", "ms", &p99, Some(Reach::AtMost(10.0)))
            .noting(format!("the engine's own commits of {GROUP}: p99 {commit_p99:.1} ms")),
        Figure::alone("CPU time of a refresh, SQLite", "µs", &cpu, None),
    ];
    for client in &mut side.refreshes {
        client.with_use(true);
    }
    let mut cycles = Vec::new();
    for _ in 0..bench.rounds {
        // Two answers make one cycle.
        cycles.push(drive(side.server.target(), &mut side.refreshes, until)?.rate() / 2.0);
    }
    figures.push(Figure::alone(
        "refresh and first use of the new access token, SQLite FULL",
        "1/s",
        &cycles,
        None,
    ));
    Ok(figures)
}

/// A server with its load, and the engine alone on a database like it on the same disk.
pub struct Side {
    pub server: Server,
    pub refreshes: Vec<Refreshes>,
    pub engine: EngineAlone,
    _installation: Installation,
    _copy: tempfile::TempDir,
}

impl Side {
    pub fn create(bench: &mut Bench, sessions: usize) -> Result<Self> {
        let installation = Installation::create(&bench.ligand, None)?;
        let seeded = seed::mint(sessions, &installation.keys(), &mut bench.rng);
        seed::sqlite(&installation.file(), &seeded, Heads::Unacknowledged, &mut bench.rng)?;
        let folder = tempfile::Builder::new().prefix("torture-bench-").tempdir()?;
        let copy = folder.path().join("engine.db");
        std::fs::copy(installation.file(), &copy)?;
        std::fs::File::open(&copy)?.sync_all()?;
        let engine = EngineAlone::open(&copy, &seeded, Rng::new(bench.rng.next(), 0))?;
        Ok(Self {
            server: installation.start(Some(MEASURED))?,
            refreshes: Refreshes::several(CONNECTIONS, &seeded, &mut bench.rng),
            engine,
            _installation: installation,
            _copy: folder,
        })
    }
}

/// What the engine did by itself.
pub struct Alone {
    /// Rotations per second.
    pub rate: f64,
    commit_p99_ms: f64,
}

/// The engine with a connection set up as the server's writer, except that it checkpoints by
/// itself, as SQLite does by default.
pub struct EngineAlone {
    connection: Connection,
    /// Id and hash of the newest refresh token, in the random order of the work.
    heads: Vec<([u8; 16], [u8; 32])>,
    next: usize,
    rng: Rng,
}

impl EngineAlone {
    fn open(file: &Path, seeded: &[Seeded], mut rng: Rng) -> Result<Self> {
        let connection = Connection::open(file)?;
        connection.query_row("pragma journal_mode = wal", [], |_| Ok(()))?;
        connection
            .execute_batch("pragma synchronous = full; pragma fullfsync = on; pragma secure_delete = fast")?;
        let mut heads: Vec<_> = seeded.iter().map(|seeded| (seeded.id.0, seeded.refresh_hash.0)).collect();
        rng.shuffle(&mut heads);
        Ok(Self { connection, heads, next: 0, rng })
    }

    /// Works on the core of what is measured.
    pub fn run(&mut self, time: Duration) -> Result<Alone> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| place::on_core(MEASURED, || self.rotate_for(time))?);
            thread.join().unwrap_or_else(|_| bail!("the engine has panicked"))
        })
    }

    fn rotate_for(&mut self, time: Duration) -> Result<Alone> {
        let Self { connection, heads, next, rng } = self;
        let sql = ROTATE.replace('$', "?");
        let began = Instant::now();
        let mut commits = Counted::default();
        while began.elapsed() < time {
            let started = Instant::now();
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut statement = transaction.prepare_cached(&sql)?;
                for _ in 0..GROUP {
                    rotate(&mut statement, &mut heads[*next], rng)?;
                    *next = (*next + 1) % heads.len();
                }
            }
            transaction.commit()?;
            commits.latencies.push(started.elapsed().as_micros().try_into().unwrap_or(u32::MAX));
        }
        let rotations = commits.latencies.len() * GROUP;
        Ok(Alone {
            rate: rotations as f64 / began.elapsed().as_secs_f64(),
            commit_p99_ms: commits.quantile_ms(0.99),
        })
    }
}

fn rotate(statement: &mut Statement<'_>, head: &mut ([u8; 16], [u8; 32]), rng: &mut Rng) -> Result<()> {
    const HOUR_MS: i64 = 60 * 60 * 1_000;
    let now = seed::now_ms();
    let new: [u8; 32] = seed::bytes(rng);
    let (sealed, access): ([u8; 104], [u8; 32]) = (seed::bytes(rng), seed::bytes(rng));
    let generation: i64 = statement.query_row(
        params![
            head.0,
            head.1,
            None::<&str>,
            0,
            now,
            sealed,
            new,
            access,
            i64::MAX,
            now + HOUR_MS,
            0,
            0,
            "127.0.0.1",
            clients::USER_AGENT
        ],
        |row| row.get(0),
    )?;
    debug_assert!(generation > 1);
    head.1 = new;
    Ok(())
}
