//! Texts made from the table of keys: the commented file, the effective configuration, and the
//! reference document `docs/operating/configuration.md`.

use std::fmt::Write;

use super::Loaded;
use super::keys::{Key, SECTIONS, Section};

/// Width that comments in the commented file are wrapped to, in characters.
const COMMENT_CHARS_MAX: usize = 96;

/// A configuration file that shows every key with its default (or, where there is none, an
/// example), all commented out: as it stands it changes nothing.
#[must_use]
pub fn commented_file() -> String {
    let mut text = String::new();
    comment(
        &mut text,
        "Configuration of Ligand. Every key is shown with its default, or with an example where \
         nothing is set; remove the # before those you want to change. An environment variable \
         overrides the file: http.listen is LIGAND_HTTP__LISTEN. `ligand config check` tells \
         whether a file is right, `ligand config show` what is in effect.",
    );
    for section in SECTIONS {
        text.push('\n');
        if !section.name.is_empty() {
            comment(&mut text, section.doc);
            line(&mut text, &format!("[{}]", section.name));
        }
        for key in section.keys {
            comment(&mut text, key.doc);
            let value = key.default().filter(|_| key.example.is_empty());
            let value = value.as_deref().unwrap_or(key.example);
            line(&mut text, &format!("#{} = {value}", key.short_name()));
        }
    }
    text
}

/// See [`Loaded::annotated`].
pub(super) fn annotated(loaded: &Loaded) -> String {
    let mut text = String::new();
    for section in SECTIONS {
        if !section.name.is_empty() {
            line(&mut text, &format!("\n[{}]", section.name));
        }
        for key in section.keys {
            let (name, origin) = (key.short_name(), loaded.origin(key.name));
            match (key.print)(&loaded.config) {
                Some(value) => line(&mut text, &format!("{name} = {value} # {origin}")),
                None => line(&mut text, &format!("# {name} is not set # {origin}")),
            }
        }
    }
    text
}

/// The text of `docs/operating/configuration.md`.
#[must_use]
pub fn reference_document() -> String {
    let mut text = String::from(INTRODUCTION);
    for section in SECTIONS {
        document_section(&mut text, section);
    }
    text
}

const INTRODUCTION: &str = "\
# Configuration

<!-- Made by `ligand config reference`; change the table of keys, then make it again. -->

Ligand runs without any configuration. To change something, write a file and name it:

```sh
ligand config init ligand.toml      # a commented file with every key
ligand config check --config ligand.toml
ligand --config ligand.toml
```

- The file is [TOML](https://toml.io). A key that Ligand does not know is refused, with the line and the nearest valid name.
- An environment variable overrides the file. Its name is `LIGAND_`, then the key in capitals, with `__` for each dot. A list is separated by commas or written as TOML. An empty variable takes away a value that may be absent. Unknown `LIGAND_…` variables are named in a warning. `LIGAND_CONFIG` names the file, as `--config` does.
- Durations are a whole number and a unit: `\"500ms\"`, `\"90s\"`, `\"5m\"`, `\"12h\"`, `\"30d\"`, `\"2w\"`.
- `ligand config show` prints what is in effect, and where each value came from. Passwords are not shown.
- Changes take effect at the next start.
";

fn document_section(text: &mut String, section: &Section) {
    if !section.name.is_empty() {
        line(text, &format!("\n## `[{}]`\n\n{}", section.name, section.doc));
    }
    line(text, "\n| key | default | variable | meaning |\n|---|---|---|---|");
    for key in section.keys {
        let default = key.default().map_or("absent".to_owned(), |value| format!("`{value}`"));
        let (name, variable) = (key.short_name(), key.variable());
        let meaning = meaning(key);
        line(text, &format!("| `{name}` | {default} | `{variable}` | {meaning} |"));
    }
}

fn meaning(key: &Key) -> String {
    let mut meaning = key.doc.to_owned();
    if !key.example.is_empty() {
        meaning.push_str(&format!(" Example: `{}`.", key.example));
    }
    // A bar would end the cell of the table.
    meaning.replace('|', "\\|")
}

/// Writes `words` as comment lines of at most [`COMMENT_CHARS_MAX`] characters.
fn comment(text: &mut String, words: &str) {
    let mut current = String::from("#");
    for word in words.split_whitespace() {
        if current.chars().count() + 1 + word.chars().count() > COMMENT_CHARS_MAX {
            line(text, &current);
            current = String::from("#");
        }
        current.push(' ');
        current.push_str(word);
    }
    line(text, &current);
}

fn line(text: &mut String, content: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{content}");
}
