//! How a command fails: what is printed and with which code the process ends.

use std::process::ExitCode;

use ligand_server::config::ConfigError;
use ligand_server::mail::MailError;

/// Why a command did not do what it was asked. The message names the cause and the mend.
#[derive(Debug)]
pub enum Failure {
    /// It was tried and failed: exit code 1.
    Failed(anyhow::Error),
    /// The command line or the configuration is wrong: exit code 2.
    Refused(anyhow::Error),
}

impl Failure {
    /// Prints `error: …` for each line of the message and gives the exit code.
    pub fn report(&self) -> ExitCode {
        let (error, code) = match self {
            Self::Failed(error) => (error, 1),
            Self::Refused(error) => (error, 2),
        };
        for line in format!("{error:#}").lines() {
            eprintln!("error: {line}");
        }
        ExitCode::from(code)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<MailError> for Failure {
    fn from(error: MailError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Refused(error.into())
    }
}
