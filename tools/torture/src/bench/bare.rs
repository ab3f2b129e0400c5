//! The yardstick of a check: axum alone, answering a JSON body of the same size, served the plain
//! way. It runs as a process of its own from this same binary, with the same release profile.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use anyhow::Result;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::clients::WHOAMI;
use super::installation::Server;
use super::place::MEASURED;
use crate::server::{free_port, loopback};

#[derive(Serialize)]
struct Whoami {
    user_id: &'static str,
    device_id: &'static str,
    is_guest: bool,
}

/// Serves until killed.
pub async fn serve(listen: SocketAddr) -> Result<()> {
    async fn whoami() -> Json<Whoami> {
        Json(Whoami { user_id: "@user0000000:localhost", device_id: "DEVICE0000", is_guest: false })
    }
    let router = Router::new().route(WHOAMI, get(whoami)).route("/health", get(async || "ok"));
    let listener = tokio::net::TcpListener::bind(listen).await?;
    // In a task, as Ligand does: the thread that waits here is not one of the runtime's workers.
    tokio::spawn(async move { axum::serve(listener, router).await }).await??;
    Ok(())
}

/// Starts it on the core of what is measured.
pub fn start() -> Result<Server> {
    let addr = loopback(free_port()?);
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bare-axum", "--listen", &addr.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    Server::start(Some(MEASURED), &mut command, addr)
}
