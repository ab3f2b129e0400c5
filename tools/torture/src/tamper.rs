//! The lies a proxy tells for the negative controls: each plays a server with one
//! well-known defect, before a real one, so that the same checker must object.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex as SyncMutex;
use serde_json::json;
use tokio::sync::Mutex;

use crate::client::{self, Client, Outcome, Pair, Token};
use crate::wire::Message;

/// Which defect is played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tamper {
    /// None: the proxy is honest.
    Honest,
    /// A retry at `/refresh` gets a new pair, and the one given before is dead.
    NewPairOnEveryRetry,
    /// Our own trouble is reported as a success, with a pair nobody stored.
    TroubleAsSuccess,
    /// Sign-in as an unknown user (name with this prefix) skips the password hash.
    QuickRefusal(String),
    /// Every answer comes this much later.
    Stall(Duration),
}

/// A defect with what it remembers.
#[derive(Debug)]
pub struct Tamperer {
    tamper: Tamper,
    server: SocketAddr,
    /// For each refresh token, the newest pair of its line.
    newest: Mutex<HashMap<Token, Pair>>,
    refusal: SyncMutex<Option<Message>>,
}

impl Tamperer {
    /// A defect before this server.
    pub fn new(tamper: Tamper, server: SocketAddr) -> Self {
        Self { tamper, server, newest: Mutex::new(HashMap::new()), refusal: SyncMutex::new(None) }
    }

    /// An answer that the server is not even asked for.
    pub fn instead_of(&self, request: &Message) -> Option<Message> {
        self.is_quick(request).then(|| self.refusal.lock().clone()).flatten()
    }

    /// The answer as the client gets it.
    pub async fn after(&self, request: &Message, answer: Message) -> Message {
        match &self.tamper {
            Tamper::Honest => answer,
            Tamper::NewPairOnEveryRetry => self.replaced(request, answer).await,
            Tamper::TroubleAsSuccess => claimed(request, answer),
            Tamper::QuickRefusal(_) => {
                if self.is_quick(request) && answer.status() == 403 {
                    *self.refusal.lock() = Some(answer.clone());
                }
                answer
            }
            Tamper::Stall(by) => {
                tokio::time::sleep(*by).await;
                answer
            }
        }
    }

    fn is_quick(&self, request: &Message) -> bool {
        let Tamper::QuickRefusal(prefix) = &self.tamper else {
            return false;
        };
        let body = request.json();
        let user = body["identifier"]["user"].as_str();
        user.is_some_and(|user| user.starts_with(prefix))
    }

    /// A second 200 to one refresh token: step past the recorded successor, so
    /// that what the first answer carried is dead, and give out the newer pair.
    async fn replaced(&self, request: &Message, answer: Message) -> Message {
        let parsed = client::outcome(Ok(answer.clone()));
        let (Outcome::Pair(pair), client::REFRESH) = (parsed, request.path()) else {
            return answer;
        };
        let body = request.json();
        let presented = body["refresh_token"].as_str().unwrap_or("");
        let mut newest = self.newest.lock().await;
        let Some(before) = newest.get(presented).cloned() else {
            newest.insert(presented.into(), pair);
            return answer;
        };
        let mut client = Client::new(self.server);
        let Outcome::Pair(next) = client.refresh(&before.refresh).await else {
            return answer;
        };
        client.whoami(&next.access).await;
        newest.insert(presented.into(), next.clone());
        Message::answer(200, pair_body(&next))
    }
}

fn claimed(request: &Message, answer: Message) -> Message {
    let gives_pairs = [client::REFRESH, client::TOKENREFRESH, client::LOGIN];
    if answer.status() != 503 || !gives_pairs.contains(&request.path()) {
        return answer;
    }
    let nonce = getrandom::u64().unwrap_or_default();
    Message::answer(
        200,
        pair_body(&Pair {
            access: format!("never-stored-a-{nonce:x}").into(),
            refresh: format!("never-stored-r-{nonce:x}").into(),
        }),
    )
}

fn pair_body(pair: &Pair) -> Vec<u8> {
    let body = json!({
        "access_token": &*pair.access,
        "refresh_token": &*pair.refresh,
        "expires_in_ms": 300_000,
    });
    body.to_string().into_bytes()
}
