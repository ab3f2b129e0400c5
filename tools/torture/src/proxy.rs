//! A proxy between clients and a server that loses, delays and duplicates whole
//! requests and answers, and that can lie on purpose ([`Tamper`]) for the
//! negative controls. It witnesses every answer of the server, also those that
//! no client ever sees.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::client::{self, Token};
use crate::rng::Rng;
use crate::tamper::{Tamper, Tamperer};
use crate::wire::{Connection, Message};

/// Probabilities and bounds of what happens to one request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The request never reaches the server; the client's connection breaks.
    pub lose_request: f64,
    /// The server answers; the client's connection breaks.
    pub lose_answer: f64,
    /// The request reaches the server twice.
    pub duplicate: f64,
    /// Each way is delayed by up to this.
    pub delay_max: Duration,
    /// A duplicate is sent on at most this late; see [`Proxy::has_late_copy`].
    pub duplicate_late_max: Duration,
}

/// What the proxy did and saw.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests that arrived.
    pub requests: AtomicU64,
    /// Requests lost before the server.
    pub requests_lost: AtomicU64,
    /// Answers lost after the server.
    pub answers_lost: AtomicU64,
    /// Requests delivered twice.
    pub duplicated: AtomicU64,
    /// Answers that gave a refresh token another successor (I2).
    pub second_successors: AtomicU64,
}

/// A running proxy; stops when dropped.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    faults: Faults,
    counts: Counts,
    rng: Mutex<Rng>,
    tamperer: Tamperer,
    successors: Mutex<HashMap<Token, Token>>,
    /// Refresh tokens of late copies that the server has not answered yet.
    late_copies: Mutex<Vec<Token>>,
}

/// What will happen to one request.
#[derive(Clone, Copy, Debug)]
struct Fate {
    lose_request: bool,
    lose_answer: bool,
    duplicate: Option<Duplicate>,
    delays: [Duration; 2],
}

#[derive(Clone, Copy, Debug)]
enum Duplicate {
    /// Both in turn, the second answer goes to the client.
    SecondAnswers,
    /// The first answer goes to the client, the copy arrives this much later.
    Late(Duration),
}

impl Proxy {
    /// Starts one before this server.
    pub async fn start(server: SocketAddr, faults: Faults, tamper: Tamper, rng: Rng) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server,
            faults,
            counts: Counts::default(),
            rng: Mutex::new(rng),
            tamperer: Tamperer::new(tamper, server),
            successors: Mutex::new(HashMap::new()),
            late_copies: Mutex::new(Vec::new()),
        });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { addr, shared, accepting })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// True while a copy of a refresh with this token is on its way: a client that
    /// goes on regardless breaks the assumption that requests arrive within the
    /// leeway, as a busy machine would.
    pub fn has_late_copy(&self, refresh: &str) -> bool {
        self.shared.late_copies.lock().iter().any(|token| **token == *refresh)
    }

    /// What it did and saw.
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        // A broken connection is the point of the exercise.
        tokio::spawn(async move {
            let _ = shared.serve(Connection::new(stream)).await;
        });
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, mut client: Connection) -> std::io::Result<()> {
        let mut server = Connection::new(TcpStream::connect(self.server).await?);
        while let Some(request) = client.receive().await? {
            count(&self.counts.requests);
            let fate = self.fate();
            tokio::time::sleep(fate.delays[0]).await;
            if fate.lose_request {
                count(&self.counts.requests_lost);
                return Ok(());
            }
            let mut answer = self.forward(&mut server, &request).await?;
            match fate.duplicate {
                Some(Duplicate::SecondAnswers) => {
                    count(&self.counts.duplicated);
                    answer = self.forward(&mut server, &request).await?;
                }
                Some(Duplicate::Late(late)) => {
                    let token = request.json()["refresh_token"].as_str().map(Token::from);
                    self.late_copies.lock().extend(token.clone());
                    let shared = self.clone();
                    tokio::spawn(async move {
                        shared.deliver_late(request, late).await;
                        let mut copies = shared.late_copies.lock();
                        if let Some(at) = copies.iter().position(|copy| Some(copy) == token.as_ref()) {
                            copies.swap_remove(at);
                        }
                    });
                }
                None => {}
            }
            tokio::time::sleep(fate.delays[1]).await;
            if fate.lose_answer {
                count(&self.counts.answers_lost);
                return Ok(());
            }
            client.send(&answer.to_bytes()).await?;
        }
        Ok(())
    }

    async fn deliver_late(&self, request: Message, late: Duration) {
        tokio::time::sleep(late).await;
        if let Ok(stream) = TcpStream::connect(self.server).await {
            count(&self.counts.duplicated);
            let _ = self.forward(&mut Connection::new(stream), &request).await;
        }
    }

    /// One round trip, the answer tampered with where the control says so.
    async fn forward(&self, server: &mut Connection, request: &Message) -> std::io::Result<Message> {
        if let Some(answer) = self.tamperer.instead_of(request) {
            return Ok(answer);
        }
        server.send(&request.to_bytes()).await?;
        let answer = server.receive().await?;
        let answer = answer.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let answer = self.tamperer.after(request, answer).await;
        self.witness(request, &answer);
        Ok(answer)
    }

    /// Counts every 200 that gives a refresh token another successor than before.
    fn witness(&self, request: &Message, answer: &Message) {
        if request.path() != client::REFRESH || answer.status() != 200 {
            return;
        }
        let (asked, given) = (request.json(), answer.json());
        let tokens = (asked["refresh_token"].as_str(), given["refresh_token"].as_str());
        if let (Some(presented), Some(successor)) = tokens {
            let mut successors = self.successors.lock();
            let first = successors.entry(presented.into()).or_insert(successor.into());
            if **first != *successor {
                count(&self.counts.second_successors);
            }
        }
    }

    fn fate(&self) -> Fate {
        let mut rng = self.rng.lock();
        let faults = &self.faults;
        let duplicate = rng.chance(faults.duplicate).then(|| {
            if rng.chance(0.5) {
                Duplicate::SecondAnswers
            } else {
                Duplicate::Late(up_to(&mut rng, faults.duplicate_late_max))
            }
        });
        Fate {
            lose_request: rng.chance(faults.lose_request),
            lose_answer: rng.chance(faults.lose_answer),
            duplicate,
            delays: [up_to(&mut rng, faults.delay_max), up_to(&mut rng, faults.delay_max)],
        }
    }
}

fn up_to(rng: &mut Rng, max: Duration) -> Duration {
    Duration::from_micros(rng.below(max.as_micros() as u64 + 1))
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
