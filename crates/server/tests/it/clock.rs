//! Clocks that step (I17): a backward step revives nothing, a forward one expires nothing until it
//! has stood for a minute.

use serde_json::json;

use crate::both;
use crate::harness::{DAY, HOUR, MINUTE, SECOND, Server};

both! {
    async fn a_backward_step_revives_no_expired_token(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        server.pass(6 * MINUTE);
        alice.whoami().await.expect_unknown_token(true);
        server.step_clock(-HOUR);
        alice.whoami().await.expect_unknown_token(true);
        alice.try_to_refresh().await.expect_ok();
    }

    async fn a_backward_step_prolongs_no_token_and_no_leeway(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let before = alice.clone();
        alice.refresh().await;
        alice.whoami().await.expect_ok();
        server.step_clock(-10 * DAY);
        server.pass(30 * SECOND);
        before.whoami().await.expect_unknown_token(true);
        before.try_to_refresh().await.expect_unknown_token(true);
        alice.whoami().await.expect_unknown_token(true);
        assert_eq!(server.audited("reuse").await, 1);
    }

    async fn time_goes_on_after_a_backward_step(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        server.step_clock(-HOUR);
        server.pass(5 * MINUTE - 1);
        alice.whoami().await.expect_ok();
        server.pass(1);
        alice.whoami().await.expect_unknown_token(true);
    }

    async fn a_forward_step_expires_nothing_until_it_has_stood(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        server.step_clock(3_650 * DAY);
        alice.whoami().await.expect_ok();
        server.pass(MINUTE - 1);
        alice.whoami().await.expect_ok();
        server.pass(1);
        alice.whoami().await.expect_unknown_token(true);
        alice.try_to_refresh().await.expect_ok();
    }

    async fn a_forward_step_taken_back_was_nothing(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        server.step_clock(DAY);
        alice.whoami().await.expect_ok();
        server.pass(30 * SECOND);
        server.step_clock(-DAY);
        server.pass(2 * MINUTE);
        alice.whoami().await.expect_ok();
    }

    async fn a_forward_step_ends_no_family(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let before = alice.clone();
        alice.refresh().await;
        alice.whoami().await.expect_ok();
        server.step_clock(HOUR);
        before.try_to_refresh().await.expect_unknown_token(true);
        alice.whoami().await.expect_ok();
    }

    async fn small_corrections_are_followed(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        server.pass(5 * MINUTE - 2 * SECOND);
        server.step_clock(2 * SECOND);
        alice.whoami().await.expect_unknown_token(true);
    }

    async fn what_was_seen_is_remembered_over_a_restart(server: Server) {
        server.pass(DAY);
        let now = server.now();
        let server = server.restart().await;
        assert_eq!(server.store().clock_floor().await, Ok(now));
    }

    async fn an_authentication_under_way_ends_after_ten_minutes(server: Server) {
        let server = server.with_registration(ligand_protocol::registration::RegistrationMode::Open).await;
        let asked = server.post("v3/register").json(json!({})).await.expect_flows(&["m.login.dummy"]);
        let auth = json!({"type": "m.login.dummy", "session": asked["session"]});
        server.pass(10 * MINUTE);
        let body = json!({"username": "alice", "password": crate::harness::PASSWORD, "auth": auth});
        let late = server.post("v3/register").json(body).await;
        late.expect_flows_after_a_try(&["m.login.dummy"], &[], Some("M_FORBIDDEN"));
    }
}
