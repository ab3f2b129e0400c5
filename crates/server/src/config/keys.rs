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
        matches!(
            self.name,
            "database.url" | "captcha.secret" | "email.password" | "sms.hook_token" | "sms.hook_url"
        )
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
        name: "sign_in",
        doc: "Ways to sign in beside the password.",
        keys: &[key!(
            sign_in.login_tokens,
            "Whether somebody who is signed in can make a token, good for two minutes, that signs one more device in."
        )],
    },
    Section {
        name: "registration",
        doc: "Who may register over the client API. Accounts can always be made with `ligand user add`.",
        keys: &[
            key!(
                registration.mode,
                "`closed`: nobody. `token`: whoever has a token made with `ligand registration-token add`. `open`: anybody."
            ),
            key!(
                registration.guests,
                "Whether anybody gets a guest account, without a password and with few rights. A guest becomes a user by registering, as `registration.mode` allows."
            ),
            key!(
                registration.email,
                "`off`: no e-mail address is asked for. `optional`: one may be given. `required`: nobody registers without one."
            ),
            key!(registration.terms, "Policies that people agree to at registration. Each has an `id`, a `version` and, for each language, a `name` and a `url`. Whoever registers while a version changes is asked again.", example r#"[{ id = "privacy_policy", version = "1.0", en = { name = "Privacy policy", url = "https://example.org/privacy" } }]"#),
        ],
    },
    Section {
        name: "captcha",
        doc: "What tells people from programs at registration. Without `provider` there is none. Many clients draw reCAPTCHA themselves and know no other; with `hcaptcha` or `turnstile` people need a client that opens the server's own page for it.",
        keys: &[
            key!(captcha.provider, "`recaptcha` (version 2), `hcaptcha` or `turnstile`.", example r#""recaptcha""#),
            key!(captcha.site_key, "The public key that the provider gave for this site.", example r#""6Lc…""#),
            key!(captcha.secret, "The secret key that the provider gave with it. It is better put in the environment variable than in the file.", example r#""6Lc…""#),
            key!(captcha.script_url, "Where the provider's script is. Absent: its usual place. For networks that cannot reach it, such as `https://www.recaptcha.net/recaptcha/api.js`.", example r#""https://www.recaptcha.net/recaptcha/api.js""#),
            key!(captcha.verify_url, "Where this server asks whether a captcha was solved. Absent: the provider's usual place.", example r#""https://www.recaptcha.net/recaptcha/api/siteverify""#),
        ],
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
            key!(
                compat.threepid_without_password,
                "On `r0` and `v2_alpha` paths, let `POST /account/3pid` add an address without asking for a password. Whoever steals an access token can then take the account over."
            ),
        ],
    },
    Section {
        name: "email",
        doc: "How e-mails are sent: links that verify an address or reset a password, and notices. See [E-mail and text messages](email.md).",
        keys: &[
            key!(email.host, "Name or address of the mail server (SMTP). Absent: no e-mail is sent, and whatever needs it is refused.", example r#""smtp.example.org""#),
            key!(email.port, "Its port. Absent: 465 for `tls`, 587 for `starttls`, 25 for `none`.", example "587"),
            key!(
                email.security,
                "`tls`: encrypted from the start. `starttls`: encrypted before anything is said, or not at all. `none`: unencrypted, for a mail server on this machine. There is no falling back."
            ),
            key!(email.username, "Name to log in with. Absent: no login.", example r#""ligand""#),
            key!(email.password, "Its password. Better put in the environment variable, or in `password_file`.", example r#""secret""#),
            key!(email.password_file, "A file whose first line is the password, instead of `password`.", example r#""/run/secrets/smtp""#),
            key!(email.ca_file, "A PEM file of the certificate authorities that the mail server's certificate may come from, instead of the system's.", example r#""/etc/ligand/mail-ca.pem""#),
            key!(email.from, "Whom e-mails come from. Needed with `host`.", example r#""Example <no-reply@example.org>""#),
            key!(email.reply_to, "Where answers go. Absent: to `from`.", example r#""help@example.org""#),
            key!(email.templates, "Folder of templates that replace the built-in ones, file by file.", example r#""/etc/ligand/templates""#),
            key!(
                email.notices,
                "Tell people about a sign-in on a new device, a changed password or address, and a session that was ended because its token was used twice."
            ),
        ],
    },
    Section {
        name: "sms",
        doc: "How text messages are sent: by a service of yours that is told of each. See [E-mail and text messages](email.md).",
        keys: &[
            key!(sms.hook_url, "URL that gets a POST of `{\"to\": …, \"text\": …}` for each message. Absent: phone numbers are refused.", example r#""https://sms.example.org/send""#),
            key!(sms.hook_token, "Sent to it as `Authorization: Bearer …`.", example r#""secret""#),
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
