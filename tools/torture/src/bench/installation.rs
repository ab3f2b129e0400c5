//! An installation to measure: a data folder with a key, a database full of sessions, and the real
//! server on it, on a core of its own.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use data_encoding::HEXLOWER;
use ligand_protocol::token::TagKeys;
use tempfile::TempDir;

use super::load::Target;
use super::place;
use crate::server::{free_port, loopback};

/// How long a server may take until `/health` answers 200.
const START_MAX: Duration = Duration::from_secs(60);

/// Where an installation lives.
pub struct Installation {
    ligand: PathBuf,
    folder: TempDir,
    database_url: String,
    key: [u8; 32],
    limits: bool,
}

impl Installation {
    /// Makes a data folder and an empty database: a file in it, or the one with this URL.
    pub fn create(ligand: &Path, database_url: Option<String>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("torture-bench-").tempdir()?;
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        let data = folder.path().join("data");
        std::fs::create_dir(&data)?;
        let mut file = OpenOptions::new();
        let mut file = file.write(true).create_new(true).mode(0o600).open(data.join("token.key"))?;
        file.write_all(HEXLOWER.encode(&key).as_bytes())?;
        let file_url = format!("sqlite:{}", folder.path().join("ligand.db").display());
        let installation = Self {
            ligand: ligand.to_owned(),
            database_url: database_url.unwrap_or(file_url),
            folder,
            key,
            limits: true,
        };
        let migrated = installation.command(&["database", "migrate"]).stderr(Stdio::null()).status()?;
        if !migrated.success() {
            bail!("`ligand database migrate` ended with {migrated}");
        }
        Ok(installation)
    }

    /// Without rate limits: for loads that come from one address, or to one session, on purpose.
    pub fn without_limits(mut self) -> Self {
        self.limits = false;
        self
    }

    /// The database file of an installation on SQLite.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ligand.db")
    }

    pub fn keys(&self) -> TagKeys {
        TagKeys::new(&self.key, None)
    }

    /// Starts the server, on one core or wherever it likes, and waits for it.
    pub fn start(&self, core: Option<usize>) -> Result<Server> {
        let addr = loopback(free_port()?);
        let log = OpenOptions::new().create(true).append(true).open(self.folder.path().join("log"))?;
        let mut command = self.command(&["serve"]);
        command.env("LIGAND_HTTP__LISTEN", addr.to_string()).stdout(Stdio::null()).stderr(log);
        Server::start(core, &mut command, addr)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.ligand);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("LIGAND_SERVER_NAME", "localhost")
            .env("LIGAND_DATA_DIR", self.folder.path().join("data"))
            .env("LIGAND_DATABASE__URL", &self.database_url)
            .env("LIGAND_RATE_LIMITS__ENABLED", self.limits.to_string())
            .stdin(Stdio::null());
        command
    }
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    addr: SocketAddr,
    /// From the start of the process to the first 200 on `/health`.
    pub started_in: Duration,
}

impl Server {
    /// Starts a process that answers `/health` there.
    pub fn start(core: Option<usize>, command: &mut Command, addr: SocketAddr) -> Result<Self> {
        let began = Instant::now();
        let child = match core {
            Some(core) => place::spawn_on(core, command)?,
            None => command.spawn()?,
        };
        let mut server = Self { child, addr, started_in: Duration::ZERO };
        while began.elapsed() < START_MAX {
            if is_healthy(addr) {
                server.started_in = began.elapsed();
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait()? {
                bail!("a server ended with {status} instead of starting");
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        bail!("no 200 on /health within {START_MAX:?}")
    }

    pub fn target(&self) -> Target {
        Target { addr: self.addr, pid: self.child.id() }
    }

    /// Resident memory in MiB.
    pub fn resident_mib(&self) -> Result<f64> {
        let bytes = crate::stats::resident_bytes(self.child.id()).context("its memory cannot be read")?;
        Ok(bytes as f64 / f64::from(1 << 20))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn is_healthy(addr: SocketAddr) -> bool {
    use std::io::Read as _;
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}
