//! The listener: connections, their limits, and the orderly end.
//!
//! HTTP/1.1 only. A reverse proxy in front speaks whatever clients speak; behind it nothing is
//! gained by HTTP/2, and its abuses stay outside.

mod patience;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ligand_protocol::limits::{DRAIN_MS_MAX, HEADER_BYTES_MAX, HEADERS_MAX};
use patience::{Noted, Waiting};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

/// Serves at most so many connections at once until `shutdown` is true, then lets running requests
/// finish for a bounded time.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    connections_max: usize,
    mut shutdown: watch::Receiver<bool>,
) {
    let connections = Arc::new(Semaphore::new(connections_max));
    let mut complained: Option<Instant> = None;
    let mut tasks = JoinSet::new();
    loop {
        // Waiting here leaves what is over the limit in the kernel's queue.
        let permit = tokio::select! {
            permit = Arc::clone(&connections).acquire_owned() => permit,
            () = stopped(&mut shutdown) => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut shutdown) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, shutdown) = (router.clone(), shutdown.clone());
                tasks.spawn(async move {
                    connection(stream, peer, router, shutdown).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, mostly: others have to close first.
                if complained.is_none_or(|at| at.elapsed() > Duration::from_secs(60)) {
                    tracing::warn!(%error, "cannot accept a connection");
                    complained = Some(Instant::now());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        while tasks.try_join_next().is_some() {}
    }
    drop(listener);
    let drain = Duration::from_millis(DRAIN_MS_MAX.unsigned_abs());
    let drained = tokio::time::timeout(drain, async { while tasks.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!("some requests did not finish in time and were cut off");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    mut shutdown: watch::Receiver<bool>,
) {
    // Answers are small: waiting to fill a packet only delays them.
    drop(stream.set_nodelay(true));
    let waiting = Waiting::new();
    let service = service_fn(|request: Request<Incoming>| {
        waiting.request_begins();
        let (router, waiting) = (router.clone(), Arc::clone(&waiting));
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let response: Result<Response<Body>, Infallible> = router.oneshot(request).await;
            waiting.request_ends();
            response
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        // Off: `patience` does it, with a longer wait for a kept connection.
        .header_read_timeout(None)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .half_close(false)
        .serve_connection(TokioIo::new(Noted::new(stream, Arc::clone(&waiting))), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // An error here is the client's going away or its broken HTTP; hyper has answered it.
        _ = connection.as_mut() => {}
        () = waiting.run_out() => {}
        () = stopped(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
}

/// Waits until the server is to stop.
pub(crate) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that whoever could say so is gone, which says the same.
    drop(shutdown.wait_for(|stop| *stop).await.map(drop));
}
