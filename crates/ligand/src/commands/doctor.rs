//! `ligand doctor`: what an operator would look at first, in one list.
//!
//! It reads and asks; it creates and changes nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use ligand_protocol::registration::RegistrationMode;
use ligand_server::config::{Config, DatabaseUrl};
use ligand_server::keys;
use ligand_server::mail::{Mail, Stage};
use ligand_storage::{OpenMode, Store};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Settings, now, store_options};
use crate::failure::Failure;
use crate::output;

/// How long the server may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// A clock this far behind the last time the server saw is wrong.
const CLOCK_BEHIND_MS: i64 = 60_000;

#[derive(Args)]
#[command(after_help = "\
Exit code 0 when nothing is wrong, 1 otherwise; warnings do not count.")]
pub struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How one look turned out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Warning,
    Wrong,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
        }
    }
}

/// One line of the list.
struct Finding {
    about: &'static str,
    verdict: Verdict,
    text: String,
}

/// The list as it grows.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, about: &'static str, verdict: Verdict, text: impl Into<String>) {
        let text = text.into();
        self.0.push(Finding { about, verdict, text });
    }
}

/// Looks at everything and prints the list.
pub async fn run(arguments: &Arguments, settings: &Settings) -> Result<(), Failure> {
    let config = settings.load()?.config;
    let mut findings = Findings::default();
    findings.add("configuration", Verdict::Good, "is right");
    look_at_choices(&mut findings, &config);
    look_at_data_dir(&mut findings, &config.data_dir);
    look_at_database(&mut findings, &config).await;
    look_at_server(&mut findings, config.http.listen).await;
    look_at_mail(&mut findings, &config).await;
    print(&findings, arguments.json)?;
    let wrong = findings.0.iter().filter(|finding| finding.verdict == Verdict::Wrong).count();
    match wrong {
        0 => Ok(()),
        _ => Err(anyhow!("{wrong} of the things above are wrong").into()),
    }
}

fn print(findings: &Findings, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let value = |f: &Finding| json!({ "about": f.about, "verdict": f.verdict.as_str(), "text": f.text });
        return output::json(&findings.0.iter().map(value).collect::<Vec<_>>());
    }
    let row = |f: &Finding| [f.verdict.as_str().to_owned(), f.about.to_owned(), f.text.clone()];
    let rows: Vec<_> = findings.0.iter().map(row).collect();
    output::table(["VERDICT", "ABOUT", "FOUND"], &rows)
}

fn look_at_choices(findings: &mut Findings, config: &Config) {
    let url = config.public_url();
    if url.starts_with("http://") && !config.http.listen.ip().is_loopback() {
        let text = "clients send passwords and tokens unencrypted; put a reverse proxy with TLS in front and set http.public_url to https://…";
        findings.add("public URL", Verdict::Warning, format!("{url}: {text}"));
    } else {
        findings.add("public URL", Verdict::Good, url);
    }
    if config.registration.mode == RegistrationMode::Open && config.captcha.provider.is_none() {
        let text = "is open to everybody; set registration.mode to token, or ask for a captcha (captcha.provider), to keep spammers out";
        findings.add("registration", Verdict::Warning, text);
    }
    if !config.rate_limits.enabled {
        let text = "are off: passwords can be guessed as fast as this machine answers";
        findings.add("rate limits", Verdict::Warning, text);
    }
}

fn look_at_data_dir(findings: &mut Findings, dir: &Path) {
    let about = "data folder";
    let shown = dir.display();
    match std::fs::metadata(dir) {
        Ok(found) if !found.is_dir() => {
            let text = format!("{shown} is not a folder; name another in data_dir");
            findings.add(about, Verdict::Wrong, text);
        }
        Ok(_) => findings.add(about, Verdict::Good, shown.to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = format!("{shown} is not there yet; the server makes it at its first start");
            findings.add(about, Verdict::Warning, text);
            return;
        }
        Err(error) => findings.add(about, Verdict::Wrong, format!("{shown}: {error}")),
    }
    if dir.join("token.key").exists() {
        match keys::token_keys(dir) {
            Ok(_) => findings.add("token key", Verdict::Good, "is there"),
            Err(error) => findings.add("token key", Verdict::Wrong, error.to_string()),
        }
    }
}

async fn look_at_database(findings: &mut Findings, config: &Config) {
    let about = "database";
    let url = config.database_url();
    if let DatabaseUrl::Sqlite(path) = &url
        && !path.exists()
    {
        let text = format!("{url} is not there yet; the server makes it at its first start");
        return findings.add(about, Verdict::Warning, text);
    }
    let mut options = store_options(config, OpenMode::Tool);
    options.migrate = false;
    let store = match Store::open(&options).await {
        Ok(store) => store,
        Err(error) => return findings.add(about, Verdict::Wrong, error.to_string()),
    };
    match look_inside(findings, &store).await {
        Ok(()) => {}
        Err(error) => findings.add(about, Verdict::Wrong, error.to_string()),
    }
    store.close().await;
}

async fn look_inside(findings: &mut Findings, store: &Store) -> Result<(), ligand_storage::StoreError> {
    let status = store.migrations_status().await?;
    let pending = status.iter().filter(|migration| migration.applied_at.is_none()).count();
    if pending > 0 {
        let text =
            format!("{pending} migrations are pending; start the server or run `ligand database migrate`");
        findings.add("database", Verdict::Wrong, text);
        return Ok(());
    }
    findings.add("database", Verdict::Good, "answers and is up to date");
    match store.count_users().await? {
        0 => {
            let text = "there are none; make one with `ligand user add NAME`";
            findings.add("accounts", Verdict::Warning, text);
        }
        count => findings.add("accounts", Verdict::Good, count.to_string()),
    }
    let behind = store.clock_floor().await? - now();
    if behind > CLOCK_BEHIND_MS {
        let text = format!("is {} s behind the latest time the server saw; set it right", behind / 1000);
        findings.add("clock", Verdict::Wrong, text);
    }
    Ok(())
}

async fn look_at_server(findings: &mut Findings, listen: SocketAddr) {
    let address = reachable(listen);
    let answer = tokio::time::timeout(ANSWER_WAIT, health(address)).await;
    let (verdict, text) = match answer {
        Ok(Ok(line)) if line.contains(" 200 ") => (Verdict::Good, format!("serves at {address}")),
        Ok(Ok(line)) => {
            let text = format!("at {address} answers {line:?} to GET /health; see its log");
            (Verdict::Wrong, text)
        }
        Ok(Err(error)) => {
            let text = format!("does not answer at {address} ({error}); start it with `ligand serve`");
            (Verdict::Warning, text)
        }
        Err(_) => (Verdict::Wrong, format!("at {address} took longer than 5 s; see its log")),
    };
    findings.add("server", verdict, text);
}

/// Connects to the mail server and logs in, and sends nothing.
async fn look_at_mail(findings: &mut Findings, config: &Config) {
    let Some(host) = &config.email.host else { return };
    let about = "e-mail";
    let mail = match Mail::new(config) {
        Ok(mail) => mail,
        Err(error) => return findings.add(about, Verdict::Wrong, error.to_string()),
    };
    let (port, security) = (config.email.port(), config.email.security.as_str());
    let text = match mail.probe().await {
        Ok(()) => {
            let text =
                format!("{host}:{port} ({security}) can be used; `ligand email test ADDRESS` sends one");
            return findings.add(about, Verdict::Good, text);
        }
        Err((stage, error)) => format!("{host}:{port} ({security}): {error}; {}", mend(stage)),
    };
    findings.add(about, Verdict::Wrong, text);
}

fn mend(stage: Stage) -> &'static str {
    match stage {
        Stage::Connect => {
            "check email.host, email.port and email.security, and email.ca_file for a certificate of your own"
        }
        Stage::StartTls => {
            "the mail server must offer STARTTLS with a trusted certificate; or set email.security to tls"
        }
        Stage::Login => "check email.username and its password",
    }
}

/// The first line of the answer to `GET /health`.
async fn health(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // The first line is all that counts; a server that is not ours may send without end.
    stream.take(1024).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

/// An address to ask a server that listens on every interface.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
