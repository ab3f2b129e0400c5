//! The session as one thing that does one step at a time: [`Session`], the very state machine, as
//! the `SequentialSpec` of a linearizability test.
//!
//! A pair that was minted without anybody learning it stands in the row as [`UNKNOWN`] until an
//! answer names it. Signing out is two steps, since the server checks the token and then ends the
//! session, and others may come between. A call without an answer ends after all others: then it
//! took effect at its place in the order, and at the last place it is as if it never had.
//!
//! The search of the tester remembers nothing, which takes exponential time on a history that has
//! no order. The steps done are therefore part of the state here, and a state that was reached
//! before is refused: its continuations have all been tried (Wing and Gong, with Lowe's memory).

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use ligand_protocol::NEVER;
use ligand_protocol::ids::{SessionId, UserKey};
use ligand_protocol::session::{
    AccountState, Api, CheckVerdict, Door, EndReason, Head, Owner, RefreshVerdict, Refusal, Session, Status,
    Windows,
};
use ligand_protocol::token::{Presented, TagKeys, TokenHash, TokenKind};
use parking_lot::Mutex;
use stateright::semantics::{ConsistencyTester as _, LinearizabilityTester, SequentialSpec};

use super::history::{Answer, Event, History, Op};
use crate::client::Pair;
use crate::journal::Call;

/// Steps of one history at most.
pub const STEPS_MAX: usize = 512;
/// All steps happen at one moment: leeway and lifetimes are longer than a history.
const NOW: i64 = 0;
/// Stands for the hash of a token that nobody has seen.
const UNKNOWN: TokenHash = TokenHash([0; 32]);
/// Nobody presents a refresh token again without being refused softly.
pub const WINDOWS: Windows = Windows {
    legacy_retry_ms: 0,
    oauth_retry_ms: 0,
    reuse_leeway_ms: 3_600_000,
    tokenrefresh_reuse_ends_session: false,
};
/// The owner never changes here.
pub const OWNER: Owner = Owner { epoch: 0, state: AccountState::Active };

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Refresh(Door),
    /// A use; also the first half of signing out.
    Check,
    /// The second half, if the check with this number passed.
    EndAfter(usize),
}

/// A step with its number and the token it brings.
#[derive(Clone)]
pub struct Step {
    number: usize,
    part: Part,
    presented: Arc<Presented>,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} generation {}", self.number, self.part, self.presented.generation)
    }
}

/// A set of steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Steps([u64; STEPS_MAX / 64]);

impl Steps {
    fn add(&mut self, step: usize) {
        self.0[step / 64] |= 1 << (step % 64);
    }

    fn has(&self, step: usize) -> bool {
        self.0[step / 64] & (1 << (step % 64)) != 0
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    session: Session,
    done: Steps,
    /// Checks of a sign-out that passed.
    passed: Steps,
}

/// The session after some steps.
#[derive(Clone)]
pub struct Spec {
    state: State,
    keys: TagKeys,
    reached: Arc<Mutex<HashSet<State>>>,
}

impl SequentialSpec for Spec {
    type Op = Step;
    type Ret = Answer;

    fn invoke(&mut self, step: &Step) -> Answer {
        self.is_valid_step(step, &Answer::Lost);
        Answer::Lost
    }

    fn is_valid_step(&mut self, step: &Step, answer: &Answer) -> bool {
        let next = match step.part {
            Part::Refresh(door) => self.refreshed(&step.presented, door, answer),
            Part::Check => self.checked(step, answer),
            Part::EndAfter(check) => self.ended_after(check, answer),
        };
        let Some(session) = next else { return false };
        self.state.session = session;
        self.state.done.add(step.number);
        self.reached.lock().insert(self.state.clone())
    }
}

impl Spec {
    /// The row after a refresh that was answered so; none if it cannot have been.
    fn refreshed(&self, presented: &Presented, door: Door, answer: &Answer) -> Option<Session> {
        let session = &self.state.session;
        match (session.refresh(OWNER, presented, door, None, &WINDOWS, NOW), answer) {
            (RefreshVerdict::Mint(_), Answer::Lost) => {
                Some(session.rotated(head(UNKNOWN, UNKNOWN), door, NOW))
            }
            (RefreshVerdict::Mint(_), Answer::Pair(pair)) => {
                let (rt_hash, at_hash) = self.hashes(pair, session.generation + 1)?;
                Some(session.rotated(head(rt_hash, at_hash), door, NOW))
            }
            (RefreshVerdict::SamePair | RefreshVerdict::SamePairResealed, Answer::Lost) => {
                Some(session.clone())
            }
            (RefreshVerdict::SamePair | RefreshVerdict::SamePairResealed, Answer::Pair(pair)) => {
                let (rt_hash, at_hash) = self.hashes(pair, session.generation)?;
                let known = session.rt_hash != Some(UNKNOWN);
                let named = Session { rt_hash: Some(rt_hash), at_hash, ..session.clone() };
                (!known || named == *session).then_some(named)
            }
            (RefreshVerdict::Refuse(_), Answer::Lost) => Some(session.clone()),
            (RefreshVerdict::Refuse(refusal), answer) => {
                (*answer == refused(door, refusal)).then(|| session.clone())
            }
            (RefreshVerdict::EndFamily, answer) => {
                let told = refused(door, Refusal::Ended(EndReason::Reuse));
                (*answer == Answer::Lost || *answer == told).then(|| session.ended(EndReason::Reuse))
            }
            (_, _) => None,
        }
    }

    fn checked(&mut self, step: &Step, answer: &Answer) -> Option<Session> {
        let session = &self.state.session;
        let verdict = session.check(OWNER, &step.presented, NOW);
        if let CheckVerdict::Refuse(refusal) = verdict {
            let told = Answer::Refused { status: 401, soft: refusal.soft_logout() };
            return (*answer == Answer::Lost || *answer == told).then(|| session.clone());
        }
        if !matches!(answer, Answer::Done | Answer::Lost) {
            return None;
        }
        self.state.passed.add(step.number);
        Some(match verdict {
            CheckVerdict::OkAfterAcknowledging => session.acknowledged(&WINDOWS, NOW),
            _ => session.clone(),
        })
    }

    fn ended_after(&self, check: usize, answer: &Answer) -> Option<Session> {
        let session = &self.state.session;
        match (self.state.done.has(check), self.state.passed.has(check), answer) {
            (true, true, Answer::Done | Answer::Lost) => Some(session.ended(EndReason::Logout)),
            (true, false, Answer::Lost) => Some(session.clone()),
            _ => None,
        }
    }

    /// The hashes of a pair, if it is of this session and generation.
    fn hashes(&self, pair: &Pair, generation: u32) -> Option<(TokenHash, TokenHash)> {
        let refresh = Presented::parse(TokenKind::Refresh, &pair.refresh, &self.keys)?;
        let access = Presented::parse(TokenKind::Access, &pair.access, &self.keys)?;
        let of_row =
            |token: &Presented| token.session_id == self.state.session.id && token.generation == generation;
        (of_row(&refresh) && of_row(&access)).then_some((refresh.hash, access.hash))
    }
}

fn head(rt_hash: TokenHash, at_hash: TokenHash) -> Head {
    Head { rt_hash, at_hash, rt_exp: NEVER, at_exp: NEVER, sealed: None }
}

/// How a door words a refusal.
pub fn refused(door: Door, refusal: Refusal) -> Answer {
    let status = if door == Door::TokenRefresh { 403 } else { 401 };
    Answer::Refused { status, soft: refusal.soft_logout() }
}

/// The row of a session just opened with this pair.
pub fn first(pair: &Pair, keys: &TagKeys) -> Result<Session> {
    let parse = |kind, text| Presented::parse(kind, text, keys).context("a token with a bad tag");
    let refresh = parse(TokenKind::Refresh, &pair.refresh)?;
    let access = parse(TokenKind::Access, &pair.access)?;
    Ok(opened(refresh.session_id, refresh.hash, access.hash))
}

fn opened(id: SessionId, rt_hash: TokenHash, at_hash: TokenHash) -> Session {
    Session {
        id,
        user: UserKey(0),
        user_epoch: OWNER.epoch,
        client_id: None,
        api: Api::Legacy,
        status: Status::Live,
        generation: 1,
        acked_generation: 1,
        acked_at: Some(NOW),
        head_at: NOW,
        rt_hash: Some(rt_hash),
        rt_prev_hash: None,
        sealed: None,
        rt_exp: NEVER,
        session_exp: NEVER,
        at_hash,
        at_exp: NEVER,
        at_prev_hash: None,
        at_prev_exp: None,
    }
}

/// Whether one order of the calls, in which each takes effect at one moment between its beginning
/// and its end, explains every answer.
pub fn is_linearizable(first: &Session, keys: &TagKeys, history: &History) -> Result<bool> {
    let state = State { session: first.clone(), done: Steps::default(), passed: Steps::default() };
    let spec = Spec { state, keys: keys.clone(), reached: Arc::default() };
    let steps = steps(keys, history)?;
    let mut tester = LinearizabilityTester::new(spec);
    let mut lost = Vec::new();
    for event in &history.events {
        let (Event::Begin(op) | Event::End(op)) = *event;
        for step in &steps[op] {
            let Op { client, answer, .. } = &history.ops[op];
            // Lost calls come last in the order of threads, so that they are tried last.
            let half = match step.part {
                Part::Refresh(_) | Part::Check => 0,
                Part::EndAfter(_) => 1,
            };
            let is_lost = *answer == Answer::Lost;
            let thread = (is_lost, if is_lost { op } else { *client }, half);
            let told = match event {
                Event::Begin(_) => tester.on_invoke(thread, step.clone()),
                Event::End(_) => tester.on_return(thread, answer.clone()),
            };
            told.map_err(|cause| anyhow!("a history in disorder: {cause}"))?;
            if is_lost {
                lost.push(thread);
            }
        }
    }
    for thread in lost {
        let told = tester.on_return(thread, Answer::Lost);
        told.map_err(|cause| anyhow!("a history in disorder: {cause}"))?;
    }
    Ok(tester.is_consistent())
}

/// The steps of every call.
fn steps(keys: &TagKeys, history: &History) -> Result<Vec<Vec<Step>>> {
    let mut number = 0;
    let mut all = Vec::new();
    for op in &history.ops {
        let (kind, text, part) = match &op.call {
            Call::Refresh(text) => (TokenKind::Refresh, text, Part::Refresh(Door::Refresh)),
            Call::TokenRefresh(text) => (TokenKind::Refresh, text, Part::Refresh(Door::TokenRefresh)),
            Call::Use(text) | Call::Logout(text) => (TokenKind::Access, text, Part::Check),
            Call::Login => return Err(anyhow!("a history is of one session")),
        };
        let presented = Presented::parse(kind, text, keys).context("a token with a bad tag")?;
        let presented = Arc::new(presented);
        let mut parts = vec![part];
        let refused = matches!(op.answer, Answer::Refused { .. });
        if matches!(op.call, Call::Logout(_)) && !refused {
            parts.push(Part::EndAfter(number));
        }
        let steps = parts.into_iter().zip(number..);
        all.push(
            steps
                .map(|(part, number)| Step { number, part, presented: presented.clone() })
                .collect::<Vec<_>>(),
        );
        number += all.last().map_or(0, Vec::len);
    }
    Ok(all)
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
