//! A whole server: opened from a configuration, listening, stopped in order. Tests start it on a
//! socket and a clock of their own.

use std::net::SocketAddr;

use ligand_protocol::limits::CONNECTIONS_MAX;
use ligand_storage::{OpenError, OpenMode, Store, StoreOptions};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::app::App;
use crate::application_services::{self, ApplicationServices, FilesError, Read};
use crate::clock::Clock;
use crate::config::Config;
use crate::keys::{self, KeyError};
use crate::mail::MailError;
use crate::routes::{metrics_router, router};
use crate::serve::serve;
use crate::upkeep;

/// Why a server did not start; the text names the mend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Mail(#[from] MailError),
    #[error(transparent)]
    ApplicationServices(#[from] FilesError),
    #[error(transparent)]
    Database(#[from] OpenError),
    #[error(
        "cannot listen on {address}: {cause}; choose another address in {key}, or stop what listens there"
    )]
    Listen { address: SocketAddr, key: &'static str, cause: std::io::Error },
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
}

/// A running server.
pub struct Server {
    pub app: App,
    /// Where it listens; the port is the real one, even if 0 was asked for.
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    jobs: JoinSet<()>,
}

impl Server {
    /// Opens the database, makes what is missing, and listens.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let app = open(config).await?;
        Self::serve(app).await
    }

    /// As [`Server::start`], with an app that is there already.
    ///
    /// # Errors
    /// When an address cannot be listened on, or the database is in trouble.
    pub async fn serve(app: App) -> Result<Self, StartError> {
        application_services::create_senders(&app).await?;
        let (stop, stopping) = watch::channel(false);
        let connections = connections_max();
        let listener = listen(app.config.http.listen, "http.listen").await?;
        let address = listener.local_addr()?;
        let mut listeners =
            vec![tokio::spawn(serve(listener, router(app.clone()), connections, stopping.clone()))];
        if let Some(address) = app.config.http.metrics_listen {
            let listener = listen(address, "http.metrics_listen").await?;
            listeners.push(tokio::spawn(serve(
                listener,
                metrics_router(app.clone()),
                METRICS_CONNECTIONS_MAX,
                stopping.clone(),
            )));
        }
        let jobs = upkeep::start(&app, &stopping);
        Ok(Self { app, address, stop, listeners, jobs })
    }

    /// Takes no new request, lets running ones finish, closes the database.
    pub async fn stop(self) {
        let Self { app, stop, listeners, mut jobs, .. } = self;
        // Nobody listening any more is what is wanted.
        let _ = stop.send(true);
        for listener in listeners {
            if let Err(error) = listener.await {
                tracing::error!(%error, "a listener ended badly");
            }
        }
        while jobs.join_next().await.is_some() {}
        if let Err(error) = app.store.raise_clock_floor(app.clock.now()).await {
            tracing::warn!(%error, "cannot note the time");
        }
        app.store.close().await;
    }
}

/// Opens an installation: data directory, keys, database, clock.
///
/// # Errors
/// See [`StartError`].
pub async fn open(config: Config) -> Result<App, StartError> {
    let Read { services, warnings } = ApplicationServices::read(&config)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    keys::create_data_dir(&config.data_dir)?;
    let keys = keys::token_keys(&config.data_dir)?;
    let mut options = StoreOptions::new(config.database_url().expose()).mode(OpenMode::Server);
    options.pool_size = usize::try_from(config.database.pool_size).unwrap_or(usize::MAX);
    let store = Store::open(&options).await?;
    let floor = store.clock_floor().await.map_err(OpenError::from)?;
    App::new(config, services, store, keys, Clock::system(floor))
}

async fn listen(address: SocketAddr, key: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|cause| StartError::Listen { address, key, cause })
}

/// Scrapers, and a person with a browser.
const METRICS_CONNECTIONS_MAX: usize = 32;
/// File descriptors that are not client connections: database, log, listeners, what comes.
const OTHER_DESCRIPTORS: u64 = 128;

/// How many connections to hold at once: what the limits say, as far as the system lets. Many
/// systems start a process with room for a thousand files and allow it to ask for more.
fn connections_max() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let open_files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let room = open_files.map_or(CONNECTIONS_MAX, |files| {
        usize::try_from(files.saturating_sub(OTHER_DESCRIPTORS)).unwrap_or(usize::MAX)
    });
    if room < CONNECTIONS_MAX {
        tracing::warn!(
            connections = room,
            "few files may be open at once; raise the limit (LimitNOFILE in systemd)"
        );
    }
    room.clamp(1, CONNECTIONS_MAX)
}
