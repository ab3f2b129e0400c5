//! Many requests at the same moment, each on a connection that is already open.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::task::JoinSet;

use crate::client::{Client, Outcome};
use crate::wire::Message;

/// Open connections, spread over the given servers.
#[derive(Debug)]
pub struct Racers {
    clients: Vec<Client>,
}

impl Racers {
    /// This many clients, connected in turn to these addresses.
    pub async fn connect(addrs: &[SocketAddr], size: usize) -> Self {
        let mut clients: Vec<Client> =
            addrs.iter().cycle().take(size).map(|&addr| Client::new(addr)).collect();
        let hello = Message::request("GET", "/health", None, b"");
        for client in &mut clients {
            // Only to open the connection; the race itself reports trouble.
            let _ = client.exchange(&hello).await;
        }
        Self { clients }
    }

    /// Sends every request at once, at most one per client; the answers come in
    /// the order in which they arrived, each with the number of its request.
    pub async fn race(&mut self, requests: Vec<Message>) -> Result<Vec<(usize, Answer)>> {
        let mut tasks = JoinSet::new();
        let width = requests.len().min(self.clients.len());
        for (number, (mut client, request)) in self.clients.drain(..width).zip(requests).enumerate() {
            tasks.spawn(async move {
                let answer = client.exchange(&request).await;
                (client, number, answer)
            });
        }
        let mut answers = Vec::new();
        while let Some(joined) = tasks.join_next().await {
            let (client, number, answer) = joined?;
            self.clients.push(client);
            answers.push((number, answer));
        }
        Ok(answers)
    }

    /// The client whose turn it is, for a single request.
    pub fn any(&mut self, number: u64) -> &mut Client {
        let at = (number % self.clients.len() as u64) as usize;
        &mut self.clients[at]
    }
}

/// An answer, or why there is none.
pub type Answer = Result<Message, Outcome>;
