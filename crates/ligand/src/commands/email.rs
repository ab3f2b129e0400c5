//! `ligand email test`

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use ligand_protocol::validation::Medium;
use ligand_server::mail::{Mail, NotSent};

use super::{Settings, now, random};
use crate::failure::Failure;

#[derive(Subcommand)]
pub enum Command {
    /// Send a test message, at once and past the outbox.
    #[command(after_help = "\
Example:
  ligand email test admin@example.org --config ligand.toml")]
    Test(TestArguments),
}

#[derive(Args)]
pub struct TestArguments {
    /// Whom to write to.
    address: String,
}

/// Runs one of the commands.
pub async fn run(command: Command, settings: &Settings) -> Result<(), Failure> {
    let Command::Test(TestArguments { address }) = command;
    let config = settings.load()?.config;
    let to = address.parse();
    let to = to.map_err(|_| Failure::Refused(anyhow!("{address} is not an e-mail address")))?;
    let mail = Mail::new(&config)?;
    if !mail.is_configured(Medium::Email) {
        let text = "no e-mail is configured; set email.host and email.from";
        return Err(Failure::Refused(anyhow!(text)));
    }
    let id = u128::from_ne_bytes(random().context("cannot name the message")?);
    match mail.send_test(&to, &format!("{id:032x}"), now()).await {
        Ok(()) => {
            eprintln!("The mail server has taken a message for {address}.");
            Ok(())
        }
        Err(NotSent::Unreachable(why)) => Err(anyhow!("{why}; `ligand doctor` says what to check").into()),
        Err(NotSent::Later(why) | NotSent::Never(why)) => Err(anyhow!("{why}; nothing was sent").into()),
    }
}
