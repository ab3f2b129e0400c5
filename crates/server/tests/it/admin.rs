//! `GET /admin/whois/{userId}`, `GET` and `PUT` of `/admin/suspend/{userId}` and `/admin/lock/{userId}`.

use serde_json::json;

use crate::both;
use crate::harness::{Client, SECOND, Server, at_once};

/// An administrator, signed in.
async fn admin(server: &Server) -> Client {
    let root = server.user("root").await;
    server.make_admin(&root).await;
    root.log_in().await
}

fn on(measure: &str, name: &str) -> String {
    format!("v1/admin/{measure}/@{name}:example.org")
}

/// What an endpoint sets, and the member it sets.
const MEASURES: [(&str, &str); 2] = [("suspend", "suspended"), ("lock", "locked")];

both! {
    async fn an_administrator_suspends_and_locks_and_takes_it_back(server: Server) {
        let root = admin(&server).await;
        let alice = server.user("alice").await.log_in().await;
        for (measure, key) in MEASURES {
            for prefix in ["v1", "unstable"] {
                let path = format!("{prefix}/admin/{measure}/@alice:example.org");
                assert_eq!(root.get(&path).await.expect_ok(), json!({key: false}));
                for set in [true, true, false, false] {
                    assert_eq!(root.put(&path, json!({key: set})).await.expect_ok(), json!({key: set}));
                    assert_eq!(root.get(&path).await.expect_ok(), json!({key: set}));
                    let (status, errcode) = match (measure, set) {
                        ("lock", true) => (401, "M_USER_LOCKED"),
                        _ => (200, ""),
                    };
                    let whoami = alice.whoami().await;
                    assert_eq!((whoami.status, whoami.json()["errcode"].as_str().unwrap_or("")), (status, errcode));
                }
            }
        }
        // What changes nothing is not recorded.
        for action in ["user_suspended", "user_unsuspended", "user_locked", "user_unlocked"] {
            assert_eq!(server.audited(action).await, 2, "{action}");
        }
        let rows = server.store().read("SELECT actor, user_id FROM audit WHERE action = 'user_locked'", vec![]).await;
        let rows = rows.unwrap();
        assert_eq!((rows[0].text(0), rows[0].int(1)), (Ok("root"), Ok(alice.user.key.0)));
    }

    async fn both_are_apart(server: Server) {
        let root = admin(&server).await;
        server.user("alice").await;
        root.put(&on("lock", "alice"), json!({"locked": true})).await.expect_ok();
        root.put(&on("suspend", "alice"), json!({"suspended": true})).await.expect_ok();
        root.put(&on("lock", "alice"), json!({"locked": false})).await.expect_ok();
        assert_eq!(root.get(&on("suspend", "alice")).await.expect_ok(), json!({"suspended": true}));
    }

    // Who asks is judged before anybody is looked up.
    async fn others_learn_nothing_not_even_who_exists(server: Server) {
        let root = admin(&server).await;
        let alice = server.user("alice").await.log_in().await;
        server.user("bob").await;
        for (measure, _) in MEASURES {
            let mut answers = Vec::new();
            for id in ["@bob:example.org", "@nobody:example.org", "@root:example.org", "@alice:example.org", "@bob:other.org", "bob", "%ff"] {
                let path = format!("v1/admin/{measure}/{id}");
                for answer in [alice.get(&path).await, alice.put(&path, json!({})).await] {
                    answer.expect(403, "M_FORBIDDEN");
                    answers.push(answer.text);
                }
            }
            answers.dedup();
            assert_eq!(answers.len(), 1);
        }
        let mut answers = Vec::new();
        for id in ["@bob:example.org", "@nobody:example.org", "@root:example.org", "@bob:other.org", "bob", "%ff"] {
            let answer = alice.get(&format!("v3/admin/whois/{id}")).await;
            answer.expect(403, "M_FORBIDDEN");
            answers.push(answer.text);
        }
        answers.dedup();
        assert_eq!(answers.len(), 1);
        root.get(&on("lock", "bob")).await.expect_ok();
    }

    async fn whom_an_administrator_cannot_touch(server: Server) {
        let root = admin(&server).await;
        let other = server.user("other").await;
        server.make_admin(&other).await;
        let gone = server.user("gone").await.log_in().await;
        gone.post_with_password("v3/account/deactivate", json!({})).await.expect_ok();
        for (measure, key) in MEASURES {
            let set = json!({key: true});
            let path = |id: &str| format!("v1/admin/{measure}/{id}");
            for id in ["@root:other.org", "root", "@root", "%ff", "@:other"] {
                root.get(&path(id)).await.expect(400, "M_INVALID_PARAM");
                root.put(&path(id), set.clone()).await.expect(400, "M_INVALID_PARAM");
            }
            for id in ["@nobody:example.org", "@gone:example.org", "@Other:example.org", "@:example.org"] {
                root.get(&path(id)).await.expect(404, "M_NOT_FOUND");
                root.put(&path(id), set.clone()).await.expect(404, "M_NOT_FOUND");
            }
            root.get(&on(measure, "other")).await.expect(403, "M_FORBIDDEN");
            root.put(&on(measure, "other"), set.clone()).await.expect(403, "M_FORBIDDEN");
            assert_eq!(root.get(&on(measure, "root")).await.expect_ok(), json!({key: false}));
            root.put(&on(measure, "root"), set.clone()).await.expect(403, "M_FORBIDDEN");
            for body in [json!({}), json!({key: null})] {
                root.put(&on(measure, "gone"), body).await.expect(400, "M_MISSING_PARAM");
            }
            root.put(&on(measure, "gone"), json!({key: "yes"})).await.expect(400, "M_INVALID_PARAM");
        }
        root.whoami().await.expect_ok();
    }

    async fn many_at_once_are_recorded_as_one(server: Server) {
        let root = admin(&server).await;
        server.user("alice").await;
        let requests = vec![root.put(&on("lock", "alice"), json!({"locked": true})); 16];
        for answer in at_once(requests).await {
            assert_eq!(answer.expect_ok(), json!({"locked": true}));
        }
        assert_eq!(server.audited("user_locked").await, 1);
    }

    async fn who_is_no_longer_one_or_is_suspended_moderates_nobody(server: Server) {
        let root = admin(&server).await;
        server.user("alice").await;
        server.suspend(&root.user).await;
        root.put(&on("lock", "alice"), json!({"locked": true})).await.expect(403, "M_USER_SUSPENDED");
        let flag = ligand_storage::users::Flag::Admin(false);
        server.store().set_flag(root.user.key, flag, &server.event("admin_revoked")).await.unwrap();
        root.put(&on("lock", "alice"), json!({"locked": true})).await.expect(403, "M_FORBIDDEN");
    }

    async fn a_new_administrator_is_one_at_once(server: Server) {
        let alice = server.user("alice").await.log_in().await;
        server.user("bob").await;
        alice.get(&on("lock", "bob")).await.expect(403, "M_FORBIDDEN");
        // From another process, before this one has heard of it.
        let tool = server.store_of_a_tool().await;
        let flag = ligand_storage::users::Flag::Admin(true);
        assert_eq!(tool.set_flag(alice.user.key, flag, &server.event("admin_granted")).await, Ok(true));
        alice.get(&on("lock", "bob")).await.expect_ok();
        alice.get("v3/admin/whois/@bob:example.org").await.expect_ok();
        tool.close().await;
    }

    async fn whois_tells_where_one_is_signed_in(server: Server) {
        let server = server.with_limits().await;
        let user = server.user("alice").await;
        let phone = user.try_to_log_in("v3", json!({"device_id": "PHONE"})).from("203.0.113.7");
        let alice = user.signed_in(&phone.header("user-agent", "curl/8").await);
        let at = server.now();
        server.pass(SECOND);
        user.log_in_with(json!({"device_id": "TABLET"})).await;
        let root = admin(&server).await;
        for prefix in ["r0", "v3", "unstable"] {
            let path = format!("{prefix}/admin/whois/@alice:example.org");
            let body = alice.get(&path).await.expect_ok();
            assert_eq!(body["user_id"], "@alice:example.org");
            let connection = json!({"ip": "203.0.113.7", "last_seen": at, "user_agent": "curl/8"});
            assert_eq!(body["devices"]["PHONE"], json!({"sessions": [{"connections": [connection]}]}));
            assert_eq!(body["devices"]["TABLET"]["sessions"][0]["connections"][0]["last_seen"], at + SECOND);
            assert_eq!(root.get(&path).await.expect_ok(), body);
        }
        alice.logout().await.expect_ok();
        let body = root.get("v3/admin/whois/@alice:example.org").await.expect_ok();
        assert_eq!(body["devices"].as_object().map(|devices| devices.len()), Some(1));
        root.get("v3/admin/whois/@nobody:example.org").await.expect(404, "M_NOT_FOUND");
        root.get("v3/admin/whois/@alice:other.org").await.expect(400, "M_INVALID_PARAM");
    }
}
