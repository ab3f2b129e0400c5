//! People and their devices.

use ligand_protocol::ids::UserKey;
use serde_json::{Value, json};

use super::http::Address;
use super::{Answer, Request, merged};

/// The password of every account.
pub const PASSWORD: &str = "correct horse battery";

/// What a client holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    pub access_token: String,
    pub refresh_token: Option<String>,
    pub expires_in_ms: Option<i64>,
}

impl Tokens {
    #[track_caller]
    pub fn of(body: &Value) -> Self {
        let text = |key: &str| body[key].as_str().map(ToOwned::to_owned);
        Self {
            access_token: text("access_token").expect("an access token"),
            refresh_token: text("refresh_token"),
            expires_in_ms: body["expires_in_ms"].as_i64(),
        }
    }

    /// Whether both are the same pair, whatever time remains.
    pub fn same_pair(&self, other: &Self) -> bool {
        (&self.access_token, &self.refresh_token) == (&other.access_token, &other.refresh_token)
    }

    #[track_caller]
    pub fn refresh_token(&self) -> &str {
        self.refresh_token.as_deref().expect("a refresh token")
    }
}

/// An account.
#[derive(Clone)]
pub struct User {
    pub name: String,
    pub key: UserKey,
    pub address: Address,
}

impl User {
    /// Signs in with a refresh token, on a new device.
    pub async fn log_in(&self) -> Client {
        self.log_in_with(json!({})).await
    }

    /// The same with further members in the body.
    pub async fn log_in_with(&self, more: Value) -> Client {
        let answer = self.try_to_log_in("v3", merged(json!({"refresh_token": true}), more)).await;
        self.signed_in(&answer)
    }

    /// Signs in at a prefix, asking for nothing in particular.
    pub async fn log_in_at(&self, prefix: &str) -> Client {
        let answer = self.try_to_log_in(prefix, json!({})).await;
        self.signed_in(&answer)
    }

    pub fn try_to_log_in(&self, prefix: &str, more: Value) -> Request {
        let identifier = json!({"type": "m.id.user", "user": self.name});
        let body = json!({"type": "m.login.password", "identifier": identifier, "password": PASSWORD});
        Request::new(&self.address, "POST", &format!("{prefix}/login")).json(merged(body, more))
    }

    #[track_caller]
    pub fn signed_in(&self, answer: &Answer) -> Client {
        let body = answer.expect_ok();
        let device_id = body["device_id"].as_str().expect("a device ID").to_owned();
        Client { user: self.clone(), device_id, tokens: Tokens::of(&body) }
    }
}

/// A signed-in device.
#[derive(Clone)]
pub struct Client {
    pub user: User,
    pub device_id: String,
    pub tokens: Tokens,
}

impl Client {
    /// The same device, holding other tokens: those of before, or those of a thief.
    pub fn holding(&self, tokens: &Tokens) -> Self {
        Self { tokens: tokens.clone(), ..self.clone() }
    }

    fn request(&self, method: &'static str, path: &str) -> Request {
        Request::new(&self.user.address, method, path).bearer(&self.tokens.access_token)
    }

    pub fn get(&self, path: &str) -> Request {
        self.request("GET", path)
    }

    pub fn post(&self, path: &str, body: Value) -> Request {
        self.request("POST", path).json(body)
    }

    pub fn put(&self, path: &str, body: Value) -> Request {
        self.request("PUT", path).json(body)
    }

    pub fn delete(&self, path: &str) -> Request {
        self.request("DELETE", path)
    }

    pub async fn whoami(&self) -> Answer {
        self.get("v3/account/whoami").await
    }

    pub async fn logout(&self) -> Answer {
        self.request("POST", "v3/logout").await
    }

    pub async fn logout_all(&self) -> Answer {
        self.request("POST", "v3/logout/all").await
    }

    /// `POST /refresh`, the answer kept.
    pub async fn refresh(&mut self) -> Tokens {
        self.tokens = self.refresh_without_keeping_the_answer().await;
        self.tokens.clone()
    }

    /// `POST /refresh` whose answer is lost on the way.
    pub async fn refresh_without_keeping_the_answer(&self) -> Tokens {
        Tokens::of(&self.try_to_refresh().await.expect_ok())
    }

    pub fn try_to_refresh(&self) -> Request {
        self.exchange_at("v3/refresh")
    }

    /// `POST /tokenrefresh`, the answer kept.
    pub async fn tokenrefresh(&mut self) -> Tokens {
        self.tokens = Tokens::of(&self.try_to_tokenrefresh().await.expect_ok());
        self.tokens.clone()
    }

    pub fn try_to_tokenrefresh(&self) -> Request {
        self.exchange_at("r0/tokenrefresh")
    }

    /// Presents the refresh token held at a path, without any access token.
    pub fn exchange_at(&self, path: &str) -> Request {
        let body = json!({"refresh_token": self.tokens.refresh_token()});
        Request::new(&self.user.address, "POST", path).json(body)
    }

    /// Asks for what needs user-interactive auth, and proves the password when asked.
    pub async fn post_with_password(&self, path: &str, body: Value) -> Answer {
        let asked = self.post(path, body.clone()).await.expect_flows(&["m.login.password"]);
        self.post(path, merged(body, json!({"auth": self.password_auth(&asked["session"])}))).await
    }

    /// The `auth` member that proves the password.
    pub fn password_auth(&self, session: &Value) -> Value {
        auth(&self.user.name, PASSWORD, session)
    }

    pub async fn devices(&self) -> Vec<String> {
        let body = self.get("v3/devices").await.expect_ok();
        let devices = body["devices"].as_array().expect("a list").iter();
        devices.map(|device| device["device_id"].as_str().expect("an ID").to_owned()).collect()
    }
}

/// The `auth` member of the password stage; no session for `null`.
pub fn auth(user: &str, password: &str, session: &Value) -> Value {
    let identifier = json!({"type": "m.id.user", "user": user});
    let mut auth = json!({"type": "m.login.password", "identifier": identifier, "password": password});
    if !session.is_null() {
        auth["session"] = session.clone();
    }
    auth
}
