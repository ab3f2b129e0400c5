//! The words of messages: built in, each file replaceable by one of the operator's.
//!
//! A message has `NAME.txt`, whose first line is its subject, and `NAME.html`; a text message has
//! `NAME.sms.txt`. What a template may use is in [`KINDS`]; whatever else it names is an error when
//! it is read, not when somebody waits for a link.

use std::path::Path;

use ligand_protocol::limits::VALIDATION_LIFETIME_MS;
use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior};
use serde_json::{Map, Value};

/// A message's name, and what its templates may use beside [`COMMON`].
const KINDS: [(&str, &[&str]); 9] = [
    ("validate_register", &["recipient", "link", "code"]),
    ("validate_password", &["recipient", "link", "code"]),
    ("validate_3pid", &["recipient", "link", "code"]),
    ("address_in_use", &["recipient", "user_id"]),
    (
        "notice_sign_in",
        &["recipient", "user_id", "device_id", "device_name", "address", "user_agent", "at", "time"],
    ),
    ("notice_password", &["recipient", "user_id", "address", "at", "time"]),
    ("notice_reuse", &["recipient", "user_id", "device_id", "at", "time"]),
    ("notice_3pid", &["recipient", "user_id", "medium", "added_or_removed", "at", "time"]),
    ("test", &[]),
];

/// What every template may use.
const COMMON: [&str; 3] = ["server_name", "public_url", "minutes"];

macro_rules! built_in {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("templates/", $name)))),*] };
}

/// Every file with its text.
const FILES: [(&str, &str); 23] = built_in![
    "layout.html",
    "validate_register.txt",
    "validate_register.html",
    "validate_register.sms.txt",
    "validate_password.txt",
    "validate_password.html",
    "validate_password.sms.txt",
    "validate_3pid.txt",
    "validate_3pid.html",
    "validate_3pid.sms.txt",
    "address_in_use.txt",
    "address_in_use.html",
    "address_in_use.sms.txt",
    "notice_sign_in.txt",
    "notice_sign_in.html",
    "notice_password.txt",
    "notice_password.html",
    "notice_reuse.txt",
    "notice_reuse.html",
    "notice_3pid.txt",
    "notice_3pid.html",
    "test.txt",
    "test.html",
];

/// An e-mail, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rendered {
    pub subject: String,
    pub text: String,
    pub html: String,
}

pub(super) struct Templates(Environment<'static>);

impl Templates {
    /// Reads all of them, those in the folder instead of ours.
    ///
    /// # Errors
    /// `FILE:LINE: …` for each problem.
    pub(super) fn read(folder: Option<&Path>) -> Result<Self, Vec<String>> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_auto_escape_callback(|name| {
            if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None }
        });
        environment.add_global("minutes", VALIDATION_LIFETIME_MS / 60_000);
        let mut problems = folder.map_or_else(Vec::new, strangers);
        for (name, built_in) in FILES {
            let (place, text) = match folder.map(|folder| folder.join(name)).filter(|path| path.exists()) {
                Some(path) => match std::fs::read_to_string(&path) {
                    Ok(text) => (path.display().to_string(), text),
                    Err(error) => {
                        problems.push(format!("{}: cannot be read: {error}", path.display()));
                        continue;
                    }
                },
                None => (name.to_owned(), built_in.to_owned()),
            };
            match environment.add_template_owned(name, text.clone()) {
                Ok(()) => problems.extend(unknown_variables(&environment, name, &place, &text)),
                Err(error) => {
                    problems.push(format!("{place}:{}: {}", error.line().unwrap_or(1), told(&error)))
                }
            }
        }
        if problems.is_empty() { Ok(Self(environment)) } else { Err(problems) }
    }

    pub(super) fn mail(&self, name: &str, values: &Map<String, Value>) -> Result<Rendered, String> {
        let text = self.render(&format!("{name}.txt"), values)?;
        let (subject, text) = text.split_once('\n').unwrap_or((&text, ""));
        let html = self.render(&format!("{name}.html"), values)?;
        Ok(Rendered { subject: subject.trim().to_owned(), text: text.trim_start().to_owned(), html })
    }

    pub(super) fn sms(&self, name: &str, values: &Map<String, Value>) -> Result<String, String> {
        self.render(&format!("{name}.sms.txt"), values).map(|text| text.trim().to_owned())
    }

    fn render(&self, file: &str, values: &Map<String, Value>) -> Result<String, String> {
        let rendered = self.0.get_template(file).and_then(|template| template.render(values));
        rendered.map_err(|error| format!("line {}: {}", error.line().unwrap_or(0), told(&error)))
    }
}

/// Files of the folder that look like templates and are none: a mistyped name changes nothing.
fn strangers(folder: &Path) -> Vec<String> {
    let shown = folder.display();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return vec![format!("{shown}: cannot be read: {error}")],
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_template = |name: &String| name.ends_with(".txt") || name.ends_with(".html");
    let mut strangers: Vec<String> =
        names.filter(is_template).filter(|name| FILES.iter().all(|(known, _)| known != name)).collect();
    strangers.sort();
    let known: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
    let problem = |name| format!("{shown}/{name}: is no template of ours; those are {}", known.join(", "));
    strangers.into_iter().map(problem).collect()
}

fn unknown_variables(environment: &Environment<'_>, name: &str, place: &str, text: &str) -> Vec<String> {
    let Ok(template) = environment.get_template(name) else { return Vec::new() };
    let kind = name.split('.').next().unwrap_or_default();
    let own = KINDS.iter().find(|(known, _)| *known == kind).map_or(&[][..], |(_, variables)| *variables);
    let known: Vec<&str> = own.iter().chain(&COMMON).copied().collect();
    let mut unknown: Vec<String> = template
        .undeclared_variables(false)
        .into_iter()
        .filter(|variable| !known.contains(&variable.as_str()) && !is_function(variable))
        .collect();
    unknown.sort();
    let problem = |variable: String| {
        let line = text.lines().position(|line| names(line, &variable)).map_or(1, |at| at + 1);
        format!("{place}:{line}: unknown variable `{variable}`; there are {}", known.join(", "))
    };
    unknown.into_iter().map(problem).collect()
}

/// What minijinja itself brings along.
fn is_function(name: &str) -> bool {
    ["range", "dict", "namespace", "debug", "super", "loop", "self"].contains(&name)
}

/// Whether a line has this word.
fn names(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

/// What is wrong, without the place, which is told otherwise.
fn told(error: &Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn values(more: Value) -> Map<String, Value> {
        let mut values = json!({
            "server_name": "example.org", "public_url": "https://matrix.example.org", "recipient": "a@example.org",
            "link": "https://matrix.example.org/x?sid=1&token=2", "code": "123456", "user_id": "@alice:example.org",
            "device_id": "ABC", "device_name": null, "address": "192.0.2.7", "user_agent": null, "at": 0,
            "time": "1970-01-01 00:00:00 UTC", "medium": "email", "added_or_removed": "added",
        });
        values.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        values.as_object().unwrap().clone()
    }

    fn read(files: &[(&str, &str)]) -> Result<Templates, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let shown = format!("{}/", folder.path().display());
        let read = Templates::read(Some(folder.path()));
        read.map_err(|problems| problems.into_iter().map(|problem| problem.replace(&shown, "")).collect())
    }

    #[test]
    fn every_built_in_template_can_be_made() {
        let templates = Templates::read(None).unwrap();
        for (name, _) in KINDS {
            let mail = templates.mail(name, &values(json!({}))).unwrap();
            assert!(mail.subject.contains("example.org"), "{name}: {}", mail.subject);
            assert!(mail.text.contains("example.org") && mail.html.contains("example.org"), "{name}");
            assert!(!mail.text.contains("&amp;") && !mail.text.contains("none"), "{name}: {}", mail.text);
            assert!(mail.html.starts_with("<!doctype html>") && mail.html.contains("</html>"), "{name}");
        }
        for (file, _) in FILES {
            let Some(name) = file.strip_suffix(".sms.txt") else { continue };
            let text = templates.sms(name, &values(json!({}))).unwrap();
            assert!(text.chars().count() <= 160 && !text.contains('\n'), "{name}: {text}");
        }
    }

    #[test]
    fn every_variable_of_the_table_is_documented() {
        let document = include_str!("../../../../docs/operating/email.md");
        for (name, variables) in KINDS {
            let row = document.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
            let row = row.unwrap_or_else(|| panic!("{name} is not in the table"));
            for variable in variables.iter().filter(|variable| **variable != "recipient") {
                assert!(row.contains(&format!("`{variable}`")), "{name}: {variable}");
            }
        }
        for variable in COMMON {
            assert!(document.contains(&format!("`{variable}`")), "{variable}");
        }
    }

    #[test]
    fn what_a_stranger_chose_is_escaped_in_html_only() {
        let templates = Templates::read(None).unwrap();
        let name = json!({"device_name": "<b>\"x\"</b>"});
        let mail = templates.mail("notice_sign_in", &values(name)).unwrap();
        assert!(mail.html.contains("&lt;b&gt;") && !mail.html.contains("<b>"), "{}", mail.html);
        assert!(mail.text.contains("<b>\"x\"</b>"), "{}", mail.text);
    }

    #[test]
    fn a_file_of_the_operator_replaces_ours() {
        let templates = read(&[("test.txt", "Grüße von {{ server_name }}\n\nText.\n")]).unwrap();
        let mail = templates.mail("test", &values(json!({}))).unwrap();
        assert_eq!((mail.subject.as_str(), mail.text.as_str()), ("Grüße von example.org", "Text."));
        assert!(mail.html.contains("</html>"));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_with_its_line() {
        let problems = |files: &[(&str, &str)]| read(files).err().unwrap_or_default();
        let unknown = problems(&[("notice_password.txt", "Subject\n\n{{ user_id }}\n{{ device_id }}\n")]);
        assert_eq!(
            unknown,
            [
                "notice_password.txt:4: unknown variable `device_id`; there are recipient, user_id, address, at, time, \
              server_name, public_url, minutes"
            ]
        );
        let broken = problems(&[("test.html", "<p>\n{% if %}\n")]);
        assert_eq!(broken.len(), 1, "{broken:?}");
        assert!(broken[0].starts_with("test.html:2: syntax error"), "{broken:?}");
        let stranger = problems(&[("tset.txt", "x")]);
        assert!(
            stranger[0].starts_with("tset.txt: is no template of ours; those are layout.html, "),
            "{stranger:?}"
        );
        assert!(read(&[("README.md", "x"), (".test.txt.swp", "x")]).is_ok());
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_problem() {
        let problems = Templates::read(Some(Path::new("/nonexistent/templates"))).err().unwrap();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("/nonexistent/templates: cannot be read: "), "{problems:?}");
    }
}
