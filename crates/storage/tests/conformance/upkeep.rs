//! What upkeep removes, and what it must leave.

use ligand_protocol::NEVER;
use ligand_protocol::ids::{SessionId, UserKey};
use ligand_protocol::session::{AccountState, Api, EndReason, Session, Status};
use ligand_protocol::token::TokenHash;
use ligand_storage::Store;
use ligand_storage::expired::Stretch;
use ligand_storage::uia::UiaRow;
use ligand_storage::{Write, params};

use crate::on_both;
use crate::world::*;

const WHOLE: Stretch = Stretch { after: SessionId([0; 16]), to: SessionId([255; 16]), len: 0 };

fn session(byte: u8) -> Session {
    Session {
        id: SessionId([byte; 16]),
        user: UserKey(1),
        user_epoch: 0,
        client_id: None,
        api: Api::Legacy,
        status: Status::Live,
        generation: 2,
        acked_generation: 2,
        acked_at: Some(NOW),
        head_at: NOW,
        rt_hash: Some(TokenHash([byte; 32])),
        rt_prev_hash: Some(TokenHash([byte; 32])),
        sealed: Some(vec![byte; 104]),
        rt_exp: NEVER,
        session_exp: NEVER,
        at_hash: TokenHash([byte; 32]),
        at_exp: NOW + HOUR,
        at_prev_hash: None,
        at_prev_exp: None,
    }
}

async fn put(store: &Store, sessions: &[Session]) {
    let mut batch = vec![user_row(UserKey(1), 0, AccountState::Active)];
    batch.extend(sessions.iter().map(session_row));
    let done = store.commit(batch, vec![]).await.unwrap();
    assert!(matches!(done, ligand_storage::Committed::Done(_)));
}

/// The first bytes of the ids of sessions with a seal.
async fn sealed(store: &Store) -> Vec<u8> {
    let rows =
        store.read("select session_id from sessions where sealed is not null order by 1", vec![]).await;
    rows.unwrap().iter().map(|row| row.blob(0).unwrap()[0]).collect()
}

on_both! {
    ended_sessions_go_oldest_first_and_few_at_a_time(store) {
        let ended = (1..=5).map(|byte| Session { status: Status::Ended(EndReason::Logout), ..session(byte) });
        let live = session(9);
        put(&store, &ended.chain([live]).collect::<Vec<_>>()).await;
        for byte in 1..=5_u8 {
            let write = Write::one("update sessions set ended_at = $2 where session_id = $1",
                params![[byte; 16], i64::from(byte)]);
            store.commit(vec![write], vec![]).await.unwrap();
        }
        assert_eq!(store.delete_ended_sessions(1, 9).await, Ok(0));
        assert_eq!(store.delete_ended_sessions(5, 3).await, Ok(3));
        let left = async || {
            let rows = store.list_sessions(SessionId([0; 16]), true, 99).await.unwrap();
            rows.iter().map(|row| row.session.id.0[0]).collect::<Vec<_>>()
        };
        assert_eq!(left().await, [4, 5, 9]);
        assert_eq!(store.delete_ended_sessions(5, 3).await, Ok(1));
        assert_eq!(store.delete_ended_sessions(NEVER, 3).await, Ok(1));
        assert_eq!(left().await, [9], "what lives stays");
    }

    expired_authentications_go_few_at_a_time(store) {
        for at in 0..5 {
            let row = UiaRow { expires_at: NOW + at, ..crate::uia::row(None) };
            store.open_uia(&row).await.unwrap();
        }
        assert_eq!(store.delete_expired_uia(NOW, 9).await, Ok(0));
        assert_eq!(store.delete_expired_uia(NOW + 4, 3).await, Ok(3));
        assert_eq!(store.delete_expired_uia(NOW + 4, 3).await, Ok(1));
        assert_eq!(number(&store, "select count(*) from uia_sessions", vec![]).await, 1);
    }

    stretches_cover_the_table(store) {
        put(&store, &(1..=5).map(session).collect::<Vec<_>>()).await;
        let (mut after, mut stretches) = (SessionId([0; 16]), Vec::new());
        while let Some(stretch) = store.next_stretch(after, 2).await.unwrap() {
            assert_eq!(stretch.after, after);
            after = stretch.to;
            stretches.push((stretch.to.0[0], stretch.len));
        }
        assert_eq!(stretches, [(2, 2), (4, 2), (5, 1)]);
    }

    seals_go_when_their_window_is_over(store) {
        let oauth = |byte| Session { api: Api::OAuth, client_id: Some("app".into()), ..session(byte) };
        put(&store, &[
            session(1),
            Session { acked_at: Some(NOW + 1), ..session(2) },
            oauth(3),
            Session { acked_at: Some(NOW - 30_000), ..oauth(4) },
            // Nobody has used this head: a retry still needs its seal.
            Session { acked_generation: 1, acked_at: Some(0), ..session(5) },
            Session { sealed: None, ..session(6) },
        ]).await;
        let part = Stretch { to: SessionId([1; 16]), ..WHOLE };
        assert_eq!(store.erase_seals(Stretch { after: SessionId([4; 16]), ..WHOLE }, NEVER, NEVER).await, Ok(0));
        assert_eq!(store.erase_seals(part, NOW - 30_000, NOW - 1).await, Ok(0));
        assert_eq!(store.erase_seals(WHOLE, NOW - 30_000, NOW).await, Ok(2));
        assert_eq!(sealed(&store).await, [2, 3, 5]);
        assert_eq!(store.erase_seals(WHOLE, NOW, NOW + 1).await, Ok(2));
        assert_eq!(sealed(&store).await, [5]);
    }

    one_seal_goes_if_its_head_is_still_the_head(store) {
        put(&store, &[session(1), Session { acked_generation: 1, ..session(2) }]).await;
        assert_eq!(store.erase_seal(SessionId([1; 16]), 1).await, Ok(0));
        assert_eq!(store.erase_seal(SessionId([2; 16]), 2).await, Ok(0), "not used yet");
        assert_eq!(store.erase_seal(SessionId([1; 16]), 2).await, Ok(1));
        assert_eq!(store.erase_seal(SessionId([3; 16]), 2).await, Ok(0));
        assert_eq!(sealed(&store).await, [2]);
    }

    sessions_past_their_absolute_end_are_ended(store) {
        let until = |byte, session_exp| Session { session_exp, ..session(byte) };
        let gone = Session { status: Status::Ended(EndReason::Logout), ..until(4, NOW - 1) };
        put(&store, &[until(1, NOW - 1), until(2, NOW), session(3), gone.clone(), until(5, NOW - 1)]).await;
        let first = Stretch { to: SessionId([4; 16]), ..WHOLE };
        assert_eq!(store.end_expired(first, NOW).await, Ok(1));
        assert_eq!(load(&store, SessionId([1; 16])).await.session, until(1, NOW - 1).ended(EndReason::Expired));
        assert_eq!(store.show_session(SessionId([1; 16])).await.unwrap().unwrap().ended_at, Some(NOW));
        assert_eq!(load(&store, SessionId([2; 16])).await.session, until(2, NOW));
        assert_eq!(load(&store, SessionId([4; 16])).await.session, gone, "the first reason stays");
        assert_eq!(store.end_expired(WHOLE, NOW).await, Ok(1));
    }

    the_clock_floor_only_rises(store) {
        assert_eq!(store.clock_floor().await, Ok(0));
        for (given, floor) in [(5, 5), (3, 5), (NOW, NOW), (0, NOW)] {
            store.raise_clock_floor(given).await.unwrap();
            assert_eq!(store.clock_floor().await, Ok(floor));
        }
    }
}
