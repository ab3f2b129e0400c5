//! A PostgreSQL server of our own in a temporary folder, for runs that stop it,
//! and for all runs when no other is named. PostgreSQL refuses to run as root,
//! so root hands the folder to the account `postgres` and runs as that.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tokio::process::Command;

use crate::server::free_port;

/// A running cluster; stopped and removed when dropped.
#[derive(Debug)]
pub struct Cluster {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
}

impl Cluster {
    /// Creates and starts one. `Ok(None)` where PostgreSQL is not installed.
    pub async fn start() -> Result<Option<Self>> {
        let Some(programs) = programs() else {
            return Ok(None);
        };
        let folder = tempfile::Builder::new().prefix("torture-pg-").tempdir()?;
        let cluster = Self { programs, folder, port: free_port()? };
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(cluster.folder.path())).await?;
        }
        let data = cluster.data();
        let initdb = ["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "-D"];
        run(cluster.program("initdb").args(initdb).arg(&data)).await?;
        cluster.up().await?;
        Ok(Some(cluster))
    }

    /// URL of its administrator.
    pub fn admin_url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it and waits until it takes connections.
    pub async fn up(&self) -> Result<()> {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c max_connections=200",
            self.port,
            self.folder.path().display()
        );
        let mut start = self.program("pg_ctl");
        start.args(["-w", "-o", &options, "-D"]).arg(self.data());
        start.arg("-l").arg(self.folder.path().join("log")).arg("start");
        run(&mut start).await
    }

    /// Stops it without a checkpoint, as a crash would.
    pub async fn crash(&self) -> Result<()> {
        let mut stop = self.program("pg_ctl");
        stop.args(["-w", "-m", "immediate", "-D"]).arg(self.data()).arg("stop");
        run(&mut stop).await
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn program(&self, name: &str) -> Command {
        let path = self.programs.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        // The caller's folder may be closed to that account.
        command.current_dir("/");
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut stop = self.program("pg_ctl");
        stop.args(["-w", "-m", "immediate", "-D"]).arg(self.data()).arg("stop");
        let stop = stop.as_std_mut();
        let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// True when this process may mount and change users.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The folder with `initdb`: from the search path, else where Debian puts it.
fn programs() -> Option<PathBuf> {
    let from_path = std::env::var_os("PATH")
        .and_then(|path| std::env::split_paths(&path).find(|dir| dir.join("initdb").exists()));
    let debian = Path::new("/usr/lib/postgresql");
    let newest = || {
        let mut folders: Vec<PathBuf> = std::fs::read_dir(debian)
            .ok()?
            .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
            .filter(|bin| bin.join("initdb").exists())
            .collect();
        folders.sort();
        folders.pop()
    };
    newest().or(from_path)
}

async fn run(command: &mut Command) -> Result<()> {
    let name = format!("{:?}", command.as_std());
    // pg_ctl leaves a server behind that would keep a pipe open for ever.
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await
        .with_context(|| format!("starting {name}"))?;
    if !status.success() {
        bail!("{name} ended with {status}");
    }
    Ok(())
}
