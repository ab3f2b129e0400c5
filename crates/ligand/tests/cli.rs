//! Scripts with expected output: every `*.trycmd` below `cmd` is a session at a shell. Those in
//! `cmd/installation` find an installation with accounts in it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// An installation in a folder of its own.
struct Installation(tempfile::TempDir);

impl Installation {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn data_dir(&self) -> &Path {
        self.0.path()
    }

    /// Runs `ligand` with these arguments and this input.
    fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ligand"))
            .args(arguments)
            .env("LIGAND_DATA_DIR", self.data_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads nothing may have gone already.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    fn user(self, name: &str) -> Self {
        let arguments = ["user", "add", name, "--password-stdin"];
        expect(
            &self.run(&arguments, b"a password for tests\n"),
            0,
            "",
            &format!("Added @{name}:localhost\n"),
        );
        self
    }
}

fn expect(output: &Output, code: i32, stdout: &str, stderr: &str) {
    let found = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{found}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout);
    assert_eq!(found, stderr);
}

#[test]
fn scripts() {
    trycmd::TestCases::new().case("tests/cmd/*.trycmd");
}

#[test]
fn scripts_in_an_installation() {
    // One installation for each script, since scripts run side by side.
    for script in ["user", "session", "registration_token", "database", "doctor"] {
        let installation = Installation::new().user("alice").user("bob");
        trycmd::TestCases::new()
            .case(format!("tests/cmd/installation/{script}.trycmd"))
            .env("LIGAND_DATA_DIR", installation.data_dir().display().to_string())
            // Nothing listens there.
            .env("LIGAND_HTTP__LISTEN", "127.0.0.1:1")
            .run();
    }
}

#[test]
fn a_password_is_one_line_of_the_input() {
    let installation = Installation::new();
    let add = |name: &str, input: &[u8]| installation.run(&["user", "add", name, "--password-stdin"], input);
    expect(&add("carol", b"ends with a blank \r\nmore"), 0, "", "Added @carol:localhost\n");
    expect(&add("@dave:localhost", b"no line break"), 0, "", "Added @dave:localhost\n");
    let empty = "error: the password is empty; write it to the standard input, in one line\n";
    expect(&add("erin", b"\nsecond line\n"), 1, "", empty);
    let short = "error: This password is too short: use at least 8 characters.\n";
    expect(&add("erin", b"short\n"), 1, "", short);
    let exists =
        "error: @carol:localhost exists already; `ligand user set-password carol` changes its password\n";
    expect(&add("carol", b"another password\n"), 1, "", exists);
    let weak = add("frank", b"password1\n");
    assert_eq!(weak.status.code(), Some(0), "the operator decides");
    assert!(weak.stderr.starts_with(b"warning: "));
}

#[test]
fn the_database_holds_no_password_and_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let installation = Installation::new().user("alice");
    for entry in std::fs::read_dir(installation.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
        let bytes = std::fs::read(&path).unwrap();
        let canary = b"a password for tests";
        assert!(!bytes.windows(canary.len()).any(|window| window == canary));
    }
}

#[test]
fn without_a_terminal_no_password_is_asked_for() {
    let installation = Installation::new();
    let output = installation.run(&["user", "add", "alice"], b"");
    let text = "error: no password given; write it to the standard input and add --password-stdin\n";
    expect(&output, 2, "", text);
}

#[test]
fn a_backup_opens_as_an_installation() {
    let installation = Installation::new().user("alice");
    let copy = Installation::new();
    let file = copy.data_dir().join("ligand.db");
    let path = file.display().to_string();
    let backup = ["database", "backup", &path];
    expect(&installation.run(&backup, b""), 0, "", &format!("Wrote {path}.\n"));
    let listed = copy.run(&["user", "list", "--json"], b"");
    assert!(String::from_utf8_lossy(&listed.stdout).contains("@alice:localhost"));
    let again = format!("error: {path} exists already; give a new name\n");
    expect(&installation.run(&backup, b""), 1, "", &again);
}

#[test]
fn registration_files_are_checked_with_the_configuration() {
    use std::os::unix::fs::PermissionsExt;
    let installation = Installation::new();
    let folder = installation.data_dir().display();
    let check = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ligand"));
        command
            .args(["config", "check"])
            .env("LIGAND_APPLICATION_SERVICES__DIRECTORY", installation.data_dir());
        command.output().unwrap()
    };
    let right = "The configuration is right.\n";
    let empty = format!(
        "warning: {folder} (`application_services.directory`) holds no file that ends in .yaml or .yml\n"
    );
    expect(&check(), 0, right, &empty);
    let path = installation.data_dir().join("telegram.yaml");
    std::fs::copy("tests/cmd/application_services.in/right/telegram.yaml", &path).unwrap();
    let readable = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    readable(0o644);
    let exposed = format!(
        "warning: {folder}/telegram.yaml holds tokens and everybody on this machine can read it; \
         `chmod o-r {folder}/telegram.yaml`\n"
    );
    expect(&check(), 0, right, &exposed);
    readable(0o640);
    expect(&check(), 0, right, "");
}
