//! A running server and the command line beside it: what a command changes, the server sees.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How soon a server must see what the command line did (one second), with some room for a busy
/// machine.
const SEEN_WITHIN: Duration = Duration::from_secs(3);

/// A server process with an installation of its own; killed when dropped.
struct Server {
    folder: TempDir,
    process: Child,
    address: String,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut process = ligand(&folder)
            .env("LIGAND_HTTP__LISTEN", "127.0.0.1:0")
            .env("LIGAND_LOG__FORMAT", "json")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines.find_map(|line| address_in(&line.unwrap())).unwrap();
        // Somebody has to read the rest, or the server would stop at a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { folder, process, address }
    }

    /// Runs a command beside the server; its standard output.
    fn command(&self, arguments: &[&str], input: &str) -> String {
        let mut child = ligand(&self.folder)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// One request; status and body.
    fn request(&self, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn log_in(&self, user: &str, password: &str) -> (u16, Value) {
        let identifier = json!({ "type": "m.id.user", "user": user });
        let body = json!({ "type": "m.login.password", "identifier": identifier, "password": password });
        self.request("POST", "/_matrix/client/v3/login", "", &body)
    }

    fn whoami(&self, token: &str) -> u16 {
        let path = "/_matrix/client/v3/account/whoami";
        self.request("GET", path, token, &Value::Null).0
    }

    /// Asks until the server gives that answer to a token, for as long as it may take.
    fn sees(&self, token: &str, status: u16) {
        let begun = Instant::now();
        while self.whoami(token) != status {
            assert!(begun.elapsed() < SEEN_WITHIN, "no {status} within {SEEN_WITHIN:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends SIGTERM; the exit code.
    fn terminate(mut self) -> Option<i32> {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").arg(id).status().unwrap().success());
        self.process.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ligand(folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ligand"));
    command.env("LIGAND_DATA_DIR", folder.path()).env("LIGAND_RATE_LIMITS__ENABLED", "false");
    command
}

/// The address in the line that says where the server listens.
fn address_in(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("listening on http://")?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
    Some(rest[..end.unwrap_or(rest.len())].to_owned())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn a_server_sees_what_the_command_line_does() {
    let server = Server::start();
    let password = "a password for tests";
    assert_eq!(server.log_in("alice", password).0, 403);
    server.command(&["user", "add", "alice", "--password-stdin"], &format!("{password}\n"));
    let (status, signed_in) = server.log_in("alice", password);
    assert_eq!(status, 200, "{signed_in}");
    let token = text(&signed_in["access_token"]);
    assert_eq!(server.whoami(token), 200);

    server.command(&["user", "lock", "alice"], "");
    server.sees(token, 401);
    server.command(&["user", "unlock", "alice"], "");
    server.sees(token, 200);

    let sessions = server.command(&["session", "list", "alice", "--json"], "");
    let sessions: Value = serde_json::from_str(&sessions).unwrap();
    assert_eq!(sessions.as_array().unwrap().len(), 1);
    assert_eq!(sessions[0]["device_id"], signed_in["device_id"]);
    let session = text(&sessions[0]["session_id"]);
    let shown = server.command(&["session", "show", session], "");
    assert!(shown.contains("state               live\n"), "{shown}");
    server.command(&["session", "end", session, "--yes"], "");
    server.sees(token, 401);
    assert_eq!(server.command(&["session", "list", "--json"], ""), "[]\n");
    let ended = server.command(&["session", "list", "--ended", "--json"], "");
    assert!(ended.contains("\"end_reason\": \"admin\""), "{ended}");

    let (_, again) = server.log_in("alice", password);
    server.command(&["session", "end", "--user", "alice"], "");
    server.sees(text(&again["access_token"]), 401);

    let (_, again) = server.log_in("alice", password);
    let set = ["user", "set-password", "alice", "--password-stdin"];
    server.command(&set, "another password\n");
    server.sees(text(&again["access_token"]), 401);
    assert_eq!(server.log_in("alice", password).0, 403);
    let (_, again) = server.log_in("alice", "another password");
    let keep = [&set[..], &["--keep-sessions"]].concat();
    server.command(&keep, &format!("{password}\n"));
    assert_eq!(server.log_in("alice", "another password").0, 403);
    assert_eq!(server.whoami(text(&again["access_token"])), 200);

    server.command(&["user", "deactivate", "alice", "--yes"], "");
    server.sees(text(&again["access_token"]), 401);
    assert_eq!(server.log_in("alice", password).0, 403);
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_second_server_on_the_same_database_is_refused() {
    let server = Server::start();
    let second = ligand(&server.folder).env("LIGAND_HTTP__LISTEN", "127.0.0.1:0").output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8_lossy(&second.stderr);
    assert!(error.contains("is in use by another server process"), "{error}");
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn commands_and_the_doctor_find_the_running_server() {
    let server = Server::start();
    server.command(&["user", "add", "alice", "--password-stdin"], "a password for tests\n");
    let doctor = ligand(&server.folder)
        .env("LIGAND_HTTP__LISTEN", &server.address)
        .args(["doctor", "--json"])
        .output()
        .unwrap();
    let findings: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let verdict = |about: &str| {
        let found = findings.as_array().unwrap().iter().find(|finding| finding["about"] == about);
        found.map(|finding| text(&finding["verdict"]).to_owned())
    };
    for about in ["server", "database", "token key", "accounts"] {
        assert_eq!(verdict(about).as_deref(), Some("good"), "{about}: {findings}");
    }
    assert_eq!(doctor.status.code(), Some(0));
}
