//! A virtual client that lives on one device, mixes every call of a session,
//! retries as a careful client does, and keeps probing tokens that must be dead.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::audit::{Violation, audit};
use crate::client::{Client, Outcome, Pair, Token};
use crate::journal::{Call, Journal};
use crate::rng::Rng;

/// How many dead pairs and burnt tokens are kept for probing.
const GRAVES_MAX: usize = 4;

/// A user that workers sign in as.
#[derive(Clone, Debug)]
pub struct Account {
    /// Localpart.
    pub name: String,
    /// Password.
    pub password: String,
}

/// One device and the client on it.
#[derive(Debug)]
pub struct Worker {
    account: Account,
    device: String,
    client: Client,
    rng: Rng,
    /// Every call so far.
    pub journal: Journal,
    held: Option<Pair>,
    held_was_used: bool,
    /// The refresh token that the held pair was got with.
    parent: Option<Token>,
    /// Burnt at `/tokenrefresh`.
    burnt: VecDeque<Token>,
    /// Pairs of ended sessions.
    graves: VecDeque<Pair>,
    retry: Option<Call>,
    /// Whether the held session was asked to end and the answer was lost.
    ending: bool,
}

impl Worker {
    /// A client that has not signed in yet.
    pub fn new(addr: SocketAddr, account: Account, device: String, rng: Rng) -> Self {
        Self {
            account,
            device,
            client: Client::new(addr),
            rng,
            journal: Journal::default(),
            held: None,
            held_was_used: false,
            parent: None,
            burnt: VecDeque::new(),
            graves: VecDeque::new(),
            retry: None,
            ending: false,
        }
    }

    /// Connects elsewhere from now on (or anew to the same place).
    pub fn reconnect(&mut self, addr: SocketAddr) {
        self.client = Client::new(addr);
    }

    /// What the journal proves about the server.
    pub fn violations(&self) -> Vec<Violation> {
        audit(self.journal.entries())
    }

    /// The worker's own randomness, for pauses.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// One call, as the state and chance have it. `logout_chance` ends sessions:
    /// sign-in costs a password hash, so it must be rare.
    pub async fn step(&mut self, logout_chance: f64) -> Outcome {
        let call = self.next_call(logout_chance);
        self.call(call).await
    }

    /// After a restart: asks about everything that is known, live or dead.
    /// Returns false when the server went away meanwhile.
    pub async fn verify(&mut self) -> bool {
        if let Some(call) = self.retry.take() {
            self.call(call).await;
        }
        let mut calls = Vec::new();
        calls.extend(self.burnt.iter().cloned().map(Call::TokenRefresh));
        if let Some(parent) = &self.parent
            && self.held_was_used
        {
            calls.push(Call::Refresh(parent.clone()));
        }
        for grave in &self.graves {
            calls.push(Call::Use(grave.access.clone()));
            calls.push(Call::Refresh(grave.refresh.clone()));
        }
        if let Some(held) = &self.held {
            calls.push(Call::Use(held.access.clone()));
            calls.push(Call::Refresh(held.refresh.clone()));
        }
        for call in calls {
            if self.call(call).await.is_network() {
                return false;
            }
        }
        true
    }

    fn next_call(&mut self, logout_chance: f64) -> Call {
        if let Some(call) = self.retry.take() {
            return call;
        }
        let Some(held) = self.held.clone() else {
            return Call::Login;
        };
        if self.ending || self.rng.chance(logout_chance) {
            return Call::Logout(held.access);
        }
        match self.rng.below(100) {
            0..45 => Call::Use(held.access),
            45..70 => Call::Refresh(held.refresh),
            70..80 => Call::TokenRefresh(held.refresh),
            _ => self.probe().unwrap_or(Call::Use(held.access)),
        }
    }

    /// A question about a token that is not the newest.
    fn probe(&mut self) -> Option<Call> {
        let mut probes = Vec::new();
        if let Some(parent) = &self.parent {
            // Unused head: the same pair again. Used head: refused, softly.
            probes.push(Call::Refresh(parent.clone()));
            if self.held_was_used || self.rng.chance(0.2) {
                probes.push(Call::TokenRefresh(parent.clone()));
            }
        }
        probes.extend(self.burnt.iter().cloned().map(Call::TokenRefresh));
        for grave in &self.graves {
            probes.push(Call::Use(grave.access.clone()));
            probes.push(Call::Refresh(grave.refresh.clone()));
            probes.push(Call::TokenRefresh(grave.refresh.clone()));
        }
        (!probes.is_empty()).then(|| self.rng.pick(&probes).clone())
    }

    async fn call(&mut self, call: Call) -> Outcome {
        self.journal.intend(call.clone());
        let outcome = match &call {
            Call::Login => {
                let Account { name, password } = &self.account;
                self.client.login(name, password, &self.device).await
            }
            Call::Use(token) => self.client.whoami(token).await,
            Call::Refresh(token) => self.client.refresh(token).await,
            Call::TokenRefresh(token) => self.client.tokenrefresh(token).await,
            Call::Logout(token) => self.client.logout(token).await,
        };
        self.journal.settle(outcome.clone());
        self.learn(&call, &outcome);
        outcome
    }

    fn learn(&mut self, call: &Call, outcome: &Outcome) {
        match (call, outcome) {
            (Call::Login, Outcome::Pair(pair)) => {
                self.bury_held();
                self.hold(pair, None);
            }
            (Call::Refresh(_), Outcome::Pair(pair)) if self.held.as_ref() == Some(pair) => {}
            (Call::Refresh(token), Outcome::Pair(pair)) => self.hold(pair, Some(token.clone())),
            (Call::TokenRefresh(token), Outcome::Pair(pair)) => {
                remember(&mut self.burnt, token.clone());
                self.hold(pair, Some(token.clone()));
            }
            (Call::Use(token), Outcome::Done) if self.holds(token) => self.held_was_used = true,
            (Call::Logout(_), Outcome::Done) => self.bury_held(),
            (Call::Logout(_), Outcome::Lost | Outcome::Trouble(_)) => self.ending = true,
            (Call::Refresh(_) | Call::TokenRefresh(_), Outcome::Lost | Outcome::Trouble(_)) => {
                self.retry = Some(call.clone());
            }
            (
                Call::Use(token) | Call::Refresh(token) | Call::TokenRefresh(token) | Call::Logout(token),
                Outcome::Refused { .. },
            ) if self.holds(token) => self.bury_held(),
            _ => {}
        }
    }

    fn holds(&self, token: &Token) -> bool {
        self.held.as_ref().is_some_and(|held| held.access == *token || held.refresh == *token)
    }

    fn hold(&mut self, pair: &Pair, parent: Option<Token>) {
        self.held = Some(pair.clone());
        self.held_was_used = false;
        self.parent = parent;
    }

    fn bury_held(&mut self) {
        if let Some(held) = self.held.take() {
            remember(&mut self.graves, held);
        }
        self.held_was_used = false;
        self.parent = None;
        self.burnt.clear();
        self.ending = false;
        self.retry = None;
    }
}

fn remember<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == GRAVES_MAX {
        queue.pop_front();
    }
    queue.push_back(item);
}
