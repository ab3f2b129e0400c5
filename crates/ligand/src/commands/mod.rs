//! One file per command, and what they share: the configuration, the database, the clock.

pub mod completions;
pub mod config;
pub mod database;
pub mod doctor;
pub mod email;
pub mod registration_token;
pub mod serve;
pub mod session;
pub mod user;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use ligand_protocol::UnixMs;
use ligand_server::config::{Config, Loaded};
use ligand_storage::audit::AuditEvent;
use ligand_storage::{OpenError, OpenMode, Store, StoreOptions};

use crate::cli::{Cli, Command};
use crate::failure::Failure;

/// Runs the command that was asked for.
pub fn run(cli: Cli) -> Result<(), Failure> {
    let settings = Settings { file: cli.config };
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(&settings),
        Command::User(command) => block_on(user::run(command, &settings)),
        Command::Session(command) => block_on(session::run(command, &settings)),
        Command::RegistrationToken(command) => block_on(registration_token::run(command, &settings)),
        Command::Database(command) => block_on(database::run(command, &settings)),
        Command::Email(command) => block_on(email::run(command, &settings)),
        Command::Doctor(arguments) => block_on(doctor::run(&arguments, &settings)),
        Command::Config(command) => config::run(command, &settings),
        Command::Completions(arguments) => completions::run(&arguments),
    }
}

/// Runs a command that waits for the database; one thread is enough.
fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start")?.block_on(command)
}

/// Where the configuration is read from.
pub struct Settings {
    /// The file named by `--config` or `LIGAND_CONFIG`.
    pub file: Option<PathBuf>,
}

/// An installation, opened beside a server that may be running.
pub struct Installation {
    pub config: Config,
    pub store: Store,
}

impl Settings {
    /// Reads the configuration and prints its warnings.
    pub fn load(&self) -> Result<Loaded, Failure> {
        let loaded = Loaded::read(self.file.as_deref(), environment()?.into_iter())?;
        for warning in &loaded.warnings {
            eprintln!("warning: {warning}");
        }
        Ok(loaded)
    }

    /// Reads the configuration and opens the database, creating it where it is missing.
    pub async fn open(&self) -> Result<Installation, Failure> {
        let config = self.load()?.config;
        let store = Store::open(&store_options(&config, OpenMode::Tool)).await?;
        Ok(Installation { config, store })
    }
}

/// How a command opens the database of this configuration.
pub fn store_options(config: &Config, mode: OpenMode) -> StoreOptions {
    let mut options = StoreOptions::new(config.database_url().expose()).mode(mode);
    "ligand command line".clone_into(&mut options.application_name);
    // A command does one thing after the other.
    options.pool_size = 2;
    options.readers = 1;
    options
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Url(_) => Self::Refused(error.into()),
            _ => Self::Failed(error.into()),
        }
    }
}

/// The current time.
pub fn now() -> UnixMs {
    // Before 1970 there is no telling; 0 is as good as any.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs::try_from(since.as_millis()).unwrap_or(UnixMs::MAX)
}

/// Fresh random bytes.
pub fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("the system gives no random numbers")?;
    Ok(bytes)
}

/// An audit event of the command line.
pub fn operator_event(action: &'static str, now: UnixMs) -> AuditEvent {
    let mut event = AuditEvent::new(action, now);
    event.actor = Some("operator".to_owned());
    event
}

/// The environment variables that may be ours. One that is not UTF-8 is refused: a path or password
/// with characters replaced would be another one.
fn environment() -> Result<Vec<(String, String)>, Failure> {
    let mut variables = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Ok(name) = name.into_string() else {
            continue;
        };
        if !name.starts_with("LIGAND_") {
            continue;
        }
        match value.into_string() {
            Ok(value) => variables.push((name, value)),
            Err(_) => {
                let error = anyhow!("{name}: the value is not UTF-8; set it to UTF-8 text");
                return Err(Failure::Refused(error));
            }
        }
    }
    Ok(variables)
}
