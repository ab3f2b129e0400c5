//! Registration files: YAML, one service each, all in one folder.
//!
//! Every problem is told at once, with file, line and mend, and never with what the file says where
//! a token may stand. Keys that only concern the homeserver are left alone, whoever invented them.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ligand_protocol::registration::operator_name;
use ligand_protocol::token::{TokenHash, TokenKind};
use regex::Regex;
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;
use zeroize::Zeroizing;

use super::{ApplicationService, ApplicationServices, Namespace};
use crate::config::{Config, Problem};

/// The key that names the folder.
const KEY: &str = "application_services.directory";
/// Fewest characters of an `as_token` that can hardly be guessed.
const TOKEN_CHARS_MIN: usize = 20;

/// Services that could be read, and what works, but hardly as meant.
pub struct Read {
    pub services: ApplicationServices,
    pub warnings: Vec<String>,
}

/// Why the registration files cannot be used. `Display` is one line for each problem.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
pub struct FilesError(pub Vec<Problem>);

/// What a file says, as far as it concerns us.
#[derive(Deserialize)]
struct Registration {
    id: Spanned<String>,
    #[serde(deserialize_with = "nullable")]
    url: Option<Spanned<String>>,
    as_token: Spanned<String>,
    hs_token: Spanned<String>,
    sender_localpart: Spanned<String>,
    namespaces: Namespaces,
    rate_limited: Option<bool>,
}

#[derive(Deserialize)]
struct Namespaces {
    users: Option<Vec<Users>>,
}

#[derive(Deserialize)]
struct Users {
    exclusive: bool,
    regex: Spanned<String>,
}

/// The key has to be there, but may be null.
fn nullable<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Spanned<String>>, D::Error> {
    Option::deserialize(from)
}

impl ApplicationServices {
    /// Reads the folder that the configuration names; nothing where it names none.
    ///
    /// # Errors
    /// Every problem found.
    pub fn read(config: &Config) -> Result<Read, FilesError> {
        let mut reading = Reading { server_name: &config.server_name, ..Reading::default() };
        if let Some(folder) = &config.application_services.directory {
            reading.folder(folder);
        }
        if reading.problems.is_empty() {
            Ok(Read { services: Self(reading.services), warnings: reading.warnings })
        } else {
            Err(FilesError(reading.problems))
        }
    }
}

/// What has been read so far.
#[derive(Default)]
struct Reading<'a> {
    server_name: &'a str,
    services: Vec<Arc<ApplicationService>>,
    warnings: Vec<String>,
    problems: Vec<Problem>,
    /// Where each value that may be there once was first seen; by its hash, since one is a token.
    first_seen: HashMap<(&'static str, TokenHash), String>,
}

impl Reading<'_> {
    fn folder(&mut self, folder: &Path) {
        let files = match yaml_files(folder) {
            Ok(files) => files,
            Err(error) => {
                let text = format!("`{KEY}` cannot be read: {error}; make the folder, or take the key away");
                return self.problem(folder.display().to_string(), text);
            }
        };
        if files.is_empty() {
            let folder = folder.display();
            self.warnings.push(format!("{folder} (`{KEY}`) holds no file that ends in .yaml or .yml"));
        }
        for path in files {
            self.file(&path);
        }
    }

    fn file(&mut self, path: &Path) {
        let shown = path.display();
        let text = match fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) => return self.problem(shown.to_string(), format!("cannot be read: {error}")),
        };
        if fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0) {
            self.warnings.push(format!(
                "{shown} holds tokens and everybody on this machine can read it; `chmod o-r {shown}`"
            ));
        }
        match serde_saphyr::from_str::<Registration>(&text) {
            Ok(registration) => self.registration(&File { path }, registration),
            Err(error) => {
                let (line, text) = what_is_wrong(&error, &text);
                self.problem(line.map_or(shown.to_string(), |line| format!("{shown}:{line}")), text);
            }
        }
    }

    fn registration(&mut self, file: &File<'_>, registration: Registration) {
        let Registration { id, url, as_token, hs_token, sender_localpart, namespaces, rate_limited } =
            registration;
        let before = self.problems.len();
        if id.value.is_empty() {
            self.problem(file.place(&id), "`id` is empty; give the service a name of its own".to_owned());
        }
        self.only_once(file, "id", &id, &id.value);
        self.tokens(file, &as_token, &hs_token);
        let url = url.filter(|url| !url.value.is_empty());
        if let Some(url) = url.as_ref().filter(|url| !is_web_address(&url.value)) {
            let text = "`url` is not an http:// or https:// URL; write null if the service wants no traffic";
            self.problem(file.place(url), text.to_owned());
        }
        let sender = operator_name(&sender_localpart.value, self.server_name);
        match &sender {
            Ok(sender) => self.only_once(file, "sender_localpart", &sender_localpart, sender.as_str()),
            Err(refused) => {
                let text =
                    format!("`sender_localpart`: {refused} It is the part before the colon, without @.");
                self.problem(file.place(&sender_localpart), text);
            }
        }
        let users = namespaces.users.unwrap_or_default();
        let users: Vec<_> = users.iter().filter_map(|users| self.namespace(file, users)).collect();
        if let (Ok(sender), true) = (sender, self.problems.len() == before) {
            self.services.push(Arc::new(ApplicationService {
                id: id.value,
                url: url.map(|url| url.value),
                sender,
                rate_limited: rate_limited.unwrap_or(true),
                hs_token: Zeroizing::new(hs_token.value),
                as_token: TokenHash::of(&as_token.value),
                users,
            }));
        }
    }

    fn tokens(&mut self, file: &File<'_>, as_token: &Spanned<String>, hs_token: &Spanned<String>) {
        for (field, token) in [("as_token", as_token), ("hs_token", hs_token)] {
            if token.value.is_empty() || !token.value.bytes().all(|byte| byte.is_ascii_graphic()) {
                let text = format!("`{field}` must be visible ASCII characters without spaces");
                self.problem(file.place(token), text);
            }
        }
        if TokenKind::Access.marks(&as_token.value) {
            let text = "`as_token` begins like Ligand's own access tokens; choose another".to_owned();
            self.problem(file.place(as_token), text);
        }
        if as_token.value.len() < TOKEN_CHARS_MIN {
            let place = file.place(as_token);
            self.warnings.push(format!(
                "{place}: `as_token` is short, and whoever guesses it may act as every user of the service; \
                 use 32 random characters or more"
            ));
        }
        self.only_once(file, "as_token", as_token, &as_token.value);
    }

    fn namespace(&mut self, file: &File<'_>, users: &Users) -> Option<Namespace> {
        match Regex::new(&users.regex.value) {
            Ok(regex) => Some(Namespace { exclusive: users.exclusive, regex }),
            Err(error) => {
                // The message draws the expression over several lines; its last line says why.
                let error = error.to_string();
                let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
                let text =
                    format!("`namespaces.users.regex` is no regular expression that can be used: {why}");
                self.problem(file.place(&users.regex), text);
                None
            }
        }
    }

    /// Specification: `id` and `as_token` are unique, which the homeserver must enforce. Two services
    /// of one user could not be told apart either.
    fn only_once<T>(&mut self, file: &File<'_>, field: &'static str, at: &Spanned<T>, value: &str) {
        let place = file.place(at);
        let key = (field, TokenHash::of(value));
        if let Some(first) = self.first_seen.get(&key) {
            let text = format!("`{field}` is the same as in {first}; each service needs its own");
            self.problem(place, text);
        } else {
            self.first_seen.insert(key, place);
        }
    }

    fn problem(&mut self, place: String, text: String) {
        self.problems.push(Problem { place, text });
    }
}

/// The file being read.
struct File<'a> {
    path: &'a Path,
}

impl File<'_> {
    fn place<T>(&self, value: &Spanned<T>) -> String {
        format!("{}:{}", self.path.display(), value.defined.line())
    }
}

/// In order of name, so that messages do not depend on the file system.
fn yaml_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|end| end == "yaml" || end == "yml") {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// The line and the cause of a parser's error. Its own text may repeat what stands there, so where
/// that may be a token only the line is told.
fn what_is_wrong(error: &serde_saphyr::Error, text: &str) -> (Option<u64>, String) {
    let line = error.location().map(|at| at.line());
    let there = line.and_then(|line| text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?));
    let secret = there.is_some_and(|there| there.contains("token"));
    let cause = error.without_snippet().to_string();
    let cause = cause.lines().next().unwrap_or_default();
    let why = if secret { "see this line".to_owned() } else { cause.to_owned() };
    (line, format!("is no registration file of an application service: {why}"))
}

fn is_web_address(url: &str) -> bool {
    url.parse::<http::Uri>().is_ok_and(|url| {
        matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty())
    })
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
