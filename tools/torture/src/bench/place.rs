//! Who runs where: processes and threads on cores of their own, and the CPU time that a process
//! has used. A child inherits the cores of the thread that starts it, so a server counts the cores
//! it has, sizes its threads by them, and none of its threads is anywhere else.

use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The core of what is measured: the server, or for PostgreSQL the database.
pub const MEASURED: usize = 0;
/// The core of the load.
pub const LOAD: usize = 1;

/// `USER_HZ`: Linux counts CPU time for user space in hundredths of a second on every machine.
const TICKS_PER_SECOND: u32 = 100;

/// True where there are two cores to tell apart.
pub fn two_cores() -> bool {
    std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2)
}

/// Keeps the calling thread on one core while `work` runs. On a machine with one core nothing can
/// be kept apart, and the work runs where it is.
pub fn on_core<T>(core: usize, work: impl FnOnce() -> T) -> Result<T> {
    if !two_cores() {
        return Ok(work());
    }
    let before = sched_getaffinity(None)?;
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only).with_context(|| format!("cannot keep a thread on core {core}"))?;
    let done = work();
    sched_setaffinity(None, &before)?;
    Ok(done)
}

/// Starts a process that stays on one core.
pub fn spawn_on(core: usize, command: &mut Command) -> Result<Child> {
    let name = format!("{command:?}");
    on_core(core, || command.spawn())?.with_context(|| format!("starting {name}"))
}

/// User and system time of a process since its start.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything; fields 14 and 15 count from before it.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u32 = ticks.filter_map(|field| field.parse::<u32>().ok()).sum();
    Ok(Duration::from_secs(1) * ticks / TICKS_PER_SECOND)
}
