//! One virtual client: a keep-alive connection and the Matrix calls of the runs,
//! each answered by an [`Outcome`] that tells "never left" from "answer lost".

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::wire::{Connection, Message};

/// A token as the server wrote it; cheap to copy into journals.
pub type Token = Arc<str>;

/// Paths of the two doors and of what a session needs beside them.
pub const LOGIN: &str = "/_matrix/client/v3/login";
pub const WHOAMI: &str = "/_matrix/client/v3/account/whoami";
pub const REFRESH: &str = "/_matrix/client/v3/refresh";
pub const TOKENREFRESH: &str = "/_matrix/client/r0/tokenrefresh";
pub const LOGOUT: &str = "/_matrix/client/v3/logout";
pub const REGISTER: &str = "/_matrix/client/v3/register";

/// An access token with its refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Bearer of requests.
    pub access: Token,
    /// What a refresh presents.
    pub refresh: Token,
}

/// What a call came to, as the client can know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 200 with a pair.
    Pair(Pair),
    /// 200 without one.
    Done,
    /// 401 or 403 with this code.
    Refused { status: u16, errcode: String },
    /// 503, or 429: our own trouble, to be tried again; the effect is unknown.
    Trouble(u16),
    /// A status or body that no rule allows here.
    Odd(String),
    /// The request left, no answer came: it may or may not have taken effect.
    Lost,
    /// No connection could be made: no effect.
    NotSent,
}

impl Outcome {
    /// True for a 200.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Pair(_) | Self::Done)
    }

    /// True when the network, not the server, decided.
    pub fn is_network(&self) -> bool {
        matches!(self, Self::Lost | Self::NotSent)
    }
}

/// A client with at most one request in flight.
#[derive(Debug)]
pub struct Client {
    addr: SocketAddr,
    connection: Option<Connection>,
    timeout: Duration,
}

impl Client {
    /// A client of the server (or proxy) at this address.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, connection: None, timeout: Duration::from_secs(20) }
    }

    /// Sends one request. `Err(NotSent)` or `Err(Lost)` when no answer came.
    pub async fn exchange(&mut self, request: &Message) -> Result<Message, Outcome> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => match TcpStream::connect(self.addr).await {
                Ok(stream) => Connection::new(stream),
                Err(_) => return Err(Outcome::NotSent),
            },
        };
        let bytes = request.to_bytes();
        let round_trip = async {
            connection.send(&bytes).await?;
            connection.receive().await
        };
        let Ok(Ok(Some(answer))) = tokio::time::timeout(self.timeout, round_trip).await else {
            return Err(Outcome::Lost);
        };
        let closes = answer.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        if !closes {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    /// A JSON request without a token.
    pub async fn post(&mut self, path: &str, body: &Value) -> Result<Message, Outcome> {
        let body = body.to_string();
        self.exchange(&Message::request("POST", path, None, body.as_bytes())).await
    }

    /// Password sign-in on this device, asking for a refresh token.
    pub async fn login(&mut self, user: &str, password: &str, device: &str) -> Outcome {
        let body = login_body(user, password, device);
        outcome(self.post(LOGIN, &body).await)
    }

    /// One authenticated request: the use of an access token.
    pub async fn whoami(&mut self, access: &str) -> Outcome {
        let request = Message::request("GET", WHOAMI, Some(access), b"");
        outcome(self.exchange(&request).await)
    }

    /// Today's door.
    pub async fn refresh(&mut self, refresh: &str) -> Outcome {
        outcome(self.post(REFRESH, &json!({ "refresh_token": refresh })).await)
    }

    /// The door of 2015.
    pub async fn tokenrefresh(&mut self, refresh: &str) -> Outcome {
        outcome(self.post(TOKENREFRESH, &json!({ "refresh_token": refresh })).await)
    }

    /// Ends the session of this access token.
    pub async fn logout(&mut self, access: &str) -> Outcome {
        let request = Message::request("POST", LOGOUT, Some(access), b"");
        outcome(self.exchange(&request).await)
    }
}

/// The sign-in body of `v3`.
pub fn login_body(user: &str, password: &str, device: &str) -> Value {
    json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": user },
        "password": password,
        "device_id": device,
        "refresh_token": true,
    })
}

/// Reads an answer (or its absence) as an outcome.
pub fn outcome(answer: Result<Message, Outcome>) -> Outcome {
    let answer = match answer {
        Ok(answer) => answer,
        Err(lost) => return lost,
    };
    let body = answer.json();
    let text = |key: &str| body[key].as_str().unwrap_or("").to_owned();
    match answer.status() {
        200 => match (body["access_token"].as_str(), body["refresh_token"].as_str()) {
            (Some(access), Some(refresh)) => {
                Outcome::Pair(Pair { access: access.into(), refresh: refresh.into() })
            }
            (None, None) => Outcome::Done,
            _ => Outcome::Odd("200 with half a pair".to_owned()),
        },
        status @ (401 | 403) => Outcome::Refused { status, errcode: text("errcode") },
        status @ (503 | 429) => Outcome::Trouble(status),
        status => Outcome::Odd(format!("{status} {}", text("errcode"))),
    }
}
