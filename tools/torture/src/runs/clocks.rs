//! F16, end to end: the machine's clock jumps under the running server and across
//! a restart. Set back an hour it must revive nothing that was dead (I17, I11);
//! set forward an hour it must not expire anything at once (I17).
//!
//! Needs libfaketime, which leaves the monotonic clock alone. Controls: a store
//! put back to before the deaths, so that the server cannot know of them; and a
//! restart after the jump forward, which lawfully expires.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::client::{Client, Outcome, Pair};
use crate::context::{Context, Findings, Verdict};
use crate::database::Engine;
use crate::server::Ligand;
use crate::worker::Account;

const BACK: &str = "-1h";
const NOW: &str = "+0";
const FORWARD: &str = "+1h";
/// Tokens of the first part die within this.
const SHORT: Duration = Duration::from_secs(2);
/// The server writes the time down twice a minute; a restart forgets what expired
/// since, and is allowed to.
const TIME_NOTED: Duration = Duration::from_secs(33);

/// Both parts on SQLite; the clock is the server's own on either engine.
pub async fn run(ctx: &Context) -> Result<Verdict> {
    let Some(library) = library() else {
        return Ok(Verdict::Skipped("libfaketime is not installed".to_owned()));
    };
    let (mut real, mut back, mut forward) = Default::default();
    set_back(ctx, &library, &mut real, &mut back).await?;
    set_forward(ctx, &library, &mut real, &mut forward).await?;
    for (step, findings) in [("back", &back), ("forward", &forward)] {
        if findings.violations().is_empty() {
            return Ok(Verdict::Failed(format!("the control of the step {step} was not detected")));
        }
    }
    let mut control = Findings::default();
    control.absorb("back", back);
    control.absorb("forward", forward);
    Ok(real.judge(&control))
}

/// The preloaded library, where Debian and others put it.
fn library() -> Option<PathBuf> {
    let places = ["/usr/lib", "/usr/lib64", "/usr/local/lib"];
    let folders = places.iter().flat_map(|place| {
        let inner = std::fs::read_dir(place).into_iter().flatten();
        let inner = inner.filter_map(|entry| Some(entry.ok()?.path()));
        inner.chain([PathBuf::from(place)])
    });
    let names = ["faketime/libfaketimeMT.so.1", "libfaketimeMT.so.1"];
    let mut files = folders.flat_map(|folder| names.map(|name| folder.join(name)));
    files.find(|file| file.exists())
}

/// A server whose wall clock is read from a file.
struct Clocked {
    server: Ligand,
    offset: PathBuf,
    // Keeps the file until the server is gone.
    _folder: tempfile::TempDir,
}

impl Clocked {
    async fn start(
        ctx: &Context,
        library: &std::path::Path,
        url: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let offset = folder.path().join("offset");
        std::fs::write(&offset, NOW)?;
        let (library, file) = (library.display().to_string(), offset.display().to_string());
        let mut all = settings.to_vec();
        all.extend([
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", file.as_str()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ]);
        let server = Ligand::start(&ctx.ligand, url, &all).await?;
        Ok(Self { server, offset, _folder: folder })
    }

    /// Sets the clock, and lets the server notice.
    async fn set(&self, offset: &str) -> Result<()> {
        std::fs::write(&self.offset, offset).context("setting the clock")?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(())
    }
}

async fn sign_in(client: &mut Client, account: &Account, device: &str) -> Result<Pair> {
    match client.login(&account.name, &account.password, device).await {
        Outcome::Pair(pair) => Ok(pair),
        other => bail!("sign-in: {other:?}"),
    }
}

/// Nothing of these pairs may work.
async fn require_dead(client: &mut Client, pairs: &[(&str, &Pair)], when: &str, findings: &mut Findings) {
    for (whose, pair) in pairs {
        let used = client.whoami(&pair.access).await;
        let refreshed = client.refresh(&pair.refresh).await;
        for (what, answer) in [("access", used), ("refresh", refreshed)] {
            findings.require(!answer.is_success(), || {
                format!("I17 {when}: the {what} token of a session {whose} works")
            });
        }
    }
}

/// The fresh pair must work, checked and refreshed; the pair to go on with.
async fn require_alive(client: &mut Client, pair: Pair, when: &str, findings: &mut Findings) -> Pair {
    let used = client.whoami(&pair.access).await;
    findings
        .require(used == Outcome::Done, || format!("I17 {when}: a live access token is answered {used:?}"));
    match client.refresh(&pair.refresh).await {
        Outcome::Pair(next) => next,
        other => {
            findings.violation(format!("I17 {when}: a live refresh token is answered {other:?}"));
            pair
        }
    }
}

async fn set_back(
    ctx: &Context,
    library: &std::path::Path,
    real: &mut Findings,
    control: &mut Findings,
) -> Result<()> {
    let short = format!("{}s", SHORT.as_secs());
    let settings = [
        ("LIGAND_SESSIONS__ACCESS_TOKEN_LIFETIME", short.as_str()),
        ("LIGAND_SESSIONS__REFRESH_TOKEN_LIFETIME", short.as_str()),
    ];
    let database = ctx.database(&Engine::Sqlite).await?;
    let mut clocked = Clocked::start(ctx, library, &database.url(), &settings).await?;
    let account = clocked.server.add_user("clocks", "a long enough secret").await?;
    let mut client = clocked.server.client();
    let expired = sign_in(&mut client, &account, "EXPIRED").await?;
    let ended = sign_in(&mut client, &account, "ENDED").await?;
    clocked.server.kill().await?;
    let before_the_deaths = database.snapshot().await?;
    clocked.server.restart().await?;

    let mut client = clocked.server.client();
    client.logout(&ended.access).await;
    tokio::time::sleep(SHORT + Duration::from_millis(500)).await;
    let dead = [("that expired", &expired), ("that was ended", &ended)];
    require_dead(&mut client, &dead, "before any step", real).await;
    let live = sign_in(&mut client, &account, "LIVE").await?;
    clocked.set(BACK).await?;
    require_dead(&mut client, &dead, "set back while running", real).await;
    require_alive(&mut client, live, "set back while running", real).await;
    tokio::time::sleep(TIME_NOTED).await;
    clocked.server.restart().await?;
    let mut client = clocked.server.client();
    require_dead(&mut client, &dead, "set back, restarted", real).await;
    let live = sign_in(&mut client, &account, "LIVE").await?;
    require_alive(&mut client, live, "set back, restarted", real).await;
    real.count("steps back", 2);

    clocked.server.kill().await?;
    database.restore(before_the_deaths).await?;
    clocked.server.restart().await?;
    let mut client = clocked.server.client();
    require_dead(&mut client, &dead, "set back, store put back", control).await;
    clocked.server.kill().await
}

async fn set_forward(
    ctx: &Context,
    library: &std::path::Path,
    real: &mut Findings,
    control: &mut Findings,
) -> Result<()> {
    let settings = [("LIGAND_SESSIONS__ACCESS_TOKEN_LIFETIME", "5m")];
    let database = ctx.database(&Engine::Sqlite).await?;
    let mut clocked = Clocked::start(ctx, library, &database.url(), &settings).await?;
    let account = clocked.server.add_user("clocks", "a long enough secret").await?;
    let mut client = clocked.server.client();
    let ended = sign_in(&mut client, &account, "ENDED").await?;
    let mut live = sign_in(&mut client, &account, "LIVE").await?;
    let old = sign_in(&mut client, &account, "OLD").await?;
    client.logout(&ended.access).await;
    clocked.set(FORWARD).await?;
    live = require_alive(&mut client, live, "set forward while running", real).await;
    require_dead(&mut client, &[("that was ended", &ended)], "set forward", real).await;
    clocked.server.restart().await?;
    let mut client = clocked.server.client();
    // A new process has no monotonic clock to doubt the jump with.
    require_alive(&mut client, old, "set forward, restarted", control).await;
    if let Outcome::Pair(pair) = client.refresh(&live.refresh).await {
        require_alive(&mut client, pair, "set forward, refreshed", real).await;
    } else {
        real.violation("I17 set forward, restarted: a refresh token without limit is refused");
    }
    clocked.set(NOW).await?;
    require_dead(&mut client, &[("that was ended", &ended)], "set right again", real).await;
    real.count("steps forward", 2);
    clocked.server.kill().await
}
