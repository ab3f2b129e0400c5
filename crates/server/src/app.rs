//! One value that every handler gets: configuration, storage, keys, time, randomness.

use std::ops::Deref;
use std::sync::Arc;

use ligand_protocol::seal::Fresh;
use ligand_protocol::session::Windows;
use ligand_protocol::token::TagKeys;
use ligand_storage::Store;

use crate::application_services::ApplicationServices;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::ApiError;
use crate::limiters::Limiters;
use crate::mail::Mail;
use crate::metrics::Metrics;
use crate::outgoing::Outgoing;
use crate::pages::Pages;
use crate::passwords::Passwords;
use crate::run::StartError;
use crate::upkeep::seals::Seals;

/// Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// What an [`App`] is made of.
pub struct Parts {
    pub config: Config,
    pub store: Store,
    /// Keys of the token tags, from the data directory.
    pub keys: TagKeys,
    pub clock: Clock,
    pub windows: Windows,
    pub passwords: Passwords,
    pub limiters: Limiters,
    pub metrics: Metrics,
    /// E-mails and text messages.
    pub mail: Mail,
    pub application_services: ApplicationServices,
    /// Calls to other servers.
    pub outgoing: Outgoing,
    /// The pages that people see.
    pub pages: Pages,
    /// Seals to erase once their retry window is over.
    pub seals: Seals,
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// Puts the parts together and lets storage tell the metrics of its commits.
    ///
    /// # Errors
    /// When the password threads cannot be started, messages cannot be sent as configured, or a
    /// page's template is none.
    pub fn new(
        config: Config,
        application_services: ApplicationServices,
        store: Store,
        keys: TagKeys,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let mail = Mail::new(&config)?;
        let metrics = Metrics::new();
        store.observe_commits(metrics.commit_observer());
        let ms = |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let windows = Windows {
            legacy_retry_ms: ms(config.sessions.legacy_retry_window),
            oauth_retry_ms: ms(config.sessions.oauth_retry_window),
            reuse_leeway_ms: ms(config.sessions.legacy_reuse_leeway),
            tokenrefresh_reuse_ends_session: config.compat.tokenrefresh_reuse_ends_session,
        };
        let limiters = Limiters::new(&config.rate_limits);
        let passwords = Passwords::start()?;
        let outgoing = Outgoing::new(config.outgoing.timeout);
        let pages = Pages::new(&config).map_err(std::io::Error::other)?;
        let seals = Seals::default();
        Ok(Self(Arc::new(Parts {
            config,
            store,
            keys,
            clock,
            windows,
            passwords,
            limiters,
            metrics,
            mail,
            application_services,
            outgoing,
            pages,
            seals,
        })))
    }

    /// Fresh random bytes from the operating system.
    ///
    /// # Errors
    /// 503 when it has none.
    pub fn random<const N: usize>(&self) -> Result<[u8; N], ApiError> {
        let mut bytes = [0; N];
        getrandom::fill(&mut bytes).map_err(|error| ApiError::unavailable(error.to_string()))?;
        Ok(bytes)
    }

    /// What one refresh needs of randomness.
    ///
    /// # Errors
    /// 503 when there is none.
    pub fn fresh(&self) -> Result<Fresh, ApiError> {
        Ok(Fresh::from_bytes(&self.random::<{ Fresh::BYTES }>()?))
    }
}
