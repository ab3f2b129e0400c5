//! What every test begins with: a server, people who sign in, and what an operator does beside.
//!
//! [`Server`] is the real one, started as the command line starts it, but for its clock. [`User`]
//! is an account, [`Client`] a device of it that holds a pair of tokens, [`Request`] and
//! [`Answer`] are plain HTTP. Nothing here judges an answer, but for the shape every error has and
//! for the server's own [`Description`], which every answer has to fit.

mod client;
mod description;
mod http;
mod server;
mod smtp;
mod verifier;

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Barrier;

pub use client::{Client, PASSWORD, Tokens, User, auth};
pub use description::{Description, closed};
pub use http::{Answer, Request};
pub use server::Server;
pub use smtp::MailServer;
pub use verifier::Verifier;

/// Milliseconds, as [`Server::pass`] takes them.
pub const SECOND: i64 = 1_000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// Sends requests at once and gives their answers.
pub async fn at_once(requests: Vec<Request>) -> Vec<Answer> {
    let start = Arc::new(Barrier::new(requests.len()));
    let tasks = requests.into_iter().map(|request| {
        let start = Arc::clone(&start);
        tokio::spawn(async move {
            start.wait().await;
            request.await
        })
    });
    let mut answers = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        answers.push(task.await.expect("a request does not panic"));
    }
    answers
}

/// The members of a JSON object laid over those of another.
pub fn merged(under: Value, over: Value) -> Value {
    match (under, over) {
        (Value::Object(mut under), Value::Object(over)) => {
            under.extend(over);
            Value::Object(under)
        }
        _ => panic!("both have to be objects"),
    }
}
