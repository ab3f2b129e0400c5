//! The tree of commands. Arguments of a command stand in its own file.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands::{completions, config, database, doctor, email, registration_token, session, user};

/// Ligand lets people into Matrix: accounts, sessions, tokens.
#[derive(Parser)]
#[command(name = "ligand", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// Configuration file; without one, every key has its default.
    #[arg(long, global = true, value_name = "FILE", env = "LIGAND_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,

    /// What to do; without one, `serve`.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Run the server (what `ligand` does without a command).
    Serve,
    /// Make and manage accounts.
    #[command(subcommand)]
    User(user::Command),
    /// See and end sessions.
    #[command(subcommand)]
    Session(session::Command),
    /// Make and manage tokens that let people register.
    #[command(subcommand)]
    RegistrationToken(registration_token::Command),
    /// Migrate, check or back up the database.
    #[command(subcommand)]
    Database(database::Command),
    /// Send a test message.
    #[command(subcommand)]
    Email(email::Command),
    /// Check, show or begin a configuration.
    #[command(subcommand)]
    Config(config::Command),
    /// Look for what is wrong with this installation.
    Doctor(doctor::Arguments),
    /// Print a completion script for a shell.
    Completions(completions::Arguments),
}

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
Data goes to the standard output, messages and logs to the standard error stream.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_tree_is_sound() {
        super::Cli::command().debug_assert();
    }
}
