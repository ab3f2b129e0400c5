//! Data on the standard output: text, tables, JSON.

use std::io::{ErrorKind, Write};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;
use ligand_protocol::{NEVER, UnixMs};
use serde::Serialize;

/// Writes data to the standard output. A reader that went away (`| head`) is no failure.
pub fn data(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done.context("cannot write to the standard output"),
    }
}

/// Writes one value as indented JSON and a line break.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value).context("cannot write JSON")?;
    data(&format!("{text}\n"))
}

/// Writes rows below a heading, columns aligned. Nothing a stranger chose (a device's name) can
/// give the terminal orders: control characters are replaced.
pub fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> anyhow::Result<()> {
    let heading = heading.map(str::to_owned);
    let lines = std::iter::once(&heading).chain(rows);
    let lines: Vec<[String; N]> = lines.map(|row| row.clone().map(|cell| printable(&cell))).collect();
    let width = |column: usize| lines.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for row in &lines {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    data(&text)
}

/// Writes names and values, one below the other, aligned.
pub fn details(rows: &[(&str, String)]) -> anyhow::Result<()> {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| format!("{name:width$}  {}\n", printable(value));
    data(&rows.iter().map(line).collect::<String>())
}

/// A time for people: `2026-01-31T12:00:00Z`; `never` for [`NEVER`].
pub fn time(at: UnixMs) -> String {
    if at == NEVER {
        return "never".to_owned();
    }
    let since = Duration::from_millis(u64::try_from(at).unwrap_or(0));
    match UNIX_EPOCH.checked_add(since) {
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => at.to_string(),
    }
}

/// As [`time`], or `-` where there is none.
pub fn time_or_dash(at: Option<UnixMs>) -> String {
    at.map_or("-".to_owned(), time)
}

/// Time stamps in JSON: `null` instead of the number that stands for "never".
pub fn json_time(at: UnixMs) -> Option<UnixMs> {
    (at != NEVER).then_some(at)
}

fn printable(text: &str) -> String {
    // Besides control characters, those that turn the direction of what follows.
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let shown = |c: char| {
        if c.is_control() || turns(c) { '\u{fffd}' } else { c }
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_for_people() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(1_800_000_000_123), "2027-01-15T08:00:00Z");
        assert_eq!(time(NEVER), "never");
        assert_eq!(json_time(NEVER), None);
    }

    #[test]
    fn nothing_gives_the_terminal_orders() {
        assert_eq!(printable("a\u{1b}[2Jb\n\u{202e}c"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c");
        assert_eq!(printable("Élise’s 📱"), "Élise’s 📱");
    }
}
