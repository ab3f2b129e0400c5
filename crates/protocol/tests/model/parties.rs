//! Who takes part, what each of them may do next, and what it leads to.

use std::collections::BTreeSet;
use std::sync::Arc;

use ligand_protocol::session::{Api, Door, EndReason, Session, Status};
use stateright::{Model, Property};

use crate::properties;
use crate::server::{self, Pair, Rule, aged, signed_in};

/// One configuration of the model.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    pub doors: &'static [Door],
    /// How many generations are minted at most.
    pub generations: u8,
    /// How many requests may be under way at once.
    pub in_flight_max: usize,
    pub thief: bool,
    /// Whether a request may arrive after the leeway.
    pub late: bool,
    pub rule: Rule,
}

/// One of two clients of the same store, such as two processes of one app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Client {
    /// The pair in its memory; the store may have moved on.
    held: Pair,
    awaits: Option<Refresh>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Refresh {
    pub door: Door,
    pub pair: Pair,
}

impl Ord for Refresh {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.door as u8, self.pair).cmp(&(other.door as u8, other.pair))
    }
}

impl PartialOrd for Refresh {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Request {
    Refresh(Refresh),
    /// Any request with the access token of a pair.
    Use(Pair),
}

/// On its way to a client: a pair, or a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Answer {
    pub to: usize,
    pub asked: Refresh,
    pub pair: Option<Pair>,
}

/// Somebody who copied the store's refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Thief {
    pub stolen: Pair,
    /// The last pair that the server gave him, else the stolen token.
    pub latest: Pair,
}

/// What an onlooker has seen, told from the answers and never from the row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Seen {
    /// The newest pair, and whether a token of it was used or it was born used.
    pub head: Pair,
    pub used: bool,
    /// Whether that use, and the head's minting, are more recent than the leeway.
    pub used_lately: bool,
    pub minted_lately: bool,
    /// Whether the head came from `/tokenrefresh`.
    pub strict: bool,
    /// What `/refresh` or the grant answered to each token.
    pub successors: [Option<Pair>; server::GENERATIONS_MAX * server::VARIANTS],
    pub second_successor: bool,
    /// Tokens to which `/tokenrefresh` answered with a pair, by [`Pair::index`].
    pub strict_wins: u32,
    pub second_strict_win: bool,
    /// Tokens spent at `/tokenrefresh`, with the unused successors that fell with them.
    pub burned: u32,
    /// Whether the thief has presented anything.
    pub thief_acted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub row: Arc<Session>,
    pub store: Pair,
    pub clients: [Client; 2],
    /// Under way. A delivered request stays, so that it may be delivered again.
    pub requests: BTreeSet<(usize, Request)>,
    pub answers: BTreeSet<Answer>,
    pub thief: Option<Thief>,
    pub seen: Seen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Ask(usize, Door),
    Use(usize),
    GiveUp(usize),
    Lose(usize, Request),
    Deliver(usize, Request),
    /// Delivered and committed, but the server dies before it answers.
    Crash(usize, Refresh),
    Receive(Answer),
    Steal,
    ThiefAsks(Door, Pair),
    ThiefUses,
    Logout,
    LeewayPasses,
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let api = if self.doors.contains(&Door::Grant) { Api::OAuth } else { Api::Legacy };
        vec![State {
            row: Arc::new(signed_in(api)),
            store: Pair::FIRST,
            clients: [Client { held: Pair::FIRST, awaits: None }; 2],
            requests: BTreeSet::new(),
            answers: BTreeSet::new(),
            thief: None,
            seen: Seen {
                head: Pair::FIRST,
                used: false,
                used_lately: false,
                minted_lately: true,
                strict: false,
                successors: [None; _],
                second_successor: false,
                strict_wins: 0,
                second_strict_win: false,
                burned: 0,
                thief_acted: false,
            },
        }]
    }

    /// Nothing moves after the end: what each token is answered then, a property asks (I12).
    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.row.status != Status::Live {
            return;
        }
        actions.extend([Action::Logout, Action::LeewayPasses]);
        for (id, client) in state.clients.iter().enumerate() {
            if client.awaits.is_some() {
                actions.push(Action::GiveUp(id));
            }
            if state.requests.len() < self.in_flight_max {
                actions.push(Action::Use(id));
                if client.awaits.is_none() {
                    actions.extend(self.doors.iter().map(|door| Action::Ask(id, *door)));
                }
            }
        }
        for (from, request) in &state.requests {
            actions.extend([Action::Deliver(*from, *request), Action::Lose(*from, *request)]);
            if let Request::Refresh(refresh) = request {
                actions.push(Action::Crash(*from, *refresh));
            }
        }
        actions.extend(state.answers.iter().map(|answer| Action::Receive(*answer)));
        match state.thief {
            None if self.thief => actions.push(Action::Steal),
            None => (),
            Some(thief) => {
                let tokens = BTreeSet::from([thief.stolen, thief.latest]);
                for door in self.doors {
                    actions.extend(tokens.iter().map(|pair| Action::ThiefAsks(*door, *pair)));
                }
                if thief.latest != thief.stolen {
                    actions.push(Action::ThiefUses);
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Ask(id, door) => {
                let asked = Refresh { door, pair: state.clients[id].held };
                state.clients[id].awaits = Some(asked);
                state.requests.insert((id, Request::Refresh(asked)));
            }
            Action::Use(id) => {
                state.requests.insert((id, Request::Use(state.clients[id].held)));
            }
            Action::GiveUp(id) => state.stop_waiting(id),
            Action::Lose(from, request) => {
                state.requests.remove(&(from, request));
            }
            Action::Deliver(from, Request::Refresh(asked)) => {
                let pair = self.deliver(&mut state, asked)?;
                if state.clients[from].awaits == Some(asked) {
                    state.answers.insert(Answer { to: from, asked, pair });
                }
            }
            Action::Crash(_, asked) => {
                self.deliver(&mut state, asked)?;
            }
            Action::Deliver(_, Request::Use(pair)) => state.use_pair(pair),
            Action::Receive(answer) => state.receive(answer),
            Action::Steal => {
                state.thief = Some(Thief { stolen: state.store, latest: state.store });
            }
            Action::ThiefAsks(door, pair) => {
                state.seen.thief_acted = true;
                let answer = self.serve(&mut state, Refresh { door, pair })?;
                let thief = state.thief.as_mut()?;
                thief.latest = answer.unwrap_or(thief.latest);
            }
            Action::ThiefUses => {
                state.seen.thief_acted = true;
                state.use_pair(state.thief?.latest);
            }
            Action::Logout => state.row = Arc::new(state.row.ended(EndReason::Logout)),
            Action::LeewayPasses => self.leeway_passes(&mut state),
        }
        self.forget_the_idle(&mut state);
        let state = state.canonical();
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::of(self)
    }
}

impl Protocol {
    /// An honest request arrives, unless three generations have passed it within the leeway.
    fn deliver(&self, state: &mut State, asked: Refresh) -> Option<Option<Pair>> {
        let arrives = self.late || asked.pair.generation + 2 >= state.seen.head.generation;
        if arrives { self.serve(state, asked) } else { None }
    }

    fn serve(&self, state: &mut State, asked: Refresh) -> Option<Option<Pair>> {
        let Refresh { door, pair } = asked;
        let served = server::refresh(self.rule, self.generations, &state.row, pair, door)?;
        state.row = served.row;
        if let Some(answer) = served.answer {
            state.seen.answered(asked, answer);
        }
        Some(served.answer)
    }

    fn leeway_passes(&self, state: &mut State) {
        state.row = Arc::new(aged(&state.row));
        state.seen.used_lately = false;
        state.seen.minted_lately = false;
        if !self.late {
            state.requests.clear();
            state.answers.clear();
            state.clients = [Client { held: state.store, awaits: None }; 2];
        }
    }

    /// Forgets requests that can never change anything again, which keeps the model small: uses of
    /// what is used or superseded, and, unless they may arrive late, refreshes that nobody awaits
    /// with a token that no longer mints.
    fn forget_the_idle(&self, state: &mut State) {
        let (seen, clients) = (&state.seen, &state.clients);
        state.requests.retain(|(from, request)| match request {
            Request::Use(pair) => *pair == seen.head && !seen.used,
            Request::Refresh(asked) => {
                let age = seen.head.generation - asked.pair.generation;
                let mints = age == 0 || (age == 1 && !seen.used);
                mints || self.late || (age <= 2 && clients[*from].awaits == Some(*asked))
            }
        });
    }
}

impl State {
    fn stop_waiting(&mut self, id: usize) {
        self.clients[id].awaits = None;
        self.answers.retain(|answer| answer.to != id);
    }

    /// Stores the pair before it is used, unless the store has moved on.
    fn receive(&mut self, answer: Answer) {
        if let Some(pair) = answer.pair
            && self.store == answer.asked.pair
        {
            self.store = pair;
        }
        self.clients[answer.to].held = self.store;
        self.stop_waiting(answer.to);
    }

    fn use_pair(&mut self, pair: Pair) {
        let (row, accepted) = server::used(&self.row, pair);
        self.row = row;
        if accepted && pair == self.seen.head && !self.seen.used {
            self.seen.used = true;
            self.seen.used_lately = true;
        }
    }

    /// The clients are alike, so of two states that differ by their names one is enough.
    fn canonical(self) -> Self {
        let [first, second] = self.clients;
        let other = |id: usize| 1 - id;
        let requests = self.requests.iter().map(|(from, request)| (other(*from), *request));
        let answers = self.answers.iter().map(|answer| Answer { to: other(answer.to), ..*answer });
        let (requests, answers) = (requests.collect(), answers.collect());
        let swapped = ([second, first], requests, answers);
        let (clients, requests, answers) = swapped.min((self.clients, self.requests, self.answers));
        Self { clients, requests, answers, ..self }
    }
}

impl Seen {
    fn answered(&mut self, asked: Refresh, pair: Pair) {
        let bit = |pair: Pair| 1 << pair.index();
        if asked.door == Door::TokenRefresh {
            self.second_strict_win |= self.strict_wins & bit(asked.pair) != 0;
            self.strict_wins |= bit(asked.pair);
            self.burned |= bit(asked.pair) | bit(self.head);
        } else {
            let successor = *self.successors[asked.pair.index()].get_or_insert(pair);
            self.second_successor |= successor != pair;
        }
        if pair != self.head {
            self.head = pair;
            self.strict = asked.door == Door::TokenRefresh;
            self.used = self.strict;
            self.used_lately = self.strict;
            self.minted_lately = true;
        }
    }
}
