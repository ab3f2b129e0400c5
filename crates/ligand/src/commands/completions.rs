//! `ligand completions SHELL`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output;

#[derive(Args)]
#[command(after_help = "\
Examples:
  ligand completions bash > /etc/bash_completion.d/ligand
  ligand completions zsh > \"${fpath[1]}/_ligand\"
  ligand completions fish > ~/.config/fish/completions/ligand.fish")]
pub struct Arguments {
    /// The shell that will read the script.
    shell: Shell,
}

/// Prints the completion script.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "ligand", &mut script);
    Ok(output::data(&String::from_utf8_lossy(&script))?)
}
