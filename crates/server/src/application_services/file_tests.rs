use super::*;

const BRIDGE: &str = "\
# Made by the bridge.
id: telegram
url: http://localhost:29317
as_token: 0123456789abcdef0123456789abcdef
hs_token: hs-canary
sender_localpart: Telegrambot
namespaces:
  users:
    - exclusive: true
      regex: '@telegram_.*:example\\.org'
    - {exclusive: false, regex: '@(?x) shared # a comment'}
  aliases:
    - {exclusive: true, regex: '#telegram_.*'}
  rooms: []
rate_limited: false
protocols: [telegram]
receive_ephemeral: true
de.sorunome.msc2409.push_ephemeral: true
org.matrix.msc4190: true
";

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        }
        Self(folder)
    }

    fn read(&self) -> Result<Read, FilesError> {
        let mut config = Config { server_name: "example.org".to_owned(), ..Config::default() };
        config.application_services.directory = Some(self.0.path().to_owned());
        ApplicationServices::read(&config)
    }

    /// The problems, without the folder's own name.
    #[track_caller]
    fn problems(&self) -> Vec<String> {
        let error = self.read().err().expect("a problem");
        let text = error.to_string();
        assert!(!text.contains("canary") && !text.contains("0123456789abcdef"), "{text}");
        text.replace(&format!("{}/", self.0.path().display()), "").lines().map(ToOwned::to_owned).collect()
    }
}

fn bridge(change: &str, to: &str) -> String {
    assert!(BRIDGE.contains(change), "{change}");
    BRIDGE.replace(change, to)
}

#[track_caller]
fn only_problem(text: &str) -> String {
    let problems = Folder::with(&[("a.yaml", text)]).problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].clone()
}

#[test]
fn a_registration_file_is_read() {
    let Read { services, warnings } = Folder::with(&[("a.yaml", BRIDGE)]).read().unwrap();
    assert_eq!(warnings, [""; 0]);
    let service = services.of_token("0123456789abcdef0123456789abcdef").unwrap();
    assert_eq!((service.id.as_str(), service.rate_limited), ("telegram", false));
    assert_eq!(service.url.as_deref(), Some("http://localhost:29317"));
    assert_eq!((service.sender.as_str(), service.hs_token.as_str()), ("telegrambot", "hs-canary"));
    assert!(services.of_token("hs-canary").is_none());
    let covers = |name: &str| {
        let name = ligand_protocol::ids::Localpart::parse(name, "example.org").unwrap();
        (service.covers(&name, "example.org"), services.keep(&name, "example.org", None))
    };
    assert_eq!(covers("telegram_1"), (true, true));
    assert_eq!(covers("shared.more"), (true, false));
    assert_eq!(covers("telegrambot"), (true, false));
    assert_eq!(covers("x@telegram_1".trim_start_matches("x@")), (true, true));
    assert_eq!(covers("my_telegram_1"), (false, false));
    let name = ligand_protocol::ids::Localpart::parse("telegram_1", "example.org").unwrap();
    assert!(!services.keep(&name, "example.org", Some(service)), "nothing is kept from its own service");
}

#[test]
fn a_service_may_want_no_traffic_and_no_users() {
    for url in ["null", "''", "~"] {
        let text = bridge("http://localhost:29317", url);
        let Read { services, .. } = Folder::with(&[("a.yaml", &text)]).read().unwrap();
        assert_eq!(services.of_token("0123456789abcdef0123456789abcdef").unwrap().url, None);
    }
    let without = "id: a\nurl: null\nas_token: 0123456789abcdef0123\nhs_token: b\nsender_localpart: a\nnamespaces: {}\n";
    let Read { services, .. } = Folder::with(&[("a.yaml", without)]).read().unwrap();
    assert!(
        services.of_token("0123456789abcdef0123").unwrap().rate_limited,
        "unless the file says otherwise"
    );
}

#[test]
fn other_files_are_left_alone() {
    let files = [("a.yaml", BRIDGE), (".b.yaml", "{"), ("c.yaml.bak", "{"), ("d.txt", "{")];
    assert!(Folder::with(&files).read().is_ok());
}

#[test]
fn without_a_folder_there_are_none() {
    assert!(ApplicationServices::read(&Config::default()).unwrap().services.is_empty());
    let empty = Folder::with(&[]).read().unwrap();
    assert!(empty.warnings[0].contains("holds no file"), "{:?}", empty.warnings);
    let mut config = Config::default();
    config.application_services.directory = Some("/no/such/folder".into());
    let error = ApplicationServices::read(&config).err().unwrap().to_string();
    assert!(error.starts_with("/no/such/folder: `application_services.directory` cannot be read"), "{error}");
}

#[test]
fn what_has_to_be_unique_is() {
    let other = bridge("telegram\n", "signal\n").replace("0123456789abcdef0", "abcdef0123456789a");
    let files = |second: &str| Folder::with(&[("a.yaml", BRIDGE), ("b.yaml", second)]);
    let twin = files(BRIDGE).problems();
    assert_eq!(
        twin.iter().map(|line| line.split(';').next().unwrap()).collect::<Vec<_>>(),
        [
            "b.yaml:2: `id` is the same as in a.yaml:2",
            "b.yaml:4: `as_token` is the same as in a.yaml:4",
            "b.yaml:6: `sender_localpart` is the same as in a.yaml:6",
        ]
    );
    let same_user = files(&other).problems();
    assert_eq!(same_user.len(), 1, "{same_user:?}");
    assert!(same_user[0].starts_with("b.yaml:6: `sender_localpart` is the same"));
    assert!(files(&other.replace("Telegrambot", "signalbot")).read().is_ok());
}

#[test]
fn a_wrong_value_is_told_with_its_line() {
    let told = |change: &str, to: &str| only_problem(&bridge(change, to));
    let regex = told("'@telegram_.*:example\\.org'", "'@telegram_(?!bot)'");
    assert!(regex.starts_with("a.yaml:10: `namespaces.users.regex` is no regular"), "{regex}");
    assert!(regex.contains("look-around"), "{regex}");
    assert!(told("telegram\n", "''\n").starts_with("a.yaml:2: `id` is empty"));
    assert!(told("http://localhost:29317", "localhost:29317").starts_with("a.yaml:3: `url` is not"));
    assert!(told("hs-canary", "'hs canary'").starts_with("a.yaml:5: `hs_token` must be visible ASCII"));
    assert!(told("hs-canary", "''").starts_with("a.yaml:5: `hs_token` must be visible ASCII"));
    let ours = told("0123456789abcdef0123456789abcdef", "lga_0123456789abcdef0123456789abcdef");
    assert!(ours.starts_with("a.yaml:4: `as_token` begins like"), "{ours}");
    assert!(
        told("Telegrambot", "'@bot:example.org'").starts_with("a.yaml:6: `sender_localpart`: A user name")
    );
}

#[test]
fn what_is_missing_or_no_yaml_is_told_with_its_file() {
    for key in [
        "id: telegram\n",
        "url: http://localhost:29317\n",
        "sender_localpart: Telegrambot\n",
        "hs_token: hs-canary\n",
        "as_token: 0123456789abcdef0123456789abcdef\n",
    ] {
        let told = only_problem(&bridge(key, ""));
        let name = key.split(':').next().unwrap();
        assert!(told.starts_with("a.yaml") && told.contains(name), "{key}: {told}");
    }
    let told = only_problem(&bridge("exclusive: true\n", "exclusive: perhaps\n"));
    assert!(told.starts_with("a.yaml:9: is no registration file"), "{told}");
    for broken in ["[", "id: [", "- a\n- b\n", "", "just text", "id: a\nid: b\n", "\u{0}"] {
        assert!(only_problem(broken).starts_with("a.yaml"), "{broken:?}");
    }
}

#[test]
fn an_error_never_repeats_what_stands_where_a_token_may() {
    for broken in [
        "as_token: {canary: canary}\n",
        "as_token: [canary]\n",
        "hs_token: canary\nhs_token: canary\n",
        "as_token: 'canary\n",
        "as_token: *canary\n",
        "rate_limited: false\nas_token: !!int canary\n",
        "as_token: canary: canary\n",
        "  as_token: canary\n hs_token: canary\n",
    ] {
        only_problem(broken);
    }
}

#[test]
fn what_is_unwise_is_a_warning() {
    let folder = Folder::with(&[("a.yaml", &bridge("0123456789abcdef0123456789abcdef", "0123456789"))]);
    fs::set_permissions(folder.0.path().join("a.yaml"), fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = folder.read().unwrap().warnings;
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].contains("everybody on this machine can read it; `chmod o-r "), "{warnings:?}");
    assert!(warnings[1].contains("a.yaml:4: `as_token` is short") && !warnings[1].contains("0123456789"));
}
