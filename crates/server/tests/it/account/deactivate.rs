//! `POST /account/deactivate`.

use serde_json::{Value, json};

use crate::both;
use crate::harness::{Server, at_once};

both! {
    // I14.
    async fn nobody_signs_in_again_and_every_session_ends(server: Server) {
        let alice = server.user("alice").await;
        let (mine, other) = (alice.log_in().await, alice.log_in().await);
        let answer = mine.post_with_password("v3/account/deactivate", json!({})).await;
        assert_eq!(answer.expect_ok(), json!({"id_server_unbind_result": "success"}));
        for ended in [&mine, &other] {
            ended.whoami().await.expect_unknown_token(false);
            ended.try_to_refresh().await.expect_unknown_token(false);
            ended.try_to_tokenrefresh().await.expect_forbidden();
            ended.logout().await.expect_unknown_token(false);
        }
        alice.try_to_log_in("v3", json!({})).await.expect(403, "M_FORBIDDEN");
        assert_eq!(server.audited("deactivated").await, 1);
    }

    async fn it_is_there_on_every_prefix_since_r0(server: Server) {
        for prefix in ["r0", "v3", "unstable"] {
            let client = server.user(prefix).await.log_in().await;
            let path = format!("{prefix}/account/deactivate");
            client.post_with_password(&path, json!({"erase": true})).await.expect_ok();
        }
    }

    async fn the_name_stays_taken(server: Server) {
        let server = server.with_registration(ligand_protocol::registration::RegistrationMode::Open).await;
        let alice = server.user("alice").await.log_in().await;
        alice.post_with_password("v3/account/deactivate", json!({})).await.expect_ok();
        server.get("v3/register/available?username=alice").await.expect(400, "M_USER_IN_USE");
        server.post("v3/register").json(json!({"username": "alice"})).await.expect(400, "M_USER_IN_USE");
    }

    async fn a_proof_without_a_session_is_judged_at_once(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        let body = json!({"auth": alice.password_auth(&Value::Null)});
        alice.post("v3/account/deactivate", body).await.expect_ok();
    }

    async fn a_member_of_the_wrong_type_is_refused(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        alice.post("v3/account/deactivate", json!({"erase": "please"})).await.expect(400, "M_INVALID_PARAM");
        alice.post("v3/account/deactivate", json!({"auth": []})).await.expect(400, "M_INVALID_PARAM");
        alice.whoami().await.expect_ok();
    }

    async fn a_sign_in_that_races_with_it_opens_nothing(server: Server) {
        let alice = server.user("alice").await;
        let mine = alice.log_in().await;
        let end = json!({"auth": mine.password_auth(&Value::Null)});
        let mut requests = vec![alice.try_to_log_in("v3", json!({})); 3];
        requests.push(mine.post("v3/account/deactivate", end));
        let answers = at_once(requests).await;
        answers[3].expect_ok();
        for answer in answers[..3].iter().filter(|answer| answer.status == 200) {
            alice.signed_in(answer).whoami().await.expect_unknown_token(false);
        }
        for answer in answers[..3].iter().filter(|answer| answer.status != 200) {
            assert!([403, 429].contains(&answer.status), "{answer:?}");
        }
    }
}
