//! The `ligand` binary under test: started on a loopback port with its settings
//! in the environment, killed, started again, asked for its memory and its log.

use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::client::Client;
use crate::wire::Message;
use crate::worker::Account;

/// How long a server may take until `/health` answers 200.
const START_MAX: Duration = Duration::from_secs(30);

/// A server process and what it is started with.
#[derive(Debug)]
pub struct Ligand {
    binary: PathBuf,
    environment: Vec<(String, String)>,
    data: Arc<TempDir>,
    log: PathBuf,
    addr: SocketAddr,
    child: Option<Child>,
}

impl Ligand {
    /// Starts a server on this database, with rate limits off, and waits for it.
    pub async fn start(binary: &Path, database_url: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let data = Arc::new(tempfile::tempdir()?);
        Self::start_in(binary, database_url, settings, data).await
    }

    /// A further process of the same installation: same database, same key files.
    pub async fn start_beside(&self) -> Result<Self> {
        let mut other = Self {
            binary: self.binary.clone(),
            environment: self.environment.clone(),
            data: self.data.clone(),
            log: self.data.path().join(format!("log-{}", free_port()?)),
            addr: loopback(free_port()?),
            child: None,
        };
        other.set("LIGAND_HTTP__LISTEN", &other.addr.to_string());
        other.restart().await?;
        Ok(other)
    }

    async fn start_in(
        binary: &Path,
        database_url: &str,
        settings: &[(&str, &str)],
        data: Arc<TempDir>,
    ) -> Result<Self> {
        let addr = loopback(free_port()?);
        let mut server = Self {
            binary: binary.to_owned(),
            environment: Vec::new(),
            log: data.path().join("log"),
            data,
            addr,
            child: None,
        };
        server.set("LIGAND_HTTP__LISTEN", &addr.to_string());
        server.set("LIGAND_SERVER_NAME", "localhost");
        server.set("LIGAND_DATABASE__URL", database_url);
        server.set("LIGAND_RATE_LIMITS__ENABLED", "false");
        let data_dir = server.data.path().join("data");
        server.set("LIGAND_DATA_DIR", &data_dir.display().to_string());
        for (key, value) in settings {
            server.set(key, value);
        }
        server.restart().await?;
        Ok(server)
    }

    /// Sets an environment variable for the next start.
    pub fn set(&mut self, key: &str, value: &str) {
        self.environment.retain(|(k, _)| k != key);
        self.environment.push((key.to_owned(), value.to_owned()));
    }

    /// Starts the process (again) on the same port; the time to the first 200.
    pub async fn restart(&mut self) -> Result<Duration> {
        self.kill().await?;
        let log = append_to(&self.log)?;
        let started = Instant::now();
        let child = self
            .command()
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", self.binary.display()))?;
        self.child = Some(child);
        while started.elapsed() < START_MAX {
            if self.is_healthy().await {
                return Ok(started.elapsed());
            }
            if let Some(status) = self.child.as_mut().and_then(|c| c.try_wait().ok().flatten()) {
                bail!("the server ended with {status}: {}", self.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bail!("no 200 on /health within {START_MAX:?}: {}", self.log_tail())
    }

    /// True when `/health` answers 200.
    pub async fn is_healthy(&self) -> bool {
        let request = Message::request("GET", "/health", None, b"");
        matches!(self.client().exchange(&request).await, Ok(answer) if answer.status() == 200)
    }

    /// SIGKILL, and waits until the process is gone.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await.context("killing the server")?;
        }
        Ok(())
    }

    /// True while the process runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.as_mut().map(Child::try_wait), Some(Ok(None)))
    }

    /// Runs a command of the same installation beside the server.
    pub async fn run(&self, arguments: &[&str], stdin: &str) -> Result<Output> {
        let mut child = self
            .command()
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(stdin.as_bytes()).await?;
        }
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            bail!("ligand {}: {}: {error}", arguments.join(" "), output.status);
        }
        Ok(output)
    }

    /// Creates an account.
    pub async fn add_user(&self, name: &str, password: &str) -> Result<Account> {
        self.run(&["user", "add", name, "--password-stdin"], password).await?;
        Ok(Account { name: name.to_owned(), password: password.to_owned() })
    }

    /// A client connected straight to it.
    pub fn client(&self) -> Client {
        Client::new(self.addr)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Resident memory in bytes; 0 where it cannot be read.
    pub fn resident_bytes(&self) -> u64 {
        let pid = self.child.as_ref().and_then(Child::id);
        pid.and_then(crate::stats::resident_bytes).unwrap_or(0)
    }

    /// Everything it has logged.
    pub fn log_bytes(&self) -> Vec<u8> {
        std::fs::read(&self.log).unwrap_or_default()
    }

    /// The lines of its log that contain this.
    pub fn log_lines(&self, text: &str) -> Vec<String> {
        let log = String::from_utf8_lossy(&self.log_bytes()).into_owned();
        log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    /// Its data folder, with the key files.
    pub fn data_folder(&self) -> PathBuf {
        self.data.path().join("data")
    }

    fn log_tail(&self) -> String {
        let log = String::from_utf8_lossy(&self.log_bytes()).into_owned();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(self.data.path());
        command.envs(self.environment.iter().map(|(k, v)| (k, v)));
        command
    }
}

fn append_to(path: &Path) -> Result<File> {
    Ok(OpenOptions::new().create(true).append(true).open(path)?)
}

/// A port that was free a moment ago, below the range that outgoing connections
/// use: otherwise a client that dials a dead server may take its port, or even
/// connect to itself.
pub fn free_port() -> Result<u16> {
    for _ in 0..200 {
        let port = 20_000 + (getrandom::u32()? % 12_000) as u16;
        if std::net::TcpListener::bind(loopback(port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between 20000 and 32000")
}

/// This port on the loopback address.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
