//! A server in this process, on a free port, with a folder, a database and a clock of its own.

use std::sync::Arc;

use ligand_protocol::NEVER;
use ligand_protocol::ids::{DeviceId, Localpart, UserKey};
use ligand_protocol::password::NormalisedPassword;
use ligand_protocol::registration::{RegistrationMode, RegistrationToken};
use ligand_protocol::seal::Pair;
use ligand_protocol::session::Api;
use ligand_protocol::token::{Minted, Presented, Secret, TokenKind};
use ligand_server::app::App;
use ligand_server::application_services::ApplicationServices;
use ligand_server::clock::{Clock, Hands};
use ligand_server::config::Config;
use ligand_server::passwords::Passwords;
use ligand_server::{keys, run};
use ligand_storage::audit::AuditEvent;
use ligand_storage::sessions::{Opened, SignIn};
use ligand_storage::users::{Created, Flag, NewUser, PasswordHash, Registration};
use ligand_storage::{Engine, OpenMode, Store, StoreOptions, params, testing};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::client::{PASSWORD, Tokens};
use super::http::Address;
use super::{Client, Request, User};

/// When every test begins.
const START: i64 = 1_800_000_000_000;

pub struct Server {
    pub address: Address,
    running: run::Server,
    url: String,
    config: Config,
    clock: Clock,
    hands: Arc<Hands>,
    folder: TempDir,
    /// Removes the database when dropped.
    database: Box<dyn Send>,
}

impl Server {
    /// A new server on an empty database, rate limits off.
    pub async fn start(engine: Engine) -> Self {
        let (database, url) = testing::fresh_url(engine).await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = Config { server_name: "example.org".to_owned(), ..Config::default() };
        config.http.listen.set_port(0);
        config.data_dir = folder.path().to_owned();
        config.rate_limits.enabled = false;
        let (clock, hands) = Clock::manual(START);
        let running = serve(&config, &url, &clock).await;
        let address = Arc::new(Mutex::new(running.address));
        Self { address, running, url, config, clock, hands, folder, database: Box::new(database) }
    }

    /// Stops it and starts it again on the same database and folder.
    pub async fn restart(self) -> Self {
        let Self { address, running, url, config, clock, hands, folder, database } = self;
        running.stop().await;
        let running = serve(&config, &url, &clock).await;
        *address.lock() = running.address;
        Self { address, running, url, config, clock, hands, folder, database }
    }

    /// Starts it again with another configuration.
    pub async fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self.restart().await
    }

    pub async fn with_registration(self, mode: RegistrationMode) -> Self {
        self.with(|config| config.registration.mode = mode).await
    }

    /// With rate limits, and a proxy on this machine that is believed.
    pub async fn with_limits(self) -> Self {
        self.with(|config| {
            config.rate_limits.enabled = true;
            config.http.trusted_proxies = vec!["127.0.0.1".parse().expect("an address")];
        })
        .await
    }

    pub fn app(&self) -> &App {
        &self.running.app
    }

    pub fn store(&self) -> &Store {
        &self.running.app.store
    }

    /// Lets time pass.
    pub fn pass(&self, ms: i64) {
        self.hands.pass(ms);
    }

    /// Sets the wall clock forth or back while no time passes.
    pub fn step_clock(&self, ms: i64) {
        self.hands.step(ms);
    }

    pub fn now(&self) -> i64 {
        self.clock.now()
    }

    pub fn get(&self, path: &str) -> Request {
        Request::new(&self.address, "GET", path)
    }

    pub fn post(&self, path: &str) -> Request {
        Request::new(&self.address, "POST", path)
    }

    pub fn request(&self, method: &'static str, path: &str) -> Request {
        Request::new(&self.address, method, path)
    }

    /// A new account with the password that all have.
    pub async fn user(&self, name: &str) -> User {
        self.account(name, Some(hash_of_the_password().await)).await
    }

    /// A new account that nobody can sign in to by password.
    pub async fn user_without_password(&self, name: &str) -> User {
        self.account(name, None).await
    }

    async fn account(&self, name: &str, password_hash: Option<PasswordHash>) -> User {
        let new = NewUser {
            key: UserKey::generate(random()),
            localpart: Localpart::parse(name, &self.config.server_name).expect("a legal name"),
            password_hash,
            admin: false,
            guest: false,
            now: self.now(),
        };
        let created =
            self.store().create_user(&new, &Registration::default(), &self.event("user_added")).await;
        assert_eq!(created, Ok(Created::Done));
        User { name: name.to_owned(), key: new.key, address: Arc::clone(&self.address) }
    }

    pub async fn lock(&self, user: &User) {
        let locked = self.store().set_flag(user.key, Flag::Lock, &self.event("locked")).await;
        assert_eq!(locked, Ok(true));
    }

    pub async fn unlock(&self, user: &User) {
        let unlocked = self.store().set_flag(user.key, Flag::Unlock, &self.event("unlocked")).await;
        assert_eq!(unlocked, Ok(true));
    }

    pub async fn make_admin(&self, user: &User) {
        let flag = Flag::Admin(true);
        assert_eq!(self.store().set_flag(user.key, flag, &self.event("admin_granted")).await, Ok(true));
    }

    pub async fn suspend(&self, user: &User) {
        let flag = Flag::Suspended(true);
        assert_eq!(self.store().set_flag(user.key, flag, &self.event("user_suspended")).await, Ok(true));
    }

    /// An account that is there already.
    pub async fn find(&self, name: &str) -> User {
        let localpart = Localpart::parse(name, &self.config.server_name).expect("a legal name");
        let found = self.store().find_user(&localpart).await.expect("storage works").expect("a user");
        User { name: name.to_owned(), key: found.key, address: Arc::clone(&self.address) }
    }

    pub async fn deactivate(&self, user: &User) {
        let account = self.store().load_user(user.key).await.expect("storage works").expect("a user");
        let event = self.event("deactivated");
        let deactivated = self.store().deactivate(user.key, account.epoch, false, None, &event).await;
        assert_eq!(deactivated, Ok(true));
    }

    /// A registration token for so many accounts.
    pub async fn registration_token(&self, text: &str, uses: i64, expires_at: Option<i64>) {
        let token = ligand_storage::registration_tokens::RegistrationToken {
            token_hash: registration_token_hash(text),
            name: text.to_owned(),
            uses_allowed: Some(uses),
            used: 0,
            expires_at,
            created_at: self.now(),
            revoked_at: None,
        };
        assert_eq!(self.store().add_registration_token(&token).await, Ok(true));
    }

    pub async fn uses_of(&self, registration_token: &str) -> i64 {
        let token = self.store().find_registration_token(registration_token_hash(registration_token)).await;
        token.expect("storage works").expect("the token exists").used
    }

    /// How often the audit table has an action.
    pub async fn audited(&self, action: &str) -> i64 {
        let rows = self.store().read("SELECT COUNT(*) FROM audit WHERE action = $1", params![action]).await;
        rows.expect("storage works")[0].int(0).expect("a number")
    }

    /// The command line's own way into the same database.
    pub async fn store_of_a_tool(&self) -> Store {
        let options = StoreOptions::new(&self.url).mode(OpenMode::Tool);
        Store::open(&options).await.expect("a tool opens beside the server")
    }

    /// A token of this installation's making, as after a lost commit: genuine, but not in the database.
    pub fn forged(&self, client: &Client, kind: TokenKind, generation: u32) -> String {
        let keys = &self.app().keys;
        let id = self.presented(client).session_id;
        Minted::new(kind, id, generation, &Secret([9; 24]), keys).text.expose().to_owned()
    }

    fn presented(&self, client: &Client) -> Presented {
        let text = &client.tokens.access_token;
        Presented::parse(TokenKind::Access, text, &self.app().keys).expect("a token of ours")
    }

    /// A session of the OAuth 2.0 API, put there by storage.
    pub async fn oauth_session(&self, user: &User) -> Client {
        let app = self.app();
        let account = self.store().load_user(user.key).await.expect("storage works").expect("a user");
        let id = ligand_protocol::ids::SessionId(random());
        let pair = Pair::mint(id, 1, &app.fresh().expect("randomness"), &app.keys);
        let device_id = DeviceId::generate(random());
        let sign_in = SignIn {
            user: user.key,
            verified: account.verified(),
            login_token: None,
            rehashed: None,
            device_id: device_id.clone(),
            device_named: false,
            initial_device_display_name: None,
            opened: Opened {
                id,
                api: Api::OAuth,
                client_id: Some("an app".to_owned()),
                rt_hash: Some(pair.refresh.hash),
                at_hash: pair.access.hash,
                rt_exp: NEVER,
                at_exp: self.now() + super::HOUR,
                session_exp: NEVER,
                ip: None,
                user_agent: None,
                now: self.now(),
            },
            audit: self.event("sign_in"),
        };
        assert_eq!(self.store().sign_in(&sign_in).await, Ok(true));
        let tokens = Tokens {
            access_token: pair.access.text.expose().to_owned(),
            refresh_token: Some(pair.refresh.text.expose().to_owned()),
            expires_in_ms: Some(super::HOUR),
        };
        Client { user: user.clone(), device_id: device_id.as_str().to_owned(), tokens }
    }

    pub fn event(&self, action: &'static str) -> AuditEvent {
        AuditEvent::new(action, self.now())
    }
}

async fn serve(config: &Config, url: &str, clock: &Clock) -> run::Server {
    let keys = keys::token_keys(&config.data_dir).expect("a key");
    let store = Store::open(&StoreOptions::new(url)).await.expect("the database opens");
    let services = ApplicationServices::read(config).expect("right registration files").services;
    let app = App::new(config.clone(), services, store, keys, clock.clone()).expect("threads start");
    run::Server::serve(app).await.expect("a free port")
}

fn registration_token_hash(text: &str) -> [u8; 32] {
    RegistrationToken::parse(text).expect("a legal registration token").hash()
}

pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("randomness");
    bytes
}

/// Computed once: Argon2id is slow on purpose.
async fn hash_of_the_password() -> PasswordHash {
    static HASH: OnceCell<PasswordHash> = OnceCell::const_new();
    let hash = HASH.get_or_init(|| async {
        let password = NormalisedPassword::presented(PASSWORD).expect("a short password");
        let hashed = Passwords::start().expect("threads start").hash(password, random()).await;
        hashed.expect("an idle pool")
    });
    hash.await.clone()
}
