//! Everything an operator can choose, as one typed value with a default for every key.
//!
//! Owns the shape ([`Config`]), the defaults with the reason for each, and, in the files below it,
//! the table of keys (`keys`), reading a file and the environment (`load`), the rules a value must
//! meet (`check`) and the texts made from the table (`reference`): the commented file, the
//! reference document, `config show`.
//! Leaves to others: what a key governs. Nothing here knows another part of the server.

mod check;
mod database_url;
mod duration;
mod keys;
mod load;
mod nearest;
mod network;
mod reference;
mod secret;
mod terms;
mod value;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lettre::message::Mailbox;

pub use database_url::DatabaseUrl;
pub use duration::{format_duration, parse_duration};
pub use ligand_protocol::registration::{RegistrationEmail, RegistrationMode, RegistrationRules};
pub use load::{ConfigError, Loaded, Origin, Problem, Warning};
pub use network::Network;
pub use reference::{commented_file, reference_document};
pub use secret::SecretText;
pub use terms::{Policy, PolicyText};

/// The effective configuration. Read with [`Config::load`]; tests and embedders start from
/// [`Config::default`] and change fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Name of the homeserver, the part after the colon of a user ID (Matrix "server name" grammar).
    pub server_name: String,
    /// Folder of the embedded database and of the key files.
    pub data_dir: PathBuf,
    /// Addresses, seen from inside and outside.
    pub http: Http,
    /// Where accounts and sessions are kept.
    pub database: Database,
    /// Lifetimes and windows of tokens.
    pub sessions: Sessions,
    /// Ways to sign in.
    pub sign_in: SignIn,
    /// Who may register.
    pub registration: Registration,
    /// What tells people from programs at registration.
    pub captcha: Captcha,
    /// How often one address, or one session, may try.
    pub rate_limits: RateLimits,
    /// Bridges and bots that act as many users.
    pub application_services: ApplicationServices,
    /// Calls to other servers.
    pub outgoing: Outgoing,
    /// Behaviour of the 2015 API where it differs from today's.
    pub compat: Compat,
    /// How e-mails are sent.
    pub email: Email,
    /// How text messages are sent.
    pub sms: Sms,
    /// What `/.well-known/matrix/support` says.
    pub support: Support,
    /// What is logged, and how.
    pub log: Log,
}

/// `[http]`
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// Address of the client listener.
    pub listen: SocketAddr,
    /// Base URL that clients use; absent means `http://` and the listening address.
    /// Read it with [`Config::public_url`].
    pub public_url: Option<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Address of the Prometheus listener; absent means there is none.
    pub metrics_listen: Option<SocketAddr>,
}

/// `[database]`
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    /// Absent means SQLite in the data folder. Read it with [`Config::database_url`].
    pub url: Option<DatabaseUrl>,
    /// Connections kept to PostgreSQL.
    pub pool_size: u32,
}

/// `[sessions]`. `None` is "no limit".
#[derive(Clone, Debug, PartialEq)]
pub struct Sessions {
    /// Life of an access token that a refresh token can renew.
    pub access_token_lifetime: Duration,
    /// How long a refresh token may lie unused.
    pub refresh_token_lifetime: Option<Duration>,
    /// How long a session may last, refreshed or not.
    pub session_lifetime: Option<Duration>,
    /// Life of an access token issued without a refresh token.
    pub unrefreshable_access_token_lifetime: Option<Duration>,
    /// OAuth grant: how long the predecessor still gets the same pair after the successor's first use.
    pub oauth_retry_window: Duration,
    /// The same at `/refresh`.
    pub legacy_retry_window: Duration,
    /// At `/refresh`: how long after that a spent token is refused without ending the session.
    pub legacy_reuse_leeway: Duration,
}

/// `[sign_in]`
#[derive(Clone, Debug, PartialEq)]
pub struct SignIn {
    /// Whether people can make login tokens and sign in with them.
    pub login_tokens: bool,
}

/// `[registration]`
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// Who may register.
    pub mode: RegistrationMode,
    /// Whether anybody may have a guest account.
    pub guests: bool,
    /// Whether an e-mail address is asked for.
    pub email: RegistrationEmail,
    /// What a person must agree to; empty: nothing.
    pub terms: Vec<Policy>,
}

/// `[captcha]`. Without a provider none is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captcha {
    /// Who draws the captcha and judges the answer.
    pub provider: Option<CaptchaProvider>,
    /// The key that pages and clients show the provider.
    pub site_key: Option<String>,
    /// The key that only this server shows the provider.
    pub secret: Option<SecretText>,
    /// Where the provider's script is; absent means its usual place.
    pub script_url: Option<String>,
    /// Where answers are judged; absent means its usual place.
    pub verify_url: Option<String>,
}

/// Who draws captchas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptchaProvider {
    /// Google reCAPTCHA, version 2.
    Recaptcha,
    /// hCaptcha.
    Hcaptcha,
    /// Cloudflare Turnstile.
    Turnstile,
}

/// `[rate_limits]`
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimits {
    /// `false` turns off every limit and every delay, those per account too.
    pub enabled: bool,
    /// Sign-in attempts, per address.
    pub login: RateLimit,
    /// Registrations, per address.
    pub registration: RateLimit,
    /// Genuine refreshes per session; failed ones per address.
    pub refresh: RateLimit,
}

/// A bucket that holds `burst` permits and regains `per_second` of them each second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// Permits regained per second; above 0.
    pub per_second: f64,
    /// Permits of a full bucket; at least 1.
    pub burst: u32,
}

/// `[application_services]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ApplicationServices {
    /// Folder of their registration files; absent means there are none.
    pub directory: Option<PathBuf>,
}

/// `[outgoing]`
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// How long a call may take as a whole.
    pub timeout: Duration,
}

/// `[compat]`
#[derive(Clone, Debug, PartialEq)]
pub struct Compat {
    /// Answer 403 instead of 401 to an invalid access token on `api/v1`, as old servers did.
    pub legacy_v1_403: bool,
    /// Accept `?access_token=` on `v3` and `v1` paths too (the older prefixes always do).
    pub query_access_token: bool,
    /// Serve `POST /tokenrefresh`.
    pub tokenrefresh: bool,
    /// A spent token at `/tokenrefresh` ends the session instead of only being refused.
    pub tokenrefresh_reuse_ends_session: bool,
    /// On `r0`, return a refresh token to clients that did not say whether they want one.
    pub r0_always_refresh_token: bool,
    /// On `r0` and `v2_alpha`, let `POST /account/3pid` add an address without a password.
    pub threepid_without_password: bool,
}

/// `[email]`
#[derive(Clone, Debug, PartialEq)]
pub struct Email {
    /// The mail server; absent: no e-mail.
    pub host: Option<String>,
    /// Absent means that of `security`. Read it with [`Email::port`].
    pub port: Option<u16>,
    /// How the connection is protected.
    pub security: Security,
    /// Absent: no login.
    pub username: Option<String>,
    pub password: Option<SecretText>,
    /// A file that holds the password instead.
    pub password_file: Option<PathBuf>,
    /// Certificate authorities to trust instead of the system's, as PEM.
    pub ca_file: Option<PathBuf>,
    /// Whom messages come from.
    pub from: Option<Mailbox>,
    /// Where answers go, if not there.
    pub reply_to: Option<Mailbox>,
    /// Folder of templates that replace ours, file by file.
    pub templates: Option<PathBuf>,
    /// Whether people are told of what happens to their accounts.
    pub notices: bool,
}

/// How the connection to the mail server is protected. None falls back to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// TLS from the first byte.
    Tls,
    /// TLS from the greeting on, before anything is said.
    StartTls,
    /// Nothing.
    None,
}

/// `[sms]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sms {
    /// Where text messages are posted to; absent: no text messages.
    pub hook_url: Option<String>,
    /// Sent along as a bearer token.
    pub hook_token: Option<SecretText>,
}

/// `[support]`. Both empty: the document is not served.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Support {
    /// People to reach.
    pub contacts: Vec<Contact>,
    /// URL of a help page.
    pub support_page: Option<String>,
}

/// One entry of `contacts` in `/.well-known/matrix/support`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// `m.role.admin`, `m.role.security` or a namespaced role.
    pub role: String,
    /// Matrix user to write to.
    pub matrix_id: Option<String>,
    /// E-mail address to write to.
    pub email_address: Option<String>,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// A level, or levels per target: `info`, `info,ligand_storage=debug`.
    pub level: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server_name: "localhost".to_owned(),
            data_dir: PathBuf::from("./ligand-data"),
            http: Http {
                // Loopback: whoever opens it to the world does so on purpose.
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8008)),
                public_url: None,
                trusted_proxies: Vec::new(),
                metrics_listen: None,
            },
            database: Database {
                url: None,
                // Eight per core on two cores; more only queue inside PostgreSQL.
                pool_size: 16,
            },
            sessions: Sessions::default(),
            // Each is made by somebody who has just proved the password.
            sign_in: SignIn { login_tokens: true },
            registration: Registration {
                mode: RegistrationMode::Closed,
                guests: false,
                email: RegistrationEmail::Off,
                terms: Vec::new(),
            },
            captcha: Captcha::default(),
            rate_limits: RateLimits::default(),
            application_services: ApplicationServices::default(),
            // Well within the half minute that a client's own request may take.
            outgoing: Outgoing { timeout: Duration::from_secs(10) },
            compat: Compat {
                legacy_v1_403: false,
                // Advertised versions up to v1.19 still allow it.
                query_access_token: true,
                tokenrefresh: true,
                // A blind retry of an old client must not become a sign-out.
                tokenrefresh_reuse_ends_session: false,
                // Clients of r0.0 to r0.2 cannot ask and expect one.
                r0_always_refresh_token: true,
                // With a stolen token and a reset by mail, it takes an account over.
                threepid_without_password: false,
            },
            email: Email::default(),
            sms: Sms::default(),
            support: Support::default(),
            log: Log { format: LogFormat::Human, level: "info".to_owned() },
        }
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            // Short enough that a stolen one is soon worthless, long enough that refreshes stay rare.
            access_token_lifetime: Duration::from_secs(5 * 60),
            refresh_token_lifetime: None,
            session_lifetime: None,
            unrefreshable_access_token_lifetime: None,
            // Two processes of one app are seen to race with the same refresh token.
            oauth_retry_window: Duration::from_secs(30),
            // The text of `/refresh` is exact: the old token dies when the new one is used.
            legacy_retry_window: Duration::ZERO,
            // A request held up on the network is not a thief.
            legacy_reuse_leeway: Duration::from_secs(30),
        }
    }
}

impl Default for Email {
    fn default() -> Self {
        Self {
            host: None,
            port: None,
            // What most mail servers offer to those who submit (RFC 6409).
            security: Security::StartTls,
            username: None,
            password: None,
            password_file: None,
            ca_file: None,
            from: None,
            reply_to: None,
            templates: None,
            notices: true,
        }
    }
}

impl Email {
    /// The port of the mail server.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.security {
            Security::Tls => 465,
            Security::StartTls => 587,
            Security::None => 25,
        })
    }
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            enabled: true,
            // One every six seconds.
            login: RateLimit { per_second: 0.1667, burst: 10 },
            // One every twenty minutes.
            registration: RateLimit { per_second: 0.000833, burst: 3 },
            // So wide that only a runaway loop meets it.
            refresh: RateLimit { per_second: 2.0, burst: 120 },
        }
    }
}

impl Config {
    /// Reads `file` if given, then lets the environment (pairs of name and value) override it.
    ///
    /// # Errors
    /// [`ConfigError`] lists every unknown key, wrong value and broken rule, each with its place.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let loaded = Loaded::read(file, env)?;
        Ok((loaded.config, loaded.warnings))
    }

    /// Base URL that clients use, without a slash at its end.
    #[must_use]
    pub fn public_url(&self) -> String {
        match &self.http.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{}", self.http.listen),
        }
    }

    /// What a registration is asked to show.
    #[must_use]
    pub fn registration_rules(&self) -> RegistrationRules {
        let Registration { mode, email, terms, guests: _ } = &self.registration;
        let captcha = self.captcha.provider.is_some();
        RegistrationRules { mode: *mode, captcha, terms: !terms.is_empty(), email: *email }
    }

    /// Where accounts and sessions are kept: what `database.url` says, else `ligand.db` in the data
    /// folder.
    #[must_use]
    pub fn database_url(&self) -> DatabaseUrl {
        self.database.url.clone().unwrap_or_else(|| DatabaseUrl::Sqlite(self.data_dir.join("ligand.db")))
    }
}

impl Security {
    const ALL: [Self; 3] = [Self::Tls, Self::StartTls, Self::None];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::StartTls => "starttls",
            Self::None => "none",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|security| security.as_str() == text)
    }
}

impl CaptchaProvider {
    const ALL: [Self; 3] = [Self::Recaptcha, Self::Hcaptcha, Self::Turnstile];

    /// The name used in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recaptcha => "recaptcha",
            Self::Hcaptcha => "hcaptcha",
            Self::Turnstile => "turnstile",
        }
    }

    /// Reads the name used in the configuration.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.as_str() == text)
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Human => "human",
            Self::Json => "json",
        })
    }
}
