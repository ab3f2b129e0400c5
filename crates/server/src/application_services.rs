//! Application services: who they are and which users are theirs (Application Service API,
//! "Registration").
//!
//! Read once, at start, from registration files (`file`). The token that a service shows is kept as
//! its SHA-256; the one that we show to it, for the ping alone. What a service may do with its token
//! is in `identity` and `client_server::application_service`.

mod file;

use std::sync::Arc;

use ligand_protocol::ids::{Localpart, UserKey};
use ligand_protocol::token::{TokenHash, TokenKind};
use ligand_storage::OpenError;
use ligand_storage::audit::AuditEvent;
use ligand_storage::users::{Created, NewUser, Registration};
use regex::Regex;
use zeroize::Zeroizing;

pub use file::{FilesError, Read};

use crate::app::App;
use crate::keys::KeyError;
use crate::run::StartError;

/// All services of this homeserver.
#[derive(Default)]
pub struct ApplicationServices(Vec<Arc<ApplicationService>>);

/// One service, as its registration file says.
pub struct ApplicationService {
    pub id: String,
    /// Where it listens; none if it wants no traffic.
    pub url: Option<String>,
    pub sender: Localpart,
    /// Whether requests in the name of its users are rate-limited.
    pub rate_limited: bool,
    pub hs_token: Zeroizing<String>,
    as_token: TokenHash,
    users: Vec<Namespace>,
}

/// A set of user IDs.
struct Namespace {
    exclusive: bool,
    regex: Regex,
}

impl Namespace {
    /// From the start of the whole user ID, not necessarily to its end: what homeservers do, and
    /// what registration files in the wild rely on.
    fn contains(&self, user_id: &str) -> bool {
        self.regex.find(user_id).is_some_and(|found| found.start() == 0)
    }
}

impl ApplicationService {
    /// Whether the service may act as this user: its own, or one in its namespaces.
    #[must_use]
    pub fn covers(&self, name: &Localpart, server_name: &str) -> bool {
        let user_id = name.user_id(server_name);
        *name == self.sender || self.users.iter().any(|namespace| namespace.contains(&user_id))
    }

    /// What the audit table says of who acted. No user name holds a space.
    #[must_use]
    pub fn actor(&self) -> String {
        format!("application service {}", self.id)
    }

    /// Whether nobody else may register this user.
    fn claims(&self, user_id: &str) -> bool {
        self.users.iter().any(|namespace| namespace.exclusive && namespace.contains(user_id))
    }
}

impl ApplicationServices {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The service that shows this token. One that is shaped like a session's is not even hashed: a
    /// registration file with such a token is refused.
    #[must_use]
    pub fn of_token(&self, text: &str) -> Option<&Arc<ApplicationService>> {
        if self.is_empty() || TokenKind::Access.marks(text) {
            return None;
        }
        let shown = TokenHash::of(text);
        self.0.iter().find(|service| service.as_token == shown)
    }

    /// Whether a user ID is kept for a service other than `asking`.
    #[must_use]
    pub fn keep(&self, name: &Localpart, server_name: &str, asking: Option<&ApplicationService>) -> bool {
        let user_id = name.user_id(server_name);
        let others = self.0.iter().filter(|service| asking.is_none_or(|asking| asking.id != service.id));
        others.into_iter().any(|service| service.claims(&user_id))
    }
}

/// Creates the users that the services act as, where they are missing. Several processes may do so
/// at once.
///
/// # Errors
/// Storage trouble; no randomness.
pub async fn create_senders(app: &App) -> Result<(), StartError> {
    for service in &app.application_services.0 {
        if app.store.find_user(&service.sender).await.map_err(OpenError::from)?.is_some() {
            continue;
        }
        let now = app.clock.now();
        let new = NewUser {
            key: UserKey::generate(getrandom::u64().map_err(KeyError::Entropy)?.to_be_bytes()),
            localpart: service.sender.clone(),
            password_hash: None,
            admin: false,
            guest: false,
            now,
        };
        let event = AuditEvent {
            actor: Some(service.actor()),
            user: Some(new.key),
            ..AuditEvent::new("application_service_user", now)
        };
        let created = app.store.create_user(&new, &Registration::default(), &event).await;
        if created.map_err(OpenError::from)? == Created::Done {
            tracing::info!(service = service.id, user = %service.sender, "made the user of an application service");
        }
    }
    Ok(())
}
