//! `ligand config check|show|init|reference`

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use ligand_server::application_services::ApplicationServices;
use ligand_server::config::{Loaded, commented_file, reference_document};
use ligand_server::mail::Mail;
use serde_json::json;

use super::Settings;
use crate::failure::Failure;
use crate::output;

#[derive(Subcommand)]
pub enum Command {
    /// Tell whether the configuration is right: exit code 0, or 2 with every problem.
    #[command(after_help = "\
Examples:
  ligand config check --config ligand.toml
  LIGAND_HTTP__LISTEN=0.0.0.0:8008 ligand config check")]
    Check,
    /// Print the configuration in effect, and where each value came from; passwords are not shown.
    #[command(after_help = "\
Examples:
  ligand config show --config ligand.toml
  ligand config show --json")]
    Show(ShowArguments),
    /// Print a commented configuration file with every key, or write it to a new file.
    #[command(after_help = "\
Examples:
  ligand config init ligand.toml
  ligand config init > ligand.toml")]
    Init(InitArguments),
    /// Print the reference document.
    #[command(hide = true)]
    Reference,
}

#[derive(Args)]
pub struct ShowArguments {
    /// Print JSON: for each key its value and origin.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct InitArguments {
    /// File to make, readable by its owner only; an existing file is never overwritten.
    file: Option<PathBuf>,
}

/// Runs one of the commands.
pub fn run(command: Command, settings: &Settings) -> Result<(), Failure> {
    match command {
        Command::Check => check(settings),
        Command::Show(arguments) => show(settings, &arguments),
        Command::Init(arguments) => Ok(init(arguments.file.as_deref())?),
        Command::Reference => Ok(output::data(&reference_document())?),
    }
}

fn check(settings: &Settings) -> Result<(), Failure> {
    let config = settings.load()?.config;
    Mail::new(&config)?;
    let read = ApplicationServices::read(&config).map_err(|error| Failure::Refused(error.into()))?;
    for warning in read.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(output::data("The configuration is right.\n")?)
}

fn show(settings: &Settings, arguments: &ShowArguments) -> Result<(), Failure> {
    let loaded = settings.load()?;
    if arguments.json {
        Ok(output::json(&as_json(&loaded)?)?)
    } else {
        Ok(output::data(&loaded.annotated())?)
    }
}

/// `{"http.listen": {"value": "127.0.0.1:8008", "origin": "default"}, …}`, `null` where absent.
fn as_json(loaded: &Loaded) -> anyhow::Result<serde_json::Value> {
    let mut object = serde_json::Map::new();
    for (key, value, origin) in loaded.entries() {
        let value = match value {
            Some(text) => toml_to_json(&text)?,
            None => serde_json::Value::Null,
        };
        let entry = json!({ "value": value, "origin": origin.to_string() });
        object.insert(key.to_owned(), entry);
    }
    Ok(serde_json::Value::Object(object))
}

fn toml_to_json(text: &str) -> anyhow::Result<serde_json::Value> {
    let mut table: serde_json::Map<String, serde_json::Value> =
        toml::from_str(&format!("value = {text}")).context("cannot turn a value into JSON")?;
    Ok(table.remove("value").unwrap_or_default())
}

fn init(file: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = file else {
        return output::data(&commented_file());
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    // A database password may be written into it.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(path).and_then(|mut file| file.write_all(commented_file().as_bytes()));
    let shown = path.display();
    written.with_context(|| {
        format!("cannot make {shown}; name a file that does not exist, in a folder that does")
    })?;
    eprintln!("Made {shown}. Start with it: ligand --config {shown}");
    Ok(())
}
