//! `sqlite:PATH` or `postgres://…`, and how to show it without its password.
//! Leaves to the storage crate: what the rest of a PostgreSQL URL means.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where the database is. `Debug` and `Display` never show a password.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// Path of the database file, relative to the working directory.
    Sqlite(PathBuf),
    /// The whole URL, password included.
    Postgres(String),
}

impl DatabaseUrl {
    /// The URL as the database needs it, password included. Not for messages.
    #[must_use]
    pub fn expose(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Postgres(url) => url.clone(),
        }
    }

    /// Whether the URL carries a password (or might: an unclear one counts).
    #[must_use]
    pub fn has_password(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres(url) => without_password(url) != *url,
        }
    }
}

impl FromStr for DatabaseUrl {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            // The file is named, never a URL or SQLite's in-memory name: data must last.
            let relative_url = path.starts_with("//") && !path.starts_with("///");
            let named = !path.is_empty() && !relative_url && !path.starts_with(':');
            return named.then(|| Self::Sqlite(PathBuf::from(path))).ok_or(());
        }
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        match rest {
            Some(rest) if !rest.is_empty() => Ok(Self::Postgres(text.to_owned())),
            _ => Err(()),
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => f.write_str(&without_password(url)),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The URL with its password replaced. One whose parts cannot be told apart for certain (an `@` or
/// a `/` inside a password) is hidden whole.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return "***".to_owned();
    };
    let (main, query) = match rest.split_once('?') {
        Some((main, query)) => (main, Some(query)),
        None => (rest, None),
    };
    let (authority, path) = match main.split_once('/') {
        Some((authority, path)) => (authority, Some(path)),
        None => (main, None),
    };
    let unclear = authority.matches('@').count() > 1
        || path.is_some_and(|path| path.contains('@'))
        || query.is_some_and(|query| query.contains('@'));
    if unclear {
        return format!("{scheme}://***");
    }
    let mut shown = format!("{scheme}://{}", authority_without_password(authority));
    if let Some(path) = path {
        shown.push('/');
        shown.push_str(path);
    }
    if let Some(query) = query {
        let parameters: Vec<String> = query.split('&').map(parameter_without_password).collect();
        shown.push('?');
        shown.push_str(&parameters.join("&"));
    }
    shown
}

fn authority_without_password(authority: &str) -> String {
    match authority.split_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((user, _)) => format!("{user}:***@{host}"),
            None => authority.to_owned(),
        },
        None => authority.to_owned(),
    }
}

fn parameter_without_password(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, _)) if name.to_ascii_lowercase().contains("pass") || name.contains('%') => {
            format!("{name}=***")
        }
        _ => parameter.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_never_shown() {
        for (url, shown) in [
            ("postgres://u:canary@h/d", "postgres://u:***@h/d"),
            ("postgresql://u:canary@h:5432", "postgresql://u:***@h:5432"),
            ("postgres://u@h/d", "postgres://u@h/d"),
            ("postgres://h/d?sslmode=require", "postgres://h/d?sslmode=require"),
            ("postgres://h/d?user=u&password=canary", "postgres://h/d?user=u&password=***"),
            ("postgres://h/d?p%61ssword=canary", "postgres://h/d?p%61ssword=***"),
            ("postgres://h/d?password=s@canary", "postgres://***"),
            ("postgres://u:canary/x@h/d", "postgres://***"),
            ("postgres://u:c@canary@h/d", "postgres://***"),
            ("postgres://u:c?canary@h/d", "postgres://***"),
        ] {
            let parsed: DatabaseUrl = url.parse().unwrap();
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(format!("{parsed:?}"), shown);
            assert_eq!(parsed.has_password(), url != shown);
        }
    }

    #[test]
    fn sqlite_takes_a_path_and_nothing_else() {
        assert_eq!("sqlite:a/b.db".parse(), Ok(DatabaseUrl::Sqlite(PathBuf::from("a/b.db"))));
        assert_eq!("sqlite:/var/lib/l.db".parse(), Ok(DatabaseUrl::Sqlite(PathBuf::from("/var/lib/l.db"))));
        for wrong in ["sqlite:", "sqlite://x", "sqlite::memory:", "mysql://h/d", "x.db", "", "postgres://"] {
            assert_eq!(wrong.parse::<DatabaseUrl>(), Err(()), "{wrong}");
        }
    }
}
