//! The auditor: replays the journal of one device against the invariants of
//! session rotation and ending, and says which answer broke which.
//!
//! It knows the rules only, never the server. After a lost answer it is unsure
//! of whatever the request may have done, and claims nothing about it until a
//! later answer settles it. Assumes that access tokens outlive the run and that
//! the leeway for reuse does too, so that neither clock decides an answer.
//! Concurrent calls on one token are the business of other runs.

use std::collections::HashMap;

use crate::client::{Outcome, Pair, Token};
use crate::journal::{Call, Entry};

/// An answer that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Number of the invariant.
    pub rule: &'static str,
    /// Index of the entry in the journal.
    pub index: usize,
    /// What was wrong, for people.
    pub what: &'static str,
}

/// Every violation in a journal, oldest first.
pub fn audit(entries: &[Entry]) -> Vec<Violation> {
    let mut auditor = Auditor::default();
    for entry in entries {
        auditor.observe(entry);
    }
    auditor.violations
}

/// What is known of a token, apart from its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Live,
    Unsure,
    /// With the invariant that forbids it to work again.
    Dead(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Access,
    Refresh,
}

/// A pair of one session, in the tree of who begot whom.
#[derive(Clone, Debug)]
struct Node {
    session: usize,
    parent: Option<usize>,
    /// The successor minted at `/refresh`, with its text for comparison.
    successor: Option<(usize, Pair)>,
    access: Life,
    refresh: Life,
}

#[derive(Debug, Default)]
struct Auditor {
    /// For each session: is it ended?
    sessions: Vec<Life>,
    nodes: Vec<Node>,
    tokens: HashMap<Token, (usize, Kind)>,
    violations: Vec<Violation>,
    index: usize,
}

/// How an answer bears on the token that was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Accepted,
    Refused,
    Unknown,
}

impl Auditor {
    fn observe(&mut self, entry: &Entry) {
        self.check_shape(entry);
        if entry.outcome != Outcome::NotSent {
            match &entry.call {
                Call::Login => self.login(&entry.outcome),
                Call::Use(token) => self.used(token, &entry.outcome),
                Call::Refresh(token) => self.refreshed(token, &entry.outcome),
                Call::TokenRefresh(token) => self.token_refreshed(token, &entry.outcome),
                Call::Logout(token) => self.logged_out(token, &entry.outcome),
            }
        }
        self.index += 1;
    }

    fn blame(&mut self, rule: &'static str, what: &'static str) {
        let index = self.index;
        self.violations.push(Violation { rule, index, what });
    }

    /// Statuses that no state of the session excuses.
    fn check_shape(&mut self, entry: &Entry) {
        let refusal_wanted = match entry.call {
            Call::TokenRefresh(_) => (403, "M_FORBIDDEN"),
            _ => (401, "M_UNKNOWN_TOKEN"),
        };
        match (&entry.call, &entry.outcome) {
            (_, Outcome::Odd(_)) => self.blame("I18", "a status that no rule allows"),
            (Call::Login, Outcome::Refused { .. }) => {
                self.blame("I6", "sign-in on the device was refused");
            }
            (Call::Login | Call::Refresh(_) | Call::TokenRefresh(_), Outcome::Done)
            | (Call::Use(_) | Call::Logout(_), Outcome::Pair(_)) => {
                self.blame("I18", "200 with the wrong body");
            }
            (Call::Login, _) => {}
            (_, Outcome::Trouble(429)) => self.blame("I18", "429 away from sign-in"),
            (_, Outcome::Refused { status, errcode }) if (*status, errcode.as_str()) != refusal_wanted => {
                self.blame("I19", "refused with the wrong status or code");
            }
            _ => {}
        }
    }

    fn login(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Pair(pair) => {
                self.sessions.fill(Life::Dead("I15"));
                self.sessions.push(Life::Live);
                let session = self.sessions.len() - 1;
                self.mint(session, None, pair);
            }
            Outcome::Lost | Outcome::Trouble(503) => self.sessions.iter_mut().for_each(doubt),
            _ => {}
        }
    }

    fn used(&mut self, token: &Token, outcome: &Outcome) {
        let Some((node, verdict)) = self.judge(token, Kind::Access, outcome) else {
            return;
        };
        let Some(parent) = self.nodes[node].parent else {
            return;
        };
        match verdict {
            Verdict::Accepted => {
                bury(&mut self.nodes[parent].refresh, "I7");
                // It may go on for thirty seconds.
                doubt(&mut self.nodes[parent].access);
            }
            Verdict::Unknown => self.doubt_node(parent),
            Verdict::Refused => {}
        }
    }

    fn refreshed(&mut self, token: &Token, outcome: &Outcome) {
        let was_spent = self.is_spent(token);
        let Some((node, verdict)) = self.judge(token, Kind::Refresh, outcome) else {
            return;
        };
        let parent = self.nodes[node].parent;
        match (verdict, outcome) {
            (Verdict::Accepted, Outcome::Pair(pair)) => {
                if let Some(parent) = parent {
                    self.bury_node(parent, "I7");
                }
                self.succeed(node, pair);
            }
            (Verdict::Unknown, _) => {
                if let Some(parent) = parent {
                    self.doubt_node(parent);
                }
            }
            _ => {}
        }
        // A token two generations back or older ends its session when it is
        // presented here, except within the leeway; do not rely on either.
        if was_spent && self.depth(node) >= 2 {
            let session = self.nodes[node].session;
            doubt(&mut self.sessions[session]);
        }
    }

    fn token_refreshed(&mut self, token: &Token, outcome: &Outcome) {
        let Some((node, verdict)) = self.judge(token, Kind::Refresh, outcome) else {
            return;
        };
        let successor = self.nodes[node].successor.as_ref().map(|s| s.0);
        let kin = [self.nodes[node].parent, successor, Some(node)];
        match (verdict, outcome) {
            (Verdict::Accepted, Outcome::Pair(pair)) => {
                for kin in kin.into_iter().flatten() {
                    self.bury_node(kin, "I3");
                }
                self.mint(self.nodes[node].session, Some(node), pair);
            }
            (Verdict::Unknown, _) => {
                for kin in kin.into_iter().flatten() {
                    self.doubt_node(kin);
                }
            }
            _ => {}
        }
    }

    fn logged_out(&mut self, token: &Token, outcome: &Outcome) {
        let Some((node, verdict)) = self.judge(token, Kind::Access, outcome) else {
            return;
        };
        let session = &mut self.sessions[self.nodes[node].session];
        match verdict {
            Verdict::Accepted => bury(session, "I11"),
            Verdict::Unknown => doubt(session),
            Verdict::Refused => {}
        }
    }

    /// Compares an answer with what is known of the presented token, and learns
    /// from it. `None` when the answer says nothing.
    fn judge(&mut self, token: &Token, kind: Kind, outcome: &Outcome) -> Option<(usize, Verdict)> {
        let &(node, known_kind) = self.tokens.get(token)?;
        debug_assert_eq!(kind, known_kind);
        let session = self.nodes[node].session;
        let (life, family) = (*self.life(node, kind), self.sessions[session]);
        let verdict = match outcome {
            Outcome::Pair(_) | Outcome::Done => Verdict::Accepted,
            Outcome::Refused { .. } => Verdict::Refused,
            _ => Verdict::Unknown,
        };
        match (verdict, life, family) {
            (Verdict::Accepted, Life::Dead(rule), _) | (Verdict::Accepted, _, Life::Dead(rule)) => {
                self.blame(rule, "a dead token works");
            }
            (Verdict::Refused, Life::Live, Life::Live) => match kind {
                Kind::Access => self.blame("I4", "an acknowledged access token is lost"),
                Kind::Refresh => self.blame("I5", "an acknowledged refresh token is lost"),
            },
            // Only an ending can have killed it.
            (Verdict::Refused, Life::Live, Life::Unsure) => {
                self.sessions[session] = Life::Dead("I12");
            }
            _ => {}
        }
        if verdict == Verdict::Refused {
            bury(self.life(node, kind), "I12");
        }
        Some((node, verdict))
    }

    fn life(&mut self, node: usize, kind: Kind) -> &mut Life {
        match kind {
            Kind::Access => &mut self.nodes[node].access,
            Kind::Refresh => &mut self.nodes[node].refresh,
        }
    }

    fn is_spent(&mut self, token: &Token) -> bool {
        match self.tokens.get(token) {
            Some(&(node, kind)) => *self.life(node, kind) != Life::Live,
            None => false,
        }
    }

    /// The answer to `/refresh`: a new pair, or the one given before.
    fn succeed(&mut self, node: usize, pair: &Pair) {
        let Some((_, before)) = &self.nodes[node].successor else {
            let child = self.mint(self.nodes[node].session, Some(node), pair);
            self.nodes[node].successor = Some((child, pair.clone()));
            return;
        };
        if before.refresh != pair.refresh {
            self.blame("I2", "a retry got another refresh token");
        } else if before.access != pair.access {
            self.blame("I2", "a retry got another access token");
        }
    }

    fn mint(&mut self, session: usize, parent: Option<usize>, pair: &Pair) -> usize {
        let node = self.nodes.len();
        self.nodes.push(Node { session, parent, successor: None, access: Life::Live, refresh: Life::Live });
        for (token, kind) in [(&pair.access, Kind::Access), (&pair.refresh, Kind::Refresh)] {
            if self.tokens.insert(token.clone(), (node, kind)).is_some() {
                self.blame("I1", "a token was given out twice");
            }
        }
        node
    }

    /// How many known generations are younger than this one in its session.
    fn depth(&self, node: usize) -> usize {
        let newest = (0..self.nodes.len()).rev().find(|&n| self.nodes[n].session == self.nodes[node].session);
        let mut at = newest.unwrap_or(node);
        let mut depth = 0;
        while at != node {
            depth += 1;
            match self.nodes[at].parent {
                Some(parent) => at = parent,
                None => break,
            }
        }
        depth
    }

    fn bury_node(&mut self, node: usize, rule: &'static str) {
        bury(&mut self.nodes[node].access, rule);
        bury(&mut self.nodes[node].refresh, rule);
    }

    fn doubt_node(&mut self, node: usize) {
        doubt(&mut self.nodes[node].access);
        doubt(&mut self.nodes[node].refresh);
    }
}

/// Dead stays dead, for the first reason.
fn bury(life: &mut Life, rule: &'static str) {
    if !matches!(life, Life::Dead(_)) {
        *life = Life::Dead(rule);
    }
}

fn doubt(life: &mut Life) {
    if *life == Life::Live {
        *life = Life::Unsure;
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
