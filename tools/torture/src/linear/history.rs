//! A history: what several clients asked about one session at the same time, when each call began
//! and ended relative to the others, and what was answered.

use std::fmt;
use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use parking_lot::Mutex;

use crate::client::{Outcome, Pair, outcome};
use crate::journal::{Call, short};
use crate::wire::Message;

/// What came back.
#[derive(Clone, PartialEq, Eq)]
pub enum Answer {
    /// 200 with a pair.
    Pair(Pair),
    /// 200 without.
    Done,
    /// Refused with this status and `soft_logout`.
    Refused { status: u16, soft: bool },
    /// Nothing, or our own trouble: it took effect once after its beginning, or never.
    Lost,
    /// What no rule allows.
    Odd(String),
}

impl Answer {
    /// Reads an HTTP answer, or its absence.
    pub fn of(answer: Result<Message, Outcome>) -> Self {
        let soft = answer.as_ref().is_ok_and(|message| message.json()["soft_logout"] == true);
        match outcome(answer) {
            Outcome::Pair(pair) => Self::Pair(pair),
            Outcome::Done => Self::Done,
            Outcome::Refused { status, .. } => Self::Refused { status, soft },
            Outcome::Trouble(503) | Outcome::Lost | Outcome::NotSent => Self::Lost,
            odd @ (Outcome::Trouble(_) | Outcome::Odd(_)) => Self::Odd(format!("{odd:?}")),
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pair(pair) => write!(f, "{} {}", named(&pair.access), named(&pair.refresh)),
            Self::Done => f.write_str("200"),
            Self::Refused { status, soft } => write!(f, "{status} soft_logout {soft}"),
            Self::Lost => f.write_str("no answer"),
            Self::Odd(what) => f.write_str(what),
        }
    }
}

/// A call of one client.
#[derive(Clone, Debug)]
pub struct Op {
    pub client: usize,
    pub call: Call,
    pub answer: Answer,
}

/// A moment, with the number of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Begin(usize),
    End(usize),
}

/// Calls and the order of their beginnings and ends.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub ops: Vec<Op>,
    pub events: Vec<Event>,
}

impl History {
    /// The same history as it was known after so many events.
    pub fn until(&self, events: usize) -> Self {
        let events = self.events[..events].to_vec();
        let ended = |op| events.contains(&Event::End(op));
        let ops = self.ops.iter().enumerate().map(|(number, op)| match ended(number) {
            true => op.clone(),
            false => Op { answer: Answer::Lost, ..op.clone() },
        });
        Self { ops: ops.collect(), events }
    }

    /// Its last events, for people.
    pub fn tail(&self, events: usize) -> String {
        let first = self.events.len().saturating_sub(events);
        let lines = self.events[first..].iter().map(|event| match *event {
            Event::Begin(op) => format!("    {}: {}", self.ops[op].client, brief(&self.ops[op].call)),
            Event::End(op) => {
                let Op { client, call, answer } = &self.ops[op];
                format!("    {client}: {} -> {answer:?}", brief(call))
            }
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn brief(call: &Call) -> String {
    match call {
        Call::Login => "login".to_owned(),
        Call::Use(token) => format!("use {}", named(token)),
        Call::Refresh(token) => format!("refresh {}", named(token)),
        Call::TokenRefresh(token) => format!("tokenrefresh {}", named(token)),
        Call::Logout(token) => format!("logout {}", named(token)),
    }
}

/// A token by its kind, its generation (which it tells without any key) and its last characters.
fn named(token: &str) -> String {
    let (prefix, encoded) = token.split_once('_').unwrap_or(("", token));
    let raw = BASE64URL_NOPAD.decode(encoded.as_bytes()).unwrap_or_default();
    let generation = raw.get(16..20).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
    format!("{prefix}{generation}({})", short(token))
}

/// Writes a history down while it happens. A beginning is written before the request leaves, an
/// end after its answer has come, so that two calls that overlap here may not have overlapped
/// there, but never the other way round.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<History>>);

impl Recorder {
    /// A call begins; its number.
    pub fn begin(&self, client: usize, call: Call) -> usize {
        let mut history = self.0.lock();
        let number = history.ops.len();
        history.ops.push(Op { client, call, answer: Answer::Lost });
        history.events.push(Event::Begin(number));
        number
    }

    /// Its answer is there. A lost one never ends.
    pub fn end(&self, number: usize, answer: Answer) {
        if answer == Answer::Lost {
            return;
        }
        let mut history = self.0.lock();
        history.ops[number].answer = answer;
        history.events.push(Event::End(number));
    }

    /// What was written.
    pub fn history(&self) -> History {
        self.0.lock().clone()
    }
}
