//! What another process writes into the same database is seen within a second: the command line
//! beside the server.

use std::time::{Duration, Instant};

use ligand_protocol::session::EndReason;
use ligand_storage::users::Flag;

use crate::both;
use crate::harness::{Answer, Client, Server};

/// How long an answer from memory may lag behind (T of the design).
const LAG: Duration = Duration::from_secs(1);

/// Asks until the first refusal. The last request that still passed was sent within a second of
/// the change, however slow the machine is.
async fn first_refusal(client: &Client) -> Answer {
    let changed = Instant::now();
    loop {
        let sent = changed.elapsed();
        let answer = client.whoami().await;
        if answer.status != 200 {
            return answer;
        }
        assert!(sent < LAG, "passed {sent:?} after the change");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

both! {
    async fn a_lock_and_its_end_are_seen(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        alice.whoami().await.expect_ok();
        let tool = server.store_of_a_tool().await;
        assert_eq!(tool.set_flag(alice.user.key, Flag::Lock, &server.event("locked")).await, Ok(true));
        first_refusal(&alice).await.expect(401, "M_USER_LOCKED");
        // What memory would refuse is read again: an unlocking is seen at once.
        assert_eq!(tool.set_flag(alice.user.key, Flag::Unlock, &server.event("unlocked")).await, Ok(true));
        alice.whoami().await.expect_ok();
        tool.close().await;
    }

    async fn the_end_of_one_session_is_seen(server: Server) {
        let user = server.user("alice").await;
        let (alice, other) = (user.log_in().await, user.log_in().await);
        alice.whoami().await.expect_ok();
        let tool = server.store_of_a_tool().await;
        let sessions = tool.sessions_of(user.key, false).await.unwrap();
        let mine = sessions.iter().find(|row| row.device_id.as_ref().unwrap().as_str() == alice.device_id).unwrap();
        let event = server.event("admin");
        let device = mine.device_id.as_ref();
        assert_eq!(tool.end_with_device(mine.session.id, user.key, device, EndReason::Admin, &event).await, Ok(true));
        first_refusal(&alice).await.expect_unknown_token(false);
        other.whoami().await.expect_ok();
        tool.close().await;
    }

    async fn the_end_of_all_sessions_is_seen(server: Server) {
        let user = server.user("alice").await;
        let (alice, other) = (user.log_in().await, user.log_in().await);
        alice.whoami().await.expect_ok();
        let tool = server.store_of_a_tool().await;
        let epoch = tool.load_user(user.key).await.unwrap().unwrap().epoch;
        let event = server.event("admin");
        assert_eq!(tool.deactivate(user.key, epoch, false, None, &event).await, Ok(true));
        first_refusal(&alice).await.expect_unknown_token(false);
        other.whoami().await.expect_unknown_token(false);
        user.try_to_log_in("v3", serde_json::json!({})).await.expect(403, "M_FORBIDDEN");
        tool.close().await;
    }

    // Refreshes never use memory: no waiting.
    async fn a_refresh_sees_it_at_once(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let tool = server.store_of_a_tool().await;
        assert_eq!(tool.set_flag(alice.user.key, Flag::Lock, &server.event("locked")).await, Ok(true));
        alice.try_to_refresh().await.expect(401, "M_USER_LOCKED");
        alice.try_to_tokenrefresh().await.expect(401, "M_USER_LOCKED");
        tool.close().await;
    }
}
