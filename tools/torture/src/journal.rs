//! What a virtual client did and learnt: one entry per call, written down as
//! intent before the request leaves and settled when the answer is there.
//!
//! The server is the process that dies in these runs, so the memory of this one
//! is durable enough; an entry never settled stays [`Outcome::Lost`].

use crate::client::{Outcome, Token};

/// A call about one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Sign-in on the device.
    Login,
    /// An authenticated request with this access token.
    Use(Token),
    /// `/refresh` with this refresh token.
    Refresh(Token),
    /// `/tokenrefresh` with this refresh token.
    TokenRefresh(Token),
    /// `/logout` with this access token.
    Logout(Token),
}

/// One call and what came of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What was asked.
    pub call: Call,
    /// What was answered.
    pub outcome: Outcome,
}

/// The calls of one device, in order. They must not overlap: the auditor
/// concludes from an answer that the next call came after it.
#[derive(Debug, Default)]
pub struct Journal {
    entries: Vec<Entry>,
}

impl Journal {
    /// Writes the intent.
    pub fn intend(&mut self, call: Call) {
        self.entries.push(Entry { call, outcome: Outcome::Lost });
    }

    /// Writes the answer to the newest intent.
    pub fn settle(&mut self, outcome: Outcome) {
        if let Some(entry) = self.entries.last_mut() {
            entry.outcome = outcome;
        }
    }

    /// Every entry, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The last entries up to `index`, tokens cut short, for a report.
    pub fn excerpt(&self, index: usize) -> String {
        let first = index.saturating_sub(11);
        let lines = self.entries.iter().enumerate().take(index + 1).skip(first);
        lines.map(|(i, e)| format!("    {i}: {}", describe(e))).collect::<Vec<_>>().join("\n")
    }
}

fn describe(entry: &Entry) -> String {
    let call = match &entry.call {
        Call::Login => "login".to_owned(),
        Call::Use(t) => format!("use {}", short(t)),
        Call::Refresh(t) => format!("refresh {}", short(t)),
        Call::TokenRefresh(t) => format!("tokenrefresh {}", short(t)),
        Call::Logout(t) => format!("logout {}", short(t)),
    };
    let outcome = match &entry.outcome {
        Outcome::Pair(p) => format!("pair {} {}", short(&p.access), short(&p.refresh)),
        other => format!("{other:?}"),
    };
    format!("{call} -> {outcome}")
}

/// The last characters of a token: enough to tell two apart in a report.
pub fn short(token: &str) -> &str {
    token.get(token.len().saturating_sub(8)..).unwrap_or(token)
}
