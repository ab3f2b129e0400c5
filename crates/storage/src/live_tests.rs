//! A read that races with a commit, step by step: the answer may be used, memory must not keep it.

use ligand_protocol::session::AccountState;

use super::*;
use crate::sessions::Seen;

const ID: SessionId = SessionId([1; 16]);
const USER: UserKey = UserKey(7);

fn loaded(epoch: i64) -> Loaded {
    Loaded {
        session: Session {
            id: ID,
            user: USER,
            user_epoch: epoch,
            client_id: None,
            api: Api::Legacy,
            status: Status::Live,
            generation: 1,
            acked_generation: 1,
            acked_at: None,
            head_at: 0,
            rt_hash: None,
            rt_prev_hash: None,
            sealed: None,
            rt_exp: NEVER,
            session_exp: NEVER,
            at_hash: TokenHash([2; 32]),
            at_exp: NEVER,
            at_prev_hash: None,
            at_prev_exp: None,
        },
        device_id: None,
        localpart: "alice".to_owned(),
        owner: Owner { epoch, state: AccountState::Active },
        admin: false,
        guest: false,
        suspended: false,
        seen: Seen::default(),
    }
}

/// A memory that has just polled.
fn live() -> Live {
    let live = Live::default();
    live.polled(live.poll_begins());
    live
}

#[test]
fn a_read_that_met_no_commit_is_kept() {
    let live = live();
    let mark = live.mark(ID);
    let entry = live.keep(loaded(0), mark);
    assert!(live.get(ID).is_some_and(|kept| Arc::ptr_eq(&kept, &entry)));
}

#[test]
fn a_session_forgotten_while_it_was_read_is_not_kept() {
    let live = live();
    let mark = live.mark(ID);
    live.forget(&[Touched::Session(ID)]);
    assert_eq!(live.keep(loaded(0), mark).id, ID, "the answer may be used");
    assert!(live.get(ID).is_none());
}

#[test]
fn a_user_forgotten_while_it_was_read_is_not_kept() {
    let live = live();
    let mark = live.mark(ID);
    live.forget(&[Touched::User(USER)]);
    assert_eq!(live.keep(loaded(0), mark).user.owner.epoch, 0);
    assert!(live.get(ID).is_none());
    // Nor does it stand in the way of a later reader, or come back through one.
    let mark = live.mark(ID);
    live.keep(loaded(1), mark);
    assert_eq!(live.get(ID).map(|entry| entry.user.owner.epoch), Some(1));
}

#[test]
fn everything_forgotten_while_it_was_read_is_not_kept() {
    let live = live();
    let mark = live.mark(ID);
    live.forget_all();
    live.keep(loaded(0), mark);
    assert!(live.get(ID).is_none());
}

#[test]
fn an_older_reader_does_not_bring_an_older_user_back() {
    let live = live();
    let slow = live.mark(ID);
    live.forget(&[Touched::User(USER)]);
    let mark = live.mark(ID);
    live.keep(loaded(1), mark);
    live.keep(loaded(0), slow);
    assert!(live.get(ID).is_none_or(|entry| entry.user.owner.epoch == 1));
}

#[test]
fn an_old_entry_is_read_again() {
    let mut live = live();
    let mark = live.mark(ID);
    live.keep(loaded(0), mark);
    // As if the memory had been made that much earlier; the poll is fresh.
    live.made -= ENTRY_AGE_MAX;
    live.polled(live.poll_begins());
    assert!(live.get(ID).is_none());
    assert_eq!(live.len(), 1);
    live.sweep();
    assert!(live.is_empty());
}

#[test]
fn nothing_is_kept_while_a_commit_is_under_way() {
    for touched in [[Touched::Session(ID)], [Touched::User(USER)]] {
        let live = live();
        live.keep(loaded(0), live.mark(ID));
        live.hold(&touched);
        assert!(live.get(ID).is_none(), "the old is forgotten before the commit");
        // Read before the commit, and kept before it is over: it would be the old.
        let during = live.mark(ID);
        live.keep(loaded(0), during);
        assert!(live.get(ID).is_none());
        live.release(&touched);
        live.keep(loaded(0), during);
        assert!(live.get(ID).is_none(), "nor by a reader that began during the commit");
        live.keep(loaded(1), live.mark(ID));
        assert_eq!(live.get(ID).map(|kept| kept.user.owner.epoch), Some(1));
    }
}
