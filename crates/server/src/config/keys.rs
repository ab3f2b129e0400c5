//! The one list of keys: name, meaning, how to set and print it. From this table come the unknown
//! key's nearest name, the names of environment variables, `config init`, `config show` and the
//! reference document. Defaults are not repeated here; they are those of `Config::default()`.

use toml::de::DeValue;

use super::Config;
use super::value::Setting;

/// A section of the file.
pub(super) struct Section {
    /// `rate_limits.login`; empty for the keys above the first section.
    pub(super) name: &'static str,
    /// What it is about, one sentence.
    pub(super) doc: &'static str,
    /// Its keys, in the order of the documents.
    pub(super) keys: &'static [Key],
}

/// One key.
pub(super) struct Key {
    /// Full name, `http.listen`.
    pub(super) name: &'static str,
    /// What it does, for operators.
    pub(super) doc: &'static str,
    /// A value for the commented file, where there is no default to show.
    pub(super) example: &'static str,
    /// Completes the words "expected …".
    pub(super) expected: &'static str,
    /// Sets it from TOML; false if the value has the wrong type.
    pub(super) set: fn(&mut Config, &DeValue<'_>) -> bool,
    /// Sets it from an environment variable; false if the value cannot be read.
    pub(super) set_from_env: fn(&mut Config, &str) -> bool,
    /// Its value as TOML, secrets left out; `None` when absent.
    pub(super) print: fn(&Config) -> Option<String>,
}

impl Key {
    /// The last part of the name, as it stands below its section.
    pub(super) fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// The environment variable that overrides it: `LIGAND_HTTP__LISTEN`.
    pub(super) fn variable(&self) -> String {
        format!("LIGAND_{}", self.name.replace('.', "__").to_ascii_uppercase())
    }

    /// Its default as TOML; `None` when absent.
    pub(super) fn default(&self) -> Option<String> {
        (self.print)(&Config::default())
    }

    /// Whether its value may hold a secret and must not be echoed.
    pub(super) fn is_secret(&self) -> bool {
        self.name == "database.url"
    }
}

/// Every key.
pub(super) fn all() -> impl Iterator<Item = &'static Key> {
    SECTIONS.iter().flat_map(|section| section.keys)
}

/// The key of that full name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    all().find(|key| key.name == name)
}

/// Whether `name` is a section, or holds one.
pub(super) fn is_section(name: &str) -> bool {
    let inner = |key: &Key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    all().any(inner)
}

macro_rules! key {
    ($first:ident $(. $rest:ident)*, $doc:expr) => {
        key!($first $(. $rest)*, $doc, example "")
    };
    ($first:ident $(. $rest:ident)*, $doc:expr, example $example:expr) => {
        Key {
            name: concat!(stringify!($first) $(, ".", stringify!($rest))*),
            doc: $doc,
            example: $example,
            expected: expected(|config: &Config| &config.$first $(.$rest)*),
            set: |config, value| store(&mut config.$first $(.$rest)*, Setting::from_toml(value)),
            set_from_env: |config, text| store(&mut config.$first $(.$rest)*, Setting::from_env(text)),
            print: |config| config.$first $(.$rest)*.to_toml(),
        }
    };
}

/// What the type of a field expects.
const fn expected<T: Setting>(_: fn(&Config) -> &T) -> &'static str {
    T::EXPECTED
}

fn store<T>(field: &mut T, value: Option<T>) -> bool {
    match value {
        Some(value) => {
            *field = value;
            true
        }
        None => false,
    }
}

pub(super) static SECTIONS: &[Section] = &[
    Section {
        name: "",
        doc: "Keys that stand above the first section.",
        keys: &[
            key!(
                server_name,
                "Name of the homeserver: the part after the colon of every user ID. It cannot be changed once there are accounts."
            ),
            key!(
                data_dir,
                "Folder of the embedded database and of the key files. It is created when missing, readable by its owner only."
            ),
        ],
    },
    Section {
        name: "http",
        doc: "Where Ligand listens, and how the world reaches it.",
        keys: &[
            key!(http.listen, "Address and port of the client listener."),
            key!(http.public_url, "Base URL that clients use, without query. Absent: `http://` and the listening address.", example r#""https://matrix.example.org""#),
            key!(
                http.trusted_proxies,
                "Addresses or blocks of the reverse proxies whose `X-Forwarded-For` is believed. List all of them: the client is the rightmost address that is not in this list."
            ),
            key!(http.metrics_listen, "Address and port of a separate listener that serves `/metrics` for Prometheus. Absent: none. Keep it away from the public network.", example r#""127.0.0.1:9100""#),
        ],
    },
    Section {
        name: "database",
        doc: "Where accounts and sessions are kept.",
        keys: &[
            key!(database.url, "`sqlite:PATH` or `postgres://user:password@host/database`. Absent: `ligand.db` in the data folder. A password is better put in the environment variable than in the file.", example r#""postgres://ligand:password@localhost/ligand""#),
            key!(
                database.pool_size,
                "Connections to PostgreSQL for refreshes, at least 1. Half as many again serve everything else."
            ),
        ],
    },
    Section {
        name: "sessions",
        doc: "How long tokens and sessions live, and what a repeated refresh gets. An absent lifetime means no limit.",
        keys: &[
            key!(sessions.access_token_lifetime, "Life of an access token that a refresh token can renew."),
            key!(sessions.refresh_token_lifetime, "How long a refresh token may lie unused before the person must sign in again.", example r#""30d""#),
            key!(sessions.session_lifetime, "How long a session may last in all, refreshed or not.", example r#""365d""#),
            key!(sessions.unrefreshable_access_token_lifetime, "Life of an access token given to a client that takes no refresh token.", example r#""30d""#),
            key!(
                sessions.oauth_retry_window,
                "OAuth: how long after the first use of a new pair the old refresh token still gets that same pair. Two processes of one app may race."
            ),
            key!(
                sessions.legacy_retry_window,
                "The same at `POST /refresh`. The Matrix specification wants 0."
            ),
            key!(
                sessions.legacy_reuse_leeway,
                "At `POST /refresh`: how long after that a spent token is refused without ending the session. Later it counts as theft and ends it."
            ),
        ],
    },
    Section {
        name: "registration",
        doc: "Who may register over the client API. Accounts can always be made with `ligand user add`.",
        keys: &[key!(
            registration.mode,
            "`closed`: nobody. `token`: whoever has a token made with `ligand registration-token add`. `open`: anybody."
        )],
    },
    Section {
        name: "rate_limits",
        doc: "How often something may be tried. A bucket holds `burst` permits and regains `per_second` of them each second.",
        keys: &[key!(
            rate_limits.enabled,
            "`false` turns off every limit and every delay, those per account too. For tests only."
        )],
    },
    Section {
        name: "rate_limits.login",
        doc: "Sign-in attempts per address (per /64 for IPv6).",
        keys: &[
            key!(
                rate_limits.login.per_second,
                "Attempts regained per second; the default is one in six seconds."
            ),
            key!(rate_limits.login.burst, "Attempts allowed at once."),
        ],
    },
    Section {
        name: "rate_limits.registration",
        doc: "Registrations per address (per /64 for IPv6).",
        keys: &[
            key!(
                rate_limits.registration.per_second,
                "Registrations regained per second; the default is one in twenty minutes."
            ),
            key!(rate_limits.registration.burst, "Registrations allowed at once."),
        ],
    },
    Section {
        name: "rate_limits.refresh",
        doc: "Refreshes with a genuine token per session, and failed ones per address. Only a runaway loop should meet it.",
        keys: &[
            key!(rate_limits.refresh.per_second, "Refreshes regained per second."),
            key!(rate_limits.refresh.burst, "Refreshes allowed at once."),
        ],
    },
    Section {
        name: "application_services",
        doc: "Bridges and bots that act as many users; see [application-services.md](application-services.md).",
        keys: &[
            key!(application_services.directory, "Folder of their registration files, read at start: every file whose name ends in `.yaml` or `.yml`. Absent: there are no application services.", example r#""/etc/ligand/application-services""#),
        ],
    },
    Section {
        name: "outgoing",
        doc: "Calls that Ligand makes to other servers, such as the ping of an application service.",
        keys: &[key!(outgoing.timeout, "How long a call may take as a whole.")],
    },
    Section {
        name: "compat",
        doc: "What the 2015 API does where it differs from today's.",
        keys: &[
            key!(
                compat.legacy_v1_403,
                "On `api/v1` paths, answer an invalid access token with 403 instead of 401, as old servers did."
            ),
            key!(
                compat.query_access_token,
                "Accept `?access_token=` on `v3` and `v1` paths too. Older prefixes always accept it."
            ),
            key!(
                compat.tokenrefresh,
                "Serve the refresh endpoint of 2015, `POST /tokenrefresh`. `false` turns it off on every prefix."
            ),
            key!(
                compat.tokenrefresh_reuse_ends_session,
                "A spent refresh token at `POST /tokenrefresh` ends its session instead of only being refused."
            ),
            key!(
                compat.r0_always_refresh_token,
                "On `r0` paths, give a refresh token to clients that did not say whether they want one. Clients of r0.0 to r0.2 cannot ask."
            ),
        ],
    },
    Section {
        name: "support",
        doc: "What `/.well-known/matrix/support` says. With neither key the document is not served.",
        keys: &[
            key!(support.contacts, "People to reach: each with `role` (`m.role.admin`, `m.role.security` or a namespaced one) and `matrix_id`, `email_address` or both.", example r#"[{ role = "m.role.admin", email_address = "admin@example.org" }]"#),
            key!(support.support_page, "URL of a help page.", example r#""https://example.org/help""#),
        ],
    },
    Section {
        name: "log",
        doc: "What is written to the standard error stream.",
        keys: &[
            key!(log.format, "`human`, or `json` for one object per line."),
            key!(
                log.level,
                "`error`, `warn`, `info`, `debug`, `trace` or `off`; also per part, as in `info,ligand_storage=debug`."
            ),
        ],
    },
];
