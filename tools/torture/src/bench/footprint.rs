//! Memory, start, size.

use std::time::Duration;

use anyhow::Result;

use super::Bench;
use super::clients::SignIns;
use super::figure::{Figure, Reach};
use super::growth::{MANY, walk, with_sessions};
use super::installation::{Installation, Server};
use super::load::{Until, drive};
use super::seed::{self, Heads};

const SIGN_INS: usize = 64;
/// After a start or a load, until memory is read.
const SETTLE: Duration = Duration::from_secs(2);

/// Resident memory.
pub fn memory(bench: &mut Bench) -> Result<Vec<Figure>> {
    let installation = Installation::create(&bench.ligand, None)?.without_limits();
    seed::sqlite(&installation.file(), &[], Heads::Acknowledged, &mut bench.rng)?;
    let server = installation.start(None)?;
    let settled = |server: &Server| {
        std::thread::sleep(SETTLE);
        server.resident_mib()
    };
    let idle = settled(&server)?;
    let mut sign_ins = SignIns::several(SIGN_INS);
    drive(server.target(), &mut sign_ins, Until::Answers(1))?;
    let after = settled(&server)?;
    drop(server);
    let (_installation, server, sessions) = with_sessions(bench, bench.scaled(MANY), None)?;
    walk(&server, &sessions)?;
    let full = server.resident_mib()?;
    let what = format!("memory with {} live sessions, each just checked", sessions.len());
    Ok(vec![
        Figure::alone("memory, idle", "MiB", &[idle], Some(Reach::AtMost(40.0))),
        Figure::alone(
            format!("memory after {SIGN_INS} sign-ins at once"),
            "MiB",
            &[after],
            Some(Reach::AtMost(120.0)),
        ),
        Figure::alone(what, "MiB", &[full], Some(Reach::AtMost(400.0))),
    ])
}

/// From the start of the process to the first 200 on `/health`.
pub fn start(bench: &mut Bench) -> Result<Vec<Figure>> {
    let mut empty = Vec::new();
    for _ in 0..bench.rounds {
        let installation = Installation::create(&bench.ligand, None)?;
        // The very first start, which makes the database.
        std::fs::remove_file(installation.file())?;
        empty.push(installation.start(None)?.started_in.as_secs_f64());
    }
    let (installation, server, sessions) = with_sessions(bench, bench.scaled(MANY), None)?;
    drop(server);
    let mut full = Vec::new();
    for _ in 0..bench.rounds {
        full.push(installation.start(None)?.started_in.as_secs_f64());
    }
    let what = format!("start with {} sessions, to the first 200", sessions.len());
    Ok(vec![
        Figure::alone("first start, to the first 200 on /health", "s", &empty, Some(Reach::AtMost(0.1))),
        Figure::alone(what, "s", &full, Some(Reach::AtMost(3.0))),
    ])
}

/// Of the binary as it stands; the release profile strips it.
pub fn size(bench: &mut Bench) -> Result<Vec<Figure>> {
    let megabytes = std::fs::metadata(&bench.ligand)?.len() as f64 / 1e6;
    Ok(vec![Figure::alone("size of the binary", "MB", &[megabytes], Some(Reach::AtMost(25.0)))])
}
