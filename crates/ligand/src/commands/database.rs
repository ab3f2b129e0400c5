//! `ligand database migrate|check|backup`

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use ligand_server::config::DatabaseUrl;
use ligand_storage::{BackupError, OpenMode, Store};
use serde_json::json;

use super::{Settings, store_options};
use crate::failure::Failure;
use crate::output;

#[derive(Subcommand)]
pub enum Command {
    /// Bring the database up to date, creating it where it is missing. `serve` does the same.
    Migrate,
    /// Examine the whole database: exit code 0 when it is sound and up to date.
    Check(CheckArguments),
    /// Write a copy of the SQLite database to a new file, also while the server runs.
    #[command(after_help = "\
Examples:
  ligand database backup /var/backups/ligand-2026-01-31.db

The key files in the data folder are not in the copy: keep them with it. PostgreSQL has pg_dump.")]
    Backup(BackupArguments),
}

#[derive(Args)]
pub struct CheckArguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct BackupArguments {
    /// File to make, readable by its owner only; an existing file is never overwritten.
    file: PathBuf,
}

/// Runs one of the commands.
pub async fn run(command: Command, settings: &Settings) -> Result<(), Failure> {
    match command {
        Command::Migrate => migrate(settings).await,
        Command::Check(arguments) => check(settings, &arguments).await,
        Command::Backup(arguments) => backup(settings, arguments.file).await,
    }
}

async fn migrate(settings: &Settings) -> Result<(), Failure> {
    let store = settings.open().await?.store;
    let status = store.migrations_status().await;
    let status = status.context("cannot read which migrations there are")?;
    store.close().await;
    eprintln!("The database is up to date: {} migrations.", status.len());
    Ok(())
}

/// The database as it is: nothing is created or migrated.
async fn open_unchanged(settings: &Settings) -> Result<Store, Failure> {
    let config = settings.load()?.config;
    if let DatabaseUrl::Sqlite(path) = config.database_url()
        && !path.exists()
    {
        let text = "there is no database at this path; `ligand database migrate` makes one";
        return Err(anyhow!("{}: {text}", path.display()).into());
    }
    let mut options = store_options(&config, OpenMode::Tool);
    options.migrate = false;
    Ok(Store::open(&options).await?)
}

async fn check(settings: &Settings, arguments: &CheckArguments) -> Result<(), Failure> {
    let store = open_unchanged(settings).await?;
    let problems = store.integrity_check().await.context("cannot examine the database")?;
    let status = store.migrations_status().await;
    let status = status.context("cannot read which migrations there are")?;
    store.close().await;
    let pending: Vec<String> = status
        .iter()
        .filter(|migration| migration.applied_at.is_none())
        .map(|migration| format!("{:04} {}", migration.number, migration.name))
        .collect();
    if arguments.json {
        output::json(&json!({ "problems": problems, "pending_migrations": pending }))?;
    } else {
        for problem in &problems {
            output::data(&format!("problem: {problem}\n"))?;
        }
        for migration in &pending {
            output::data(&format!("pending migration: {migration}\n"))?;
        }
    }
    if !problems.is_empty() {
        let text = "the database is damaged; stop the server and restore the last backup";
        return Err(anyhow!(text).into());
    }
    if !pending.is_empty() {
        let text = "the database is not up to date; run `ligand database migrate` or start the server";
        return Err(anyhow!(text).into());
    }
    eprintln!("The database is sound and up to date.");
    Ok(())
}

async fn backup(settings: &Settings, file: PathBuf) -> Result<(), Failure> {
    let store = open_unchanged(settings).await?;
    let shown = std::io::stderr().is_terminal();
    let progress = move |done: u64, total: u64| {
        if shown && total > 0 {
            eprint!("\r{:3} %", done * 100 / total);
        }
    };
    let written = store.backup(&file, progress).await;
    store.close().await;
    if shown {
        eprintln!();
    }
    match written {
        Ok(()) => {
            eprintln!("Wrote {}.", file.display());
            Ok(())
        }
        Err(error @ BackupError::UsePgDump) => Err(Failure::Refused(error.into())),
        Err(error) => Err(Failure::Failed(error.into())),
    }
}
