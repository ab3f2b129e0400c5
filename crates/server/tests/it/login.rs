//! `GET /login`, `POST /login`.

use serde_json::{Value, json};

use crate::both;
use crate::harness::{Client, DAY, HOUR, MINUTE, PASSWORD, SECOND, Server};

const PREFIXES: [&str; 5] = ["api/v1", "v2_alpha", "r0", "v3", "unstable"];

/// Signs in at a prefix with this body.
async fn log_in(server: &Server, prefix: &str, body: Value) -> Value {
    server.post(&format!("{prefix}/login")).json(body).await.expect_ok()
}

both! {
    async fn the_way_to_sign_in_is_told_on_every_prefix(server: Server) {
        for prefix in PREFIXES {
            let flows = server.get(&format!("{prefix}/login")).await.expect_ok();
            let token = json!({"type": "m.login.token", "get_login_token": true});
            assert_eq!(flows, json!({"flows": [{"type": "m.login.password"}, token]}));
        }
    }

    async fn todays_body_signs_in_on_every_prefix(server: Server) {
        let alice = server.user("alice").await;
        for prefix in PREFIXES {
            let client = alice.log_in_at(prefix).await;
            client.whoami().await.expect_ok();
        }
    }

    // Digest §5 A9: what clients have sent since 2015.
    async fn every_shape_of_body_signs_in(server: Server) {
        server.user("alice").await;
        for name in ["alice", "@alice:example.org", "Alice"] {
            for shape in [
                json!({"identifier": {"type": "m.id.user", "user": name}}),
                json!({"user": name}),
                json!({"username": name}),
                // The newer name for it wins.
                json!({"identifier": {"type": "m.id.user", "user": name}, "user": "nobody", "username": "nobody"}),
                json!({"user": name, "username": "nobody"}),
            ] {
                let mut body = shape;
                body["type"] = "m.login.password".into();
                body["password"] = PASSWORD.into();
                let signed_in = log_in(&server, "v3", body).await;
                assert_eq!(signed_in["user_id"], "@alice:example.org");
            }
        }
    }

    async fn the_body_of_2015_signs_in_where_2015_is_spoken(server: Server) {
        server.user("alice").await;
        let body = json!({"username": "alice", "password": PASSWORD});
        for prefix in ["api/v1", "v2_alpha"] {
            log_in(&server, prefix, body.clone()).await;
        }
        for prefix in ["r0", "v3", "unstable"] {
            server.post(&format!("{prefix}/login")).json(body.clone()).await.expect(400, "M_MISSING_PARAM");
        }
    }

    async fn the_answer_has_every_field_of_2015_and_of_today(server: Server) {
        let alice = server.user("alice").await;
        for prefix in PREFIXES {
            let answer = alice.try_to_log_in(prefix, json!({"device_id": "PHONE", "refresh_token": true})).await;
            let body = answer.expect_ok();
            assert_eq!(body["user_id"], "@alice:example.org");
            assert_eq!(body["home_server"], "example.org");
            assert_eq!(body["device_id"], "PHONE");
            assert_eq!(body["expires_in_ms"], 5 * MINUTE);
            assert!(body["access_token"].is_string() && body["refresh_token"].is_string());
            assert_eq!(answer.header("cache-control"), Some("no-store"));
        }
    }

    async fn where_the_server_is_found_is_told_if_the_operator_says_so(server: Server) {
        let server = server.with(|config| config.http.public_url = Some("https://matrix.example.org/".into())).await;
        let answer = server.user("alice").await.try_to_log_in("v3", json!({})).await.expect_ok();
        assert_eq!(answer["well_known"], json!({"m.homeserver": {"base_url": "https://matrix.example.org"}}));
    }

    // Digest §5 A7.
    async fn on_the_old_prefixes_everybody_gets_a_refresh_token(server: Server) {
        let alice = server.user("alice").await;
        for prefix in ["api/v1", "v2_alpha"] {
            let client = alice.log_in_at(prefix).await;
            assert!(client.tokens.refresh_token.is_some());
            assert_eq!(client.tokens.expires_in_ms, Some(5 * MINUTE));
        }
    }

    async fn today_only_those_who_ask_get_one(server: Server) {
        let alice = server.user("alice").await;
        for prefix in ["v3", "unstable"] {
            for asked in [json!({}), json!({"refresh_token": false}), json!({"refresh_token": null})] {
                let client = alice.signed_in(&alice.try_to_log_in(prefix, asked).await);
                assert_eq!((client.tokens.refresh_token, client.tokens.expires_in_ms), (None, None));
            }
            let client = alice.signed_in(&alice.try_to_log_in(prefix, json!({"refresh_token": true})).await);
            assert!(client.tokens.refresh_token.is_some());
        }
    }

    async fn nobody_gets_one_who_says_no(server: Server) {
        let alice = server.user("alice").await;
        for prefix in PREFIXES {
            let answer = alice.try_to_log_in(prefix, json!({"refresh_token": false})).await;
            let client = alice.signed_in(&answer);
            assert_eq!((client.tokens.refresh_token, client.tokens.expires_in_ms), (None, None));
        }
    }

    // Digest §5 B1.
    async fn on_r0_an_unasked_refresh_token_comes_beside_a_lasting_access_token(server: Server) {
        let mut client = server.user("alice").await.log_in_at("r0").await;
        assert!(client.tokens.refresh_token.is_some());
        assert_eq!(client.tokens.expires_in_ms, None);
        server.pass(400 * DAY);
        client.whoami().await.expect_ok();
        let pair = client.tokenrefresh().await;
        assert_eq!(pair.expires_in_ms, Some(5 * MINUTE));
        server.pass(5 * MINUTE);
        client.whoami().await.expect_unknown_token(true);
    }

    async fn it_lasts_until_a_pair_that_was_bought_for_it_is_used(server: Server) {
        let lasting = server.user("alice").await.log_in_at("r0").await;
        let pair = lasting.refresh_without_keeping_the_answer().await;
        assert_eq!(pair.expires_in_ms, Some(5 * MINUTE));
        server.pass(400 * DAY);
        lasting.whoami().await.expect_ok();
        let again = lasting.refresh_without_keeping_the_answer().await;
        lasting.holding(&again).whoami().await.expect_ok();
        server.pass(30 * SECOND);
        lasting.whoami().await.expect_unknown_token(true);
    }

    async fn on_r0_the_unasked_refresh_token_can_be_switched_off(server: Server) {
        let server = server.with(|config| config.compat.r0_always_refresh_token = false).await;
        let alice = server.user("alice").await;
        assert_eq!(alice.log_in_at("r0").await.tokens.refresh_token, None);
        let asked = alice.try_to_log_in("r0", json!({"refresh_token": true})).await;
        assert_eq!(alice.signed_in(&asked).tokens.expires_in_ms, Some(5 * MINUTE));
    }

    async fn a_token_without_a_refresh_token_lives_as_long_as_the_operator_says(server: Server) {
        let hour = std::time::Duration::from_secs(3600);
        let server = server.with(|config| config.sessions.unrefreshable_access_token_lifetime = Some(hour)).await;
        let client = server.user("alice").await.log_in_at("v3").await;
        assert_eq!(client.tokens.expires_in_ms, Some(HOUR));
        server.pass(HOUR - 1);
        client.whoami().await.expect_ok();
        server.pass(1);
        client.whoami().await.expect_unknown_token(true);
    }

    async fn a_wrong_password_an_unknown_user_and_no_password_are_told_the_same(server: Server) {
        let alice = server.user("alice").await;
        let bob = server.user_without_password("bob").await;
        let wrong = alice.try_to_log_in("v3", json!({"password": "wrong horse battery"})).await;
        let without = bob.try_to_log_in("v3", json!({})).await;
        let nobody = alice.try_to_log_in("v3", json!({"identifier": {"type": "m.id.user", "user": "nobody"}})).await;
        let elsewhere =
            alice.try_to_log_in("v3", json!({"identifier": {"type": "m.id.user", "user": "@alice:other.org"}})).await;
        let by_mail = json!({"type": "m.id.thirdparty", "medium": "email", "address": "alice@example.org"});
        let by_mail = alice.try_to_log_in("v3", json!({"identifier": by_mail})).await;
        for answer in [&wrong, &without, &nobody, &elsewhere, &by_mail] {
            answer.expect(403, "M_FORBIDDEN");
            assert_eq!(answer.text, wrong.text);
        }
    }

    async fn a_third_party_identifier_is_nobody_whatever_its_shape(server: Server) {
        for body in [
            json!({"identifier": {"type": "m.id.phone", "country": "GB", "phone": "07700900001"}}),
            json!({"identifier": {"medium": "email", "address": "alice@example.org"}}),
            json!({"medium": "email", "address": "alice@example.org"}),
        ] {
            let body = crate::harness::merged(body, json!({"type": "m.login.password", "password": PASSWORD}));
            server.post("v3/login").json(body).await.expect(403, "M_FORBIDDEN");
        }
    }

    async fn types_that_are_not_offered_are_refused(server: Server) {
        let alice = server.user("alice").await;
        for kind in ["m.login.sso", "m.login.dummy", ""] {
            alice.try_to_log_in("v3", json!({"type": kind})).await.expect(400, "M_UNKNOWN");
        }
        let identifier = json!({"type": "m.id.carrier_pigeon", "user": "alice"});
        alice.try_to_log_in("v3", json!({"identifier": identifier})).await.expect(400, "M_UNKNOWN");
    }

    async fn what_is_missing_is_named(server: Server) {
        for (body, missing) in [
            (json!({}), "type"),
            (json!({"type": "m.login.password"}), "identifier"),
            (json!({"type": "m.login.password", "user": "alice"}), "password"),
            (json!({"type": "m.login.password", "identifier": {"type": "m.id.user"}, "password": ""}), "user"),
            (json!({"type": "m.login.password", "identifier": {}, "password": ""}), "identifier.type"),
        ] {
            let error = server.post("v3/login").json(body).await.expect(400, "M_MISSING_PARAM");
            assert!(error["error"].as_str().is_some_and(|error| error.contains(missing)), "{error}");
        }
    }

    async fn a_member_of_the_wrong_type_is_refused(server: Server) {
        let alice = server.user("alice").await;
        for wrong in [
            json!({"type": 1}),
            json!({"password": ["a"]}),
            json!({"identifier": "alice"}),
            json!({"identifier": {"type": "m.id.user", "user": 7}}),
            json!({"device_id": {}}),
            json!({"device_id": "a\u{0}b"}),
            json!({"refresh_token": "yes"}),
            json!({"initial_device_display_name": 1}),
            json!({"initial_device_display_name": "n".repeat(257)}),
        ] {
            alice.try_to_log_in("v3", wrong).await.expect(400, "M_INVALID_PARAM");
        }
    }

    // The table of errors of 2015 has this one only.
    async fn in_2015_whatever_is_wrong_with_the_body_is_bad_json(server: Server) {
        for prefix in ["api/v1", "v2_alpha"] {
            for body in [json!({}), json!({"username": "alice"}), json!({"username": 1, "password": PASSWORD})] {
                server.post(&format!("{prefix}/login")).json(body).await.expect(400, "M_BAD_JSON");
            }
            server.post(&format!("{prefix}/login")).body("{").await.expect(400, "M_NOT_JSON");
        }
    }

    async fn a_password_nobody_could_have_is_wrong_and_no_more(server: Server) {
        let alice = server.user("alice").await;
        for password in ["", &"x".repeat(513), &"\u{fdfa}".repeat(4_000)] {
            alice.try_to_log_in("v3", json!({"password": password})).await.expect(403, "M_FORBIDDEN");
        }
    }

    async fn without_a_device_id_the_server_makes_a_new_one_each_time(server: Server) {
        let alice = server.user("alice").await;
        let (phone, tablet) = (alice.log_in().await, alice.log_in().await);
        let unnamed = alice.log_in_with(json!({"device_id": ""})).await;
        assert_ne!(phone.device_id, tablet.device_id);
        assert_eq!(tablet.devices().await.len(), 3);
        for client in [phone, tablet, unnamed] {
            client.whoami().await.expect_ok();
        }
    }

    // I15.
    async fn signing_in_on_a_device_ends_its_older_session(server: Server) {
        let alice = server.user("alice").await;
        let older = alice.log_in_with(json!({"device_id": "PHONE"})).await;
        older.whoami().await.expect_ok();
        let newer = alice.log_in_with(json!({"device_id": "PHONE"})).await;
        older.whoami().await.expect_unknown_token(true);
        older.try_to_refresh().await.expect_unknown_token(true);
        older.try_to_tokenrefresh().await.expect_forbidden();
        newer.whoami().await.expect_ok();
        assert_eq!(newer.devices().await, ["PHONE"]);
    }

    async fn many_sign_ins_at_once_leave_one_session(server: Server) {
        let alice = server.user("alice").await;
        let requests = (0..8).map(|_| alice.try_to_log_in("v3", json!({"device_id": "PHONE"})));
        let answers = crate::harness::at_once(requests.collect()).await;
        let mut alive = 0;
        for answer in answers.iter().filter(|answer| answer.status == 200) {
            alive += usize::from(alice.signed_in(answer).whoami().await.status == 200);
        }
        assert_eq!(alive, 1);
    }

    async fn a_known_device_keeps_its_name(server: Server) {
        let alice = server.user("alice").await;
        let name = |client: Client| async move {
            client.get("v3/devices/PHONE").await.expect_ok()["display_name"].clone()
        };
        let named = json!({"device_id": "PHONE", "initial_device_display_name": "Alice's phone"});
        assert_eq!(name(alice.log_in_with(named).await).await, "Alice's phone");
        let renamed = json!({"device_id": "PHONE", "initial_device_display_name": "Another name"});
        assert_eq!(name(alice.log_in_with(renamed).await).await, "Alice's phone");
    }

    async fn two_users_may_have_a_device_of_the_same_id(server: Server) {
        let alice = server.user("alice").await.log_in_with(json!({"device_id": "PHONE"})).await;
        let bob = server.user("bob").await.log_in_with(json!({"device_id": "PHONE"})).await;
        alice.logout().await.expect_ok();
        bob.whoami().await.expect_ok();
        assert_eq!(bob.devices().await, ["PHONE"]);
    }

    async fn an_access_token_sent_along_does_not_matter(server: Server) {
        let alice = server.user("alice").await;
        alice.try_to_log_in("v3", json!({})).bearer("nonsense").await.expect_ok();
    }

    async fn each_sign_in_is_in_the_audit_table(server: Server) {
        server.user("alice").await.log_in().await;
        assert_eq!(server.audited("sign_in").await, 1);
    }
}
