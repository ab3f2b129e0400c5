//! Logs on the standard error stream, for people or as JSON. A failed sign-in is one line of
//! target `ligand::security` with the address in it, for fail2ban.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{Log, LogFormat};

/// Sets the process's logger up. A second call changes nothing.
///
/// # Errors
/// When `level` is not one; the text names the mend.
pub fn init(log: &Log) -> Result<(), String> {
    let filter = EnvFilter::try_new(&log.level).map_err(|error| {
        format!(
            "log.level: {error}; write a level such as info, or targets such as info,ligand_storage=debug"
        )
    })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // Already set up, as in a test that starts two servers: one logger is enough.
    drop(match log.format {
        LogFormat::Human => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    });
    Ok(())
}
