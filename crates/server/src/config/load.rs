//! File, then environment, then rules: from text to [`Config`], or to every problem at once, each
//! with its place and its mend.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::check::{self, Finding};
use super::keys::{self, Key};
use super::nearest::nearest;
use super::{Config, reference};

/// Prefix of every environment variable that is ours.
const VARIABLE_PREFIX: &str = "LIGAND_";
/// Longest part of a wrong value that a message repeats, in characters.
const ECHO_CHARS_MAX: usize = 60;

/// A configuration together with where each value came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The effective configuration.
    pub config: Config,
    /// What works, but hardly as meant.
    pub warnings: Vec<Warning>,
    origins: BTreeMap<&'static str, Origin>,
}

/// Where a value came from. `Display` is `default`, `FILE:LINE` or the variable's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The file, at that line (from 1).
    File(PathBuf, usize),
    /// The environment variable of that name.
    Environment(String),
}

/// Something that works, but hardly as the operator meant it. `Display` is the whole sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(String);

/// Why a configuration cannot be used. `Display` is one line for each problem.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", lines(.problems))]
pub struct ConfigError {
    /// All problems found, in order of the file, then of the environment.
    pub problems: Vec<Problem>,
}

/// One problem with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `FILE:LINE`, `FILE`, or the name of an environment variable.
    pub place: String,
    /// What is wrong and how to mend it; never a secret value.
    pub text: String,
}

impl Loaded {
    /// Reads `file` if given, then lets `env` override it, then checks the rules.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem that can be told at once.
    pub fn read(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut loading = Loading::default();
        if let Some(path) = file {
            loading.read_file(path);
        }
        // The environment has no order of its own; messages should not depend on it.
        let variables: BTreeMap<String, String> =
            env.filter(|(name, _)| name.starts_with(VARIABLE_PREFIX)).collect();
        for (name, value) in &variables {
            loading.read_variable(name, value);
        }
        loading.check();
        loading.finish()
    }

    /// Where the value of the key came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    /// The effective configuration as TOML without secrets, each value with its origin in a comment.
    #[must_use]
    pub fn annotated(&self) -> String {
        reference::annotated(self)
    }

    /// Every key with its value as TOML without secrets (`None` when absent) and its origin.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, Option<String>, &Origin)> {
        keys::all().map(|key| (key.name, (key.print)(&self.config), self.origin(key.name)))
    }
}

/// What has been read so far.
#[derive(Default)]
struct Loading {
    config: Config,
    origins: BTreeMap<&'static str, Origin>,
    warnings: Vec<Warning>,
    problems: Vec<Problem>,
}

/// The file being read.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().iter().take(span.start);
        before.filter(|byte| **byte == b'\n').count() + 1
    }

    fn place(&self, span: &Range<usize>) -> String {
        format!("{}:{}", self.path.display(), self.line(span))
    }
}

impl Loading {
    fn read_file(&mut self, path: &Path) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let text =
                    format!("cannot be read: {error}; `ligand config init` prints a file to begin with");
                return self.problem(path.display().to_string(), text);
            }
        };
        let source = Source { path, text: &text };
        match DeTable::parse(&text) {
            Ok(table) => self.read_table(&source, "", table.get_ref()),
            Err(error) => {
                // The error's own Display would repeat the line, and a password with it.
                let place = source.place(&error.span().unwrap_or(0..0));
                self.problem(place, format!("is not TOML: {}", error.message()));
            }
        }
        self.warn_if_readable_by_others(path);
    }

    fn read_table(&mut self, source: &Source<'_>, section: &str, table: &DeTable<'_>) {
        // In order of the file, not of the names.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (short_name, value) in entries {
            let name = match section {
                "" => short_name.get_ref().to_string(),
                _ => format!("{section}.{}", short_name.get_ref()),
            };
            if let Some(key) = keys::find(&name) {
                self.read_value(source, key, &short_name.span(), value.get_ref(), &value.span());
            } else if !keys::is_section(&name) {
                let text = unknown_key(&name, value.get_ref().is_table());
                self.problem(source.place(&short_name.span()), text);
            } else if let DeValue::Table(inner) = value.get_ref() {
                self.read_table(source, &name, inner);
            } else {
                let text = format!("`{name}` is a section; write its keys below a line `[{name}]`");
                self.problem(source.place(&short_name.span()), text);
            }
        }
    }

    fn read_value(
        &mut self,
        source: &Source<'_>,
        key: &'static Key,
        name_span: &Range<usize>,
        value: &DeValue<'_>,
        value_span: &Range<usize>,
    ) {
        if (key.set)(&mut self.config, value) {
            let origin = Origin::File(source.path.to_owned(), source.line(name_span));
            self.origins.insert(key.name, origin);
        } else {
            let found = source.text.get(value_span.clone()).unwrap_or_default();
            self.problem(source.place(name_span), wrong_value(key, found));
        }
    }

    fn read_variable(&mut self, name: &str, value: &str) {
        if name == "LIGAND_CONFIG" || name.starts_with("LIGAND_TEST_") {
            return;
        }
        match keys::all().find(|key| key.variable() == name) {
            Some(key) if (key.set_from_env)(&mut self.config, value) => {
                self.origins.insert(key.name, Origin::Environment(name.to_owned()));
            }
            Some(key) => self.problem(name.to_owned(), wrong_value(key, &format!("{value:?}"))),
            None => self.warnings.push(Warning(unknown_variable(name))),
        }
    }

    fn check(&mut self) {
        for Finding { key, text } in check::errors(&self.config) {
            let place = self.place(key);
            self.problem(place, format!("`{key}` {text}"));
        }
        for Finding { key, text } in check::warnings(&self.config) {
            self.warnings.push(Warning(format!("`{key}` {text}")));
        }
    }

    fn place(&self, key: &str) -> String {
        let origin = self.origins.get(key).unwrap_or(&Origin::Default);
        origin.to_string()
    }

    fn problem(&mut self, place: String, text: String) {
        self.problems.push(Problem { place, text });
    }

    #[cfg(unix)]
    fn warn_if_readable_by_others(&mut self, path: &Path) {
        use std::os::unix::fs::PermissionsExt;
        let secrets = [
            (
                self.config.database.url.as_ref().is_some_and(super::DatabaseUrl::has_password),
                "the database password",
            ),
            (self.config.email.password.is_some(), "the password of the mail server"),
            (self.config.sms.hook_token.is_some(), "the token of the SMS hook"),
            (self.config.captcha.secret.is_some(), "the captcha's secret key"),
        ];
        let open = std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0);
        for (_, what) in secrets.into_iter().filter(|(held, _)| open && *held) {
            let path = path.display();
            self.warnings.push(Warning(format!(
                "{path} holds {what} and everybody on this machine can read it; `chmod o-r {path}`"
            )));
        }
    }

    #[cfg(not(unix))]
    fn warn_if_readable_by_others(&mut self, _path: &Path) {}

    fn finish(self) -> Result<Loaded, ConfigError> {
        if !self.problems.is_empty() {
            return Err(ConfigError { problems: self.problems });
        }
        Ok(Loaded { config: self.config, warnings: self.warnings, origins: self.origins })
    }
}

/// `is_table`: it stands where a section should, so the nearest section is meant.
fn unknown_key(name: &str, is_table: bool) -> String {
    let sections = keys::SECTIONS.iter().map(|section| section.name);
    let (kind, near) = if is_table {
        ("section", nearest(name, sections.filter(|name| !name.is_empty())))
    } else {
        ("key", nearest(name, keys::all().map(|key| key.name)))
    };
    let near = near.unwrap_or_default();
    format!("unknown {kind} `{name}`; did you mean `{near}`? (`ligand config init` lists every key)")
}

fn unknown_variable(name: &str) -> String {
    let variables: Vec<String> = keys::all().map(Key::variable).collect();
    let mut text = format!("unknown environment variable {name} is ignored");
    if let Some(near) = nearest(name, variables.iter().map(String::as_str)) {
        text.push_str(&format!("; did you mean {near}?"));
    }
    text
}

fn wrong_value(key: &Key, found: &str) -> String {
    let (name, expected) = (key.name, key.expected);
    if key.is_secret() {
        return format!("`{name}` has a wrong value; expected {expected}");
    }
    let short: String = found.chars().take(ECHO_CHARS_MAX).collect();
    let cut = if short.len() < found.len() { "…" } else { "" };
    format!("`{name}` is {short}{cut}; expected {expected}")
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
