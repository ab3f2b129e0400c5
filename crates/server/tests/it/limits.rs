//! Rate limits: by address, by account, by session; `X-Forwarded-For`; never a lock-out.

use ligand_protocol::registration::RegistrationMode;
use ligand_server::config::RateLimit;
use serde_json::{Value, json};

use crate::both;
use crate::harness::{Answer, HOUR, MINUTE, PASSWORD, Request, SECOND, Server, User};

/// Tries a wrong password from an address.
fn guess(user: &User, address: &str) -> Request {
    user.try_to_log_in("v3", json!({"password": "wrong horse battery"})).from(address)
}

/// Addresses that share no limit.
fn address(at: usize) -> String {
    format!("203.0.113.{at}")
}

/// Makes so many wrong guesses at an account that a further one has to wait.
async fn wear_out(user: &User) -> Answer {
    for at in 0..20 {
        let answer = guess(user, &address(at)).await;
        if answer.status == 429 {
            return answer;
        }
        answer.expect(403, "M_FORBIDDEN");
    }
    panic!("never limited");
}

fn garbage(server: &Server, path: &str) -> Request {
    server.post(path).json(json!({"refresh_token": "nonsense"}))
}

both! {
    async fn one_address_tries_ten_times_and_then_waits(server: Server) {
        let server = server.with_limits().await;
        let alice = server.user("alice").await;
        for _ in 0..10 {
            let answer = alice.try_to_log_in("v3", json!({"type": "none"})).from("203.0.113.1").await;
            answer.expect(400, "M_UNKNOWN");
        }
        let wait = alice.try_to_log_in("v3", json!({})).from("203.0.113.1").await.expect_limited();
        assert!((5 * SECOND..=6 * SECOND).contains(&wait), "{wait}");
        alice.try_to_log_in("v3", json!({})).from("203.0.113.2").await.expect_ok();
        server.pass(wait - 1);
        alice.try_to_log_in("v3", json!({})).from("203.0.113.1").await.expect_limited();
        server.pass(1);
        alice.try_to_log_in("v3", json!({})).from("203.0.113.1").await.expect_ok();
    }

    async fn an_ipv6_household_counts_as_one(server: Server) {
        let server = server.with_limits().await;
        let alice = server.user("alice").await;
        let ask = |address: String| alice.try_to_log_in("v3", json!({"type": "none"})).from(&address);
        for at in 0..10 {
            ask(format!("2001:db8:1:2::{at:x}")).await.expect(400, "M_UNKNOWN");
        }
        ask("2001:db8:1:2:ffff::1".to_owned()).await.expect_limited();
        ask("2001:db8:1:3::1".to_owned()).await.expect(400, "M_UNKNOWN");
    }

    async fn the_rightmost_hop_that_is_not_a_proxy_counts(server: Server) {
        let server = server.with_limits().await;
        let alice = server.user("alice").await;
        let ask = |hops: &str| alice.try_to_log_in("v3", json!({"type": "none"})).from(hops);
        for at in 0..10 {
            // What stands further left is what the client wrote.
            ask(&format!("198.51.100.{at}, 203.0.113.1")).await.expect(400, "M_UNKNOWN");
        }
        ask("203.0.113.1").await.expect_limited();
        ask("203.0.113.1, 127.0.0.1").await.expect_limited();
        ask("203.0.113.1, 203.0.113.2").await.expect(400, "M_UNKNOWN");
    }

    async fn from_a_stranger_the_header_counts_for_nothing(server: Server) {
        let server = server.with_limits().await.with(|config| config.http.trusted_proxies.clear()).await;
        let alice = server.user("alice").await;
        for at in 0..10 {
            alice.try_to_log_in("v3", json!({"type": "none"})).from(&address(at)).await.expect(400, "M_UNKNOWN");
        }
        alice.try_to_log_in("v3", json!({})).from("203.0.113.99").await.expect_limited();
    }

    async fn the_address_is_what_the_owner_sees(server: Server) {
        let server = server.with_limits().await;
        let alice = server.user("alice").await;
        let client = alice.signed_in(&alice.try_to_log_in("v3", json!({})).from("203.0.113.7").await);
        let devices = client.get("v3/devices").await.expect_ok();
        assert_eq!(devices["devices"][0]["last_seen_ip"], "203.0.113.7");
    }

    async fn an_account_under_attack_makes_guesses_wait(server: Server) {
        let server = server.with_limits().await;
        let alice = server.user("alice").await;
        let wait = wear_out(&alice).await.expect_limited();
        assert!((1..=SECOND).contains(&wait), "{wait}");
        // Every address waits, and one that never was here.
        guess(&alice, "203.0.113.200").await.expect_limited();
        server.pass(SECOND);
        guess(&alice, "203.0.113.201").await.expect(403, "M_FORBIDDEN");
        let wait = guess(&alice, "203.0.113.202").await.expect_limited();
        assert!((SECOND + 1..=2 * SECOND).contains(&wait), "doubled: {wait}");
    }

    async fn its_owner_signs_in_from_where_a_session_lives(server: Server) {
        let server = server.with_limits().await;
        let alice = server.user("alice").await;
        alice.try_to_log_in("v3", json!({})).from("203.0.113.100").await.expect_ok();
        wear_out(&alice).await.expect_limited();
        alice.try_to_log_in("v3", json!({})).from("203.0.113.101").await.expect_limited();
        alice.try_to_log_in("v3", json!({})).from("203.0.113.100").await.expect_ok();
        // The right password ends the delay for everybody.
        alice.try_to_log_in("v3", json!({})).from("203.0.113.101").await.expect_ok();
    }

    async fn or_where_one_lived_lately_and_from_the_network_of_either(server: Server) {
        let server = server.with_limits().await;
        let alice = server.user("alice").await;
        let log_in = |address: &'static str| alice.try_to_log_in("v3", json!({})).from(address);
        let client = alice.signed_in(&log_in("2001:db8:1:2::1").await);
        client.logout().await.expect_ok();
        wear_out(&alice).await.expect_limited();
        log_in("2001:db8:1:3::1").await.expect_limited();
        log_in("2001:db8:1:2::99").await.expect_ok();
    }

    async fn nobody_learns_from_the_delay_which_accounts_exist(server: Server) {
        let server = server.with_limits().await;
        let alice = server.user("alice").await;
        let nobody = User { name: "nobody".to_owned(), ..alice.clone() };
        let mut after = Vec::new();
        for user in [&alice, &nobody] {
            let mut tries = 0;
            while guess(user, &address(tries)).await.status == 403 {
                tries += 1;
            }
            after.push(tries);
        }
        assert_eq!(after[0], after[1]);
    }

    async fn a_delay_is_never_a_lock(server: Server) {
        let server = server.with_limits().await;
        let alice = server.user("alice").await;
        for at in 0..40 {
            if let Some(wait) = guess(&alice, &address(at)).await.json()["retry_after_ms"].as_i64() {
                assert!(wait <= 15 * MINUTE, "{wait}");
                server.pass(wait);
            }
        }
        server.pass(15 * MINUTE);
        alice.try_to_log_in("v3", json!({})).from("203.0.113.100").await.expect_ok();
    }

    async fn proving_the_password_again_counts_like_signing_in(server: Server) {
        let server = server.with_limits().await;
        let alice = server.user("alice").await;
        let client = alice.signed_in(&alice.try_to_log_in("v3", json!({})).from("203.0.113.100").await);
        let auth = crate::harness::auth("alice", "wrong horse battery", &Value::Null);
        let mut tries = 0;
        loop {
            let answer = client.post("v3/account/deactivate", json!({"auth": auth})).from(&address(0)).await;
            if answer.status == 429 {
                answer.expect_limited();
                break;
            }
            tries += 1;
        }
        assert_eq!(tries, 10);
    }

    async fn three_register_and_the_fourth_waits(server: Server) {
        let server = server.with_limits().await.with_registration(RegistrationMode::Open).await;
        let register = |name: &str, address: &str| {
            let body = json!({"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
            server.post("v3/register").json(body).from(address)
        };
        for name in ["ann", "bea", "cleo"] {
            register(name, "203.0.113.1").await.expect_ok();
        }
        let wait = register("dora", "203.0.113.1").await.expect_limited();
        register("dora", "203.0.113.2").await.expect_ok();
        server.pass(wait);
        register("eve", "203.0.113.1").await.expect_ok();
    }

    async fn questions_about_names_and_tokens_are_limited(server: Server) {
        let server = server.with_limits().await.with_registration(RegistrationMode::Token).await;
        for path in ["v3/register/available?username=alice",
            "v1/register/m.login.registration_token/validity?token=a"] {
            let mut answer = server.get(path).await;
            for _ in 0..60 {
                if answer.status == 429 {
                    break;
                }
                answer = server.get(path).await;
            }
            answer.expect_limited();
            server.pass(HOUR);
        }
    }

    async fn garbage_at_refresh_is_limited_and_genuine_tokens_are_not_for_it(server: Server) {
        let server = server.with_limits().await;
        let mut alice = server.user("alice").await.log_in().await;
        for _ in 0..60 {
            garbage(&server, "v3/refresh").await.expect_unknown_token(false);
            garbage(&server, "r0/tokenrefresh").await.expect_forbidden();
        }
        garbage(&server, "v3/refresh").await.expect_limited();
        garbage(&server, "r0/tokenrefresh").await.expect_limited();
        alice.refresh().await;
        alice.tokenrefresh().await;
        alice.whoami().await.expect_ok();
    }

    async fn a_runaway_client_waits_and_nothing_is_consumed(server: Server) {
        let server = server
            .with_limits()
            .await
            .with(|config| config.rate_limits.refresh = RateLimit { per_second: 1.0, burst: 3 })
            .await;
        let user = server.user("alice").await;
        let (mut alice, mut other) = (user.log_in().await, user.log_in().await);
        for _ in 0..3 {
            alice.refresh().await;
        }
        for answer in [alice.try_to_refresh().await, alice.try_to_tokenrefresh().await] {
            assert!(answer.expect_limited() <= SECOND);
        }
        other.refresh().await;
        server.pass(SECOND);
        alice.tokenrefresh().await;
        alice.whoami().await.expect_ok();
    }

    async fn switched_off_there_is_no_limit_and_no_delay(server: Server) {
        let alice = server.user("alice").await;
        for _ in 0..15 {
            guess(&alice, "203.0.113.1").await.expect(403, "M_FORBIDDEN");
        }
        alice.try_to_log_in("v3", json!({})).await.expect_ok();
    }
}
