//! `ligand user add|list|show|set-password|lock|unlock|suspend|unsuspend|deactivate|admin`

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use ligand_protocol::ids::{IdError, Localpart, UserKey};
use ligand_protocol::limits::CONFLICT_ATTEMPTS_MAX;
use ligand_protocol::password::{NormalisedPassword, Owner, WeakPassword};
use ligand_protocol::registration::operator_name;
use ligand_protocol::session::AccountState;
use ligand_server::config::Config;
use ligand_server::mail::notices;
use ligand_server::passwords::Passwords;
use ligand_storage::users::{Created, Flag, NewUser, PasswordHash, Registration, User};
use serde_json::json;

use super::{Installation, Settings, now, operator_event, random};
use crate::failure::Failure;
use crate::output::{time, time_or_dash};
use crate::{output, terminal};

/// Accounts read at a time.
const PAGE: u32 = 1000;

#[derive(Subcommand)]
pub enum Command {
    /// Make an account.
    #[command(after_help = "\
Examples:
  ligand user add alice                            # asks for a password
  echo \"$PASSWORD\" | ligand user add alice --password-stdin --admin")]
    Add(AddArguments),
    /// List the accounts.
    List(ListArguments),
    /// Show one account.
    Show(ShowArguments),
    /// Set a password, and sign every device out.
    #[command(after_help = "\
Examples:
  ligand user set-password alice
  echo \"$PASSWORD\" | ligand user set-password alice --password-stdin --keep-sessions")]
    SetPassword(SetPasswordArguments),
    /// Lock an account: nothing works until it is unlocked, nothing is lost.
    Lock(NameArguments),
    /// Unlock an account: the same sessions go on.
    Unlock(NameArguments),
    /// Suspend an account: it may look, sign in and sign out, and take part in nothing.
    Suspend(NameArguments),
    /// End the suspension of an account.
    Unsuspend(NameArguments),
    /// Deactivate an account for good. Its name is never given to anybody again.
    Deactivate(DeactivateArguments),
    /// Make a user an administrator, or no longer one.
    #[command(after_help = "\
Examples:
  ligand user admin alice
  ligand user admin alice --revoke")]
    Admin(AdminArguments),
}

#[derive(Args)]
pub struct NameArguments {
    /// The user: a name or a user ID.
    name: String,
}

#[derive(Args)]
pub struct AddArguments {
    /// The new user's name, as in @name:server.
    name: String,
    /// Read the password from the standard input: one line, without its line break.
    #[arg(long)]
    password_stdin: bool,
    /// Make the user an administrator.
    #[arg(long)]
    admin: bool,
}

#[derive(Args)]
pub struct ListArguments {
    /// Print JSON; times are milliseconds since 1970.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct ShowArguments {
    /// The user: a name or a user ID.
    name: String,
    /// Print JSON; times are milliseconds since 1970.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct SetPasswordArguments {
    /// The user: a name or a user ID.
    name: String,
    /// Read the password from the standard input: one line, without its line break.
    #[arg(long)]
    password_stdin: bool,
    /// Leave every device signed in.
    #[arg(long)]
    keep_sessions: bool,
}

#[derive(Args)]
pub struct DeactivateArguments {
    /// The user: a name or a user ID.
    name: String,
    /// Ask the homeserver to forget what the user sent, as far as it can.
    #[arg(long)]
    erase: bool,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
}

#[derive(Args)]
pub struct AdminArguments {
    /// The user: a name or a user ID.
    name: String,
    /// Make the user no longer an administrator.
    #[arg(long)]
    revoke: bool,
}

/// Runs one of the commands.
pub async fn run(command: Command, settings: &Settings) -> Result<(), Failure> {
    let installation = settings.open().await?;
    let done = match command {
        Command::Add(arguments) => add(&installation, &arguments).await,
        Command::List(arguments) => list(&installation, &arguments).await,
        Command::Show(arguments) => show(&installation, &arguments).await,
        Command::SetPassword(arguments) => set_password(&installation, &arguments).await,
        Command::Lock(arguments) => set_flag(&installation, &arguments.name, Flag::Lock).await,
        Command::Unlock(arguments) => set_flag(&installation, &arguments.name, Flag::Unlock).await,
        Command::Suspend(arguments) => set_flag(&installation, &arguments.name, Flag::Suspended(true)).await,
        Command::Unsuspend(arguments) => {
            set_flag(&installation, &arguments.name, Flag::Suspended(false)).await
        }
        Command::Deactivate(arguments) => deactivate(&installation, &arguments).await,
        Command::Admin(arguments) => {
            set_flag(&installation, &arguments.name, Flag::Admin(!arguments.revoke)).await
        }
    };
    installation.store.close().await;
    done
}

async fn add(installation: &Installation, arguments: &AddArguments) -> Result<(), Failure> {
    let config = &installation.config;
    let name = new_name(&arguments.name, config)?;
    let password = new_password(&name, config, arguments.password_stdin)?;
    let (key, now) = (UserKey::generate(random()?), now());
    let new = NewUser {
        key,
        localpart: name.clone(),
        password_hash: Some(hash(password).await?),
        admin: arguments.admin,
        guest: false,
        now,
    };
    let mut event = operator_event("user_added", now);
    event.user = Some(key);
    let created = installation.store.create_user(&new, &Registration::default(), &event).await;
    let user_id = name.user_id(&config.server_name);
    match created.context("cannot make the account")? {
        Created::Done => {
            eprintln!("Added {user_id}");
            Ok(())
        }
        _ => Err(anyhow!("{user_id} exists already; `ligand user set-password {name}` changes its password")
            .into()),
    }
}

async fn list(installation: &Installation, arguments: &ListArguments) -> Result<(), Failure> {
    let mut users: Vec<User> = Vec::new();
    loop {
        let after = users.last().map_or("", |user| user.localpart.as_str());
        let page = installation.store.list_users(after, PAGE).await;
        let page = page.context("cannot read the accounts")?;
        if page.is_empty() {
            break;
        }
        users.extend(page);
    }
    if arguments.json {
        let server = &installation.config.server_name;
        let values: Vec<_> = users.iter().map(|user| as_json(user, server)).collect();
        return Ok(output::json(&values)?);
    }
    let row = |user: &User| {
        [
            user.localpart.clone(),
            state(user).to_owned(),
            kind(user).to_owned(),
            time(user.created_at),
            time_or_dash(user.last_sign_in_at),
        ]
    };
    let rows: Vec<_> = users.iter().map(row).collect();
    Ok(output::table(["USER", "STATE", "KIND", "MADE", "LAST SIGN-IN"], &rows)?)
}

async fn show(installation: &Installation, arguments: &ShowArguments) -> Result<(), Failure> {
    let user = find_user(installation, &arguments.name).await?;
    let server = &installation.config.server_name;
    let sessions = installation.store.sessions_of(user.key, false).await;
    let sessions = sessions.context("cannot read the sessions")?.len();
    if arguments.json {
        let mut value = as_json(&user, server);
        value["sessions"] = sessions.into();
        return Ok(output::json(&value)?);
    }
    let password = match (&user.password_hash, user.password_changed_at) {
        (None, _) => "none".to_owned(),
        (Some(_), Some(at)) => format!("set {}", time(at)),
        (Some(_), None) => "set".to_owned(),
    };
    Ok(output::details(&[
        ("user", format!("@{}:{server}", user.localpart)),
        ("state", state(&user).to_owned()),
        ("kind", kind(&user).to_owned()),
        ("password", password),
        ("made", time(user.created_at)),
        ("last sign-in", time_or_dash(user.last_sign_in_at)),
        ("deactivated", time_or_dash(user.deactivated_at)),
        ("live sessions", sessions.to_string()),
    ])?)
}

async fn set_password(installation: &Installation, arguments: &SetPasswordArguments) -> Result<(), Failure> {
    let name = localpart(&arguments.name, &installation.config)?;
    // Before the person types a password in vain.
    active(installation, &name).await?;
    let password = new_password(&name, &installation.config, arguments.password_stdin)?;
    let hash = hash(password).await?;
    let end_others = !arguments.keep_sessions;
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let user = active(installation, &name).await?;
        let mut event = operator_event("password_set", now());
        event.user = Some(user.key);
        event.notice = notices::password(&installation.config, name.as_str(), None, event.at);
        let set = installation
            .store
            .set_password(user.key, user.verified(), &hash, end_others, None, None, &event)
            .await;
        if set.context("cannot set the password")? {
            let devices = if end_others { "; every device is signed out" } else { "" };
            eprintln!("Set the password of {name}{devices}.");
            return Ok(());
        }
    }
    Err(changing())
}

async fn set_flag(installation: &Installation, name: &str, flag: Flag) -> Result<(), Failure> {
    let name = localpart(name, &installation.config)?;
    let user = active(installation, &name).await?;
    let locked = user.state == AccountState::Locked;
    let (action, done, needless) = match flag {
        Flag::Lock => ("user_locked", "Locked", locked),
        Flag::Unlock => ("user_unlocked", "Unlocked", !locked),
        Flag::Suspended(true) => ("user_suspended", "Suspended", user.suspended),
        Flag::Suspended(false) => ("user_unsuspended", "No longer suspended:", !user.suspended),
        Flag::Admin(true) => ("admin_granted", "Made an administrator of", user.admin),
        Flag::Admin(false) => ("admin_revoked", "No longer an administrator:", !user.admin),
    };
    if !needless {
        let mut event = operator_event(action, now());
        event.user = Some(user.key);
        let changed = installation.store.set_flag(user.key, flag, &event).await;
        if !changed.context("cannot change the account")? {
            return Err(changing());
        }
    }
    let already = if needless { " (it was so before)" } else { "" };
    eprintln!("{done} {name}{already}");
    Ok(())
}

async fn deactivate(installation: &Installation, arguments: &DeactivateArguments) -> Result<(), Failure> {
    let name = localpart(&arguments.name, &installation.config)?;
    active(installation, &name).await?;
    let question = format!("Deactivate {name} for good? This cannot be undone.");
    terminal::confirm(&question, arguments.yes)?;
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let user = active(installation, &name).await?;
        let mut event = operator_event("user_deactivated", now());
        event.user = Some(user.key);
        let done = installation.store.deactivate(user.key, user.epoch, arguments.erase, None, &event).await;
        if done.context("cannot deactivate the account")? {
            eprintln!("Deactivated {name}; every session is ended.");
            return Ok(());
        }
    }
    Err(changing())
}

fn changing() -> Failure {
    anyhow!("the account was changed by somebody else just now; look at it and try again").into()
}

/// The name of an account that should exist, from a name or a user ID of this server.
pub fn localpart(text: &str, config: &Config) -> Result<Localpart, Failure> {
    let server = &config.server_name;
    Localpart::from_login(text, server).map_err(|error| {
        let cause = match error {
            IdError::NotLocal => "is a user of another server",
            _ => "is not a user name",
        };
        Failure::Refused(anyhow!("{text:?} {cause}; expected a name or @name:{server}"))
    })
}

/// The name of an account to make.
fn new_name(text: &str, config: &Config) -> Result<Localpart, Failure> {
    if text.starts_with('@') {
        return localpart(text, config);
    }
    operator_name(text, &config.server_name)
        .map_err(|refused| Failure::Refused(anyhow!("{text:?}: {refused}")))
}

/// The account of that name or user ID.
pub async fn find_user(installation: &Installation, name: &str) -> Result<User, Failure> {
    let name = localpart(name, &installation.config)?;
    let found = installation.store.find_user(&name).await;
    let user_id = name.user_id(&installation.config.server_name);
    let missing = || anyhow!("there is no {user_id}; `ligand user list` shows who there is");
    Ok(found.context("cannot read the account")?.ok_or_else(missing)?)
}

/// The account of that name, unless it is deactivated.
async fn active(installation: &Installation, name: &Localpart) -> Result<User, Failure> {
    let user = find_user(installation, name.as_str()).await?;
    if user.state == AccountState::Deactivated {
        let text = "is deactivated, which cannot be undone; make another account";
        return Err(anyhow!("{name} {text}").into());
    }
    Ok(user)
}

/// Reads a password. One that is too short or too long is refused; a weak one is the operator's
/// decision, and only remarked on.
fn new_password(name: &Localpart, config: &Config, from_stdin: bool) -> Result<NormalisedPassword, Failure> {
    let text = terminal::new_password(from_stdin)?;
    let owner = Owner { localpart: name.as_str(), server_name: &config.server_name };
    match NormalisedPassword::chosen(&text, owner) {
        Ok(password) => Ok(password),
        Err(weak @ (WeakPassword::Common | WeakPassword::ResemblesName)) => {
            eprintln!("warning: {weak}");
            NormalisedPassword::presented(&text).map_err(|_| anyhow!("the password is too long").into())
        }
        Err(refused) => Err(anyhow!("{refused}").into()),
    }
}

async fn hash(password: NormalisedPassword) -> Result<PasswordHash, Failure> {
    let passwords = Passwords::start().context("cannot start a thread")?;
    let hash = passwords.hash(password, random()?).await;
    hash.map_err(|_| anyhow!("this machine is too busy to hash a password; try again").into())
}

fn state(user: &User) -> &'static str {
    match user.state {
        AccountState::Active if user.suspended => "suspended",
        AccountState::Active => "active",
        AccountState::Locked => "locked",
        AccountState::Deactivated => "deactivated",
    }
}

fn kind(user: &User) -> &'static str {
    if user.admin {
        "admin"
    } else if user.guest {
        "guest"
    } else {
        "user"
    }
}

fn as_json(user: &User, server: &str) -> serde_json::Value {
    json!({
        "user_id": format!("@{}:{server}", user.localpart),
        "localpart": user.localpart,
        "state": match user.state {
            AccountState::Active => "active",
            AccountState::Locked => "locked",
            AccountState::Deactivated => "deactivated",
        },
        "suspended": user.suspended,
        "admin": user.admin,
        "guest": user.guest,
        "has_password": user.password_hash.is_some(),
        "created_at": user.created_at,
        "last_sign_in_at": user.last_sign_in_at,
        "password_changed_at": user.password_changed_at,
        "deactivated_at": user.deactivated_at,
    })
}
