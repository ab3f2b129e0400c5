//! `ligand session list|show|end`

use anyhow::{Context, anyhow};
use clap::{ArgGroup, Args, Subcommand};
use ligand_protocol::ids::SessionId;
use ligand_protocol::limits::CONFLICT_ATTEMPTS_MAX;
use ligand_protocol::session::{EndReason, Status};
use ligand_storage::sessions::SessionRow;
use serde_json::json;

use super::user::{find_user, localpart};
use super::{Installation, Settings, now, operator_event};
use crate::failure::Failure;
use crate::output::{json_time, time, time_or_dash};
use crate::{output, terminal};

/// Sessions read at a time.
const PAGE: u32 = 1000;

#[derive(Subcommand)]
pub enum Command {
    /// List living sessions, of one user or of all.
    #[command(after_help = "\
Examples:
  ligand session list alice
  ligand session list --ended --json")]
    List(ListArguments),
    /// Show one session.
    Show(ShowArguments),
    /// End one session with its device, or all of a user: their tokens are dead within a second.
    #[command(after_help = "\
Examples:
  ligand session end 0f3a6c1e5b7d49288a1be02c94d7f653
  ligand session end --user alice --yes")]
    End(EndArguments),
}

#[derive(Args)]
pub struct ListArguments {
    /// Whose: a name or a user ID. All if not given.
    user: Option<String>,
    /// Also those that ended in the last 30 days.
    #[arg(long)]
    ended: bool,
    /// Print JSON; times are milliseconds since 1970.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct ShowArguments {
    /// The session, as `list` names it.
    session: String,
    /// Print JSON; times are milliseconds since 1970.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[command(group = ArgGroup::new("which").required(true).args(["session", "user"]))]
pub struct EndArguments {
    /// The session, as `list` names it.
    session: Option<String>,
    /// End every session of this user instead.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
}

/// Runs one of the commands.
pub async fn run(command: Command, settings: &Settings) -> Result<(), Failure> {
    let installation = settings.open().await?;
    let done = match command {
        Command::List(arguments) => list(&installation, &arguments).await,
        Command::Show(arguments) => show(&installation, &arguments).await,
        Command::End(arguments) => match &arguments.user {
            Some(user) => end_all_of(&installation, user, arguments.yes).await,
            None => {
                let session = arguments.session.as_deref().unwrap_or_default();
                end(&installation, session, arguments.yes).await
            }
        },
    };
    installation.store.close().await;
    done
}

async fn list(installation: &Installation, arguments: &ListArguments) -> Result<(), Failure> {
    let sessions = match &arguments.user {
        Some(name) => {
            let user = find_user(installation, name).await?;
            let sessions = installation.store.sessions_of(user.key, arguments.ended).await;
            sessions.context("cannot read the sessions")?
        }
        None => all(installation, arguments.ended).await?,
    };
    let server = &installation.config.server_name;
    if arguments.json {
        let values: Vec<_> = sessions.iter().map(|session| as_json(session, server)).collect();
        return Ok(output::json(&values)?);
    }
    let row = |row: &SessionRow| {
        [
            row.session.id.to_string(),
            row.localpart.clone(),
            row.device_id.as_ref().map_or("-".to_owned(), |device| device.as_str().to_owned()),
            row.display_name.clone().unwrap_or_else(|| "-".to_owned()),
            state(row).to_owned(),
            time(row.created_at),
            time(row.last_seen),
            row.ip.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    };
    let rows: Vec<_> = sessions.iter().map(row).collect();
    let heading = ["SESSION", "USER", "DEVICE", "NAME", "STATE", "SIGNED IN", "LAST SEEN", "ADDRESS"];
    Ok(output::table(heading, &rows)?)
}

async fn all(installation: &Installation, ended: bool) -> Result<Vec<SessionRow>, Failure> {
    let mut sessions: Vec<SessionRow> = Vec::new();
    loop {
        let after = sessions.last().map_or(SessionId([0; 16]), |row| row.session.id);
        let page = installation.store.list_sessions(after, ended, PAGE).await;
        let page = page.context("cannot read the sessions")?;
        if page.is_empty() {
            return Ok(sessions);
        }
        sessions.extend(page);
    }
}

async fn show(installation: &Installation, arguments: &ShowArguments) -> Result<(), Failure> {
    let row = find(installation, &arguments.session).await?;
    if arguments.json {
        return Ok(output::json(&as_json(&row, &installation.config.server_name))?);
    }
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let session = &row.session;
    Ok(output::details(&[
        ("session", session.id.to_string()),
        ("user", row.localpart.clone()),
        ("device", text(row.device_id.as_ref().map(|device| device.as_str().to_owned()))),
        ("name", text(row.display_name.clone())),
        ("state", state(&row).to_owned()),
        ("signed in", time(row.created_at)),
        ("last seen", time(row.last_seen)),
        ("ended", time_or_dash(row.ended_at)),
        ("refreshes", session.generation.saturating_sub(1).to_string()),
        ("access token ends", time(session.at_exp)),
        ("refresh token ends", time_or_dash(session.rt_hash.map(|_| session.rt_exp))),
        ("session ends", time(session.session_exp)),
        ("address", text(row.ip.clone())),
        ("user agent", text(row.user_agent.clone())),
    ])?)
}

async fn end(installation: &Installation, id: &str, yes: bool) -> Result<(), Failure> {
    let row = find(installation, id).await?;
    let (id, user) = (row.session.id, row.session.user);
    terminal::confirm(&format!("End session {id} of {}, with its device?", row.localpart), yes)?;
    let mut event = operator_event("session_ended", now());
    (event.user, event.session) = (Some(user), Some(id));
    let ended =
        installation.store.end_with_device(id, user, row.device_id.as_ref(), EndReason::Admin, &event).await;
    let message = match ended.context("cannot end the session")? {
        true => "Ended",
        false => "Had ended before:",
    };
    eprintln!("{message} {id}");
    Ok(())
}

async fn end_all_of(installation: &Installation, name: &str, yes: bool) -> Result<(), Failure> {
    let name = localpart(name, &installation.config)?;
    terminal::confirm(&format!("End every session of {}, with its devices?", name.as_str()), yes)?;
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let user = find_user(installation, name.as_str()).await?;
        let mut event = operator_event("sessions_ended", now());
        event.user = Some(user.key);
        let ended = installation.store.end_all_of(user.key, user.epoch, EndReason::Admin, &event).await;
        if ended.context("cannot end the sessions")? {
            eprintln!("Ended every session of {}.", name.as_str());
            return Ok(());
        }
    }
    Err(anyhow!("the account keeps changing; try again").into())
}

async fn find(installation: &Installation, text: &str) -> Result<SessionRow, Failure> {
    let Some(id) = SessionId::parse(text) else {
        let error = anyhow!("{text:?} is not the name of a session; `ligand session list` shows them");
        return Err(Failure::Refused(error));
    };
    let found = installation.store.show_session(id).await;
    let missing = || anyhow!("there is no session {id}; `ligand session list` shows those there are");
    Ok(found.context("cannot read the session")?.ok_or_else(missing)?)
}

fn state(row: &SessionRow) -> &'static str {
    match row.session.status {
        Status::Live => "live",
        Status::Ended(reason) => reason.as_str(),
    }
}

fn as_json(row: &SessionRow, server: &str) -> serde_json::Value {
    let session = &row.session;
    json!({
        "session_id": session.id.to_string(),
        "user_id": format!("@{}:{server}", row.localpart),
        "device_id": row.device_id.as_ref().map(|device| device.as_str()),
        "display_name": row.display_name,
        "live": matches!(session.status, Status::Live),
        "end_reason": match session.status {
            Status::Live => None,
            Status::Ended(reason) => Some(reason.as_str()),
        },
        "created_at": row.created_at,
        "last_seen": row.last_seen,
        "ended_at": row.ended_at,
        "generation": session.generation,
        "access_token_expires_at": json_time(session.at_exp),
        "refresh_token_expires_at": session.rt_hash.and_then(|_| json_time(session.rt_exp)),
        "session_expires_at": json_time(session.session_exp),
        "ip": row.ip,
        "user_agent": row.user_agent,
    })
}
