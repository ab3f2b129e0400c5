//! Files and environments, right and wrong, and the texts made from the table of keys.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use tempfile::NamedTempFile;

use super::super::{
    Contact, DatabaseUrl, LogFormat, RegistrationMode, SecretText, commented_file, reference_document,
};
use super::*;

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn env(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    let pairs: Vec<_> = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    pairs.into_iter()
}

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    Loaded::read(Some(file(text).path()), env(variables))
}

/// The problems, each without the temporary path: `LINE: text` for those of the file.
fn problems(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let file = file(text);
    let path = file.path().display().to_string();
    let error = Loaded::read(Some(file.path()), env(variables)).unwrap_err();
    let strip = |problem: &Problem| problem.to_string().replace(&format!("{path}:"), "");
    error.problems.iter().map(strip).collect()
}

#[test]
fn nothing_given_is_the_default() {
    let (config, warnings) = Config::load(None, env(&[("PATH", "/bin"), ("HOME", "/")])).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(warnings, []);
    assert_eq!(config.public_url(), "http://127.0.0.1:8008");
    assert_eq!(config.database_url(), DatabaseUrl::Sqlite("./ligand-data/ligand.db".into()));
}

const EVERY_KEY: &str = r#"
server_name = "example.org"
data_dir = "/var/lib/ligand"
[http]
listen = "[::]:80"
public_url = "https://matrix.example.org/"
trusted_proxies = ["10.0.0.0/8", "::1"]
metrics_listen = "127.0.0.1:9100"
[database]
url = "postgres://ligand:canary@db/ligand"
pool_size = 4
[sessions]
access_token_lifetime = "2s"
refresh_token_lifetime = "30d"
session_lifetime = "52w"
unrefreshable_access_token_lifetime = "1h"
oauth_retry_window = "0s"
legacy_retry_window = "500ms"
legacy_reuse_leeway = "1m"
[sign_in]
login_tokens = false
[registration]
mode = "token"
guests = true
email = "optional"
[[registration.terms]]
id = "privacy_policy"
version = "1.0"
en = { name = "Privacy policy", url = "https://example.org/privacy" }
de = { name = "Datenschutz", url = "https://example.org/datenschutz" }
[captcha]
provider = "hcaptcha"
site_key = "10000000-ffff"
secret = "canary"
script_url = "https://captcha.example/api.js"
verify_url = "https://captcha.example/siteverify"
[rate_limits]
enabled = false
login = { per_second = 0.5, burst = 0x10 }
registration.per_second = 1
registration.burst = 2
[rate_limits.refresh]
per_second = 1e1
burst = 1_000
[application_services]
directory = "/etc/ligand/application-services"
[outgoing]
timeout = "5s"
[compat]
legacy_v1_403 = true
query_access_token = false
tokenrefresh = false
tokenrefresh_reuse_ends_session = true
r0_always_refresh_token = false
threepid_without_password = true
[email]
host = "smtp.example.org"
port = 2525
security = "tls"
username = "ligand"
password = "***"
password_file = "/run/secrets/smtp"
ca_file = "/etc/ssl/mail.pem"
from = "Example <no-reply@example.org>"
reply_to = "help@example.org"
templates = "/etc/ligand/templates"
notices = false

[sms]
hook_url = "https://sms.example.org/send"
hook_token = "***"

[support]
support_page = "https://example.org/help?topic=matrix#top"
[[support.contacts]]
role = "m.role.admin"
matrix_id = "@admin:example.org"
[[support.contacts]]
role = "m.role.security"
email_address = "security@example.org"
[log]
format = "json"
level = "info,ligand_storage=debug"
"#;

#[test]
fn a_file_sets_every_key() {
    let loaded = read(EVERY_KEY, &[]).unwrap();
    let config = &loaded.config;
    assert_eq!(config.server_name, "example.org");
    assert_eq!(config.public_url(), "https://matrix.example.org");
    assert!(config.http.trusted_proxies[0].contains("10.1.1.1".parse().unwrap()));
    assert!(matches!(config.database_url(), DatabaseUrl::Postgres(url) if url.contains("canary")));
    assert_eq!(config.sessions.legacy_retry_window, Duration::from_millis(500));
    assert_eq!(config.sessions.session_lifetime, Some(Duration::from_secs(364 * 86400)));
    assert_eq!(config.registration.mode, RegistrationMode::Token);
    assert_eq!(config.registration.terms[0].texts["de"].name, "Datenschutz");
    assert_eq!(config.captcha.secret.as_ref().map(SecretText::expose), Some("canary"));
    assert_eq!(config.rate_limits.login.burst, 16);
    assert_eq!(config.rate_limits.registration.per_second.to_bits(), 1f64.to_bits());
    assert_eq!(config.support.contacts.len(), 2);
    assert_eq!(config.log.format, LogFormat::Json);
    for (key, value, origin) in loaded.entries() {
        assert!(matches!(origin, Origin::File(..)), "{key} is missing from EVERY_KEY");
        let untouched = (keys::find(key).unwrap().print)(&Config::default());
        assert_ne!(value, untouched, "{key} is no different from its default");
    }
}

#[test]
fn the_environment_sets_every_key_and_wins() {
    let loaded = read(EVERY_KEY, &[]).unwrap();
    // What `print` shows of each key, given to its variable over a file that says otherwise.
    let text =
        |value: String| value.strip_prefix('"').map_or(value.clone(), |v| v.trim_end_matches('"').to_owned());
    let variables: Vec<(String, String)> =
        keys::all().map(|key| (key.variable(), text((key.print)(&loaded.config).unwrap()))).collect();
    let base = file("server_name = \"other.example\"\n[rate_limits.login]\nburst = 3\n");
    let again = Loaded::read(Some(base.path()), variables.into_iter()).unwrap();
    for ((key, value, origin), (_, expected, _)) in again.entries().zip(loaded.entries()) {
        assert_eq!(value, expected, "{key}");
        assert!(matches!(origin, Origin::Environment(_)), "{key}");
    }
}

#[test]
fn variables_have_the_names_of_the_launch_contract() {
    let variables: BTreeSet<String> = keys::all().map(Key::variable).collect();
    for name in ["LIGAND_SERVER_NAME", "LIGAND_HTTP__LISTEN", "LIGAND_RATE_LIMITS__LOGIN__BURST"] {
        assert!(variables.contains(name), "{name}");
    }
    assert_eq!(variables.len(), keys::all().count(), "a key is listed twice");
}

#[test]
fn lists_in_the_environment_are_toml_or_separated_by_commas() {
    for (text, count) in
        [("10.0.0.1, ::1,192.168.0.0/16", 3), ("[\"10.0.0.1\", \"::1\"]", 2), ("", 0), ("[]", 0)]
    {
        let loaded = Loaded::read(None, env(&[("LIGAND_HTTP__TRUSTED_PROXIES", text)])).unwrap();
        assert_eq!(loaded.config.http.trusted_proxies.len(), count, "{text}");
    }
    let contacts = r#"[{ role = "m.role.admin", email_address = "a@b.c" }]"#;
    let loaded = Loaded::read(None, env(&[("LIGAND_SUPPORT__CONTACTS", contacts)])).unwrap();
    let admin =
        Contact { role: "m.role.admin".to_owned(), matrix_id: None, email_address: Some("a@b.c".to_owned()) };
    assert_eq!(loaded.config.support.contacts, [admin]);
}

#[test]
fn an_empty_variable_takes_away_what_may_be_absent() {
    let text = "[sessions]\nsession_lifetime = \"1d\"\n";
    let loaded = read(text, &[("LIGAND_SESSIONS__SESSION_LIFETIME", "")]).unwrap();
    assert_eq!(loaded.config.sessions.session_lifetime, None);
    assert_eq!(problems("", &[("LIGAND_DATA_DIR", "")]).len(), 1);
}

#[test]
fn unknown_keys_name_the_line_and_the_nearest() {
    let text = "sever_name = \"a\"\nlisten = \"x\"\n\n[http]\nlistne = \"x\"\n[databse]\nurl = \"x\"\n[sessions.extra]\n";
    let found = problems(text, &[]);
    let expected = [
        "1: unknown key `sever_name`; did you mean `server_name`?",
        "2: unknown key `listen`; did you mean `http.listen`?",
        "5: unknown key `http.listne`; did you mean `http.listen`?",
        "6: unknown section `databse`; did you mean `database`?",
        "8: unknown section `sessions.extra`; did you mean `sessions`?",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}");
    }
}

#[test]
fn wrong_values_name_the_line_and_what_was_expected() {
    for (text, expected) in [
        ("server_name = 5", "1: `server_name` is 5; expected text"),
        (
            "\n[http]\nlisten = \"localhost\"",
            "3: `http.listen` is \"localhost\"; expected an address and port",
        ),
        (
            "[http]\ntrusted_proxies = [\"x\"]",
            "2: `http.trusted_proxies` is [\"x\"]; expected a list of addresses",
        ),
        (
            "[sessions]\naccess_token_lifetime = 300",
            "2: `sessions.access_token_lifetime` is 300; expected a duration such as",
        ),
        (
            "[registration]\nmode = \"opne\"",
            "2: `registration.mode` is \"opne\"; expected \"closed\", \"token\" or \"open\"",
        ),
        ("[rate_limits.login]\nburst = -1", "2: `rate_limits.login.burst` is -1; expected a whole number"),
        ("[rate_limits]\nenabled = \"yes\"", "2: `rate_limits.enabled` is \"yes\"; expected true or false"),
        ("http = 5", "1: `http` is a section; write its keys below a line `[http]`"),
        ("[[support.contacts]]\nrole = \"m.role.admin\"", "1: `support.contacts` is"),
        ("[log]\nformat = \"xml\"", "2: `log.format` is \"xml\"; expected \"human\" or \"json\""),
        ("a = \n", "1: is not TOML"),
        ("server_name = \"a\"\nserver_name = \"b\"\n", "2: is not TOML: duplicate key"),
    ] {
        let found = problems(text, &[]);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with(expected), "{}", found[0]);
    }
    let long = format!("[log]\nformat = \"{}\"", "x".repeat(1000));
    assert!(problems(&long, &[])[0].chars().count() < 200);
}

#[test]
fn broken_rules_name_the_place_of_the_key() {
    for (text, expected) in [
        ("server_name = \"https://x\"", "1: `server_name` is not a server name"),
        ("[http]\npublic_url = \"https://x/?a\"", "2: `http.public_url` is not a base URL"),
        ("[http]\nmetrics_listen = \"127.0.0.1:8008\"", "2: `http.metrics_listen` is the same address"),
        ("[database]\npool_size = 0", "2: `database.pool_size` is 0"),
        ("[sessions]\naccess_token_lifetime = \"0s\"", "2: `sessions.access_token_lifetime` is 0"),
        ("[outgoing]\ntimeout = \"0s\"", "2: `outgoing.timeout` is 0"),
        ("[sessions]\nsession_lifetime = \"0s\"", "2: `sessions.session_lifetime` is 0"),
        ("[rate_limits.login]\nper_second = 0", "2: `rate_limits.login.per_second` must be"),
        ("[rate_limits.refresh]\nper_second = nan", "2: `rate_limits.refresh.per_second` must be"),
        ("[rate_limits.registration]\nburst = 0", "2: `rate_limits.registration.burst` is 0"),
        ("[support]\nsupport_page = \"help\"", "2: `support.support_page` is not a URL"),
        ("[log]\nlevel = \"loud\"", "2: `log.level` is not a log level"),
        (
            "[captcha]\nprovider = \"turnstile\"\nsite_key = \"a\"",
            "default: `captcha.secret` is missing; copy the secret key from the provider's console into LIGAND_CAPTCHA__SECRET",
        ),
        (
            "[captcha]\nprovider = \"turnstile\"\nsecret = \"canary\"",
            "default: `captcha.site_key` is missing; copy the site key",
        ),
        ("[captcha]\nsecret = \"canary\"", "default: `captcha.provider` is missing while the keys are set"),
        ("[captcha]\nverify_url = \"here\"", "2: `captcha.verify_url` is not a URL"),
        ("[captcha]\nscript_url = \"/api.js\"", "2: `captcha.script_url` is not a URL"),
        (
            "[registration]\nterms = [{ id = \"p\", version = \"1\" }]",
            "2: `registration.terms` has no text for the policy `p`; add en = { name",
        ),
        (
            "[registration]\nterms = [{ id = \"p\", version = \"1\", en = { name = \"P\" } }]",
            "2: `registration.terms` has no web address for the policy `p` in `en`; add `url`",
        ),
        (
            "[registration]\nterms = [{ id = \"p\", version = \"1\", en = { url = \"https://a/\" } }]",
            "2: `registration.terms` has no name for the policy `p` in `en`; add `name`",
        ),
        (
            "[registration]\nterms = [{ id = \"p\", en = { name = \"P\", url = \"https://a/\" } }]",
            "2: `registration.terms` has a policy without `id` or `version`",
        ),
    ] {
        let found = problems(text, &[]);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with(expected), "{}", found[0]);
    }
}

#[test]
fn wrong_variables_are_named() {
    let found = problems("", &[("LIGAND_HTTP__LISTEN", "x"), ("LIGAND_SERVER_NAME", "a b")]);
    assert_eq!(found.len(), 2);
    assert!(
        found[0].starts_with("LIGAND_HTTP__LISTEN: `http.listen` is \"x\"; expected an address"),
        "{}",
        found[0]
    );
    assert!(found[1].starts_with("LIGAND_SERVER_NAME: `server_name` is not a server name"), "{}", found[1]);
}

#[test]
fn unknown_variables_are_a_warning() {
    let variables = [
        ("LIGAND_HTTP_LISTEN", "127.0.0.1:1"),
        ("LIGAND_CONFIG", "x"),
        ("LIGAND_TEST_POSTGRES", "x"),
        ("LIGANDX", "x"),
    ];
    let loaded = Loaded::read(None, env(&variables)).unwrap();
    let warnings: Vec<String> = loaded.warnings.iter().map(Warning::to_string).collect();
    assert_eq!(
        warnings,
        ["unknown environment variable LIGAND_HTTP_LISTEN is ignored; did you mean LIGAND_HTTP__LISTEN?"]
    );
}

#[test]
fn doubtful_settings_are_a_warning() {
    let count = |text: &str| read(text, &[]).unwrap().warnings.len();
    assert_eq!(count("[sessions]\nrefresh_token_lifetime = \"5m\""), 1);
    assert_eq!(count("[http]\nlisten = \"0.0.0.0:8008\""), 1);
    assert_eq!(count("[http]\nlisten = \"0.0.0.0:8008\"\npublic_url = \"https://example.org\""), 0);
}

#[cfg(unix)]
#[test]
fn a_password_that_everybody_can_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let file = file("database.url = \"postgres://u:canary@h/d\"");
    for (mode, count) in [(0o644, 1), (0o640, 0)] {
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(mode)).unwrap();
        let loaded = Loaded::read(Some(file.path()), env(&[])).unwrap();
        assert_eq!(loaded.warnings.len(), count);
        assert!(!format!("{:?}", loaded.warnings).contains("canary"));
    }
    let file = self::file("captcha = { provider = \"recaptcha\", site_key = \"a\", secret = \"canary\" }");
    std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o644)).unwrap();
    let warnings = Loaded::read(Some(file.path()), env(&[])).unwrap().warnings;
    assert!(warnings[0].to_string().contains("holds the captcha's secret key"), "{warnings:?}");
    assert!(!format!("{warnings:?}").contains("canary"));
}

#[test]
fn a_missing_file_says_how_to_make_one() {
    let error = Loaded::read(Some(Path::new("/nonexistent/ligand.toml")), env(&[])).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("/nonexistent/ligand.toml: cannot be read: No such file"), "{text}");
    assert!(text.contains("ligand config init"), "{text}");
}

#[test]
fn no_secret_leaves() {
    let loaded = read(EVERY_KEY, &[]).unwrap();
    assert!(!format!("{loaded:?}").contains("canary"));
    assert!(!loaded.annotated().contains("canary"));
    assert!(loaded.annotated().contains("postgres://ligand:***@db/ligand"));
    let mail = "[email]\nusername = \"u\"\npassword = \"canary\"\n[sms]\nhook_token = \"canary\"";
    let mail = read(mail, &[]).unwrap();
    assert!(!format!("{mail:?}{}", mail.annotated()).contains("canary"));
    let not_text = problems("[email]\npassword = [\"canary\"]\n[sms]\nhook_token = [\"canary\"]", &[]);
    assert!(not_text.len() == 2 && !not_text.concat().contains("canary"), "{not_text:?}");
    let wrong = problems("[database]\nurl = \"postgre://u:canary@h/d\"", &[]);
    assert!(
        wrong[0].starts_with("2: `database.url` has a wrong value; expected \"sqlite:PATH\""),
        "{}",
        wrong[0]
    );
    let broken = problems("[database]\nurl = \"postgres://u:canary@h/d", &[]);
    assert!(!broken.concat().contains("canary"), "{broken:?}");
    let number = problems("[captcha]\nsecret = 7777", &[]);
    assert!(number[0].starts_with("2: `captcha.secret` has a wrong value; expected text"), "{number:?}");
    let variable = problems("", &[("LIGAND_DATABASE__URL", "canary")]);
    assert!(!variable.concat().contains("canary"), "{variable:?}");
}

#[test]
fn the_commented_file_changes_nothing_and_its_keys_are_right() {
    let text = commented_file();
    assert_eq!(read(&text, &[]).unwrap().config, Config::default());
    // Comments start with "# ", commented keys with "#name".
    let uncommented = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    let active: String = text.lines().map(uncommented).collect();
    let loaded = read(&active, &[]).unwrap();
    assert!(loaded.entries().all(|(_, value, origin)| value.is_some() && *origin != Origin::Default));
    assert!(text.lines().all(|line| !line.starts_with("# ") || line.chars().count() <= 96));
}

#[test]
fn what_is_shown_reads_back_the_same() {
    let text = EVERY_KEY.replace(":canary", "").replace("\"canary\"", "\"***\"");
    let loaded = read(&text, &[("LIGAND_LOG__LEVEL", "warn")]).unwrap();
    let shown = loaded.annotated();
    assert!(shown.contains("level = \"warn\" # LIGAND_LOG__LEVEL"), "{shown}");
    assert_eq!(read(&shown, &[]).unwrap().config, loaded.config);
    let defaults = Loaded::read(None, env(&[])).unwrap().annotated();
    assert!(defaults.contains("# session_lifetime is not set # default"), "{defaults}");
    assert_eq!(read(&defaults, &[]).unwrap().config, Config::default());
}

#[test]
fn the_reference_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operating/configuration.md");
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == reference_document(),
        "run: cargo run -- config reference > docs/operating/configuration.md"
    );
}
