//! The `ligand` binary: reads the command line, runs one command, turns its outcome into an exit
//! code (0 done, 1 failed, 2 wrong usage or configuration).
//!
//! Each command is one file below `commands`, with its arguments and what it does. What the server
//! does is the server crate's; what is stored, the storage crate's.

mod cli;
mod commands;
mod failure;
mod output;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Wrong usage ends the process here, with code 2 and clap's own message.
    let cli = cli::Cli::parse();
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
