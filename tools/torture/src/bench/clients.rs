//! The clients of the load: checks, refreshes, refreshes each followed by a use, sign-ins.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::load::{Client, find};
use super::seed::{PASSWORD, Seeded, Text, localpart};
use crate::rng::Rng;

pub const USER_AGENT: &str = "torture-bench/1";
pub const WHOAMI: &str = "/_matrix/client/v3/account/whoami";
const REFRESH: &str = "/_matrix/client/v3/refresh";
const LOGIN: &str = "/_matrix/client/v3/login";

/// A request around one place where a token is put.
#[derive(Clone)]
struct Template {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Template {
    fn check() -> Self {
        Self {
            before: format!(
                "GET {WHOAMI} HTTP/1.1\r\nhost: localhost\r\nuser-agent: {USER_AGENT}\r\naccept: application/json\r\nauthorization: Bearer "
            )
            .into_bytes(),
            after: b"\r\n\r\n".to_vec(),
        }
    }

    fn refresh() -> Self {
        let (open, close) = ("{\"refresh_token\":\"", "\"}");
        let length = open.len() + std::mem::size_of::<Text>() + close.len();
        Self {
            before: format!(
                "POST {REFRESH} HTTP/1.1\r\nhost: localhost\r\nuser-agent: {USER_AGENT}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{open}"
            )
            .into_bytes(),
            after: close.as_bytes().to_vec(),
        }
    }

    fn fill(&self, token: &Text, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.before);
        out.extend_from_slice(token);
        out.extend_from_slice(&self.after);
    }
}

/// Asks whoami with a random one of these tokens each time.
pub struct Checks<'a> {
    template: Template,
    sessions: &'a [Seeded],
    rng: Rng,
}

impl<'a> Checks<'a> {
    pub fn several(connections: usize, sessions: &'a [Seeded], rng: &mut Rng) -> Vec<Self> {
        let template = Template::check();
        let stream = |at| Rng::new(rng.next(), at);
        let streams: Vec<Rng> = (0..connections as u64).map(stream).collect();
        let client = |rng| Self { template: template.clone(), sessions, rng };
        streams.into_iter().map(client).collect()
    }
}

impl Client for Checks<'_> {
    fn request(&mut self, out: &mut Vec<u8>) {
        let at = self.rng.below(self.sessions.len() as u64) as usize;
        self.template.fill(&self.sessions[at].access, out);
    }

    fn answer(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// Asks whoami with each of its tokens once, in order: to bring them into memory.
pub struct Walk<'a> {
    template: Template,
    sessions: &'a [Seeded],
    next: usize,
}

impl<'a> Walk<'a> {
    /// Clients that share the sessions, and how many answers each has to get for all of them.
    pub fn several(connections: usize, sessions: &'a [Seeded]) -> (Vec<Self>, u64) {
        let share = sessions.len() / connections;
        let client = |sessions| Self { template: Template::check(), sessions, next: 0 };
        (sessions.chunks_exact(share).take(connections).map(client).collect(), share as u64)
    }
}

impl Client for Walk<'_> {
    fn request(&mut self, out: &mut Vec<u8>) {
        self.template.fill(&self.sessions[self.next % self.sessions.len()].access, out);
    }

    fn answer(&mut self, _: &[u8]) -> Result<()> {
        self.next += 1;
        Ok(())
    }
}

/// Refreshes its own sessions in random order, each time with the newest token.
pub struct Refreshes {
    template: Template,
    check: Template,
    tokens: Vec<Text>,
    next: usize,
    /// Whether each refresh is followed by a check with the new access token.
    with_use: bool,
    /// The access token to use now.
    unused: Option<Text>,
    pause: Duration,
}

impl Refreshes {
    /// Clients that share the sessions.
    pub fn several(connections: usize, sessions: &[Seeded], rng: &mut Rng) -> Vec<Self> {
        let mut tokens: Vec<Text> = sessions.iter().map(|seeded| seeded.refresh).collect();
        rng.shuffle(&mut tokens);
        let share = tokens.len() / connections;
        let client = |tokens: &[Text]| Self {
            template: Template::refresh(),
            check: Template::check(),
            tokens: tokens.to_vec(),
            next: 0,
            with_use: false,
            unused: None,
            pause: Duration::ZERO,
        };
        tokens.chunks_exact(share).take(connections).map(client).collect()
    }

    /// Whether each refresh is followed by its use.
    pub fn with_use(&mut self, with_use: bool) {
        (self.with_use, self.unused) = (with_use, None);
    }

    pub fn pausing(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }
}

impl Client for Refreshes {
    fn request(&mut self, out: &mut Vec<u8>) {
        match &self.unused {
            Some(access) => self.check.fill(access, out),
            None => self.template.fill(&self.tokens[self.next], out),
        }
    }

    fn answer(&mut self, body: &[u8]) -> Result<()> {
        if self.unused.take().is_some() {
            return Ok(());
        }
        self.tokens[self.next] = token_in(body, b"\"refresh_token\":\"")?;
        if self.with_use {
            self.unused = Some(token_in(body, b"\"access_token\":\"")?);
        }
        self.next = (self.next + 1) % self.tokens.len();
        Ok(())
    }

    fn pause(&self) -> Duration {
        self.pause
    }
}

/// A session that was refreshed often and sessions that never were, by turns.
pub struct OldAndNew {
    turns: [Refreshes; 2],
    turn: usize,
}

impl OldAndNew {
    pub fn new(old: Refreshes, new: Refreshes) -> Self {
        Self { turns: [old, new], turn: 0 }
    }
}

impl Client for OldAndNew {
    fn request(&mut self, out: &mut Vec<u8>) {
        self.turns[self.turn].request(out);
    }

    fn answer(&mut self, body: &[u8]) -> Result<()> {
        self.turns[self.turn].answer(body)?;
        self.turn = 1 - self.turn;
        Ok(())
    }
}

fn token_in(body: &[u8], name: &[u8]) -> Result<Text> {
    let from = find(body, name).context("no token in an answer")? + name.len();
    let text = body.get(from..from + std::mem::size_of::<Text>());
    Ok(text.context("a token is cut off")?.try_into()?)
}

/// Signs in as one of the seeded accounts, again and again on one device.
pub struct SignIns {
    request: Vec<u8>,
    pause: Duration,
}

impl SignIns {
    /// One account for each.
    pub fn several(connections: usize) -> Vec<Self> {
        (0..connections).map(Self::new).collect()
    }

    pub fn pausing(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    fn new(user: usize) -> Self {
        let name = localpart(user);
        let body = format!(
            "{{\"type\":\"m.login.password\",\"identifier\":{{\"type\":\"m.id.user\",\"user\":\"{name}\"}},\"password\":\"{PASSWORD}\",\"device_id\":\"SIGNIN\",\"refresh_token\":true}}"
        );
        let request = format!(
            "POST {LOGIN} HTTP/1.1\r\nhost: localhost\r\nuser-agent: {USER_AGENT}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Self { request: request.into_bytes(), pause: Duration::ZERO }
    }
}

impl Client for SignIns {
    fn request(&mut self, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.request);
    }

    fn answer(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn pause(&self) -> Duration {
        self.pause
    }

    /// A full queue of passwords is said so.
    fn may_be(&self, status: u16) -> bool {
        status == 429
    }
}
