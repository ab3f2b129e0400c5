//! The load: one thread, many kept connections, each with one request under way. Requests are
//! bytes copied from a template and answers are barely looked at, so that the server is what is
//! slow.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::STOPPED;
use super::place::{self, LOAD};

/// What one connection asks and does with the answers.
pub trait Client: Send {
    /// Replaces `out` by the next request.
    fn request(&mut self, out: &mut Vec<u8>);

    /// Takes the body of a 200. An error ends the run.
    fn answer(&mut self, body: &[u8]) -> Result<()>;

    /// Whether an answer with this status (never 200) is part of the load and not a failure.
    fn may_be(&self, _status: u16) -> bool {
        false
    }

    /// How long to wait before the next request.
    fn pause(&self) -> Duration {
        Duration::ZERO
    }
}

/// How long a run is.
#[derive(Clone, Copy)]
pub enum Until {
    /// Answers within this time count, after a first fifth of it that does not.
    Time(Duration),
    /// Each connection gets this many answers; all count.
    Answers(u64),
}

/// What the load does while no answer is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// Gives its core to others.
    Sleeps,
    /// Looks again at once. Waking a sleeper on another core costs the one who answers some
    /// microseconds, and a slow server would pay that more often than a fast one.
    Spins,
}

/// What a run has counted.
#[derive(Default)]
pub struct Counted {
    /// Answers with 200.
    pub answers: u64,
    /// Answers with another status that may be.
    pub refused: u64,
    pub seconds: f64,
    /// Microseconds from request to answer of each 200, in order per connection.
    pub latencies: Vec<u32>,
    /// CPU time of the server meanwhile.
    pub server_cpu: Duration,
}

impl Counted {
    pub fn rate(&self) -> f64 {
        self.answers as f64 / self.seconds
    }

    /// CPU microseconds of the server for one answer.
    pub fn cpu_us(&self) -> f64 {
        self.server_cpu.as_secs_f64() * 1e6 / (self.answers + self.refused).max(1) as f64
    }

    /// How much of one core the server used.
    pub fn server_load(&self) -> f64 {
        self.server_cpu.as_secs_f64() / self.seconds
    }

    /// The q-quantile of the latencies, in milliseconds.
    pub fn quantile_ms(&self, q: f64) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let rank = (q * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).map_or(0.0, |us| f64::from(*us) / 1e3)
    }
}

/// A server to load.
#[derive(Clone, Copy)]
pub struct Target {
    pub addr: SocketAddr,
    pub pid: u32,
}

/// Loads a server with one connection for each client, from the core of the load.
pub fn drive<C: Client>(target: Target, clients: &mut [C], until: Until) -> Result<Counted> {
    drive_idling(target, clients, until, Idle::Sleeps)
}

/// As [`drive`], which sleeps while it waits.
pub fn drive_idling<C: Client>(
    target: Target,
    clients: &mut [C],
    until: Until,
    idle: Idle,
) -> Result<Counted> {
    let work = || -> Result<Counted> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        if idle == Idle::Spins {
            // A task that is always ready: the runtime only ever looks for events.
            runtime.spawn(async {
                loop {
                    tokio::task::yield_now().await;
                }
            });
        }
        runtime.block_on(drive_all(target, clients, until))
    };
    // A thread of its own, since the caller may be inside another runtime.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| place::on_core(LOAD, work)?);
        thread.join().unwrap_or_else(|_| bail!("the load has panicked"))
    })
}

async fn drive_all<C: Client>(target: Target, clients: &mut [C], until: Until) -> Result<Counted> {
    let mut streams = Vec::new();
    for _ in 0..clients.len() {
        let stream = TcpStream::connect(target.addr).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let (warm_up, measured) = match until {
        Until::Time(time) => (time / 5, time),
        Until::Answers(_) => (Duration::ZERO, Duration::MAX),
    };
    let begin = Instant::now() + warm_up;
    let end = begin.checked_add(measured);
    let cpu = async {
        tokio::time::sleep_until(begin.into()).await;
        let before = place::cpu_time(target.pid)?;
        if let Some(end) = end {
            tokio::time::sleep_until(end.into()).await;
            return Ok(place::cpu_time(target.pid)?.saturating_sub(before));
        }
        Ok::<_, anyhow::Error>(before)
    };
    let runs = streams.into_iter().zip(clients.iter_mut());
    let runs = runs.map(|(stream, client)| one(stream, client, begin, end, until));
    let (cpu, runs) = futures_util::future::join(cpu, futures_util::future::join_all(runs)).await;
    let took = begin.elapsed();
    let mut counted = Counted {
        seconds: end.map_or(took, |_| measured).as_secs_f64(),
        server_cpu: match end {
            Some(_) => cpu?,
            None => place::cpu_time(target.pid)?.saturating_sub(cpu?),
        },
        ..Counted::default()
    };
    for run in runs {
        let run = run?;
        counted.answers += run.answers;
        counted.refused += run.refused;
        counted.latencies.extend(run.latencies);
    }
    if counted.answers == 0 {
        bail!("not one request was answered in time");
    }
    Ok(counted)
}

/// One connection.
async fn one<C: Client>(
    mut stream: TcpStream,
    client: &mut C,
    begin: Instant,
    end: Option<Instant>,
    until: Until,
) -> Result<Counted> {
    let answers_max = match until {
        Until::Answers(answers) => answers,
        Until::Time(_) => u64::MAX,
    };
    let mut counted = Counted::default();
    let (mut request, mut answer) = (Vec::new(), Answer::default());
    while counted.answers < answers_max {
        if STOPPED.load(Ordering::Relaxed) {
            bail!("stopped");
        }
        client.request(&mut request);
        let sent = Instant::now();
        stream.write_all(&request).await?;
        answer.read(&mut stream).await?;
        let now = Instant::now();
        let counts = now >= begin && end.is_none_or(|end| now < end);
        match answer.status()? {
            200 => {
                client.answer(answer.body())?;
                if counts {
                    counted.answers += 1;
                    let us = now.duration_since(sent).as_micros();
                    counted.latencies.push(us.try_into().unwrap_or(u32::MAX));
                }
            }
            status if client.may_be(status) => counted.refused += u64::from(counts),
            status => {
                let body = String::from_utf8_lossy(answer.body()).into_owned();
                bail!("a request was answered {status}: {body}");
            }
        }
        if end.is_some_and(|end| now >= end) {
            break;
        }
        let pause = client.pause();
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    Ok(counted)
}

/// The bytes of one answer. An answer as long as the one before it, with the same first bytes, is
/// not parsed again.
#[derive(Default)]
struct Answer {
    bytes: Vec<u8>,
    filled: usize,
    head: usize,
}

impl Answer {
    const BYTES_MAX: usize = 16 * 1024;

    async fn read(&mut self, stream: &mut TcpStream) -> Result<()> {
        self.bytes.resize(Self::BYTES_MAX, 0);
        self.filled = 0;
        loop {
            let read = stream.read(&mut self.bytes[self.filled..]).await?;
            if read == 0 {
                bail!("the server closed a connection");
            }
            self.filled += read;
            if self.is_whole() {
                return Ok(());
            }
            if self.filled == Self::BYTES_MAX {
                bail!("an answer is longer than {} bytes", Self::BYTES_MAX);
            }
        }
    }

    fn is_whole(&mut self) -> bool {
        let Some(head) = find(&self.bytes[..self.filled], b"\r\n\r\n") else {
            return false;
        };
        self.head = head + 4;
        let length = length_of(&self.bytes[..head]);
        self.filled >= self.head + length
    }

    fn status(&self) -> Result<u16> {
        let digits = self.bytes.get(9..12).unwrap_or_default();
        let digits = std::str::from_utf8(digits)?;
        Ok(digits.parse()?)
    }

    fn body(&self) -> &[u8] {
        &self.bytes[self.head..self.filled]
    }
}

/// The value of `content-length`, as hyper spells it.
fn length_of(head: &[u8]) -> usize {
    const NAME: &[u8] = b"\r\ncontent-length: ";
    let Some(at) = find(head, NAME) else { return 0 };
    let digits = head[at + NAME.len()..].iter();
    digits.take_while(|byte| byte.is_ascii_digit()).fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))
}

/// Where `needle` begins; looks for its last byte's rare neighbour first by comparing whole slices
/// only where the first byte fits.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    loop {
        let at = from + haystack[from..].iter().position(|byte| *byte == first)?;
        if haystack[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_last_byte() {
        let text =
            b"HTTP/1.1 200 OK\r\ncontent-type: x\r\ncontent-length: 12\r\ndate: y\r\n\r\n{\"a\":\"bcde\"}";
        for filled in 0..=text.len() {
            let mut answer = Answer { bytes: text.to_vec(), filled, head: 0 };
            assert_eq!(answer.is_whole(), filled == text.len(), "{filled}");
        }
        let mut answer = Answer { bytes: text.to_vec(), filled: text.len(), head: 0 };
        assert!(answer.is_whole());
        assert_eq!(answer.status().unwrap(), 200);
        assert_eq!(answer.body(), b"{\"a\":\"bcde\"}");
    }

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let counted = Counted { latencies: (1..=100).map(|n| n * 1_000).collect(), ..Counted::default() };
        assert!((counted.quantile_ms(0.99) - 99.0).abs() < 1e-9);
        assert!(Counted::default().quantile_ms(0.5).abs() < 1e-9);
    }
}
