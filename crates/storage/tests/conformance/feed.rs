//! The feed: numbered without holes whatever happens at once, read in order, trimmed with notice.

use ligand_protocol::ids::UserKey;
use ligand_protocol::session::{Door, EndReason, Spending};
use ligand_storage::testing::TestStore;
use ligand_storage::users::{Flag, PasswordHash};
use ligand_storage::{OpenMode, Store, StoreOptions, Touched, Write, params};

use crate::on_both;
use crate::world::*;

/// A second process beside the one server: one whose changes the server must hear of.
pub async fn beside(store: &TestStore) -> Store {
    Store::open(&StoreOptions::new(&store.url).mode(OpenMode::Tool)).await.unwrap()
}

/// Every change so far, read as upkeep reads it.
pub async fn changes_after(store: &Store, mut seq: i64) -> Vec<Touched> {
    let mut changes = Vec::new();
    loop {
        let poll = store.poll_feed(seq).await.unwrap();
        assert!(!poll.gap);
        assert_eq!(poll.seq, seq + i64::try_from(poll.changes.len()).unwrap(), "one number per change");
        seq = poll.seq;
        changes.extend(poll.changes);
        if !poll.full {
            return changes;
        }
    }
}

async fn put(store: &Store, numbers: std::ops::RangeInclusive<i64>) {
    let write = |seq: i64| {
        Write::one("insert into changes (seq, kind, user_id, at) values ($1, 2, $1, $1)", params![seq])
    };
    let mut batch: Vec<Write> = numbers.clone().map(write).collect();
    batch.push(Write::one("update feed set seq = $1 where id = 1", params![*numbers.end()]));
    store.commit(batch, vec![]).await.unwrap();
}

on_both! {
    each_ending_is_announced(store) {
        let tool = beside(&store).await;
        let user = add_user(&tool, "alice").await;
        assert_eq!(tool.feed_head().await, Ok(0), "a new account takes nothing away");
        let (a, b) = (sign_in(&tool, user, "A").await, sign_in(&tool, user, "B").await);
        let head = tool.feed_head().await.unwrap();
        let b2 = rotate(&tool, &b, Door::Refresh, Spending::Head).await.unwrap();
        assert!(acknowledge(&tool, &b2).await);
        assert_eq!(tool.feed_head().await, Ok(head), "an ordinary refresh is not announced");

        let mut expected = vec![Touched::Session(b.id)];
        rotate(&tool, &b2, Door::TokenRefresh, Spending::Head).await.unwrap();
        assert!(tool.end_family(a.id, &event("reuse")).await.unwrap());
        expected.push(Touched::Session(a.id));
        assert!(tool.end_with_device(b.id, user, Some(&b.device), EndReason::Admin, &event("admin")).await.unwrap());
        expected.push(Touched::Session(b.id));
        for flag in [Flag::Lock, Flag::Unlock, Flag::Admin(true)] {
            assert!(tool.set_flag(user, flag, &event("flag")).await.unwrap());
            expected.push(Touched::User(user));
        }
        assert!(tool.delete_devices(user, &[device("A")], None, &event("delete")).await.unwrap());
        assert!(tool.end_all_of(user, 0, EndReason::LogoutAll, &event("logout_all")).await.unwrap());
        let verified = load_user(&tool, user).await.verified();
        let hash = PasswordHash("new".into());
        let set = tool.set_password(user, verified, &hash, true, None, None, &event("password")).await;
        assert_eq!(set, Ok(true));
        assert!(tool.deactivate(user, 2, false, None, &event("deactivate")).await.unwrap());
        expected.extend([Touched::User(user); 4]);
        assert_eq!(changes_after(&store, head).await, expected);

        // What did nothing announces nothing.
        let head = tool.feed_head().await.unwrap();
        assert!(!tool.end_family(a.id, &event("reuse")).await.unwrap());
        assert!(!tool.set_flag(user, Flag::Lock, &event("flag")).await.unwrap());
        assert!(rotate(&tool, &b, Door::TokenRefresh, Spending::Head).await.is_none());
        assert_eq!(tool.feed_head().await, Ok(head));
    }

    changes_at_once_leave_no_hole(store) {
        let tool = beside(&store).await;
        let user = add_user(&tool, "alice").await;
        let mut held = Vec::new();
        for at in 0..40 {
            held.push(sign_in(&tool, user, &format!("D{at}")).await);
        }
        let head = tool.feed_head().await.unwrap();
        // Half of them fail: their numbers must come back.
        let twice = held.iter().chain(&held).map(|held| {
            let (tool, id) = (tool.clone(), held.id);
            async move { tool.end_family(id, &event("reuse")).await.unwrap() }
        });
        let ended = all_at_once(twice).await;
        assert_eq!(ended.iter().filter(|ended| **ended).count(), 40);
        let mut changed = changes_after(&store, head).await;
        assert_eq!((changed.len(), tool.feed_head().await), (40, Ok(head + 40)));
        changed.sort_by_key(|touched| match touched { Touched::Session(id) => id.0, Touched::User(_) => [0; 16] });
        held.sort_by_key(|held| held.id);
        assert_eq!(changed, held.iter().map(|held| Touched::Session(held.id)).collect::<Vec<_>>());
    }

    a_long_feed_is_read_in_parts(store) {
        put(&store, 1..=1_001).await;
        let first = store.poll_feed(0).await.unwrap();
        assert_eq!((first.seq, first.changes.len(), first.gap, first.full), (1_000, 1_000, false, true));
        assert_eq!(first.changes[6], Touched::User(UserKey(7)));
        let second = store.poll_feed(first.seq).await.unwrap();
        assert_eq!((second.seq, second.changes.len(), second.gap, second.full), (1_001, 1, false, false));
        let third = store.poll_feed(second.seq).await.unwrap();
        assert_eq!((third.seq, third.changes.len(), third.gap, third.full), (1_001, 0, false, false));
    }

    what_was_trimmed_is_a_gap(store) {
        put(&store, 1..=9).await;
        store.trim_feed(4).await.unwrap();
        let gap = async |seq| {
            let poll = store.poll_feed(seq).await.unwrap();
            (poll.gap, poll.seq, poll.changes.len())
        };
        assert_eq!(gap(0).await, (true, 9, 6));
        assert_eq!(gap(2).await, (true, 9, 6), "3 is missing");
        assert_eq!(gap(3).await, (false, 9, 6));
        assert_eq!(gap(9).await, (false, 9, 0));
        // Clocks that disagree may trim in the middle.
        execute(&store, "delete from changes where seq = 6", vec![]).await;
        assert_eq!(gap(3).await, (true, 9, 5));
        assert_eq!(gap(6).await, (false, 9, 3));
        store.trim_feed(10).await.unwrap();
        assert_eq!(gap(7).await, (true, 9, 0));
        assert_eq!(gap(9).await, (false, 9, 0));
        assert_eq!(store.feed_head().await, Ok(9), "the numbers go on");
    }

    a_change_of_unknown_kind_is_not_passed_over(store) {
        execute(&store, "insert into changes (seq, kind, at) values (1, 3, 0)", vec![]).await;
        assert!(store.poll_feed(0).await.is_err());
    }
}
