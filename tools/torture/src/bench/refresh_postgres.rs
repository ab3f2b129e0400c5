//! Refresh on PostgreSQL, beside pgbench doing the same update on the same table with as many
//! connections as our pool has. The database has one core; Ligand and its load, or pgbench, the
//! other.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use ligand_storage::testing::ROTATE;
use tokio::runtime::Runtime;
use tokio_postgres::NoTls;

use super::Bench;
use super::clients::{Refreshes, USER_AGENT};
use super::figure::{Figure, Reach, alternate};
use super::installation::Installation;
use super::load::{Until, drive};
use super::place::{self, LOAD, MEASURED};
use super::refresh_sqlite::{CONNECTIONS, SESSIONS};
use super::seed::{self, Heads};
use crate::cluster::Cluster;
use crate::database::{Database, Engine};

/// The default of `database.pool_size`.
const POOL: usize = 16;

pub fn run(bench: &mut Bench) -> Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The database inherits the core of the thread that starts it.
    let cluster = match &bench.postgres {
        Some(_) => None,
        None => place::on_core(MEASURED, || runtime.block_on(Cluster::start()))??,
    };
    let own = cluster.as_ref().map(Cluster::admin_url);
    let pinned = own.is_some();
    let Some(admin) = bench.postgres.clone().or(own) else {
        println!("SKIPPED refresh on PostgreSQL: it is neither given nor installed");
        return Ok(Vec::new());
    };
    let count = bench.scaled(SESSIONS);
    let engine = Engine::Postgres(admin);
    let label = |side: &str| format!("bench_{side}_{}", std::process::id());
    let ours = runtime.block_on(Database::create(&engine, &label("ours")))?;
    let theirs = runtime.block_on(Database::create(&engine, &label("pgbench")))?;
    let figures = measure(bench, &runtime, [&ours.url(), &theirs.url()], count);
    runtime.block_on(ours.remove())?;
    runtime.block_on(theirs.remove())?;
    let mut figures = figures?;
    if !pinned {
        let note = "the database was not on a core of its own";
        figures = figures.into_iter().map(|figure| figure.noting(note)).collect();
    }
    Ok(figures)
}

fn measure(bench: &mut Bench, runtime: &Runtime, urls: [&str; 2], count: usize) -> Result<Vec<Figure>> {
    let [ours, theirs] = urls;
    let installation = Installation::create(&bench.ligand, Some(ours.to_owned()))?;
    let seeded = seed::mint(count, &installation.keys(), &mut bench.rng);
    fill(runtime, ours, &seeded, bench)?;
    // Only for its schema; pgbench works on it alone.
    let other = Installation::create(&bench.ligand, Some(theirs.to_owned()))?;
    fill(runtime, theirs, &seeded, bench)?;
    let pgbench = PgBench::prepare(runtime, theirs, count, other)?;
    let server = installation.start(Some(LOAD))?;
    let mut refreshes = Refreshes::several(CONNECTIONS, &seeded, &mut bench.rng);
    let until = Until::Time(bench.round);
    let rounds = alternate(
        bench.rounds,
        || drive(server.target(), &mut refreshes, until),
        || pgbench.run(bench.round.as_secs().max(1)),
    )?;
    let rates: Vec<_> = rounds.iter().map(|(ours, pgbench)| (ours.rate(), *pgbench)).collect();
    let p99: Vec<_> = rounds.iter().map(|(ours, _)| ours.quantile_ms(0.99)).collect();
    let cpu: Vec<_> = rounds.iter().map(|(ours, _)| ours.cpu_us()).collect();
    let what =
        format!("refresh, PostgreSQL, {CONNECTIONS} connections, {count} sessions, beside pgbench -c {POOL}");
    Ok(vec![
        Figure::beside(what, "1/s", &rates, Some(Reach::AtLeast(0.70))),
        Figure::alone("refresh, PostgreSQL, p99", "ms", &p99, None),
        Figure::alone("CPU time of a refresh, PostgreSQL (Ligand's part)", "µs", &cpu, None),
    ])
}

fn fill(runtime: &Runtime, url: &str, seeded: &[seed::Seeded], bench: &mut Bench) -> Result<()> {
    with_client(runtime, url, async |client| {
        seed::postgres(client, seeded, Heads::Unacknowledged, &mut bench.rng).await
    })
}

fn with_client(
    runtime: &Runtime,
    url: &str,
    work: impl AsyncFnOnce(&tokio_postgres::Client) -> Result<()>,
) -> Result<()> {
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        let connection = tokio::spawn(connection);
        work(&client).await?;
        drop(client);
        Ok(connection.await??)
    })
}

/// pgbench with a script made of the server's own statement.
struct PgBench {
    url: String,
    script: tempfile::NamedTempFile,
    /// Keeps the folder until the end.
    _installation: Installation,
}

impl PgBench {
    /// pgbench has numbers to choose rows by, but no bytes: every row gets an id that it can make
    /// of a number. All rows share one hash, which the update checks and writes again.
    fn prepare(runtime: &Runtime, url: &str, count: usize, installation: Installation) -> Result<Self> {
        with_client(runtime, url, async |client| {
            client
                .batch_execute(&format!(
                    "with numbered as (select session_id, row_number() over () as n from sessions)
                     update sessions set session_id = {}, rt_hash = '{}' from numbered
                     where sessions.session_id = numbered.session_id",
                    id_of("n"),
                    hash('a'),
                ))
                .await?;
            client.batch_execute("vacuum full analyze sessions").await?;
            Ok(client.batch_execute("checkpoint").await?)
        })?;
        let script = tempfile::Builder::new().prefix("torture-bench-").suffix(".sql").tempfile()?;
        std::fs::write(script.path(), format!("\\set n random(1, {count})\n{};\n", statement()))?;
        Ok(Self { url: url.to_owned(), script, _installation: installation })
    }

    /// Updates per second.
    fn run(&self, seconds: u64) -> Result<f64> {
        let mut command = Command::new("pgbench");
        command.args([
            "-n",
            "-M",
            "prepared",
            "-j",
            "1",
            "-c",
            &POOL.to_string(),
            "-T",
            &seconds.to_string(),
        ]);
        for (name, value) in variables() {
            command.args(["-D", &format!("{name}={value}")]);
        }
        command.arg("-f").arg(self.script.path()).arg(&self.url);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = place::spawn_on(LOAD, &mut command)?.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("pgbench ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        rate.with_context(|| format!("no rate in what pgbench said: {text}"))
    }
}

fn id_of(number: &str) -> String {
    format!("decode(md5(cast({number} as text)), 'hex')")
}

fn hash(digit: char) -> String {
    format!("\\x{}", String::from(digit).repeat(64))
}

/// The parameters of the statement that pgbench sends as variables.
fn variables() -> [(&'static str, String); 8] {
    let now = seed::now_ms();
    [
        ("rt", hash('a')),
        ("at", hash('b')),
        ("sealed", format!("\\x{}", "c".repeat(208))),
        ("now", now.to_string()),
        ("rt_exp", i64::MAX.to_string()),
        ("at_exp", (now + 3_600_000).to_string()),
        ("ip", "127.0.0.1".to_owned()),
        ("agent", USER_AGENT.to_owned()),
    ]
}

/// The server's statement, with a variable where it has a parameter.
fn statement() -> String {
    let id = id_of("cast(:n as bigint)");
    let parameters = [
        id.as_str(),
        ":rt",
        "null",
        "0",
        "cast(:now as bigint)",
        ":sealed",
        ":rt",
        ":at",
        ":rt_exp",
        ":at_exp",
        "0",
        "0",
        ":ip",
        ":agent",
    ];
    let mut sql = ROTATE.to_owned();
    // From the last, so that $1 is not taken for the beginning of $10.
    for (at, parameter) in parameters.iter().enumerate().rev() {
        sql = sql.replace(&format!("${}", at + 1), parameter);
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_parameter_is_left() {
        assert!(!statement().contains('$'));
        assert!(statement().contains("user_agent = :agent"));
    }
}
