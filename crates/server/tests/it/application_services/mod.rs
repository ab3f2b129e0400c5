//! Application services: whom they may act as, and what they may do there.

mod devices;
mod login;
mod ping;
mod register;

use ligand_protocol::registration::RegistrationMode;
use ligand_server::app::App;
use ligand_server::application_services::create_senders;
use ligand_storage::Write;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::both;
use crate::harness::{Answer, Request, Server, merged};
use crate::standing::is_in;
use crate::urls::needing_a_token;

pub const AS_TOKEN: &str = "0123456789abcdef0123456789abcdef";
const OTHER_TOKEN: &str = "fedcba9876543210fedcba9876543210";
const CROWD_TOKEN: &str = "00112233445566778899aabbccddeeff";

/// What serves application services by nothing but their token.
const SERVED: &[(&str, &str)] = &[
    ("GET", "account/whoami"),
    ("GET", "capabilities"),
    ("GET", "devices"),
    ("GET", "devices/{deviceId}"),
    ("PUT", "devices/{deviceId}"),
    ("DELETE", "devices/{deviceId}"),
    ("POST", "delete_devices"),
    ("POST", "logout/all"),
    ("POST", "appservice/{appserviceId}/ping"),
];

/// A server with two application services. `bridge` has the users `@_bridge_…` for itself, shares
/// `@shared_…`, and acts as `@bridgebot`; `other` has `@_other_…`, and `@_bridge_other…` inside the
/// namespace of `bridge`. `other` is not rate-limited.
pub struct Bridged {
    pub server: Server,
    /// Removes the registration files when dropped.
    _files: TempDir,
}

impl Bridged {
    pub async fn start(engine: ligand_storage::Engine) -> Self {
        Self::on(Server::start(engine).await, None).await
    }

    /// The same, with a URL for `bridge`.
    pub async fn on(server: Server, url: Option<&str>) -> Self {
        let files = tempfile::tempdir().expect("a temporary folder");
        let url = url.map_or("null".to_owned(), |url| format!("{url:?}"));
        let bridge = format!(
            "id: bridge\nurl: {url}\nas_token: {AS_TOKEN}\nhs_token: hs-secret\n\
             sender_localpart: bridgebot\nnamespaces:\n  users:\n\
             \x20   - {{exclusive: true, regex: '@_bridge_.*'}}\n\
             \x20   - {{exclusive: false, regex: '@shared_'}}\n"
        );
        let other = format!(
            "id: other\nurl: null\nas_token: {OTHER_TOKEN}\nhs_token: hs-other\n\
             sender_localpart: otherbot\nrate_limited: false\nnamespaces:\n  users:\n\
             \x20   - {{exclusive: true, regex: '@_other_.*'}}\n\
             \x20   - {{exclusive: true, regex: '@_bridge_other'}}\n"
        );
        for (name, text) in [("bridge.yaml", bridge), ("other.yml", other)] {
            std::fs::write(files.path().join(name), text).expect("a file can be written");
        }
        let folder = files.path().to_owned();
        let server = server.with(|config| config.application_services.directory = Some(folder)).await;
        Self { server, _files: files }
    }

    /// With a third one, `crowd`, that has the names that the server makes up.
    pub async fn with_crowd(self, exclusive: bool) -> Self {
        let crowd = format!(
            "id: crowd\nurl: null\nas_token: {CROWD_TOKEN}\nhs_token: hs-crowd\n\
             sender_localpart: crowdbot\nnamespaces:\n  users:\n\
             \x20   - {{exclusive: {exclusive}, regex: '@[0-9]'}}\n"
        );
        std::fs::write(self._files.path().join("crowd.yaml"), crowd).expect("a file can be written");
        Self { server: self.server.restart().await, _files: self._files }
    }

    /// The same with guests, and registration for everybody.
    pub async fn with_registration(self) -> Self {
        let server = self.server.with(|config| {
            config.registration.guests = true;
            config.registration.mode = RegistrationMode::Open;
        });
        Self { server: server.await, _files: self._files }
    }

    pub fn guest(&self) -> Request {
        self.server.post("v3/register?kind=guest").json(json!({}))
    }

    /// A request of `bridge`.
    pub fn asks(&self, method: &'static str, path: &str) -> Request {
        self.server.request(method, path).bearer(AS_TOKEN)
    }

    /// A user of `bridge`, registered by it.
    pub async fn ghost(&self, name: &str) -> String {
        self.register(json!({"username": name, "inhibit_login": true})).await.expect_ok();
        format!("@{name}:example.org")
    }

    pub fn register(&self, body: Value) -> Request {
        let with_type = merged(json!({"type": "m.login.application_service"}), body);
        self.asks("POST", "v3/register").json(with_type)
    }

    pub async fn whoami(&self, query: &str) -> Answer {
        self.asks("GET", &format!("v3/account/whoami?{query}")).await
    }
}

both! {
    async fn without_a_name_it_is_its_own_user(bridged: Bridged) {
        let body = bridged.whoami("").await.expect_ok();
        assert_eq!(body, json!({"user_id": "@bridgebot:example.org", "is_guest": false}));
        let other = bridged.server.get("r0/account/whoami").bearer(OTHER_TOKEN).await.expect_ok();
        assert_eq!(other["user_id"], "@otherbot:example.org");
        let in_the_query = format!("v3/account/whoami?access_token={AS_TOKEN}");
        assert_eq!(bridged.server.get(&in_the_query).await.expect_ok(), body);
        bridged.asks("GET", "v3/capabilities").await.expect_ok();
    }

    async fn it_acts_as_users_of_its_namespaces_that_are_registered(bridged: Bridged) {
        let ghost = bridged.ghost("_bridge_ann").await;
        assert_eq!(bridged.whoami(&format!("user_id={ghost}")).await.expect_ok()["user_id"], ghost);
        // Shared, and registered by a person.
        bridged.server.user("shared_bea").await;
        let shared = "@shared_bea:example.org";
        assert_eq!(bridged.whoami(&format!("user_id={shared}")).await.expect_ok()["user_id"], shared);
        bridged.whoami("user_id=@bridgebot:example.org").await.expect_ok();
        bridged.whoami("user_id=%40bridgebot%3Aexample.org").await.expect_ok();
    }

    async fn it_acts_as_nobody_else(bridged: Bridged) {
        bridged.server.user("alice").await;
        for name in ["@alice:example.org", "@_bridge_nobody:example.org", "@otherbot:example.org",
            "@_bridge_ann:elsewhere.org", "_bridge_ann", "bridgebot", "@bridgebot", "@BRIDGEBOT:example.org",
            "@x@_bridge_ann:example.org", ""] {
            bridged.whoami(&format!("user_id={name}")).await.expect(403, "M_FORBIDDEN");
        }
    }

    async fn a_namespace_is_matched_from_the_start_and_not_to_the_end(bridged: Bridged) {
        bridged.server.user("shared_and_more").await;
        bridged.server.user("not_shared_").await;
        bridged.whoami("user_id=@shared_and_more:example.org").await.expect_ok();
        bridged.whoami("user_id=@not_shared_:example.org").await.expect(403, "M_FORBIDDEN");
    }

    async fn it_acts_as_a_device_that_is_there(bridged: Bridged) {
        let ghost = bridged.ghost("_bridge_ann").await;
        let path = format!("v3/devices/PHONE?user_id={ghost}");
        assert_eq!(bridged.asks("PUT", &path).json(json!({})).await.status, 201);
        for key in ["device_id", "org.matrix.msc3202.device_id"] {
            let body = bridged.whoami(&format!("user_id={ghost}&{key}=PHONE")).await.expect_ok();
            assert_eq!((&body["user_id"], &body["device_id"]), (&json!(ghost), &json!("PHONE")));
            for query in [format!("user_id={ghost}&{key}=OTHER"), format!("user_id={ghost}&{key}="), format!("{key}=PHONE")] {
                bridged.whoami(&query).await.expect(400, "M_UNKNOWN_DEVICE");
            }
        }
    }

    async fn the_names_in_the_query_are_nothing_to_a_session(bridged: Bridged) {
        let alice = bridged.server.user("alice").await.log_in().await;
        bridged.ghost("_bridge_ann").await;
        let path = "v3/account/whoami?user_id=@_bridge_ann:example.org&device_id=NOWHERE";
        let body = alice.get(path).await.expect_ok();
        assert_eq!((&body["user_id"], &body["device_id"]), (&json!("@alice:example.org"), &json!(alice.device_id)));
    }

    async fn accounts_are_none_of_its_business(bridged: Bridged) {
        let ghost = bridged.ghost("_bridge_ann").await;
        for path in ["account/password", "account/deactivate"] {
            for query in [String::new(), format!("?user_id={ghost}")] {
                let body = json!({"new_password": "correct horse battery"});
                let answer = bridged.asks("POST", &format!("v3/{path}{query}")).json(body).await;
                answer.expect(403, "M_FORBIDDEN");
            }
        }
        bridged.whoami(&format!("user_id={ghost}")).await.expect_ok();
        bridged.server.post("v3/refresh").json(json!({"refresh_token": AS_TOKEN})).await.expect_unknown_token(false);
    }

    async fn it_is_served_where_an_account_is_not_managed(bridged: Bridged) {
        for (method, path, request) in needing_a_token(&bridged.server) {
            let request = request.bearer(AS_TOKEN);
            let answer = if method == "GET" { request.await } else { request.json(json!({})).await };
            if is_in(SERVED, method, path) {
                assert!([200, 201, 400].contains(&answer.status) || method == "GET", "{answer:?}");
                assert!(![401, 403].contains(&answer.status), "{answer:?}");
            } else {
                answer.expect(403, "M_FORBIDDEN");
            }
        }
    }

    async fn in_the_name_of_a_guest_it_may_what_a_guest_may(bridged: Bridged) {
        let bridged = bridged.with_crowd(false).await.with_registration().await;
        let guest = bridged.guest().await.expect_ok();
        let who = format!("user_id={}", guest["user_id"].as_str().expect("a user ID"));
        let get = |path: &str| bridged.server.get(&format!("v3/{path}?{who}")).bearer(CROWD_TOKEN);
        assert_eq!(get("account/whoami").await.expect_ok()["is_guest"], true);
        get("devices").await.expect_ok();
        get("capabilities").await.expect(403, "M_GUEST_ACCESS_FORBIDDEN");
        let delete = bridged.server.request("DELETE", &format!("v3/devices/PHONE?{who}"));
        delete.bearer(CROWD_TOKEN).await.expect(403, "M_GUEST_ACCESS_FORBIDDEN");
        bridged.server.post(&format!("v3/logout/all?{who}")).bearer(CROWD_TOKEN).await.expect_ok();
    }

    async fn locked_and_deactivated_users_are_refused(bridged: Bridged) {
        bridged.ghost("_bridge_ann").await;
        let who = "user_id=@_bridge_ann:example.org";
        let ann = bridged.server.find("_bridge_ann").await;
        bridged.server.lock(&ann).await;
        bridged.whoami(who).await.expect(401, "M_USER_LOCKED");
        bridged.asks("POST", &format!("v3/logout/all?{who}")).await.expect_ok();
        bridged.server.unlock(&ann).await;
        bridged.whoami(who).await.expect_ok();
        bridged.server.deactivate(&ann).await;
        bridged.whoami(who).await.expect(403, "M_USER_DEACTIVATED");
        bridged.asks("POST", &format!("v3/logout/all?{who}")).await.expect(403, "M_USER_DEACTIVATED");
    }

    async fn its_own_user_is_there_from_the_start_once(bridged: Bridged) {
        let count = |server: &Server| {
            let store = server.store().clone();
            async move {
                let rows = store.read("SELECT COUNT(*) FROM users", Vec::new()).await.unwrap();
                rows[0].int(0).unwrap()
            }
        };
        assert_eq!((count(&bridged.server).await, bridged.server.audited("application_service_user").await), (2, 2));
        let Bridged { server, _files } = bridged;
        let server = server.restart().await;
        assert_eq!(count(&server).await, 2);
        // Several processes that start at once.
        server.store().commit(vec![Write::any("DELETE FROM users", Vec::new())], Vec::new()).await.unwrap();
        let start = |app: App| tokio::spawn(async move { create_senders(&app).await });
        let starts: Vec<_> = (0..32).map(|_| start(server.app().clone())).collect();
        for started in starts {
            started.await.unwrap().unwrap();
        }
        assert_eq!((count(&server).await, server.audited("application_service_user").await), (2, 4));
    }

    async fn nobody_signs_in_to_its_own_user_by_password(bridged: Bridged) {
        let body = json!({"type": "m.login.password", "user": "bridgebot", "password": ""});
        bridged.server.post("v3/login").json(body).await.expect(403, "M_FORBIDDEN");
    }

    async fn what_it_creates_is_limited_unless_its_file_says_otherwise(bridged: Bridged) {
        let Bridged { server, _files } = bridged;
        let bridged = Bridged { server: server.with_limits().await, _files };
        let try_to_register = |token: &str| {
            let body = json!({"type": "m.login.application_service", "username": "alice"});
            bridged.server.post("v3/register").bearer(token).json(body)
        };
        for _ in 0..300 {
            try_to_register(AS_TOKEN).await.expect(400, "M_EXCLUSIVE");
        }
        try_to_register(AS_TOKEN).await.expect_limited();
        bridged.asks("PUT", "v3/devices/PHONE").json(json!({})).await.expect_limited();
        bridged.asks("POST", "v1/appservice/bridge/ping").json(json!({})).await.expect_limited();
        bridged.whoami("").await.expect_ok();
        for _ in 0..310 {
            try_to_register(OTHER_TOKEN).await.expect(400, "M_EXCLUSIVE");
        }
        bridged.server.pass(100);
        try_to_register(AS_TOKEN).await.expect(400, "M_EXCLUSIVE");
        try_to_register(AS_TOKEN).await.expect_limited();
    }

    async fn without_registration_files_its_token_is_nobodys(server: Server) {
        server.get("v3/account/whoami").bearer(AS_TOKEN).await.expect_unknown_token(false);
        for path in ["v3/login", "v3/register"] {
            let body = json!({"type": "m.login.application_service", "username": "bridgebot"});
            server.post(path).bearer(AS_TOKEN).json(body).await.expect_unknown_token(false);
        }
        assert!(!server.get("v3/login").await.text.contains("m.login.application_service"));
    }
}
