//! Server administration: `admin/whois`, `admin/suspend`, `admin/lock`.
//!
//! Who asks is judged before anybody is looked up, so that the answers tell nobody but an
//! administrator which accounts exist. What is set here is seen by every process within the lease
//! of `ligand_storage::live`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use ligand_protocol::ids::{Localpart, UserKey};
use ligand_protocol::limits::CONFLICT_ATTEMPTS_MAX;
use ligand_protocol::session::AccountState;
use ligand_storage::audit::AuditEvent;
use ligand_storage::live::LiveSession;
use ligand_storage::sessions::SessionRow;
use ligand_storage::users::{Flag, User};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::extract::{Authenticated, Caller, Object};
use crate::standing::{self, Administrator, Serves};

type UserId = Result<Path<String>, PathRejection>;

/// `GET /admin/whois/{userId}`: where an account is signed in, for its owner and administrators.
pub async fn whois(
    State(app): State<App>,
    Authenticated(session): Authenticated,
    user_id: UserId,
) -> Result<Json<Value>, ApiError> {
    let owner = session.user.key;
    let own = format!("@{}:{}", session.user.localpart, app.config.server_name);
    if user_id.as_ref().is_ok_and(|Path(asked)| *asked == own) {
        return connections(&app, owner, own).await;
    }
    standing::permit(&app, session, Serves::Administrators).await?;
    let user = named(&app, user_id).await?.ok_or_else(no_such_user)?;
    let user_id = format!("@{}:{}", user.localpart, app.config.server_name);
    connections(&app, user.key, user_id).await
}

async fn connections(app: &App, user: UserKey, user_id: String) -> Result<Json<Value>, ApiError> {
    let mut devices: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for device in app.store.devices_of(user).await? {
        devices.insert(device.device_id, Vec::new());
    }
    for row in app.store.sessions_of(user, false).await? {
        // One without a device stands under the empty name.
        let device = row.device_id.as_ref().map_or("", |id| id.as_str());
        devices.entry(device.to_owned()).or_default().push(json!({"connections": [connection(row)]}));
    }
    let devices: Map<String, Value> =
        devices.into_iter().map(|(id, sessions)| (id, json!({"sessions": sessions}))).collect();
    Ok(Json(json!({"user_id": user_id, "devices": devices})))
}

fn connection(row: SessionRow) -> Map<String, Value> {
    let mut connection = Map::new();
    connection.insert("last_seen".to_owned(), row.last_seen.into());
    for (key, value) in [("ip", row.ip), ("user_agent", row.user_agent)] {
        if let Some(value) = value {
            connection.insert(key.to_owned(), value.into());
        }
    }
    connection
}

/// What an administrator may set of an account.
#[derive(Clone, Copy)]
enum Measure {
    Suspension,
    Lock,
}

impl Measure {
    /// The member of the bodies.
    const fn key(self) -> &'static str {
        match self {
            Self::Suspension => "suspended",
            Self::Lock => "locked",
        }
    }

    fn is_on(self, user: &User) -> bool {
        match self {
            Self::Suspension => user.suspended,
            Self::Lock => user.state == AccountState::Locked,
        }
    }

    /// The flag that sets it, and the name of that in the audit table.
    const fn flag(self, on: bool) -> (Flag, &'static str) {
        match (self, on) {
            (Self::Suspension, true) => (Flag::Suspended(true), "user_suspended"),
            (Self::Suspension, false) => (Flag::Suspended(false), "user_unsuspended"),
            (Self::Lock, true) => (Flag::Lock, "user_locked"),
            (Self::Lock, false) => (Flag::Unlock, "user_unlocked"),
        }
    }

    fn reply(self, on: bool) -> Json<Value> {
        Json(json!({self.key(): on}))
    }

    async fn get(self, app: &App, admin: &LiveSession, user_id: UserId) -> Result<Json<Value>, ApiError> {
        let user = target(app, admin, user_id).await?;
        Ok(self.reply(self.is_on(&user)))
    }

    async fn put(
        self,
        app: &App,
        admin: &LiveSession,
        user_id: UserId,
        caller: &Caller,
        body: &Object,
    ) -> Result<Json<Value>, ApiError> {
        let on = body.flag(self.key())?.ok_or_else(|| ApiError::missing_param(self.key()))?;
        let mut user = target(app, admin, user_id).await?;
        if user.key == admin.user.key {
            return Err(ApiError::forbidden("You cannot do this to your own account."));
        }
        for _ in 0..CONFLICT_ATTEMPTS_MAX {
            if self.is_on(&user) == on {
                return Ok(self.reply(on));
            }
            let (flag, action) = self.flag(on);
            let event = AuditEvent {
                actor: Some(admin.user.localpart.to_string()),
                user: Some(user.key),
                session: Some(admin.id),
                ..caller.event(action, app.clock.now())
            };
            if app.store.moderate(user.key, flag, &event).await? {
                return Ok(self.reply(on));
            }
            let found = app.store.load_user(user.key).await?;
            user = moderated(admin, found)?;
        }
        Err(ApiError::unavailable("the account changed under every attempt"))
    }
}

/// `GET /admin/suspend/{userId}`.
pub async fn get_suspended(
    State(app): State<App>,
    Administrator(admin): Administrator,
    user_id: UserId,
) -> Result<Json<Value>, ApiError> {
    Measure::Suspension.get(&app, &admin, user_id).await
}

/// `PUT /admin/suspend/{userId}`.
pub async fn put_suspended(
    State(app): State<App>,
    Administrator(admin): Administrator,
    user_id: UserId,
    caller: Caller,
    body: Object,
) -> Result<Json<Value>, ApiError> {
    Measure::Suspension.put(&app, &admin, user_id, &caller, &body).await
}

/// `GET /admin/lock/{userId}`.
pub async fn get_locked(
    State(app): State<App>,
    Administrator(admin): Administrator,
    user_id: UserId,
) -> Result<Json<Value>, ApiError> {
    Measure::Lock.get(&app, &admin, user_id).await
}

/// `PUT /admin/lock/{userId}`.
pub async fn put_locked(
    State(app): State<App>,
    Administrator(admin): Administrator,
    user_id: UserId,
    caller: Caller,
    body: Object,
) -> Result<Json<Value>, ApiError> {
    Measure::Lock.put(&app, &admin, user_id, &caller, &body).await
}

/// The account that a path names, if an administrator may moderate it.
async fn target(app: &App, admin: &LiveSession, user_id: UserId) -> Result<User, ApiError> {
    moderated(admin, named(app, user_id).await?)
}

fn moderated(admin: &LiveSession, found: Option<User>) -> Result<User, ApiError> {
    let user = found.filter(|user| user.state != AccountState::Deactivated).ok_or_else(no_such_user)?;
    if user.admin && user.key != admin.user.key {
        return Err(ApiError::forbidden("This user is an administrator too."));
    }
    Ok(user)
}

/// The account of a user ID.
///
/// # Errors
/// 400 for what is no user ID of this server.
async fn named(app: &App, user_id: UserId) -> Result<Option<User>, ApiError> {
    let server = app.config.server_name.as_str();
    let not_local = || ApiError::invalid_param("This is not a user of this server.");
    let Path(user_id) = user_id.map_err(|_| not_local())?;
    let (localpart, of) =
        user_id.strip_prefix('@').and_then(|rest| rest.split_once(':')).ok_or_else(not_local)?;
    if of != server {
        return Err(not_local());
    }
    match Localpart::parse(localpart, server) {
        Ok(localpart) => Ok(app.store.find_user(&localpart).await?),
        Err(_) => Ok(None),
    }
}

fn no_such_user() -> ApiError {
    ApiError::not_found("There is no such user.")
}
