//! How long a connection is waited for: a header has to come within seconds, a kept connection may
//! be silent for longer. (hyper has one timer for both, and sets it anew for every request.)

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ligand_protocol::limits::{HEADER_READ_MS_MAX, IDLE_CONNECTION_MS_MAX};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How often a connection is looked at; what is too slow ends so much later at most.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// In the place of a time: the connection is not in that state.
const NOT: u64 = u64::MAX;

/// What a connection is waiting for. Times are milliseconds since the first connection.
#[derive(Debug)]
pub struct Waiting {
    /// Since when a request's header has been coming in.
    header_since: AtomicU64,
    /// Since when there has been no request; [`NOT`] while one is being answered.
    idle_since: AtomicU64,
}

fn now_ms() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(NOT - 1)
}

impl Waiting {
    /// A connection just opened.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { header_since: AtomicU64::new(NOT), idle_since: AtomicU64::new(now_ms()) })
    }

    /// A request's header is complete.
    pub fn request_begins(&self) {
        self.header_since.store(NOT, Ordering::Relaxed);
        self.idle_since.store(NOT, Ordering::Relaxed);
    }

    /// Its answer is handed over.
    pub fn request_ends(&self) {
        self.idle_since.store(now_ms(), Ordering::Relaxed);
    }

    fn bytes_came(&self) {
        let idle = self.idle_since.load(Ordering::Relaxed) != NOT;
        if idle && self.header_since.load(Ordering::Relaxed) == NOT {
            self.header_since.store(now_ms(), Ordering::Relaxed);
        }
    }

    fn too_long(&self, now: u64) -> bool {
        let longer = |since: &AtomicU64, limit: i64| {
            let since = since.load(Ordering::Relaxed);
            since != NOT && now.saturating_sub(since) >= limit.unsigned_abs()
        };
        longer(&self.header_since, HEADER_READ_MS_MAX) || longer(&self.idle_since, IDLE_CONNECTION_MS_MAX)
    }

    /// Waits until the connection has been waited for too long.
    pub async fn run_out(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.too_long(now_ms()) {
                return;
            }
        }
    }
}

/// A stream that notes when bytes come in.
pub struct Noted<T> {
    stream: T,
    waiting: Arc<Waiting>,
}

impl<T> Noted<T> {
    pub fn new(stream: T, waiting: Arc<Waiting>) -> Self {
        Self { stream, waiting }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Noted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.waiting.bytes_came();
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Noted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: u64 = HEADER_READ_MS_MAX.unsigned_abs();
    const IDLE: u64 = IDLE_CONNECTION_MS_MAX.unsigned_abs();

    #[test]
    fn a_silent_connection_may_stay_longer_than_an_unfinished_header() {
        let waiting = Waiting::new();
        let opened = now_ms();
        assert!(!waiting.too_long(opened + HEADER + 1));
        assert!(waiting.too_long(opened + IDLE + 1));
        waiting.bytes_came();
        assert!(!waiting.too_long(opened + HEADER - 1));
        assert!(waiting.too_long(now_ms() + HEADER));
    }

    #[test]
    fn a_request_under_way_is_the_handlers_to_time() {
        let waiting = Waiting::new();
        waiting.bytes_came();
        waiting.request_begins();
        waiting.bytes_came();
        assert!(!waiting.too_long(now_ms() + 10 * IDLE));
        waiting.request_ends();
        assert!(!waiting.too_long(now_ms() + HEADER));
        assert!(waiting.too_long(now_ms() + IDLE));
    }
}
