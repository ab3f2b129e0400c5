//! Locked and suspended accounts and guests (digest G8, G9, G11), at every endpoint of `urls` that
//! asks for an access token.

use serde_json::json;

use crate::both;
use crate::harness::{Answer, Client, Request, Server, Tokens, User};
use crate::urls::needing_a_token;

/// What serves a locked account.
const LOCKED_MAY: &[(&str, &str)] = &[("POST", "logout"), ("POST", "logout/all")];

/// What does not serve a suspended one.
const SUSPENDED_MAY_NOT: &[(&str, &str)] = &[
    ("POST", "account/3pid/delete"),
    ("POST", "account/3pid/unbind"),
    ("POST", "user/{userId}/openid/request_token"),
];

/// What serves a guest: the list of the specification, and the way out.
const GUESTS_MAY: &[(&str, &str)] = &[
    ("GET", "account/whoami"),
    ("GET", "devices"),
    ("GET", "devices/{deviceId}"),
    ("PUT", "devices/{deviceId}"),
    ("POST", "logout"),
    ("POST", "logout/all"),
];

/// What serves administrators only.
const ADMINISTRATORS_MAY: &[(&str, &str)] = &[
    ("GET", "admin/suspend/{userId}"),
    ("PUT", "admin/suspend/{userId}"),
    ("GET", "admin/lock/{userId}"),
    ("PUT", "admin/lock/{userId}"),
];

/// What serves application services only: to everybody else it is forbidden, whatever they are.
const SERVICES_MAY: &[(&str, &str)] = &[("POST", "appservice/{appserviceId}/ping")];

pub fn is_in(list: &[(&str, &str)], method: &str, path: &str) -> bool {
    list.contains(&(method, path))
}

/// Sends a request to every endpoint: a session that signs out is a new one each time.
async fn everywhere(
    server: &Server,
    client: &Client,
    new_session: impl AsyncFn() -> String,
    judge: impl Fn(&str, &str, Answer),
) {
    let mut asked = 0;
    for (method, path, request) in needing_a_token(server) {
        let token = match path {
            "logout" | "logout/all" => new_session().await,
            _ => client.tokens.access_token.clone(),
        };
        let request: Request = request.bearer(&token);
        judge(method, path, if method == "POST" { request.json(json!({})).await } else { request.await });
        asked += 1;
    }
    assert!(asked > 40, "{asked}");
}

both! {
    async fn a_locked_account_may_sign_out_and_no_more(server: Server) {
        let user = server.user("alice").await;
        let client = user.log_in().await;
        let new_session = async || {
            server.unlock(&user).await;
            let token = user.log_in().await.tokens.access_token;
            server.lock(&user).await;
            token
        };
        server.lock(&user).await;
        // Signing out everywhere ends this session too; it is asked for last.
        everywhere(&server, &client, new_session, |method, path, answer| {
            if is_in(LOCKED_MAY, method, path) {
                answer.expect_ok();
            } else {
                assert_eq!(answer.expect(401, "M_USER_LOCKED")["soft_logout"], true);
            }
        })
        .await;
    }

    async fn a_suspended_account_is_served_where_it_touches_nobody_else(server: Server) {
        let user = server.user("alice").await;
        server.suspend(&user).await;
        let client = user.log_in().await;
        let new_session = async || user.log_in().await.tokens.access_token;
        everywhere(&server, &client, new_session, |method, path, answer| {
            if is_in(ADMINISTRATORS_MAY, method, path) || is_in(SERVICES_MAY, method, path) {
                answer.expect(403, "M_FORBIDDEN");
            } else if is_in(SUSPENDED_MAY_NOT, method, path) {
                answer.expect(403, "M_USER_SUSPENDED");
            } else {
                assert!(!answer.text.contains("M_USER_SUSPENDED"), "{answer:?}");
                // Adding without a password is refused to everybody on `v3`.
                assert!(answer.status < 500 && (answer.status != 403 || path == "account/3pid"), "{answer:?}");
            }
        })
        .await;
    }

    async fn it_signs_in_and_out_deletes_devices_and_deactivates(server: Server) {
        let user = server.user("alice").await;
        server.suspend(&user).await;
        let (mut one, two) = (user.log_in().await, user.log_in().await);
        one.refresh().await;
        one.tokenrefresh().await;
        let devices = json!({"devices": [two.device_id]});
        one.post_with_password("v3/delete_devices", devices).await.expect_ok();
        one.post_with_password("v1/login/get_token", json!({})).await.expect_ok();
        one.logout().await.expect_ok();
        user.log_in().await.post_with_password("v3/account/deactivate", json!({})).await.expect_ok();
    }

    async fn a_guest_may_what_the_specification_lists(server: Server) {
        let server = server.with(|config| config.registration.guests = true).await;
        let new_guest = async || server.post("v3/register?kind=guest").json(json!({})).await.expect_ok();
        let guest = new_guest().await;
        let client = Client {
            user: User { name: "guest".to_owned(), ..server.user("alice").await },
            device_id: guest["device_id"].as_str().expect("a device ID").to_owned(),
            tokens: Tokens::of(&guest),
        };
        let new_session = async || Tokens::of(&new_guest().await).access_token;
        everywhere(&server, &client, new_session, |method, path, answer| {
            if is_in(GUESTS_MAY, method, path) {
                assert!([200, 400, 404].contains(&answer.status), "{answer:?}");
            } else if is_in(SERVICES_MAY, method, path) {
                answer.expect(403, "M_FORBIDDEN");
            } else {
                answer.expect(403, "M_GUEST_ACCESS_FORBIDDEN");
            }
        })
        .await;
    }

    async fn a_guest_that_became_a_user_elsewhere_is_one_at_once(server: Server) {
        let server = server.with(|config| config.registration.guests = true).await;
        let guest = server.post("v3/register?kind=guest").json(json!({})).await.expect_ok();
        let token = Tokens::of(&guest).access_token;
        let capabilities = || server.get("v3/capabilities").bearer(&token);
        capabilities().await.expect(403, "M_GUEST_ACCESS_FORBIDDEN");
        let tool = server.store_of_a_tool().await;
        let write = ligand_storage::Write::any("UPDATE users SET guest = 0", Vec::new());
        tool.commit(vec![write], Vec::new()).await.expect("storage works");
        capabilities().await.expect_ok();
        tool.close().await;
    }
}
