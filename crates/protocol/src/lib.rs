//! What the specifications demand, as pure values: tokens, the session state machine, passwords,
//! user-interactive auth, names and limits.
//!
//! Nothing here reads a clock, draws randomness, does I/O, or knows a database, HTTP or JSON: the
//! current time and fresh secrets are arguments, decisions are return values. `storage` keeps the
//! rows these rules judge; `server` turns the verdicts into answers.

pub mod ids;
pub mod limits;
pub mod password;
pub mod registration;
pub mod seal;
pub mod session;
pub mod token;
pub mod uia;
pub mod validation;

/// Milliseconds since the Unix epoch, UTC.
pub type UnixMs = i64;

/// "No limit", stored as it is: an expiry that never comes.
pub const NEVER: UnixMs = i64::MAX;

/// `now + lifetime_ms`, where no lifetime means [`NEVER`] and nothing overflows.
#[must_use]
pub fn expiry(now: UnixMs, lifetime_ms: Option<i64>) -> UnixMs {
    lifetime_ms.map_or(NEVER, |lifetime| now.saturating_add(lifetime))
}
