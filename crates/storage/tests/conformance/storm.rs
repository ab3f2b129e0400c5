//! Everything at once on three users for two seconds: no operation fails, nothing deadlocks,
//! nothing ended comes back, no device has two sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ligand_protocol::NEVER;
use ligand_protocol::ids::{SessionId, UserKey};
use ligand_protocol::session::{AccountState, Door, EndReason, Spending};
use ligand_storage::expired::Stretch;
use ligand_storage::testing::{self, TestStore};
use ligand_storage::users::{Flag, PasswordHash};
use ligand_storage::{Committed, Engine, Store, StoreOptions, Write, params};

use crate::on_both;
use crate::world::*;

/// How long it lasts, or as much longer as it takes until each operation has been done.
const LONG: Duration = Duration::from_secs(2);
const TOO_LONG: Duration = Duration::from_secs(30);
const TASKS: u64 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    SignIn,
    Refresh,
    TokenRefresh,
    Burn,
    Acknowledge,
    EndFamily,
    Logout,
    DeleteDevices,
    EndAll,
    SetPassword,
    SetFlag,
    Rename,
    Upkeep,
}
use Operation::*;

/// Each with its share: most of them refreshes, so that the rest meets some.
const SHARES: [(Operation, u64); 13] = [
    (SignIn, 10),
    (Refresh, 100),
    (TokenRefresh, 40),
    (Burn, 50),
    (Acknowledge, 60),
    (EndFamily, 3),
    (Logout, 3),
    (DeleteDevices, 2),
    (EndAll, 2),
    (SetPassword, 4),
    (SetFlag, 6),
    (Rename, 6),
    (Upkeep, 6),
];

/// A small generator, so that each task has its own course (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }
}

/// How often each operation was done.
#[derive(Default)]
struct Done(Mutex<BTreeMap<Operation, usize>>);

impl Done {
    fn count(&self, operation: Operation) {
        *self.0.lock().unwrap().entry(operation).or_default() += 1;
    }

    fn all(&self) -> bool {
        self.0.lock().unwrap().len() == SHARES.len()
    }
}

/// One task of the storm: it keeps what it was given, as a client would.
struct Task {
    store: Store,
    users: Vec<UserKey>,
    dice: Dice,
    device: String,
    held: BTreeMap<(UserKey, String), Held>,
    done: Arc<Done>,
}

impl Task {
    async fn run(mut self, began: Instant) {
        while began.elapsed() < LONG || (!self.done.all() && began.elapsed() < TOO_LONG) {
            let operation = self.pick();
            if self.step(operation).await {
                self.done.count(operation);
            }
        }
    }

    fn pick(&mut self) -> Operation {
        let mut roll = self.dice.roll(SHARES.iter().map(|(_, share)| share).sum());
        for (operation, share) in SHARES {
            if roll < share {
                return operation;
            }
            roll -= share;
        }
        SignIn
    }

    async fn step(&mut self, operation: Operation) -> bool {
        let store = self.store.clone();
        let user = self.users[usize::try_from(self.dice.roll(3)).unwrap()];
        // A device of this task's own, or one that all of them sign in on.
        let name = if self.dice.roll(3) == 0 { "SHARED".to_owned() } else { self.device.clone() };
        let key = (user, name.clone());
        let account = load_user(&store, user).await;
        let held = self.held.get(&key).cloned().filter(|_| operation != SignIn);
        let Some(held) = held else {
            let held = try_sign_in(&store, user, &name).await;
            let done = held.is_some() && operation == SignIn;
            self.held.extend(held.map(|held| (key, held)));
            return done;
        };
        match operation {
            SignIn => false,
            Refresh | TokenRefresh | Burn => {
                let (door, spending) = match operation {
                    Refresh => (Door::Refresh, Spending::Head),
                    TokenRefresh => (Door::TokenRefresh, Spending::Head),
                    _ => (Door::TokenRefresh, Spending::Predecessor),
                };
                let next = rotate(&store, &held, door, spending).await;
                match next {
                    // Some answers are lost; what comes to the old door then burns.
                    Some(_) if operation == Refresh && self.dice.roll(3) == 0 => true,
                    Some(next) => {
                        self.held.insert(key, next);
                        true
                    }
                    None => {
                        if self.dice.roll(3) == 0 {
                            self.held.remove(&key);
                        }
                        false
                    }
                }
            }
            Acknowledge => acknowledge(&store, &held).await,
            EndFamily => store.end_family(held.id, &event("reuse")).await.unwrap(),
            Logout => {
                let device = Some(&held.device);
                store
                    .end_with_device(held.id, user, device, EndReason::Logout, &event("logout"))
                    .await
                    .unwrap()
            }
            DeleteDevices => {
                let devices = [device("SHARED"), device(&self.device)];
                store.delete_devices(user, &devices, None, &event("delete")).await.unwrap()
            }
            EndAll => store
                .end_all_of(user, account.epoch, EndReason::LogoutAll, &event("logout_all"))
                .await
                .unwrap(),
            SetPassword => {
                let spare = (self.dice.roll(2) == 0).then_some((held.id, Some(&held.device)));
                let end_others = self.dice.roll(2) == 0;
                let hash = PasswordHash("new".into());
                let (verified, event) = (account.verified(), event("password"));
                store.set_password(user, verified, &hash, end_others, spare, None, &event).await.unwrap()
            }
            SetFlag => {
                let flags = [Flag::Lock, Flag::Unlock, Flag::Unlock, Flag::Admin(true)];
                let flag = flags[usize::try_from(self.dice.roll(4)).unwrap()];
                store.set_flag(user, flag, &event("flag")).await.unwrap()
            }
            Rename => store.rename_device(user, &device(&name), Some("renamed")).await.unwrap(),
            Upkeep => upkeep(&store).await,
        }
    }
}

async fn upkeep(store: &Store) -> bool {
    let whole = Stretch { after: SessionId([0; 16]), to: SessionId([255; 16]), len: 0 };
    store.erase_seals(whole, NEVER, NEVER).await.unwrap();
    store.end_expired(whole, NOW).await.unwrap();
    store.delete_ended_sessions(NOW - 1, 50).await.unwrap();
    store.trim_feed(NOW - 1).await.unwrap();
    store.raise_clock_floor(NOW).await.unwrap();
    true
}

/// Watches that ended sessions stay ended, and that a device has one session at most.
async fn watch(store: Store, users: Vec<UserKey>, over: Arc<AtomicBool>) {
    let mut ended = BTreeSet::new();
    while !over.load(Ordering::Relaxed) {
        for user in &users {
            let rows = store.sessions_of(*user, true).await.unwrap();
            let (live, gone): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.ended_at.is_none());
            assert!(live.iter().all(|row| !ended.contains(&row.session.id)), "an ended session lives again");
            let devices: BTreeSet<_> = live.iter().map(|row| row.device_id.clone()).collect();
            assert_eq!(devices.len(), live.len(), "two sessions on one device");
            ended.extend(gone.into_iter().map(|row| row.session.id));
        }
    }
}

/// Deadlocks that the server had to break in this database. Its processes report them when they
/// end at the latest, so the store is closed for it.
async fn deadlocks(store: &TestStore) -> i64 {
    store.close().await;
    let again = Store::open(&StoreOptions::new(&store.url)).await.unwrap();
    let older = "select count(*) from pg_stat_activity where datname = current_database()
                 and backend_start < (select backend_start from pg_stat_activity where pid = pg_backend_pid())";
    let began = Instant::now();
    while number(&again, older, vec![]).await > 0 && began.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let sql = "select deadlocks from pg_stat_database where datname = current_database()";
    number(&again, sql, vec![]).await
}

on_both! {
    all_operations_at_once(store) {
        let mut users = Vec::new();
        for name in ["alice", "bob", "carol"] {
            users.push(add_user(&store, name).await);
        }
        let over = Arc::new(AtomicBool::new(false));
        let watcher = tokio::spawn(watch(store.store.clone(), users.clone(), over.clone()));
        let (began, done) = (Instant::now(), Arc::new(Done::default()));
        let tasks = (1..=TASKS).map(|seed| Task {
            store: store.store.clone(),
            users: users.clone(),
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            device: format!("T{seed}"),
            held: BTreeMap::new(),
            done: done.clone(),
        }.run(began));
        all_at_once(tasks).await;
        // In the end everybody goes, beside sign-ins that come too late.
        let mut held = Vec::new();
        for user in &users {
            let _ = store.set_flag(*user, Flag::Unlock, &event("flag")).await.unwrap();
            held.extend(try_sign_in(&store, *user, "LAST").await);
        }
        assert_eq!(held.len(), 3);
        let last = held.into_iter().flat_map(|held| (0..5).map(move |task| (task, held.clone()))).map(|(task, held)| {
            let store = store.store.clone();
            async move {
                if task == 2 {
                    let epoch = load_user(&store, held.user).await.epoch;
                    assert!(store.deactivate(held.user, epoch, true, None, &event("deactivate")).await.unwrap());
                } else {
                    let _ = try_sign_in(&store, held.user, "LAST").await;
                    let _ = rotate(&store, &held, Door::Refresh, Spending::Head).await;
                }
            }
        });
        all_at_once(last).await;
        over.store(true, Ordering::Relaxed);
        watcher.await.unwrap();
        for user in &users {
            assert_eq!(load_user(&store, *user).await.state, AccountState::Deactivated);
            assert_eq!(marked_live(&store, *user).await, 0);
        }
        println!("{:?}: {:?}", store.engine(), done.0.lock().unwrap());
        assert!(done.all(), "too little happened");
        if store.engine() == Engine::Postgres {
            assert_eq!(deadlocks(&store).await, 0);
        }
    }
}

/// Devices are deleted in whatever order the client names them; the user's row, locked first,
/// makes that harmless.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_may_be_deleted_in_any_order() {
    if !postgres_is_tested() {
        return;
    }
    let store = testing::fresh(Engine::Postgres).await;
    let user = add_user(&store, "alice").await;
    let names = ["A", "B", "C"];
    for name in names {
        sign_in(&store, user, name).await;
    }
    // Somebody holds the middle one, until both have come as far as it from either side.
    let hold = vec![
        Write::one("update devices set display_name = '' where device_id = 'B'", vec![]),
        Write::any("select 1 from pg_sleep(0.4)", vec![]),
    ];
    let holder = store.store.clone();
    let holding = tokio::spawn(async move { holder.commit(hold, vec![]).await });
    let held =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'";
    while number(&store, held, vec![]).await == 0 {}
    let tasks = [[0, 1, 2], [2, 1, 0]].map(|order| {
        let store = store.store.clone();
        async move {
            let devices = order.map(|at| device(names[at]));
            store.delete_devices(user, &devices, None, &event("delete")).await
        }
    });
    for deleted in all_at_once(tasks).await {
        assert_eq!(deleted, Ok(true));
    }
    assert!(matches!(holding.await.unwrap(), Ok(Committed::Done(_))));
    assert_eq!(marked_live(&store, user).await, 0);
    assert_eq!(deadlocks(&store).await, 0);
}

/// The control of the count: two transactions that do lock in opposite orders.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_counted() {
    if !postgres_is_tested() {
        return;
    }
    let store = testing::fresh(Engine::Postgres).await;
    let users = [add_user(&store, "alice").await, add_user(&store, "bob").await];
    const LOCK: &str = "update users set epoch = epoch where id = $1";
    let batches = [[users[0], users[1]], [users[1], users[0]]].map(|[first, second]| {
        let store = store.store.clone();
        async move {
            let pause = Write::any("select 1 from pg_sleep(0.3)", vec![]);
            let batch = vec![Write::one(LOCK, params![first]), pause, Write::one(LOCK, params![second])];
            store.commit(batch, vec![]).await
        }
    });
    for done in all_at_once(batches).await {
        assert!(matches!(done, Ok(Committed::Done(_))), "settled inside: {done:?}");
    }
    assert!(deadlocks(&store).await > 0);
}
