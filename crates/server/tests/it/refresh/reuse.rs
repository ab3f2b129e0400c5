//! Spent refresh tokens: refused within the leeway, outside it the end of the family, as a soft
//! logout (I8). Tokens that the database has never seen: a lost commit (I24).

use ligand_protocol::token::TokenKind;
use serde_json::json;

use crate::both;
use crate::harness::{Client, MINUTE, SECOND, Server, at_once};

/// A client with its spent predecessors, the oldest first; each pair was used.
async fn with_history(server: &Server, refreshes: usize) -> (Client, Vec<Client>) {
    let mut alice = server.user("alice").await.log_in_with(json!({"device_id": "PHONE"})).await;
    let mut spent = Vec::new();
    for _ in 0..refreshes {
        spent.push(alice.clone());
        alice.refresh().await;
        alice.whoami().await.expect_ok();
    }
    (alice, spent)
}

/// The family has ended softly, with one audit event.
async fn expect_ended(server: &Server, client: &Client) {
    client.whoami().await.expect_unknown_token(true);
    client.try_to_refresh().await.expect_unknown_token(true);
    client.try_to_tokenrefresh().await.expect_forbidden();
    assert_eq!(server.audited("reuse").await, 1);
}

both! {
    async fn within_the_leeway_the_predecessor_is_refused_and_nothing_ends(server: Server) {
        let (mut alice, spent) = with_history(&server, 1).await;
        server.pass(30 * SECOND - 1);
        spent[0].try_to_refresh().await.expect_unknown_token(true);
        alice.whoami().await.expect_ok();
        alice.refresh().await;
        assert_eq!((server.audited("reuse").await, server.audited("refresh_spent").await), (0, 1));
    }

    async fn a_client_in_a_loop_fills_no_table(server: Server) {
        let (alice, spent) = with_history(&server, 1).await;
        for _ in 0..10 {
            spent[0].try_to_refresh().await.expect_unknown_token(true);
            spent[0].try_to_tokenrefresh().await.expect_forbidden();
        }
        assert_eq!(server.audited("refresh_spent").await, 2);
        alice.whoami().await.expect_ok();
    }

    async fn outside_it_the_family_ends(server: Server) {
        let (alice, spent) = with_history(&server, 1).await;
        server.pass(30 * SECOND);
        spent[0].try_to_refresh().await.expect_unknown_token(true);
        expect_ended(&server, &alice).await;
    }

    async fn the_leeway_is_what_the_operator_says(server: Server) {
        let server = server.with(|config| config.sessions.legacy_reuse_leeway = std::time::Duration::ZERO).await;
        let (alice, spent) = with_history(&server, 1).await;
        spent[0].try_to_refresh().await.expect_unknown_token(true);
        expect_ended(&server, &alice).await;
    }

    async fn the_leeway_begins_with_the_first_use(server: Server) {
        let mut alice = server.user("alice").await.log_in().await;
        let before = alice.clone();
        alice.refresh().await;
        server.pass(4 * MINUTE);
        alice.whoami().await.expect_ok();
        server.pass(30 * SECOND - 1);
        before.try_to_refresh().await.expect_unknown_token(true);
        alice.whoami().await.expect_ok();
    }

    async fn the_one_before_the_predecessor_has_its_leeway_from_the_minting(server: Server) {
        let (alice, spent) = with_history(&server, 2).await;
        server.pass(30 * SECOND - 1);
        spent[0].try_to_refresh().await.expect_unknown_token(true);
        alice.whoami().await.expect_ok();
        server.pass(1);
        spent[0].try_to_refresh().await.expect_unknown_token(true);
        expect_ended(&server, &alice).await;
    }

    async fn so_it_is_under_an_unused_head(server: Server) {
        let (mut alice, spent) = with_history(&server, 1).await;
        alice.refresh().await;
        server.pass(30 * SECOND - 1);
        spent[0].try_to_refresh().await.expect_unknown_token(true);
        server.pass(1);
        spent[0].try_to_refresh().await.expect_unknown_token(true);
        expect_ended(&server, &alice).await;
    }

    async fn an_older_one_ends_the_family_at_once(server: Server) {
        let (alice, spent) = with_history(&server, 3).await;
        spent[0].try_to_refresh().await.expect_unknown_token(true);
        expect_ended(&server, &alice).await;
    }

    async fn the_family_ends_once_however_many_come(server: Server) {
        let (alice, spent) = with_history(&server, 3).await;
        let answers = at_once(vec![spent[0].try_to_refresh(); 16]).await;
        answers.iter().for_each(|answer| answer.expect_unknown_token(true));
        expect_ended(&server, &alice).await;
    }

    async fn no_audit_event_of_it_holds_a_token(server: Server) {
        let (_, spent) = with_history(&server, 3).await;
        spent[0].try_to_refresh().header("user-agent", "curl").await.expect_unknown_token(true);
        let sql = "SELECT address, user_agent, generation, session_id FROM audit WHERE action = 'reuse'";
        let rows = server.store().read(sql, Vec::new()).await.unwrap();
        assert_eq!((rows[0].text(0), rows[0].text(1), rows[0].int(2)), (Ok("127.0.0.1"), Ok("curl"), Ok(1)));
        assert_eq!(rows[0].blob(3).unwrap().len(), 16);
    }

    async fn the_device_stays_and_its_owner_signs_in_again(server: Server) {
        let (alice, spent) = with_history(&server, 3).await;
        let other = alice.user.log_in().await;
        spent[0].try_to_refresh().await.expect_unknown_token(true);
        other.whoami().await.expect_ok();
        assert!(other.devices().await.contains(&"PHONE".to_owned()));
        let again = alice.user.log_in_with(json!({"device_id": "PHONE"})).await;
        again.whoami().await.expect_ok();
        alice.whoami().await.expect_unknown_token(true);
    }

    async fn it_stays_ended_after_a_restart(server: Server) {
        let (alice, spent) = with_history(&server, 3).await;
        spent[0].try_to_refresh().await.expect_unknown_token(true);
        let server = server.restart().await;
        expect_ended(&server, &alice).await;
    }

    async fn an_old_access_token_ends_nothing(server: Server) {
        let (mut alice, spent) = with_history(&server, 3).await;
        server.pass(MINUTE);
        for old in &spent {
            old.whoami().await.expect_unknown_token(true);
        }
        alice.whoami().await.expect_ok();
        alice.refresh().await;
    }

    async fn a_genuine_token_that_the_database_does_not_know_is_refused_softly(server: Server) {
        let (mut alice, _) = with_history(&server, 3).await;
        // Generation 4 is the head: its like with another secret, its predecessor's, and one to come.
        for generation in [4, 3, 5, 100] {
            let text = server.forged(&alice, TokenKind::Refresh, generation);
            server.post("v3/refresh").json(json!({"refresh_token": text})).await.expect_unknown_token(true);
            server.post("r0/tokenrefresh").json(json!({"refresh_token": text})).await.expect_forbidden();
        }
        let access = server.forged(&alice, TokenKind::Access, 5);
        server.get("v3/account/whoami").bearer(&access).await.expect_unknown_token(true);
        alice.refresh().await;
        alice.whoami().await.expect_ok();
        let metrics = server.app().metrics.text(server.app()).unwrap();
        assert!(metrics.contains("ligand_lost_commits_total 9"), "{metrics}");
    }
}
