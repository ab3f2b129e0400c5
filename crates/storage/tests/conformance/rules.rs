//! The statements against the state machine, over random rows.
//!
//! A row, an owner and a token are drawn; the row is written as it is; the statement runs as the
//! server runs it. It must change the row exactly when the rules say so, to exactly what the rules
//! say. `rotate` and the burn guard themselves in full, since they run before anything is read.
//! `acknowledge` and `reseal` are guarded by what was read: time and account were judged with it.

use std::collections::BTreeMap;

use ligand_protocol::NEVER;
use ligand_protocol::ids::{SessionId, UserKey};
use ligand_protocol::seal::{Fresh, Pair};
use ligand_protocol::session::{
    AccountState, Api, CheckVerdict, Door, EndReason, Head, Owner, RefreshVerdict, Session, Spending, Status,
    Windows,
};
use ligand_protocol::token::{Presented, TokenHash, TokenKind};
use ligand_storage::{Committed, Engine, Store, testing};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::world::*;

/// Cases that run beside each other, so that they share commits.
const AT_ONCE: usize = 64;
const HEAD: u32 = 4;

/// What is drawn. Tokens are drawn as (age, variant): variant 1 is the one that was issued, 2 that
/// of another timeline, which a restored backup would leave behind.
#[derive(Debug, Clone)]
struct Case {
    acknowledged: bool,
    status: Status,
    api: Api,
    client: Option<&'static str>,
    row_epoch: i64,
    owner: Owner,
    rt: Option<u8>,
    rt_prev: Option<u8>,
    at: u8,
    at_prev: Option<u8>,
    sealed: bool,
    acked_at: Option<i64>,
    head_at: i64,
    rt_exp: i64,
    session_exp: i64,
    at_exp: i64,
    at_prev_exp: Option<i64>,
    door: Door,
    door_client: Option<&'static str>,
    age: i64,
    variant: u8,
    new_exp: i64,
    windows: Windows,
}

fn near_now() -> impl Strategy<Value = i64> {
    prop_oneof![
        8 => Just(NEVER),
        8 => Just(NOW + HOUR),
        1 => Just(NOW - 1),
        1 => Just(NOW),
        2 => Just(NOW + 1),
    ]
}

/// Expired as often as not: what a retry then gets is a verdict of its own.
fn access_expiry() -> impl Strategy<Value = i64> {
    prop_oneof![3 => near_now(), 1 => Just(NOW), 1 => Just(NOW - HOUR)]
}

fn variant() -> impl Strategy<Value = u8> {
    prop_oneof![9 => Just(1), 1 => Just(2)]
}

prop_compose! {
    fn hashes(acknowledged: bool)(
        // Three rows of four are as the program leaves them; the rest is what the schema allows.
        proper in prop::bool::weighted(0.75),
        refreshable in prop::bool::weighted(0.95),
        strict in any::<bool>(),
        rt in variant(),
        rt_prev in prop::option::of(variant()),
        at in variant(),
        at_prev in prop::option::of(variant()),
        sealed in any::<bool>(),
        prev in variant(),
    ) -> (Option<u8>, Option<u8>, u8, Option<u8>, bool) {
        if !refreshable {
            // A session that never had refresh tokens.
            return (None, None, at, None, false);
        }
        match (proper, acknowledged) {
            (true, false) => (Some(rt), Some(prev), at, Some(prev), true),
            (true, true) if strict => (Some(rt), None, at, None, false),
            (true, true) => (Some(rt), Some(prev), at, Some(prev), sealed),
            (false, _) => (Some(rt), rt_prev, at, at_prev, sealed),
        }
    }
}

prop_compose! {
    fn gates()(
        status in prop_oneof![12 => Just(Status::Live), 1 => Just(Status::Ended(EndReason::Reuse))],
        api_door_client in prop_oneof![
            4 => Just((Api::Legacy, None, Door::Refresh, None)),
            4 => Just((Api::Legacy, None, Door::TokenRefresh, None)),
            4 => Just((Api::OAuth, Some("app"), Door::Grant, Some("app"))),
            1 => Just((Api::OAuth, Some("app"), Door::Grant, Some("other"))),
            1 => Just((Api::OAuth, Some("app"), Door::Grant, None)),
            1 => Just((Api::OAuth, Some("app"), Door::Refresh, None)),
            1 => Just((Api::OAuth, Some("app"), Door::TokenRefresh, None)),
            1 => Just((Api::OAuth, None, Door::TokenRefresh, None)),
            1 => Just((Api::OAuth, None, Door::Grant, None)),
            1 => Just((Api::Legacy, Some("app"), Door::TokenRefresh, None)),
            1 => Just((Api::Legacy, None, Door::Grant, Some("app"))),
        ],
        row_epoch in prop_oneof![16 => Just(3), 1 => Just(2), 1 => Just(4)],
        state in prop_oneof![
            16 => Just(AccountState::Active), 3 => Just(AccountState::Locked), 1 => Just(AccountState::Deactivated)
        ],
    ) -> (Status, (Api, Option<&'static str>, Door, Option<&'static str>), i64, Owner) {
        (status, api_door_client, row_epoch, Owner { epoch: 3, state })
    }
}

prop_compose! {
    fn case()(acknowledged in any::<bool>())(
        acknowledged in Just(acknowledged),
        (status, (api, client, door, door_client), row_epoch, owner) in gates(),
        (rt, rt_prev, at, at_prev, sealed) in hashes(acknowledged),
        acked_at in prop::option::of(prop_oneof![Just(NOW), Just(NOW - 30_000), Just(NOW - 29_999), Just(NOW + 1)]),
        head_at in prop_oneof![Just(NOW), Just(NOW - 30_000), Just(NOW - HOUR)],
        (rt_exp, session_exp, at_exp) in (near_now(), near_now(), access_expiry()),
        at_prev_exp in prop::option::weighted(0.9, prop_oneof![near_now(), Just(NOW + 30_001), Just(NOW + 29_999)]),
        (age, variant) in (prop_oneof![6 => Just(0), 6 => Just(1), 1 => Just(2), 1 => Just(3), 1 => Just(-1)], variant()),
        new_exp in prop_oneof![Just(NEVER), Just(NOW + HOUR), Just(NOW + MINUTE)],
        (legacy_retry_ms, strict_ends) in (prop_oneof![Just(0), Just(10_000)], any::<bool>()),
    ) -> Case {
        let windows = Windows {
            legacy_retry_ms, tokenrefresh_reuse_ends_session: strict_ends, ..Windows::default()
        };
        Case {
            acknowledged, status, api, client, row_epoch, owner, rt, rt_prev, at, at_prev, sealed, acked_at, head_at,
            rt_exp, session_exp, at_exp, at_prev_exp, door, door_client, age, variant, new_exp, windows,
        }
    }
}

impl Case {
    fn session(&self, id: SessionId, user: UserKey) -> Session {
        let hash =
            |kind, age, variant: Option<u8>| variant.map(|variant| token(kind, id, HEAD - age, variant).hash);
        Session {
            id,
            user,
            user_epoch: self.row_epoch,
            client_id: self.client.map(ToOwned::to_owned),
            api: self.api,
            status: self.status,
            generation: HEAD,
            acked_generation: if self.acknowledged { HEAD } else { HEAD - 1 },
            acked_at: self.acked_at,
            head_at: self.head_at,
            rt_hash: hash(TokenKind::Refresh, 0, self.rt),
            rt_prev_hash: hash(TokenKind::Refresh, 1, self.rt_prev),
            sealed: self.sealed.then(|| vec![0x5e; 104]),
            rt_exp: self.rt_exp,
            session_exp: self.session_exp,
            at_hash: token(TokenKind::Access, id, HEAD, self.at).hash,
            at_exp: self.at_exp,
            at_prev_hash: hash(TokenKind::Access, 1, self.at_prev),
            at_prev_exp: self.at_prev_exp,
        }
    }

    fn presented(&self, kind: TokenKind, id: SessionId) -> Presented {
        let generation = u32::try_from(i64::from(HEAD) - self.age).unwrap();
        token(kind, id, generation, self.variant)
    }

    fn head(&self, presented: &Presented, step: u32) -> Head {
        let generation = presented.generation + step;
        let pair = Pair::mint(presented.session_id, generation, &Fresh::from_bytes(&unique()), &KEYS);
        let sealed = pair.seal(presented, generation, &unique());
        Head {
            rt_hash: pair.refresh.hash,
            at_hash: pair.access.hash,
            rt_exp: self.new_exp,
            at_exp: self.new_exp,
            sealed: if self.door == Door::TokenRefresh { None } else { sealed },
        }
    }
}

/// Writes the row for one statement to be tried on.
async fn put(store: &Store, case: &Case) -> Session {
    let user = UserKey::generate(unique());
    let session = case.session(SessionId(unique()), user);
    let batch = vec![user_row(user, case.owner.epoch, case.owner.state), session_row(&session)];
    let done = store.commit(batch, vec![]).await.unwrap();
    assert!(matches!(done, Committed::Done(_)));
    session
}

async fn row(store: &Store, id: SessionId) -> Session {
    load(store, id).await.session
}

/// The first attempt of a refresh, and the burn where the rules ask for it.
async fn try_rotate(store: &Store, case: &Case, spending: Spending) -> RefreshVerdict {
    let before = put(store, case).await;
    assert_eq!(row(store, before.id).await, before, "a row reads back as it was written");
    let presented = case.presented(TokenKind::Refresh, before.id);
    let verdict = before.refresh(case.owner, &presented, case.door, case.door_client, &case.windows, NOW);
    let step = if spending == Spending::Head { 1 } else { 2 };
    let head = case.head(&presented, step);
    let rotated = store
        .rotate(before.id, presented.hash, spending, case.door, case.door_client, &head, seen(), NOW)
        .await
        .unwrap();
    let minted = verdict == RefreshVerdict::Mint(spending);
    assert_eq!(rotated.is_some(), minted, "{verdict:?} {spending:?} {case:?}");
    let after = if minted { before.rotated(head, case.door, NOW) } else { before };
    if let Some(rotated) = rotated {
        let answer = (rotated.generation, rotated.at_exp, rotated.session_exp);
        assert_eq!(answer, (after.generation, after.at_exp, after.session_exp), "{case:?}");
    }
    assert_eq!(row(store, after.id).await, after, "{verdict:?} {spending:?} {case:?}");
    verdict
}

async fn try_acknowledge(store: &Store, case: &Case) -> CheckVerdict {
    let before = put(store, case).await;
    let presented = case.presented(TokenKind::Access, before.id);
    let verdict = before.check(case.owner, &presented, NOW);
    let hash = presented.hash;
    let done = store.acknowledge(before.id, before.api, hash, &case.windows, NOW).await.unwrap();
    // What the read has settled for good: neither the clock of this request nor, within it, the
    // account can undo the judgement. What remains is the guard.
    let timeless = Session { session_exp: NEVER, at_exp: NEVER, ..before.clone() };
    let owner = Owner { epoch: before.user_epoch, state: AccountState::Active };
    let guard = timeless.check(owner, &presented, NOW) == CheckVerdict::OkAfterAcknowledging;
    assert_eq!(done, guard, "{verdict:?} {case:?}");
    assert!(done || verdict != CheckVerdict::OkAfterAcknowledging, "{case:?}");
    let after = if done { before.acknowledged(&case.windows, NOW) } else { before };
    assert_eq!(row(store, after.id).await, after, "{verdict:?} {case:?}");
    verdict
}

async fn try_reseal(store: &Store, case: &Case) {
    let before = put(store, case).await;
    let presented = case.presented(TokenKind::Refresh, before.id);
    let verdict = before.refresh(case.owner, &presented, case.door, case.door_client, &case.windows, NOW);
    let (hash, sealed) = (TokenHash(unique()), vec![7; 104]);
    let resealed = store.reseal(&before, hash, case.new_exp, sealed.clone()).await.unwrap();
    let guard = before.status == Status::Live && before.sealed.is_some();
    assert_eq!(resealed.is_some(), guard, "{verdict:?} {case:?}");
    // A seal that is missing cannot be opened, so the server does not come this far.
    assert!(guard || verdict != RefreshVerdict::SamePairResealed || before.sealed.is_none(), "{case:?}");
    let after = if guard { before.resealed(hash, case.new_exp, sealed) } else { before };
    assert_eq!(row(store, after.id).await, after, "{verdict:?} {case:?}");
    // Guarded by the access token that was read: nothing a second time.
    let again =
        store.reseal(&Session { at_hash: TokenHash(unique()), ..after.clone() }, hash, NOW, vec![1]).await;
    assert_eq!(again, Ok(None));
}

async fn try_end(store: &Store, case: &Case) {
    let before = put(store, case).await;
    let ended = store.end_family(before.id, &event("reuse")).await.unwrap();
    assert_eq!(ended, before.status == Status::Live);
    let after = before.ended(EndReason::Reuse);
    assert_eq!(row(store, after.id).await, after, "{case:?}");
}

/// Everything about one case; the names of the verdicts it met.
async fn judge(store: Store, case: Case) -> [String; 2] {
    let refreshed = try_rotate(&store, &case, Spending::Head).await;
    if case.door == Door::TokenRefresh {
        try_rotate(&store, &case, Spending::Predecessor).await;
    }
    let checked = try_acknowledge(&store, &case).await;
    try_reseal(&store, &case).await;
    try_end(&store, &case).await;
    [format!("{:?} {refreshed:?}", case.door), format!("{checked:?}")]
}

async fn judge_many(engine: Engine, cases: usize) {
    let store = testing::fresh(engine).await;
    let mut runner = TestRunner::default();
    let strategy = case();
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    let mut left = cases;
    while left > 0 {
        let group = left.min(AT_ONCE);
        left -= group;
        let drawn: Vec<Case> =
            (0..group).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
        let judged = all_at_once(drawn.into_iter().map(|case| judge(store.store.clone(), case))).await;
        for verdict in judged.into_iter().flatten() {
            *met.entry(verdict).or_default() += 1;
        }
    }
    println!("{met:#?}");
    // Cases that never meet a verdict prove nothing about it.
    for verdict in [
        "Refresh Mint(Head)",
        "TokenRefresh Mint(Head)",
        "Grant Mint(Head)",
        "TokenRefresh Mint(Predecessor)",
        "Refresh SamePair",
        "Refresh SamePairResealed",
        "Refresh EndFamily",
        "TokenRefresh Refuse(Spent)",
        "Grant Refuse(Unknown)",
        "Refresh Refuse(Locked)",
        "TokenRefresh Refuse(Ended(LogoutAll))",
        "Ok",
        "OkAfterAcknowledging",
        "Refuse(Locked)",
        "Refuse(SessionExpired)",
    ] {
        assert!(met.contains_key(verdict), "no case met {verdict}: {met:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_do_what_the_rules_say_on_sqlite() {
    judge_many(Engine::Sqlite, 3_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_do_what_the_rules_say_on_postgres() {
    if postgres_is_tested() {
        judge_many(Engine::Postgres, 600).await;
    }
}
