//! `ligand registration-token add|list|revoke`

use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};
use ligand_protocol::expiry;
use ligand_protocol::registration::RegistrationToken;
use ligand_server::config::parse_duration;
use ligand_storage::Store;
use ligand_storage::registration_tokens::RegistrationToken as Stored;
use serde_json::json;

use super::{Settings, now, random};
use crate::failure::Failure;
use crate::{output, terminal};

/// Characters of a token that are kept to tell tokens apart: too few to guess the rest from.
const NAME_CHARS: usize = 6;

#[derive(Subcommand)]
pub enum Command {
    /// Make a token that lets people register, and print it. It cannot be shown again.
    #[command(after_help = "\
Examples:
  ligand registration-token add
  ligand registration-token add --uses 1 --expires-in 7d")]
    Add(AddArguments),
    /// List the tokens that were made, by their first characters.
    List(ListArguments),
    /// Take a token back: nobody can register with it any more.
    #[command(after_help = "\
Examples:
  ligand registration-token revoke k3v9qt
  ligand registration-token revoke k3v9qtzkjd2y6yq4c5n7m3x2aa --yes")]
    Revoke(RevokeArguments),
}

#[derive(Args)]
pub struct AddArguments {
    /// How many accounts it may make; any number if not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    uses: Option<u32>,
    /// How long it is good, such as 1h or 7d; without end if not given.
    #[arg(long, value_name = "DURATION", value_parser = lifetime_ms)]
    expires_in: Option<i64>,
    /// Print JSON instead of the bare token.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct ListArguments {
    /// Print JSON; times are milliseconds since 1970.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct RevokeArguments {
    /// The token, or its first characters as `list` shows them.
    token: String,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
}

/// Runs one of the commands.
pub async fn run(command: Command, settings: &Settings) -> Result<(), Failure> {
    let store = settings.open().await?.store;
    let done = match command {
        Command::Add(arguments) => add(&store, &arguments).await,
        Command::List(arguments) => list(&store, &arguments).await,
        Command::Revoke(arguments) => revoke(&store, &arguments).await,
    };
    store.close().await;
    done
}

async fn add(store: &Store, arguments: &AddArguments) -> Result<(), Failure> {
    let token = RegistrationToken::generate(random()?);
    let now = now();
    let stored = Stored {
        token_hash: token.hash(),
        name: token.expose().chars().take(NAME_CHARS).collect(),
        uses_allowed: arguments.uses.map(i64::from),
        used: 0,
        expires_at: arguments.expires_in.map(|lifetime| expiry(now, Some(lifetime))),
        created_at: now,
        revoked_at: None,
    };
    let added = store.add_registration_token(&stored).await;
    if !added.context("cannot store the token")? {
        return Err(anyhow!("the token exists already; run the command again").into());
    }
    if arguments.json {
        let value = json!({
            "token": token.expose(),
            "uses_allowed": stored.uses_allowed,
            "expires_at": stored.expires_at,
        });
        Ok(output::json(&value)?)
    } else {
        Ok(output::data(&format!("{}\n", token.expose()))?)
    }
}

async fn list(store: &Store, arguments: &ListArguments) -> Result<(), Failure> {
    let tokens = store.list_registration_tokens().await.context("cannot read the tokens")?;
    if arguments.json {
        return Ok(output::json(&tokens.iter().map(as_json).collect::<Vec<_>>())?);
    }
    let now = now();
    let row = |token: &Stored| {
        [
            token.name.clone(),
            state(token, now).to_owned(),
            token.used.to_string(),
            token.uses_allowed.map_or("any".to_owned(), |uses| uses.to_string()),
            token.expires_at.map_or("never".to_owned(), output::time),
            output::time(token.created_at),
        ]
    };
    let rows: Vec<_> = tokens.iter().map(row).collect();
    Ok(output::table(["TOKEN", "STATE", "USED", "OF", "EXPIRES", "MADE"], &rows)?)
}

fn as_json(token: &Stored) -> serde_json::Value {
    json!({
        "name": token.name,
        "state": state(token, now()),
        "used": token.used,
        "uses_allowed": token.uses_allowed,
        "expires_at": token.expires_at,
        "created_at": token.created_at,
        "revoked_at": token.revoked_at,
    })
}

fn state(token: &Stored, now: i64) -> &'static str {
    if token.revoked_at.is_some() {
        "revoked"
    } else if token.expires_at.is_some_and(|at| at <= now) {
        "expired"
    } else if token.uses_allowed.is_some_and(|uses| token.used >= uses) {
        "used up"
    } else {
        "good"
    }
}

async fn revoke(store: &Store, arguments: &RevokeArguments) -> Result<(), Failure> {
    let tokens = store.list_registration_tokens().await.context("cannot read the tokens")?;
    let token = find(&tokens, &arguments.token)?;
    let question = format!("Revoke the registration token {}…?", token.name);
    terminal::confirm(&question, arguments.yes)?;
    let revoked = store.revoke_registration_token(token.token_hash, now()).await;
    let message = match revoked.context("cannot revoke the token")? {
        true => "Revoked",
        false => "Was revoked before:",
    };
    eprintln!("{message} {}…", token.name);
    Ok(())
}

/// The token of that text, else the only one whose first characters these are.
fn find<'a>(tokens: &'a [Stored], text: &str) -> anyhow::Result<&'a Stored> {
    let hash = RegistrationToken::parse(text).map(|token| token.hash());
    if let Some(token) = tokens.iter().find(|token| Some(token.token_hash) == hash) {
        return Ok(token);
    }
    let mut named = tokens.iter().filter(|token| token.name == text);
    match (named.next(), named.next()) {
        (Some(token), None) => Ok(token),
        (Some(_), Some(_)) => bail!("several tokens begin with {text}; give the whole token"),
        (None, _) => {
            bail!("no such token; `ligand registration-token list` shows those that exist")
        }
    }
}

fn lifetime_ms(text: &str) -> Result<i64, String> {
    let duration = parse_duration(text).filter(|duration| !duration.is_zero());
    let milliseconds = duration.and_then(|duration| i64::try_from(duration.as_millis()).ok());
    milliseconds.ok_or_else(|| "expected a duration above 0 such as 90s, 5m, 1h or 30d".to_owned())
}
