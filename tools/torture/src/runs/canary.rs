//! F22: every password and token of a busy hour, failures included, carries a mark
//! or is one; afterwards database, write-ahead log, log at its loudest and metrics
//! are searched for all of them, in several encodings: nothing may be found.
//!
//! Control: a mark in a device's display name, which is stored, must be found.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::client::{Client, LOGIN, Outcome, REFRESH, REGISTER, TOKENREFRESH, WHOAMI, login_body, outcome};
use crate::context::{Context, Findings, Verdict};
use crate::database::{Database, Engine};
use crate::needle::Needle;
use crate::rng::Rng;
use crate::server::{Ligand, free_port, loopback};
use crate::wire::Message;
use crate::worker::Account;

/// Both engines; PostgreSQL is searched through its own text form.
pub async fn run(ctx: &Context) -> Result<Verdict> {
    let (mut real, mut control) = (Findings::default(), Findings::default());
    for engine in ctx.engines() {
        trial(ctx, &engine, &mut real, &mut control).await?;
    }
    if control.violations().len() < ctx.engines().len() {
        return Ok(Verdict::Failed("the mark that is stored was not found".to_owned()));
    }
    Ok(real.judge(&control))
}

async fn trial(ctx: &Context, engine: &Engine, real: &mut Findings, control: &mut Findings) -> Result<()> {
    let metrics = loopback(free_port()?);
    let metrics_text = metrics.to_string();
    let settings = [
        ("LIGAND_LOG__LEVEL", "trace"),
        ("LIGAND_REGISTRATION__MODE", "token"),
        ("LIGAND_HTTP__METRICS_LISTEN", metrics_text.as_str()),
        // Debug output of any library, should it listen to this.
        ("RUST_LOG", "trace"),
    ];
    let (database, mut server) = ctx.server(engine, &settings).await?;
    let mut busy =
        Busy { addr: server.addr(), client: server.client(), rng: ctx.rng(11), secrets: Vec::new() };
    let name_mark = busy.rng.word();
    for round in 0..ctx.cycles(3, 30) {
        busy.hour(&server, round, &name_mark).await?;
    }
    let exposition = Client::new(metrics)
        .exchange(&Message::request("GET", "/metrics", None, b""))
        .await
        .map_or_else(|_| Vec::new(), |answer| answer.body);
    real.require(!exposition.is_empty(), || "no metrics were served".to_owned());
    // Killed, so that the write-ahead log stays where it is.
    server.kill().await?;
    let mut places = vec![("log".to_owned(), server.log_bytes()), ("metrics".to_owned(), exposition)];
    places.extend(stored(&database, &server).await?);

    let found_log = places.iter().any(|(place, bytes)| place == "log" && bytes.len() > 1_000);
    real.require(found_log, || "the loudest log is nearly empty".to_owned());
    search(&busy.secrets, &places, real);
    search(&[Needle::text("display name", &name_mark)], &places, control);
    let size: usize = places.iter().map(|(_, bytes)| bytes.len()).sum();
    real.count(engine.name(), format!("{} secrets in {size} bytes,", busy.secrets.len()));
    database.remove().await
}

fn search(secrets: &[Needle], places: &[(String, Vec<u8>)], findings: &mut Findings) {
    for (place, bytes) in places {
        for secret in secrets {
            if let Some(form) = secret.find_in(bytes) {
                findings.violation(format!("I21/I22 {} is in {place} {form}", secret.label));
            }
        }
    }
}

/// Every stored byte: files of the database and of the data folder, or all rows.
async fn stored(database: &Database, server: &Ligand) -> Result<Vec<(String, Vec<u8>)>> {
    let mut places = Vec::new();
    let folders = [database.folder().map(Path::to_owned), Some(server.data_folder())];
    for folder in folders.into_iter().flatten() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_file() {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                places.push((format!("file {name}"), std::fs::read(&path)?));
            }
        }
    }
    if let Database::Postgres { .. } = database {
        places.push(("rows".to_owned(), rows(&database.url()).await?));
    }
    Ok(places)
}

/// All rows of all tables as PostgreSQL writes them; `bytea` is hexadecimal there.
async fn rows(url: &str) -> Result<Vec<u8>> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    let driver = tokio::spawn(connection);
    let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'";
    let mut bytes = Vec::new();
    for table in client.query(tables, &[]).await? {
        let name: String = table.get(0);
        let all = format!("SELECT t::text FROM \"{name}\" t");
        for row in client.query(&all, &[]).await? {
            let text: String = row.get(0);
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(b'\n');
        }
    }
    drop(client);
    driver.abort();
    Ok(bytes)
}

/// One client that does everything right and wrong, and remembers every secret.
struct Busy {
    addr: SocketAddr,
    client: Client,
    rng: Rng,
    secrets: Vec<Needle>,
}

impl Busy {
    async fn hour(&mut self, server: &Ligand, round: u64, name_mark: &str) -> Result<()> {
        let password = self.password();
        let account = server.add_user(&format!("canary{round}"), &password).await?;
        self.fail_to_sign_in(&account).await;
        let access = self.sign_in(&account, "ONE", None).await?;
        self.refresh_rightly_and_wrongly(&access).await;
        self.misuse(&access.0, &access.1).await;
        self.change_password(&account, name_mark).await?;
        self.register(server, round).await
    }

    fn password(&mut self) -> String {
        let password = format!("canary-{}-secret", self.rng.word());
        self.secrets.push(Needle::text("a password", &password));
        password
    }

    fn note(&mut self, answer: &Value) {
        for key in ["access_token", "refresh_token"] {
            if let Some(token) = answer[key].as_str() {
                self.secrets.push(Needle::text(key, token));
                let inside = Needle::inside(format!("the secret of an {key}"), token);
                self.secrets.extend(inside);
            }
        }
    }

    /// Sends, notes the tokens of the answer, and gives its body.
    async fn send(&mut self, request: &Message) -> Value {
        let body = match self.client.exchange(request).await {
            Ok(answer) => answer.json(),
            Err(_) => Value::Null,
        };
        self.note(&body);
        body
    }

    async fn post(&mut self, path: &str, bearer: Option<&str>, body: &Value) -> Value {
        let request = Message::request("POST", path, bearer, body.to_string().as_bytes());
        self.send(&request).await
    }

    async fn fail_to_sign_in(&mut self, account: &Account) {
        for user in [account.name.as_str(), "nobody", "@:", ""] {
            let wrong = self.password();
            self.post(LOGIN, None, &login_body(user, &wrong, "ONE")).await;
        }
        let wrong = self.password();
        let odd = [
            json!({ "type": "m.login.password", "user": account.name, "password": [wrong] }),
            json!({ "type": "m.login.token", "token": wrong }),
            json!({ "type": "m.login.password", "password": wrong }),
        ];
        for body in odd {
            self.post(LOGIN, None, &body).await;
        }
        let broken = format!("{{\"password\": \"{wrong}\", ");
        self.send(&Message::request("POST", LOGIN, None, broken.as_bytes())).await;
        let huge = json!({ "password": wrong, "user": "x".repeat(100_000) }).to_string();
        // On a connection of its own: the server closes it rather than read on.
        let request = Message::request("POST", LOGIN, None, huge.as_bytes());
        let _ = Client::new(self.addr).exchange(&request).await;
    }

    /// Signs in; the access and the refresh token.
    async fn sign_in(
        &mut self,
        account: &Account,
        device: &str,
        display_name: Option<&str>,
    ) -> Result<(String, String)> {
        let mut body = login_body(&account.name, &account.password, device);
        if let Some(name) = display_name {
            body["initial_device_display_name"] = Value::from(name);
        }
        let answer = self.post(LOGIN, None, &body).await;
        match (answer["access_token"].as_str(), answer["refresh_token"].as_str()) {
            (Some(access), Some(refresh)) => Ok((access.to_owned(), refresh.to_owned())),
            _ => bail!("sign-in: {answer}"),
        }
    }

    async fn refresh_rightly_and_wrongly(&mut self, first: &(String, String)) {
        let mut refresh = first.1.clone();
        for door in [REFRESH, REFRESH, TOKENREFRESH, REFRESH, TOKENREFRESH] {
            let body = json!({ "refresh_token": refresh });
            let next = self.post(door, None, &body).await;
            if let Some(access) = next["access_token"].as_str() {
                self.send(&Message::request("GET", WHOAMI, Some(access), b"")).await;
            }
            // Reuse, and the wrong kind.
            self.post(door, None, &body).await;
            self.post(door, None, &json!({ "refresh_token": first.0 })).await;
            if let Some(token) = next["refresh_token"].as_str() {
                refresh = token.to_owned();
            }
        }
    }

    async fn misuse(&mut self, access: &str, refresh: &str) {
        let forged = format!("{}AAAA", &access[..access.len().saturating_sub(4)]);
        let queries = [
            format!("{WHOAMI}?access_token={access}"),
            format!("/_matrix/client/r0/account/whoami?access_token={access}"),
            format!("/_matrix/client/api/v1/nowhere?access_token={access}"),
            format!("/nowhere/{access}"),
        ];
        for path in queries {
            self.send(&Message::request("GET", &path, None, b"")).await;
        }
        for bearer in [access, refresh, &forged] {
            self.send(&Message::request("GET", WHOAMI, Some(bearer), b"")).await;
            self.send(&Message::request("PATCH", WHOAMI, Some(bearer), b"")).await;
        }
        let logout = "/_matrix/client/v3/logout";
        self.post(logout, Some(access), &json!({})).await;
    }

    /// With a wrong password first, then rightly; then a device is deleted.
    async fn change_password(&mut self, account: &Account, name_mark: &str) -> Result<()> {
        let path = "/_matrix/client/v3/account/password";
        let (access, _) = self.sign_in(account, "TWO", Some(name_mark)).await?;
        let (wrong, new) = (self.password(), self.password());
        let mut body = json!({ "new_password": new });
        let opened = self.post(path, Some(&access), &body).await;
        for password in [&wrong, &account.password] {
            body["auth"] = json!({
                "type": "m.login.password", "session": opened["session"], "password": password,
                "identifier": { "type": "m.id.user", "user": account.name },
            });
            self.post(path, Some(&access), &body).await;
        }
        let changed = Account { name: account.name.clone(), password: new };
        let again = login_body(&changed.name, &changed.password, "THREE");
        let answer = self.client.post(LOGIN, &again).await;
        if !matches!(outcome(answer.clone()), Outcome::Pair(_)) {
            bail!("the changed password does not sign in");
        }
        self.note(&answer.map_or(Value::Null, |a| a.json()));
        Ok(())
    }

    /// With a registration token, wrong ones first.
    async fn register(&mut self, server: &Ligand, round: u64) -> Result<()> {
        let printed = server.run(&["registration-token", "add", "--uses", "1"], "").await?;
        let token = String::from_utf8_lossy(&printed.stdout).trim().to_owned();
        self.secrets.push(Needle::text("a registration token", &token));
        let password = self.password();
        let mut body = json!({
            "username": format!("guest{round}"), "password": password, "refresh_token": true,
        });
        let opened = self.post(REGISTER, None, &body).await;
        for token in ["wrong", &token] {
            body["auth"] = json!({
                "type": "m.login.registration_token", "session": opened["session"], "token": token,
            });
            self.post(REGISTER, None, &body).await;
        }
        body["auth"] = json!({ "type": "m.login.dummy", "session": opened["session"] });
        self.post(REGISTER, None, &body).await;
        Ok(())
    }
}
