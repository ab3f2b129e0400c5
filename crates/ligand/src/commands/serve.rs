//! `ligand serve`: the server, until it is told to stop.

use anyhow::{Context, anyhow};
use ligand_server::config::Config;
use ligand_server::logging;
use ligand_server::run::{Server, StartError};
use ligand_storage::OpenError;
use tokio::signal::unix::{SignalKind, signal};

use super::Settings;
use crate::failure::Failure;

/// Serves until SIGTERM or SIGINT, then drains.
pub fn run(settings: &Settings) -> Result<(), Failure> {
    let config = settings.load()?.config;
    logging::init(&config.log).map_err(|error| Failure::Refused(anyhow!(error)))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start")?.block_on(serve(config))
}

async fn serve(config: Config) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    let server = Server::start(config).await?;
    greet(&server).await;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: running requests may finish");
    server.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// Says where it listens, and to a new installation what to do first.
async fn greet(server: &Server) {
    let config = &server.app.config;
    tracing::info!(
        address = %server.address,
        server_name = config.server_name,
        database = %config.database_url(),
        "listening on http://{}",
        server.address
    );
    if matches!(server.app.store.count_users().await, Ok(0)) {
        tracing::info!("there is no account yet; add one with: ligand user add NAME --password-stdin");
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Database(OpenError::Url(_))
            | StartError::Mail(_)
            | StartError::ApplicationServices(_) => Self::Refused(error.into()),
            _ => Self::Failed(error.into()),
        }
    }
}
