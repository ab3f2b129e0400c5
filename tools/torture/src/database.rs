//! The databases that servers under test are given: a file of their own, or a
//! database of their own on a PostgreSQL reached through an administrator's URL.
//! Both can be copied while no server runs and put back later, which is how a
//! store that forgets its last commits is played.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use tokio_postgres::NoTls;

/// Which engine a run uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The embedded database.
    Sqlite,
    /// PostgreSQL, with the administrator's URL.
    Postgres(String),
}

impl Engine {
    /// Short name for the lines that people read.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }
}

/// A fresh database, removed when dropped (SQLite) or by [`Database::remove`].
#[derive(Debug)]
pub enum Database {
    /// A file in a folder of its own.
    Sqlite(TempDir),
    /// A database on a server.
    Postgres {
        /// URL that may create and drop databases.
        admin: String,
        /// Name of the database.
        name: String,
    },
}

/// A copy taken by [`Database::snapshot`].
#[derive(Debug)]
pub enum Snapshot {
    /// A folder with the copied files.
    Sqlite(TempDir),
    /// The name of a second database.
    Postgres(String),
}

impl Database {
    /// An empty database; `label` must be unused on that server.
    pub async fn create(engine: &Engine, label: &str) -> Result<Self> {
        match engine {
            Engine::Sqlite => Ok(Self::Sqlite(tempfile::tempdir()?)),
            Engine::Postgres(admin) => {
                let name = format!("torture_{label}");
                let sql = format!("CREATE DATABASE {name}");
                administer(admin, &[&sql]).await?;
                Ok(Self::Postgres { admin: admin.clone(), name })
            }
        }
    }

    /// A file in this folder, which the caller owns and may have mounted.
    pub fn url_of_file(folder: &Path) -> String {
        format!("sqlite:{}", folder.join("ligand.db").display())
    }

    /// What `LIGAND_DATABASE__URL` is set to.
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => Self::url_of_file(folder.path()),
            Self::Postgres { admin, name } => with_database(admin, name),
        }
    }

    /// The folder of the file, for SQLite.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(folder) => Some(folder.path()),
            Self::Postgres { .. } => None,
        }
    }

    /// Copies the database. No server may be running on it.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        match self {
            Self::Sqlite(folder) => {
                let copy = tempfile::tempdir()?;
                copy_files(folder.path(), copy.path())?;
                Ok(Snapshot::Sqlite(copy))
            }
            Self::Postgres { admin, name } => {
                let copy = format!("{name}_copy");
                let sql = format!("CREATE DATABASE {copy} TEMPLATE {name}");
                administer(admin, &[&disconnect(name), &sql]).await?;
                Ok(Snapshot::Postgres(copy))
            }
        }
    }

    /// Puts a copy back in place of everything written since.
    pub async fn restore(&self, snapshot: Snapshot) -> Result<()> {
        match (self, snapshot) {
            (Self::Sqlite(folder), Snapshot::Sqlite(copy)) => {
                for file in files_of(folder.path())? {
                    std::fs::remove_file(file)?;
                }
                copy_files(copy.path(), folder.path())
            }
            (Self::Postgres { admin, name }, Snapshot::Postgres(copy)) => {
                let drop = format!("DROP DATABASE {name} WITH (FORCE)");
                let rename = format!("ALTER DATABASE {copy} RENAME TO {name}");
                administer(admin, &[&drop, &disconnect(&copy), &rename]).await
            }
            _ => anyhow::bail!("a copy of the other engine"),
        }
    }

    /// Removes the database.
    pub async fn remove(self) -> Result<()> {
        if let Self::Postgres { admin, name } = &self {
            let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            administer(admin, &[&sql]).await?;
        }
        Ok(())
    }
}

/// Runs statements that cannot be in a transaction, one after the other.
pub async fn administer(admin: &str, statements: &[&str]) -> Result<()> {
    let (client, connection) = tokio_postgres::connect(admin, NoTls)
        .await
        .context("connecting to PostgreSQL with the administrator's URL")?;
    let driver = tokio::spawn(connection);
    for sql in statements {
        client.batch_execute(sql).await.with_context(|| format!("PostgreSQL: {sql}"))?;
    }
    drop(client);
    driver.abort();
    Ok(())
}

fn disconnect(name: &str) -> String {
    format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
}

/// The same URL with another database.
fn with_database(admin: &str, name: &str) -> String {
    let (base, query) = admin.split_once('?').map_or((admin, ""), |(b, q)| (b, q));
    let authority_at = base.find("://").map_or(0, |at| at + 3);
    let path_at = base[authority_at..].find('/').map_or(base.len(), |at| authority_at + at);
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    format!("{}/{name}{query}", &base[..path_at])
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    for file in files_of(from)? {
        if let Some(name) = file.file_name() {
            std::fs::copy(&file, to.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_of_a_url_is_replaced() {
        let cases = [
            ("postgres://u:p@h:1/postgres", "postgres://u:p@h:1/x"),
            ("postgres://h", "postgres://h/x"),
            ("postgres://h/a?sslmode=disable", "postgres://h/x?sslmode=disable"),
        ];
        for (admin, expected) in cases {
            assert_eq!(with_database(admin, "x"), expected);
        }
    }
}
